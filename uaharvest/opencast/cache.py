"""Episodes in Redis, so that thousands of useractions of a lecture cost one look-up."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from redis import Redis
from redis.exceptions import LockNotOwnedError

from uaharvest.errors import BlockedError, SourceError
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.episodes import episode_part
from uaharvest.runs.ledger import PREFIX

FETCHES_AT_ONCE = 4
NEGATIVE_SECONDS = 60  # an episode that is not there may be published any moment
LOCK_SECONDS = 30  # of a holder that died; a living one has its episode in less
POLL_SECONDS = 0.05
NO_EPISODE = "no-such-episode"

Fetch = Callable[[str], dict[str, Any]]


def fetch_from(opencast: Opencast) -> Fetch:
    """Return the look-up of an episode's part at `opencast`; {} for an episode that is not there."""

    def fetch(mpid: str) -> dict[str, Any]:
        result = opencast.episode(mpid)
        return {} if result is None else episode_part(result)

    return fetch


class EpisodeCache:
    """The episode parts of records, as text that is put into them as it is; shared by all workers.

    For use with Opencast: `EpisodeCache(redis, fetch_from(opencast), expire=900, source=opencast.base_url)`.

    Args:
        redis: May decode its responses or not.
        fetch: Looks one episode up; called from `FETCHES_AT_ONCE` threads.
        expire: How long an episode is kept, seconds.
        source: Where `fetch` looks: caches of different sources share nothing.
        pause: Sleeps for some seconds while another worker fetches.
    """

    def __init__(
        self,
        redis: Redis,
        fetch: Fetch,
        expire: int,
        source: str,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._redis = redis
        self._fetch = fetch
        self._expire = expire
        self._pause = pause
        self._prefix = f"{PREFIX}episode:{hashlib.sha256(source.encode()).hexdigest()[:12]}:"
        # Kept, with its threads, for the cache's life: a thread's first request costs a digest challenge.
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "episodes")

    def answers(self) -> bool:
        """Tell whether look-ups work at all, by one of an episode that cannot be."""
        try:
            self._fetch(NO_EPISODE)
        except (SourceError, BlockedError):
            return False
        return True

    def get_many(self, mpids: Iterable[str]) -> dict[str, str]:
        """Return for each of `mpids` its episode part as JSON text, ASCII; "{}" if there is no such episode.

        What is missing is looked up by one worker, however many miss it at once: in each round a worker looks
        up what nobody else is at, then reads what others have found meanwhile.

        Raises:
            SourceError: A look-up failed; nothing is cached of it, what others found is.
            BlockedError: A look-up was refused.
            redis.RedisError: Redis cannot be used.
        """
        found: dict[str, str] = {}
        missing = list(dict.fromkeys(mpids))
        while missing:
            found |= self._read("part", missing)
            missing = [mpid for mpid in missing if mpid not in found]
            held = self._read("lock", missing)
            found |= self._looked_up([mpid for mpid in missing if mpid not in held])
            missing = [mpid for mpid in missing if mpid not in found]
            if missing:
                self._pause(POLL_SECONDS)
        return found

    def _read(self, kind: str, mpids: list[str]) -> dict[str, str]:
        """Return the keys of a kind that there are, by mpid."""
        values = self._redis.mget([self._key(kind, mpid) for mpid in mpids]) if mpids else []
        return {mpid: _text(value) for mpid, value in zip(mpids, values, strict=True) if value is not None}

    def _looked_up(self, mpids: list[str]) -> dict[str, str]:
        futures = [self._threads.submit(self._look_up, mpid) for mpid in mpids]
        try:
            texts = [future.result() for future in futures]
        finally:
            for future in futures:  # after a failure: those that have not begun
                future.cancel()
        return {mpid: text for mpid, text in zip(mpids, texts, strict=True) if text is not None}

    def _look_up(self, mpid: str) -> str | None:
        """Fetch and keep one episode; None if another worker is at it."""
        lock = self._redis.lock(self._key("lock", mpid), timeout=LOCK_SECONDS, thread_local=False)
        if not lock.acquire(blocking=False):
            return None
        try:
            key = self._key("part", mpid)
            kept = self._redis.get(key)  # the lock's last holder may have filled it since we looked
            if kept is not None:
                return _text(kept)
            part = self._fetch(mpid)
            text = json.dumps(part, separators=(",", ":"))
            self._redis.set(key, text, ex=self._expire if part else min(self._expire, NEGATIVE_SECONDS))
            return text
        finally:
            # Released only while it is ours. If its time ran out, the next one is at it already.
            with contextlib.suppress(LockNotOwnedError):
                lock.release()

    def _key(self, kind: str, mpid: str) -> str:
        # Anyone may write rows with any id, and JSON can hold a lone surrogate, which UTF-8 cannot.
        return f"{self._prefix}{kind}:{quote(mpid, errors='surrogatepass')}"


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
