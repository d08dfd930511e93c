"""Caches episodes in Redis, so that thousands of useractions of a lecture cost one search."""

import contextlib
import functools
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import quote

from redis import Redis
from redis.exceptions import LockNotOwnedError

from uaharvest import keys
from uaharvest.documents.episode_part import episode_part
from uaharvest.errors import BlockedError, SourceError
from uaharvest.keys import Key
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.scope import own_refusals

FETCHES_AT_ONCE = 4
NEGATIVE_SECONDS = 60  # a missing episode may be published at any moment
LOCK_SECONDS = 30  # releases the lock of a worker that died; a look-up takes less
POLL_SECONDS = 0.05
NO_EPISODE = "no-such-episode"
# If the search fails for one episode but works for others, that episode is tried TRIES times, TRY_AGAIN_SECONDS apart.
# Then its useractions become dead letters, and for REFUSED_SECONDS so do new ones, without another request.
TRIES = 3
TRY_AGAIN_SECONDS = 5
REFUSED_SECONDS = 300
REMEMBERED_SECONDS = 3600  # to remember the number of tries
# After this many failures without any success, stop and find out first whether the search works at all.
ENOUGH = 40
RECENT = 3  # recently found episodes to remember; searching for one of them shows whether the search works
FOUND_SECONDS = 604_800  # to remember some for processes that have found none yet

Fetch = Callable[[str], dict[str, Any]]


class Failing(NamedTuple):
    """An episode for which the search fails although it works for others.

    Attributes:
        reason: The error message.
        final: Whether to give up useractions of this episode. It is not searched for again for a while.
    """

    reason: str
    final: bool


def fetch_from(opencast: Opencast) -> Fetch:
    """Return a function that looks up an episode part in `opencast`. It returns {} if there is no such episode."""

    def fetch(mpid: str) -> dict[str, Any]:
        result = opencast.episode(mpid)
        if result is None:
            return {}
        try:
            return episode_part(result)
        except Exception as error:  # malformed in any way; other episodes may be fine
            raise SourceError(
                f"What Opencast says of an episode cannot be read ({type(error).__name__})."
            ) from error

    return fetch


