"""Slices of time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

from uaharvest.intervals import Interval


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TimeSlice:
    """A slice: all rows of an interval."""

    interval: Interval

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the result of `str()`.

        Raises:
            ValueError: The text is not a slice.
        """
        return cls(Interval.parse(text))

    def __str__(self) -> str:
        return str(self.interval)

    @property
    def payload(self) -> Mapping[str, str]:
        """Return the interval as two instants."""
        return {"start": f"{self.interval.start:%FT%TZ}", "end": f"{self.interval.end:%FT%TZ}"}

    def cut(self, parts: int) -> list[Self]:
        """Return up to `parts` slices of about equal length, each at least a second long."""
        return [type(self)(part) for part in self.interval.cut(parts)]

    def halves(self) -> Sequence[Self]:
        """Return two halves; nothing if the slice is one second long."""
        halves = self.cut(2)
        return halves if len(halves) > 1 else []
