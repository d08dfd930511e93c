"""Files that appear as a whole or not at all, and rows as CSV."""

import contextlib
import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from uaharvest import unfinished
from uaharvest.errors import BadInputError
from uaharvest.plain import cell
from uaharvest.sinks.stdout import opened


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, and move it there if the block succeeds; otherwise remove it.

    Raises:
        BadInputError: It cannot be created.
    """
    with contextlib.ExitStack() as stack:
        try:
            new = stack.enter_context(unfinished.folder(path.parent)) / "new"
            new.touch()
        except OSError as error:
            raise BadInputError(f"{path}: {error.strerror}. Expected a file that can be written.") from None
        yield new
        unfinished.put(new, path)


@contextlib.contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """Yield a text file that appears at `path` if the block succeeds; without a path, yield stdout.

    Raises:
        BadInputError: The file cannot be created.
        HarvestError: stdout is closed.
    """
    if path is None:
        yield opened(sys.stdout)
        return
    with replaced(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as CSV, with a header; return their number. None is an empty cell."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
        count += 1
    return count
