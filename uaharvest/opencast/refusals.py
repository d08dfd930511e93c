"""The errors for Opencast's refusals and redirects. Nothing here calls Opencast."""

import dataclasses
import json
import re
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests

from uaharvest.answers import is_busy
from uaharvest.coerce import members, text, whole
from uaharvest.errors import BlockedError, SourceError

LOGIN = "MATTERHORN_REST_USER and MATTERHORN_REST_PASS"
SECURITY = "etc/security/mh_default_org.xml"
ROLES = f"{SECURITY} says who may read what, and ROLE_ADMIN may read all"
PEEK = 65536  # bytes to inspect of a response that is not JSON
WORDS = 160  # characters to show of the server's own message
_PHRASES = {int(status): status.phrase.split() for status in HTTPStatus}
LONGEST_RETRY_AFTER = 10.0  # seconds; longer waits are left to the run, so that no worker is blocked


class BusyServerError(SourceError):
    """The server is temporarily unavailable; `after` is its Retry-After in seconds."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


class RefusedRequestError(BlockedError):
    """The server refused the request; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a host is accessed; its errors name what to change.

    Attributes:
        base_url: The host's URL, with a slash at its end.
        host: The setting that holds it.
        user: The user; None for anonymous requests.
        basic: Whether requests have Basic credentials; otherwise Digest.
    """

    base_url: str
    host: str
    user: str | None
    basic: bool

    def check(self, url: str, response: requests.Response) -> None:
        """Raise the matching error for a status other than success.

        Raises:
            BusyServerError: The server is temporarily unavailable.
            BlockedError: The server refuses the request or redirects it.
        """
        status = response.status_code
        if is_busy(status):
            after = whole(response.headers.get("Retry-After"))  # None if it is a date
            raise BusyServerError(
                f"Opencast at {url} answered {status}.", float(min(max(after or 0, 0), LONGEST_RETRY_AFTER))
            )
        if status >= HTTPStatus.BAD_REQUEST:
            raise RefusedRequestError(self._refusal(url, response), status)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise BlockedError(self._redirect(url, response))

    def _refusal(self, url: str, response: requests.Response) -> str:
        status = response.status_code
        who = f"user '{self.user}'" if self.user else "an anonymous request"
        refused = f"Opencast at {url} refused {who} ({status}){_said(response)}."
        # After a successful log-in, the search endpoint itself refuses with exactly this text.
        no_admin = "WWW-Authenticate" not in response.headers and response.content.strip() == b"unauthorized"
        if status == HTTPStatus.UNAUTHORIZED and self.user and no_admin:
            return (
                f"Opencast at {url} refused {who} ({status}). It is not an admin there: give it ROLE_ADMIN, or choose"
                f" another with {LOGIN}."
            )
        if status == HTTPStatus.FORBIDDEN and self.user:  # from 20.0 on, also if not logged in
            return f"{refused} {self._mend_login(response)} Its role may be too small: {ROLES}."
        if status in {401, 403, 419}:  # 419: log-in required, where other servers redirect
            return f"{refused} {self._mend_login(response)}"
        if status == HTTPStatus.NOT_FOUND and url.endswith("/actions.json"):
            return (
                f"Opencast has nothing at {url} (404){_said(response)}. Check that {self.host} is the engage"
                " (presentation) node and, from Opencast 13 on, that opencast-plugin-usertracking is on in"
                " etc/org.opencastproject.plugin.impl.PluginManagerImpl.cfg. A release that has no usertracking"
                " any more may still have its tables: see OPENCAST_DATABASE_URL."
            )
        if status == HTTPStatus.NOT_FOUND and url.endswith("/instances.json"):
            return (
                f"Opencast has no list of workflows at {url} (404){_said(response)}. Check that {self.host} is the"
                " admin node."
            )
        return f"Opencast at {url} answered {status}{_said(response)}. Check {self.host}."

    def _redirect(self, url: str, response: requests.Response) -> str:
        here, there = urlsplit(self.base_url), urlsplit(urljoin(url, response.headers.get("Location", "")))
        path = there.path.partition(";")[0]  # the rest may be a session id
        where = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
        other = f" That is another host, {where}." if there.hostname != here.hostname else ""
        if "login" in path.lower():
            return f"Opencast at {url} requires a log-in (redirect to {path}). {self._mend_login(response)}{other}"
        if (here.scheme, there.scheme) == ("http", "https") and not other:
            secure = f"{where}{here.path}".rstrip("/")
            return f"Opencast at {url} redirects to https. Set {self.host} to {secure}."
        return f"Opencast at {url} redirects to {where}{path}. Check {self.host}.{other}"

    def _mend_login(self, response: requests.Response) -> str:
        if not self.user:
            return f"Set {LOGIN}."
        if not self.basic:
            return (
                f"Check {LOGIN}. Digest works only for accounts of the system and of capture agents; for others set"
                " OPENCAST_AUTH=basic."
            )
        if "Basic" in response.headers.get("WWW-Authenticate", "") or response.status_code == HTTPStatus.FORBIDDEN:
            return f"Check {LOGIN}."
        return (  # the server ignored the password
            f"It takes no Basic log-in: set OPENCAST_AUTH=digest, or switch its basic filter on ({SECURITY})."
        )


def _said(response: requests.Response) -> str:
    """Return the server's own message to append to a status: one shortened line without markup, or "" if none."""
    page = response.content[:PEEK].decode("utf-8", "replace")
    if page.lstrip().startswith("{"):
        try:
            answer = members(json.loads(response.content))
        except (ValueError, RecursionError):
            answer = {}
        page = next((said for name in ("message", "error", "detail") if (said := text(answer.get(name)))), "")
    begin = page.lower().find("<title")
    if begin >= 0:
        page = page[begin:].partition("</")[0]
    # The pattern allows no "<" within a tag. Otherwise the search for ">" from each "<" would run to the page's end.
    words = "".join(
        char if char.isprintable() else " " for char in re.sub(r"<[^<>]*>", " ", page[: 10 * WORDS])
    ).split()
    said = " ".join(words).rstrip(".")
    phrase = _PHRASES.get(response.status_code, [])
    if set(words) <= {str(response.status_code), "HTTP", "ERROR", "Error", *phrase}:
        return ""  # only repeats the status
    return f": {said[:WORDS]}{'…' if len(said) > WORDS else ''}" if said else ""
