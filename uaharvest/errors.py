"""The failure policy as a hierarchy of exceptions; each carries a line that a person can act on."""

import enum
from collections.abc import Mapping
from datetime import datetime

SAID = 3  # how many reasons fit on one line


class Exit(enum.IntEnum):
    """Exit codes of `manage.py`."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SPAN_REFUSED = 3
    BLOCKED = 4
    DEAD_LETTERS = 5
    GAPS = 6


class HarvestError(Exception):
    """An error that stops a harvest; its text says what failed, where, and what to do."""

    exit_code = Exit.ERROR


class BadInputError(HarvestError):
    """An invalid option, setting, date or file; the text names it and says what was expected."""

    exit_code = Exit.USAGE


class SpanRefusedError(HarvestError):
    """The window would be longer than MAX_START_END_SPAN."""

    exit_code = Exit.SPAN_REFUSED


class BlockedError(HarvestError):
    """A person must change something (credentials, permissions, zone); until then each tick tries one slice."""

    exit_code = Exit.BLOCKED


class NoQueueError(BlockedError):
    """The queue does not exist, or not yet: the first delivery creates it."""


class IndexBlockedError(BlockedError):
    """Some indices accept no documents; all others have confirmed theirs.

    Attributes:
        indices: The reason for each, by the index's name.
    """

    def __init__(self, indices: Mapping[str, str]) -> None:
        reasons = list(dict.fromkeys(indices.values()))
        more = f" And {len(reasons) - SAID} more indices." if len(reasons) > SAID else ""
        super().__init__(" ".join(reasons[:SAID]) + more)
        self.indices = dict(indices)


class RetryableError(HarvestError):
    """A temporary failure: time-out, connection error, throttling, 5xx. It uses up no attempts."""


class SourceError(RetryableError):
    """A retryable failure of a single request to the source.

    If the source answers other requests in the meantime, the slice itself is at fault, and the failure counts as
    an attempt.
    """


class PutOffError(RetryableError):
    """Nothing is wrong, but it is too early; retry at `due` (an aware datetime)."""

    def __init__(self, message: str, due: datetime) -> None:
        super().__init__(message)
        self.due = due


class BusyError(RetryableError):
    """Another worker is already doing this; the ledger will show the result."""


class PoisonError(HarvestError):
    """A record that can never be built or delivered; it becomes a dead letter."""


class UnreadableDeadLetterError(BlockedError):
    """An object among the dead letters that is not one, or that S3 does not return; the others can be read."""
