"""Windows of one day (UTC), for streams whose source is queried by day; pure functions."""

from datetime import UTC, date, datetime, time, timedelta

from uaharvest.intervals import Interval
from uaharvest.runs.windows import first_window, next_window

DAY = timedelta(days=1)
DAY_SECONDS = 86_400


def midnight(instant: datetime) -> datetime:
    """Return the midnight (UTC) at which the instant's day begins."""
    return midnight_of(instant.astimezone(UTC).date())


def midnight_of(day: date) -> datetime:
    """Return the midnight (UTC) at which a day begins."""
    return datetime.combine(day, time(), UTC)


def yesterday(now: datetime, _minutes: int) -> datetime:
    """Return yesterday's midnight, where a stream of days begins without a watermark."""
    return midnight(now) - DAY


def first_day(rest: Interval) -> Interval:
    """Return the first day of `rest`, the part of an explicit run that is left."""
    return first_window(rest, DAY_SECONDS)


def next_day(watermark: datetime, now: datetime, ready_after: timedelta) -> Interval | None:
    """Return the day that contains the watermark, once `ready_after` has passed since its end.

    Raises:
        BlockedError: The watermark is in the future, where no harvest can have put it.
    """
    lag = int(ready_after.total_seconds())
    window = next_window(midnight(watermark), now, lag=lag, longest=DAY_SECONDS)
    return window if window is not None and window.seconds == DAY_SECONDS else None
