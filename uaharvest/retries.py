"""Retries of transient failures: how often, and with which pauses."""

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterator, Sized
from typing import TypeVar

from uaharvest.errors import RetryableError

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """A retry policy. It has no state, so threads may share it.

    Attributes:
        attempts: Maximum number of attempts, including the first.
        first: The pause after the first attempt, seconds.
        growth: Factor between a pause and the next.
        longest: Upper limit of a pause before jitter, seconds.
        jitter: Each pause is multiplied by a random number in this range, so that workers do not return together.
        within: No further attempt begins after this many seconds.
    """

    attempts: float = math.inf
    first: float
    growth: float = 2.0
    longest: float = math.inf
    jitter: tuple[float, float] = (0.5, 1.0)
    within: float = math.inf

    def seconds(self, attempt: int) -> float:
        """Return the pause after attempt 1, 2, ..."""
        planned = min(self.first * self.growth ** (attempt - 1), self.longest)
        return planned * random.uniform(*self.jitter)  # noqa: S311 - jitter is no secret

    def call(
        self,
        ask: Callable[[], Answer],
        *,
        pause: Callable[[float], None],
        again: Callable[[Exception], bool] = lambda error: isinstance(error, RetryableError),
        wait: Callable[[Exception, float], float] = lambda _, planned: planned,
    ) -> Answer:
        """Return what `ask` returns; raise its last error when the retries are used up.

        Args:
            ask: The call that may fail.
            pause: Sleeps for the given number of seconds.
            again: Tells whether to retry after an error; by default after a RetryableError.
            wait: Returns the pause after an error, given the planned pause; 0: none.
        """
        end = time.monotonic() + self.within
        attempt = 1
        while True:
            try:
                return ask()
            except Exception as error:
                if attempt >= self.attempts or time.monotonic() > end or not again(error):
                    raise
                seconds = wait(error, self.seconds(attempt))
            if seconds:
                pause(seconds)
            attempt += 1

    def rounds(self, waiting: Sized, *, pause: Callable[[float], None]) -> Iterator[int]:
        """Yield the number of each attempt while `waiting` is not empty, with pauses in between.

        For batch requests whose items fail individually: each round removes the settled items from `waiting`.
        """
        attempt = 1
        while waiting and attempt <= self.attempts:
            if attempt > 1:
                pause(self.seconds(attempt - 1))
            yield attempt
            attempt += 1
