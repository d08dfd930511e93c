"""Records as JSON lines, for a pipe or a look at them."""

import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from uaharvest.errors import HarvestError
from uaharvest.sinks import Delivery, Outgoing

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
                self._write(chunk)
                yield Delivery(confirmed=chunk)
                chunk = []
        if chunk:
            self._write(chunk)
            yield Delivery(confirmed=chunk)

    def _write(self, chunk: list[Outgoing]) -> None:
        try:
            self._stream.write("".join(f"{record.body}\n" for record in chunk))
            self._stream.flush()
        except BrokenPipeError:
            # What is still buffered would fail once more, noisily, when the interpreter exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            raise HarvestError(
                "stdout was closed by its reader before all records were written."
                " Those that were not are harvested again; read to the end, or write to a file."
            ) from None
