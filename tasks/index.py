"""The indexer: `drain` takes the queue's useractions into the document store."""

import functools

import redis
import structlog

from tasks.app import app
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError
from uaharvest.indexer import Indexer

# Of a drain that beat asks for: it ends before the next minute's. That of a person has as long as a task may take.
TICK = 55.0
ASKED = 600.0

log = structlog.get_logger()


@functools.cache
def indexer() -> Indexer:
    """Return this process's indexer; made at the first task, after the pool has forked.

    Raises:
        BadInputError: A setting is missing; it stands on the stream, for status.
    """
    try:
        return assembly.indexer(settings.current())
    except HarvestError as error:
        assembly.board(settings.current()).block(error)
        raise


@app.task(name="index.drain", trail=False)
def drain(*, seconds: float = TICK) -> None:
    """Index until the queue is empty, or for so long."""
    try:
        indexer().drain(seconds)
    except (HarvestError, redis.RedisError) as error:
        log.warning("indexing stopped, the next tick goes on", reason=str(error))
