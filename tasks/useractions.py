"""Useractions: `advance` is the coordinator, `fetch` one slice of its fan-out."""

import functools

import redis
import structlog

from tasks.app import app
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import Ledger

log = structlog.get_logger()


class CeleryHints:
    """Hints as Celery messages."""

    def advance(self) -> None:
        """Send a message that asks for `advance`."""
        advance.delay()

    def work(self, run_id: str, slice_id: str) -> None:
        """Send a message that asks for one slice."""
        fetch.delay(run_id, slice_id)


@functools.cache
def engine() -> Engine:
    """Return this process's engine; made at the first task, after the pool has forked.

    Raises:
        BadInputError: A setting is missing; it stands on the stream, for status.
    """
    try:
        return assembly.useractions(settings.current(), CeleryHints())
    except HarvestError as error:
        ledger().block("opening", str(error), error.exit_code)
        raise


@functools.cache
def ledger() -> Ledger:
    """Return this process's ledger, which needs no more than Redis."""
    return assembly.ledger(settings.current())


@app.task(name="useractions.advance", trail=False)
def advance(*, tick: bool = False) -> None:
    """Take the stream as far as it goes, and send hints for what there is to fetch; `tick` if beat asks."""
    try:
        if tick:
            ledger().tick()
        engine().advance()
    except (HarvestError, redis.RedisError) as error:
        log.warning("advance failed, the next tick tries again", reason=str(error))


@app.task(name="useractions.fetch", trail=False)
def fetch(run_id: str, slice_id: str) -> None:
    """Fetch and deliver one slice."""
    try:
        engine().work(run_id, slice_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("slice not worked at, it is due again when its lease ends", reason=str(error))
