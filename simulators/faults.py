"""Fault orders: which requests fail, how, and how often."""

import time
from collections.abc import Callable, Mapping
from dataclasses import Field
from random import Random
from threading import Lock
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class Order(Protocol):
    """A fault order. `times` counts down (None means forever); a `share` of the matching requests fails.

    An order of kind "slow" delays the response by `seconds`; any other kind corrupts or replaces it.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    kind: str
    share: float
    times: int | None
    seconds: float


OrderT = TypeVar("OrderT", bound=Order)


class Orders(Generic[OrderT]):
    """All active fault orders of a simulator. Thread-safe."""

    def __init__(self, seed: int) -> None:
        """Start without orders; `seed` determines which requests a share hits."""
        self._rng = Random(f"faults {seed}")
        self._lock = Lock()
        self._orders: list[OrderT] = []

    def add(self, order: OrderT) -> None:
        """Add an order."""
        with self._lock:
            self._orders.append(order)

    def clear(self) -> None:
        """Drop all orders."""
        with self._lock:
            self._orders.clear()

    def strike(self, touches: Callable[[OrderT], bool]) -> OrderT | None:
        """Apply delays to a request; return the order that corrupts its response, if any."""
        hits = self._hits(touches)
        time.sleep(sum(order.seconds for order in hits))
        return next((order for order in hits if order.kind != "slow"), None)

    def _hits(self, touches: Callable[[OrderT], bool]) -> list[OrderT]:
        """Select the orders for a request: every delay, and the first that corrupts the response."""
        hits: list[OrderT] = []
        spoiled = False
        with self._lock:
            for order in self._orders:
                if order.times == 0 or (spoiled and order.kind != "slow") or not touches(order):
                    continue
                if self._rng.random() >= order.share:
                    continue
                hits.append(order)
                spoiled = spoiled or order.kind != "slow"
                if order.times is not None:
                    order.times -= 1
        return hits


def read_amount(order: Mapping[str, object], name: str, default: float) -> float:
    """Read a number in an order; raise `ValueError` with the member's name if it is invalid."""
    value = order.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
    return value


def read_times(order: Mapping[str, object]) -> int | None:
    """Read how often an order applies; None means forever."""
    return None if order.get("times") is None else int(read_amount(order, "times", 0))


def read_choice(order: Mapping[str, object], name: str, choices: tuple[str, ...], default: object = None) -> str:
    """Read a member that must be one of `choices`; raise `ValueError` that lists them if it is not."""
    value = order.get(name, default)
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return str(value)
