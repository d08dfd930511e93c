"""The lectures of a course: its recordings, and the Zoom meetings that belong to them or are lectures of their own."""

import csv
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from uaharvest.coerce import instant
from uaharvest.errors import BadInputError
from uaharvest.report.source import CourseDocuments, Fields
from uaharvest.report.tables import csv_text

NO_LECTURE = "-"
"""In place of a recording: this meeting is not a lecture but, for example, an office hour."""

COLUMNS = ("uuid", "mpid", "meeting_id", "start", "end", "topic", "recording", "why")
# A recording may be named after the minute in which it was scheduled, and a meeting is opened early.
EARLY = timedelta(minutes=30)
# If the host leaves and comes back, Zoom calls it another instance of the meeting.
BREAK = timedelta(minutes=15)


@dataclasses.dataclass(frozen=True, slots=True)
class MeetingInstance:
    """One instance of a Zoom meeting."""

    uuid: str
    meeting_id: str
    topic: str
    start: datetime
    end: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """Which recording a meeting belongs to, and the reason to think so.

    Attributes:
        mpid: The recording; None if the meeting is a lecture of its own, `NO_LECTURE` if it is none.
    """

    meeting: MeetingInstance
    mpid: str | None
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lecture:
    """A lecture.

    Attributes:
        number: From 1, in the order of time.
        start: When it began; None if unknown.
        length_s: How long it was, seconds; None if unknown.
        recording: The fields of the recording's document; None if only Zoom has this lecture.
        meetings: The meetings in which it was held; several if the host left and came back.
    """

    number: int
    title: str
    start: datetime | None
    length_s: float | None
    recording: Fields | None
    meetings: tuple[MeetingInstance, ...]

    @property
    def key(self) -> str:
        """Return the recording's id, otherwise the first meeting's."""
        return str(self.recording["mpid"]) if self.recording else self.meetings[0].uuid


def meetings(attendance: Iterable[Fields]) -> list[MeetingInstance]:
    """Return the meetings that the documents of attendance name, in the order of time."""
    found: dict[str, MeetingInstance] = {}
    for fields in attendance:
        start, end = instant(fields.get("start")), instant(fields.get("end"))
        if fields["uuid"] not in found and start and end:
            found[fields["uuid"]] = MeetingInstance(
                fields["uuid"], str(fields.get("meeting_id", "")), fields.get("topic") or "", start, end
            )
    return sorted(found.values(), key=lambda one: (one.start, one.uuid))


def propose(recordings: Iterable[Fields], found: Iterable[MeetingInstance]) -> list[Link]:
    """Say for each meeting which recording was made at its time.

    The recording that shares the most time with the meeting is proposed, if no other shares half as much.
    """
    times = [
        (start, start + timedelta(seconds=fields.get("duration_s") or 0), fields)
        for fields in recordings
        if (start := instant(fields.get("start"))) is not None
    ]
    links = []
    for meeting in found:
        shared = sorted(
            (
                (min(meeting.end, max(end, start + EARLY)) - max(meeting.start - EARLY, start), fields["mpid"])
                for start, end, fields in times
            ),
            reverse=True,
        )
        shared = [one for one in shared if one[0] > timedelta(0)]
        if not shared:
            links.append(Link(meeting, None, "no recording at this time"))
        elif len(shared) > 1 and shared[1][0] * 2 > shared[0][0]:
            links.append(Link(meeting, None, "several recordings at this time"))
        else:
            links.append(Link(meeting, shared[0][1], "at the same time"))
    return links


def written(links: Iterable[Link], recordings: Iterable[Fields]) -> list[list[str]]:
    """Return the links as rows of a CSV file, the first of which has the names of the columns."""
    titles = {fields["mpid"]: fields.get("title") or "" for fields in recordings}
    rows = [list(COLUMNS)]
    for link in links:
        one = link.meeting
        times = (one.start.isoformat(timespec="seconds"), one.end.isoformat(timespec="seconds"))
        mpid = link.mpid or ""
        rows.append([one.uuid, mpid, one.meeting_id, *times, one.topic, titles.get(mpid, ""), link.why])
    return rows


