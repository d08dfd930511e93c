"""Converts Zoom's values. Anything that is not a time, a number or a Boolean becomes None and raises no error."""

import math
import re
from datetime import UTC, datetime
from typing import Any

from uaharvest.coerce import whole

# Incomplete rows have times such as 0001-01-01. An index for such a day would be useless.
FIRST_YEAR, LAST_YEAR = 2000, 2099
HIGHEST = 2**63 - 1  # Elasticsearch's long

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_CLOCK = re.compile(r"\d{1,9}(:\d{1,2}){1,3}(\.\d*)?", re.ASCII)
_UNITS = (1, 60, 3600, 86_400)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def instant(value: Any) -> datetime | None:
    """Return a time in UTC, with fractions of a second; None for anything else, such as the "" of incomplete rows."""
    if not isinstance(value, str) or not _TIME.match(value):
        return None
    try:
        at = datetime.fromisoformat(value)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if FIRST_YEAR <= at.year <= LAST_YEAR else None


def seconds(value: Any) -> int | None:
    """Return whole seconds from "mm:ss", "hh:mm:ss" (hours may exceed 24) or "d:hh:mm:ss"."""
    if not isinstance(value, str) or not _CLOCK.fullmatch(value.strip()):
        return None
    parts = value.strip().partition(".")[0].split(":")
    return sum(int(part) * unit for part, unit in zip(reversed(parts), _UNITS, strict=False))


def truth(value: Any) -> bool | None:
    """Return a Boolean, also from 1, 0 and strings; None for anything else."""
    return value if isinstance(value, bool) else _TRUTHS.get(str(value).lower())


def count(value: Any) -> int | None:
    """Return a non-negative integer that Elasticsearch can store; None for anything else."""
    number = whole(value)
    return number if number is not None and 0 <= number <= HIGHEST else None


def amount(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
