"""Opencast's fault orders: which requests fail, how, and how often."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from simulators.faults import Orders, read_amount, read_choice, read_times
from simulators.opencast.table import Filter
from simulators.serving import DroppedConnectionError
from simulators.wire import Response, html

PATHS = ("actions", "search", "workflow", "any")
KINDS = ("status", "html", "drop", "slow", "truncate", "invalid-json")


@dataclass(slots=True)
class Fault:
    """A fault order. `times` counts down (None means forever); `between` is in epoch ms, inclusive.

    `id` is the requested media package, None for any.
    """

    path: str
    kind: str
    status: int
    share: float
    times: int | None
    seconds: float
    between: tuple[float, float] | None
    id: str | None = None

    def touches(self, path: str, where: Filter | None, wanted: str = "") -> bool:
        """Tell whether a request for this kind of path, and these rows or this media package, may fail."""
        if self.path not in (path, "any") or self.id not in (None, wanted):
            return False
        if self.between is None:
            return True
        if where is None:
            return False
        first, last = self.between
        begins_before = where.first_ms is None or where.first_ms <= last
        return begins_before and (where.last_ms is None or where.last_ms >= first)


def parse_fault(order: Mapping[str, object]) -> Fault:
    """Parse an order from JSON; raise `ValueError` with the member's name and what was expected."""
    unknown = order.keys() - {"path", "kind", "status", "share", "times", "seconds", "between", "id"}
    if unknown:
        raise ValueError(f"{min(unknown)}: no such member of a fault")
    return Fault(
        path=read_choice(order, "path", PATHS, "any"),
        kind=read_choice(order, "kind", KINDS),
        status=int(read_amount(order, "status", 503)),
        share=read_amount(order, "share", 1.0),
        times=read_times(order),
        seconds=read_amount(order, "seconds", 0.0),
        between=_between(order.get("between")),
        id=None if order.get("id") is None else str(order["id"]),
    )


class Faults(Orders[Fault]):
    """All active orders. Like an application's own faults, they only affect requests that passed the login."""

    def apply(
        self, path: str, where: Filter | None, answer: Callable[[], Response], *, wanted: str = ""
    ) -> Response:
        """Answer, subject to the orders that match this request; raises `DroppedConnectionError`."""
        spoiling = self.strike(lambda fault: fault.touches(path, where, wanted))
        return answer() if spoiling is None else _spoil(spoiling, answer)


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


def _between(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        return value[0] * 1000, value[1] * 1000
    raise ValueError(f"between: expected two epoch seconds, got {value!r}")
