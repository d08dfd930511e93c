"""The Opencast client. It sends the same requests as the old tool and distinguishes the kinds of failure."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from pyhorn.client import MHClient
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from uaharvest.answers import LONGEST_ANSWER
from uaharvest.coerce import many, members, text, whole
from uaharvest.errors import BadInputError, SourceError
from uaharvest.opencast.actions import Unreadable, read_page, read_rows
from uaharvest.opencast.refusals import LOGIN, PEEK, Access, BusyServerError, RefusedRequestError
from uaharvest.retries import Retries
from uaharvest.rows.useractions import UserAction
from uaharvest.transport import (
    LARGEST_ANSWER,
    MEGABYTE,
    TooLargeError,
    Upstream,
    is_timeout,
)

ACTIONS = "usertracking/actions.json"
ACTION = "usertracking/action/{}.json"
EPISODE = "search/episode.json"
WORKFLOWS = "workflow/instances.json"  # up to Opencast 11
WORKFLOWS_OF = "workflow/mediaPackage/{}/instances.json"  # from 12 on
MOST_WORKFLOWS = 100  # per mediapackage and definition; the list is newest first
NOTHING = "no-such-mediapackage"

TIMEOUT = (5, 60)  # seconds: to connect, and between two chunks of the response
RETRIES = Retries(attempts=4, first=0.5, jitter=(0.5, 1.5))
# A useraction in actions.json has about 350 bytes. Its columns hold at most 1,100 characters together.
BYTES_PER_ACTION = 4096
DEFAULT_LIMIT = 10  # the server treats a limit of 0 as this

ENGAGE_HOST = "MATTERHORN_ENGAGE_HOST"
ADMIN_HOST = "MATTERHORN_ADMIN_HOST"

Read = TypeVar("Read")


@dataclasses.dataclass(frozen=True, slots=True)
class ActionsPage:
    """A response of `actions.json`.

    Attributes:
        total: Number of rows in the requested range, regardless of the limit.
        actions: The readable rows, in no reliable order.
        unreadable: The other rows.
        now: The server's clock when it answered, UTC.
    """

    total: int
    actions: list[UserAction]
    unreadable: list[Unreadable]
    now: datetime

    def __len__(self) -> int:
        """Return the number of all rows."""
        return len(self.actions) + len(self.unreadable)

    @property
    def sufficient_limit(self) -> int:
        """Return a limit that holds the whole range, with room for rows written in the meantime."""
        return self.total + self.total // 20 + 100


class Opencast:
    """Calls one host of an Opencast installation. Thread-safe.

    It uses a pyhorn client for the headers that each Opencast version needs, but does not send requests through it.
    Pyhorn has no connection pool, sends every request twice (it never reuses a digest challenge), times out after 5 s
    and parses any 200 response as JSON. Its helpers drop `total`.

    Every method that calls Opencast raises:
        BlockedError: Opencast refuses the request, redirects it, or has no such endpoint.
        SourceError: Opencast cannot be reached, is busy, fails, or sends something other than what was requested.

    Args:
        base_url: Scheme, host and, if Opencast is not at the root, a path.
        user: An Opencast user; None for anonymous requests.
        password: That user's password.
        basic: Send Basic credentials with every request instead of using Digest. Digest only works for accounts whose
            password the server stores in clear text: the system account and capture agents.
        pool_size: Number of connections kept open, one per concurrent thread.
        attempts: Attempts per request before its SourceError is raised; None for the default in RETRIES.
        pause: Sleeps for the given number of seconds between two attempts.
        host: The setting that holds `base_url`, for error messages.

    Raises:
        BadInputError: Only one of user and password is given.
    """

    def __init__(
        self,
        base_url: str,
        user: str | None = None,
        password: str | None = None,
        *,
        basic: bool = False,
        pool_size: int = 4,
        attempts: int | None = None,
        pause: Callable[[float], None] = time.sleep,
        host: str = ENGAGE_HOST,
    ) -> None:
        if bool(user) != bool(password):
            raise BadInputError(f"Of {LOGIN} only one is set; set both, or neither to ask anonymously.")
        self.base_url = base_url.rstrip("/") + "/"
        self.user = user or None
        # Pyhorn's headers force a digest challenge; without them Opencast would treat the request as anonymous. They
        # are X-Opencast-Matterhorn-Authorization up to 8.x and X-Requested-Auth from 9.0.
        self._pyhorn = MHClient(self.base_url, self.user, password or None, cache_enabled=False)
        self._retries = dataclasses.replace(RETRIES, attempts=attempts) if attempts else RETRIES
        self._pause = pause
        self._access = Access(base_url=self.base_url, host=host, user=self.user, basic=basic)
        self._lists_workflows: bool | None = None  # unknown before the first response
        self._upstream = Upstream("Opencast", host=host, login=LOGIN, timeout=TIMEOUT, pool_size=pool_size)
        if not user or not password:
            pass  # anonymous requests
        elif basic:
            self._upstream.session.auth = HTTPBasicAuth(user.encode(), password.encode())
            self._pyhorn.default_headers["X-Requested-Auth"] = "Basic"
        else:
            # Shared by all requests, because it keeps the nonce (per thread) and renews a stale one.
            self._upstream.session.auth = HTTPDigestAuth(user, password)

    def __repr__(self) -> str:
        return f"Opencast({self.base_url!r}, user={self.user!r})"

    def actions(self, first: datetime, last: datetime, limit: int) -> ActionsPage:
        """Return the useractions created from `first` to `last`, at most `limit` of them.

        No offset is sent, because the query has no order: pages by offset would lose rows.

        Args:
            first: Naive wall time in the server's zone, to the second.
            last: Naive wall time, inclusive.
            limit: Maximum number of rows. The server has no upper limit, and treats 0 as 10.
        """
        params = {"start": f"{first:%Y%m%d%H%M%S}", "end": f"{last:%Y%m%d%H%M%S}", "limit": limit}
        return self._retried(lambda: self._page(params))

    def actions_of_day(self, day: date, limit: int, offset: int = 0, *, timeout: int = TIMEOUT[1]) -> ActionsPage:
        """Return useractions of a local day of the server, except for one hidden minute; see `opencast.stock`.

        Args:
            day: The local day.
            limit: Maximum number of rows, as for `actions`.
            offset: Number of rows to skip. Their order may differ between requests.
            timeout: Seconds between two chunks of the response.
        """
        params = {"day": f"{day:%Y%m%d}", "limit": limit, "offset": offset}
        return self._retried(lambda: self._page(params, timeout))

    def any_actions(self, limit: int = 1, offset: int = 0, *, timeout: int = TIMEOUT[1]) -> ActionsPage:
        """Return useractions of any time, and the number of all useractions.

        With 10^8 rows, counting takes 15 s, and skipping as many by `offset` takes four times as long, because MariaDB
        reads them all.
        """
        params = {"limit": limit, "offset": offset}
        return self._retried(lambda: self._page(params, timeout))

    def action(self, row_id: int) -> dict[str, Any] | None:
        """Return the useraction with this id, or None if there is none."""
        path = ACTION.format(row_id)
        answer = self._retried(lambda: self._answer(path, None, largest=MEGABYTE)[0])
        if answer is None:
            return None
        found = members(answer.get("action"))
        if whole(found.get("id")) != row_id:
            raise SourceError(f"Opencast at {self.base_url}{path} answered without that useraction.")
        return found

    def episode(self, mpid: str) -> dict[str, Any] | None:
        """Return the search result of a mediapackage as Opencast sends it, or None if there is none.

        `includeDeleted` also finds retracted episodes (in Harvard DCE's fork; others ignore it). `admin` also finds
        episodes that are not public (up to 15; later versions go by the user's roles).
        """
        # Anyone can write rows with any id. An id that cannot be sent in a URL belongs to no mediapackage.
        if not mpid.isprintable():
            return None
        params = {"id": mpid, "includeDeleted": "true"} | ({"admin": "true"} if self.user else {})
        return self._retried(lambda: self._result(mpid, self._content(EPISODE, params)))

    def workflows(self, mpid: str, definition: str) -> list[dict[str, Any]]:
        """Return the workflows of a mediapackage as the admin host sends them; other workflows may be among them.

        Up to Opencast 11, one list has all workflows and can be filtered. From 12 on, each mediapackage has its own
        list without filters, and the old list returns 404.

        Args:
            mpid: An existing mediapackage.
            definition: Id of the workflow definition. Where the list can be filtered, only its succeeded workflows are
                returned.
        """
        if self._lists_workflows is None:
            self._lists_workflows = self._finds_list()
        if self._lists_workflows:
            params = {"mp": mpid, "workflowdefinition": definition, "state": "SUCCEEDED", "count": MOST_WORKFLOWS}
            return self._retried(lambda: self._workflows(WORKFLOWS, params))
        if "/" in mpid:  # Jetty accepts no slash within a path segment
            return []
        return self._retried(lambda: self._workflows(WORKFLOWS_OF.format(quote(mpid)), None))

    def now(self) -> datetime:
        """Return the server's clock, UTC, by searching for an id that does not exist."""
        return self._retried(self._search_clock)

    def _finds_list(self) -> bool:
        """Tell whether the list of all workflows exists. If not, check that the list per mediapackage does."""
        try:
            self._retried(lambda: self._workflows(WORKFLOWS, {"mp": NOTHING, "count": 1}))
        except RefusedRequestError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._retried(lambda: self._workflows(WORKFLOWS_OF.format(NOTHING), None))
            return False
        return True

    def _retried(self, ask: Callable[[], Read]) -> Read:
        return self._retries.call(
            ask,
            pause=self._pause,
            again=_may_pass,
            wait=lambda error, planned: max(planned, error.after if isinstance(error, BusyServerError) else 0.0),
        )

    def _content(self, path: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        answer = self._answer(path, params)[0]
        if answer is None:
            raise SourceError(f"Opencast at {self.base_url}{path.lstrip('/')} answered with nothing (204).")
        return answer

    def _answer(
        self,
        path: str,
        params: Mapping[str, Any] | None,
        timeout: int = TIMEOUT[1],
        largest: int = LARGEST_ANSWER,
    ) -> tuple[dict[str, Any] | None, requests.Response]:
        """Return the JSON object (None for a response without content) and the response itself."""
        response = self._fetch(path, params, timeout, largest)
        if response.status_code == HTTPStatus.NO_CONTENT:  # Opencast's answer if there is no such row
            return None, response
        return _json(self.base_url + path.lstrip("/"), response), response

    def _fetch(self, path: str, params: Mapping[str, Any] | None, timeout: int, largest: int) -> requests.Response:
        url = self.base_url + path.lstrip("/")
        response = self._upstream.fetch(
            url,
            params=params,
            headers=self._pyhorn.default_headers,
            timeout=timeout,
            largest=largest,
            longest=timeout + LONGEST_ANSWER,
        )
        self._access.check(url, response)
        return response

    def _page(self, params: Mapping[str, Any], timeout: int = TIMEOUT[1]) -> ActionsPage:
        limit = int(params["limit"]) or DEFAULT_LIMIT
        largest = MEGABYTE + BYTES_PER_ACTION * limit
        url = self.base_url + ACTIONS
        response = self._fetch(ACTIONS, params, timeout, largest)
        unreadable: list[Unreadable] = []
        if read := read_page(response.content):
            total, actions = read
        else:
            answer = {} if response.status_code == HTTPStatus.NO_CONTENT else _json(url, response)
            total, rows = _rows(url, answer)
            actions, unreadable = read_rows(rows)
        # For `day` requests the window may move between count and page, but that empties a page of one row at most.
        if not actions and not unreadable and min(total - int(params.get("offset", 0)), limit) > 0:
            raise SourceError(f"Opencast at {url} says there are {total} useractions and gives none.")
        return ActionsPage(total, actions, unreadable, self._upstream.clock(url, response))

    def _result(self, mpid: str, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        # Nested in "search-results" up to Opencast 15, at the top level from 16.
        found = answer.get("search-results", answer)
        total, results = _total(members(found)), many(members(found).get("result"))
        # Opencast 16 and later send a list even if it is empty. Older versions send only a total of 0.
        says = total is not None or isinstance(members(found).get("result"), list)
        if not says or not all(isinstance(result, dict) or result in ("", None) for result in results):
            raise SourceError(f"Opencast at {self.base_url}{EPISODE} answered without a list of results.")
        result = next((result for result in results if mpid in _ids(members(result))), None)
        if ((total or 0) > len(results) and result is None) or (total == 0 and results):
            raise SourceError(
                f"Opencast at {self.base_url}{EPISODE} says there are {total} results and gives {len(results)}."
            )
        return result

    def _workflows(self, path: str, params: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        answer = self._content(path, params)
        listed = answer.get("workflows")
        workflows = many(members(listed).get("workflow"))
        total = whole(members(listed).get("totalCount"))  # up to Opencast 11
        # Opencast sends "" for an empty list.
        if not (listed == "" or isinstance(listed, dict)) or not all(isinstance(one, dict) for one in workflows):
            raise SourceError(f"Opencast at {self.base_url}{path} answered without a list of workflows.")
        if total is not None and params is not None and len(workflows) < min(total, int(params["count"])):
            raise SourceError(
                f"Opencast at {self.base_url}{path} says there are {total} workflows and gives {len(workflows)}."
            )
        return workflows

    def _search_clock(self) -> datetime:
        params = {"id": NOTHING} | ({"admin": "true"} if self.user else {})
        answer, response = self._answer(EPISODE, params)
        self._result(NOTHING, answer or {})  # checks that this is really a search response
        return self._upstream.clock(self.base_url + EPISODE, response)


def _may_pass(error: Exception) -> bool:
    """Tell whether to retry. A response that was too slow or too large is not requested again."""
    cause = error.__cause__
    return isinstance(error, SourceError) and not (is_timeout(cause) or isinstance(cause, TooLargeError))


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


def _rows(url: str, answer: Mapping[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Return the total and the rows of any response of `actions.json`."""
    actions = members(answer.get("actions"))
    total, rows = _total(actions), many(actions.get("action"))
    if total is None or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"Opencast at {url} answered without a page of useractions.")
    return total, rows


def _total(found: Mapping[str, Any]) -> int | None:
    """Return the total in the response; None if that is not a valid count."""
    total = whole(found.get("total"))
    return total if total is not None and total >= 0 else None


def _ids(result: dict[str, Any]) -> set[str | None]:
    """Return the ids of a result's mediapackage. Opencast >= 16 has the correct one only under `dc`."""
    mediapackage, dc = members(result.get("mediapackage")), members(result.get("dc"))
    return {text(name) for name in (result.get("id"), mediapackage.get("id"), *many(dc.get("identifier")))}
