"""Local days, as a stock Opencast is queried by them, and the minute hidden from each. Pure functions."""

import dataclasses
import functools
import math
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

MINUTE = 60.0
# Opencast reads its clock twice, once for each end of its window. Maximum time between the two, seconds.
TWO_READINGS = 0.05


@functools.lru_cache(maxsize=512)
def begin_of(day: date, zone: ZoneInfo) -> float:
    """Return the first instant of a local day, seconds UTC."""
    return datetime.combine(day, time(), zone).timestamp()


def day_of(at: float, zone: ZoneInfo) -> date:
    """Return the local day of an instant, seconds UTC."""
    return _day_of_quarter(at // 900, zone)


@functools.lru_cache(maxsize=4096)
def _day_of_quarter(quarter: float, zone: ZoneInfo) -> date:
    # In every zone, days start on a quarter of an hour.
    return datetime.fromtimestamp(quarter * 900, zone).date()


def at_edge(at: float, zone: ZoneInfo) -> bool:
    """Tell whether an instant lies in the first or the last minute of its local day."""
    day = day_of(at, zone)
    return at < begin_of(day, zone) + MINUTE or at >= begin_of(day + timedelta(days=1), zone) - MINUTE


@dataclasses.dataclass(frozen=True, slots=True)
class ClockReading:
    """When the server read its clock, in seconds UTC by that clock: between `earliest` and `latest`.

    It reads the clock before it queries its database, so the reading is probably no later than `likely`, long before
    the response.
    """

    earliest: float
    latest: float
    likely: float = math.inf

    @property
    def soonest(self) -> "ClockReading":
        """Return the probable range, which ends at `likely`."""
        return ClockReading(self.earliest, min(self.latest, max(self.earliest, self.likely)))

    @property
    def phase(self) -> tuple[float, float]:
        """Return the lowest and the highest possible second of the minute."""
        if self.earliest // MINUTE != self.latest // MINUTE:
            return 0.0, MINUTE
        return self.earliest % MINUTE, self.latest % MINUTE

    @property
    def phases(self) -> list[tuple[float, float]]:
        """Return the possible ranges of seconds of the minute: two if a minute may have ended in between."""
        if not self.latest - self.earliest < MINUTE:
            return [(0.0, MINUTE)]
        first, last = self.earliest % MINUTE, self.latest % MINUTE
        return [(first, last)] if first <= last else [(first, MINUTE), (0.0, last)]


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What the rows of a page show about the window that Opencast counted, independent of any clock.

    The window is [00:00:p, 23:59:p]. A row at 00:00:s is in it only if p <= s; a row at 23:59:s only if s <= p.

    Attributes:
        least: Lower bound of p, seconds.
        most: Upper bound of p, seconds.
        first: If the page is in order, the window has no rows of the first minute before this second.
        last: If the page is in order, the window has no rows of the last minute after this second.
    """

    least: float = 0.0
    most: float = MINUTE
    first: float = 0.0
    last: float = MINUTE


NOTHING = Shown()
