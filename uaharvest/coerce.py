"""Converts JSON values from other systems, whose types are unreliable.

Opencast's Jettison guesses types. It turns any text that looks like a number or a boolean into one (an id "24" becomes
24), a list with one member into an object, and an empty element into "". Opencast >= 16 passes the result through Gson,
which turns every number into a float (2.0150112345E10). Opencast <= 7 writes attributes as strings. Zoom writes some
numbers as strings, and null or "" for missing values.
"""

from datetime import UTC, datetime
from typing import Any


def many(value: Any) -> list[Any]:
    """Return a list from a value that may be absent, empty, a single member or a list."""
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def members(value: Any) -> dict[str, Any]:
    """Return an object's members; {} if the value is absent or not an object (Jettison writes "" for an empty one)."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """Return the text that `value` was before its type was guessed; None if there is no text."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else None


def whole(value: Any) -> int | None:
    """Return the integer from a number or a string, without its fraction; None for anything else."""
    if type(value) is int:  # the usual case; this runs five times per useraction
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass  # a number with a fraction, or not a number
    try:
        return None if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):  # OverflowError: 1e400 in JSON is parsed as infinity
        return None


def instant(value: Any) -> datetime | None:
    """Return an instant in UTC; None if the value is not an ISO 8601 time with a zone."""
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None
