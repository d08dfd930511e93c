"""How far a run has come, read from the ledger: for progress bars, plain lines and the outcome at the end."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from uaharvest.errors import HarvestError
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.watermark import WatermarkStore
from uaharvest.runs.windows import Interval


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at the progress.

    Attributes:
        window, windows: Which window of how many.
        done, planned: Slices, of all windows so far.
        records: Rows delivered.
        expected: Rows that the source says there are in all, about.
        dead: Dead letters written.
        counts: What else the stream counts, by name.
        ended: All of it is delivered, or lost as `note` says.
        note: What else to say at the end.
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
    """Looks at something on its way."""

    def poll(self) -> Snapshot:
        """Return how far it is.

        Raises:
            HarvestError: It is lost and must be asked for again.
        """
        ...


class RunWatch:
    """Looks at one explicit run until it is closed."""

    def __init__(self, ledger: Ledger, run: Run, max_window: int) -> None:
        """Watch `run`, whose windows are `max_window` seconds long at most."""
        self._ledger = ledger
        self._last = run
        self._max_window = max_window

    def poll(self) -> Snapshot:
        """Return how far it is; raises HarvestError if the ledger has lost it."""
        run = self._ledger.run(self._last.id)
        if run is not None:
            self._last = run
            return self._snapshot(ended=False)
        entry = next((entry for entry in self._ledger.history() if entry["id"] == self._last.id), None)
        if entry is None:
            raise HarvestError(
                f"run {self._last.id[:8]} is no longer in the ledger: Redis has lost its data. "
                "What it had sent was sent; ask for the window again."
            )
        if entry["outcome"] != "done":
            raise HarvestError(f"run {self._last.id[:8]} is void: {entry['note']}")
        self._last = dataclasses.replace(
            self._last,
            planned=entry["slices"],
            done=entry["slices"],
            delivered=entry["delivered"],
            dead=entry["dead_letters"],
            counts=entry["counts"],
        )
        return dataclasses.replace(self._snapshot(ended=True), note=entry["note"])

    def _snapshot(self, *, ended: bool) -> Snapshot:
        run = self._last
        windows = windows_of(run.asked, self._max_window)
        before = int((run.window.start - run.asked.start).total_seconds())
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
    """Looks at the live runs of a stream until its watermark has come to an instant."""

    def __init__(
        self,
        ledger: Ledger,
        watermarks: WatermarkStore,
        *,
        since: datetime,
        until: datetime,
        expected: int,
        max_window: int,
    ) -> None:
        """Watch the way of the watermark from `since` to `until`, on which the source has `expected` rows."""
        self._ledger = ledger
        self._watermarks = watermarks
        self._until = until
        self._expected = expected
        self._windows = windows_of(Interval(since, until), max_window) if since < until else 1
        self._before = {entry["id"] for entry in ledger.history()}
        self._closed: dict[str, dict[str, Any]] = {}

    def poll(self) -> Snapshot:
        """Return how far it is."""
        run = self._ledger.live()
        # The ledger keeps the last runs only: those that ended since the last look are added up here.
        for entry in self._ledger.history():
            if entry["kind"] == "live" and entry["id"] not in self._before:
                self._closed[entry["id"]] = entry
        closed = [entry for entry in self._closed.values() if entry["outcome"] == "done"]
        stored = self._watermarks.read() if run is None else None
        ended = stored is not None and stored.mark.at >= self._until
        done = sum(entry["slices"] for entry in closed)
        counts: Counter[str] = Counter(run.counts if run else {})
        for entry in closed:
            counts.update(entry["counts"])
        return Snapshot(
            window=min(len(closed) + (run is not None), self._windows) or 1,
            windows=self._windows,
            done=done + (run.done if run else 0),
            planned=done + (run.planned if run else 0),
            records=sum(entry["delivered"] for entry in self._closed.values()) + (run.delivered if run else 0),
            expected=self._expected,
            dead=sum(entry["dead_letters"] for entry in closed) + (run.dead if run else 0),
            ended=ended,
            counts=counts,
        )


def windows_of(asked: Interval, max_window: int) -> int:
    """Return into how many windows `asked` is cut."""
    return -(-asked.seconds // max_window)
