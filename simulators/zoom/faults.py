"""Faults on order: which calls fail, how, and how often. They strike calls that the quota has let through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from simulators.faults import Orders, read_amount, read_choice, read_times
from simulators.serving import DroppedConnectionError
from simulators.wire import Request, Response, html
from simulators.zoom.answers import ENDED_TOKEN, ERRORS, ZoomError, as_json

KINDS = ("status", "error", "slow", "drop", "truncate", "invalid-json", "bad-quotes", "page-token")
_BAD_QUOTES = '{"code":104,"message":"Invalid access token, does not contain scopes:["%s"]"}'


@dataclass(slots=True)
class Fault:
    """One standing order.

    Attributes:
        endpoint: Its short name, or any.
        uuid: Only calls about this meeting; None is any call.
        kind: `status` is a page of HTML, `error` is Zoom's JSON with `code`, `page-token` strikes only where a
            list is read on, `bad-quotes` is a refused scope in JSON that is none.
        status: Of the answer; 500 for `status`, and for `error` what goes with the code unless it is given
            (200: an error body that claims success).
        code: Zoom's, for `error`.
        share: Of the calls that it touches.
        times: How often it still strikes; None is for ever.
        seconds: How long a slow answer takes.
    """

    endpoint: str
    uuid: str | None
    kind: str
    status: int | None
    code: int
    share: float
    times: int | None
    seconds: float

    def touches(self, endpoint: str, uuid: str | None, request: Request) -> bool:
        """Tell whether a call is one that may fail."""
        if self.endpoint not in (endpoint, "any") or self.uuid not in (None, uuid):
            return False
        return self.kind != "page-token" or bool(request.parameter("next_page_token"))


def parse_fault(order: Mapping[str, object], endpoints: tuple[str, ...]) -> Fault:
    """Read one order as JSON gave it; raises `ValueError` that names the member and what was expected."""
    unknown = order.keys() - {"endpoint", "uuid", "kind", "status", "code", "share", "times", "seconds"}
    if unknown:
        raise ValueError(f"{min(unknown)}: no such member of a fault")
    uuid = order.get("uuid")
    if uuid is not None and not isinstance(uuid, str):
        raise ValueError(f"uuid: expected a string or null, got {uuid!r}")
    code = int(read_amount(order, "code", 300))
    if code not in ERRORS:
        raise ValueError(f"code: expected one of {', '.join(map(str, ERRORS))}, got {code}")
    return Fault(
        endpoint=read_choice(order, "endpoint", (*endpoints, "any"), "any"),
        uuid=uuid,
        kind=read_choice(order, "kind", KINDS),
        status=None if order.get("status") is None else int(read_amount(order, "status", 500)),
        code=code,
        share=read_amount(order, "share", 1.0),
        times=read_times(order),
        seconds=read_amount(order, "seconds", 0.0),
    )


class Faults(Orders[Fault]):
    """All standing orders."""

    def apply(
        self, endpoint: str, uuid: str | None, scope: str, request: Request, answer: Callable[[], Response]
    ) -> Response:
        """Answer, but for the orders that strike this call; raises `DroppedConnectionError` and `ZoomError`."""
        spoiling = self.strike(lambda fault: fault.touches(endpoint, uuid, request))
        return answer() if spoiling is None else _spoil(spoiling, scope, answer)


def _spoil(fault: Fault, scope: str, answer: Callable[[], Response]) -> Response:
    if fault.kind == "status":
        status = fault.status or 500
        return html(status, f"{status} Error")
    if fault.kind == "error":
        error = ZoomError(fault.code)
        return as_json(error.body, fault.status or error.status)
    if fault.kind == "page-token":
        raise ZoomError(300, ENDED_TOKEN)
    if fault.kind == "bad-quotes":
        return Response(400, (_BAD_QUOTES % scope).encode())
    if fault.kind == "drop":
        raise DroppedConnectionError
    response = answer()
    if fault.kind == "truncate":
        return replace(response, cut=True)
    return replace(response, body=response.body[: len(response.body) // 2])
