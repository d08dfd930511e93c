"""Standing orders of faults: which requests fail, how, and how often."""

import time
from collections.abc import Callable, Mapping
from dataclasses import Field
from random import Random
from threading import Lock
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class Order(Protocol):
    """One standing order. `times` counts down, None is for ever; `share` of the requests it touches fail.

    One of kind "slow" delays by `seconds`, any other spoils the answer.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    kind: str
    share: float
    times: int | None
    seconds: float


OrderT = TypeVar("OrderT", bound=Order)


class Orders(Generic[OrderT]):
    """All standing orders of one simulator. Thread-safe."""

    def __init__(self, seed: int) -> None:
        """Start with no order; `seed` decides which requests a share hits."""
        self._rng = Random(f"faults {seed}")
        self._lock = Lock()
        self._orders: list[OrderT] = []

    def add(self, order: OrderT) -> None:
        """Let one more order stand."""
        with self._lock:
            self._orders.append(order)

    def clear(self) -> None:
        """Drop all orders."""
        with self._lock:
            self._orders.clear()

    def strike(self, touches: Callable[[OrderT], bool]) -> OrderT | None:
        """Delay one request as it is due to it, and give the order that spoils its answer, if any."""
        hits = self._hits(touches)
        time.sleep(sum(order.seconds for order in hits))
        return next((order for order in hits if order.kind != "slow"), None)

    def _hits(self, touches: Callable[[OrderT], bool]) -> list[OrderT]:
        """Pick the orders for one request: every delay, and the first that spoils the answer."""
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
    """Read a number of an order; raises `ValueError` that names the member."""
    value = order.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
    return value


def read_times(order: Mapping[str, object]) -> int | None:
    """Read how often an order strikes; None is for ever."""
    return None if order.get("times") is None else int(read_amount(order, "times", 0))


def read_choice(order: Mapping[str, object], name: str, choices: tuple[str, ...], default: object = None) -> str:
    """Read one of some words of an order; raises `ValueError` that names them."""
    value = order.get(name, default)
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return str(value)
