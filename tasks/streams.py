"""The tasks of every stream: `advance` is the coordinator, `fetch` processes one slice of its fan-out."""

import functools
import gc
import random
from datetime import UTC, datetime

from tasks.app import app
from tasks.engines import CeleryHints, HarvestTask
from uaharvest import assembly, settings
from uaharvest.errors import PutOffError
from uaharvest.runs.engine import Engine
from uaharvest.streams import registry
from uaharvest.streams.spec import StreamSpec

# Seconds that a task goes on with slices of its run. Then messages of other streams have their turn.
AT_ONCE = 5.0


class StreamTasks:
    """The two tasks of a stream.

    Attributes:
        advance: The task `NAME.advance`.
        fetch: The task that processes one slice, usually `NAME.fetch`.
        hints: Sends messages for both.
    """

    def __init__(self, spec: StreamSpec) -> None:
        """Register the tasks."""
        self._spec = spec
        task = functools.partial(app.task, base=HarvestTask, stream=spec.name, trail=False)
        every = settings.current().every
        self.advance = task(name=spec.advance_task, place="opening", every=every)(self._advance)
        self.fetch = task(name=spec.fetch_task, place="working")(self._fetch)
        self.hints = CeleryHints(self.advance, self.fetch)

    @functools.cached_property
    def engine(self) -> Engine:
        """This process's engine, created by the first task, after the pool has forked.

        Raises:
            HarvestError: A service that it must query first does not answer, or a person must change something.
        """
        made = assembly.engine(self._spec.name, settings.current(), self.hints)
        # Everything created so far lives as long as the process. Without freeze, the garbage collector would scan
        # all of it again for each page of rows, which takes 70 ms each time.
        gc.freeze()
        # A page of rows allocates thousands of objects without a cycle, so looking for cycles is only worth it rarely.
        gc.set_threshold(20_000)
        return made

    def _advance(self, *, run_id: str | None = None) -> str:
        """Advance the stream, or one explicit run, as far as possible, and send hints for the slices to fetch."""
        try:
            if run_id is None:
                return self.engine.advance()
            # Ending an explicit run must not open a live window.
            return self.engine.advance_explicit(run_id)
        except PutOffError as error:
            self._wake(error.due, run_id)
            raise

    def _fetch(self, run_id: str, slice_id: str) -> str:
        """Fetch and deliver a slice, and further ones for a while."""
        said = self.engine.work(run_id, slice_id, seconds=AT_ONCE)
        if self._spec.wakes_within is None:
            return said
        due = self.engine.ledger.next_due(run_id)
        if due is not None and due > datetime.now(UTC):  # all remaining slices wait, nothing else triggers them
            self._wake(due, None)
        return said

    def _wake(self, due: datetime, run_id: str | None) -> None:
        """Schedule `advance` at `due`, at most once a second, if the stream uses this and `due` is soon."""
        wait = (due - datetime.now(UTC)).total_seconds()
        if self._spec.wakes_within is None or wait > self._spec.wakes_within:
            return
        wait = max(wait, 0.0) + random.uniform(0.05, 0.5)  # noqa: S311 - not a secret
        if self.engine.state.wakes(run_id, due, wait=wait):
            self.advance.apply_async(kwargs={"run_id": run_id}, countdown=wait)


TASKS = {spec.name: StreamTasks(spec) for spec in registry.specs()}
