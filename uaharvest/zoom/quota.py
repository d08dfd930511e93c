"""Enforces Zoom's rate limits for all workers together, in Redis.

Zoom counts calls per account and label, with one limit per second (or minute) and another per day. It does not say
whether its windows are fixed or sliding, and a call reaches it some time after its permit was issued. A permit is
therefore held until a whole window after the *response*: Zoom counted the call between the two, however slow the
network was. No window of that length then has more calls than allowed, wherever it starts. The cost is the latency of
one call per window: the rate is limit / (window + latency). A burst up to the limit is allowed, and takes a whole
window to recover.

If Redis loses its data, the calls already used are forgotten. Zoom's 429 responses and the number of remaining calls in
its other responses correct that. If a response says that no calls remain, one call a minute is tried. Zoom's 429 then
says when calls are available again.
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

import redis

from uaharvest import keys
from uaharvest.coerce import whole
from uaharvest.errors import PutOffError
from uaharvest.lua import script

Headers = Mapping[str, str]


class Label(enum.StrEnum):
    """Zoom's labels for calls, by cost."""

    LIGHT = "Light"
    MEDIUM = "Medium"
    HEAVY = "Heavy"
    RESOURCE_INTENSIVE = "Resource-intensive"


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limits of an account for one label.

    Attributes:
        calls: Maximum number of calls in any window.
        window: Length of the window, seconds.
        per_day: Maximum number of calls per day from 00:00 UTC; None for no limit.
        day_cap: Name of the daily limit; labels with the same name share it.
    """

    calls: int
    window: float
    per_day: int | None
    day_cap: str


_TOGETHER = "Heavy and Resource-intensive"
# https://developers.zoom.us/docs/api/rate-limits/
PLANS: Mapping[str, Mapping[Label, RateLimit]] = {
    "free": {
        Label.LIGHT: RateLimit(4, 1, 6_000, Label.LIGHT),
        Label.MEDIUM: RateLimit(2, 1, 2_000, Label.MEDIUM),
        Label.HEAVY: RateLimit(1, 1, 1_000, Label.HEAVY),
        Label.RESOURCE_INTENSIVE: RateLimit(10, 60, 30_000, Label.RESOURCE_INTENSIVE),
    },
    "pro": {
        Label.LIGHT: RateLimit(30, 1, None, Label.LIGHT),
        Label.MEDIUM: RateLimit(20, 1, None, Label.MEDIUM),
        Label.HEAVY: RateLimit(10, 1, 30_000, _TOGETHER),
        Label.RESOURCE_INTENSIVE: RateLimit(10, 60, 30_000, _TOGETHER),
    },
    "business": {
        Label.LIGHT: RateLimit(80, 1, None, Label.LIGHT),
        Label.MEDIUM: RateLimit(60, 1, None, Label.MEDIUM),
        Label.HEAVY: RateLimit(40, 1, 60_000, _TOGETHER),
        Label.RESOURCE_INTENSIVE: RateLimit(20, 60, 60_000, _TOGETHER),
    },
}

DAY = timedelta(days=1)
# A call this close to midnight counts for both days, because it may reach Zoom on either. Milliseconds.
MIDNIGHT = 60_000
# Windows are made longer by this factor, because clocks run at different speeds and times are cut to milliseconds.
SLOWER = 1.01
# If a worker dies before it reports its response, its permit counts as answered after this time, which is longer than
# any request takes. Milliseconds.
LAPSE = 70_000
PROBE = 60_000  # ms between trial calls
# A worker that died in the queue blocks those behind it for this long. Longer than any worker waits, ms.
QUEUED = 10_000
FURTHEST = 2 * DAY.total_seconds()  # longest delay to accept from Zoom
KEPT = 35 * DAY  # how long to keep the counts of calls
SPREAD = 2.0  # seconds over which to spread the return of callers that were put off together

_GRANTED, _HELD, _SPENT, _FULL = range(4)


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Today's usage (UTC) of a label's calls.

    Attributes:
        calls: Calls made by this tool.
        counted: Calls made by all apps, for all labels that share the daily limit, if known.
        per_day: The daily limit; None if there is none.
        exhausted_until: When calls are available again, UTC; None if some are available now.
    """

    calls: int
    counted: int
    per_day: int | None
    exhausted_until: datetime | None


