"""Decides what happens to a failed slice; pure functions."""

import dataclasses

LONGEST_BACK_OFF = 300.0
FIRST_BACK_OFF = 2.0
JITTER = (0.5, 1.5)  # slices that failed together do not come back together


@dataclasses.dataclass(frozen=True, slots=True)
class PutOff:
    """The slice goes back and may be claimed again after `delay` seconds."""

    delay: float
    attempts: int
    waits: int

    @staticmethod
    def after(waits: int, jitter: float, tick: float) -> float:
        """Return the delay after `waits` waits in a row.

        With jitter it is not longer than a tick (HARVEST_EVERY_SECONDS), so the second tick after an outage finds every
        slice due.
        """
        longest = min(LONGEST_BACK_OFF, tick) / JITTER[1]
        # An outage of some days means a thousand waits, and 2 to the power of 1,024 overflows a float.
        return min(FIRST_BACK_OFF * 2.0 ** min(waits, 10), longest) * jitter


@dataclasses.dataclass(frozen=True, slots=True)
class Halve:
    """Two halves replace the slice, to narrow down the bad rows."""

    attempts: int


@dataclasses.dataclass(frozen=True, slots=True)
class GiveUp:
    """The slice becomes a dead letter, so that one bad second does not stop the harvest for a weekend."""


def after_failure(
    *,
    attempts: int,
    waits: int,
    most: int,
    own_fault: bool,
    alone: bool,
    divisible: bool,
    jitter: float,
    tick: float,
) -> PutOff | Halve | GiveUp:
    """Decide what happens to a slice that failed.

    An outage uses up no attempts: a failure counts only if the source returned other data in the meantime.

    Args:
        attempts: Attempts used, including this one.
        waits: How many times in a row it was put off before.
        most: Maximum number of attempts (HARVEST_ATTEMPTS).
        own_fault: Other slices succeed in the meantime, or it is `alone`.
        alone: All outstanding slices of its run have failed, this is the first of them, and the source answers. Only
            its halves can then show which rows are at fault. (A slice may never be the only one left, because ranges
            include their end, so one bad second makes the slice before it fail too.)
        divisible: It has halves.
        jitter: A factor within JITTER.
        tick: Seconds between two ticks.
    """
    if alone and divisible and waits:
        return Halve(attempts=attempts - 1)
    if not own_fault:
        attempts -= 1
    elif attempts >= most:
        # Each half has one attempt: a dozen halvings narrow an hour down to the bad second.
        return Halve(attempts=most - 1) if divisible else GiveUp()
    return PutOff(PutOff.after(waits, jitter, tick), attempts, waits + 1)


def after_deaths(*, divisible: bool, most: int) -> Halve | GiveUp:
    """Decide what happens to a slice whose worker died at every attempt; it may be too big for a worker."""
    return Halve(attempts=most - 1) if divisible else GiveUp()
