"""Useractions of a stock Opencast: days, reconciled by counts. Why nothing is lost: docs/opencast-stock.md."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, Self, cast

import redis

from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import SourceError
from uaharvest.opencast.actions import UserAction
from uaharvest.opencast.cache import EpisodeCache
from uaharvest.opencast.stock import DayPage, DaySource
from uaharvest.runs.day_ids import MINUTE, DayDesk, DayIds, DaySet, at_edge, begin_of, day_of
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Plan, Split, Tally
from uaharvest.runs.windows import Interval, next_window
from uaharvest.settings import Settings
from uaharvest.sinks import Sink
from uaharvest.streams.useractions import Useractions

DAY = timedelta(days=1)
# Rows more than are new that are asked for at the end of a day: as many again within these bounds. New ones lie there,
# but for what MariaDB orders by id, which each node takes in blocks of 50, and for rows that appear late.
LEAST_MARGIN, MARGIN = 20, 100
# Pages overlap: by created and by id rows lie up to a block per node apart, and a window that moved between two pages
# shows as one that ends with nothing known.
OVERLAP = 100
# Looks at the end of a day before it is searched: each narrows down what the server's clock said.
LOOKS = 8
# Pages from the end backwards in which late rows are looked for in a day that was known, before all of it is read.
BACK = 6
# Where the two halves of a hidden minute are seen, seconds of the server's minute.
EARLY = (0.2, 4.0)
LATE = (58.0, 59.6)
# Times that an answer may come at another second than it was waited for, and that a minute may not add up: so many
# minutes at most a worker waits.
MISSED = 3
# Ids are handed out to a node in blocks of this many.
BLOCK = 50
# Rows this close to midnight show in which blocks rows of the first second lie; if they are few, all of both minutes.
CLOSE = 15.0
FEW = 20
LOOK_UPS = 200  # rows that are looked up by their ids in one go

What = Literal["days", "broken", "early", "late", "ids"]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about the days (or the midnights at which they begin) from `first` to `last`."""

    what: What
    first: date
    last: date
    cursor: str = ""

    @property
    def days(self) -> tuple[date, date]:
        """Return the first and the last day in which rows are looked for: of a midnight those whose minute it is."""
        first = self.first - DAY if self.what in {"late", "ids"} else self.first
        return first, self.last - DAY if self.what == "late" else self.last

    def __str__(self) -> str:
        return f"{self.first:%Y%m%d}-{self.last:%Y%m%d}:{self.what}{self.cursor}"


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """A slice: steps that are done one after another, by whichever worker; each leaves the rest as a new slice.

    One after another, because two workers that find the same new row in a day would both send it.
    """

    steps: tuple[Step, ...]
    page: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` of a chain wrote.

        Raises:
            ValueError: It is something else.
        """
        steps, _, page = text.partition("~")
        read = []
        for step in steps.split("+"):
            match = re.fullmatch(r"(\d{8})-(\d{8}):([a-z]+)(.*)", step)
            if match is None:
                raise ValueError(f"{text!r} is no chain of days")
            first, last, what, cursor = match.groups()
            read.append(Step(cast("What", what), _day(first), _day(last), cursor))
        return cls(tuple(read), int(page or 0))

    def __str__(self) -> str:
        return "+".join(map(str, self.steps)) + (f"~{self.page}" if self.page else "")

    @property
    def step(self) -> Step:
        """Return what is to be done next."""
        return self.steps[0]

    def at(self, cursor: str) -> "Chain":
        """Return the chain that goes on with the same day, at `cursor`."""
        return dataclasses.replace(self, steps=(dataclasses.replace(self.step, cursor=cursor), *self.steps[1:]))

    def rest(self) -> "Chain | None":
        """Return what is left once the first day of the first step is done."""
        steps = self.steps[1:]
        if self.step.first < self.step.last:
            steps = (Step(self.step.what, self.step.first + DAY, self.step.last), *steps)
        return Chain(steps) if steps else None

    def apart(self) -> "list[Chain]":
        """Return what is to be done about the day whose turn it is, and the rest; nothing if it is all there is."""
        singles = [Step(step.what, day, day) for step in self.steps for day in _days(step.first, step.last)]
        singles[0] = dataclasses.replace(singles[0], cursor=self.step.cursor)
        own = tuple(one for one in singles if one.days == singles[0].days)
        rest = tuple(
            Step(what, *bounds)
            for what, group in itertools.groupby((one for one in singles if one not in own), lambda one: one.what)
            for bounds in _ranges(one.first for one in group)
        )
        return [Chain(own, self.page), Chain(rest)] if rest else []


class StockUseractions(Useractions):
    """The stream `useractions` where days are all that can be asked for."""

    def __init__(
        self,
        source: DaySource,
        episodes: EpisodeCache,
        sink: Sink,
        letters: DeadLetters,
        settings: Settings,
    ) -> None:
        """Read from `source`; the rest as of Useractions."""
        super().__init__(source, episodes, sink, letters, settings)  # type: ignore[arg-type]
        self.days = source
        self.zone = settings.opencast_zone

    def known(self, client: "redis.Redis", key: str) -> DayIds:  # type: ignore[override]
        """Return the ids that are known below `key`."""
        return DayIds(client, key, self.zone)

    @property
    def longest_window(self) -> int:
        """Return a day, or HARVEST_MAX_WINDOW if that is longer."""
        return max(int(DAY.total_seconds()), self._settings.max_window)

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`: up to the first midnight after HARVEST_MAX_WINDOW."""
        longest = self._longest(watermark)
        return next_window(watermark, now, lag=self._settings.lag, longest=longest)

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of an explicit run's `rest`."""
        return Interval(rest.start, min(rest.end, rest.start + timedelta(seconds=self._longest(rest.start))))

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark less HARVEST_OVERLAP_SECONDS. Days are compared whole, so no hour of them is special."""
        return watermark - timedelta(seconds=self._settings.overlap)

    def plan(self, run: Run, *, late: Sequence[Interval], known: DayIds) -> Plan:  # type: ignore[override]
        """Return one chain: the days of the window and its overlap, then the midnights that are due."""
        begin, end = run.window.start.timestamp(), run.window.end.timestamp()
        if run.kind == "live" and run.known_from is not None:
            begin = min(begin, run.known_from.timestamp())
        elif late:
            begin = min(begin, late[0].start.timestamp())
        first, last = day_of(begin, self.zone), day_of(end - 1, self.zone)
        early, late_, asked = [], [], run.kind != "live"
        for day in _days(first, last + DAY):
            at = begin_of(day, self.zone)
            if asked:
                if at < end and at + MINUTE > begin and self._has_passed(at, end):
                    early.append(day)
                if at - MINUTE < end and at > begin and self._has_passed(at, end):
                    late_.append(day)
            elif begin < at + MINUTE <= end and not self._is_settled(run, day, known):
                early.append(day)
                late_.append(day)
        days = list(_days(min([first, *(day - DAY for day in late_)]), last))
        broken = {
            day for day in days if not asked and self._is_gap(day, begin, run.window.start.timestamp(), late)
        }
        both = sorted({*early, *late_})
        steps = []
        # Late first: the next minute begins a few seconds later.
        for what, some in (
            ("days", [day for day in days if day not in broken]),
            ("broken", sorted(broken)),
            ("late", [day for day in late_ if day - DAY not in broken]),
            ("early", [day for day in early if day not in broken]),
            ("ids", both),
        ):
            steps += [Step(cast("What", what), *bounds) for bounds in _ranges(some)]
        return Plan([str(Chain(tuple(steps)))], self.count(run.window, wait=run.wait) if asked else 0)

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows there are in the whole days of `interval`; of parts of days Opencast cannot tell."""
        first = day_of(interval.start.timestamp() - 1, self.zone) + DAY
        last = day_of(interval.end.timestamp(), self.zone) - DAY
        return sum(self.days.total(day, wait=wait).total for day in _days(first, last))

    def work(self, run: Run, slice_id: str, desk: DayDesk) -> Tally | Split:  # type: ignore[override]
        """Do the next step of the chain, as much of it as one page; the rest is left as a new slice."""
        chain = Chain.parse(slice_id)
        work = {
            "days": self._day,
            "broken": self._broken_day,
            "early": self._minute,
            "late": self._minute,
            "ids": self._first_second,
        }
        book = Book(self, run, desk, wait=run.wait)
        rest = work[chain.step.what](chain, book)
        return Split([str(rest)]) if rest else Tally(book.found, book.dead)

    def halves(self, slice_id: str) -> Sequence[str]:
        """Return the same chain with half as many rows a request; after pages of one row the day that fails, alone.

        Else it would take the days behind it along. (While both parts are worked at, a row may be sent twice.)
        """
        chain = Chain.parse(slice_id)
        page = (chain.page or self._settings.batch_size) // 2
        if page:
            whole = chain.step.cursor == "*"  # a day at once is what failed: then by pages, all of it
            return [str(dataclasses.replace(chain.at("") if whole else chain, page=page))]
        return [str(part) for part in chain.apart()]

    def slice_interval(self, slice_id: str) -> Interval:
        """Return the days that the chain stands for."""
        steps = Chain.parse(slice_id).steps
        first, last = min(step.days[0] for step in steps), max(step.days[1] for step in steps)
        return Interval(_instant(begin_of(first, self.zone)), _instant(begin_of(last + DAY, self.zone)))

    # Steps

    def _day(self, chain: Chain, book: "Book") -> Chain | None:
        """Bring the known ids of a day up to its total, or look at one more page of it."""
        day, cursor = chain.step.first, chain.step.cursor
        size = chain.page or book.run.batch_size
        book.open(day)
        if cursor == "*":
            book.take_all()
        elif cursor:
            rest = self._search(chain, book, size)
            if rest is not None:
                return rest
        else:
            page = book.look(1)
            if not page.total and not len(book.known):
                self.days.total(day - DAY, wait=book.wait)  # an empty day says nothing about the zone
            if book.is_stale(page):
                return chain.at("*")
            if not book.proves(page):
                rest = self._end_of_day(chain, book, page, size)
                if rest is not None:
                    return rest
        book.close()
        return chain.rest()

    def _broken_day(self, chain: Chain, book: "Book") -> Chain | None:
        """Take what is new at the end of a day that has a dead letter, but for rows at which Opencast fails.

        The rest of it is the letter's, which stands for the whole day: otherwise each tick would find it again.
        """
        day, most = chain.step.first, chain.page or book.run.batch_size
        book.open(day)
        end, size, quiet, failed = 0, most, 0, 0
        page = self._told(day, 1, 0, book)
        if page is not None:
            end = page.total
        while page is None or not book.proves(page):
            size = min(size, end)
            if not size or quiet >= MARGIN or failed >= MISSED:
                break
            page = self._told(day, size, end - size, book)
            if page is None and size > 1:
                size //= 2
                continue
            end -= size
            if page is None:
                size, failed = most, failed + 1
            else:
                quiet = 0 if book.take(page.actions, page.unreadable) else quiet + size
        return chain.rest()

    def _told(self, day: date, limit: int, offset: int, book: "Book") -> DayPage | None:
        """Return a page, None where Opencast answers, but not this."""
        try:
            return self.days.page(day, limit, offset, wait=book.wait)
        except SourceError:
            self.now()  # in an outage this fails too, and the slice is put off
            return None

    def _end_of_day(self, chain: Chain, book: "Book", page: DayPage, size: int) -> Chain | None:
        """Look for new rows where they are: at the end. Return where to go on if they are not all there."""
        margin = min(MARGIN, max(LEAST_MARGIN, page.total - book.counted(page)[0]))
        for _ in range(LOOKS):
            if book.is_unsure(page):
                self.days.wait_for_end_of_second()
            missing = page.total - book.counted(page)[0] + margin
            offset = max(0, page.total - min(missing, size))
            page = book.look(min(missing + MARGIN, size), offset)
            if book.proves(page):
                return None
            if book.lacks(page) and margin < MARGIN:
                margin = MARGIN
            elif book.lacks(page):
                # Known well before, some are missing that lie elsewhere; first of all at the day's own beginning,
                # of which another part is hidden now than was.
                if page.total <= BACK * size // 2 and not chain.page:
                    return chain.at("*")
                return chain.at(f"@{offset}" + ("h" if "whole" in book.known.flags else ""))
        raise SourceError(
            f"{chain.step.first}: cannot tell which rows of its first or last minute Opencast counts"
        )

    def _search(self, chain: Chain, book: "Book", size: int) -> Chain | None:
        """Look at one page further from the end; return where to go on, None if all is found."""
        cursor = int(re.sub(r"\D", "", chain.step.cursor))
        if chain.step.cursor.endswith("h"):
            page = self._sure(book, book.look(size))
            return None if book.proves(page) else chain.at(f"@{cursor}")
        overlap = min(OVERLAP, size // 2)
        offset = max(0, cursor + overlap - size)
        page = book.look(cursor + overlap - offset, offset)
        unbroken = not overlap or any(action.id not in book.new for action in page.actions[-2 * overlap :])
        if book.proves(self._sure(book, page)):
            return None
        if not unbroken and not chain.step.cursor.endswith("!"):
            # The window moved, or the order changed: between this page and the one behind it rows were left out.
            return chain.at(f"@{min(cursor + size - overlap, page.total)}!")
        # Of a day that was known, some pages hold what appeared late; to read all of it page by page is no cheaper
        # than at once, and less sure.
        known_well = "whole" in book.known.flags and not chain.page
        if offset == 0 or (known_well and page.total - offset > BACK * size):
            return chain.at("*")
        return chain.at(f"@{offset}")

    def _sure(self, book: "Book", page: DayPage) -> DayPage:
        """Count again until it is sure, whatever the server's clock was, that rows are missing, or that none are."""
        for _ in range(LOOKS):
            if book.proves(page) or book.lacks(page):
                break
            self.days.wait_for_end_of_second()
            page = book.look(1)
        return page

    def _minute(self, chain: Chain, book: "Book") -> Chain | None:
        """Ask early (late) in a minute, when the first (last) minute of a day is not hidden, until counts agree."""
        early = chain.step.what == "early"
        low, high = EARLY if early else LATE
        size = chain.page or book.run.batch_size
        book.open(chain.step.first if early else chain.step.first - DAY)
        page = self._in_phase(book, low, high)
        for _ in range(MISSED):
            if book.proves(page):
                break
            if book.is_unsure(page):
                self.days.wait_for_end_of_second()
            missing = min(page.total - book.counted(page)[0] + MARGIN, size)
            at_end = self._if_in_phase(book.look(missing + MARGIN, max(0, page.total - missing)), low, high)
            if at_end is not None and book.proves(at_end):
                break
            at_start = self._if_in_phase(book.look(size), low, high)
            if at_start is not None and book.proves(at_start):
                break
            if at_start is not None and book.lacks(at_start):
                self.days.wait_for_phase(low, high)
                book.take_all()
            page = self._in_phase(book, low, high)
        else:
            raise SourceError(f"{chain.step.first}: the minute at its midnight does not add up yet")
        book.close()
        return chain.rest()

    def _in_phase(self, book: "Book", low: float, high: float) -> DayPage:
        for _ in range(MISSED):
            self.days.wait_for_phase(low, high)
            page = self._if_in_phase(book.look(1), low, high)
            if page is not None:
                return page
        raise SourceError(f"Opencast's answers do not come between the seconds {low:g} and {high:g} of a minute")

    @staticmethod
    def _if_in_phase(page: DayPage, low: float, high: float) -> DayPage | None:
        least, most = page.moment.phase
        # A little later does no harm: the look-ups by id reach further than this.
        return page if low - 0.2 <= least and most <= min(high + 4, MINUTE - 0.01) else None

    def _first_second(self, chain: Chain, book: "Book") -> Chain | None:
        """Look up, by their ids, rows that no `day` ever shows: of 00:00:00, and of the end of 23:59:59.

        Their ids lie in the blocks of the rows around them.
        """
        day = chain.step.first
        at = begin_of(day, self.zone)
        sides = (day - DAY, day)
        before, after = (book.desk.seen.load(side) for side in sides)
        around = _around(at, before, after)
        if not chain.step.cursor and len(around) < FEW and book.run.kind == "live":
            # A quiet night may have no row beside a hidden one. Then it is among the last of the table.
            self._take(self.days.newest(LOOK_UPS, wait=book.wait), sides, book)
        done = int(chain.step.cursor[1:]) if chain.step.cursor else 0
        ids = sorted({row_id + step for row_id in around for step in range(-BLOCK, BLOCK + 1)})
        ids = [row_id for row_id in ids if row_id > done and row_id not in before and row_id not in after]
        rows = [row for row_id in ids[:LOOK_UPS] if (row := self.days.row(row_id, wait=book.wait)) is not None]
        self._take(rows, sides, book)
        if len(ids) > LOOK_UPS:
            return chain.at(f"@{ids[LOOK_UPS - 1]}")
        run = book.run
        if run.kind == "live":
            book.desk.flag(day, "closed" if self._is_last_chance(run, day) else "settled")
        return chain.rest()

    @staticmethod
    def _take(rows: Sequence[UserAction], days: Iterable[date], book: "Book") -> None:
        for day in days:
            book.open(day)
            book.take(row for row in rows if row.created.date() == day)
            book.flush()

    def _is_gap(self, day: date, begin: float, end: float, late: Sequence[Interval]) -> bool:
        """Tell whether late rows are not looked for in what [begin, end) has of a day: it is a dead letter."""
        begin, end = max(begin, begin_of(day, self.zone)), min(end, begin_of(day + DAY, self.zone))
        return begin < end and not any(one.start.timestamp() < end and one.end.timestamp() > begin for one in late)

    def _is_settled(self, run: Run, day: date, known: DayIds) -> bool:
        """Tell whether the midnight need not be looked at in this run: it was, and will be once more, or was twice."""
        flags = known.flags(day)
        return "closed" in flags or ("settled" in flags and not self._is_last_chance(run, day))

    def _is_last_chance(self, run: Run, day: date) -> bool:
        """Tell whether the minute at this midnight is out of the overlap's reach once the run is committed."""
        return self.late_from(run.window.end).timestamp() >= begin_of(day, self.zone) + MINUTE

    def _has_passed(self, at: float, end: float) -> bool:
        return at + MINUTE <= end or at + MINUTE + self._settings.lag <= self.now().timestamp()

    def _longest(self, start: datetime) -> int:
        least = start.timestamp() + self._settings.max_window
        return int(begin_of(day_of(least - 1, self.zone) + DAY, self.zone) - start.timestamp())

    def send(
        self, actions: Sequence[UserAction], unreadable: Sequence[tuple[dict[str, Any], str]], book: "Book"
    ) -> int:
        """Deliver rows of a book's day; return how many became dead letters."""
        # When a row was made that cannot be read is not known; a hidden minute is the least likely.
        day = Interval(_instant(book.known.noon), _instant(book.known.end))
        return self._bury_unreadable(unreadable, len(actions), day, book.desk) + self._send(actions, book.desk)


class Book:
    """What is known of one day, and what is done with a row that is not.

    Attributes:
        run: The run that it is for.
        desk: Where rows are reported.
        wait: Least seconds between two requests.
        known: The ids of the day.
        new: Event times of the rows that this slice took, by id.
        found: Rows that were sent.
        dead: Of these, dead letters.
    """

    def __init__(self, stream: StockUseractions, run: Run, desk: DayDesk, *, wait: float) -> None:
        """Open no day yet."""
        self._stream = stream
        self._source = stream.days
        self._zone = stream.zone
        self.run = run
        self.desk = desk
        self.wait = wait
        self.found = 0
        self.dead = 0

    def open(self, day: date) -> None:
        """Turn to a day."""
        self.day = day
        self.known = self.desk.seen.load(day)
        self.new: dict[int, float] = {}
        self._shared = self.desk.shared(day) if self.run.kind != "live" and self.run.etag is not None else None

    def close(self) -> None:
        """Note that the day is known up to its total."""
        if "whole" not in self.known.flags:
            self.desk.flag(self.day, "whole")

    def flush(self) -> None:
        """Mark what is confirmed."""
        self.desk.flush()

    def look(self, limit: int, offset: int = 0) -> DayPage:
        """Ask for a page and take what is new in it."""
        page = self._source.page(self.day, limit, offset, wait=self.wait)
        self._take_page(page)
        return page

    def take_all(self) -> DayPage:
        """Ask for the whole day at once, which loses nothing, and forget what is no longer there."""
        page = self._source.all(self.day, wait=self.wait)
        self._take_page(page)
        if self.is_stale(page):
            there = {action.id: action.created.timestamp() for action in page.actions}
            there |= {row_id: self.known.noon for row_id, _, _ in page.unreadable}
            self.desk.seen.replace(self.day, there | self.known.edges)
            self.known = self.desk.seen.load(self.day)
        return page

    def _take_page(self, page: DayPage) -> None:
        self.take(page.actions, page.unreadable)

    def take(
        self, actions: Iterable[UserAction], unreadable: Iterable[tuple[int, dict[str, Any], str]] = ()
    ) -> bool:
        """Send rows that are not known, if they are this run's to send; all of them are known then.

        Returns:
            Whether there were any to send.
        """
        send, note = [], []
        for action in actions:
            if action.id in self.known or action.id in self.new:
                continue
            at = action.created.timestamp()
            self.new[action.id] = at
            if self._is_wanted(action.id, at):
                send.append(action)
            else:
                note.append((at, action.id))
        # Which second they are of cannot be told; not of a hidden one is the likely answer.
        bad = [one for one in unreadable if one[0] not in self.known]
        if send or bad:
            self.dead += self._stream.send(send, [(raw, reason) for _, raw, reason in bad], self)
            self.found += len(send) + len(bad)
        if note:
            self.desk.note(note)
        for row_id, at in self.new.items():
            self.known.add(row_id, at)
        for row_id, _, _ in bad:
            self.known.add(row_id, self.known.noon)
        return bool(send or bad)

    def counted(self, page: DayPage) -> tuple[int, int]:
        """Return how many known rows there are, at least and at most, in the `total` of a page.

        Rows of the page that were made after it was asked for were written between the count and the page.
        """
        least, most = self.known.counted(page.moment)
        after = sum(at > page.moment.latest and row_id not in self.known.edges for row_id, at in self.new.items())
        return least - after, most - after

    def proves(self, page: DayPage) -> bool:
        """Tell whether all that was counted is known."""
        return page.total <= self.counted(page)[0]

    def lacks(self, page: DayPage) -> bool:
        """Tell whether rows were counted that are certainly not known."""
        return page.total > self.counted(page)[1]

    def is_unsure(self, page: DayPage) -> bool:
        """Tell whether it depends on the fraction of a second how many known rows were counted."""
        least, most = self.counted(page)
        return least != most

    def is_stale(self, page: DayPage) -> bool:
        """Tell whether rows are known that are no longer there, behind which new ones could hide."""
        return self.counted(page)[0] > page.total

    def _is_wanted(self, row_id: int, at: float) -> bool:
        run = self.run
        since = run.known_from.timestamp() if run.known_from is not None else float("inf")
        if run.kind == "live":
            if at >= since:
                return True
            if at_edge(at, self._zone):
                # It was hidden; it is due as long as the minute of this midnight is.
                day = day_of(at, self._zone)
                edge = begin_of(day if at < begin_of(day, self._zone) + MINUTE else day + DAY, self._zone)
                return edge + MINUTE > since
            # All of the day was known, so it was not there. Else it may have been sent before Redis lost its data.
            return "whole" in self.known.flags
        start, end = run.asked.start.timestamp(), run.asked.end.timestamp()
        if start <= at < end:
            return True
        return self._shared is not None and since <= at < start and row_id not in self._shared


def _around(at: float, before: DaySet, after: DaySet) -> set[int]:
    """Return ids of rows near the midnight `at`, of the days before and after it: few in a quiet night."""
    near = {
        row_id: when for day in (before, after) for row_id, when in day.edges.items() if abs(when - at) <= MINUTE
    }
    closest = {row_id for row_id, when in near.items() if abs(when - at) <= CLOSE}
    if len(closest) >= FEW:
        return closest
    # A quiet night: the last id of one day and the first of the other are not far either.
    ends = {span[side] for day, side in ((before, 1), (after, 0)) if (span := day.span())}
    return {*near, *ends}


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _days(first: date, last: date) -> Iterator[date]:
    return (first + DAY * number for number in range((last - first).days + 1))


def _ranges(days: Iterable[date]) -> Iterator[tuple[date, date]]:
    """Return days that follow each other as (first, last)."""
    for _, group in itertools.groupby(enumerate(days), lambda pair: pair[1].toordinal() - pair[0]):
        run = [day for _, day in group]
        yield run[0], run[-1]


def _instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
