"""Control interfaces under /_sim/: no login, JSON in and out, errors that say what was expected."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict

from simulators.faults import Orders, OrderT
from simulators.wire import Request, Response

Members = Mapping[str, object]


class Controls:
    """Answers control requests by method and path; `GET /_sim/` lists them."""

    def __init__(
        self,
        routes: Mapping[str, Callable[[Request], object]],
        *,
        faults: Orders[OrderT],
        parse_fault: Callable[[Members], OrderT],
        set_clock: Callable[[float], float],
    ) -> None:
        """Answer `routes` (such as "GET /_sim/requests") and the requests that all simulators share.

        Args:
            routes: This simulator's own requests; the functions may raise `ValueError`.
            faults: Its active fault orders.
            parse_fault: Parses an order; raises `ValueError`.
            set_clock: Sets the clock's offset from the real one in seconds; returns its time, epoch seconds.
        """

        def add_fault(request: Request) -> object:
            fault = parse_fault(read_members(request, None))
            order = asdict(fault)  # as requested, before it counts down
            faults.add(fault)
            return order

        def clear_faults(_: Request) -> object:
            faults.clear()
            return {}

        def clock(request: Request) -> object:
            offset = read_number(read_members(request, {"offset_seconds"}), "offset_seconds")
            return {"offset_seconds": offset, "now": set_clock(offset)}

        self._routes = {
            "GET /_sim/": self._index,
            **routes,
            "POST /_sim/faults": add_fault,
            "DELETE /_sim/faults": clear_faults,
            "POST /_sim/clock": clock,
        }

    def answer(self, request: Request) -> Response:
        """Execute a request; answer 400 with `{"error": …}` if it is invalid, 404 if it is unknown."""
        route = self._routes.get(f"{request.method} {request.path}")
        if route is None:
            return _json(404, {"error": "no such control", "controls": list(self._routes)})
        try:
            return _json(200, route(request))
        except (ValueError, OverflowError) as error:
            return _json(400, {"error": str(error)})

    def _index(self, _: Request) -> object:
        return {"controls": list(self._routes)}


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode())


def read_members(request: Request, known: set[str] | None) -> Members:
    """Read the body as a JSON object; an empty body is an empty object."""
    members = json.loads(request.body or b"{}")
    if not isinstance(members, dict):
        raise ValueError("body: expected a JSON object")  # noqa: TRY004 - answered with 400
    if known is not None and members.keys() - known:
        raise ValueError(f"{min(members.keys() - known)}: expected only {', '.join(sorted(known))}")
    return members


def read_number(members: Members, name: str, default: float | None = None) -> float:
    """Read a number; raise `ValueError` with the member's name if it is invalid, or absent without a default."""
    value = members.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: expected a number, got {value!r}")  # noqa: TRY004 - answered with 400
    return value


def read_whole(members: Members, name: str, default: int) -> int:
    """Read an integer; raise `ValueError` with the member's name if it is invalid."""
    value = read_number(members, name, default)
    if value != int(value):
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return int(value)


def read_text(members: Members, name: str, default: str | None) -> str | None:
    """Read a string or null; raise `ValueError` with the member's name if it is invalid."""
    value = members.get(name, default)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: expected a string or null, got {value!r}")
    return value
