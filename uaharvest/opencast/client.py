"""The Opencast client: asks as the old tool did, and tells each kind of failure apart."""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests
from pyhorn.client import MHClient
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from uaharvest.errors import BadInputError, BlockedError, SourceError
from uaharvest.opencast.foreign import many, members, text, whole
from uaharvest.transport import failure, is_timeout

ACTIONS = "usertracking/actions.json"
ACTION = "usertracking/action/{}.json"
EPISODE = "search/episode.json"
WORKFLOWS = "workflow/instances.json"  # up to Opencast 11
WORKFLOWS_OF = "workflow/mediaPackage/{}/instances.json"  # from 12 on
MOST_WORKFLOWS = 100  # of one mediapackage and definition; the list is newest first
NOTHING = "no-such-mediapackage"

TIMEOUT = (5, 60)  # seconds: to connect, and between two pieces of the answer
FIRST_PAUSE = 0.5  # seconds, doubled from one attempt to the next, give or take a half
PEEK = 65536  # bytes of an answer that is not JSON, to tell what it is
LONGEST_RETRY_AFTER = 10.0  # seconds; what takes longer is the run's to wait for, not a worker's

ENGAGE_HOST = "MATTERHORN_ENGAGE_HOST"
ADMIN_HOST = "MATTERHORN_ADMIN_HOST"
LOGIN = "MATTERHORN_REST_USER and MATTERHORN_REST_PASS"
SECURITY = "etc/security/mh_default_org.xml"
ROLES = f"{SECURITY} says who may read what, and ROLE_ADMIN may read all"

Headers = Mapping[str, str]
Read = TypeVar("Read")


class _BusyError(SourceError):
    """The server answered that it cannot now; `after` holds the seconds that it asks to be left alone."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


class _RefusedError(BlockedError):
    """The server answered with a status that refuses; `status` is which."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class ActionsPage:
    """An answer of `actions.json`.

    Attributes:
        total: How many rows there are in the range asked for, whatever the limit.
        rows: The rows, in no order that may be relied upon.
        now: The server's clock as it answered, UTC.
    """

    total: int
    rows: list[dict[str, Any]]
    now: datetime


