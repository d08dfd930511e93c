"""All statements of a span of time or of some series, unit by unit: recordings, then the days of Zoom's meetings."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uaharvest.coerce import text
from uaharvest.errors import BadInputError
from uaharvest.exporting.source import ChosenSeries, SiteDocuments
from uaharvest.exporting.useractions import Facts, Grouped
from uaharvest.exporting.xapi import classroom
from uaharvest.exporting.xapi.video import Played, Recording, Video
from uaharvest.exporting.xapi.vocabulary import Statement

AROUND = dt.timedelta(days=1)
"""How far before and after the span useractions are read, so that what spans its bounds is whole."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A recording, or a day of meetings; the names of units ascend.

    Attributes:
        name: Its name.
        statements: Its statements.
    """

    name: str
    statements: Sequence[Statement]


@dataclass(slots=True)
class LeftOut:
    """What became no statements.

    Attributes:
        unknown_duration: How many recordings, because their duration is unknown.
        unusable: How many useractions, because they have no id, time, recording or viewer.
    """

    unknown_duration: int = 0
    unusable: int = 0


class Export:
    """The statements of a span of time.

    A statement is in the span if its time is. Exports of one span after the other, or of spans that overlap, give each
    statement once or again with the same id.

    Args:
        source: The documents.
        video: Makes the statements about recordings.
        start: The beginning of the span; None: of all.
        end: Its end, exclusive; only what is before it is read of the statements, whatever came later.
        chosen: Only recordings of these series, and no meetings; None: all.
    """

    def __init__(
        self,
        source: SiteDocuments,
        video: Video,
        *,
        start: dt.datetime | None,
        end: dt.datetime,
        chosen: ChosenSeries | None = None,
    ) -> None:
        self._source = source
        self._video = video
        self._start = start
        self._end = end
        self._chosen = chosen
        # The first day that is read, whole.
        self._first = (start - AROUND).date() if start else None
        self.left_out = LeftOut()

    def units(self, after: str | None = None) -> Iterator[Unit]:
        """Yield the units whose names come after `after`.

        Raises:
            BadInputError: None of the series is known.
        """
        yield from self._recordings(after or "")
        if self._chosen is None:
            yield from self._meetings(after or "")

    def _recordings(self, after: str) -> Iterator[Unit]:
        with Grouped() as grouped:
            self._read(grouped)
            self.left_out.unusable = grouped.unusable
            for mpid, actions in grouped.recordings():
                name = f"recording {mpid}"
                if name <= after:
                    continue
                known = self._facts(mpid, grouped.facts.get(mpid, Facts()))
                if known.duration is None:
                    self.left_out.unknown_duration += 1
                    continue
                recording = Recording(mpid, known.duration, known)
                timed = self._video.statements(recording, actions, self._before(mpid))
                inside = [statement for at, statement in timed if self._is_inside(at)]
                if inside:
                    yield Unit(name, inside)

    def _read(self, grouped: Grouped) -> None:
        days = self._source.days("useractions", self._first, (self._end + AROUND).date())
        if self._chosen is None:
            for day in days:
                grouped.add(self._source.of_day("useractions", day))
            return
        mpids = self._source.episodes(self._chosen)
        if not mpids:
            raise BadInputError(
                "--series: no recording of these series is in the indices episodes and recordings."
                " `manage.py documents export episodes` shows which there are."
            )
        grouped.add(self._source.of_recordings("useractions", list(mpids), days))

    def _facts(self, mpid: str, said: Facts) -> Facts:
        """Complete what the useractions say of a recording: it may have been unpublished when it was watched."""
        return said if said.duration else said.completed_by(self._source.facts([mpid]).get(mpid, Facts()))

    def _before(self, mpid: str) -> Mapping[str, Sequence[Played]]:
        """Return what each viewer had played before the first row that is read, as far as `viewings` has it."""
        if self._first is None:
            return {}
        first = dt.datetime.combine(self._first, dt.time(), dt.UTC).timestamp()
        before: dict[str, list[Played]] = {}
        for document in self._source.viewings([mpid]):
            viewer = text(document.get("viewer"))
            for played in document.get("played") or ():
                if viewer and (whole := _played(played)) and whole[2] < first:
                    before.setdefault(viewer, []).append(whole)
        return before

    def _meetings(self, after: str) -> Iterator[Unit]:
        for day in self._source.days("sessions", self._first, self._end.date()):
            name = f"sessions {day}"
            if name <= after:
                continue
            topics: dict[str, str | None] = {
                meeting["_id"]: text(meeting.get("topic")) for meeting in self._source.of_day("meetings", day)
            }
            inside = [
                statement
                for session in self._source.of_day("sessions", day)
                for at, statement in classroom.statements(session, topics.get(str(session.get("meeting"))))
                if self._is_inside(at)
            ]
            if inside:
                yield Unit(name, inside)

    def _is_inside(self, at: float) -> bool:
        return (self._start is None or at >= self._start.timestamp()) and at < self._end.timestamp()


def _played(value: Any) -> Played | None:
    """Return a viewing as the documents have it; None if it was live or is unusable."""
    match value:
        case [
            int() | float() as start,
            int() | float() as end,
            int() | float() as began,
            int() | float() as ended,
        ]:
            return start, end, began, ended
    return None
