"""Decides the next step of a run; pure functions."""

import dataclasses

from uaharvest.runs.ledger import Run
from uaharvest.runs.watermark import Stored

MOVED = "source or destination was changed meanwhile"
COMMITTED = "the watermark moved to its end"
STAYS = "the watermark stays: it was moved meanwhile"
SUPERSEDED = "the watermark was moved meanwhile; its rows are harvested again"


@dataclasses.dataclass(frozen=True, slots=True)
class Open:
    """No live run is open: open the window after the watermark, or write the first watermark."""

    stored: Stored | None


@dataclasses.dataclass(frozen=True, slots=True)
class Publish:
    """Slices are outstanding: send hints for those that are due."""

    run: Run


@dataclasses.dataclass(frozen=True, slots=True)
class NextWindow:
    """A window of an explicit run is delivered: continue with the next one."""

    run: Run


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """The whole run is delivered: move the watermark to its end, unless somebody else moves it first."""

    run: Run
    stored: Stored


@dataclasses.dataclass(frozen=True, slots=True)
class Void:
    """Drop the rest of the run."""

    run: Run
    note: str


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """The run is done and does not move the watermark."""

    run: Run
    note: str = ""


NextStep = Open | Publish | NextWindow | Commit | Void | Close


def next_step(run: Run | None, stored: Stored | None, destination: str) -> NextStep:
    """Return the next step, for live and explicit runs alike.

    A live run becomes void, and publishes nothing more, as soon as the watermark differs from the one it was opened
    with. An explicit run still sends everything that was requested, but then does not move the watermark.

    Args:
        run: The run from the ledger; None if there is no live run.
        stored: The watermark; None if there is none, or if `depends_on_watermark` is false.
        destination: Digest of the current source and destination.
    """
    if run is None:
        return Open(stored)
    live = run.kind == "live"
    if live and not _is_current(run, stored):
        # A process may have committed the run and died before it closed it here.
        return Close(run) if _is_committed(run, stored) else Void(run, SUPERSEDED)
    if run.destination != destination:
        return Void(run, f"{MOVED}; {'its rows are harvested again' if live else 'ask for it again'}")
    if run.outstanding:
        return Publish(run)
    if not run.finished:
        again = "the window is harvested again" if live else "ask for it again"
        return Void(run, f"its ledger does not add up; {again}")
    return NextWindow(run) if run.window.end < run.requested.end else _last_step(run, stored)


def _last_step(run: Run, stored: Stored | None) -> Commit | Close:
    if run.etag is None:
        return Close(run)
    if _is_committed(run, stored):
        return Close(run, COMMITTED)
    if stored is None or not _is_current(run, stored):
        return Close(run, STAYS)
    return Commit(run, stored)


def depends_on_watermark(run: Run | None, destination: str) -> bool:
    """Tell whether the next step depends on the watermark.

    An explicit run needs the watermark only at its end, so it can continue while S3 is down, or without a bucket.
    """
    if run is None or run.kind == "live":
        return True
    over = run.finished and run.window.end >= run.requested.end
    return over and run.etag is not None and run.destination == destination


def _is_current(run: Run, stored: Stored | None) -> bool:
    return stored is not None and stored.etag == run.etag


def _is_committed(run: Run, stored: Stored | None) -> bool:
    return stored is not None and stored.mark.run == run.id
