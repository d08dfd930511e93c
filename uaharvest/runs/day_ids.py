"""Known ids by local day, as bitmaps: for a source that tells no ranges of time, only days and how many rows they have.

An id is a whole number, and a day's ids lie close together, so a bit each is enough: a fraction of a byte (a sorted
set needs a hundred). What a bitmap forgets, when a row was made, is needed for a day's first and last minute only:
Opencast hides a part of these, and how many of the known ids it can have counted depends on which.

Keys, below the `key` of one epoch, source and queue:

    <key>                 set: the days there are
    <key>:<day>           set: the day's chunks, and what else is true of it ("whole", "settled", "closed")
    <key>:<day>:<chunk>   bitmap of the ids from chunk * CHUNK on
    <key>:<day>:edges     sorted set: ids of the first and the last minute by event time, seconds UTC
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import redis
from redis.client import NEVER_DECODE

from uaharvest.runs.known import MARK_AT_ONCE
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.windows import Interval
from uaharvest.sinks import Outgoing

CHUNK = 32_768  # ids per key: 4 KiB at most
MINUTE = 60.0
# A run's own ids outlive a break of the source, and a run that nobody ended does not stay for ever.
RUN_EXPIRES = 7 * 86_400

# Of a day: all that was there is known; both hidden minutes at its first midnight were looked at; and were again
# after the overlap.
Flag = Literal["whole", "settled", "closed"]


@functools.lru_cache(maxsize=512)
def begin_of(day: date, zone: ZoneInfo) -> float:
    """Return the first instant of a local day, seconds UTC."""
    return datetime.combine(day, time(), zone).timestamp()


def day_of(at: float, zone: ZoneInfo) -> date:
    """Return the local day of an instant, seconds UTC."""
    return _day_of_quarter(at // 900, zone)


@functools.lru_cache(maxsize=4096)
def _day_of_quarter(quarter: float, zone: ZoneInfo) -> date:
    # No zone changes its day within a quarter of an hour.
    return datetime.fromtimestamp(quarter * 900, zone).date()


def at_edge(at: float, zone: ZoneInfo) -> bool:
    """Tell whether an instant lies in the first or the last minute of its local day."""
    day = day_of(at, zone)
    return at < begin_of(day, zone) + MINUTE or at >= begin_of(day + timedelta(days=1), zone) - MINUTE


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """When the server looked at its clock, seconds UTC by that clock: not before `earliest`, not after `latest`."""

    earliest: float
    latest: float

    @property
    def phase(self) -> tuple[float, float]:
        """Return the least and the greatest second of the minute that it may have been."""
        if self.earliest // MINUTE != self.latest // MINUTE:
            return 0.0, MINUTE
        return self.earliest % MINUTE, self.latest % MINUTE


class DaySet:
    """The known ids of one day, in this process."""

    def __init__(self, first: float, end: float) -> None:
        """Begin empty; `first` and `end` are the day's bounds, seconds UTC."""
        self.first = first
        self.end = end
        self.chunks: dict[int, bytearray] = {}
        self.edges: dict[int, float] = {}
        self.flags: set[str] = set()

    @property
    def noon(self) -> int:
        """Return the middle of the day, seconds UTC."""
        return int(self.first + self.end) // 2

    def __contains__(self, row_id: int) -> bool:
        number, bit = divmod(row_id, CHUNK)
        chunk = self.chunks.get(number)
        return chunk is not None and bit >> 3 < len(chunk) and bool(chunk[bit >> 3] & (0x80 >> (bit & 7)))

    def __len__(self) -> int:
        return sum(int.from_bytes(chunk, "big").bit_count() for chunk in self.chunks.values())

    def span(self) -> tuple[int, int] | None:
        """Return the least and the greatest of the ids, None if there is none."""
        numbers = sorted(number for number, chunk in self.chunks.items() if any(chunk))
        if not numbers:
            return None
        low, high = (bytes(self.chunks[number]) for number in (numbers[0], numbers[-1]))
        bits = int.from_bytes(high, "big")
        last = len(high) * 8 - (bits & -bits).bit_length()
        return numbers[0] * CHUNK + len(low) * 8 - int.from_bytes(low, "big").bit_length(), numbers[
            -1
        ] * CHUNK + last

    def add(self, row_id: int, at: float) -> None:
        """Take one id and its event time, seconds UTC."""
        number, bit = divmod(row_id, CHUNK)
        chunk = self.chunks.setdefault(number, bytearray())
        if bit >> 3 >= len(chunk):
            chunk.extend(bytes((bit >> 3) + 1 - len(chunk)))
        chunk[bit >> 3] |= 0x80 >> (bit & 7)
        if at < self.first + MINUTE or at >= self.end - MINUTE:
            self.edges[row_id] = at

    def counted(self, moment: Moment) -> tuple[int, int]:
        """Return how many of these ids Opencast counted, at least and at most, when asked for the day at `moment`.

        Its window is [00:00:ss, 23:59:ss], both included, with the seconds (and milliseconds) of its clock.
        """
        least, most = moment.phase
        sure = maybe = 0
        for at in self.edges.values():
            if at < self.first + MINUTE:
                second = at - self.first
                sure, maybe = sure + (second >= most), maybe + (second >= least)
            else:
                second = at - (self.end - MINUTE)
                sure, maybe = sure + (second <= least), maybe + (second <= most)
        inner = len(self) - len(self.edges)
        return inner + sure, inner + maybe


