"""Delivered ids by local day, as bitmaps, for a source that can only be queried and counted by day.

Ids are integers, and a day's ids are close together, so one bit each is enough. That is a fraction of a byte, while a
sorted set needs a hundred bytes. A bitmap does not hold event times. They are needed only in a day's first and last
minute: Opencast hides a part of these minutes, and the number of known ids in its count depends on which part.
"""

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import redis
from redis.client import NEVER_DECODE

from uaharvest import keys
from uaharvest.keys import Key
from uaharvest.opencast.days import MINUTE, NOTHING, TWO_READINGS, ClockReading, Shown, at_edge, begin_of, day_of
from uaharvest.runs.delivered import MARK_AT_ONCE
from uaharvest.runs.footprints import LONGEST, Footprints, Seen, Sent
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.stream import Slice
from uaharvest.sinks import Outgoing

CHUNK = 32_768  # ids per key: 4 KiB at most
# Seconds. A run's own ids must outlive an outage of the source, but expire if nobody ends the run.
RUN_EXPIRES = 7 * 86_400

# State of a day. "whole": all of its rows were known; "settled": both hidden minutes at its first midnight were read;
# "closed": they were read again after the overlap.
Flag = Literal["whole", "settled", "closed"]


class DaySet:
    """The known ids of one day, in this process."""

    def __init__(self, first: float, end: float) -> None:
        """Create an empty set; `first` and `end` are the day's bounds, seconds UTC."""
        self.first = first
        self.end = end
        self.chunks: dict[int, bytearray] = {}
        self.edges: dict[int, float] = {}
        self.flags: set[str] = set()
        self.tail: int | None = None
        self.disappeared: set[int] = set()

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

    def ids(self) -> Iterator[int]:
        """Yield the ids."""
        for number, chunk in self.chunks.items():
            for place, byte in enumerate(chunk):
                if byte:
                    yield from (number * CHUNK + place * 8 + bit for bit in range(8) if byte & (0x80 >> bit))

    def span(self) -> tuple[int, int] | None:
        """Return the smallest and the largest id; None if the set is empty."""
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
        """Add an id with its event time, seconds UTC."""
        self.disappeared.discard(row_id)
        number, bit = divmod(row_id, CHUNK)
        chunk = self.chunks.setdefault(number, bytearray())
        if bit >> 3 >= len(chunk):
            chunk.extend(bytes((bit >> 3) + 1 - len(chunk)))
        chunk[bit >> 3] |= 0x80 >> (bit & 7)
        if at < self.first + MINUTE or at >= self.end - MINUTE:
            self.edges[row_id] = at

    def counted(self, moment: ClockReading, shown: Shown = NOTHING) -> tuple[int, int]:
        """Return how many of these ids Opencast counted, at least and at most, for a request at `moment`.

        Its window is [00:00:ss, 23:59:ss], both ends included, with the seconds (and milliseconds) of its clock. The
        minimum is certain; the maximum trusts the order of the page.
        """
        firsts = sorted(at - self.first for at in self.edges.values() if at < self.first + MINUTE)
        lasts = sorted(at - (self.end - MINUTE) for at in self.edges.values() if at >= self.end - MINUTE)
        likely_firsts = firsts[bisect.bisect_left(firsts, shown.first) :]
        likely_lasts = lasts[: bisect.bisect_right(lasts, shown.last)]
        ranges = [
            (max(low, shown.least), min(high, shown.most))
            for low, high in moment.phases
            if max(low, shown.least) <= min(high, shown.most)
        ] or [(min(shown.least, shown.most), shown.most)]  # if rows and clock disagree, trust the rows
        inner = len(self) - len(firsts) - len(lasts)
        least = min(_in_window(firsts, high, lasts, low) for low, high in ranges)
        most = max(_in_window(likely_firsts, low, likely_lasts, high + TWO_READINGS) for low, high in ranges)
        return inner + least, inner + most


def _in_window(firsts: Sequence[float], begin: float, lasts: Sequence[float], end: float) -> int:
    """Count the times in the first minute from `begin` on and in the last minute up to `end`; both are sorted."""
    return len(firsts) - bisect.bisect_left(firsts, begin) + bisect.bisect_right(lasts, end)


