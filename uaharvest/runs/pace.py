"""Bounds how many rows a second the backfills of all workers read from a source."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import redis

from uaharvest import keys
from uaharvest.errors import PutOffError
from uaharvest.lua import script
from uaharvest.runs.state import redis_now

# Seconds that a worker waits for its turn. For a later one it gives the slice back, so that it can do other work.
LONGEST_TURN = 2.0


class Pace:
    """The pace at one source.

    A turn is paid for before the slice is read, with the number of rows that slices had lately, and corrected once the
    number is known. So in any period, what is read exceeds the rate by one slice at most for each that is being read.

    Args:
        client: A client that decodes responses.
        place: The stream and its deployment.
        clock: Returns the time; by default that of Redis.
        pause: Sleeps for the given number of seconds.
    """

    def __init__(
        self,
        client: "redis.Redis",
        place: str,
        *,
        clock: Callable[[], datetime] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._redis = client
        self._key = keys.PACE(place)
        self._clock = clock or (lambda: redis_now(client))
        self._pause = pause
        self._turn = script(client, "pace_turn")
        self._paid = script(client, "pace_paid")

    def turn(self, rate: int, rows: int) -> int:
        """Wait for a turn to read a slice; return how many rows it costs.

        Args:
            rate: Most rows per second.
            rows: Rows of the slice; used as long as none was read.

        Raises:
            PutOffError: It comes in more than LONGEST_TURN seconds.
        """
        now = self._clock()
        arguments: list[str | int] = [f"{now.timestamp() * 1000:.0f}", rate, int(LONGEST_TURN * 1000), rows]
        wait, paid = map(int, self._turn(keys=[self._key], args=arguments))
        if not paid:
            due = now + timedelta(milliseconds=wait)
            raise PutOffError(f"backfills read {rate:,} rows a second at most (--rate)", due)
        self._pause(wait / 1000)
        return paid

    def paid(self, rate: int, paid: int, rows: int) -> None:
        """Correct what a turn has cost: it was charged for `paid` rows, and `rows` were read."""
        self._paid(keys=[self._key], args=[rate, paid, rows])

    def next_turn(self) -> datetime | None:
        """Return when the next turn comes, less LONGEST_TURN; None if it can be taken now."""
        free = float(self._redis.hget(self._key, "free") or 0) / 1000 - LONGEST_TURN
        at = datetime.fromtimestamp(max(free, 0.0), UTC)
        return at if at > self._clock() else None
