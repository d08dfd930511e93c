"""The useractions of a source as an audit reads them: ids first, and whole rows only of those that are missing."""

import dataclasses
import heapq
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

import structlog

from uaharvest.coerce import whole
from uaharvest.intervals import Interval
from uaharvest.opencast.days import MINUTE, begin_of, day_of
from uaharvest.opencast.source import RangeSource, SlicePage, TooMany
from uaharvest.opencast.stock import DayPage, DaySource
from uaharvest.rows.useractions import UserAction
from uaharvest.streams.late import parts

if TYPE_CHECKING:  # SQLAlchemy takes time to import
    from uaharvest.opencast.sql import SqlSource

HOURS = 24
DAY = timedelta(days=1)
SECOND = 1.0

log = structlog.get_logger()


class Rows(Protocol):
    """A source of useractions."""

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the parts of a day (UTC) that are compared one after the other."""
        ...

    def ids(self, piece: Interval, indexed: AbstractSet[int]) -> Iterator[Iterable[int]]:
        """Yield the ids of all rows of a piece, each once, in groups.

        Args:
            piece: From `pieces`.
            indexed: The ids that have documents, for a source that hides rows but returns single ones by id.
        """
        ...

    def rows(self, piece: Interval, ids: Collection[int]) -> Iterator[SlicePage]:
        """Yield the rows of a piece that have these ids, in pages."""
        ...


class DatabaseRows:
    """The rows of Opencast's database, which returns ids alone."""

    def __init__(self, source: "SqlSource", *, wait: float) -> None:
        """Wait at least `wait` seconds between two statements."""
        self._source = source
        self._wait = wait

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the hours of the day."""
        return day.cut(HOURS)

    def ids(self, piece: Interval, indexed: AbstractSet[int]) -> Iterator[Iterable[int]]:  # noqa: ARG002 - see `Rows`
        """Yield the ids of all rows of a piece."""
        return self._source.ids(piece, wait=self._wait)

    def rows(self, piece: Interval, ids: Collection[int]) -> Iterator[SlicePage]:
        """Yield the rows of a piece that have these ids."""
        return self._source.rows(piece, ids, wait=self._wait)


class RangeRows:
    """The rows of a source that answers for ranges of time with whole rows."""

    def __init__(self, source: RangeSource, *, batch_size: int, wait: float) -> None:
        """Request about `batch_size` rows at once, at least `wait` seconds apart."""
        self._source = source
        self._batch_size = batch_size
        self._wait = wait

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the hours of the day."""
        return day.cut(HOURS)

    def ids(self, piece: Interval, indexed: AbstractSet[int]) -> Iterator[Iterable[int]]:  # noqa: ARG002 - see `Rows`
        """Yield the ids of all rows of a piece."""
        seen: set[int] = set()  # unreadable rows may be returned with either of two ranges
        for page in self._pages(piece):
            unreadable = {number for raw, _ in page.unreadable if (number := whole(raw.get("id"))) is not None}
            yield [*(action.id for action in page.actions), *(unreadable - seen)]
            seen |= unreadable

    def rows(self, piece: Interval, ids: Collection[int]) -> Iterator[SlicePage]:
        """Yield the rows of a piece that have these ids. The piece is requested again."""
        return (_chosen(page, ids) for page in self._pages(piece))

    def _pages(self, interval: Interval) -> Iterator[SlicePage]:
        page = self._source.fetch(interval, self._batch_size, wait=self._wait)
        if isinstance(page, TooMany):
            for part in interval.cut(max(parts(page.total, self._batch_size), 2)):
                yield from self._pages(part)
        else:
            yield page


# When to request a day so that either end of it is hidden as little as possible: seconds of the server's minute.
EARLY, LATE = (0.2, 4.0), (57.0, 59.6)
# A request that is handled later than this hides too much of the first minute. It is repeated once.
EARLY_ENOUGH = 10.0
ATTEMPTS = 2
# The rows around a midnight that `day` never shows have ids in the same blocks (of 50) as this many rows on either side
# of it, or ids in between.
NEIGHBOURS = 5
BLOCK = 50
MOST_LOOK_UPS = 1_000  # for one midnight

Unreadable = tuple[int, dict[str, Any], str]