class EpisodeCache:
    """Caches the episode parts of records as JSON text, ready to insert into messages. All workers share the cache.

    For use with Opencast: `EpisodeCache(redis, fetch_from(opencast), expire=900, source=opencast.base_url)`.

    Args:
        redis: A client with or without `decode_responses`.
        fetch: Looks up one episode. Called from `FETCHES_AT_ONCE` threads.
        expire: Seconds to keep an episode.
        source: Where `fetch` looks. Caches of different sources are separate.
        pause: Sleeps for the given number of seconds while another worker fetches.
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
        self._source = hashlib.sha256(source.encode()).hexdigest()[:12]
        # One pool for the cache's lifetime, because each new thread's first request costs a digest challenge.
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "episodes")
        self._found: deque[str] = deque(maxlen=RECENT)
        self._asked_again: set[str] = set()

    def get_many(self, mpids: Iterable[str]) -> dict[str, str]:
        """Return the episode part of each of `mpids` as ASCII JSON text; "{}" if there is no such episode.

        A missing episode is looked up by one worker only, even if several miss it at once. In each round, a worker
        looks up the episodes that no other worker has locked, then reads what others have found in the meantime.
        Episodes that fail although the search works for others are left out; `failing` gives the reasons.

        Raises:
            SourceError: The search fails for other episodes too. Failures are not cached; episodes found are.
            BlockedError: The search refuses other episodes too.
            redis.RedisError: Redis cannot be used.
        """
        found: dict[str, str] = {}
        errors: dict[str, SourceError | BlockedError] = {}
        answered = False
        missing = list(dict.fromkeys(mpids))
        while missing and (answered or len(errors) < ENOUGH):
            found |= self._read(keys.EPISODE, missing)
            missing = [mpid for mpid in missing if mpid not in found]
            failing = self._read(keys.EPISODE_FAILING, missing)
            missing = [mpid for mpid in missing if mpid not in failing]
            held = self._read(keys.EPISODE_LOCK, missing)
            parts, failed = self._looked_up([mpid for mpid in missing if mpid not in held])
            found |= parts
            errors |= failed
            answered = answered or any(part != "{}" for part in parts.values())
            missing = [mpid for mpid in missing if mpid not in found and mpid not in errors]
            if missing and not failed:
                self._pause(POLL_SECONDS)
        if errors:
            own_refusals(errors, answered=answered, neutral=self._finds)
            for mpid, error in errors.items():
                self._note(mpid, error)
        self._remember(found)
        # After ENOUGH failures some episodes were not looked up. The caller asks again if it needs them.
        return found

    def ask_again(self, mpids: Iterable[str]) -> dict[str, str]:
        """Do the same as `get_many`, but retry episodes that failed recently. Each is retried once per process."""
        mpids = set(mpids)
        for mpid in mpids - self._asked_again:
            self._redis.delete(self._key(keys.EPISODE_FAILING, mpid), self._key(keys.EPISODE_TRIES, mpid))
        self._asked_again |= mpids
        return self.get_many(mpids)

    def failing(self, mpids: Iterable[str]) -> dict[str, Failing]:
        """Return those of `mpids` for which the search failed recently although it works for others."""
        noted = self._read(keys.EPISODE_FAILING, list(mpids))
        return {mpid: Failing(*json.loads(text)) for mpid, text in noted.items()}

    def _finds(self) -> bool | None:
        """Tell whether the search still works for recently found episodes; None if none are remembered."""
        found = list(self._found)
        if not found and (kept := self._redis.get(keys.EPISODE_FOUND(self._source))):
            found = json.loads(kept)
        for mpid in found:
            with contextlib.suppress(SourceError, BlockedError):
                self._fetch(mpid)
                return True
        return False if found else None

    def _note(self, mpid: str, error: SourceError | BlockedError) -> None:
        """Remember for a while that the search fails for this episode, so that no worker searches for it."""
        place, key = self._key(keys.EPISODE_FAILING, mpid), self._key(keys.EPISODE_TRIES, mpid)
        if self._redis.exists(place):  # another worker tried at the same time; count it once
            return
        # A refusal is permanent; a failure may be temporary.
        tries = TRIES if isinstance(error, BlockedError) else int(self._redis.incr(key))
        self._redis.expire(key, REMEMBERED_SECONDS)
        failing = Failing(str(error), final=tries >= TRIES)
        lasts = REFUSED_SECONDS if failing.final else TRY_AGAIN_SECONDS
        self._redis.set(place, json.dumps(failing), ex=lasts)

    def _read(self, kind: Key, mpids: list[str]) -> dict[str, str]:
        """Return the values of the existing keys of a kind, by mpid."""
        values = self._redis.mget([self._key(kind, mpid) for mpid in mpids]) if mpids else []
        return {mpid: _text(value) for mpid, value in zip(mpids, values, strict=True) if value is not None}

    def _looked_up(self, mpids: list[str]) -> tuple[dict[str, str], dict[str, SourceError | BlockedError]]:
        failed = Event()
        futures = {mpid: self._threads.submit(self._look_up, mpid, failed) for mpid in mpids}
        found: dict[str, str] = {}
        errors: dict[str, SourceError | BlockedError] = {}
        try:
            for mpid, future in futures.items():
                try:
                    text = future.result()
                except (SourceError, BlockedError) as error:
                    errors[mpid] = error
                else:
                    if text is not None:
                        found[mpid] = text
        finally:
            for future in futures.values():
                future.cancel()
        if errors:
            self._fetch(NO_EPISODE)
        there = [mpid for mpid, part in found.items() if part != "{}"]
        if there and not self._found:  # once in each process
            self._redis.set(keys.EPISODE_FOUND(self._source), json.dumps(there[:RECENT]), ex=FOUND_SECONDS)
        return found, errors

    def _remember(self, parts: Mapping[str, str]) -> None:
        """Remember some found episodes. `_finds` searches for them if the search fails for others."""
        lately = [mpid for mpid, part in parts.items() if part != "{}" and mpid not in self._found]
        self._found.extend(lately[:RECENT])

    def _look_up(self, mpid: str, failed: Event) -> str | None:
        """Fetch and cache one episode.

        Returns:
            The episode part as JSON text; None if another worker holds the lock, or if another look-up has failed in
            the meantime, because a search that is down should not get a request for each episode.
        """
        if failed.is_set():
            return None
        lock = self._redis.lock(self._key(keys.EPISODE_LOCK, mpid), timeout=LOCK_SECONDS, thread_local=False)
        if not lock.acquire(blocking=False):
            return None
        try:
            key = self._key(keys.EPISODE, mpid)
            kept = self._redis.get(key)  # the previous lock holder may have cached it
            if kept is not None:
                return _text(kept)
            try:
                part = self._fetch(mpid)
            except Exception:
                failed.set()
                raise
            self._redis.delete(self._key(keys.EPISODE_TRIES, mpid))
            text = json.dumps(part, separators=(",", ":"))
            self._redis.set(key, text, ex=self._expire if part else min(self._expire, NEGATIVE_SECONDS))
            return text
        finally:
            # Fails if the lock expired: another worker may hold it by now.
            with contextlib.suppress(LockNotOwnedError):
                lock.release()

    def _key(self, kind: Key, mpid: str) -> str:
        return _key(kind, self._source, mpid)


# Cached, because a slice of a thousand useractions asks for the same hundred episodes as the one before.
@functools.lru_cache(maxsize=4096)
def _key(kind: Key, source: str, mpid: str) -> str:
    # Anyone can write rows with any id. JSON can contain lone surrogates, which UTF-8 cannot encode.
    return kind(source, quote(mpid, errors="surrogatepass"))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
