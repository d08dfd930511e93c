"""What becomes of a slice that failed; pure."""

import dataclasses

LONGEST_BACK_OFF = 300.0
FIRST_BACK_OFF = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class PutOff:
    """The slice goes back and may be claimed again after `delay` seconds."""

    delay: float
    attempts: int
    waits: int


@dataclasses.dataclass(frozen=True, slots=True)
class Halve:
    """Two halves take its place, so that what is wrong with it narrows down."""

    attempts: int


@dataclasses.dataclass(frozen=True, slots=True)
class GiveUp:
    """It becomes a dead letter, so that one bad second does not stop a weekend."""


def after_failure(
    *, attempts: int, waits: int, most: int, own_fault: bool, alone: bool, divisible: bool, jitter: float
) -> PutOff | Halve | GiveUp:
    """Decide what becomes of a slice.

    An outage uses up no attempts: a failure counts only if the source meanwhile gave other things.

    Args:
        attempts: Attempts used up, this one included.
        waits: Times in a row that it was put off before.
        most: Attempts that a slice has (HARVEST_ATTEMPTS).
        own_fault: Others succeed meanwhile, or it is alone.
        alone: All that is outstanding of its run has failed, it is the first of these, and the source answers: only
            its own halves can show whose fault it is. (One bad second fails the one before it too, for ranges
            include their end: a slice may never be the only one left.)
        divisible: It has halves.
        jitter: From 0.5 to 1.5, so that what failed together does not come back together.
    """
    if alone and divisible and waits:
        return Halve(attempts=attempts - 1)
    if not own_fault:
        attempts -= 1
    elif attempts >= most:
        # The halves have an attempt each: a dozen halvings reach the bad second of an hour.
        return Halve(attempts=most - 1) if divisible else GiveUp()
    # An outage of some days has a thousand waits, and 2 to the 1,024th is more than a float holds.
    delay = min(FIRST_BACK_OFF * 2 ** min(waits, 10), LONGEST_BACK_OFF)
    return PutOff(delay * jitter, attempts, waits + 1)


def after_deaths(*, divisible: bool, most: int) -> Halve | GiveUp:
    """Decide what becomes of a slice whose every attempt ended with its worker: it may be too big for it."""
    return Halve(attempts=most - 1) if divisible else GiveUp()
