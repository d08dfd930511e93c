"""Zoom's quotas, kept by all workers together, in Redis.

Zoom counts calls per account and label: so many a second (or minute), so many a day. Whether its windows are fixed or
slide is not told, and between a permit and the call's arrival there lies a network. So a permit holds its place until
a whole window after its *answer*: Zoom counted the call at some time between the two, whatever the network did. Then no
window of that length, wherever it begins, has more calls than it may, and what is lost against the quota is a call's
latency per window: limit / (window + latency) calls are made. A burst up to the limit is allowed: it takes a whole
window to come back.

Keys, all below `uaharvest:zoom:<account>:`, times in milliseconds of Redis's own clock:

    places:<label>   sorted set: permits by the time at which their place is free again
    queue:<label>    sorted set: permits that are waited for, by when they were first asked for (microseconds)
    hold:<label>     until when the label rests, for Zoom answered 429
    spent:<day cap>  until when a day's calls are used up, as Zoom said
    used:<day>       hash: calls that count towards each day cap; `account <day cap>`: those of all apps, as Zoom told
    probe:<day cap>  there for a minute after a call was made although none seems to be left
    calls:<day>      hash: calls made, by label

A Redis that lost its data has forgotten what was used; Zoom's 429, and what its answers say remains, correct it. Where
they say that none remains, one call a minute tries it: Zoom's 429 then says until when.
"""

import contextlib
import dataclasses
import enum
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import redis

from uaharvest.errors import PutOffError
from uaharvest.opencast.foreign import whole
from uaharvest.runs.ledger import PREFIX

Headers = Mapping[str, str]


class Label(enum.StrEnum):
    """What Zoom calls a call, by its cost."""

    LIGHT = "Light"
    MEDIUM = "Medium"
    HEAVY = "Heavy"
    RESOURCE_INTENSIVE = "Resource-intensive"


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """How many calls of a label an account has.

    Attributes:
        calls: In any window.
        window: How long that is, seconds.
        per_day: From 00:00 UTC on; None: no limit.
        day_cap: What is counted together for a day.
    """

    calls: int
    window: float
    per_day: int | None
    day_cap: str


_TOGETHER = "Heavy and Resource-intensive"
# https://developers.zoom.us/docs/api/rate-limits/
PLANS: Mapping[str, Mapping[Label, Limit]] = {
    "free": {
        Label.LIGHT: Limit(4, 1, 6_000, Label.LIGHT),
        Label.MEDIUM: Limit(2, 1, 2_000, Label.MEDIUM),
        Label.HEAVY: Limit(1, 1, 1_000, Label.HEAVY),
        Label.RESOURCE_INTENSIVE: Limit(10, 60, 30_000, Label.RESOURCE_INTENSIVE),
    },
    "pro": {
        Label.LIGHT: Limit(30, 1, None, Label.LIGHT),
        Label.MEDIUM: Limit(20, 1, None, Label.MEDIUM),
        Label.HEAVY: Limit(10, 1, 30_000, _TOGETHER),
        Label.RESOURCE_INTENSIVE: Limit(10, 60, 30_000, _TOGETHER),
    },
    "business": {
        Label.LIGHT: Limit(80, 1, None, Label.LIGHT),
        Label.MEDIUM: Limit(60, 1, None, Label.MEDIUM),
        Label.HEAVY: Limit(40, 1, 60_000, _TOGETHER),
        Label.RESOURCE_INTENSIVE: Limit(20, 60, 60_000, _TOGETHER),
    },
}

DAY = timedelta(days=1)
# A call near midnight counts on both days: who knows which one it is at Zoom when it arrives there. Milliseconds.
MIDNIGHT = 60_000
# Clocks run at different speeds, and times are cut to whole milliseconds: windows are made longer by this.
SLOWER = 1.01
# A worker that died does not tell of its answer; then a permit counts as answered after this, longer than a request
# takes. Milliseconds.
LAPSE = 70_000
PROBE = 60_000  # ms
# A worker that died in the queue holds up those behind it so long. Longer than any waits, ms.
QUEUED = 10_000
FURTHEST = 2 * DAY.total_seconds()  # that Zoom may put a call off
KEPT = 35 * DAY  # the counts of calls
SPREAD = 2.0  # seconds over which those come back that were sent away together

