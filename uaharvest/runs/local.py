"""Works on a run in this process, with the same calls that workers make."""

import collections
import time
from collections.abc import Callable

from uaharvest.errors import BlockedError, BusyError, Exit, HarvestError, SpanRefusedError
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.ledger import Run
from uaharvest.runs.state import Failure
from uaharvest.runs.watch import Snapshot, Watch

# Seconds between polls while other workers hold the remaining slices, or these are not yet due.
POLL = 0.2
# Seconds between polls while another worker plans the window; each poll asks the source for its clock.
PLANNED = 2.0


class LocalHints:
    """Queues hints for this process."""

    def __init__(self) -> None:
        self.waiting: collections.deque[tuple[str, str]] = collections.deque()

    def advance(self, run_id: str | None) -> None:
        """Do nothing: `drive` advances by itself."""

    def work(self, run_id: str, slice_id: str) -> None:
        """Queue the hint."""
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
    """Advance and work until `watch` reports the end; return the last snapshot.

    Args:
        engine: Built with `hints`.
        hints: Receives the engine's hints.
        watch: Watches the explicit run, or the live runs up to an instant.
        run: The explicit run; None for live runs.
        options: Options of the live runs that are opened.
        show: Called with each new snapshot.

    Raises:
        HarvestError: It cannot continue: blocked, span refused, run lost.
    """
    while True:
        pause = POLL
        try:
            if run is None:
                engine.advance(options)
            else:
                engine.advance_explicit(run.id)
        except BusyError:
            pause = PLANNED
        while hints.waiting:
            engine.work(*hints.waiting.popleft())
            show(watch.poll())
            if run is None or run.kind != "private":
                raise_if_blocked(engine.state.blocked("working"))
        snapshot = watch.poll()
        show(snapshot)
        if snapshot.ended:
            return snapshot
        time.sleep(pause)


def raise_if_blocked(failure: Failure | None) -> None:
    """Raise a stream's failure as the error that caused it; do nothing if there is none."""
    if failure:
        kinds: dict[int, type[HarvestError]] = {Exit.SPAN_REFUSED.value: SpanRefusedError}
        raise kinds.get(failure.exit_code, BlockedError)(failure.reason)
