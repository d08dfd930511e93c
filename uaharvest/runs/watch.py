"""Reads the progress of runs from the ledger, for progress bars, plain lines and the final outcome."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.runs.ledger import EndedRun, Ledger, Run
from uaharvest.runs.state import StreamState
from uaharvest.runs.watermark import WatermarkStore


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The progress at one time.

    Attributes:
        window, windows: Number of the current window, and of windows in all.
        done, planned: Slices of all windows so far.
        records: Rows delivered.
        expected: Approximate number of rows in all, according to the source.
        dead: Dead letters written.
        counts: The stream's own counts, by name.
        ended: The run has ended.
        note: A remark at the end.
    """

    window: int
    windows: int
    done: int
    planned: int
    records: int
    expected: int
    dead: int
    ended: bool
    note: str = ""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Watch(Protocol):
    """Watches something that is in progress."""

    def poll(self) -> Snapshot:
        """Return the progress.

        Raises:
            HarvestError: The run is lost and must be requested again.
        """


class RunWatch:
    """Watches one explicit run until it is closed."""

    def __init__(self, ledger: Ledger, state: StreamState, run: Run, max_window: int) -> None:
        """Watch `run`, whose windows are at most `max_window` seconds long."""
        self._ledger = ledger
        self._state = state
        self._last = run
        self._max_window = max_window

    def poll(self) -> Snapshot:
        """Return the progress; raises HarvestError if the run is void or the ledger has lost it."""
        run = self._ledger.run(self._last.id)
        if run is not None:
            self._last = run
            return self._snapshot(ended=False)
        ended = next((ended for ended in self._state.history() if ended.id == self._last.id), None)
        if ended is None:
            raise HarvestError(
                f"run {self._last.id[:8]} is no longer in the ledger: Redis has lost its data. "
                "What it had sent was sent; ask for the window again."
            )
        if ended.outcome != "done":
            raise HarvestError(f"run {self._last.id[:8]} is void: {ended.note}")
        self._last = dataclasses.replace(
            self._last,
            planned=ended.slices,
            done=ended.slices,
            delivered=ended.delivered,
            dead=ended.dead_letters,
            counts=ended.counts,
        )
        return dataclasses.replace(self._snapshot(ended=True), note=ended.note)

    def _snapshot(self, *, ended: bool) -> Snapshot:
        run = self._last
        windows = windows_of(run.requested, self._max_window)
        before = int((run.window.start - run.requested.start).total_seconds())
        return Snapshot(
            window=windows if ended else before // self._max_window + 1,
            windows=windows,
            done=run.done,
            planned=run.planned,
            records=run.delivered,
            expected=run.expected,
            dead=run.dead,
            ended=ended,
            counts=run.counts,
        )


class LiveWatch:
    """Watches the live runs of a stream until its watermark has reached an instant."""

    def __init__(
        self,
        ledger: Ledger,
        state: StreamState,
        watermarks: WatermarkStore,
        *,
        since: datetime,
        until: datetime,
        expected: int,
        max_window: int,
    ) -> None:
        """Watch the watermark move from `since` to `until`; the source has `expected` rows in between."""
        self._ledger = ledger
        self._state = state
        self._watermarks = watermarks
        self._until = until
        self._expected = expected
        self._windows = windows_of(Interval(since, until), max_window) if since < until else 1
        self._before = {ended.id for ended in state.history()}
        self._closed: dict[str, EndedRun] = {}

    def poll(self) -> Snapshot:
        """Return the progress."""
        run = self._ledger.live()
        # The history holds only the latest runs, so the runs that ended since the last poll are collected here.
        for one in self._state.history():
            if one.kind == "live" and one.id not in self._before:
                self._closed[one.id] = one
        closed = [one for one in self._closed.values() if one.outcome == "done"]
        stored = self._watermarks.read() if run is None else None
        ended = stored is not None and stored.mark.at >= self._until
        done = sum(one.slices for one in closed)
        counts: Counter[str] = Counter(run.counts if run else {})
        for one in closed:
            counts.update(one.counts)
        return Snapshot(
            window=min(len(closed) + (run is not None), self._windows) or 1,
            windows=self._windows,
            done=done + (run.done if run else 0),
            planned=done + (run.planned if run else 0),
            records=sum(one.delivered for one in self._closed.values()) + (run.delivered if run else 0),
            expected=self._expected,
            dead=sum(one.dead_letters for one in closed) + (run.dead if run else 0),
            ended=ended,
            counts=counts,
        )


def windows_of(interval: Interval, max_window: int) -> int:
    """Return the number of windows into which `interval` is cut."""
    return -(-interval.seconds // max_window)
