"""Parses responses of Zoom's API. Pure functions.

Errors come as `{"code", "message"}`, even with HTTP 200, or as a web page. The error that names missing scopes is
invalid JSON, with unescaped quotes in its text. A message may contain addresses or names of people. It is therefore
shown only if the request concerned no particular person, and then only its plain words. Messages are in the account's
language, so decisions are based on codes.
"""

import dataclasses
import json
import re
from http import HTTPStatus
from typing import Any

from uaharvest.coerce import text, whole

# Zoom's codes: https://developers.zoom.us/docs/api/errors/
NO_PERMISSION = 200  # missing in the plan, for the Dashboard, or for the user who made the app
VALIDATION = 300  # an invalid parameter, an expired page token, or a webinar's id
BAD_TOKEN = 124
NO_ENDPOINT = 2300
SCOPES = frozenset({4711, 4700, 104})
# The meeting does not exist, its host may not hold meetings, or it is more than a year old.
MEETING_NOT_FOUND = frozenset({3001, 3161, 12702})
# The meeting may be in the other of the Dashboard's two lists.
NOT_IN_THIS_LIST = frozenset({3001, 404})
# The user does not exist, may not hold meetings, or belongs to another account.
USER_NOT_FOUND = frozenset({1001, 3161, 1010})

_CODE = re.compile(rb'"code"\s*:\s*(-?\d{1,9})')
_MESSAGE = re.compile(rb'"message"\s*:\s*"(.*)"', re.DOTALL)
# Matches only from the start of a word. Trying from each of 100,000 letters would take hours.
_SCOPE = re.compile(r"(?<![a-z_:])[a-z_]++(?::[a-z_]++)++")
LONGEST_MESSAGE = 2_000  # characters to inspect
MOST_WORDS = 30
LONGEST_WORD, LONGEST_CAPITALS = 20, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A response, parsed as far as possible.

    Attributes:
        status: HTTP status.
        code: Zoom's error code; 0 for none.
        message: Zoom's message; must not be shown.
        body: The JSON object; None if the response is not one.
        page: Whether it looks like a web page.
    """

    status: int
    code: int
    message: str
    body: dict[str, Any] | None
    page: bool

    @property
    def fine(self) -> bool:
        """Tell whether the request succeeded."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES and not self.code and self.body is not None

    @property
    def throttled(self) -> bool:
        """Tell whether Zoom's rate limit was exceeded."""
        return HTTPStatus.TOO_MANY_REQUESTS in {self.status, self.code}

    @property
    def token_refused(self) -> bool:
        """Tell whether Zoom refused the access token."""
        return self.status == HTTPStatus.UNAUTHORIZED or self.code == BAD_TOKEN

    @property
    def page_token_ended(self) -> bool:
        """Tell whether a page token has expired, if one was sent: it is the only difference from the first page."""
        return self.code == VALIDATION

    @property
    def of_webinar(self) -> bool:
        """Tell whether the meeting is a webinar, which has its own endpoints."""
        return self.code == VALIDATION and "webinar" in self.message.lower()

    @property
    def passing(self) -> bool:
        """Tell whether the failure may be temporary, including any response that is not from Zoom."""
        if self.status == HTTPStatus.REQUEST_TIMEOUT or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        return self.status < HTTPStatus.MULTIPLE_CHOICES and self.body is None and not self.code

    @property
    def redirects(self) -> bool:
        """Tell whether it is a redirect."""
        return HTTPStatus.MULTIPLE_CHOICES <= self.status < HTTPStatus.BAD_REQUEST

    @property
    def words(self) -> str:
        """The plain words of the message, without anything that could be an address, an id or a secret."""
        return plain_words(self.message)

    @property
    def scopes(self) -> list[str]:
        """The scopes that the message names."""
        return sorted(set(_SCOPE.findall(self.message)))


def read(status: int, content: bytes) -> Answer:
    """Parse the status and body of a response."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        code, message = _CODE.search(content), _MESSAGE.search(content)
        shown = message[1][:LONGEST_MESSAGE].decode("utf-8", "replace") if message else ""
        return Answer(status, int(code[1]) if code else 0, shown, None, b"<html" in content[:4096].lower())
    if not isinstance(body, dict):
        return Answer(status, 0, "", None, page=False)
    # Lists of meetings and participants have no such member.
    shown = (text(body.get("message")) or "")[:LONGEST_MESSAGE]
    return Answer(status, whole(body.get("code")) or 0, shown, body, page=False)


def plain_words(message: str) -> str:
    """Return the words of a message that are safe to show: letters only, and not very long."""
    words = message[:LONGEST_MESSAGE].split()[:MOST_WORDS]
    plain = [word if _is_plain(word.strip("().,:;!'")) else "…" for word in words]
    return " ".join(plain) if set(plain) > {"…"} or "…" not in plain else ""


def _is_plain(word: str) -> bool:
    return word.isalpha() and len(word) <= LONGEST_WORD and (word[1:].islower() or len(word) <= LONGEST_CAPITALS)
