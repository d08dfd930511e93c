"""Zoom's values made regular: what is no time, number or truth is not known, and never an error."""

import math
import re
from datetime import UTC, datetime
from typing import Any

from uaharvest.opencast.foreign import whole

# A row that came half made has times such as 0001-01-01; the index of such a day would be of no use.
FIRST_YEAR, LAST_YEAR = 2000, 2099
HIGHEST = 2**63 - 1  # Elasticsearch's long

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_CLOCK = re.compile(r"\d{1,9}(:\d{1,2}){1,3}(\.\d*)?", re.ASCII)
_UNITS = (1, 60, 3600, 86_400)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def instant(value: Any) -> datetime | None:
    """Return a time of Zoom in UTC, fractions kept; None for "", which defective rows have, and for no time."""
    if not isinstance(value, str) or not _TIME.match(value):
        return None
    try:
        at = datetime.fromisoformat(value)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if FIRST_YEAR <= at.year <= LAST_YEAR else None


def iso(at: datetime | None) -> str | None:
    """Return an instant as Zoom writes it; milliseconds only where there are some."""
    if at is None:
        return None
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds").removesuffix(".000") + "Z"


def seconds(value: Any) -> int | None:
    """Return the seconds of "mm:ss", "hh:mm:ss" (24 hours and more too) or "d:hh:mm:ss", fractions cut off."""
    if not isinstance(value, str) or not _CLOCK.fullmatch(value.strip()):
        return None
    parts = value.strip().partition(".")[0].split(":")
    return sum(int(part) * unit for part, unit in zip(reversed(parts), _UNITS, strict=False))


def between(start: datetime | None, end: datetime | None) -> int | None:
    """Return the whole seconds from `start` to `end`; None if one is not known, or `end` comes first."""
    if start is None or end is None or end < start:
        return None
    return int((end - start).total_seconds())


def truth(value: Any) -> bool | None:
    """Return what is true or false, also as 1 and 0, which v1 had."""
    return value if isinstance(value, bool) else _TRUTHS.get(str(value).lower())


def count(value: Any) -> int | None:
    """Return a number of things."""
    number = whole(value)
    return number if number is not None and 0 <= number <= HIGHEST else None


def amount(value: Any) -> float | None:
    """Return a number with its fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
