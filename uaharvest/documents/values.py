"""Values of documents about Zoom."""

from datetime import datetime


def iso(at: datetime | None) -> str | None:
    """Return a UTC time as Zoom writes it, with milliseconds only if there are any."""
    if at is None:
        return None
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds").removesuffix(".000") + "Z"


def between(start: datetime | None, end: datetime | None) -> int | None:
    """Return the whole seconds from `start` to `end`; None if either is unknown or `end` comes first."""
    if start is None or end is None or end < start:
        return None
    return int((end - start).total_seconds())