_GRANTED, _HELD, _SPENT, _FULL = range(4)

_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local base, DAY, MIDNIGHT = KEYS[1], 86400000, tonumber(ARGV[1])
local function later(key, instant)
  if instant > tonumber(redis.call('GET', key) or 0) then redis.call('SET', key, instant, 'PXAT', instant) end
  return instant - now
end
local function days()
  local first, last = math.floor((now - MIDNIGHT) / DAY), math.floor((now + MIDNIGHT) / DAY)
  return first == last and {first} or {first, last}
end
"""

# KEYS: base. ARGV: midnight, label, permit, most, window, lapse, day cap, its calls for us, for all apps (-1: any),
# time to keep counts, between probes, in the queue (all ms). Returns what stands in the way, and for how long (ms).
_ACQUIRE = """
local label, cap, ours, all = ARGV[2], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local most, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local spent = tonumber(redis.call('GET', base .. ':spent:' .. cap) or 0)
if spent > now then return {2, spent - now} end
for _, day in ipairs(days()) do
  if ours >= 0 and tonumber(redis.call('HGET', base .. ':used:' .. day, cap) or 0) >= ours then
    return {2, (day + 1) * DAY + MIDNIGHT - now}
  end
end
local hold = tonumber(redis.call('GET', base .. ':hold:' .. label) or 0)
if hold > now then return {1, hold - now} end
local places = base .. ':places:' .. label
local queue = base .. ':queue:' .. label
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
redis.call('ZREMRANGEBYSCORE', queue, '-inf', (now - tonumber(ARGV[12])) * 1000)
redis.call('ZADD', queue, 'NX', time[1] * 1000000 + time[2], ARGV[3])
redis.call('PEXPIRE', queue, ARGV[12])
-- First come, first served: how many places must become free before one is this permit's?
local behind = redis.call('ZRANK', queue, ARGV[3]) - (most - redis.call('ZCARD', places))
if behind >= 0 then
  local nth = behind % most
  local free_at = tonumber(redis.call('ZRANGE', places, nth, nth, 'WITHSCORES')[2] or now)
  -- Where no answer has come yet it is guessed: the earliest may come at once.
  return {3, math.max(math.min(free_at - now, window), 10) + window * math.floor(behind / most)}
end
local today = base .. ':used:' .. math.floor(now / DAY)
if all >= 0 and tonumber(redis.call('HGET', today, 'account ' .. cap) or 0) >= all then
  local probe = base .. ':probe:' .. cap
  if not redis.call('SET', probe, 1, 'NX', 'PX', ARGV[11]) then return {2, redis.call('PTTL', probe)} end
end
redis.call('ZREM', queue, ARGV[3])
redis.call('ZADD', places, now + tonumber(ARGV[6]) + window, ARGV[3])
redis.call('PEXPIRE', places, tonumber(ARGV[6]) + window)
for _, day in ipairs(days()) do
  local used = base .. ':used:' .. day
  redis.call('HINCRBY', used, cap, 1)
  redis.call('HINCRBY', used, 'account ' .. cap, 1)
  redis.call('PEXPIRE', used, 3 * DAY)
