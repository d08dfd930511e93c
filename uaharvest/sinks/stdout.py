"""Records as JSON lines, for a pipe or a look at them."""

import json
import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from uaharvest.errors import HarvestError
from uaharvest.sinks import Delivery, Outgoing
from uaharvest.sinks.documents import Document, Written

_CHUNK = 500  # records between two flushes: a write each would cost more than the records themselves


class StdoutSink:
    """Writes one record a line; what was flushed is confirmed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Delivery]:
        """Write all `records`, yield each chunk once it is flushed.

        Raises:
            HarvestError: The reader of the pipe has gone.
        """
        chunk: list[Outgoing] = []
        for record in records:
            chunk.append(record)
            if len(chunk) == _CHUNK:
                _write_lines(self._stream, (record.body for record in chunk))
                yield Delivery(confirmed=chunk)
                chunk = []
        if chunk:
            _write_lines(self._stream, (record.body for record in chunk))
            yield Delivery(confirmed=chunk)


class StdoutStore:
    """Writes one document a line, as `documents export` does; an update has only the fields that it brings."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, documents: Iterable[Document]) -> Iterator[Written]:
        """Write all `documents`, and flush them.

        Raises:
            HarvestError: The reader of the pipe has gone.
        """
        chunk = list(documents)
        lines = ({"_index": one.index, "_id": one.id, **one.body} for one in chunk)
        _write_lines(self._stream, (json.dumps(line) for line in lines))
        yield Written(confirmed=chunk)


def _write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    try:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
    except BrokenPipeError:
        # What is still buffered would fail once more, noisily, when the interpreter exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise HarvestError(
            "stdout was closed by its reader before all records were written."
            " Those that were not are harvested again; read to the end, or write to a file."
        ) from None
