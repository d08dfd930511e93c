"""A harvest that was opened: hands it to the workers and follows it to the end."""

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime
from typing import Self

import redis

from uaharvest.errors import BlockedError, BusyError, RetryableError
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.ledger import Run
from uaharvest.runs.local import raise_if_blocked
from uaharvest.runs.state import reason_of
from uaharvest.runs.watch import LiveWatch, RunWatch, Snapshot, Watch

POLL = 0.25  # seconds between two polls of the ledger
# Seconds. An earlier block may be fixed by now: a slice that succeeds has this long to clear it.
HEALING = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An explicit run, or the live runs up to an instant.

    Attributes:
        engine: The stream's engine.
        options: Options of the live runs that will be opened.
        start, end: The interval to harvest. If the end is not after the start, there is nothing to do yet.
        expected: Approximate number of rows according to the source; 0 if it cannot count them.
        watch: Reads the progress.
        run: The explicit run; None for live runs.
    """

    engine: Engine
    options: Options
    start: datetime
    end: datetime
    expected: int
    watch: Watch
    run: Run | None = None

    @classmethod
    def explicit(cls, engine: Engine, options: Options, run: Run) -> Self:
        """Create it for an open explicit run."""
        return cls(
            engine=engine,
            options=options,
            start=run.requested.start,
            end=run.requested.end,
            expected=run.expected,
            watch=RunWatch(engine.ledger, engine.state, run, engine.stream.longest_window),
            run=run,
        )

    @classmethod
    def live(cls, engine: Engine, options: Options, since: datetime, until: datetime, expected: int) -> Self:
        """Create it for the live runs that move the watermark from `since` to `until`."""
        watch = LiveWatch(
            engine.ledger,
            engine.state,
            engine.store(),
            since=since,
            until=until,
            expected=expected,
            max_window=engine.stream.longest_window,
        )
        return cls(engine=engine, options=options, start=since, end=until, expected=expected, watch=watch)


def hand_over(opened: Opened) -> str | None:
    """Hand what was opened to the workers.

    Returns:
        Why the workers will start on an explicit run only at beat's next tick; None if they start now.

    Raises:
        BlockedError: A person must change something first; an explicit run stays open.
        RetryableError: A service does not answer, and this is not an explicit run.
    """
    try:
        if opened.run is None:
            opened.engine.advance(opened.options)
        else:
            opened.engine.advance_explicit(opened.run.id)
    except BusyError:
        pass  # a worker is already doing it
    except (RetryableError, redis.RedisError) as error:
        if opened.run is None:
            raise
        return reason_of(error)
    except BlockedError as error:
        if opened.run is None:
            raise
        raise BlockedError(
            f"run {opened.run.id[:8]} is open and will continue once this is fixed: {error}"
        ) from None
    return None


def follow(opened: Opened, show: Callable[[Snapshot], None]) -> Snapshot:
    """Follow the workers' progress until the end; return the last snapshot.

    Args:
        opened: What to follow.
        show: Called with each snapshot.

    Raises:
        HarvestError: It cannot continue: blocked, span refused, run lost.
    """
    state = opened.engine.state
    fine = time.monotonic()
    while not (snapshot := opened.watch.poll()).ended:
        show(snapshot)
        # A failure to open live windows does not concern an explicit run.
        blocked = state.blocked("working" if opened.run else None)
        if not blocked:
            fine = time.monotonic()
        elif time.monotonic() - fine > HEALING:
            raise_if_blocked(blocked)
        time.sleep(POLL)
    show(snapshot)
    return snapshot
