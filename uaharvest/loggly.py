"""Sends log records to Loggly from a thread, so that logging never waits for it."""

import collections
import logging
import os
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import requests

from uaharvest.answers import is_busy
from uaharvest.transport import BoundedSession

HOST = "https://logs-01.loggly.com"
# Records that wait for the thread; more are dropped. About 5 MB.
MOST_WAITING = 10_000
# Of one request. Loggly takes 5 MB; no record of ours has more than a few kB.
MOST_RECORDS = 500
# Seconds that the first record of a request waits for others.
LINGER = 1.0
# Seconds to connect, and for the answer.
TIMEOUT = (3.0, 10.0)
# Seconds between two attempts while Loggly does not answer.
RETRY = 5.0
# Seconds between two reports of what it does not take.
REPORT = 60.0
# How long the end of a process may wait for the records that are left, seconds.
AT_END = 1.5

log = logging.getLogger(__name__)


class LogglyHandler(logging.Handler):
    """Puts records into a bounded queue, which a thread sends in batches.

    A record is dropped, counted and reported on stderr if the queue is full, if Loggly refuses it, or if the process
    ends while Loggly does not answer. The thread starts with the first record of a process, because threads do not
    survive a fork.
    """

    def __init__(self, token: str, tags: Sequence[str]) -> None:
        """Send with the customer token `token`; each record gets `tags` and the tag `uaharvest`."""
        super().__init__()
        # It contains the token, so it must not be logged, and neither may the text of an exception of requests.
        self._url = f"{HOST}/bulk/{token}/tag/{','.join(('uaharvest', *tags))}/"
        self._pid = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out our own reports."""
        return record.name != __name__ and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record into the queue, or drop it if that is full."""
        try:
            line = self.format(record).encode()
        except Exception:  # noqa: BLE001 - as in every handler
            self.handleError(record)
            return
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(line)
                self._changed.notify_all()
            else:
                self._dropped += 1

    def flush(self) -> None:
        """Wait until all records are sent, at most AT_END seconds; logging calls this when the process ends."""
        if self._pid != os.getpid():
            return
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._left, AT_END)
            self._flushing = False
            lost = self._left + self._dropped
        if lost:
            log.warning("the process ends, and Loggly has not taken %s of its log lines", lost)

    def close(self) -> None:
        """End the thread, with whatever it still has."""
        if self._pid == os.getpid():
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        super().close()

    @property
    def _left(self) -> int:
        return len(self._waiting) + self._in_flight

    def _begin(self) -> None:
        """Start with nothing in a new process: what waited at the fork belongs to its parent."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._in_flight = 0
        self._dropped = 0
        self._flushing = False
        self._closed = False
        threading.Thread(target=self._send_all, name="loggly", daemon=True).start()

    def _send_all(self) -> None:
        session = BoundedSession(pool_size=1)
        reported_at, reported = -REPORT, 0
        while batch := self._next_batch():
            trouble = self._post(session, batch)
            while trouble and trouble.passes:
                reported_at = self._report(trouble.reason, reported_at)
                with self._changed:
                    if self._changed.wait_for(lambda: self._closed, RETRY):
                        return
                trouble = self._post(session, batch)
            with self._changed:
                self._dropped += len(batch) if trouble else 0
                self._in_flight = 0
                self._changed.notify_all()
            if self._dropped > reported:
                reported_before = reported_at
                reported_at = self._report(trouble.reason if trouble else "they came too fast", reported_at)
                reported = self._dropped if reported_at > reported_before else reported

    def _next_batch(self) -> list[bytes]:
        """Return the records to send next; nothing once the handler is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            self._changed.wait_for(lambda: self._flushing or len(self._waiting) >= MOST_RECORDS, LINGER)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_RECORDS))]
            self._in_flight = len(batch)
        return batch

    def _post(self, session: BoundedSession, batch: list[bytes]) -> "_Trouble | None":
        try:
            answer = session.fetch(
                self._url,
                method="POST",
                data=b"\n".join(batch),
                headers={"Content-Type": "text/plain"},
                timeout=TIMEOUT,
                longest=TIMEOUT[1],
            )
        except (requests.RequestException, ValueError) as error:
            return _Trouble(f"no answer ({type(error).__name__})", passes=True)
        if answer.status_code == HTTPStatus.OK:
            return None
        hint = ", check LOGGLY_TOKEN" if answer.status_code in {401, 403, 404} else ""
        return _Trouble(f"it answered {answer.status_code}{hint}", passes=is_busy(answer.status_code))

    def _report(self, reason: str, reported_at: float) -> float:
        """Report on stderr, at most once every REPORT seconds; return when it was reported last."""
        now = time.monotonic()
        if now - reported_at < REPORT:
            return reported_at
        log.warning("Loggly does not take log lines: %s. Dropped so far: %s", reason, self._dropped)
        return now


class _Trouble(NamedTuple):
    """Why Loggly did not take a batch, and whether it may take it later."""

    reason: str
    passes: bool