def read(path: Path, recordings: Sequence[Fields], found: Sequence[MeetingInstance]) -> list[Link]:
    """Read which meeting belongs to which recording; for meetings that the file does not name it is proposed.

    Raises:
        BadInputError: The file cannot be read, or names recordings that do not exist. The text names the lines.
    """
    text, delimiter = csv_text("--meetings", path)
    rows = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        if missing := {"uuid", "mpid"} - set(rows.fieldnames or ()):
            raise BadInputError(f"--meetings: {path}, line 1: no column {', '.join(sorted(missing))}")
        links = _links(path, rows, {fields["mpid"] for fields in recordings}, {one.uuid: one for one in found})
    except csv.Error as error:
        raise BadInputError(f"--meetings: {path}, line {rows.reader.line_num}: {error}") from None
    return [*links.values(), *propose(recordings, [one for one in found if one.uuid not in links])]


def _links(
    path: Path, rows: "csv.DictReader[str]", mpids: set[Any], by_uuid: Mapping[str, MeetingInstance]
) -> dict[str, Link]:
    links: dict[str, Link] = {}
    for row in rows:
        # A cell that begins like a formula was written with an apostrophe before it.
        uuid, mpid = ((row[name] or "").strip().removeprefix("'") for name in ("uuid", "mpid"))
        where = f"--meetings: {path}, line {rows.line_num}"
        if mpid not in {"", NO_LECTURE} and mpid not in mpids:
            raise BadInputError(
                f"{where}: the series has no recording '{mpid}'. Expected an mpid, nothing for a lecture that was not"
                f" recorded, or {NO_LECTURE} for a meeting that is not a lecture"
            )
        if uuid in links:
            raise BadInputError(f"{where}: the same uuid as in a line before")
        if uuid in by_uuid:  # the file may be of more meetings than this report
            links[uuid] = Link(by_uuid[uuid], mpid or None, "by the file")
    return links


def lectures(
    documents: CourseDocuments,
    links: Iterable[Link],
    zone: tzinfo,
    days: tuple[date | None, date | None] = (None, None),
) -> list[Lecture]:
    """Return the lectures in the order of time.

    Args:
        documents: The course's.
        links: Which meeting belongs to which recording.
        zone: Of the course.
        days: The first and the last day in that zone; None: no bound. With a bound, lectures without a time are
            left out.
    """
    held: dict[str, list[MeetingInstance]] = defaultdict(list)
    own: list[MeetingInstance] = []
    for link in links:
        if link.mpid is None:
            own.append(link.meeting)
        elif link.mpid != NO_LECTURE:
            held[link.mpid].append(link.meeting)
    found = [_lecture(fields, held[fields["mpid"]]) for fields in documents.recordings]
    found += [_lecture(None, instances) for instances in _continued(own)]
    chosen = [one for one in found if _within(one.start, zone, days)]
    chosen.sort(key=lambda one: (one.start or datetime.max.replace(tzinfo=UTC), one.title, one.key))
    return [dataclasses.replace(one, number=number) for number, one in enumerate(chosen, start=1)]


def _continued(found: Iterable[MeetingInstance]) -> list[list[MeetingInstance]]:
    """Put the instances of a meeting together that follow one another after a short break."""
    groups: list[list[MeetingInstance]] = []
    for one in sorted(found, key=lambda meeting: (meeting.meeting_id, meeting.start)):
        before = groups[-1][-1] if groups else None
        if before and before.meeting_id == one.meeting_id and one.start - before.end <= BREAK:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _lecture(recording: Fields | None, held: Sequence[MeetingInstance]) -> Lecture:
    held = sorted(held, key=lambda one: one.start)
    fields = recording or {}
    start, length = instant(fields.get("start")), fields.get("duration_s") or None
    title = fields.get("title") or (held[0].topic if held else "") or "Untitled"
    if held:
        opened, closed = held[0].start, max(one.end for one in held)
        # A recording may be of another time than the meeting, such as that of its upload: then the meeting's counts.
        if start is None or length is None or start >= closed or start + timedelta(seconds=length) <= opened:
            start, length = opened, (closed - opened).total_seconds()
    return Lecture(0, title, start, length, recording, tuple(held))


def _within(start: datetime | None, zone: tzinfo, days: tuple[date | None, date | None]) -> bool:
    first, last = days
    if start is None:
        return first is None and last is None
    day = start.astimezone(zone).date()
    return (first is None or first <= day) and (last is None or day <= last)
