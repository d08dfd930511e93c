"""Works at a run in this process, with the same calls that workers make."""

import collections
import time
from collections.abc import Callable

from uaharvest.errors import BlockedError, BusyError, Exit, HarvestError, SpanRefusedError
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.ledger import Run
from uaharvest.runs.watch import Snapshot, Watch

# While other workers hold the slices that are left, or these wait for their time.
POLL = 0.2
# While another worker plans the window: each look asks the source for its clock.
PLANNED = 2.0


class LocalHints:
    """Keeps hints for this process."""

    def __init__(self) -> None:
        self.waiting: collections.deque[tuple[str, str]] = collections.deque()

    def advance(self, run_id: str | None) -> None:
        """Do nothing: `drive` advances by itself."""

    def work(self, run_id: str, slice_id: str) -> None:
        """Keep the hint."""
        self.waiting.append((run_id, slice_id))


def drive(
    engine: Engine,
    hints: LocalHints,
    watch: Watch,
    *,
    run: Run | None,
    options: Options,
    show: Callable[[Snapshot], None],
) -> Snapshot:
    """Advance and work until what `watch` looks at has ended; return its last state.

    Args:
        engine: Made with `hints`.
        hints: Where the engine leaves what there is to do.
        watch: The run, or the live runs up to an instant.
        run: The explicit run; None for the live ones.
        options: For live runs that are opened.
        show: Called with each new state.

    Raises:
        HarvestError: What stops it: blocked, span refused, run lost.
    """
    while True:
        pause = POLL
        try:
            if run is None:
                engine.advance(options)
            else:
                engine.advance_asked(run.id)
        except BusyError:
            pause = PLANNED
        while hints.waiting:
            engine.work(*hints.waiting.popleft())
            show(watch.poll())
            if run is None or run.kind != "private":
                raise_if_blocked(engine.ledger.blocked("working"))
        snapshot = watch.poll()
        show(snapshot)
        if snapshot.ended:
            return snapshot
        time.sleep(pause)


def raise_if_blocked(entry: "dict[str, object] | None") -> None:
    """Raise what stands on a stream as the error that it was."""
    if entry:
        kinds: dict[object, type[HarvestError]] = {Exit.SPAN_REFUSED.value: SpanRefusedError}
        raise kinds.get(entry["exit_code"], BlockedError)(str(entry["reason"]))
