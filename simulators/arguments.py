"""What the simulators' command lines share: one-line errors, and the formats of numbers and instants."""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that reports errors on one line."""

    def error(self, message: str) -> NoReturn:
        """Report the error on one line; argparse would print the whole usage first."""
        self.exit(2, f"{self.prog}: {message}\n")


def whole(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """Return an argument type for integers within inclusive bounds."""
    bounds = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or (low is not None and number < low) or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"expected a whole number{bounds}, got {text!r}")
        return number

    return parse


def number(high: float = float("inf")) -> Callable[[str], float]:
    """Return an argument type for numbers from 0 to `high` inclusive; infinity is refused."""
    bounds = "of at least 0" if high == float("inf") else f"from 0 to {high:g}"

    def parse(text: str) -> float:
        try:
            parsed = float(text)
        except ValueError:
            parsed = -1.0
        if not 0 <= parsed <= high or parsed == float("inf"):
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, got {text!r}")
        return parsed

    return parse


def instant(text: str) -> float:
    """Parse 'now' or an ISO time with a zone; return epoch seconds."""
    if text == "now":
        return float(int(time.time()))
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = datetime.min  # noqa: DTZ901 - naive on purpose, refused below like any other naive time
    if parsed.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"expected 'now' or an ISO time with a zone like 2026-11-20T16:00:00Z, got {text!r}"
        )
    return parsed.astimezone(UTC).timestamp()
