"""What the streams' tasks have in common: hints as Celery messages, and how a worker comes by its engine."""

from celery import Task

from uaharvest import assembly, settings
from uaharvest.errors import HarvestError, RetryableError
from uaharvest.runs.engine import Engine


class CeleryHints:
    """Hints as Celery messages."""

    def __init__(self, advance: Task, work: Task) -> None:
        """Send messages for these tasks of a stream."""
        self._advance = advance
        self._work = work

    def advance(self, run_id: str | None) -> None:
        """Send a message that asks for `advance`, or with `run_id` for that of one explicit run only."""
        self._advance.delay(run_id=run_id)

    def work(self, run_id: str, slice_id: str) -> None:
        """Send a message that asks for one slice."""
        self._work.delay(run_id, slice_id)


def opened(stream: str, hints: CeleryHints) -> Engine:
    """Return the engine of a stream; to be called after the pool has forked.

    Raises:
        RetryableError: What it must ask first does not answer; the next task tries again.
        HarvestError: A person must change something; it stands on the stream, for status.
    """
    configured = settings.current()
    try:
        return assembly.engine(stream, configured, hints)
    except RetryableError:
        raise
    except HarvestError as error:
        assembly.ledger(configured, stream=stream).block("opening", str(error), error.exit_code)
        raise
