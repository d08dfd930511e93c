"""Footprints that may still grow: Opencast lengthens a FOOTPRINT in place without changing anything else in the row.

`PUT /usertracking` lengthens the session's newest FOOTPRINT if the new part begins where that one ends; `created` does
not change (read in the source of Opencast 5.5 to develop). So a footprint that was sent is read again when its session
goes on to something else, or after an hour. It is read one last time after three hours, or when its session has a
newer footprint. If it has grown, it is sent again under the same id.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from uaharvest import keys
from uaharvest.runs.ledger import Run

TYPE = "FOOTPRINT"
# Players send one every 30 s whatever the viewer does, so it does not end a footprint.
HEARTBEAT = "HEARTBEAT"
HOUR = 3600.0
# Seconds. A footprint of this age is complete and is read for the last time. Harvesting history reads nothing twice.
LONGEST = 3 * HOUR
MANY = 1000  # ids per command


class Seen(NamedTuple):
    """A useraction that is about to be sent.

    Attributes:
        id: Its id.
        at: Its event time, seconds UTC.
        session: Its session; None if unknown.
        reach: For a FOOTPRINT, how far it goes, seconds into the video; None for other types.
    """

    id: int
    at: float
    session: str | None
    reach: int | None


class Sent(NamedTuple):
    """What is stored about a footprint: its reach when sent, how often it was read again, its session's digest."""

    reach: int
    reads: int
    session: str


class _Newest(NamedTuple):
    id: int
    at: float
    run: str


class _News:
    """Works out which footprints to watch, and which have ended, from useractions of a run."""

    def __init__(self, run_id: str, newest: dict[str, _Newest], sent: Mapping[str, Sent]) -> None:
        self._run_id = run_id
        self._newest = newest  # by session digest; kept up to date
        self._sent = sent
        self.watched: dict[str, tuple[float, Sent]] = {}
        self.due: dict[str, float] = {}
        self.closed: dict[str, float] = {}
        self.complete: set[str] = set()

    def take(self, row: Seen) -> None:
        """Process the next useraction in the order of time."""
        digest = _digest(row.session)
        last = self._newest.get(digest) if digest else None
        if last is not None and last.at > row.at:
            return  # its session had already moved on when it was read
        if last is not None and last.id != row.id:
            self._end(last, by_footprint=row.reach is not None and last.at < row.at)
        if row.reach is not None:
            self.watched[str(row.id)] = (row.at, Sent(row.reach, 0, digest))
            if digest:
                self._newest[digest] = _Newest(row.id, row.at, self._run_id)

    def _end(self, last: _Newest, *, by_footprint: bool) -> None:
        row_id = str(last.id)
        if last.run == self._run_id:
            if by_footprint:  # it was complete: this run read it after its whole window had been written
                self.complete.add(row_id)
                self.watched.pop(row_id, None)
        elif by_footprint:
            self.due[row_id] = self.closed[row_id] = last.at
        elif row_id not in self._sent or not self._sent[row_id].reads:
            self.due[row_id] = last.at


