"""Windows of a day, UTC: of streams whose source is asked about days."""

from datetime import UTC, datetime, timedelta

import redis

from uaharvest.runs.known import KnownIds
from uaharvest.runs.windows import Interval, next_window

DAY = timedelta(days=1)


class Days:
    """What streams of days say alike."""

    @property
    def longest_window(self) -> int:
        """Return the seconds of a day."""
        return int(DAY.total_seconds())

    def begin(self, now: datetime, minutes: int) -> datetime:  # noqa: ARG002 - days have a rule of their own
        """Return the beginning of yesterday."""
        return midnight(now) - DAY

    def first_window(self, rest: Interval) -> Interval:
        """Return the first day of an explicit run's `rest`."""
        return Interval(rest.start, min(rest.end, rest.start + DAY))

    def known(self, client: "redis.Redis", key: str) -> KnownIds:
        """Return the ids that are known at `key`."""
        return KnownIds(client, key)


def midnight(instant: datetime) -> datetime:
    """Return the beginning of the instant's day, UTC."""
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def next_day(watermark: datetime, now: datetime, ready_after: timedelta) -> Interval | None:
    """Return the day in which the watermark lies, once `ready_after` has passed since its end.

    Raises:
        BlockedError: The watermark lies in the future, where no harvest can have put it.
    """
    lag, longest = int(ready_after.total_seconds()), int(DAY.total_seconds())
    window = next_window(midnight(watermark), now, lag=lag, longest=longest)
    return window if window is not None and window.seconds == longest else None
