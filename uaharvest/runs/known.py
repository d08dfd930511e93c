"""Known ids: which rows are confirmed already, so that a look back over them finds only what is new.

Kept per epoch of the watermark, source and queue: after an operator's reset everything is sent again. They are
trimmed by event time against the watermark, never by a TTL: an outage of a day must not forget them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

import redis

from uaharvest.runs.ledger import PREFIX, Ledger, Run
from uaharvest.runs.windows import Interval
from uaharvest.sinks import Outgoing

# Confirmed rows are marked as known in groups: one message to Redis for many, no long gap for a crash.
MARK_AT_ONCE = 500


class KnownIds:
    """A sorted set of ids by event time, seconds UTC."""

    def __init__(self, client: "redis.Redis", key: str) -> None:
        """Use the set `key` of `client`, which decodes responses."""
        self.redis = client
        self.key = key

    def within(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids with start <= event time < end."""
        ids = self.redis.zrangebyscore(self.key, start.timestamp(), f"({end.timestamp()}")
        return {str(row_id) for row_id in ids}

    def count(self, first: datetime, last: datetime) -> int:
        """Count the ids with first <= event time <= last: the closed range in which Opencast counts."""
        return int(self.redis.zcount(self.key, first.timestamp(), last.timestamp()))

    def trim(self, before: datetime) -> None:
        """Forget the ids with an event time before `before`."""
        self.redis.zremrangebyscore(self.key, "-inf", f"({before.timestamp()}")

    def forget(self) -> None:
        """Forget all of them."""
        self.redis.unlink(self.key)

    def desk(self, ledger: Ledger, run: Run, interval: Interval) -> "SliceDesk":
        """Return where a slice of `run`, which stands for `interval`, is worked at."""
        return SliceDesk(ledger, run, interval, self)


def known_key(stream: str, epoch: str, destination: str) -> str:
    """Return the key of the known ids of `epoch` for `destination`, which is source and queue as text."""
    return f"{_place(stream, destination)}:{epoch}"


def former_epoch(client: "redis.Redis", stream: str, epoch: str, destination: str) -> str | None:
    """Note the present epoch; return the one before it, with whose known ids no window will be compared again."""
    former = client.set(_place(stream, destination), epoch, get=True)
    return str(former) if former and former != epoch else None


def digest(destination: str) -> str:
    """Return what stands for `destination` in Redis."""
    return hashlib.sha256(destination.encode()).hexdigest()[:12]


def _place(stream: str, destination: str) -> str:
    return f"{PREFIX}known:{stream}:{digest(destination)}"


class SliceDesk:
    """Where a slice is worked at; marks rows as known after they are confirmed, never before."""

    def __init__(self, ledger: Ledger, run: Run, interval: Interval, shared: KnownIds) -> None:
        """Choose the sets of ids that count for this slice.

        A live run leaves out what is known. An explicit run sends what it was asked for whether known or not, but
        once: it keeps its own set. What it looks for before its window, as a live run does, it leaves out too.
        """
        self._ledger = ledger
        self._run_id = run.id
        sent = KnownIds(ledger.redis, ledger.sent_key(run.id))
        late = interval.end <= run.asked.start
        self._left_out = shared if run.kind == "live" or late else sent
        self._marked = [] if run.kind == "live" else [sent.key]
        if run.known_from is not None and interval.end > run.known_from:
            self._marked.append(shared.key)
        self._confirmed: list[tuple[float, int | str]] = []

    def known(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids in [start, end) that this slice must not send."""
        return self._left_out.within(start, end)

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        """Take rows that the sink has confirmed."""
        self._confirmed.extend((row.at, row.id) for row in rows)
        if len(self._confirmed) >= MARK_AT_ONCE:
            self.flush()

    def bury(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Take rows whose dead letters are written."""
        self._ledger.mark(self._run_id, self._marked, list(rows), delivered=0)

    def count(self, counts: Mapping[str, int]) -> None:
        """Count what is worth it."""
        self._ledger.count(self._run_id, counts)

    def flush(self) -> None:
        """Mark what is confirmed."""
        while self._confirmed:
            rows = self._confirmed[:MARK_AT_ONCE]
            self._ledger.mark(self._run_id, self._marked, rows, delivered=len(rows))
            del self._confirmed[:MARK_AT_ONCE]
