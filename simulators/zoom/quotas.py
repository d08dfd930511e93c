"""Zoom's quotas for the whole account, per second or minute by label, and per day; and the call counts.

Only admitted calls use up a quota. Calls are admitted or refused in order of arrival.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from simulators.zoom.answers import ZoomError
from simulators.zoom.world import iso

Label = Literal["Light", "Medium", "Heavy", "Resource-intensive"]
LABELS: tuple[Label, ...] = ("Light", "Medium", "Heavy", "Resource-intensive")
DAY_S = 86_400.0
_DAILY = (
    "You have reached the maximum daily rate limit for this API."
    " Refer to the response header for details on when you can make another request."
)


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of calls in a number of seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """An account's limits: a rate for each label, and calls per day for some labels, alone or together."""

    rates: Mapping[Label, Rate]
    pools: Mapping[tuple[Label, ...], int]

    def pool(self, label: Label) -> tuple[tuple[Label, ...], int] | None:
        """Return the labels that share a day's calls with `label`, and the number of these calls."""
        return next(((labels, most) for labels, most in self.pools.items() if label in labels), None)


_SHARED: tuple[Label, ...] = ("Heavy", "Resource-intensive")
PLANS = {
    "free": Plan(
        {"Light": Rate(4, 1), "Medium": Rate(2, 1), "Heavy": Rate(1, 1), "Resource-intensive": Rate(10, 60)},
        {("Light",): 6000, ("Medium",): 2000, ("Heavy",): 1000, ("Resource-intensive",): 30_000},
    ),
    "pro": Plan(
        {"Light": Rate(30, 1), "Medium": Rate(20, 1), "Heavy": Rate(10, 1), "Resource-intensive": Rate(10, 60)},
        {_SHARED: 30_000},
    ),
    "business": Plan(
        {"Light": Rate(80, 1), "Medium": Rate(60, 1), "Heavy": Rate(40, 1), "Resource-intensive": Rate(20, 60)},
        {_SHARED: 60_000},
    ),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How quotas are enforced and reported.

    Attributes:
        plan: The limits.
        sliding: Whether a rate applies to a sliding window; otherwise to each second or minute of the clock.
        headers: Whether responses have quota headers.
        iso: Whether `Retry-After` is an ISO time, as at Zoom; otherwise seconds.
        day_start: The beginning of a day, epoch seconds; Zoom's days begin at 00:00 UTC.
        day_seconds: Length of a day.
    """

    plan: Plan
    sliding: bool = True
    headers: bool = True
    iso: bool = True
    day_start: float = 0
    day_seconds: float = DAY_S


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call is admitted, and the headers for its response in either case."""

    error: ZoomError | None
    headers: dict[str, str]


class Quotas:
    """Counts an account's calls. Thread-safe."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        """Start with all quotas unused.

        Args:
            clock: The server's clock in epoch seconds, used for days.
            monotonic: A monotonic clock in seconds, used for rates.
        """
        self._clock = clock
        self._monotonic = monotonic
        self._lock = Lock()
        self._recent: dict[Label, deque[float]] = {label: deque() for label in LABELS}
        self._day = 0
        self._used = Counter[Label]()
        self.forget_log()

    def forget_log(self) -> None:
        """Reset the counts for tests, but not the used quota."""
        with self._lock:
            self._times: dict[Label, list[float]] = {label: [] for label in LABELS}
            self._refused = {"QPS": Counter[Label](), "Daily-limit": Counter[Label]()}

    def admit(self, label: Label, rules: Rules) -> Verdict:
        """Admit or refuse a call of an endpoint with this label."""
        with self._lock:
            now, monotonic = self._clock(), self._monotonic()
            rate = rules.plan.rates[label]
            self._times[label].append(monotonic)
            recent = self._recent[label]
            opened = monotonic - rate.seconds if rules.sliding else monotonic // rate.seconds * rate.seconds
            while recent and (recent[0] <= opened if rules.sliding else recent[0] < opened):
                recent.popleft()
            left_today = self._left_today(label, rules, now)
            if left_today is not None and left_today <= 0:
                return self._refuse_day(label, rules, now)
            if len(recent) >= rate.calls:
                self._refused["QPS"][label] += 1
                reset = recent[0] + rate.seconds if rules.sliding and recent else opened + rate.seconds
                headers = _headers(label, "QPS", rate.calls, 0)
                headers["X-RateLimit-Reset"] = str(math.ceil(now + reset - monotonic))
                return Verdict(ZoomError(429), headers if rules.headers else {})
            recent.append(monotonic)
            self._used[label] += 1
            pool = rules.plan.pool(label)
            if pool is None or left_today is None:
                headers = _headers(label, "QPS", rate.calls, rate.calls - len(recent))
            else:
                headers = _headers(label, "Daily-limit", pool[1], left_today - 1)
            return Verdict(None, headers if rules.headers else {})

    def consume(self, label: Label, calls: int, rules: Rules) -> None:
        """Use up calls as another app of the account would; they are not in the log."""
        with self._lock:
            self._left_today(label, rules, self._clock())
            self._used[label] += calls
            self._recent[label].extend([self._monotonic()] * min(calls, rules.plan.rates[label].calls))

    def read(self, rules: Rules) -> dict[str, object]:
        """Return by label the calls, refusals, the peak in any window of the rate's length, and the limits."""
        with self._lock:
            return {label: self._read(label, rules, self._clock()) for label in LABELS}

    def _read(self, label: Label, rules: Rules, now: float) -> dict[str, object]:
        rate = rules.plan.rates[label]
        pool = rules.plan.pool(label)
        return {
            "calls": len(self._times[label]),
            "refused": self._refused["QPS"][label] + self._refused["Daily-limit"][label],
            "refused_by_rate": self._refused["QPS"][label],
            "refused_by_day": self._refused["Daily-limit"][label],
            "peak": _peak(self._times[label], rate.seconds),
            "limit": rate.calls,
            "seconds": rate.seconds,
            "day_limit": pool and pool[1],
            "day_left": self._left_today(label, rules, now),
        }

    def _left_today(self, label: Label, rules: Rules, now: float) -> int | None:
        """Return the day's remaining calls; start a new day if it has begun."""
        day = math.floor((now - rules.day_start) / rules.day_seconds)
        if day != self._day:
            self._day = day
            self._used.clear()
        pool = rules.plan.pool(label)
        return None if pool is None else max(0, pool[1] - sum(self._used[one] for one in pool[0]))

    def _refuse_day(self, label: Label, rules: Rules, now: float) -> Verdict:
        self._refused["Daily-limit"][label] += 1
        pool = rules.plan.pool(label)
        headers = _headers(label, "Daily-limit", pool[1] if pool else 0, 0)
        # In whole seconds, rounded up to avoid a time before the new day.
        reset = rules.day_start + (self._day + 1) * rules.day_seconds
        headers["Retry-After"] = iso(math.ceil(reset) * 1000) if rules.iso else str(math.ceil(reset - now))
        return Verdict(ZoomError(429, _DAILY), headers if rules.headers else {})


def _headers(label: Label, kind: str, limit: int, remaining: int) -> dict[str, str]:
    return {
        "X-RateLimit-Category": label,
        "X-RateLimit-Type": kind,
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
    }


def _peak(times: list[float], seconds: float) -> int:
    """Return the highest number of calls in any half-open window of `seconds`."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
