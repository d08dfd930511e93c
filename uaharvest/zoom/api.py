"""Requests to Zoom's API, with their token, quota and retries."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import requests

from uaharvest.errors import SourceError
from uaharvest.retries import Retries
from uaharvest.transport import Upstream, is_timeout
from uaharvest.zoom import answers, failures
from uaharvest.zoom.auth import CREDENTIALS, Login
from uaharvest.zoom.dashboard import Dashboard
from uaharvest.zoom.endpoints import Endpoint
from uaharvest.zoom.failures import PageTokenEndedError, TokenRefusedError, TooManyCallsError
from uaharvest.zoom.quota import Quota

TIMEOUT = (5, 60)  # seconds: to connect, and between two chunks of the response
LONGEST_ANSWER = 60.0  # seconds for the whole response; a permit counts as answered after 70 (quota.LAPSE)
RETRIES = Retries(attempts=4, first=0.5, jitter=(0.5, 1.5))  # per request, before its SourceError is raised
PERMIT_WAIT = 2.0  # seconds to wait for a permit
# Seconds to wait for a permit within a list, where giving up would lose the pages read so far.
LIST_PERMIT_WAIT = 5.0

Json = dict[str, Any]
Read = TypeVar("Read")


class Api:
    """Calls Zoom's API. Thread-safe."""

    def __init__(
        self,
        base_url: str,
        login: Login,
        quota: Quota,
        dashboard: Dashboard,
        *,
        header: tuple[str, str] | None = None,
        pool_size: int = 4,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Store the collaborators and create the HTTP client.

        Args:
            base_url: URL of the API, with its version.
            login: Issues tokens.
            quota: Issues permits.
            dashboard: Explains in errors why the Report endpoints are called.
            header: An additional header (name, value), for a gateway.
            pool_size: Number of connections kept open.
            pause: Sleeps for the given number of seconds between two attempts.
        """
        self.base_url = base_url.rstrip("/") + "/"
        self._login = login
        self._quota = quota
        self._dashboard = dashboard
        self._header = dict([header] if header else [])
        self._pause = pause
        self._upstream = Upstream(
            "Zoom", host="ZOOM_API_URL", login=CREDENTIALS, timeout=TIMEOUT, pool_size=pool_size
        )

    def ask(
        self, endpoint: Endpoint, params: Mapping[str, str], name: str = "", *, attempts: int | None = None
    ) -> Json:
        """Call an endpoint and return its response.

        Args:
            endpoint: The endpoint to call.
            params: Query parameters.
            name: The id in its path, if it has one.
            attempts: Number of attempts; None for the default in RETRIES. Time-outs and expired page tokens are not
                retried.

        Raises:
            HarvestError: As described in `Zoom`, and the errors of `failures`.
        """
        patience = LIST_PERMIT_WAIT if "next_page_token" in params else PERMIT_WAIT
        return self._retried(lambda: self._asked(endpoint, endpoint.of(name), params, patience), attempts)

    def now(self) -> datetime:
        """Return Zoom's clock, UTC.

        Every response has the time. The request therefore needs no endpoint and no token, and counts against no quota.
        """
        return self._retried(self._now)

    def _retried(self, ask: Callable[[], Read], attempts: int | None = None) -> Read:
        retries = dataclasses.replace(RETRIES, attempts=attempts) if attempts else RETRIES
        return retries.call(ask, pause=self._pause, again=_may_pass, wait=_between)

    def _asked(self, endpoint: Endpoint, path: str, params: Mapping[str, str], patience: float) -> Json:
        token = self._login.token()
        login = {"Authorization": f"Bearer {token.value}"} if token else {}
        with self._quota.permit(endpoint.label, patience=patience):
            response = self._get(endpoint.path, path, params, login)
        self._quota.answered(endpoint.label, response.headers)
        answer = answers.read(response.status_code, response.content)
        if answer.fine and answer.body is not None:
            self._login.accepted(token)
            return answer.body
        if answer.throttled:
            due = self._quota.refused(endpoint.label, response.headers, answer.message)
            raise TooManyCallsError(f"Zoom allows no more {endpoint.label} calls now (429).", due)
        if answer.token_refused:
            self._login.refused(token)
            raise TokenRefusedError(f"Zoom's {endpoint.path} refused one token after another.")
        target = response.headers.get("Location", "") if answer.redirects else ""
        why = " (used because the account has no Dashboard)" if self._dashboard.known_missing() else ""
        raise failures.failure(endpoint, answer, target, paged="next_page_token" in params, why=why)

    def _get(
        self, shown: str, path: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> requests.Response:
        return self._upstream.fetch(
            self.base_url + path,
            shown=self.base_url + shown,
            params=params,
            headers={"Accept": "application/json", **headers, **self._header},
            longest=LONGEST_ANSWER,
        )

    def _now(self) -> datetime:
        response = self._get("", "", {}, {})
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SourceError(f"Zoom at {self.base_url} answered {response.status_code}.")
        return self._upstream.clock(self.base_url, response)


def _may_pass(error: Exception) -> bool:
    """Tell whether to retry. There is no retry after a time-out, because the caller has waited long enough."""
    if isinstance(error, PageTokenEndedError):
        return False
    again = isinstance(error, TooManyCallsError | TokenRefusedError | SourceError)
    return again and not is_timeout(error.__cause__)


def _between(error: Exception, planned: float) -> float:
    """Return the pause. It is 0 if the next attempt waits for a permit anyway or uses another token."""
    return 0.0 if isinstance(error, TooManyCallsError | TokenRefusedError) else planned
