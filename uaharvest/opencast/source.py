"""Reads useractions by time range from Harvard DCE's Opencast, whose actions.json supports `start` and `end`."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from uaharvest.errors import BlockedError, SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.actions import Unreadable
from uaharvest.opencast.client import ActionsPage, Opencast
from uaharvest.opencast.throttle import Throttle
from uaharvest.opencast.times import WallRange, wall_range
from uaharvest.rows.useractions import UserAction

# Largest difference between two time zones (UTC-12 to UTC+14). Rows hidden by a wrong zone are this close to the range.
FURTHEST = timedelta(hours=26)
# Attempts to read a range, each with the limit that the previous response called for.
ASKS = 6
# A time before any useraction, to ask only for the clock.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# Zones to suggest if OPENCAST_TIMEZONE is wrong: well-known names, one or two per offset.
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
class SlicePage:
    """All rows of a slice.

    Attributes:
        actions: The readable rows within the slice, each once.
        unreadable: Raw rows that cannot be read, with the reason. They may belong to another slice.
    """

    actions: Sequence[UserAction]
    unreadable: Sequence[Unreadable]


@dataclasses.dataclass(frozen=True, slots=True)
class TooMany:
    """The slice has more rows than the limit and can be split."""

    total: int


class RangeSource(Protocol):
    """A source that supports time ranges: `ActionsSource` uses REST, `sql.SqlSource` the database."""

    def now(self, *, wait: float = 0) -> datetime:
        """Return the source's clock, UTC, in whole seconds."""

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both inclusive, whole seconds UTC."""

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Check that an empty range is not just the result of a wrong time zone."""

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> SlicePage | TooMany:
        """Return all rows of `slice_`, or only their number if they are too many for `limit`."""


class ActionsSource:
    """Reads time ranges, respects the request rate, and checks that the server understood the parameters."""

    def __init__(self, client: Opencast, zone: ZoneInfo, throttle: Throttle) -> None:
        """Take a client of the engage host, the server's time zone and the throttle at that host."""
        self._client = client
        self._zone = zone
        self._throttle = throttle

    def now(self, *, wait: float = 0) -> datetime:
        """Return the server's clock, UTC, in whole seconds."""
        return self._ask(wall_range(LONG_AGO, LONG_AGO, self._zone), 1, wait).now

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both inclusive, whole seconds UTC.

        Raises:
            BlockedError: The server does not understand `start` and `end`, or its time zone is not OPENCAST_TIMEZONE.
        """
        wall = wall_range(first, last, self._zone)
        page = self._ask(wall, 1, wait)
        self._check((action.created for action in page.actions), wall)
        return max(page.total, len(page))

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Check that an empty range is not just the result of a wrong time zone, using a row nearby if there is one.

        Raises:
            BlockedError: The time zone is wrong.
        """
        near = wall_range(first - FURTHEST, last + FURTHEST, self._zone)
        self._check((action.created for action in self._ask(near, 1, wait).actions), near)

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> SlicePage | TooMany:
        """Return all rows of `slice_`, or only their number if they are more than `limit`.

        No offset is used: the query has no order, so pages would skip and repeat rows. A slice that cannot be split by
        time is requested with its total and some room as the limit, because the server has no maximum.

        Raises:
            SourceError: The response has fewer rows than its total, or contradicts the previous one.
            BlockedError: As for `total`.
        """
        wall = wall_range(slice_.start, slice_.end, self._zone)
        inserted = 0
        for _ in range(ASKS):
            page = self._ask(wall, limit, wait)
            rows = len(page)
            if page.total > limit:
                if slice_.seconds > 1 and not wall.widened:
                    return TooMany(page.total)
                limit = page.sufficient_limit
            elif rows < page.total:
                raise SourceError(f"Opencast says there are {page.total} useractions and gives {rows}")
            elif page.total < inserted:
                raise SourceError(f"Opencast says there are {page.total} useractions and gave {inserted} before")
            elif rows == page.total or (inserted and rows < limit):
                return self._read(page, slice_, wall)
            else:
                # Rows were written between Opencast's count and its page. The next count includes them.
                inserted, limit = rows, max(limit, rows + 1)
        raise SourceError(f"Opencast has more useractions at each request: {page.total} by now")

    def _ask(self, wall: WallRange, limit: int, wait: float) -> ActionsPage:
        self._throttle.turn(wait)
        return self._client.actions(wall.first, wall.last, limit)

    def _read(self, page: ActionsPage, slice_: Interval, wall: WallRange) -> SlicePage:
        actions: dict[int, UserAction] = {}
        elsewhere = []
        offsets = {instant.astimezone(self._zone).utcoffset() for instant in (slice_.start, slice_.end)}

        # Cached, because many rows share a second, and comparing times of two zones takes as long as reading a row.
        @functools.cache
        def judge(created: datetime) -> tuple[bool, bool]:
            inside = slice_.start <= created < slice_.end
            return inside, inside and created.utcoffset() in offsets

        for action in page.actions:
            inside, usual = judge(action.created)
            if inside:
                actions[action.id] = action
            if not usual:
                elsewhere.append(action.created)
        self._check(elsewhere, wall)
        return SlicePage(list(actions.values()), page.unreadable)

    def _check(self, instants: Iterable[datetime], wall: WallRange) -> None:
        """Raise BlockedError if a row shows that the server did not interpret `start` and `end` as intended."""
        for created in instants:
            offset, expected = created.utcoffset(), created.astimezone(self._zone).utcoffset()
            if offset != expected:
                raise BlockedError(wrong_zone(created, self._zone, self._client.base_url))
            if not wall.covers(created, self._zone):
                raise BlockedError(
                    f"Opencast at {self._client.base_url} ignores start and end of actions.json: a row of "
                    f"{created:%F %T%z} came back for {wall.first:%F %T} to {wall.last:%F %T}. Only the 'dce' "
                    "profile has them. Set OPENCAST_PROFILE=stock."
                )


def wrong_zone(created: datetime, zone: ZoneInfo, base_url: str) -> str:
    """Return the error message for a row whose UTC offset does not match OPENCAST_TIMEZONE."""
    offset = created.utcoffset()
    fitting = [name for name in WELL_KNOWN if created.astimezone(ZoneInfo(name)).utcoffset() == offset]
    advice = f"Try {' or '.join(fitting)}." if fitting else "Set it to the server's zone."
    return (
        f"OPENCAST_TIMEZONE is '{zone.key}', but times of Opencast at {base_url} are at "
        f"{created.isoformat()[-6:]}. {advice}"
    )
