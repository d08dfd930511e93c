"""The results of audits, kept in Redis for `status`."""

import contextlib
import json
from collections.abc import Iterator
from datetime import date

import redis
from redis.exceptions import LockError

from uaharvest import keys
from uaharvest.audit.day import DayAudit
from uaharvest.errors import BusyError

KEPT = 60  # days of each stream
HELD = 900  # time-out of the lock, seconds; a task takes no longer


class Results:
    """The newest audit of each day of a stream."""

    def __init__(self, client: "redis.Redis", place: str) -> None:
        """Keep them in `client`; `place` is that of the stream."""
        self._redis = client
        self._key = keys.AUDITS(place)
        self._lock = keys.AUDIT_LOCK(place)

    def put(self, audit: DayAudit) -> None:
        """Keep an audit in place of earlier ones of its day, and forget days that are too old."""
        self._redis.hset(self._key, f"{audit.day:%F}", json.dumps(audit.entry()))
        days = sorted(self._redis.hkeys(self._key))
        if old := days[:-KEPT]:
            self._redis.hdel(self._key, *old)

    def get(self, day: date) -> DayAudit | None:
        """Return the audit of a day, which may have been left halfway; None if there is none."""
        text = self._redis.hget(self._key, f"{day:%F}")
        return DayAudit.of_entry(json.loads(text)) if text else None

    def all(self) -> list[DayAudit]:
        """Return all whole audits, by day."""
        found = (DayAudit.of_entry(json.loads(text)) for text in self._redis.hvals(self._key))
        return sorted((one for one in found if one.pieces is None), key=lambda one: one.day)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lock, so that only one worker audits the stream; raises BusyError if another one does."""
        lock = self._redis.lock(self._lock, timeout=HELD)
        if not lock.acquire(blocking=False):
            raise BusyError("another worker audits this stream.")
        try:
            yield
        finally:
            with contextlib.suppress(LockError):  # it expired
                lock.release()