class Quota:
    """Issues permits for calls. All workers of an account share them."""

    def __init__(
        self,
        client: "redis.Redis",
        account: str,
        plan: str,
        *,
        share: int = 100,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use the limits of `plan`.

        Args:
            client: Redis; decodes responses.
            account: Name of the account in Redis's keys; not a secret.
            plan: One of `PLANS`.
            share: Percentage of the calls that may be used.
            pause: Sleeps for the given number of seconds.
        """
        self._redis = client
        self._account = account
        self._plan = plan
        self._limits = PLANS[plan]
        self._share = share
        self._pause = pause
        self._acquire_script = script(client, "quota_acquire")
        self._answered = script(client, "quota_answered")
        self._rest = script(client, "quota_rest")
        self._exhaust = script(client, "quota_exhaust")
        self._correct = script(client, "quota_correct")

    @contextlib.contextmanager
    def permit(self, label: Label, *, patience: float) -> Iterator[None]:
        """Permit one call within the context. When the context ends, the call counts as answered.

        Args:
            label: The call's label.
            patience: Maximum time to wait for the permit, seconds.

        Raises:
            PutOffError: No permit is available in that time.
        """
        permit = uuid.uuid4().hex
        self._acquire(label, permit, time.monotonic() + patience)
        try:
            yield
        finally:
            self._answered(keys=[keys.PLACES(self._account, label)], args=[permit, self._window(label)[1]])

    def refused(self, label: Label, headers: Headers, message: str) -> datetime:
        """Pause calls with this label for all workers, as a 429 response requests; return until when, UTC.

        Any header may be missing. `Retry-After` may be seconds, an ISO time or an HTTP date.
        """
        kind = headers.get("X-RateLimit-Type") or message
        after = _seconds_until(headers.get("Retry-After"), headers)
        if "daily" in kind.lower():
            cap = self._limits[label].day_cap
            of_cap = [key(self._account, cap) for key in (keys.SPENT, keys.QUOTA_PROBE)]
            rest = -1 if after is None else _ms(after + 1)
            lasts = self._exhaust(keys=of_cap, args=[MIDNIGHT, cap, rest, keys.USED(self._account, "%s")])
        else:
            # The reset time has whole seconds, and a limit per second or minute needs no longer pause than its window.
            reset = _seconds_until(headers.get("X-RateLimit-Reset"), headers) or DAY.total_seconds()
            rest = _ms(after or min(reset, self._limits[label].window))
            lasts = self._rest(keys=[keys.HOLD(self._account, label)], args=[rest])
        return _due(lasts / 1000)

    def answered(self, label: Label, headers: Headers) -> None:
        """Read from a response how many calls are left today, because other apps of the account use them too."""
        limit, left = self._limits[label], whole(headers.get("X-RateLimit-Remaining"))
        if limit.per_day is None or left is None or "daily" not in headers.get("X-RateLimit-Type", "").lower():
            return
        # Values out of range would not be usable as a counter in Redis.
        used = limit.per_day - min(max(left, 0), limit.per_day)
        self._correct(args=[MIDNIGHT, limit.day_cap, used, 4 * limit.calls, keys.USED(self._account, "%s")])

    def usage(self) -> dict[Label, Usage]:
        """Return today's usage by label."""
        today = datetime.now(UTC).date()
        made = self.calls(today)
        used = self._redis.hgetall(keys.USED(self._account, _number(today)))
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
        made = self._redis.hgetall(keys.CALLS(self._account, _number(day)))
        return {Label(str(label)): int(number) for label, number in made.items()}

    def _acquire(self, label: Label, permit: str, deadline: float) -> None:
        limit = self._limits[label]
        most, window = self._window(label)
        ours = -1 if limit.per_day is None else max(limit.per_day * self._share // 100, 1)
        cap = limit.day_cap
        of_label = [key(self._account, label) for key in (keys.PLACES, keys.QUEUED, keys.HOLD)]
        of_cap = [key(self._account, cap) for key in (keys.SPENT, keys.QUOTA_PROBE)]
        arguments: list[int | str] = [MIDNIGHT, permit, label, cap, most, window, ours, limit.per_day or -1]
        arguments += [LAPSE, QUEUED, PROBE, _ms(KEPT.total_seconds())]
        arguments += [keys.USED(self._account, "%s"), keys.CALLS(self._account, "%s")]
        while True:
            obstacle, rest = self._acquire_script(keys=[*of_label, *of_cap], args=arguments)
            if obstacle == _GRANTED:
                return
            wait = rest / 1000
            if obstacle == _SPENT or time.monotonic() + wait > deadline:
                self._redis.zrem(keys.QUEUED(self._account, label), permit)
                due = _due(wait)
                raise PutOffError(self._why(label, obstacle, due), due)
            self._pause(wait + random.uniform(0.001, 0.01))  # noqa: S311

    def _why(self, label: Label, obstacle: int, due: datetime) -> str:
        limit = self._limits[label]
        if obstacle == _SPENT:
            return (
                f"Zoom's {limit.day_cap} calls for the day are used up; there are more at {due:%F %T} UTC. See"
                " ZOOM_PLAN and ZOOM_QUOTA_SHARE."
            )
        if obstacle == _HELD:
            return f"Zoom allows no {label} calls until {due:%T} UTC: other apps of the account use them too."
        per = "minute" if limit.window > 1 else "second"
        return f"Zoom's {label} calls of this {per} are used up (ZOOM_PLAN {self._plan}: {limit.calls})."

    def _window(self, label: Label) -> tuple[int, int]:
        """Return the calls allowed in a window and its length in ms. Less than one call makes the window longer."""
        limit = self._limits[label]
        share = limit.calls * self._share
        return max(share // 100, 1), _ms(limit.window * SLOWER * max(100 / share, 1))

    def _exhausted_until(self, label: Label) -> datetime | None:
        """Return until when the day's calls are used up, according to Zoom or our own count."""
        limit, now = self._limits[label], datetime.now(UTC)
        exhausted = self._redis.get(keys.SPENT(self._account, limit.day_cap))
        if exhausted is not None:
            return datetime.fromtimestamp(int(exhausted) / 1000, UTC)
        used = int(self._redis.hget(keys.USED(self._account, _number(now.date())), limit.day_cap) or 0)
        if limit.per_day is None or used < limit.per_day * self._share // 100:
            return None
        return datetime(now.year, now.month, now.day, tzinfo=UTC) + DAY + timedelta(milliseconds=MIDNIGHT)


def _seconds_until(value: str | None, headers: Headers) -> float | None:
    """Return the seconds until the time in a header, by Zoom's own clock; None if the value is unusable.

    Args:
        value: Seconds, seconds since 1970, an ISO time or an HTTP date.
        headers: The response's headers. `Date` is Zoom's clock.
    """
    now = _instant(headers.get("Date") or "") or datetime.now(UTC)
    after, instant = whole(value), _instant(value or "")
    if after is not None and after > FURTHEST:
        after -= int(now.timestamp())
    seconds = float(after) if after is not None else (instant - now).total_seconds() if instant else 0.0
    return seconds if 0 < seconds <= FURTHEST else None


def _instant(value: str) -> datetime | None:
    """Parse an ISO time or an HTTP date. Without a zone, it is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            instant = read(value)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):  # OverflowError: a time of the year 1 with an offset
            continue
    return None


def _due(wait: float) -> datetime:
    """Return the time `wait` seconds from now plus jitter, so that callers do not return all at once."""
    return datetime.now(UTC) + timedelta(seconds=wait + random.uniform(0, SPREAD))  # noqa: S311 - no secret


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _number(day: date) -> int:
    """Return the number of days from 1970-01-01 to `day`."""
    return (day - date(1970, 1, 1)).days
