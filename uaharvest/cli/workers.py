"""The Celery functions that commands use."""

from typing import Protocol

from uaharvest.broker import ReportingWorkers
from uaharvest.runs.engine import Hints


class CeleryWorkers(ReportingWorkers, Protocol):
    """What Celery knows and does; see `tasks.workers`."""

    def hints(self, stream: str = "useractions") -> Hints:
        """Return a stream's hints, which are sent to the workers."""
        ...

    def backfill_hints(self, stream: str, to: str) -> Hints:
        """Return the hints for the backfills of a stream to a destination."""
        ...

    def drain_index(self, indexers: int) -> None:
        """Let this many workers index until the queue is empty."""
        ...
