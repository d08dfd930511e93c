"""The slices of a stock Opencast: chains of steps for local days; pure functions."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Self, cast
from zoneinfo import ZoneInfo

from uaharvest.intervals import Interval
from uaharvest.opencast.days import begin_of
from uaharvest.streams.time_slice import TimeSlice

DAY = timedelta(days=1)

What = Literal["days", "broken", "early", "late", "ids", "grown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Begin:
    """The first day has not been started."""

    def __str__(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True, slots=True)
class LookBack:
    """Rows of the day are missing; search for them page by page, backwards from the end.

    Attributes:
        offset: Rows from here on have been read.
        again: A page between two others is requested again, because Opencast's window moved in the meantime.
        rereads: How often this happened for this day.
    """

    offset: int
    again: bool = False
    rereads: int = 0

    def __str__(self) -> str:
        return f"@{self.offset}{'!' if self.again else ''}" + (f"r{self.rereads}" if self.rereads else "")


@dataclasses.dataclass(frozen=True, slots=True)
class ReadAll:
    """Request the whole day at once, which misses nothing."""

    def __str__(self) -> str:
        return "*"


@dataclasses.dataclass(frozen=True, slots=True)
class After:
    """Ids up to this one have been looked up."""

    row_id: int

    def __str__(self) -> str:
        return f"@{self.row_id}"


Cursor = Begin | LookBack | ReadAll | After


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One kind of work for the days `first` to `last`, or for the midnights at which these days begin."""

    what: What
    first: date
    last: date
    cursor: Cursor = Begin()

    @property
    def days(self) -> tuple[date, date]:
        """Return the first and the last day to search for rows. For a midnight, these are the days of its minute."""
        first = self.first - DAY if self.what in {"late", "ids"} else self.first
        return first, self.last - DAY if self.what == "late" else self.last

    def __str__(self) -> str:
        return f"{self.first:%Y%m%d}-{self.last:%Y%m%d}:{self.what}{self.cursor}"


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """A slice: a sequence of steps. Any worker may do the next part; it leaves the rest as a new slice.

    Steps do not run in parallel, because two workers that find the same new row would both send it.

    Attributes:
        steps: The steps; never empty.
        zone: The server's time zone, which defines the days.
        batch_size: Usual maximum number of rows per request.
        page: Maximum number of rows per request after failures; 0: the usual one.
    """

    steps: tuple[Step, ...]
    zone: ZoneInfo
    batch_size: int
    page: int = 0

    @classmethod
    def parse(cls, text: str, *, zone: ZoneInfo, batch_size: int) -> Self:
        """Parse the result of `str()`.

        Raises:
            ValueError: The text is not a chain.
        """
        steps, _, page = text.partition("~")
        read = []
        for step in steps.split("+"):
            match = re.fullmatch(r"(\d{8})-(\d{8}):([a-z]+)(.*)", step)
            if match is None:
                raise ValueError(f"{text!r} is no chain of days")
            first, last, name, cursor = match.groups()
            what = cast("What", name)
            read.append(Step(what, _day(first), _day(last), _cursor(what, cursor)))
        return cls(tuple(read), zone, batch_size, int(page or 0))

    def __str__(self) -> str:
        return "+".join(map(str, self.steps)) + (f"~{self.page}" if self.page else "")

    @property
    def step(self) -> Step:
        """Return the next step."""
        return self.steps[0]

    @property
    def interval(self) -> Interval:
        """Return the days that the chain covers."""
        first, last = min(step.days[0] for step in self.steps), max(step.days[1] for step in self.steps)
        begin, end = begin_of(first, self.zone), begin_of(last + DAY, self.zone)
        return Interval(datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC))

    @property
    def payload(self) -> Mapping[str, str]:
        """Return the covered days as two instants."""
        return TimeSlice(self.interval).payload

    def halves(self) -> "Sequence[Chain]":
        """Return the same chain with half as many rows per request; after pages of one row, split off the failing day.

        Otherwise the days after it would fail with it. (While two workers work on the parts, a row may be sent twice.)
        """
        page = (self.page or self.batch_size) // 2
        if not page:
            return self.apart()
        # If requesting the whole day failed, read all of it page by page.
        chain = self.at(Begin()) if isinstance(self.step.cursor, ReadAll) else self
        return [dataclasses.replace(chain, page=page)]

    def at(self, cursor: Cursor) -> "Chain":
        """Return the chain that continues with the same day at `cursor`."""
        return dataclasses.replace(self, steps=(dataclasses.replace(self.step, cursor=cursor), *self.steps[1:]))

    def rest(self) -> "Chain | None":
        """Return what remains after the first day of the first step; None if nothing does."""
        steps = self.steps[1:]
        if self.step.first < self.step.last:
            steps = (Step(self.step.what, self.step.first + DAY, self.step.last), *steps)
        return dataclasses.replace(self, steps=steps, page=0) if steps else None

    def apart(self) -> "list[Chain]":
        """Return all steps of the current day and the other steps as two chains; nothing if there are no others."""
        singles = [Step(step.what, day, day) for step in self.steps for day in each_day(step.first, step.last)]
        singles[0] = dataclasses.replace(singles[0], cursor=self.step.cursor)
        own = tuple(one for one in singles if one.days == singles[0].days)
        rest = tuple(
            Step(what, *bounds)
            for what, group in itertools.groupby((one for one in singles if one not in own), lambda one: one.what)
            for bounds in stretches(one.first for one in group)
        )
        if not rest:
            return []
        return [dataclasses.replace(self, steps=own), dataclasses.replace(self, steps=rest, page=0)]


def each_day(first: date, last: date) -> Iterator[date]:
    """Return the days `first` to `last`."""
    return (first + DAY * number for number in range((last - first).days + 1))


def stretches(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """Return each group of consecutive days as (first, last)."""
    for _, group in itertools.groupby(enumerate(days), lambda pair: pair[1].toordinal() - pair[0]):
        run = [day for _, day in group]
        yield run[0], run[-1]


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _cursor(what: What, text: str) -> Cursor:
    if not text:
        return Begin()
    if text == "*":
        return ReadAll()
    match = re.fullmatch(r"@(\d+)(!?)(?:r(\d+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is no cursor")
    number, again, rereads = match.groups()
    return After(int(number)) if what == "ids" else LookBack(int(number), bool(again), int(rereads or 0))
