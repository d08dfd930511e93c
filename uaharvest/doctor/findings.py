"""What a check finds: a status, what it saw, and what to change."""

import dataclasses
import enum
import re

# An error's first sentence says what is wrong, and the rest what to do.
_SENTENCES = re.compile(r"(?<=[.?]) (?=[A-Z])")


class Status(enum.StrEnum):
    """The verdict of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        status: The verdict.
        found: What was seen, in words that show no secret.
        remedy: What to change; "" if nothing.
        blocks: Checks that depend on this one cannot be made.
        unused: The site does not use the service.
    """

    status: Status
    found: str
    remedy: str = ""
    blocks: bool = False
    unused: bool = False


def ok(found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Status.OK, found)


def warn(found: str, remedy: str, *, blocks: bool = False) -> Finding:
    """Return a finding that stops nothing now."""
    return Finding(Status.WARN, found, remedy, blocks)


def fail(found: str, remedy: str) -> Finding:
    """Return a finding that stops the harvest, or will. Checks that depend on it are skipped."""
    return Finding(Status.FAIL, found, remedy, blocks=True)


def skipped(reason: str, *, unused: bool = False) -> Finding:
    """Return the finding of a check that was not made."""
    return Finding(Status.SKIPPED, reason, blocks=True, unused=unused)


def failed(text: object) -> Finding:
    """Return the finding for an error's text, which says in its first sentence what is wrong, then what to do."""
    return fail(*_parted(text))


def warned(text: object) -> Finding:
    """Return the same as a warning."""
    return warn(*_parted(text))


def _parted(text: object) -> tuple[str, str]:
    found, *advice = _SENTENCES.split(str(text), maxsplit=1)
    return found.rstrip("."), "".join(advice)