end
local calls = base .. ':calls:' .. math.floor(now / DAY)
redis.call('HINCRBY', calls, label, 1)
redis.call('PEXPIRE', calls, ARGV[10])
return {0, 0}
"""

# ARGV: midnight, label, permit, window.
_ANSWERED = "return redis.call('ZADD', base .. ':places:' .. ARGV[2], 'XX', now + tonumber(ARGV[4]), ARGV[3])"

# ARGV: midnight, label, for how long (ms). Returns that, or longer where another asked for longer.
_REST = "return later(base .. ':hold:' .. ARGV[2], now + tonumber(ARGV[3]))"

# ARGV: midnight, day cap, for how long (ms; -1: until the next day). Returns that.
_EXHAUST = """
local rest = tonumber(ARGV[3])
-- What was known of the calls of all apps is of a day that is over by then, wherever Zoom lets its days begin.
redis.call('HDEL', base .. ':used:' .. math.floor(now / DAY), 'account ' .. ARGV[2])
redis.call('DEL', base .. ':probe:' .. ARGV[2])
return later(base .. ':spent:' .. ARGV[2], rest >= 0 and now + rest or (math.floor(now / DAY) + 1) * DAY + MIDNIGHT)
"""

# ARGV: midnight, day cap, how many calls of today all apps have made, by how many that may be late: answers overtake
# each other, and others are on their way; much less is a day that began anew. Near midnight nobody knows of which day.
_CORRECT = """
local today = days()
if #today > 1 then return 0 end
local key, field, told = base .. ':used:' .. today[1], 'account ' .. ARGV[2], tonumber(ARGV[3])
local kept = tonumber(redis.call('HGET', key, field) or 0)
if told > kept or told + tonumber(ARGV[4]) < kept then redis.call('HSET', key, field, told) end
redis.call('PEXPIRE', key, 3 * DAY)
return 1
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What is used of a label's calls today (UTC).

    Attributes:
        calls: Made by this tool.
        counted: Made by all apps, of all labels that have a limit together, as far as it is known.
        per_day: That limit; None: there is none.
        exhausted_until: When there are calls again, UTC; None: there are some.
    """

    calls: int
    counted: int
    per_day: int | None
    exhausted_until: datetime | None


class Quota:
    """Permits to call; all workers of an account share them."""

    def __init__(
        self,
        client: "redis.Redis",
        account: str,
        plan: str,
        *,
        share: int = 100,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use the calls that `plan` has.

        Args:
            client: One that decodes.
            account: Names what the calls are counted for; no secret.
            plan: One of `PLANS`.
            share: Per cent of the calls that may be used.
            pause: Sleeps for some seconds.
        """
        self._redis = client
        self._base = f"{PREFIX}zoom:{account}"
        self._plan = plan
        self._limits = PLANS[plan]
        self._share = share
        self._pause = pause
        self._scripts = {
            name: client.register_script(_COMMON + body)
            for name, body in {
                "acquire": _ACQUIRE,
                "answered": _ANSWERED,
                "rest": _REST,
                "exhaust": _EXHAUST,
                "correct": _CORRECT,
            }.items()
        }

    @contextlib.contextmanager
    def permit(self, label: Label, *, patience: float) -> Iterator[None]:
        """Make one call inside; its answer has come, or never will, when it ends.

        Args:
            label: The call's.
            patience: Longest time to wait for the permit, seconds.

        Raises:
            PutOffError: There is none so soon.
        """
        permit = uuid.uuid4().hex
        self._acquire(label, permit, time.monotonic() + patience)
        try:
            yield
        finally:
            self._run("answered", label, permit, self._window(label)[1])

    def refused(self, label: Label, headers: Headers, message: str) -> datetime:
        """Let the label rest for all workers, as an answer 429 asks for; return until when, UTC.

        Any header may be missing. `Retry-After` is seconds, an ISO time or an HTTP date.
        """
        kind = headers.get("X-RateLimit-Type") or message
        after = _seconds_until(headers.get("Retry-After"), headers)
        if "daily" in kind.lower():
            rest = self._run("exhaust", self._limits[label].day_cap, -1 if after is None else _ms(after + 1))
        else:
            # In whole seconds, and no quota of a second or minute takes longer than that.
            reset = _seconds_until(headers.get("X-RateLimit-Reset"), headers) or DAY.total_seconds()
            rest = self._run("rest", label, _ms(after or min(reset, self._limits[label].window)))
        return _due(rest / 1000)

    def answered(self, label: Label, headers: Headers) -> None:
        """Learn from an answer how many calls of the day are left: other apps of the account use them too."""
        limit, left = self._limits[label], whole(headers.get("X-RateLimit-Remaining"))
        if limit.per_day is None or left is None or "daily" not in headers.get("X-RateLimit-Type", "").lower():
            return
        self._run("correct", limit.day_cap, limit.per_day - left, 4 * limit.calls)

    def usage(self) -> dict[Label, Usage]:
        """Return what is used today, by label."""
        today = datetime.now(UTC).date()
        made = self.calls(today)
        used = self._redis.hgetall(f"{self._base}:used:{_number(today)}")
        return {
            label: Usage(
                made.get(label, 0),
                int(used.get(f"account {limit.day_cap}", 0)),
                limit.per_day,
                self._exhausted_until(label),
            )
            for label, limit in self._limits.items()
        }

    def calls(self, day: date) -> dict[Label, int]:
        """Return how many calls this tool made on a day (UTC) of the last five weeks, by label."""
        made = self._redis.hgetall(f"{self._base}:calls:{_number(day)}")
        return {Label(str(label)): int(number) for label, number in made.items()}

    def _acquire(self, label: Label, permit: str, deadline: float) -> None:
        limit = self._limits[label]
        most, window = self._window(label)
        ours = -1 if limit.per_day is None else max(limit.per_day * self._share // 100, 1)
        arguments: list[int | str] = [
            permit,
            most,
            window,
            LAPSE,
            limit.day_cap,
            ours,
            limit.per_day or -1,
            _ms(KEPT.total_seconds()),
            PROBE,
            QUEUED,
        ]
        while True:
            obstacle, rest = self._run("acquire", label, *arguments)
            if obstacle == _GRANTED:
                return
            wait = rest / 1000
            if obstacle == _SPENT or time.monotonic() + wait > deadline:
                self._redis.zrem(f"{self._base}:queue:{label}", permit)
                due = _due(wait)
                raise PutOffError(self._why(label, obstacle, due), due)
            self._pause(wait + random.uniform(0.001, 0.01))  # noqa: S311

    def _why(self, label: Label, obstacle: int, due: datetime) -> str:
        limit = self._limits[label]
        if obstacle == _SPENT:
            return (
                f"Zoom's {limit.day_cap} calls of the day are used up; there are more at {due:%F %T} UTC. See"
                " ZOOM_PLAN and ZOOM_QUOTA_SHARE."
            )
        if obstacle == _HELD:
            return f"Zoom wants no {label} calls until {due:%T} UTC: other apps of the account use them too."
        per = "minute" if limit.window > 1 else "second"
        return f"Zoom's {label} calls of this {per} are used up (ZOOM_PLAN {self._plan}: {limit.calls})."

    def _window(self, label: Label) -> tuple[int, int]:
        """Return how many calls there may be in how long a window, ms; less than one makes the window longer."""
        limit = self._limits[label]
        share = limit.calls * self._share
        return max(share // 100, 1), _ms(limit.window * SLOWER * max(100 / share, 1))

    def _exhausted_until(self, label: Label) -> datetime | None:
        """Return until when Zoom said that the day's calls are used up, or they are by our own count."""
        limit, now = self._limits[label], datetime.now(UTC)
        told = self._redis.get(f"{self._base}:spent:{limit.day_cap}")
        if told is not None:
            return datetime.fromtimestamp(int(told) / 1000, UTC)
        used = int(self._redis.hget(f"{self._base}:used:{_number(now.date())}", limit.day_cap) or 0)
        if limit.per_day is None or used < limit.per_day * self._share // 100:
            return None
        return datetime(now.year, now.month, now.day, tzinfo=UTC) + DAY + timedelta(milliseconds=MIDNIGHT)

    def _run(self, script: str, *arguments: float | str) -> Any:
        return self._scripts[script](keys=[self._base], args=[MIDNIGHT, *arguments])


def _seconds_until(value: str | None, headers: Headers) -> float | None:
    """Return the seconds until what a header says, by Zoom's own clock; None where that is nothing usable.

    Args:
        value: Seconds, seconds since 1970, an ISO time or an HTTP date.
        headers: Of the answer; `Date` among them is Zoom's clock.
    """
    now = _instant(headers.get("Date") or "") or datetime.now(UTC)
    after, instant = whole(value), _instant(value or "")
    if after is not None and after > FURTHEST:
        after -= int(now.timestamp())
    seconds = float(after) if after is not None else (instant - now).total_seconds() if instant else 0.0
    return seconds if 0 < seconds <= FURTHEST else None


def _instant(value: str) -> datetime | None:
    """Read an ISO time or an HTTP date; without a zone it is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            instant = read(value)
        except ValueError:
            continue
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return None


def _due(wait: float) -> datetime:
    """Return the instant in `wait` seconds, and a bit: those who wait together do not come together."""
    return datetime.now(UTC) + timedelta(seconds=wait + random.uniform(0, SPREAD))  # noqa: S311 - no secret


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _number(day: date) -> int:
    """Return how many days lie between 1970-01-01 and `day`."""
    return (day - date(1970, 1, 1)).days
