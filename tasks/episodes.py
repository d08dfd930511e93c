"""Episodes: `advance` is the coordinator, `fetch` one slice of its fan-out."""

import functools

import redis
import structlog

from tasks.app import app
from tasks.engines import CeleryHints, opened
from uaharvest.errors import HarvestError
from uaharvest.runs.engine import Engine
from uaharvest.streams.episodes import Episodes

log = structlog.get_logger()


@functools.cache
def engine() -> Engine:
    """Return this process's engine, made at the first task."""
    return opened(Episodes.name, hints)


@app.task(name="episodes.advance", trail=False)
def advance(*, run_id: str | None = None) -> None:
    """Take the stream, or one explicit run, as far as it goes, and send hints for what there is to fetch."""
    try:
        if run_id is None:
            engine().advance()
        else:
            engine().advance_asked(run_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("advance failed, the next tick tries again", reason=str(error))


@app.task(name="episodes.fetch", trail=False)
def fetch(run_id: str, slice_id: str) -> None:
    """Look up the episodes of one slice and write them."""
    try:
        engine().work(run_id, slice_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("slice not worked at, it is due again when its lease ends", reason=str(error))


hints = CeleryHints(advance, fetch)
