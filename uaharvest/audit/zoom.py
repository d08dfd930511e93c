"""Audits Zoom: compares lists of meetings with documents. No participants are requested, because calls are scarce."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

from uaharvest.audit.day import Counts, FamilyCounts
from uaharvest.audit.dead_letters import readable
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents import meeting
from uaharvest.documents.indices import index_name
from uaharvest.errors import PutOffError
from uaharvest.intervals import Interval
from uaharvest.rows.zoom import MeetingRow
from uaharvest.runs.days import DAY, midnight
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentStore
from uaharvest.streams.specs.zoom import SPEC
from uaharvest.streams.zoom import Meetings
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.endpoints import KINDS, ListKind, Source

PAGE_WAIT = 90.0  # the longest wait for the next page of a list, seconds: a minute's quota may be used up


class _Listed(NamedTuple):
    row: MeetingRow
    kind: ListKind
    source: Source


class ZoomAudit:
    """Audits the stream `zoom`."""

    stream = SPEC.name

    def __init__(
        self,
        zoom: Zoom,
        meetings: Meetings,
        store: DocumentStore,
        dead_letters: DeadLetters,
        settings: Settings,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Compare the lists of `zoom` with `store`; harvest what is missing through `meetings`."""
        self._zoom = zoom
        self._meetings = meetings
        self._store = store
        self._dead_letters = dead_letters
        self._settings = settings
        self._pause = pause

    def closed_until(self, watermark: datetime) -> datetime:
        """Return the instant before which the harvest lists no meetings again."""
        return midnight(watermark) - self._settings.zoom_lookback_days * DAY

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the whole day: lists are of days."""
        return [day]

    def begin(self) -> None:
        """Do nothing: everything is read with each piece."""

    def audit(self, piece: Interval, *, repair: bool) -> FamilyCounts:
        """Compare a day; harvest the meetings that lack documents if `repair` says so.

        Meetings without a time to start are left out, because the day of their documents is a guess.
        """
        day = piece.start.date()
        listed = {uuid: one for one in self._listed(day) if (uuid := meeting.uuid(one.row)) is not None}
        there = {one["_id"] for one in self._store.select(self._index("meetings", day), fields=())}
        groups = self._store.groups(self._index("sessions", day), ["meeting"])
        sessions = {uuid: count for (uuid,), count, _ in groups if uuid is not None}
        dead_letters = self._given_up()
        lacking = listed.keys() - there
        short = {
            uuid: (one.row.participants or 0) - sessions.get(uuid, 0)
            for uuid, one in listed.items()
            if (one.row.participants or 0) > sessions.get(uuid, 0)
        }
        short = self._without_erased(day, short)
        excused = {uuid: count for uuid, count in short.items() if uuid in dead_letters}
        due = {uuid: listed[uuid] for uuid in listed if uuid in (lacking | short.keys()) - dead_letters}
        meetings, stays = self._repaired(day, due, lacking) if repair else (0, 0)
        participants = {uuid: one.row.participants or 0 for uuid, one in listed.items()}
        return {
            "meetings": Counts(
                source=len(listed),
                indexed=len(there),
                missing=len(lacking - dead_letters),
                extra=len(there - listed.keys()),
                dead_letters=len(lacking & dead_letters),
                repeated=len(dead_letters & there - short.keys()),
                sent=meetings,
            ),
            "sessions": Counts(
                source=sum(participants.values()),
                indexed=sum(sessions.values()),
                missing=sum(short.values()) - sum(excused.values()),
                dead_letters=sum(excused.values()),
                sent=stays,
            ),
        }

    def _without_erased(self, day: date, short: Mapping[str, int]) -> dict[str, int]:
        """Return how many sessions each meeting lacks, besides those of people who were erased."""
        index = self._index("meetings", day)
        found = self._store.get_many([(index, uuid) for uuid in short])
        lacks = {
            uuid: lack - found.get((index, uuid), {}).get("erased_sessions", 0) for uuid, lack in short.items()
        }
        return {uuid: lack for uuid, lack in lacks.items() if lack > 0}

    def _repaired(self, day: date, due: dict[str, _Listed], lacking: set[str]) -> tuple[int, int]:
        """Harvest meetings; return how many documents of meetings that had none and of sessions were written."""
        written = 0
        for kind in KINDS:
            some = [one for one in due.values() if one.kind == kind]
            for source in {one.source for one in some}:
                rows = [one.row for one in some if one.source == source]
                written += self._meetings.harvest_again(rows, kind, source, (day, day))
        return len(due.keys() & lacking), written

    def _index(self, family: str, day: date) -> str:
        return index_name("meetings" if family == "meetings" else "sessions", day, self._settings.index_infix)

    def _given_up(self) -> set[str]:
        """Return the uuids of meetings that have a dead letter."""
        found: set[str] = set()
        for name in self._dead_letters.names(self.stream):
            letter = readable(self._dead_letters, name)
            match letter and letter.payload:
                case {"uuid": str(uuid)} | {"document": {"body": {"meeting": str(uuid)} | {"uuid": str(uuid)}}}:
                    found.add(uuid)
        return found

    def _listed(self, day: date) -> Iterator[_Listed]:
        for kind in KINDS:
            token: str | None = ""
            while token is not None:
                try:
                    for page in self._zoom.meetings(day, day, kind, token=token):
                        for row in page.rows:
                            if row.start_time is not None and row.start_time.astimezone(UTC).date() == day:
                                yield _Listed(row, kind, page.source)
                        token = page.next_token
                except PutOffError as error:
                    wait = (error.due - datetime.now(UTC)).total_seconds()
                    if wait > PAGE_WAIT:
                        raise
                    self._pause(max(wait, 0.0))
                else:
                    token = None