class DayIds:
    """The ids that are known, in Redis; of an epoch, or of one run (`expires`: seconds after the last change)."""

    def __init__(self, client: "redis.Redis", key: str, zone: ZoneInfo, *, expires: int | None = None) -> None:
        """Keep them below `key` of `client`, by days of `zone`."""
        self.redis = client
        self.key = key
        self.zone = zone
        self._expires = expires

    def load(self, day: date) -> DaySet:
        """Return what is known of a day."""
        known = DaySet(begin_of(day, self.zone), begin_of(day + timedelta(days=1), self.zone))
        key = self._of(day)
        members = {str(member) for member in self.redis.smembers(key)}
        numbers = sorted(int(member) for member in members if member.isdecimal())
        known.flags = {member for member in members if not member.isdecimal()}
        if numbers:
            # The client decodes answers; a bitmap is no text.
            keys = [f"{key}:{number}" for number in numbers]
            bitmaps: Any = self.redis.execute_command("MGET", *keys, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
            known.chunks = {
                number: bytearray(bitmap or b"") for number, bitmap in zip(numbers, bitmaps, strict=True)
            }
        edges: Any = self.redis.zrange(f"{key}:edges", 0, -1, withscores=True)
        known.edges = {int(row_id): float(at) for row_id, at in edges}
        return known

    def add(self, rows: Iterable[tuple[float, int]]) -> None:
        """Take rows (event time in seconds UTC, id), in one step."""
        by_day: dict[date, list[tuple[float, int]]] = {}
        for at, row_id in rows:
            by_day.setdefault(day_of(at, self.zone), []).append((at, row_id))
        if not by_day:
            return
        with self.redis.pipeline(transaction=True) as pipe:
            for day, some in by_day.items():
                self._add(pipe, day, some)
            pipe.execute()

    def _add(self, pipe: "redis.client.Pipeline", day: date, rows: list[tuple[float, int]]) -> None:
        key = self._of(day)
        chunks: dict[int, list[Any]] = {}
        for _, row_id in rows:
            chunks.setdefault(row_id // CHUNK, []).extend(("SET", "u1", row_id % CHUNK, 1))
        pipe.sadd(self.key, f"{day:%Y%m%d}")
        pipe.sadd(key, *map(str, chunks))
        for number, sets in chunks.items():
            pipe.execute_command("BITFIELD", f"{key}:{number}", *sets)  # type: ignore[no-untyped-call]
        edges = {str(row_id): at for at, row_id in rows if at_edge(at, self.zone)}
        if edges:
            pipe.zadd(f"{key}:edges", edges)
        if self._expires:
            for name in (self.key, key, f"{key}:edges", *(f"{key}:{number}" for number in chunks)):
                pipe.expire(name, self._expires)

    def replace(self, day: date, rows: Mapping[int, float]) -> None:
        """Know of a day these rows (event time by id) and no others: some that were known are gone at the source."""
        flags = self.load(day).flags
        self._drop([f"{day:%Y%m%d}"])
        self.add((at, row_id) for row_id, at in rows.items())
        for flag in flags:
            self.redis.sadd(self._of(day), flag)

    def flag(self, day: date, *flags: Flag) -> None:
        """Note what is true of a day."""
        self.redis.sadd(self.key, f"{day:%Y%m%d}")
        self.redis.sadd(self._of(day), *flags)
        if self._expires:
            self.redis.expire(self._of(day), self._expires)

    def flags(self, day: date) -> set[str]:
        """Return what is true of a day."""
        return {text for member in self.redis.smembers(self._of(day)) if not (text := str(member)).isdecimal()}

    def trim(self, before: datetime) -> None:
        """Forget the days that ended a minute before `before`: so long their last minute may be due."""
        bound = f"{day_of(before.timestamp() - MINUTE, self.zone):%Y%m%d}"
        self._drop([str(day) for day in self.redis.smembers(self.key) if str(day) < bound])

    def forget(self) -> None:
        """Forget all of it."""
        self._drop([str(day) for day in self.redis.smembers(self.key)])

    def desk(self, ledger: Ledger, run: Run, _: Interval) -> "DayDesk":
        """Return where a slice of `run` is worked at."""
        return DayDesk(ledger, run, self)

    def _drop(self, days: Iterable[str]) -> None:
        for day in days:
            key = f"{self.key}:{day}"
            chunks = [str(member) for member in self.redis.smembers(key)]
            self.redis.unlink(key, f"{key}:edges", *(f"{key}:{number}" for number in chunks))
            self.redis.srem(self.key, day)

    def _of(self, day: date) -> str:
        return f"{self.key}:{day:%Y%m%d}"


class DayDesk:
    """Where a slice is worked at; rows are marked as known after they are confirmed, never before.

    A live run leaves out what is known. An explicit run sends what it was asked for whether known or not, but once:
    it has ids of its own.
    """

    def __init__(self, ledger: Ledger, run: Run, shared: DayIds) -> None:
        """Work for `run`; `shared` are the ids of the watermark's epoch."""
        self._ledger = ledger
        self._run = run
        self._shared = shared
        self.seen = shared
        if run.kind != "live":
            self.seen = DayIds(shared.redis, f"{ledger.sent_key(run.id)}:days", shared.zone, expires=RUN_EXPIRES)
        self._confirmed: list[tuple[float, int]] = []

    def shared(self, day: date) -> DaySet:
        """Return what the live runs know of a day."""
        return self._shared.load(day)

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Take rows that the sink has confirmed."""
        self._confirmed.extend((row.at, int(row.id)) for row in rows)
        if len(self._confirmed) >= MARK_AT_ONCE:
            self.flush()

    def bury(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Take rows whose dead letters are written."""
        self._mark([(at, int(row_id)) for at, row_id in rows], delivered=0)

    def count(self, counts: Mapping[str, int]) -> None:
        """Count what is worth it."""
        self._ledger.count(self._run.id, counts)

    def note(self, rows: Iterable[tuple[float, int]]) -> None:
        """Take rows that are not to be sent; they are there, and so they count."""
        self.seen.add(rows)

    def flag(self, day: date, flag: Flag) -> None:
        """Note what is true of a day, unless Redis has lost its data, and this run, since: it is not true of that."""
        self.flush()
        if self._ledger.run(self._run.id) is not None:
            self.seen.flag(day, flag)

    def flush(self) -> None:
        """Mark what is confirmed."""
        rows, self._confirmed = self._confirmed, []
        self._mark(rows, delivered=len(rows))

    def _mark(self, rows: list[tuple[float, int]], *, delivered: int) -> None:
        if not rows:
            return
        self.seen.add(rows)
        since = self._run.known_from
        if self._run.kind != "live" and since is not None:
            self._shared.add(row for row in rows if row[0] >= since.timestamp())
        self._ledger.mark(self._run.id, [], [], delivered=delivered)
