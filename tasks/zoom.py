"""Zoom: `advance` is the coordinator and reads the lists, `fetch_meeting` fetches one meeting's participants."""

import functools
import random
from datetime import UTC, datetime

import redis
import structlog

from tasks.app import app
from tasks.engines import CeleryHints, opened
from uaharvest.errors import HarvestError, PutOffError
from uaharvest.runs.engine import Engine
from uaharvest.runs.ledger import PREFIX
from uaharvest.streams.zoom import Meetings

# What waits for a quota's next second or minute is asked for when that comes, not at the next tick. A message that
# waits for its time stays in one worker's memory: the next day's quota is left to the ticks.
SOON = 120.0

log = structlog.get_logger()


@functools.cache
def engine() -> Engine:
    """Return this process's engine, made at the first task."""
    return opened(Meetings.name, hints)


@app.task(name="zoom.advance", trail=False)
def advance(*, run_id: str | None = None) -> None:
    """Take the stream, or one explicit run, as far as it goes, and send hints for what there is to fetch."""
    try:
        if run_id is None:
            engine().advance()
        else:
            engine().advance_asked(run_id)
    except PutOffError as error:
        log.info("lists put off", reason=str(error))
        _wake(error.due, run_id)
    except (HarvestError, redis.RedisError) as error:
        log.warning("advance failed, the next tick tries again", reason=str(error))


@app.task(name="zoom.fetch_meeting", trail=False)
def fetch_meeting(run_id: str, slice_id: str) -> None:
    """Fetch the participants of one meeting and write them."""
    try:
        engine().work(run_id, slice_id)
        due = engine().ledger.next_due(run_id)
        if due is not None and due > datetime.now(UTC):  # all that is left waits, and nobody else is told of it
            _wake(due, None)
    except (HarvestError, redis.RedisError) as error:
        log.warning("slice not worked at, it is due again when its lease ends", reason=str(error))


hints = CeleryHints(advance, fetch_meeting)


def _wake(due: datetime, run_id: str | None) -> None:
    """Ask for `advance` at `due`, once a second."""
    wait = (due - datetime.now(UTC)).total_seconds()
    if wait > SOON:
        return
    wait = max(wait, 0.0) + random.uniform(0.05, 0.5)  # noqa: S311 - no secret
    once = f"{PREFIX}zoom:wake:{run_id}:{int(due.timestamp())}"
    if engine().ledger.redis.set(once, "", nx=True, px=int(wait * 1000)):
        advance.apply_async(kwargs={"run_id": run_id}, countdown=wait)