class StockRows:
    """The rows of an Opencast that can only be queried by `day`; see docs/audit.md for what that costs.

    A day is requested twice, early and late in a minute, so that only the seconds around midnight remain hidden. Rows
    of these seconds are looked up by id: those that have a document, and those between the ids around midnight.
    """

    def __init__(self, source: DaySource, zone: ZoneInfo, *, wait: float) -> None:
        """Read from `source`, which is in `zone`, at least `wait` seconds between two requests."""
        self._source = source
        self._zone = zone
        self._wait = wait
        self._read: tuple[Interval, dict[int, UserAction], list[Unreadable]] | None = None

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the whole day: it cannot be requested in parts."""
        return [day]

    def ids(self, piece: Interval, indexed: AbstractSet[int]) -> Iterator[Iterable[int]]:
        """Yield the ids of all rows of a day."""
        actions, unreadable = self._days(piece)
        for row_id in self._hidden(piece, actions):
            self._look_up(row_id, actions)
        inside = self._inside(piece, actions)
        for row_id in indexed - inside - {number for number, _, _ in unreadable}:
            self._look_up(row_id, actions)
        self._read = (piece, actions, unreadable)
        yield self._inside(piece, actions)
        yield {number for number, _, _ in unreadable} - actions.keys()

    def rows(self, piece: Interval, ids: Collection[int]) -> Iterator[SlicePage]:
        """Yield the rows of a day that have these ids."""
        if self._read is None or self._read[0] != piece:
            raise ValueError("the ids of the day are read first")
        _, actions, unreadable = self._read
        raw = [(row, reason) for number, row, reason in unreadable if number in ids]
        yield SlicePage([actions[row_id] for row_id in ids if row_id in actions], raw)

    @staticmethod
    def _inside(piece: Interval, actions: dict[int, UserAction]) -> set[int]:
        return {action.id for action in actions.values() if piece.start <= action.created < piece.end}

    def _days(self, piece: Interval) -> tuple[dict[int, UserAction], list[Unreadable]]:
        """Return all rows of the local days that the piece touches, also those outside of it."""
        actions: dict[int, UserAction] = {}
        unreadable: dict[int, Unreadable] = {}
        for day in self._touched(piece):
            for page in self._whole(day):
                actions |= {action.id: action for action in page.actions}
                unreadable |= {one[0]: one for one in page.unreadable}
        return actions, list(unreadable.values())

    def _touched(self, piece: Interval) -> list[date]:
        first = day_of(piece.start.timestamp(), self._zone)
        last = day_of(piece.end.timestamp() - SECOND, self._zone)
        return [first + DAY * number for number in range((last - first).days + 1)]

    def _hidden(self, piece: Interval, actions: dict[int, UserAction]) -> Iterator[int]:
        """Yield the ids of the rows that `day` may hide at the midnights of the piece."""
        days = self._touched(piece)
        for day in (*days, days[-1] + DAY):
            at = begin_of(day, self._zone)
            if piece.start.timestamp() <= at <= piece.end.timestamp():
                before, after = (self._near(at, side, days, actions) for side in (day - DAY, day))
                near = [*before, *after]
                likely = [row_id + step for step in range(-BLOCK, BLOCK + 1) for row_id in near]
                between = range(before[0], after[0]) if before and after else range(0)
                ids = dict.fromkeys([*between[:MOST_LOOK_UPS], *likely])
                yield from [row_id for row_id in ids if row_id > 0 and row_id not in actions][:MOST_LOOK_UPS]

    def _near(self, at: float, side: date, days: Collection[date], actions: dict[int, UserAction]) -> list[int]:
        """Return the ids of the rows of a day that are nearest to a midnight, the nearest first."""
        rows: Iterable[UserAction] = actions.values()
        if side not in days:
            skipped = 0
            if begin_of(side, self._zone) < at:
                skipped = max(0, self._source.total(side, wait=self._wait).total - NEIGHBOURS)
            rows = self._source.page(side, NEIGHBOURS, skipped, wait=self._wait).actions
        of_day = ((abs(row.created.timestamp() - at), row.id) for row in rows if row.created.date() == side)
        return [row_id for _, row_id in heapq.nsmallest(NEIGHBOURS, of_day)]

    def _whole(self, day: date) -> Iterator[DayPage]:
        for _ in range(ATTEMPTS):
            self._source.wait_for_phase(*EARLY)
            page = self._source.all(day, wait=self._wait)
            yield page
            if page.moment.phase[1] <= EARLY_ENOUGH:
                break
        else:
            log.warning(
                "some rows of the first minute were not seen: do the clocks of Opencast's nodes differ?",
                day=f"{day}",
            )
        self._source.wait_for_phase(*LATE)
        late = self._source.total(day, wait=self._wait)
        if late.total > _counted(page, late, begin_of(day, self._zone), begin_of(day + DAY, self._zone)):
            self._source.wait_for_phase(*LATE)
            yield self._source.all(day, wait=self._wait)

    def _look_up(self, row_id: int, actions: dict[int, UserAction]) -> None:
        if row_id not in actions and (row := self._source.row(row_id, wait=self._wait)) is not None:
            actions[row_id] = row


def _counted(page: DayPage, late: DayPage, begin: float, end: float) -> int:
    """Return how many rows of a page certainly lie in the window that `late` counted."""
    low, high = late.moment.phase
    return sum(begin + high <= row.created.timestamp() <= end - MINUTE + low for row in page.actions)


def _chosen(page: SlicePage, ids: Collection[int]) -> SlicePage:
    return dataclasses.replace(
        page,
        actions=[action for action in page.actions if action.id in ids],
        unreadable=[one for one in page.unreadable if whole(one[0].get("id")) in ids],
    )
