"""Tasks as a person reads them in Flower: arguments in words and times, results without quotes. Pure functions."""

import ast
import re
from datetime import UTC, datetime

# A list of episodes may be longer.
LONGEST = 100
_INTERVAL = re.compile(r"\b(1\d{9})-(1\d{9})\b")
_INSTANT = re.compile(r"\b1\d{9}\b")


def arguments(args: str | None, kwargs: str | None) -> str:
    """Return a task's arguments in words, from their `repr` in Celery's events."""
    try:
        positional, named = ast.literal_eval(args or "()"), ast.literal_eval(kwargs or "{}")
    except (ValueError, SyntaxError):  # it was cut off
        return _short(times(f"{args} {kwargs}"))
    run, *slices = positional or (named.get("run_id"),)
    words = [f"run {run[:8]}" if run else "", *slices, "tick" if named.get("tick") else ""]
    if "seconds" in named:
        words.append(f"for {named['seconds']:g} s at most")
    return _short(", ".join(times(word) for word in words if word))


def result(text: str | None) -> str:
    """Return a task's result from its `repr`, which may be cut off."""
    try:
        return str(ast.literal_eval(text or "''"))
    except (ValueError, SyntaxError):
        return str(text).strip("'\"")


def times(text: str) -> str:
    """Return a text with times UTC in place of Unix times, alone or as an interval."""
    return _INSTANT.sub(lambda match: _at(match[0]), _INTERVAL.sub(lambda match: _between(*match.groups()), text))


def _between(start: str, end: str) -> str:
    first, last = _at(start), _at(end)
    same_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if same_day else last}"


def _at(seconds: str) -> str:
    return f"{datetime.fromtimestamp(int(seconds), UTC):%F %T}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