class Footprints:
    """The footprints of an epoch that may still grow."""

    def __init__(self, client: "redis.Redis", key: str) -> None:
        """Store them under `key` of `client`, which must decode responses."""
        self._redis = client
        self._keys = {
            "watched": keys.WATCHED(key),
            "reach": keys.REACH(key),
            "sessions": keys.SESSIONS(key),
            "due": keys.DUE(key),
            "closed": keys.CLOSED(key),
            "reread": keys.REREAD(key),
        }

    def take_over(self, former: "Footprints") -> None:
        """Copy what a former epoch watches."""
        for name, key in self._keys.items():
            self._redis.copy(former._keys[name], key)  # noqa: SLF001 - its own class

    def watch(self, run: Run, rows: Iterable[Seen]) -> None:
        """Process useractions that a run is about to send, except heartbeats: footprints, and rows that end some."""
        if run.known_from is None:
            return
        now = run.source_now or run.opened_at
        first = max(run.known_from.timestamp(), now.timestamp() - LONGEST)
        rows = [row for row in rows if row.at >= first and (row.session or row.reach is not None)]
        rows.sort(key=lambda row: row.at)
        if not any(row.reach is not None for row in rows) and not self._redis.exists(self._keys["sessions"]):
            return  # most sites have no footprints
        newest = self._newest({digest for row in rows if (digest := _digest(row.session))})
        news = _News(run.id, newest, self._sent(str(one.id) for one in newest.values()))
        for row in rows:
            news.take(row)
        with self._redis.pipeline() as pipe:
            if news.complete:
                self._unwatch(pipe, news.complete)
            if news.watched:
                pipe.zadd(self._keys["watched"], {row_id: at for row_id, (at, _) in news.watched.items()})
                reach: dict[Any, Any] = {row_id: json.dumps(one) for row_id, (_, one) in news.watched.items()}
                pipe.hset(self._keys["reach"], mapping=reach)
            if newest:
                sessions: dict[Any, Any] = {digest: json.dumps(one) for digest, one in newest.items()}
                pipe.hset(self._keys["sessions"], mapping=sessions)
            for name, ids in (("due", news.due), ("closed", news.closed)):
                if ids:
                    pipe.zadd(self._keys[name], ids)
            pipe.execute()

    def plan(self, now: float) -> Sequence[float]:
        """Return the sorted event times of the footprints to read again; all times are seconds UTC."""
        watched: Any = self._redis.zrangebyscore(self._keys["watched"], "-inf", now - HOUR, withscores=True)
        read = {row_id for row_id, one in self._sent(row_id for row_id, _ in watched).items() if one.reads}
        last = {row_id: at for row_id, at in watched if at <= now - LONGEST}
        due = {row_id: at for row_id, at in watched if row_id not in read} | last
        with self._redis.pipeline() as pipe:
            if due:
                pipe.zadd(self._keys["due"], due)
            if last:
                pipe.zadd(self._keys["closed"], last)
            pipe.execute()
        ids: Any = self._redis.zrange(self._keys["due"], 0, -1, withscores=True)
        return sorted({at for _, at in ids})

    def due(self, start: float, end: float) -> dict[str, Sent]:
        """Return what was sent of the footprints to read again with start <= event time < end, by id."""
        ids: Any = self._redis.zrangebyscore(self._keys["due"], start, f"({end}")
        return self._sent(ids)

    def read_again(self, footprints: Mapping[str, int | None]) -> None:
        """Record footprints that were read again, and sent if they had grown: id and how far (None: not found)."""
        if not footprints:
            return
        scores = self._redis.zmscore(self._keys["closed"], list(footprints))
        final = {row_id for row_id, score in zip(footprints, scores, strict=True) if score is not None}
        sent = self._sent(footprints)
        with self._redis.pipeline() as pipe:
            pipe.zrem(self._keys["due"], *footprints)
            for row_id, one in sent.items():
                reach = footprints[row_id]
                if row_id not in final:
                    again = one._replace(reach=one.reach if reach is None else reach, reads=one.reads + 1)
                    pipe.hset(self._keys["reach"], row_id, json.dumps(again))
            if final:
                self._unwatch(pipe, final)
            pipe.execute()
        self._forget_sessions({one.session: row_id for row_id, one in sent.items() if row_id in final})

    def reread_at(self) -> float:
        """Return when footprints were last read again, seconds UTC; 0 for never."""
        return float(self._redis.get(self._keys["reread"]) or 0)

    def note_reread(self, now: float) -> None:
        """Record that footprints are read again at `now`, seconds UTC."""
        self._redis.set(self._keys["reread"], now)

    def trim(self, before: float) -> None:
        """Forget the footprints with an event time before `before`, seconds UTC."""
        ids: Any = self._redis.zrangebyscore(self._keys["watched"], "-inf", f"({before}")
        for start in range(0, len(ids), MANY):
            some = ids[start : start + MANY]
            sent = self._sent(some)
            with self._redis.pipeline() as pipe:
                self._unwatch(pipe, some)
                pipe.execute()
            self._forget_sessions({one.session: row_id for row_id, one in sent.items()})
        for name in ("due", "closed"):
            self._redis.zremrangebyscore(self._keys[name], "-inf", f"({before}")

    def forget(self) -> None:
        """Forget all footprints."""
        self._redis.unlink(*self._keys.values())

    def _sent(self, ids: Iterable[str]) -> dict[str, Sent]:
        ids = list(ids)
        texts = self._redis.hmget(self._keys["reach"], ids) if ids else []
        return {row_id: Sent(*json.loads(text)) for row_id, text in zip(ids, texts, strict=True) if text}

    def _newest(self, digests: Iterable[str]) -> dict[str, _Newest]:
        digests = list(digests)
        texts = self._redis.hmget(self._keys["sessions"], digests) if digests else []
        return {digest: _Newest(*json.loads(text)) for digest, text in zip(digests, texts, strict=True) if text}

    def _unwatch(self, pipe: Any, ids: Iterable[str]) -> None:
        ids = list(ids)
        for name in ("watched", "due", "closed"):
            pipe.zrem(self._keys[name], *ids)
        pipe.hdel(self._keys["reach"], *ids)

    def _forget_sessions(self, newest: Mapping[str, str]) -> None:
        """Forget the sessions whose newest footprint is the given one (digest of the session to footprint id)."""
        noted = self._newest(digest for digest in newest if digest)
        over = [digest for digest, one in noted.items() if str(one.id) == newest[digest]]
        if over:
            self._redis.hdel(self._keys["sessions"], *over)


def _digest(session: str | None) -> str:
    return hashlib.sha256(session.encode(errors="surrogatepass")).hexdigest()[:12] if session else ""
