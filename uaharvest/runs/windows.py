"""Windows and slices as pure arithmetic on whole UTC seconds."""

import dataclasses
import itertools
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Self

from uaharvest.errors import BlockedError, SpanRefusedError


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open UTC interval [start, end) of whole seconds: a window, or a slice of one."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse what is no interval, so that a mistake shows where it is made.

        Raises:
            ValueError: Not UTC, not whole seconds, or empty.
        """
        for bound in (self.start, self.end):
            if bound.tzinfo is not UTC or bound.microsecond:
                raise ValueError(f"{bound!r} is not a whole second in UTC")
        if self.start >= self.end:
            raise ValueError(f"{self.start:%F %T} is not before {self.end:%F %T}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` of an interval wrote.

        Raises:
            ValueError: It is something else.
        """
        match = re.fullmatch(r"(-?\d+)-(-?\d+)", text, re.ASCII)  # before 1970 a bound has a sign of its own
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
        """Return up to `parts` intervals of about equal length that tile this one; at least a second each."""
        count = max(1, min(parts, self.seconds))
        bounds = [self.start + timedelta(seconds=self.seconds * n // count) for n in range(count + 1)]
        return [type(self)(start, end) for start, end in itertools.pairwise(bounds)]


def without(intervals: Iterable[Interval], gaps: Iterable[Interval]) -> list[Interval]:
    """Return what is left of `intervals` without `gaps`."""
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


def whole_second(instant: datetime) -> datetime:
    """Return `instant` in UTC without its fraction."""
    return instant.astimezone(UTC).replace(microsecond=0)


def next_window(watermark: datetime, now: datetime, *, lag: int, longest: int) -> Interval | None:
    """Return the window that follows `watermark`, or None if it would be empty.

    Args:
        watermark: The instant up to which all is delivered.
        now: The source's clock.
        lag: How far behind `now` a window ends, seconds.
        longest: The longest window, seconds.

    Raises:
        BlockedError: The watermark lies in the future, where no harvest can have put it.
    """
    if watermark > now:
        raise BlockedError(
            f"the watermark {watermark:%F %T} UTC lies after the source's clock ({now:%F %T} UTC). "
            "Set it back: manage.py watermark set"
        )
    end = min(now - timedelta(seconds=lag), watermark + timedelta(seconds=longest))
    return Interval(watermark, end) if end > watermark else None


def guard_span(start: datetime, end: datetime, *, longest: int | None) -> None:
    """Refuse a span of more than `longest` seconds (MAX_START_END_SPAN; None: never).

    Raises:
        SpanRefusedError: The span is too long.
    """
    span = (end - start).total_seconds()
    if longest is not None and span > longest:
        raise SpanRefusedError(
            f"refused: {duration(span)} from {start:%F %T} to {end:%F %T} UTC, MAX_START_END_SPAN is "
            f"{duration(longest)}. Harvest it in windows with HARVEST_CATCH_UP=true, or once with "
            "--disable-start-end-span-check."
        )


def duration(seconds: float) -> str:
    """Return `seconds` as a person says them: 41 s, 3 min 20 s, 26 h, 3 d 4 h."""
    rest, parts = round(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
