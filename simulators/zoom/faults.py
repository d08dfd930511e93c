"""Zoom's fault orders: which calls fail, how, and how often. They apply to calls that the quota has admitted."""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulators.faults import Orders, read_amount, read_choice, read_times
from simulators.serving import DroppedConnectionError
from simulators.wire import Request, Response, html
from simulators.zoom.answers import ENDED_TOKEN, ERRORS, ZoomError, as_json

# Inconsistent responses: no rows; half of them and no token; or the same rows with a new token forever.
_LISTS = ("null-rows", "half-rows", "endless")
KINDS = (
    "status",
    "error",
    "foreign",
    "redirect",
    "slow",
    "drop",
    "truncate",
    "invalid-json",
    "bad-quotes",
    "page-token",
    *_LISTS,
)
_BAD_QUOTES = '{"code":104,"message":"Invalid access token, does not contain scopes:["%s"]"}'


@dataclass(slots=True)
class Fault:
    """A fault order.

    Attributes:
        endpoint: The endpoint's short name, or any.
        uuid: Only calls about this meeting, or about the user with this id; None means any call.
        kind: `status` is an HTML page, `error` is Zoom's JSON with `code`, `foreign` is a proxy's JSON without
            one, `redirect` points to a regional host, `page-token` only affects requests for further pages,
            `bad-quotes` is a scope error in invalid JSON; the last three corrupt the rows of a list.
        status: The response's status: by default 500 for `status`, 400 for `foreign`, and for `error` the one that
            matches the code (200 can be given: an error body that claims success).
        code: Zoom's code, for `error`.
        share: Share of the matching calls that fail.
        times: How often it still applies; None means forever.
        seconds: How long a slow response takes.
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
        """Tell whether a call may fail."""
        if self.endpoint not in (endpoint, "any") or self.uuid not in (None, uuid):
            return False
        return self.kind != "page-token" or bool(request.parameter("next_page_token"))


def parse_fault(order: Mapping[str, object], endpoints: tuple[str, ...]) -> Fault:
    """Parse an order from JSON; raise `ValueError` with the member's name and what was expected."""
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
    """All active orders."""

    def apply(
        self, endpoint: str, uuid: str | None, scope: str, request: Request, answer: Callable[[], Response]
    ) -> Response:
        """Answer, subject to the orders that match this call; raises `DroppedConnectionError` and `ZoomError`."""
        spoiling = self.strike(lambda fault: fault.touches(endpoint, uuid, request))
        if spoiling is None:
            return answer()
        if spoiling.kind == "endless":  # the token was never issued
            request.query.pop("next_page_token", None)
        return _spoil(spoiling, scope, answer)


def _spoil(fault: Fault, scope: str, answer: Callable[[], Response]) -> Response:
    if fault.kind == "page-token":
        raise ZoomError(300, ENDED_TOKEN)
    if fault.kind == "drop":
        raise DroppedConnectionError
    refusal = _refusal(fault, scope)
    if refusal is not None:
        return refusal
    response = answer()
    if fault.kind in _LISTS:
        return replace(response, body=json.dumps(_spoiled(fault.kind, json.loads(response.body))).encode())
    if fault.kind == "truncate":
        return replace(response, cut=True)
    return replace(response, body=response.body[: len(response.body) // 2])


def _refusal(fault: Fault, scope: str) -> Response | None:
    """Return the response that replaces the endpoint's, if any."""
    if fault.kind == "status":
        status = fault.status or 500
        return html(status, f"{status} Error")
    if fault.kind == "error":
        error = ZoomError(fault.code)
        return as_json(error.body, fault.status or error.status)
    if fault.kind == "foreign":
        return as_json({"message": "Forbidden"}, fault.status or 400)
    if fault.kind == "redirect":
        return replace(html(301, "Moved"), headers={"Location": "https://api-us.zoom.example/v2/"})
    if fault.kind == "bad-quotes":
        return Response(400, (_BAD_QUOTES % scope).encode())
    return None


def _spoiled(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Corrupt the list in a response, but not the members that describe it."""
    if kind == "endless":
        return {**body, "next_page_token": secrets.token_urlsafe(26)}
    lists = {name: rows for name, rows in body.items() if isinstance(rows, list)}
    changed = {name: None if kind == "null-rows" else rows[: len(rows) // 2] for name, rows in lists.items()}
    return {**body, **changed, "next_page_token": ""}
