"""What a stream says of itself; all else about runs is the same code for every stream."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import redis

from uaharvest.runs.ledger import Ledger, Run
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
    """Where a slice is worked at: where to report rows that are confirmed.

    Which rows to leave out it tells in a way of its own, for ids by time and by day.
    """

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Report rows that the sink has confirmed."""
        ...

    def bury(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Report rows (event time, id) whose dead letters are written: they count as known."""
        ...

    def count(self, counts: Mapping[str, int]) -> None:
        """Report what is worth a count, by name, before the slice is done: of one that leaves a rest."""
        ...

    def flush(self) -> None:
        """Mark as known what is confirmed."""
        ...


class Known(Protocol):
    """The ids that are known of an epoch."""

    def trim(self, before: datetime) -> None:
        """Forget the ids with an event time before `before`, as far as no window will need them again."""
        ...

    def forget(self) -> None:
        """Forget all of them."""
        ...

    def desk(self, ledger: Ledger, run: Run, interval: Interval) -> Desk:
        """Return where a slice of `run`, which stands for `interval`, is worked at."""
        ...


class Stream(Protocol):
    """How to find the next window, how to plan it into slices, how to work one slice."""

    name: str

    @property
    def longest_window(self) -> int:
        """Return how long a window is at most, about, seconds."""
        ...

    def now(self) -> datetime:
        """Return the source's clock, UTC."""
        ...

    def begin(self, now: datetime, minutes: int) -> datetime:
        """Return where a stream begins that has no watermark; `minutes` (DEFAULT_INTERVAL) before now, or else."""
        ...

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`, or None if there is nothing to do yet."""
        ...

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of what is left of an explicit run."""
        ...

    def known(self, client: "redis.Redis", key: str) -> Known:
        """Return the known ids that are kept at `key`."""
        ...

    def late_from(self, watermark: datetime) -> datetime:
        """Return from when on rows that appear late are looked for."""
        ...

    def plan(self, run: Run, *, late: Sequence[Interval], known: Any) -> Plan:
        """Return the slices of `run.window`, and those parts of `late` where rows are that are not known."""
        ...

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows the source says there are in `interval`."""
        ...

    def work(self, run: Run, slice_id: str, desk: Any) -> Tally | Split:
        """Fetch and deliver one slice; return only when all of it is confirmed. `desk` is of its known ids."""
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
