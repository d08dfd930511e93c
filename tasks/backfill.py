"""The tasks of backfills: `tick` looks whether there is one; `advance` and `fetch` work on those of a stream."""

import functools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tasks.app import app
from tasks.engines import CeleryHints, HarvestTask
from uaharvest import assembly, settings
from uaharvest.errors import PutOffError
from uaharvest.runs.backfiller import Backfiller, close_old
from uaharvest.runs.backfills import Backfills
from uaharvest.runs.ledger import Ledger
from uaharvest.streams import registry
from uaharvest.streams.backfill import backfiller, destinations
from uaharvest.streams.spec import StreamSpec

# Seconds. A longer wait is left to beat's ticks, because a delayed message stays in one worker's memory.
WAKES_WITHIN = 300.0


class BackfillTasks:
    """The tasks of a stream's backfills.

    Attributes:
        advance: The task `backfill.NAME.advance`.
        fetch: The tasks that process one slice, by destination: `backfill.NAME.fetch_to_queue` and so on.
        hints: Sends messages for these tasks, by destination.
    """

    def __init__(self, spec: StreamSpec) -> None:
        """Register the tasks."""
        self._spec = spec
        task = functools.partial(app.task, base=HarvestTask, stream=assembly.backfills_of(spec.name), trail=False)
        self.advance = task(name=f"{assembly.BACKFILL}.{spec.name}.advance", place="opening")(self._advance)
        self.fetch = {
            to: task(name=f"{assembly.BACKFILL}.{spec.name}.fetch_to_{to}", place="working")(self._fetcher(to))
            for to in destinations(spec)
        }
        self.hints = {to: CeleryHints(self.advance, fetch) for to, fetch in self.fetch.items()}
        self._backfillers: dict[str, Backfiller[Any, Any, Any]] = {}

    @functools.cached_property
    def stored(self) -> Backfills:
        """The stream's backfills."""
        return assembly.backfills(settings.current(), self._spec.name)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger of the stream's backfills."""
        return assembly.ledger(settings.current(), stream=assembly.backfills_of(self._spec.name))

    def _backfiller(self, to: str) -> Backfiller[Any, Any, Any]:
        if to not in self._backfillers:
            self._backfillers[to] = backfiller(self._spec.name, settings.current(), self.hints[to], to)
        return self._backfillers[to]

    def _advance(self, *, run_id: str | None = None) -> str:
        """Advance the backfills, or only that of a run, as far as possible, and send hints for the slices to fetch."""
        running = {one.to for one in self.stored.read().values() if one.state == "running"}
        said = []
        for to in sorted(running & self.fetch.keys()):
            try:
                said.append(self._backfiller(to).advance(run_id))
            except PutOffError as error:
                self._wake(to, error.due, run_id)
                raise
        return "; ".join(said) or "no backfill is running"

    def _fetcher(self, to: str) -> Callable[[str, str], str]:
        def fetch(run_id: str, slice_id: str) -> str:
            """Fetch and deliver one slice."""
            said = self._backfiller(to).work(run_id, slice_id)
            if (due := self._backfiller(to).wakes_at(run_id)) is not None:
                self._wake(to, due, run_id)
            return said

        return fetch

    def _wake(self, to: str, due: datetime, run_id: str | None) -> None:
        """Schedule `advance` at `due`, at most once a second."""
        wait = (due - datetime.now(UTC)).total_seconds()
        if wait > WAKES_WITHIN:
            return
        wait = max(wait, 0.0) + random.uniform(0.05, 0.5)  # noqa: S311 - no secret
        if self._backfiller(to).state.wakes(run_id, due, wait=wait):
            self.advance.apply_async(kwargs={"run_id": run_id}, countdown=wait)


TASKS = {spec.name: BackfillTasks(spec) for spec in registry.specs()}


@app.task(
    name="backfill.tick",
    base=HarvestTask,
    stream=assembly.BACKFILL,
    place="opening",
    every=settings.current().every,
    trail=False,
)
def tick() -> str:
    """Send `advance` where a backfill is running; it continues from what S3 has, even if Redis has lost its data.

    Windows that were left open are closed, also if no backfill is running any more.
    """
    running = 0
    for spec in registry.enabled(settings.current()):
        tasks = TASKS[spec.name]
        open_ = tasks.ledger.explicit()
        stored = tasks.stored.read().values()
        close_old(tasks.ledger, open_, stored)
        if any(one.state == "running" for one in stored):
            tasks.advance.delay()
            running += 1
    return f"{running} streams with backfills"