class IdsByDay:
    """The delivered ids of an epoch or of one run, in Redis; those of a run expire after their last change."""

    def __init__(self, client: "redis.Redis", key: str, zone: ZoneInfo, *, expires: int | None = None) -> None:
        """Store them under `key`, by days of `zone`; `expires` is in seconds, None: they do not expire."""
        self.redis = client
        self.key = key
        self.zone = zone
        self.footprints = Footprints(client, key)
        self._expires = expires

    def load(self, day: date) -> DaySet:
        """Return the known ids of a day."""
        known = DaySet(begin_of(day, self.zone), begin_of(day + timedelta(days=1), self.zone))
        members = {str(member) for member in self.redis.smembers(self._of(day))}
        numbers = sorted(int(member) for member in members if member.isdecimal())
        known.flags = {member for member in members if not member.isdecimal()}
        if numbers:
            # The client decodes answers as text, but bitmaps are binary.
            chunks = [self._of(day, keys.DAY_CHUNK, number) for number in numbers]
            bitmaps: Any = self.redis.execute_command("MGET", *chunks, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
            known.chunks = {
                number: bytearray(bitmap or b"") for number, bitmap in zip(numbers, bitmaps, strict=True)
            }
        edges: Any = self.redis.zrange(self._of(day, keys.DAY_EDGES), 0, -1, withscores=True)
        known.edges = {int(row_id): float(at) for row_id, at in edges}
        known.disappeared = {int(member) for member in self.redis.smembers(self._of(day, keys.DAY_GONE))}
        tail: Any = self.redis.get(self._of(day, keys.DAY_TAIL))
        known.tail = int(tail) if tail else None
        return known

    def add(self, rows: Iterable[tuple[float, int]]) -> None:
        """Add rows (event time in seconds UTC, id), atomically."""
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
        whole, disappeared, edges = (self._of(day, kind) for kind in (keys.DAY, keys.DAY_GONE, keys.DAY_EDGES))
        numbers = {row_id // CHUNK for _, row_id in rows}
        chunks = {number: self._of(day, keys.DAY_CHUNK, number) for number in numbers}
        sets: dict[int, list[Any]] = {number: [] for number in numbers}
        for _, row_id in rows:
            sets[row_id // CHUNK].extend(("SET", "u1", row_id % CHUNK, 1))
        pipe.sadd(self.key, f"{day:%Y%m%d}")
        pipe.sadd(whole, *map(str, numbers))
        pipe.srem(disappeared, *(str(row_id) for _, row_id in rows))
        for number, key in chunks.items():
            pipe.execute_command("BITFIELD", key, *sets[number])  # type: ignore[no-untyped-call]
        at_edges = {str(row_id): at for at, row_id in rows if at_edge(at, self.zone)}
        if at_edges:
            pipe.zadd(edges, at_edges)
        if self._expires:
            for key in (self.key, whole, disappeared, edges, *chunks.values()):
                pipe.expire(key, self._expires)

    def replace(self, day: date, rows: Mapping[int, float]) -> None:
        """Count only these rows (event time by id) for a day, because the source no longer shows some known ones.

        The missing ids are remembered separately. If a lagging database gave an incomplete answer, the rows come back
        with the next one, and must not be sent twice.
        """
        known = self.load(day)
        flags, disappeared = known.flags, {*known.ids(), *known.disappeared} - rows.keys()
        self._drop([f"{day:%Y%m%d}"])
        self.add((at, row_id) for row_id, at in rows.items())
        for flag in flags:
            self.redis.sadd(self._of(day), flag)
        ids = [str(row_id) for row_id in disappeared]
        for start in range(0, len(ids), MARK_AT_ONCE):
            self.redis.sadd(self._of(day, keys.DAY_GONE), *ids[start : start + MARK_AT_ONCE])

    def flag(self, day: date, *flags: Flag) -> None:
        """Set flags of a day."""
        self.redis.sadd(self.key, f"{day:%Y%m%d}")
        self.redis.sadd(self._of(day), *flags)
        if self._expires:
            self.redis.expire(self._of(day), self._expires)

    def note_tail(self, day: date, rows: int) -> None:
        """Record how many rows of a day were young at the last look."""
        self.redis.set(self._of(day, keys.DAY_TAIL), rows, ex=2 * RUN_EXPIRES)

    def flags(self, day: date) -> set[str]:
        """Return the flags of a day."""
        return {text for member in self.redis.smembers(self._of(day)) if not (text := str(member)).isdecimal()}

    def trim(self, before: datetime) -> None:
        """Forget the days that ended at least a minute before `before`; until then their last minute may be due."""
        bound = f"{day_of(before.timestamp() - MINUTE, self.zone):%Y%m%d}"
        self._drop([str(day) for day in self.redis.smembers(self.key) if str(day) < bound])
        self.footprints.trim(before.timestamp() - LONGEST)

    def since(self) -> datetime | None:
        """Return None: what is known is recorded per day."""
        return None

    def take_over(self, former: "IdsByDay", until: datetime) -> None:
        """Do nothing: after the watermark was moved, whole days are compared again."""

    def forget(self) -> None:
        """Forget all ids and footprints."""
        self._drop([str(day) for day in self.redis.smembers(self.key)])
        self.footprints.forget()

    def _drop(self, days: Iterable[str]) -> None:
        for day in days:
            kinds = (keys.DAY, keys.DAY_EDGES, keys.DAY_TAIL, keys.DAY_GONE)
            members = self.redis.smembers(self._of(day))
            chunks = [self._of(day, keys.DAY_CHUNK, str(member)) for member in members]
            self.redis.unlink(*(self._of(day, kind) for kind in kinds), *chunks)
            self.redis.srem(self.key, day)

    def _of(self, day: date | str, kind: Key = keys.DAY, *chunk: int | str) -> str:
        return kind(self.key, day if isinstance(day, str) else f"{day:%Y%m%d}", *chunk)


def day_reporter(delivered: IdsByDay, ledger: Ledger, run: Run, _: Slice) -> "DayReporter":
    """Return the reporter for a slice of `run`."""
    return DayReporter(ledger, run, delivered)


class DayReporter:
    """Receives the reports of a slice of days. Rows are marked as delivered after they are confirmed, never before.

    A live run skips known rows. An explicit run sends all requested rows, known or not, but each only once: it keeps
    its own set of ids.
    """

    def __init__(self, ledger: Ledger, run: Run, shared: IdsByDay) -> None:
        """Report for `run`; `shared` holds the ids of the watermark's epoch."""
        self._ledger = ledger
        self._run = run
        self._shared = shared
        self.seen = shared
        if run.kind != "live":
            self.seen = IdsByDay(shared.redis, keys.RUN_SENT_DAYS(run.id), shared.zone, expires=RUN_EXPIRES)
        self._confirmed: list[tuple[float, int]] = []
        self.sent = 0

    def shared(self, day: date) -> DaySet:
        """Return the ids of a day that are known to live runs."""
        return self._shared.load(day)

    def watch(self, rows: Iterable[Seen]) -> None:
        """Track the footprints in useractions that are about to be sent; they may grow, or end earlier ones."""
        self._shared.footprints.watch(self._run, rows)

    def due(self) -> dict[str, Sent]:
        """Return what was sent of the footprints to be read again, by id, oldest first."""
        return self._shared.footprints.due(-math.inf, math.inf)

    def read_again(self, footprints: Mapping[str, int | None]) -> None:
        """Record how far footprints reach that were read again; None: not there. Those that grew were sent."""
        self.flush()
        self._shared.footprints.read_again(footprints)

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Record rows that the sink has confirmed."""
        self._confirmed.extend((row.at, int(row.id)) for row in rows)
        if len(self._confirmed) >= MARK_AT_ONCE:
            self.flush()

    def dead_letter(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Record rows whose dead letters are written."""
        self._mark([(at, int(row_id)) for at, row_id in rows], delivered=0)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the stream's own counts, by name."""
        self._ledger.count(self._run.id, counts)

    def note(self, rows: Iterable[tuple[float, int]]) -> None:
        """Record rows that are not sent but that Opencast counts."""
        self.seen.add(rows)

    def flag(self, day: date, flag: Flag) -> None:
        """Set a flag of a day, unless Redis has lost its data, and this run with it: then it would be wrong."""
        self.flush()
        if self._ledger.run(self._run.id) is not None:
            self.seen.flag(day, flag)

    def flush(self) -> None:
        """Mark the confirmed rows as known."""
        rows, self._confirmed = self._confirmed, []
        self._mark(rows, delivered=len(rows))
        self.sent += len(rows)

    def _mark(self, rows: list[tuple[float, int]], *, delivered: int) -> None:
        if not rows:
            return
        self.seen.add(rows)
        since = self._run.known_from
        if self._run.kind != "live" and since is not None:
            self._shared.add(row for row in rows if row[0] >= since.timestamp())
        self._ledger.mark(self._run.id, [], [], delivered=delivered)
