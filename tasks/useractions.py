"""Useractions: `advance` is the coordinator, `fetch` one slice of its fan-out."""

import functools
import gc

import redis
import structlog

from tasks.app import app
from tasks.engines import CeleryHints, opened
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger
from uaharvest.streams.useractions import Useractions

log = structlog.get_logger()


@functools.cache
def engine() -> Engine:
    """Return this process's engine, made at the first task."""
    made = opened(Useractions.name, hints)
    # What is there by now stays as long as the process. Each page of rows makes the collector look through all of
    # it again, 70 ms at a time, if it is not told.
    gc.freeze()
    return made


@functools.cache
def ledger() -> Ledger:
    """Return this process's ledger, which needs no more than Redis."""
    return assembly.ledger(settings.current())


@app.task(name="useractions.advance", trail=False)
def advance(*, tick: bool = False, run_id: str | None = None) -> None:
    """Take the stream, or one explicit run, as far as it goes, and send hints for what there is to fetch.

    Args:
        tick: Beat asks.
        run_id: Of an explicit run: its end opens no live window, where perhaps nobody wants one.
    """
    try:
        if tick:
            ledger().tick()
        if run_id is None:
            engine().advance()
        else:
            engine().advance_asked(run_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("advance failed, the next tick tries again", reason=str(error))


@app.task(name="useractions.fetch", trail=False)
def fetch(run_id: str, slice_id: str) -> None:
    """Fetch and deliver one slice."""
    try:
        engine().work(run_id, slice_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("slice not worked at, it is due again when its lease ends", reason=str(error))


hints = CeleryHints(advance, fetch)
