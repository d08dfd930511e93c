"""Delivered ids: the rows that are already confirmed, so that the search for late rows finds only new ones.

They are kept per watermark epoch, source and queue, so after an operator's reset everything is sent again. They are
trimmed by event time relative to the watermark, and not by a TTL, because an outage of a day must not delete them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import redis

from uaharvest import keys
from uaharvest.intervals import Interval
from uaharvest.runs.footprints import LONGEST, Footprints, Seen, Sent
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.stream import Slice
from uaharvest.sinks import Outgoing

# Confirmed rows are marked as known in groups: few calls to Redis, but few rows are sent twice after a crash.
MARK_AT_ONCE = 1000


class IdsByTime:
    """A sorted set of ids by event time, seconds UTC."""

    def __init__(self, client: "redis.Redis", key: str) -> None:
        """Use the set `key` of `client`, which must decode responses."""
        self.redis = client
        self.key = key
        self._since_key = keys.SINCE(key)
        self.footprints = Footprints(client, key)

    def within(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids with start <= event time < end."""
        ids = self.redis.zrangebyscore(self.key, start.timestamp(), f"({end.timestamp()}")
        return {str(row_id) for row_id in ids}

    def count(self, first: datetime, last: datetime) -> int:
        """Count the ids with first <= event time <= last, a closed range like those of Opencast's counts."""
        return int(self.redis.zcount(self.key, first.timestamp(), last.timestamp()))

    def since(self) -> datetime | None:
        """Return from when on all delivered rows are known; None if that is not recorded.

        The overlap has left behind everything before that time. Looking there again would send those rows again.
        """
        text = self.redis.get(self._since_key)
        return datetime.fromtimestamp(float(text), UTC) if text else None

    def gaps(self) -> dict[str, int]:
        """Return how many unknown rows the source has in each slice that became a dead letter, as last recorded."""
        noted = self.redis.hgetall(keys.KNOWN_GAPS(self.key))
        return {str(gap): int(rows) for gap, rows in noted.items()}

    def note_gap(self, gap: Interval, rows: int) -> None:
        """Record how many unknown rows the source has in a slice that became a dead letter."""
        self.redis.hset(keys.KNOWN_GAPS(self.key), str(gap), rows)

    def trim(self, before: datetime) -> None:
        """Forget the ids with an event time before `before`, and record from when on ids are known.

        That time never moves back, because a longer overlap (HARVEST_OVERLAP_SECONDS) does not restore ids.
        """
        self.redis.set(self._since_key, max(before, self.since() or before).timestamp())
        self.redis.zremrangebyscore(self.key, "-inf", f"({before.timestamp()}")
        self.footprints.trim(before.timestamp() - LONGEST)
        over = [gap for gap in self.gaps() if Interval.parse(gap).end <= before]
        if over:
            self.redis.hdel(keys.KNOWN_GAPS(self.key), *over)

    def take_over(self, former: "IdsByTime", until: datetime) -> None:
        """Copy the ids of a former epoch before `until`, if this epoch has none yet.

        An operator who moves the watermark back wants the rows after it again, but not those of the overlap before it.
        """
        since = former.since()
        if since is None or self.redis.exists(self._since_key):
            return
        self.redis.zrangestore(
            self.key,
            former.key,
            "-inf",
            f"({until.timestamp()}",
            byscore=True,
        )
        self.footprints.take_over(former.footprints)
        self.redis.set(self._since_key, since.timestamp())

    def forget(self) -> None:
        """Forget all ids and footprints."""
        self.redis.unlink(self.key, self._since_key, keys.KNOWN_GAPS(self.key))
        self.footprints.forget()


def known_key(stream: str, epoch: str, destination: str) -> str:
    """Return the key of the known ids of `epoch` for `destination` (source and queue as text)."""
    return keys.KNOWN(stream, digest(destination), epoch)


def former_epoch(client: "redis.Redis", stream: str, epoch: str, destination: str) -> str | None:
    """Store `epoch` as the current one; return the previous epoch, whose known ids are no longer needed."""
    former = client.set(keys.EPOCH(stream, digest(destination)), epoch, get=True)
    return str(former) if former and former != epoch else None


def digest(destination: str) -> str:
    """Return the digest that stands for `destination` in Redis."""
    return hashlib.sha256(destination.encode()).hexdigest()[:12]


def time_reporter(delivered: IdsByTime, ledger: Ledger, run: Run, slice_: Slice) -> "TimeReporter":
    """Return the reporter for a slice of `run` that is an interval of time."""
    return TimeReporter(ledger, run, slice_.interval, delivered)


class TimeReporter:
    """Receives the reports of a time slice. Rows are marked as delivered after they are confirmed, never before."""

    def __init__(self, ledger: Ledger, run: Run, interval: Interval, shared: IdsByTime) -> None:
        """Choose the sets of ids to use for this slice.

        A live run skips known rows. An explicit run sends all requested rows, known or not, but each only once: it
        keeps its own set of ids. In its search for late rows before its window it skips known rows too.
        """
        self._ledger = ledger
        self._run = run
        self._footprints = shared.footprints
        sent = IdsByTime(shared.redis, keys.RUN_SENT(run.id))
        late = interval.end <= run.requested.start
        self._left_out = shared if run.kind == "live" or late else sent
        self._marked = [] if run.kind == "live" else [sent.key]
        if run.known_from is not None and interval.end > run.known_from:
            self._marked.append(shared.key)
        self._confirmed: list[tuple[float, int | str]] = []
        self.sent = 0

    def delivered(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids in [start, end) that this slice must not send."""
        return self._left_out.within(start, end)

    def watch(self, rows: Iterable[Seen]) -> None:
        """Track the footprints in useractions that are about to be sent; they may grow, or end earlier ones."""
        self._footprints.watch(self._run, rows)

    def due(self, start: datetime, end: datetime) -> dict[str, Sent]:
        """Return what was sent of the footprints in [start, end) to read again, by id."""
        return self._footprints.due(start.timestamp(), end.timestamp()) if self._run.kind == "live" else {}

    def read_again(self, footprints: Mapping[str, int | None]) -> None:
        """Record footprints that were read again, and sent if they had grown: id and how far (None: not found)."""
        self.flush()
        self._footprints.read_again(footprints)

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Record rows that the sink has confirmed."""
        self._confirmed += [(at, row_id) for row_id, at, _ in rows]
        if len(self._confirmed) >= MARK_AT_ONCE:
            self.flush()

    def dead_letter(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Record rows whose dead letters are written."""
        self._ledger.mark(self._run.id, self._marked, list(rows), delivered=0)

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the stream's own counts, by name."""
        self._ledger.count(self._run.id, counts)

    def flush(self) -> None:
        """Mark the confirmed rows as known."""
        while self._confirmed:
            rows = self._confirmed[:MARK_AT_ONCE]
            self._ledger.mark(self._run.id, self._marked, rows, delivered=len(rows))
            self.sent += len(rows)
            del self._confirmed[:MARK_AT_ONCE]
