"""What a stream says of itself; all else about runs is the same code for every stream."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from uaharvest.runs.known import KnownIds
from uaharvest.runs.ledger import Run
from uaharvest.runs.windows import Interval
from uaharvest.sinks import Outgoing


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The slices of a window, and how many rows the source says there are."""

    slices: Sequence[str]
    expected: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """A slice that is delivered: rows in it, those of them that became dead letters, and what else is worth a count."""

    found: int
    dead: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """A slice that is too big for one request: the parts that take its place."""

    parts: Sequence[str]


class Desk(Protocol):
    """Where a slice is worked at: which rows to leave out, and where to report those that are confirmed."""

    def known(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids in [start, end) that this slice must not send."""
        ...

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Report rows that the sink has confirmed."""
        ...

    def bury(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Report rows (event time, id) whose dead letters are written: they count as known."""
        ...


class Stream(Protocol):
    """How to find the next window, how to plan it into slices, how to work one slice."""

    name: str

    def now(self) -> datetime:
        """Return the source's clock, UTC."""
        ...

    def begin(self, now: datetime, minutes: int) -> datetime:
        """Return where a stream begins that has no watermark; `minutes` (DEFAULT_INTERVAL) before now, or else."""
        ...

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`, or None if there is nothing to do yet."""
        ...

    def late_from(self, watermark: datetime) -> datetime:
        """Return from when on rows that appear late are looked for."""
        ...

    def plan(self, run: Run, *, late: Sequence[Interval], known: KnownIds) -> Plan:
        """Return the slices of `run.window`, and those parts of `late` where rows are that are not known."""
        ...

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows the source says there are in `interval`."""
        ...

    def work(self, run: Run, slice_id: str, desk: Desk) -> Tally | Split:
        """Fetch and deliver one slice; return only when all of it is confirmed."""
        ...

    def halves(self, slice_id: str) -> Sequence[str]:
        """Return the two halves of a slice, or nothing if it cannot be divided."""
        ...

    def slice_interval(self, slice_id: str) -> Interval:
        """Return the time that a slice stands for."""
        ...

    def slice_payload(self, slice_id: str) -> dict[str, Any]:
        """Return what the dead letter of a slice holds, by which it is harvested again."""
        ...

    def redeliver(self, payload: dict[str, Any]) -> int:
        """Send the record of a dead letter after all; return how many were sent."""
        ...
