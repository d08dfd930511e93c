"""Half-open intervals of whole UTC seconds (windows, slices and gaps), and arithmetic on them."""

import dataclasses
import itertools
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Self, TypeVar

Bound = TypeVar("Bound", float, datetime)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open UTC interval [start, end) of whole seconds: a window, or a slice of one."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Check the bounds, so that a mistake shows up where it is made.

        Raises:
            ValueError: The bounds are not UTC or not whole seconds, or the interval is empty.
        """
        for bound in (self.start, self.end):
            if bound.tzinfo is not UTC or bound.microsecond:
                raise ValueError(f"{bound!r} is not a whole second in UTC")
        if self.start >= self.end:
            raise ValueError(f"{self.start:%F %T} is not before {self.end:%F %T}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the result of `str()`.

        Raises:
            ValueError: The text is not an interval.
        """
        match = re.fullmatch(r"(-?\d+)-(-?\d+)", text, re.ASCII)  # bounds before 1970 are negative
        if match is None:
            raise ValueError(f"{text!r} is no interval")
        start, end = map(int, match.groups())
        return cls(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))

    def __str__(self) -> str:
        return f"{int(self.start.timestamp())}-{int(self.end.timestamp())}"

    @property
    def seconds(self) -> int:
        """Return the length in seconds."""
        return int((self.end - self.start).total_seconds())

    def cut(self, parts: int) -> list[Self]:
        """Return up to `parts` intervals of about equal length that tile this one, each at least a second long."""
        count = max(1, min(parts, self.seconds))
        bounds = [self.start + timedelta(seconds=self.seconds * n // count) for n in range(count + 1)]
        return [type(self)(start, end) for start, end in itertools.pairwise(bounds)]


def without(intervals: Iterable[Interval], gaps: Iterable[Interval]) -> list[Interval]:
    """Return the parts of `intervals` outside of `gaps`."""
    rest = list(intervals)
    for gap in gaps:
        pieces = []
        for one in rest:
            if gap.start >= one.end or gap.end <= one.start:
                pieces.append(one)
                continue
            if one.start < gap.start:
                pieces.append(Interval(one.start, gap.start))
            if gap.end < one.end:
                pieces.append(Interval(gap.end, one.end))
        rest = pieces
    return rest


def common(intervals: Iterable[Interval], others: Iterable[Interval]) -> list[Interval]:
    """Return the intersections of `intervals` and `others`."""
    others = list(others)
    pairs = ((max(one.start, other.start), min(one.end, other.end)) for one in intervals for other in others)
    return [Interval(start, end) for start, end in pairs if start < end]


def union(intervals: Iterable[tuple[Bound, Bound]]) -> list[tuple[Bound, Bound]]:
    """Return the union of half-open intervals as sorted intervals that do not touch."""
    merged: list[tuple[Bound, Bound]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def gathered(instants: Iterable[float], most: int) -> list[Interval]:
    """Return at most `most` intervals that contain all `instants` (seconds UTC) and as little else as possible."""
    seconds = sorted({int(at // 1) for at in instants})
    if not seconds:
        return []
    pairs = sorted(itertools.pairwise(seconds), key=lambda pair: pair[0] - pair[1])[: most - 1]
    gaps = sorted(pair for pair in pairs if pair[1] - pair[0] > 1)
    starts = [seconds[0], *(after for _, after in gaps)]
    ends = [*(before for before, _ in gaps), seconds[-1]]
    return [
        Interval(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end + 1, UTC))
        for start, end in zip(starts, ends, strict=True)
    ]


def whole_second(instant: datetime) -> datetime:
    """Return `instant` in UTC without its fraction."""
    return instant.astimezone(UTC).replace(microsecond=0)


def duration(seconds: float) -> str:
    """Return `seconds` in units for people, the two largest: 41 s, 3 min 20 s, 1 d 2 h."""
    rest, parts = round(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
