"""What an answer of Zoom's API means; pure.

Errors come as `{"code", "message"}`, also with HTTP 200; as a web page; and the one that names missing scopes as
invalid JSON, with quotes within its text. Messages are not passed on: some hold addresses of people.
"""

import dataclasses
import json
import re
from http import HTTPStatus
from typing import Any

from uaharvest.opencast.foreign import text, whole

# Zoom's codes: https://developers.zoom.us/docs/api/errors/
NO_PERMISSION = 200  # of the plan, of the Dashboard, or of the user who made the app
VALIDATION = 300  # a bad parameter, a page token that has ended, a webinar's id
BAD_TOKEN = 124
NO_ENDPOINT = 2300
SCOPES = frozenset({4711, 4700, 104})
# One meeting's: not there, its host may have none, more than a year old.
GONE = frozenset({3001, 3161, 12702})
# One user's: not there, may have no meetings, of another account.
USER_GONE = frozenset({1001, 3161, 1010})

_CODE = re.compile(rb'"code"\s*:\s*(-?\d{1,9})')
_MESSAGE = re.compile(rb'"message"\s*:\s*"(.*)"', re.DOTALL)
_SCOPE = re.compile(r"[a-z_]+(?::[a-z_]+)+")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read as far as it can be.

    Attributes:
        status: Of HTTP.
        code: Zoom's, of an error; 0: none.
        message: Zoom's; not for people's eyes.
        body: What it holds if all is well; None: it is no JSON object.
        page: It looks like a web page.
    """

    status: int
    code: int
    message: str
    body: dict[str, Any] | None
    page: bool

    @property
    def fine(self) -> bool:
        """Tell whether it is what was asked for."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES and not self.code and self.body is not None

    @property
    def throttled(self) -> bool:
        """Tell whether there were too many calls."""
        return HTTPStatus.TOO_MANY_REQUESTS in {self.status, self.code}

    @property
    def token_refused(self) -> bool:
        """Tell whether the token is the reason."""
        return self.status == HTTPStatus.UNAUTHORIZED or self.code == BAD_TOKEN

    @property
    def page_token_ended(self) -> bool:
        """Tell whether a page token is the reason."""
        return self.code == VALIDATION and "page token" in self.message.lower()

    @property
    def of_webinar(self) -> bool:
        """Tell whether the meeting is a webinar, which has endpoints of its own."""
        return self.code == VALIDATION and "webinar" in self.message.lower()

    @property
    def passing(self) -> bool:
        """Tell whether it may be otherwise in a while; so is what is no answer of Zoom's at all."""
        if self.status == HTTPStatus.REQUEST_TIMEOUT or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        return self.status < HTTPStatus.MULTIPLE_CHOICES and self.body is None and not self.code

    @property
    def scopes(self) -> list[str]:
        """Return the scopes that the message names."""
        return sorted(set(_SCOPE.findall(self.message)))


def read(status: int, content: bytes) -> Answer:
    """Read the status and body of an answer."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        code, message = _CODE.search(content), _MESSAGE.search(content)
        shown = message[1].decode("utf-8", "replace") if message else ""
        return Answer(status, int(code[1]) if code else 0, shown, None, b"<html" in content[:4096].lower())
    if not isinstance(body, dict):
        return Answer(status, 0, "", None, page=False)
    # Lists of meetings and participants have no such member.
    return Answer(status, whole(body.get("code")) or 0, text(body.get("message")) or "", body, page=False)
