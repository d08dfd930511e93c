"""The Celery functions that commands use."""

from collections.abc import Mapping
from typing import Any, Protocol

from uaharvest import broker
from uaharvest.runs.engine import Hints


class Workers(broker.Workers, Protocol):
    """What Celery knows and does; see `tasks.workers`."""

    def hints(self, stream: str = "useractions") -> Hints:
        """Return a stream's hints, which are sent to the workers."""
        ...

    def backfill_hints(self, stream: str, to: str) -> Hints:
        """Return the hints for the backfills of a stream to a destination."""
        ...

    def about(self, within: float = ...) -> Mapping[str, Mapping[str, Any]] | None:
        """Return what each responding worker says of itself; see `tasks.about`. None if workers cannot be queried."""
        ...

    def drain_index(self, indexers: int) -> None:
        """Let this many workers index until the queue is empty."""
        ...
