"""Reads `.env` as docker compose's `env_file` does (compose-go v2); refuses ambiguous lines, with their numbers.

python-decouple 3.8 keeps a byte order mark and `export` as part of the name and inline comments as part of the
value, and skips lines that it cannot read. python-dotenv mostly agrees with compose, but it only logs lines that
it cannot read, and it leaves `$NAME` unchanged where compose substitutes a value.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from uaharvest.errors import BadInputError

_SPACE = " \t\v\f\r"
# NAME=value up to the end of its line. A quoted value may go on in further lines.
_STATEMENT = re.compile(
    rf"[{_SPACE}]*+(?:export[ \t][{_SPACE}]*+)?+(?P<name>[A-Za-z_][A-Za-z0-9_.]*+)[{_SPACE}]*+"
    rf"(?:[=:](?P<space>[{_SPACE}]*+)"
    r"(?:(?P<quote>['\"])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\])*+)(?P=quote)(?P<tail>[^\n]*)|(?P<plain>[^\n]*)))?(?=\n|\Z)",
    re.ASCII | re.DOTALL,
)
# How compose expands escape sequences in double quotes.
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
_DOLLAR = "holds a $, where docker compose puts a variable's value. Put the value in single quotes"


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a file: its value and its first line, counted from 1; `refused` says why it is invalid."""

    value: str = dataclasses.field(repr=False)
    line: int
    refused: str = ""


class Duplicates(dict[str, list[int]]):
    """The lines of variables that a file sets to different values; the last one counts, as in compose."""


def read(path: Path) -> tuple[dict[str, Variable], Duplicates]:
    """Read a file; return nothing if it does not exist.

    Raises:
        BadInputError: The text names the file, the line and what was expected, and never shows a value.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise BadInputError(f"{path} is a link to a file that does not exist.") from None
        return {}, Duplicates()
    except IsADirectoryError:
        raise BadInputError(
            f"{path} is a directory. Expected a file; docker creates a directory in place of a missing file."
        ) from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}.") from None
    return parse(_decoded(content, path), path)


def _decoded(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise BadInputError(f"{path} is UTF-16, or not text. Expected UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].split(b"\n")
        named = re.match(rb"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*[=:]", before[-1])
        name = f" ({named[1].decode()})" if named else ""
        raise BadInputError(
            f"{path}, line {len(before)}{name}: it is not UTF-8 (Latin-1?). Save the file as UTF-8."
        ) from None
    return text.replace("\r\n", "\n")


def parse(text: str, path: Path) -> tuple[dict[str, Variable], Duplicates]:
    """Return the variables in a text by name; raises BadInputError as `read` does."""
    entries: dict[str, Variable] = {}
    duplicates = Duplicates()
    for name, entry in _statements(text, path):
        if name in entries and entries[name].value != entry.value:
            duplicates.setdefault(name, [entries[name].line]).append(entry.line)
        entries[name] = entry
    return entries, duplicates


def _statements(text: str, path: Path) -> Iterator[tuple[str, Variable]]:
    place = 0
    while place < len(text):
        line = text[place:].partition("\n")[0]
        if not line.strip() or line.lstrip(_SPACE).startswith("#"):
            place += len(line) + 1
            continue
        number = text.count("\n", 0, place) + 1
        found = _STATEMENT.match(text, place)
        if not found:
            raise BadInputError(
                f"{path}, line {number}: no variable is named before the value. Expected NAME=value."
            )
        place = found.end() + 1
        name, plain, tail = found["name"], found["plain"], (found["tail"] or "").strip()
        where = f"{path}, line {number} ({name})"
        if found["quote"]:
            if tail and not tail.startswith("#"):
                raise BadInputError(f"{where}: text follows the closing quote. Expected nothing, or a comment.")
            yield name, _quoted(found["quote"], found["quoted"], number)
        elif plain is not None:  # otherwise taken from the environment, as compose does
            if plain.startswith(("'", '"')):
                raise BadInputError(f"{where}: the quote is never closed.")
            yield name, _unquoted(plain, number, spaced=found["space"].startswith((" ", "\t")))


def _unquoted(value: str, number: int, *, spaced: bool) -> Variable:
    """Read a value up to its comment, which begins with a space and `#`."""
    value = value.partition(" #")[0].rstrip()
    refused = ""
    if spaced and value.startswith("#"):
        refused = "has a comment for a value. Put the comment on a line of its own, or the value in single quotes"
    elif re.search(r"\s#", value):
        refused = "has a # after a tab, which docker compose takes for a part of it. Put a space before the #"
    elif "$" in value:
        refused = _DOLLAR
    return Variable(value, number, refused)


def _quoted(quote: str, value: str, number: int) -> Variable:
    """Read a value in quotes; escape sequences have a meaning in double quotes only."""
    if quote == "'":
        return Variable(value.replace("\\'", "'"), number)
    refused = ""

    def expand(found: re.Match[str]) -> str:
        nonlocal refused
        if found[0] == "$":
            refused = _DOLLAR
        elif found[1] in set("abcfv0"):
            refused = "has a backslash that docker compose takes for an escape. Use single quotes"
        return _ESCAPES.get(found[1], found[0])

    return Variable(re.sub(r"\\(.)|\$", expand, value, flags=re.DOTALL), number, refused)
