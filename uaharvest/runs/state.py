"""The state of a stream: failures, ticks, gaps and ended runs; also the clocks that were compared.

The ledger holds the work; this module holds the health. All instants are by Redis's own clock, so that the age of a
failure does not depend on any host's clock.
"""

import dataclasses
import json
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import redis

from uaharvest import counters, keys
from uaharvest.errors import (
    BusyError,
    Exit,
    HarvestError,
    PoisonError,
    PutOffError,
    RetryableError,
    SourceError,
    SpanRefusedError,
)
from uaharvest.intervals import Interval
from uaharvest.lua import script
from uaharvest.plain import counted
from uaharvest.runs.ledger import EndedRun

# Seconds. A clock that was not compared for this long is dropped.
REMEMBERED = 3600.0

# The kinds of failures that are counted; the first that fits.
KINDS: Mapping[str, type[BaseException]] = {
    "span": SpanRefusedError,
    "poison": PoisonError,
    "source": SourceError,
    "retryable": RetryableError,
    "blocked": HarvestError,
    "redis": redis.RedisError,
    "unexpected": BaseException,
}

# Where a stream fails: when it opens a run, works on slices or advances explicit runs, or at one index while others
# accept documents. Success at one place does not clear a failure at another.
Place = Literal["opening", "working", "explicit", "index"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The newest failure at one place of a stream.

    Attributes:
        place: Where it failed.
        reason: What failed, where, and what to do; for exceptions that are not ours only their type and origin.
        exit_code: Exit code of a command that meets this failure.
        blocks: A person must change something; otherwise it passes by itself.
        at: When it was last seen.
        since: When this reason was first seen, with no other reason in between.
    """

    place: Place
    reason: str
    exit_code: int
    blocks: bool
    at: datetime
    since: datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How far a clock was ahead of Redis's (behind: negative), in seconds, and when it was compared."""

    name: str
    ahead: float
    at: datetime


class StreamState:
    """The state of one stream."""

    def __init__(self, client: "redis.Redis", place: str) -> None:
        """Use `client`, which must decode responses; `place` (from `keys.place`) is the stream and its deployment."""
        self._redis = client
        self.place = place
        self._failed = script(client, "stream_failed")
        self._tick = script(client, "stream_tick")

    def now(self) -> datetime:
        """Return Redis's clock."""
        return redis_now(self._redis)

    def failed(self, place: Place, error: BaseException) -> None:
        """Record a failure at `place`, replacing the previous one.

        PutOffError and BusyError are ignored, because they mean waiting and not failure. If Redis accepts no writes,
        the failure is not recorded and no error is raised; `status` tests Redis itself.
        """
        if isinstance(error, (PutOffError, BusyError)):
            return
        entry = {
            "reason": reason_of(error),
            "exit_code": int(error.exit_code if isinstance(error, HarvestError) else Exit.ERROR),
            "blocks": blocks(error),
        }
        try:
            with counters.taken_as_json() as counted:
                arguments = [place, json.dumps(entry), kind_of(error), counted]
                self._failed(keys=[keys.FAILED(self.place), keys.COUNTERS(self.place)], args=arguments)
        except redis.RedisError:
            return

    def passed(self, place: Place) -> None:
        """Clear the failure at `place`, because something succeeded there."""
        self._redis.hdel(keys.FAILED(self.place), place)

    def failures(self) -> list[Failure]:
        """Return the current failures, newest first."""
        found = []
        standing: Any = self._redis.hgetall(keys.FAILED(self.place))
        for place in get_args(Place):
            if place not in standing:
                continue
            entry = json.loads(standing[place])
            entry |= {name: datetime.fromtimestamp(entry[name] / 1000, UTC) for name in ("at", "since")}
            found.append(Failure(place=place, **entry))
        return sorted(found, key=lambda failure: failure.at, reverse=True)

    def failure(self, place: Place | None = None) -> Failure | None:
        """Return the newest failure at `place`, or at any place."""
        return next((failure for failure in self.failures() if place in {None, failure.place}), None)

    def blocked(self, place: Place | None = None) -> Failure | None:
        """Return the newest failure that a person must fix, at `place` or at any place."""
        return next(
            (failure for failure in self.failures() if failure.blocks and place in {None, failure.place}), None
        )

    def tick(self, every: float) -> bool:
        """Record a tick of beat; False for one that comes less than `every / 2` seconds after another.

        After an outage, many ticks may wait in the queue. Redis's clock filters them here. A Celery expiry would not
        do, because one host sets it and another host's clock is compared with it.
        """
        with counters.taken_as_json() as counted:
            of = [keys.TICKED(self.place), keys.COUNTERS(self.place)]
            return bool(self._tick(keys=of, args=[int(every * 500), counted]))

    def ticked_at(self) -> datetime | None:
        """Return when the last tick arrived; None if none did."""
        text = self._redis.get(keys.TICKED(self.place))
        return datetime.fromtimestamp(float(text) / 1000, UTC) if text else None

    def counted(self) -> dict[str, int]:
        """Return the counts since Redis was last empty, by their names in `counters`."""
        found: Any = self._redis.hgetall(keys.COUNTERS(self.place))
        return {str(name): int(amount) for name, amount in found.items()}

    def history(self) -> list[EndedRun]:
        """Return the runs that ended last, newest first."""
        return [EndedRun.parse(str(text)) for text in self._redis.lrange(keys.HISTORY(self.place), 0, -1)]

    def gaps(self) -> list[Interval]:
        """Return the intervals of slices that became dead letters. Late rows are not looked for there."""
        return [Interval.parse(str(text)) for text in self._redis.zrange(keys.GAPS(self.place), 0, -1)]

    def add_gap(self, interval: Interval) -> None:
        """Record the interval of a slice that became a dead letter."""
        self._redis.zadd(keys.GAPS(self.place), {str(interval): interval.end.timestamp()})

    def drop_gap(self, gap: Interval) -> None:
        """Forget a gap, because it was harvested after all."""
        self._redis.zrem(keys.GAPS(self.place), str(gap))

    def drop_gaps(self, after: datetime) -> None:
        """Forget the gaps from `after` on, because that time is harvested again."""
        again = [str(gap) for gap in self.gaps() if gap.start >= after]
        if again:
            self._redis.zrem(keys.GAPS(self.place), *again)

    def trim_gaps(self, before: datetime) -> None:
        """Forget the gaps that end before `before`."""
        self._redis.zremrangebyscore(keys.GAPS(self.place), "-inf", before.timestamp())

    def wakes(self, run_id: str | None, due: datetime, *, wait: float) -> bool:
        """Tell whether the caller is the first to schedule a wake-up for a run at `due`, in `wait` seconds."""
        once = keys.WAKE(self.place, run_id, int(due.timestamp()))
        return bool(self._redis.set(once, "", nx=True, px=int(wait * 1000)))


class Clocks:
    """The clocks that a stream compared with Redis's, by name."""

    def __init__(self, client: "redis.Redis", place: str) -> None:
        """Use `client`, which must decode responses; `place` is that of a StreamState."""
        self._redis = client
        self._key = keys.CLOCKS(place)

    def now(self) -> datetime:
        """Return Redis's clock."""
        return redis_now(self._redis)

    def compare(self, name: str, clock: datetime, reference: datetime) -> float:
        """Record how far `clock` is ahead of `reference`, Redis's clock at that time; return it in seconds."""
        ahead = (clock - reference).total_seconds()
        entry = {"ahead": round(ahead, 1), "at": reference.timestamp()}
        self._redis.hset(self._key, name, json.dumps(entry))
        return ahead

    def last(self, name: str) -> datetime | None:
        """Return when a clock was compared last, by Redis's clock; None if it was not, or long ago."""
        text = self._redis.hget(self._key, name)
        return datetime.fromtimestamp(json.loads(text)["at"], UTC) if text else None

    def compared(self) -> list[Clock]:
        """Return the clocks that were compared in the last hour."""
        now = self.now().timestamp()
        clocks = []
        compared: Any = self._redis.hgetall(self._key)
        for name, text in sorted(compared.items()):
            entry = json.loads(text)
            if now - entry["at"] > REMEMBERED:
                self._redis.hdel(self._key, name)
                continue
            clocks.append(Clock(name=name, ahead=entry["ahead"], at=datetime.fromtimestamp(entry["at"], UTC)))
        return clocks


def compared_clocks(client: "redis.Redis", places: Iterable[str]) -> list[Clock]:
    """Return the clocks that the streams at `places` compared, each once, as it was compared last."""
    every = [clock for place in places for clock in Clocks(client, place).compared()]
    newest = {clock.name: clock for clock in sorted(every, key=lambda clock: clock.at)}
    return sorted(newest.values(), key=lambda clock: clock.name)


def redis_now(client: "redis.Redis") -> datetime:
    """Return Redis's clock."""
    seconds, microseconds = client.time()
    return datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)


def source_clock(stream: str) -> str:
    """Return the name under which the clock of a stream's source is stored."""
    return f"the source of {stream}"


def blocks(error: BaseException) -> bool:
    """Tell whether a person must change something; otherwise the failure passes by itself."""
    return isinstance(error, HarvestError) and not isinstance(error, (RetryableError, PoisonError))


def counts_in_words(found: int, sent: int, dead: int) -> str:
    """Return how many rows a slice or a run found and sent, in words."""
    dead_letters = f", {counted(dead, 'dead letter')}" if dead else ""
    return f"{found:,} found, {sent:,} sent{dead_letters}"


def kind_of(error: BaseException) -> str:
    """Return the kind of a failure, one of KINDS."""
    return next(kind for kind, type_ in KINDS.items() if isinstance(error, type_))


def reason_of(error: BaseException) -> str:
    """Return one line about an error that is safe to show to anybody.

    The text of an exception that is not ours may quote a record. Its type and origin are enough to find it in the log.
    """
    if isinstance(error, HarvestError):
        return str(error)
    if isinstance(error, redis.RedisError):
        return f"Redis: {str(error).partition(', with args')[0]}"  # Redis quotes an unknown command with its arguments
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{where}. The worker's log shows how it came about"
