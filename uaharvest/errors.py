"""The failure policy as a tree of exceptions; every one carries a line that a person can act on."""

import enum
from datetime import datetime


class Exit(enum.IntEnum):
    """Exit codes of `manage.py`."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SPAN_REFUSED = 3
    BLOCKED = 4
    DEAD_LETTERS = 5


class HarvestError(Exception):
    """Something that stops a harvest; its text says what, where and what to do."""

    exit_code = Exit.ERROR


class BadInputError(HarvestError):
    """An option, setting, date or file that cannot be used; the text names it and what was expected."""

    exit_code = Exit.USAGE


class SpanRefusedError(HarvestError):
    """The window would be longer than MAX_START_END_SPAN."""

    exit_code = Exit.SPAN_REFUSED


class BlockedError(HarvestError):
    """A person must change something (credentials, permission, zone); until then each tick tries one slice."""

    exit_code = Exit.BLOCKED


class RetryableError(HarvestError):
    """A failure that passes by itself: time-out, connection, throttle, 5xx. It uses up no attempts."""


class SourceError(RetryableError):
    """A retryable failure of the source on one request.

    If the source answers others meanwhile, the fault is the slice's own, and then it counts as an attempt.
    """


class PutOffError(RetryableError):
    """Nothing is wrong, but it is not its turn: `due` (aware) is when to try it again."""

    def __init__(self, message: str, due: datetime) -> None:
        super().__init__(message)
        self.due = due


class BusyError(RetryableError):
    """Another worker is at it already; the ledger will show what it makes of it."""


class PoisonError(HarvestError):
    """One record that can never be built or delivered; it becomes a dead letter."""
