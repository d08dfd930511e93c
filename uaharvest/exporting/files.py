"""Files that appear as a whole or not at all, and rows as CSV."""

import contextlib
import csv
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from uaharvest.errors import BadInputError
from uaharvest.plain import cell


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, and give it this name if the block succeeds; otherwise remove it.

    Raises:
        BadInputError: It cannot be created.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}. Expected a file that can be written.") from None
    try:
        yield new
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """Yield a text file that appears at `path` if the block succeeds; without a path, yield stdout."""
    if path is None:
        yield sys.stdout
        return
    with replaced(path) as new, new.open("w", encoding="utf-8", newline="") as opened:
        yield opened


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as CSV, with a header; return their number. None is an empty cell."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
        count += 1
    return count
