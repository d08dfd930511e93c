"""The indexer's task: `drain` moves useractions from the queue to the document store."""

import functools

from tasks.app import app
from tasks.engines import HarvestTask
from uaharvest import assembly, settings
from uaharvest.indexer import STREAM, Indexer
from uaharvest.plain import counted

# The time limit of a drain requested by a person, in seconds.
ASKED = 600.0
# A drain triggered by beat ends before the next one.
SHORT = settings.INDEX_EVERY - 5.0


@functools.cache
def indexer() -> Indexer:
    """Return this process's indexer, created by the first task, after the pool has forked.

    Raises:
        BadInputError: A setting is missing.
    """
    return assembly.indexer(settings.current())


@app.task(
    name="index.drain", base=HarvestTask, stream=STREAM, place="working", every=settings.INDEX_EVERY, trail=False
)
def drain(*, seconds: float = SHORT) -> str:
    """Index until the queue is empty, or until `seconds` have passed."""
    tally = indexer().drain(seconds)
    dead_letters = f", {counted(tally.dead, 'dead letter')}" if tally.dead else ""
    return f"{tally.indexed:,} indexed{dead_letters}"
