"""Makes foreign text safe to show.

On a terminal it cannot move the cursor, change colours or hide other text. A spreadsheet does not run it.
"""

import re
from typing import Any

# Spreadsheets run a cell as a formula if it begins with one of these, even behind white space.
_FORMULA = re.compile(r"\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def one_line(text: object) -> str:
    r"""Return a text on one line, with unprintable characters escaped: `\x1b`, `\n`, `\u202e`.

    These are control and format characters (including bidirectional ones), line separators and lone surrogates.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def lines(text: object) -> str:
    """Return a text of several lines, with each line escaped as by `one_line`."""
    return "\n".join(one_line(line) for line in str(text).split("\n"))


def counted(number: int, what: str) -> str:
    """Return a number of things, such as `1 row` or `2,000 rows`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def cell(value: Any) -> Any:
    """Return a cell of a CSV file that no spreadsheet runs: text that would be a formula gets an apostrophe first."""
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
