"""The protocols that a stream implements. All other code about runs is the same for every stream."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar

import redis

from uaharvest.intervals import Interval
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.sinks import Outgoing


class Slice(Protocol):
    """The part of a run that one task fetches and delivers.

    `str()` returns its form in the ledger and in messages; `Stream.parse_slice` parses that.
    """

    @property
    def interval(self) -> Interval:
        """Return the time that the slice covers."""

    @property
    def payload(self) -> Mapping[str, object]:
        """Return the payload of the slice's dead letter, enough to harvest the slice again."""

    def halves(self) -> Sequence[Self]:
        """Return the slices that replace it when it is halved; nothing if it cannot be divided."""


class SliceReporter(Protocol):
    """Receives the reports of a slice. Rows are marked as delivered once they are confirmed, never before.

    Ids by time and ids by day each have their own methods that tell which rows to skip.

    Attributes:
        sent: Confirmed rows that are marked, so far.
    """

    sent: int

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Report rows that the sink has confirmed."""

    def dead_letter(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Report rows (event time, id) whose dead letters are written: they count as known."""

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the stream's own counts, by name, before the slice is done, since it may leave a rest."""

    def flush(self) -> None:
        """Mark the confirmed rows as known."""


class DeliveredIds(Protocol):
    """The ids of rows that were delivered or became dead letters in an epoch. The search for late rows skips them."""

    def trim(self, before: datetime) -> None:
        """Forget the ids with an event time before `before` that no window will need again."""

    def since(self) -> datetime | None:
        """Return the instant since which all delivered rows are known; None if that is not recorded."""

    def take_over(self, former: Self, until: datetime) -> None:
        """Copy the ids of a former epoch before `until`, if this epoch has none yet."""

    def forget(self) -> None:
        """Forget all ids."""


S = TypeVar("S", bound=Slice)
S_co = TypeVar("S_co", bound=Slice, covariant=True)
K = TypeVar("K", bound=DeliveredIds)
R = TypeVar("R", bound=SliceReporter)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan(Generic[S_co]):
    """The slices of a window, and its number of rows according to the source."""

    slices: Sequence[S_co]
    expected: int


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """The result of a delivered slice.

    Attributes:
        found: Its rows.
        dead: How many of them became dead letters.
        counts: The stream's own counts, by name.
        repeated: How many of the rows had been delivered before, and so were not sent again.
    """

    found: int
    dead: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    repeated: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Split(Generic[S_co]):
    """The result of a slice that is not done in one go: the parts that replace it."""

    parts: Sequence[S_co]


class Source(Protocol):
    """The methods of a stream that do not involve slices."""

    name: str

    @property
    def longest_window(self) -> int:
        """Return the approximate maximum length of a window, seconds."""

    def now(self) -> datetime:
        """Return the source's clock, UTC."""

    def begin(self, now: datetime, minutes: int) -> datetime:
        """Return where to begin without a watermark: `minutes` (DEFAULT_INTERVAL) before `now`, or by its own rule."""

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows `interval` has according to the source."""

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Send what a dead letter holds; return how many records were sent."""


class Stream(Source, Protocol[S, K, R]):
    """Finds the next window, plans it into slices and works on one slice.

    The type parameters are the types of its slices, its delivered ids and its reporter.
    """

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`, or None if there is nothing to do yet."""

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of `rest`, the part of an explicit run that is left."""

    def late_from(self, watermark: datetime) -> datetime:
        """Return from when on to look for late rows."""

    def delivered_ids(self, client: "redis.Redis", key: str) -> K:
        """Return the delivered ids that are kept at `key`."""

    def reporter(self, delivered: K, ledger: Ledger, run: Run, slice_: S) -> R:
        """Return the reporter for a slice of `run`."""

    def parse_slice(self, text: str) -> S:
        """Parse the result of `str()` of a slice.

        Raises:
            ValueError: The text is not a slice.
        """

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: K) -> Plan[S]:
        """Return the slices of `run.window`, and of the parts of `late` that have unknown rows."""

    def work(self, run: Run, slice_: S, reporter: R) -> Delivered | Split[S]:
        """Fetch and deliver one slice. Return Delivered only after all of it is confirmed."""