class Opencast(MHClient):  # type: ignore[misc] # pyhorn is not typed
    """pyhorn's client with a transport of its own.

    pyhorn's has no pool of its own, asks twice for everything (it never uses a digest challenge again), gives
    up after 5 s and takes any 200 for JSON; its helpers lose `total`. Threads may share a client.

    Args:
        base_url: Scheme, host and, where Opencast lives below one, a path.
        user: A user of Opencast; None: ask anonymously.
        password: That user's password.
        basic: Log in by Basic, unasked, instead of Digest, which only knows accounts whose password the server has
            in clear text: the system's and those of capture agents.
        pool_size: Connections kept open: how many threads ask at once.
        attempts: How often one request is tried before its SourceError is raised.
        pause: Sleeps for some seconds between two attempts.
        host: The setting that names `base_url`, for errors.

    Raises:
        BadInputError: Of user and password only one is given.
    """

    def __init__(
        self,
        base_url: str,
        user: str | None = None,
        password: str | None = None,
        *,
        basic: bool = False,
        pool_size: int = 4,
        attempts: int = 4,
        pause: Callable[[float], None] = time.sleep,
        host: str = ENGAGE_HOST,
    ) -> None:
        if bool(user) != bool(password):
            raise BadInputError(f"Of {LOGIN} only one is set; set both, or neither to ask anonymously.")
        # default_headers then force a digest challenge where Opencast would take us for anonymous, by
        # X-Opencast-Matterhorn-Authorization up to 8.x, by X-Requested-Auth from 9.0.
        super().__init__(
            base_url.rstrip("/") + "/", user or None, password or None, timeout=TIMEOUT, cache_enabled=False
        )
        self._attempts = attempts
        self._pause = pause
        self._host = host
        self._lists_workflows: bool | None = None  # not known before the first answer
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=pool_size)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._basic = basic
        if not user or not password:
            # Anonymous means anonymous: without an auth requests would look for the host in ~/.netrc.
            self._session.auth = lambda request: request
        elif basic:
            self._session.auth = HTTPBasicAuth(user.encode(), password.encode())
            self.default_headers["X-Requested-Auth"] = "Basic"
        else:
            # One for all requests: it keeps the nonce, per thread, and answers a stale one.
            self._session.auth = HTTPDigestAuth(user, password)

    def __repr__(self) -> str:
        return f"Opencast({self.base_url!r}, user={self.user!r})"

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object at `path`, as pyhorn's own methods ask for it.

        Raises:
            BlockedError: Opencast refuses, redirects, or does not have it.
            SourceError: Opencast cannot be reached, is busy, fails or answers something else than JSON.
        """
        return self._retried(lambda: self._answer(path, params)[0])

    def actions(self, first: datetime, last: datetime, limit: int) -> ActionsPage:
        """Return the useractions created from `first` to `last`, at most `limit` of them.

        No offset is sent: pages of a table without an order lose rows.

        Args:
            first: Wall time at the server, naive, to the second.
            last: The same, inclusive.
            limit: Most rows; the server knows no maximum, and takes 0 for 10.

        Raises:
            BlockedError: As for `get`.
            SourceError: As for `get`; or there is no page in the answer, or no time on it.
        """
        params = {"start": f"{first:%Y%m%d%H%M%S}", "end": f"{last:%Y%m%d%H%M%S}", "limit": limit}
        return self._retried(lambda: self._page(*self._answer(ACTIONS, params)))

    def actions_of_day(self, day: date, limit: int, offset: int = 0, *, timeout: int = TIMEOUT[1]) -> ActionsPage:
        """Return useractions of a local day of the server, but for a minute of it: see `opencast.stock`.

        Args:
            day: Which.
            limit: Most rows; as for `actions`.
            offset: Rows to leave out, in an order that may be another one for each request.
            timeout: Seconds between two pieces of the answer.

        Raises:
            BlockedError, SourceError: As for `actions`.
        """
        params = {"day": f"{day:%Y%m%d}", "limit": limit, "offset": offset}
        return self._retried(lambda: self._page(*self._answer(ACTIONS, params, timeout)))

    def any_actions(self, limit: int = 1, offset: int = 0, *, timeout: int = TIMEOUT[1]) -> ActionsPage:
        """Return useractions of any time, and how many there are in all.

        The count takes 15 s of 10^8 rows, and to leave out as many four times that: MariaDB reads them all.

        Raises:
            BlockedError, SourceError: As for `actions`.
        """
        params = {"limit": limit, "offset": offset}
        return self._retried(lambda: self._page(*self._answer(ACTIONS, params, timeout)))

    def action(self, row_id: int) -> dict[str, Any] | None:
        """Return the useraction with this id, None if there is none.

        Raises:
            BlockedError, SourceError: As for `get`.
        """
        return members(self.get(ACTION.format(row_id)).get("action")) or None

    def episode(self, mpid: str) -> dict[str, Any] | None:
        """Return the search result of a mediapackage as Opencast gives it, None if there is none.

        `includeDeleted` finds what was retracted (Harvard DCE's fork; others ignore it), `admin` what is not
        public (up to 15; later versions ask who we are).

        Raises:
            BlockedError: As for `get`; or the user is not an admin.
            SourceError: As for `get`.
        """
        # Anyone may write rows with any id. One that cannot even be sent in a URL names no mediapackage.
        if not mpid.isprintable():
            return None
        params = {"id": mpid, "includeDeleted": "true"} | ({"admin": "true"} if self.user else {})
        answer = self.get(EPISODE, params)
        # "search-results" up to Opencast 15, at the top from 16.
        results = map(members, many(members(answer.get("search-results", answer)).get("result")))
        return next((result for result in results if mpid in _ids(result)), None)

    def workflows(self, mpid: str, definition: str) -> list[dict[str, Any]]:
        """Return the workflows of a mediapackage, as the admin host's Opencast gives them; others may be among them.

        Up to Opencast 11 there is one list of all, which filters; from 12 on one of each mediapackage, which does
        not, and the other is gone (404).

        Args:
            mpid: A mediapackage that there is.
            definition: Id of the workflow definition to ask for; of those only the succeeded ones.

        Raises:
            BlockedError: As for `get`; or this host has neither list.
            SourceError: As for `get`.
        """
        if self._lists_workflows is None:
            self._lists_workflows = self._finds_list()
        if self._lists_workflows:
            params = {"mp": mpid, "workflowdefinition": definition, "state": "SUCCEEDED", "count": MOST_WORKFLOWS}
            answer = self.get(WORKFLOWS, params)
        else:
            # Jetty takes no "/" in a part of a path.
            answer = self.get(WORKFLOWS_OF.format(quote(mpid))) if "/" not in mpid else {}
        # "" stands for an empty list.
        return [members(workflow) for workflow in many(members(answer.get("workflows")).get("workflow"))]

    def now(self) -> datetime:
        """Return the server's clock, UTC, from a search for nothing; raises as `get` does."""
        params = {"id": NOTHING} | ({"admin": "true"} if self.user else {})
        return self._retried(lambda: self._date(EPISODE, self._answer(EPISODE, params)[1]))

    def _finds_list(self) -> bool:
        """Tell whether there is the one list of all workflows; if not, make sure that there are the others."""
        try:
            self.get(WORKFLOWS, {"mp": NOTHING, "count": 1})
        except _RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self.get(WORKFLOWS_OF.format(NOTHING))
            return False
        return True

    def _retried(self, ask: Callable[[], Read]) -> Read:
        for attempt in range(self._attempts - 1):
            try:
                return ask()
            except SourceError as error:
                if is_timeout(error.__cause__):  # has waited long enough
                    raise
                backoff = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
                self._pause(max(backoff, error.after if isinstance(error, _BusyError) else 0.0))
        return ask()

    def _answer(
        self, path: str, params: Mapping[str, Any] | None, timeout: int = TIMEOUT[1]
    ) -> tuple[dict[str, Any], Headers]:
        url = self.base_url + path.lstrip("/")
        try:
            # No redirect is followed: a digest is bound to its path, and a log-in page is no answer.
            response = self._session.get(
                url,
                params=params,
                headers=self.default_headers,
                timeout=(TIMEOUT[0], timeout),
                allow_redirects=False,
            )
        # ValueError: a host, user or Location that cannot be one comes through requests untranslated.
        except (requests.RequestException, ValueError) as error:
            raise failure("Opencast", url, error, host=self._host, login=LOGIN, timeout=TIMEOUT) from error
        self._check(url, response)
        if response.status_code == HTTPStatus.NO_CONTENT:  # how Opencast says that there is no such row
            return {}, response.headers
        return _json(url, response), response.headers

    def _check(self, url: str, response: requests.Response) -> None:
        """Raise what a status other than success means."""
        status = response.status_code
        passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
        if status in passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BusyError(f"Opencast at {url} answered {status}.", _retry_after(response))
        if status >= HTTPStatus.BAD_REQUEST:
            raise _RefusedError(self._refusal(url, response), status)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise BlockedError(self._redirect(url, response))

    def _refusal(self, url: str, response: requests.Response) -> str:
        status = response.status_code
        who = f"user '{self.user}'" if self.user else "an anonymous request"
        refused = f"Opencast at {url} refused {who} ({status})."
        if status == HTTPStatus.UNAUTHORIZED and self.user and _is_no_admin(response):
            return f"{refused} It is not an admin there: give it ROLE_ADMIN, or choose another with {LOGIN}."
        if status == HTTPStatus.FORBIDDEN and self.user:  # from 20.0 on also who is not logged in
            return f"{refused} {self._mend_login(response)} Its role may be too small: {ROLES}."
        if status in {401, 403, 419}:  # 419: asked for a log-in, where others redirect
            return f"{refused} {self._mend_login(response)}"
        if status == HTTPStatus.NOT_FOUND and url.endswith(ACTIONS):
            return (
                f"Opencast has nothing at {url} (404). Check that {self._host} is the engage (presentation) node"
                " and, from Opencast 13 on, that opencast-plugin-usertracking is on in"
                " etc/org.opencastproject.plugin.impl.PluginManagerImpl.cfg. A release that has no usertracking"
                " any more may still have its tables: see OPENCAST_DATABASE_URL."
            )
        if status == HTTPStatus.NOT_FOUND and url.endswith("/instances.json"):
            return f"Opencast has no list of workflows at {url} (404). Check that {self._host} is the admin node."
        return f"Opencast at {url} answered {status}. Check {self._host}."

    def _redirect(self, url: str, response: requests.Response) -> str:
        here, there = urlsplit(self.base_url), urlsplit(urljoin(url, response.headers.get("Location", "")))
        path = there.path.partition(";")[0]  # what follows may be a session's id
        if "login" in path.lower():
            return f"Opencast at {url} wants a log-in (redirect to {path}). {self._mend_login(response)}"
        if (here.scheme, there.scheme) == ("http", "https"):
            secure = f"https://{there.netloc}{here.path}".rstrip("/")
            return f"Opencast at {url} redirects to https. Set {self._host} to {secure}."
        return f"Opencast at {url} redirects to {there.scheme}://{there.netloc}{path}. Check {self._host}."

    def _mend_login(self, response: requests.Response) -> str:
        if not self.user:
            return f"Set {LOGIN}."
        if not self._basic:
            return (
                f"Check {LOGIN}. Digest knows the system's and capture agents' accounts only; for any other set"
                " OPENCAST_AUTH=basic."
            )
        if "Basic" in response.headers.get("WWW-Authenticate", "") or response.status_code == HTTPStatus.FORBIDDEN:
            return f"Check {LOGIN}."
        return (  # it did not even look at the password
            f"It takes no Basic log-in: set OPENCAST_AUTH=digest, or switch its basic filter on ({SECURITY})."
        )

    def _page(self, answer: dict[str, Any], headers: Headers) -> ActionsPage:
        actions = members(answer.get("actions"))
        total, rows = whole(actions.get("total")), many(actions.get("action"))
        if total is None or not all(isinstance(row, dict) for row in rows):
            raise SourceError(f"Opencast at {self.base_url}{ACTIONS} answered without a page of useractions.")
        return ActionsPage(total, rows, self._date(ACTIONS, headers))

    def _date(self, path: str, headers: Headers) -> datetime:
        try:
            now = parsedate_to_datetime(headers.get("Date", ""))
        except ValueError:
            raise SourceError(
                f"Opencast at {self.base_url}{path} answered without a usable Date header;"
                " see whether a proxy drops it."
            ) from None
        # "-0000" is read as naive. HTTP knows UTC only.
        return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)


def _json(url: str, response: requests.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    page = response.content[:PEEK].decode("ascii", "replace").lower()
    if "<html" not in page:
        raise SourceError(f"Opencast at {url} answered with something that is not a JSON object.")
    login = f" It looks like a log-in page: check {LOGIN}." if "login" in page or "password" in page else ""
    raise SourceError(f"Opencast at {url} answered with a web page instead of JSON.{login}")


def _retry_after(response: requests.Response) -> float:
    """Return the seconds that the server asks for; 0 where it does not, or gives a date."""
    return float(min(max(whole(response.headers.get("Retry-After")) or 0, 0), LONGEST_RETRY_AFTER))


def _is_no_admin(response: requests.Response) -> bool:
    """Tell whether the search endpoint itself refuses: in these words, after the log-in has gone well."""
    return "WWW-Authenticate" not in response.headers and response.content.strip() == b"unauthorized"


def _ids(result: dict[str, Any]) -> set[str | None]:
    """Return the names of a result's mediapackage; Opencast >= 16 has the true one under `dc` only."""
    mediapackage, dc = members(result.get("mediapackage")), members(result.get("dc"))
    return {text(name) for name in (result.get("id"), mediapackage.get("id"), *many(dc.get("identifier")))}
