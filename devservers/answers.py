"""Wrong answers that every call is tried with: the columns of docs/failure-policy.md."""

import dataclasses
from typing import Any

from devservers.proxy import Reply, edited

PAGE = b"<html><head><title>Sign in</title></head><body>Access denied by policy 7</body></html>"
LARGE = b'{"x": "' + b"x" * 3_000_000 + b'"}'


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        name: For people.
        kind: refused, throttled, failed, garbled, short, moved or broken: the policy speaks of kinds.
        reply: What the proxy gives.
    """

    name: str
    kind: str
    reply: Reply


def page(status: int) -> Reply:
    """Return a web page with this status."""
    return Reply(status, PAGE, (("Content-Type", "text/html"),))


def fewer(*path: str) -> Answer:
    """Leave a row out of the list at `path`, and let the total be."""

    def change(body: Any) -> Any:
        place = body
        for name in path[:-1]:
            place = place.get(name) or {}
        rows = place.get(path[-1])
        if isinstance(rows, list):
            place[path[-1]] = rows[:-1]
        else:  # Opencast makes an object of a list of one
            place.pop(path[-1], None)
        return body

    return Answer("fewer rows than its total", "short", Reply(200, edited(change)))


ANSWERS = (
    Answer("400 without a body", "refused", Reply(400)),
    Answer("400 with a web page", "refused", page(400)),
    Answer("401 without a body", "refused", Reply(401)),
    Answer("403 without a body", "refused", Reply(403)),
    Answer("403 with a web page", "refused", page(403)),
    Answer("404 without a body", "refused", Reply(404)),
    Answer("404 with a web page", "refused", page(404)),
    Answer("405 with a web page", "refused", page(405)),
    Answer("429 without a body", "throttled", Reply(429)),
    Answer("429 with Retry-After: 0", "throttled", Reply(429, b"{}", (("Retry-After", "0"),))),
    Answer("500 with a web page", "failed", page(500)),
    Answer("502 without a body", "failed", Reply(502)),
    Answer("503 with JSON", "failed", Reply(503, b'{"message": "busy"}')),
    Answer("200 with a web page", "garbled", page(200)),
    Answer("200 without a body", "garbled", Reply(200)),
    Answer("200 with half of the JSON", "garbled", Reply(200, lambda body: body[: len(body) // 2])),
    Answer("200 with null", "garbled", Reply(200, b"null")),
    Answer("200 with a list", "garbled", Reply(200, b"[]")),
    Answer("200 with an empty object", "garbled", Reply(200, b"{}")),
    Answer("a redirect to another host", "moved", Reply(302, b"", (("Location", "http://elsewhere.invalid/"),))),
    Answer("no answer, the connection is reset", "broken", Reply(breaks="reset")),
    Answer("half of the answer, then a reset", "broken", Reply(breaks="half")),
    Answer("a drip", "broken", Reply(breaks="drip")),
    Answer("more than the limit", "broken", Reply(200, LARGE)),
)
