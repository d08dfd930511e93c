"""How far the lists of some days have been read, kept in Redis."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import date

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from uaharvest import keys
from uaharvest.errors import BusyError, RetryableError
from uaharvest.lua import script
from uaharvest.streams.zoom.slices import Meeting, Slice, parse_slice
from uaharvest.zoom.endpoints import KINDS, ListKind, kind_named

TOKEN_LIFE = 900  # lifetime of a page token, seconds
HELD = 120.0  # time-out of the lock on a list, seconds


class Reading:
    """The meetings that were found so far in the lists of some days, and the next page.

    They are kept for the lifetime of the next page's token, so a list that was put off, or whose worker died, is
    resumed there.
    """

    def __init__(self, client: "redis.Redis", place: str, whose: str, first: date, last: date) -> None:
        """Keep it in `client`; `whose` is a run that workers share, or "live"."""
        self._redis = client
        self._what = f"the lists of Zoom's meetings ({whose}:{first}:{last})"
        self._key = keys.LISTS(place, whose, first, last)
        self._found_key = keys.LISTS_FOUND(place, whose, first, last)
        self._held_key = keys.LISTS_HELD(place, whose, first, last)
        self._left = ""  # the position that we last read or wrote
        self._advance = script(client, "lists_advance")

    @contextlib.contextmanager
    def held(self) -> Iterator[Lock]:
        """Hold a lock, so that only one worker reads a list: list calls are scarce."""
        lock = self._redis.lock(self._held_key, timeout=HELD)
        if not lock.acquire(blocking=False):
            raise BusyError(f"{self._what} are being read by another worker.")
        try:
            yield lock
        except LockError:
            raise RetryableError(f"reading {self._what} took too long.") from None
        finally:
            with contextlib.suppress(LockError):  # it expired, and another worker may hold it
                lock.release()

    def position(self) -> tuple[ListKind | None, str]:
        """Return the list to continue with and the token of its next page; None if all lists are read."""
        stored, found = self._stored()
        if int(stored.get("found", -1)) != len(found):
            self._redis.unlink(self._key, self._found_key)  # one key may have expired before the other
            return KINDS[0], ""
        kind, token = kind_named(stored["kind"]), stored["token"]
        self._left = f"{kind} {token}"
        return (kind, token) if token else (after(kind), "")

    def advance(self, found: Sequence[Slice], kind: ListKind, token: str) -> None:
        """Store a page's meetings and the next position, atomically, if the stored position is still ours.

        Raises:
            RetryableError: The stored position differs. If Redis went back to an older state, it has lost pages that
                we have read, and continuing from here would lose their meetings.
        """
        arguments: list[str | int] = [self._left, kind, token, TOKEN_LIFE, *map(str, found)]
        if not self._advance(keys=[self._key, self._found_key], args=arguments):
            raise self._lost()
        self._left = f"{kind} {token}"

    def finish(self) -> list[Slice]:
        """Return the meetings and refused hosts that were found, each once, and delete them from Redis.

        Raises:
            RetryableError: As for `advance`.
        """
        stored, texts = self._stored()
        if not stored or f"{stored['kind']} {stored['token']}" != self._left or int(stored["found"]) != len(texts):
            raise self._lost()
        found: dict[str, Slice] = {}
        for text in texts:
            one = parse_slice(text)
            # A meeting that is in both lists is fetched with the kind of the first.
            found.setdefault(one.uuid if isinstance(one, Meeting) else text, one)
        self._redis.unlink(self._key, self._found_key)
        return list(found.values())

    def _stored(self) -> tuple[dict[str, str], list[str]]:
        with self._redis.pipeline() as pipeline:
            pipeline.hgetall(self._key)
            pipeline.lrange(self._found_key, 0, -1)
            stored, found = pipeline.execute()
        return stored, found

    def _lost(self) -> RetryableError:
        return RetryableError(f"{self._what} are at another page than they were.")


def after(kind: ListKind) -> ListKind | None:
    """Return the list that is read after this one; None after the last."""
    following = KINDS[KINDS.index(kind) + 1 :]
    return following[0] if following else None
