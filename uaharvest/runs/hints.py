"""Hints: messages that tell workers what there may be to do."""

from typing import Protocol

from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.state import StreamState

# Most hints that an `advance` sends for a run. Each worker that has worked on one sends another, so soon all are busy.
# More hints would cost more: a worker that has time goes on with slices for which there is no hint.
HINTS = 4


class Hints(Protocol):
    """Sends hints to the workers. A lost hint costs one tick; an extra hint does no harm."""

    def advance(self, run_id: str | None) -> None:
        """Ask for the stream's `advance`, or with `run_id` for that of one explicit run only."""

    def work(self, run_id: str, slice_id: str) -> None:
        """Ask a worker to work on a slice."""


def publish(ledger: Ledger, state: StreamState, hints: Hints, run: Run, most: int) -> None:
    """Send hints for up to `most` slices of a run that are due and were not hinted recently."""
    slices = taken(ledger, state, run, most)
    for sent, slice_id in enumerate(slices):
        try:
            hints.work(run.id, slice_id)
        except Exception:
            ledger.unhint(run.id, slices[sent:])  # else they are not sent again for the length of a lease
            raise


def taken(ledger: Ledger, state: StreamState, run: Run, most: int) -> list[str]:
    """Take up to `most` slices of a run that are due and were not hinted recently."""
    # While the stream is blocked, one slice per tick tests whether that is fixed.
    standing = {failure.place for failure in state.failures() if failure.blocks}
    if "working" in standing or ("index" in standing and ledger.foremost(run.id)):
        most = 1 if most > 1 else 0
    return ledger.take(run.id, most)
