"""Faults on order: which requests fail, how, and how often."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from threading import Lock

from simulators.opencast.table import Filter
from simulators.opencast.wire import Response, html

PATHS = ("actions", "search", "workflow", "any")
KINDS = ("status", "html", "drop", "slow", "truncate", "invalid-json")


class DroppedConnectionError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(slots=True)
class Fault:
    """One standing order. `times` counts down, None is for ever; `between` is epoch ms, inclusive."""

    path: str
    kind: str
    status: int
    share: float
    times: int | None
    seconds: float
    between: tuple[float, float] | None

    def touches(self, path: str, where: Filter | None) -> bool:
        """Tell whether a request to this kind of path, for these rows, is one that may fail."""
        if self.times == 0 or self.path not in (path, "any"):
            return False
        if self.between is None:
            return True
        if where is None:
            return False
        first, last = self.between
        begins_before = where.first_ms is None or where.first_ms <= last
        return begins_before and (where.last_ms is None or where.last_ms >= first)


def parse_fault(order: Mapping[str, object]) -> Fault:
    """Read one order as JSON gave it; raises `ValueError` that names the member and what was expected."""
    unknown = order.keys() - {"path", "kind", "status", "share", "times", "seconds", "between"}
    if unknown:
        raise ValueError(f"{min(unknown)}: no such member of a fault")
    path, kind = order.get("path", "any"), order.get("kind")
    if path not in PATHS:
        raise ValueError(f"path: expected one of {', '.join(PATHS)}, got {path!r}")
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    times = None if order.get("times") is None else int(_number(order, "times", 0))
    return Fault(
        path=str(path),
        kind=str(kind),
        status=int(_number(order, "status", 503)),
        share=_number(order, "share", 1.0),
        times=times,
        seconds=_number(order, "seconds", 0.0),
        between=_between(order.get("between")),
    )


class Faults:
    """All standing orders. They hit requests that got past the login, as an application's faults do."""

    def __init__(self, seed: int) -> None:
        """Start with no order; `seed` decides which requests a share hits."""
        self._rng = Random(f"faults {seed}")
        self._lock = Lock()
        self._orders: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let one more order stand."""
        with self._lock:
            self._orders.append(fault)

    def clear(self) -> None:
        """Drop all orders."""
        with self._lock:
            self._orders.clear()

    def apply(self, path: str, where: Filter | None, answer: Callable[[], Response]) -> Response:
        """Answer, but for the orders that hit this request; raises `DroppedConnectionError`."""
        hits = self._hits(path, where)
        time.sleep(sum(fault.seconds for fault in hits))
        spoiling = next((fault for fault in hits if fault.kind != "slow"), None)
        return answer() if spoiling is None else _spoil(spoiling, answer)

    def _hits(self, path: str, where: Filter | None) -> list[Fault]:
        """Pick the orders for one request: every delay, and the first that spoils the answer."""
        hits: list[Fault] = []
        spoiled = False
        with self._lock:
            for fault in self._orders:
                if (spoiled and fault.kind != "slow") or not fault.touches(path, where):
                    continue
                if self._rng.random() >= fault.share:
                    continue
                hits.append(fault)
                spoiled = spoiled or fault.kind != "slow"
                if fault.times is not None:
                    fault.times -= 1
        return hits


def _spoil(fault: Fault, answer: Callable[[], Response]) -> Response:
    if fault.kind == "status":
        return html(fault.status, f"HTTP ERROR {fault.status}")
    if fault.kind == "html":
        return html(200, "Opencast login")
    if fault.kind == "drop":
        raise DroppedConnectionError
    response = answer()
    if fault.kind == "truncate":
        return replace(response, cut=True)
    return replace(response, body=response.body[: len(response.body) // 2])


def _number(order: Mapping[str, object], name: str, default: float) -> float:
    value = order.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
    return value


def _between(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        return value[0] * 1000, value[1] * 1000
    raise ValueError(f"between: expected two epoch seconds, got {value!r}")
