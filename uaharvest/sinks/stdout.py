"""Prints records as JSON lines, for pipes or inspection."""

import contextlib
import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.sinks import Outgoing, Receipt

_CHUNK = 500  # records between two flushes: writing each one alone would cost more than producing it


class StdoutSink:
    """Writes one record per line; flushed records are confirmed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Receipt[Outgoing]]:
        """Write all `records`; yield each chunk once it is flushed.

        Raises:
            HarvestError: The pipe's reader has closed it, the disk is full, or stdout is closed.
        """
        remaining = iter(records)
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            _write_lines(self._stream, (record.body for record in chunk))
            yield Receipt(confirmed=chunk)


class StdoutStore:
    """Writes one document per line, as `documents export` does; an update has only the changed fields."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, documents: Iterable[Document]) -> Iterator[Receipt[Document]]:
        """Write all `documents` and flush them.

        Raises:
            HarvestError: The pipe's reader has closed it, the disk is full, or stdout is closed.
        """
        chunk = list(documents)
        lines = ({"_index": one.index, "_id": one.id, **one.body} for one in chunk)
        _write_lines(self._stream, (json.dumps(line) for line in lines))
        yield Receipt(confirmed=chunk)


def opened(stream: TextIO | None) -> TextIO:
    """Return `sys.stdout`, given as `stream`.

    Raises:
        HarvestError: It is closed (`>&-`), so Python has None in its place, and would drop what is printed there.
    """
    if stream is None:
        raise HarvestError(f"stdout cannot be written ({os.strerror(errno.EBADF)}). Send it to a file or a pipe.")
    return stream


def _write_lines(stream: TextIO | None, lines: Iterable[str]) -> None:
    stream = opened(stream)
    try:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: it was closed in this process
        _give_up(stream)
        if isinstance(error, BrokenPipeError):
            what = "stdout was closed by its reader before all records were written."
        else:
            what = f"stdout cannot be written ({getattr(error, 'strerror', None) or 'it is closed'})."
        raise HarvestError(
            f"{what} The others will be harvested again. Read all of the output, or write to a disk with space."
        ) from None


def _give_up(stream: TextIO) -> None:
    """Redirect what is still buffered to /dev/null: otherwise it would fail again when the interpreter exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
