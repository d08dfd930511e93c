"""Useractions by time range from an Opencast whose actions.json knows `start` and `end` (Harvard DCE's fork)."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from uaharvest.errors import BlockedError, PoisonError, SourceError
from uaharvest.opencast.actions import UserAction, read_action
from uaharvest.opencast.client import ActionsPage, Opencast
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.times import WallRange, wall_range
from uaharvest.runs.windows import Interval

# No two zones lie further apart (UTC-12 to UTC+14): rows that a wrong zone hides are within this of the range.
FURTHEST = timedelta(hours=26)
# Only the clock and the existence of rows are asked for: a range in which no row can be.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# What to suggest when OPENCAST_TIMEZONE is wrong: names that people know, one or two per offset.
WELL_KNOWN = (
    *(
        "UTC",
        "Europe/London",
        "Europe/Berlin",
        "Europe/Helsinki",
        "Asia/Kolkata",
        "Asia/Shanghai",
        "Asia/Tokyo",
    ),
    *("Australia/Sydney", "Pacific/Auckland", "America/Sao_Paulo", "America/Halifax", "America/New_York"),
    *("America/Chicago", "America/Denver", "America/Los_Angeles"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """All rows of a slice.

    Attributes:
        actions: Those that can be read, each once, within the slice.
        unreadable: Raw rows that cannot be read, with the reason; of which slice they are cannot be told.
    """

    actions: Sequence[UserAction]
    unreadable: Sequence[tuple[dict[str, Any], str]]


@dataclasses.dataclass(frozen=True, slots=True)
class TooMany:
    """There are more rows than asked for, and the slice can be divided."""

    total: int


class RangeSource(Protocol):
    """A source that knows ranges of time: `ActionsSource` by REST, `sql.SqlSource` from the database."""

    def now(self, *, wait: float = 0) -> datetime:
        """Return the source's clock, UTC, whole seconds."""
        ...

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both included, whole seconds UTC."""
        ...

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Make sure that an empty range is not empty because the zone is wrong."""
        ...

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> Page | TooMany:
        """Return all rows of `slice_`, or say how many there are if they are too many for `limit`."""
        ...


class ActionsSource:
    """Asks for ranges of time, keeps the pace, and checks that the server understood."""

    def __init__(self, client: Opencast, zone: ZoneInfo, pace: Pace) -> None:
        """Take a client of the engage host, the server's time zone and the pace at that host."""
        self._client = client
        self._zone = zone
        self._pace = pace

    def now(self, *, wait: float = 0) -> datetime:
        """Return the server's clock, UTC, whole seconds."""
        return self._ask(wall_range(LONG_AGO, LONG_AGO, self._zone), 1, wait).now

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both included, whole seconds UTC.

        Raises:
            BlockedError: The server does not understand `start` and `end`, or its zone is another one.
        """
        asked = wall_range(first, last, self._zone)
        page = self._ask(asked, 1, wait)
        self._check(_times(page), asked)
        return page.total

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Make sure that an empty range is not empty because the zone is wrong: look at a row near it, if any.

        Raises:
            BlockedError: The zone is wrong.
        """
        near = wall_range(first - FURTHEST, last + FURTHEST, self._zone)
        self._check(_times(self._ask(near, 1, wait)), near)

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> Page | TooMany:
        """Return all rows of `slice_`, or say how many there are if they are more than `limit`.

        No page is read by offset: the query has no order, so that pages skip and repeat. What cannot be divided by
        time is asked for with a limit as large as its total: there is no maximum.

        Raises:
            SourceError: The answer holds fewer rows than it says.
            BlockedError: As for `total`.
        """
        asked = wall_range(slice_.start, slice_.end, self._zone)
        page = self._ask(asked, limit, wait)
        if page.total > limit and slice_.seconds > 1 and not asked.widened:
            return TooMany(page.total)
        while page.total > limit:
            limit = page.total
            page = self._ask(asked, limit, wait)
        if len(page.rows) < page.total:
            raise SourceError(f"Opencast says there are {page.total} useractions and gives {len(page.rows)}")
        return self._read(page.rows, slice_, asked)

    def _ask(self, asked: WallRange, limit: int, wait: float) -> ActionsPage:
        self._pace.turn(wait)
        return self._client.actions(asked.first, asked.last, limit)

    def _read(self, rows: Iterable[dict[str, Any]], slice_: Interval, asked: WallRange) -> Page:
        actions: dict[int, UserAction] = {}
        unreadable = []
        elsewhere = []
        # Rows of a second share their instant; to compare times of two zones takes as long as to read a row.
        inside = functools.cache(lambda created: slice_.start <= created < slice_.end)
        offsets = {instant.astimezone(self._zone).utcoffset() for instant in (slice_.start, slice_.end)}
        for row in rows:
            try:
                action = read_action(row)
            except PoisonError as error:
                unreadable.append((row, str(error)))
                continue
            if inside(action.created):
                actions[action.id] = action
                if action.created.utcoffset() in offsets:
                    continue
            elsewhere.append(action.created)
        self._check(elsewhere, asked)
        return Page(list(actions.values()), unreadable)

    def _check(self, instants: Iterable[datetime], asked: WallRange) -> None:
        """Refuse rows that show that the server did not take `start` and `end` as they were meant."""
        for created in instants:
            offset, expected = created.utcoffset(), created.astimezone(self._zone).utcoffset()
            if offset != expected:
                raise BlockedError(wrong_zone(created, self._zone, self._client.base_url))
            if not asked.covers(created, self._zone):
                raise BlockedError(
                    f"Opencast at {self._client.base_url} does not heed start and end of actions.json: a row of "
                    f"{created:%F %T%z} came back for {asked.first:%F %T} to {asked.last:%F %T}. Only the 'dce' "
                    "profile has them. Set OPENCAST_PROFILE=stock."
                )


def wrong_zone(created: datetime, zone: ZoneInfo, base_url: str) -> str:
    """Return what to say about a row whose offset OPENCAST_TIMEZONE does not have."""
    offset = created.utcoffset()
    fitting = [name for name in WELL_KNOWN if created.astimezone(ZoneInfo(name)).utcoffset() == offset]
    advice = f"Try {' or '.join(fitting)}." if fitting else "Set it to the server's zone."
    return (
        f"OPENCAST_TIMEZONE is '{zone.key}', but times of Opencast at {base_url} are at "
        f"{created.isoformat()[-6:]}. {advice}"
    )


def _times(page: ActionsPage) -> list[datetime]:
    times = []
    for row in page.rows:
        with contextlib.suppress(PoisonError):  # says nothing about the zone; its slice makes a dead letter of it
            times.append(read_action(row).created)
    return times
