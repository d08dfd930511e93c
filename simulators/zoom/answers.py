"""Zoom's responses: JSON, and errors with their codes and texts."""

import json
from collections.abc import Mapping, Sequence

from simulators.wire import Response

# Zoom's errors by its own code: (HTTP status, text).
ERRORS = {
    124: (401, "Invalid access token."),
    200: (400, "No permission."),
    300: (400, "Validation Failed."),
    429: (429, "You have reached the maximum per-second rate limit for this API. Try again later."),
    1001: (404, "User does not exist."),
    1010: (400, "User does not belong to this account."),
    2300: (404, "This API endpoint is not recognized."),
    3001: (404, "This meeting's details are not available."),
    3161: (400, "Your user account is not allowed meeting hosting and scheduling capabilities."),
    4711: (400, "Invalid access token, does not contain scopes."),
    12702: (400, "Can not access a meeting a year ago."),
}
ENDED_TOKEN = "The next page token is invalid or expired."  # noqa: S105 - a page token
NO_DASHBOARD = (
    "This API is only available for Business or higher accounts that have enabled the Dashboard feature."
)


class ZoomError(Exception):
    """An error with Zoom's code and, unless another is given, Zoom's usual text."""

    def __init__(self, code: int, message: str | None = None, errors: Sequence[Mapping[str, str]] = ()) -> None:
        """Refuse with `code`; `errors` names the invalid parameters."""
        self.status, usual = ERRORS[code]
        self.body: dict[str, object] = {"code": code, "message": message or usual}
        if errors:
            self.body["errors"] = list(errors)
        super().__init__(self.body["message"])

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """Return the response."""
        return as_json(self.body, self.status, headers)


def invalid(field: str, message: str) -> ZoomError:
    """Return the error for an invalid parameter."""
    return ZoomError(300, errors=[{"field": field, "message": message}])


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response, as compact as Zoom's."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, "application/json;charset=UTF-8", dict(headers or {}))
