"""Opencast's JSON made regular: its XML mapping guesses types and drops lists of one.

Jettison makes a number or a boolean of every text that looks like one (an id "24" becomes 24), an object of
a list of one, and "" of an empty element; Opencast >= 16 passes that through Gson, which makes a float of
every number (2.0150112345E10). Opencast <= 7 writes attributes as strings.
"""

from typing import Any


def many(value: Any) -> list[Any]:
    """Return what stands for a list as one: absent, empty, a single member or a list."""
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def members(value: Any) -> dict[str, Any]:
    """Return an object's members; none where "" stands for an empty object, or nothing stands at all."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """Return the text that `value` was before its type was guessed; None for no text."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else None


def whole(value: Any) -> int | None:
    """Return a whole number, fractions cut off, that came as number or as string; None for anything else."""
    if type(value) is int:  # nearly all are: this runs five times for each useraction
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass  # a number with a fraction, or none at all
    try:
        return None if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):  # OverflowError: JSON's 1e400 is read as infinity
        return None
