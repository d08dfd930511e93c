"""The Zoom client: lists of past meetings, their hosts and participants."""

import dataclasses
import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import redis
import requests
import structlog
from requests.adapters import HTTPAdapter

from uaharvest.errors import BadInputError, BlockedError, HarvestError, PoisonError, PutOffError, SourceError
from uaharvest.opencast.foreign import many, text
from uaharvest.runs.ledger import PREFIX
from uaharvest.transport import failure, is_timeout
from uaharvest.zoom import answers, reports
from uaharvest.zoom.answers import Answer
from uaharvest.zoom.auth import CREDENTIALS, Login
from uaharvest.zoom.endpoints import (
    MEETINGS,
    PARTICIPANTS,
    REPORTED_PARTICIPANTS,
    USER_MEETINGS,
    USERS,
    Endpoint,
)
from uaharvest.zoom.quota import Quota

Kind = Literal["past", "pastOne"]
Source = Literal["dashboard", "report"]
KINDS: tuple[Kind, ...] = ("past", "pastOne")

Row = dict[str, Any]
Read = TypeVar("Read")

TIMEOUT = (5, 60)  # seconds: to connect, and between two pieces of the answer
ATTEMPTS = 4  # at one request, before its SourceError is raised
FIRST_PAUSE = 0.5  # seconds, doubled from one attempt to the next, give or take a half
PAGE_SIZE = 300  # Zoom's most
RESTARTS = 2  # of one list, where its page token ends before the list does
PATIENCE = 2.0  # seconds that a call waits for its permit
# Within a list: what has come is lost if it is given up.
LIST_PATIENCE = 5.0
# What Zoom keeps, six months, and lists at once, one: the calendar's, of which these are the shortest. It moves the
# first day of what is longer, and says 200.
OLDEST = timedelta(days=180)
LONGEST = timedelta(days=28)
SOURCE_KEPT = 86_400  # seconds for which it is remembered that an account has no Dashboard
USERS_KEPT = 600.0  # seconds for which the users of a window are not asked for again

log = structlog.get_logger()


class MeetingUnavailableError(HarvestError):
    """Zoom has no participants of this one meeting, and never will; `code` is Zoom's (3001, 3161, 12702), or 404."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _NoDashboardError(BlockedError):
    """The account has no Dashboard."""


class _UserUnavailableError(HarvestError):
    """A user has no meetings to list."""


class _PageTokenEndedError(SourceError):
    """A page token is not taken any more."""


class _TokenRefusedError(SourceError):
    """The token is not taken any more; there is another."""


class _TooManyCallsError(PutOffError):
    """Zoom answered 429; the label rests."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a list of past meetings.

    Attributes:
        rows: As Zoom's Dashboard names their fields, each uuid once in the whole list. Those of the Report
            endpoints are renamed, what they lack is None or not there, and `host_id` is set.
        next_token: Where to go on; "" after the last page. It lives 15 minutes.
        source: Which endpoints gave it.
        unreadable: Rows without a uuid: they stand for nothing that could be asked for.
    """

    rows: list[Row]
    next_token: str
    source: Source
    unreadable: int


@dataclasses.dataclass(frozen=True, slots=True)
class _ForeignPage:
    """A page as Zoom gave it; `first` also where a list begins anew."""

    rows: list[Any]
    next_token: str
    first: bool


class Zoom:
    """Asks Zoom; within its quotas, with the token that all workers share. Threads may share a client.

    Every method that calls Zoom raises:
        PutOffError: No call is left now; `due` says when one will be (the next second, minute or day).
        BlockedError: A person must change something; the text names the setting, scope or plan.
        SourceError: Zoom cannot be reached, is busy, fails or answers something else than it should.
    """

    def __init__(
        self,
        client: "redis.Redis",
        base_url: str,
        login: Login,
        quota: Quota,
        *,
        account: str,
        header: tuple[str, str] | None = None,
        pool_size: int = 4,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Put the parts together.

        Args:
            client: Redis, one that decodes.
            base_url: Of the API, with its version.
            login: Gives tokens.
            quota: Gives permits.
            account: Names the account in Redis's keys; no secret.
            header: One more, name and value, for a gateway.
            pool_size: Connections kept open: how many threads ask at once.
            pause: Sleeps for some seconds between two attempts.
            clock: Now; aware.
        """
        self._redis = client
        self.base_url = base_url.rstrip("/") + "/"
        self._login = login
        self._quota = quota
        self._source_key = f"{PREFIX}zoom:{account}:source"
        self._header = dict([header] if header else [])
        self._pause = pause
        self._clock = clock
        self._users_of: tuple[tuple[date, date], float, list[Row]] | None = None
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=pool_size)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        # Without an auth requests would put what ~/.netrc has for the host in the token's place.
        self._session.auth = lambda request: request

    def __repr__(self) -> str:
        return f"Zoom({self.base_url!r})"

    def now(self) -> datetime:
        """Return Zoom's clock, UTC.

        It is asked for nothing, without a token: such a call counts for no account. Any answer tells the time.
        """
        return self._retried(self._now)

    def source(self) -> Source:
        """Return which endpoints are asked: the Dashboard's, or those of reports where the account has none.

        The token says what it may ask for; that the plan has no Dashboard shows only when it is asked, and is
        remembered for a day.
        """
        if self._redis.get(self._source_key):
            return "report"
        token = self._login.token()
        if token is None or not token.scopes or token.scopes.intersection(MEETINGS.scopes):
            return "dashboard"
        if token.scopes.intersection(REPORTED_PARTICIPANTS.scopes):
            return "report"
        raise BlockedError(
            f"Zoom's token may list no meetings. Give the app the scope {MEETINGS.scopes[0]}, or for an account without"
            f" Dashboard {REPORTED_PARTICIPANTS.scopes[0]} (docs/zoom.md names all)."
        )

    def meetings(self, first: date, last: date, kind: Kind, *, token: str = "") -> Iterator[Page]:
        """Yield the pages of the past meetings that started from `first` to `last`, one call each.

        After a PutOffError go on with `token=page.next_token` of the last page that came: nothing is then asked
        for twice. Fetch nothing else in between: a token lives 15 minutes. One that has ended starts the list anew.

        Args:
            first: A day, UTC, of the last six months.
            last: A day, inclusive, at most a month later and not in the future.
            kind: `past` has no meetings of one person, `pastOne` has only those.
            token: Where to go on.

        Raises:
            BadInputError: Zoom does not keep these days, or they are too many for one list.
            BlockedError: Also: Zoom answered for other days than it was asked for.
        """
        self._check_days(first, last)
        seen: set[str] = set()
        for rows, next_token, source in self._sourced(first, last, kind, token):
            named = [row for row in rows if isinstance(row, dict) and text(row.get("uuid"))]
            # While data settle a row may stand on two pages; and a list that begins anew repeats what came.
            fresh = {row["uuid"]: row for row in named if row["uuid"] not in seen}
            seen.update(fresh)
            yield Page(list(fresh.values()), next_token, source, len(rows) - len(named))

    def host_ids(self, first: date, last: date) -> Mapping[str, str]:
        """Return the ids of those who hosted meetings from `first` to `last`, by e-mail address in lower case.

        Raises:
            BadInputError: As for `meetings`.
        """
        self._check_days(first, last)
        pairs = ((text(user.get("email")), text(user.get("id"))) for user in self._users(first, last))
        return {email.lower(): user_id for email, user_id in pairs if email and user_id}

    def participants(self, uuid: str, kind: Kind) -> list[Row]:
        """Return the participants of a meeting, one row for each join, as the Dashboard names their fields.

        Rows of the Report endpoints are renamed, what they lack is not there, and they have `duration`, in seconds.

        Args:
            uuid: Of the meeting.
            kind: Which list it stood in.

        Raises:
            MeetingUnavailableError: Zoom has them not: count and skip it.
        """
        if self.source() == "dashboard":
            try:
                return self._all(PARTICIPANTS, {"type": kind}, uuid)
            except _NoDashboardError as error:
                self._fall_back(error)
        return [reports.participant(row) for row in self._all(REPORTED_PARTICIPANTS, {}, uuid)]

    # Lists

    def _sourced(self, first: date, last: date, kind: Kind, token: str) -> Iterator[tuple[list[Any], str, Source]]:
        if self.source() == "dashboard":
            # Sent though they are the defaults: by default `type` is what runs now, and accounts differ in the other.
            params = {"type": kind, "query_date_type": "start_time"}
            try:
                for page in self._pages(MEETINGS, params, days=(first, last), token=token):
                    yield page.rows, page.next_token, "dashboard"
            except _NoDashboardError as error:
                self._fall_back(error)
                token = ""
            else:
                return
        for rows, next_token in self._reported(first, last, kind, token):
            yield rows, next_token, "report"

    def _reported(self, first: date, last: date, kind: Kind, token: str) -> Iterator[tuple[list[Any], str]]:
        """Yield the meetings of one host after another, by their ids; a token is a host's and a page's."""
        begin, _, page_token = token.partition(" ")
        hosts = sorted({user_id for user in self._users(first, last) if (user_id := text(user.get("id")))})
        hosts = [host for host in hosts if host >= begin]
        if not hosts:
            yield [], ""
        for host, following in itertools.zip_longest(hosts, hosts[1:], fillvalue=""):
            pages = self._pages(
                USER_MEETINGS,
                {"type": kind},
                host,
                days=(first, last),
                token=page_token if host == begin else "",
            )
            try:
                for page in pages:
                    rows = [reports.meeting(row, host) for row in page.rows if _is_meeting(row)]
                    yield rows, f"{host} {page.next_token}" if page.next_token else following
            except _UserUnavailableError as error:
                log.info("host left out", reason=str(error))
                yield [], following

    def _users(self, first: date, last: date) -> list[Row]:
        """Return those who hosted meetings; three lists of a day ask for them one after another."""
        kept = self._users_of
        if kept is not None and kept[0] == (first, last) and time.monotonic() < kept[1]:
            return kept[2]
        users: list[Row] = []
        for page in self._pages(USERS, {"type": "active"}, days=(first, last)):
            users = [*([] if page.first else users), *filter(_is_row, page.rows)]
        self._users_of = ((first, last), time.monotonic() + USERS_KEPT, users)
        return users

    def _all(self, endpoint: Endpoint, params: Mapping[str, str], name: str) -> list[Row]:
        """Return the rows of all pages, each once: while data settle one may stand on two of them."""
        rows: dict[str, Row] = {}
        for page in self._pages(endpoint, params, name):
            if page.first:
                rows.clear()
            rows.update({json.dumps(row, sort_keys=True): row for row in page.rows if _is_row(row)})
        return list(rows.values())

    def _pages(
        self,
        endpoint: Endpoint,
        params: Mapping[str, str],
        name: str = "",
        *,
        days: tuple[date, date] | None = None,
        token: str = "",
    ) -> Iterator[_ForeignPage]:
        """Yield the pages of a list; its other parameters must stay the same from page to page."""
        asked = (days[0].isoformat(), days[1].isoformat()) if days else None
        params = {**params, "page_size": str(PAGE_SIZE)} | ({"from": asked[0], "to": asked[1]} if asked else {})
        restarts, tokens = 0, {token}
        while True:
            paged = params | ({"next_page_token": token} if token else {})
            try:
                body = self._ask(endpoint, endpoint.of(name), paged)
            except _PageTokenEndedError:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                token, tokens = "", {""}
                continue
            if asked:
                _check_echo(endpoint, body, asked)
            if endpoint.rows not in body:
                raise SourceError(f"Zoom's {endpoint.path} answered without {endpoint.rows}.")
            next_token = text(body.get("next_page_token")) or ""
            if next_token and next_token in tokens:
                raise SourceError(f"Zoom's {endpoint.path} gives the same page token again and again.")
            yield _ForeignPage(many(body[endpoint.rows]), next_token, first=not token)
            if not next_token:
                return
            token = next_token
            tokens.add(token)

    def _check_days(self, first: date, last: date) -> None:
        """Refuse days that Zoom would move, or answer with nothing."""
        today = self._clock().astimezone(UTC).date()
        asked = f"{first} to {last}" if first != last else f"{first}"
        if not first <= last <= today:
            raise BadInputError(f"Zoom has no past meetings of {asked}: expected days up to today, {today} UTC.")
        if first < today - OLDEST:
            raise BadInputError(
                f"Zoom keeps meetings for six months: expected days from {today - OLDEST} on, not {asked}."
            )
        if last - first > LONGEST:
            raise BadInputError(f"Zoom lists a month at most at once, {LONGEST.days + 1} days, not {asked}.")

    def _fall_back(self, error: _NoDashboardError) -> None:
        log.warning("no Dashboard, Zoom's reports are read in its place", reason=str(error))
        self._redis.set(self._source_key, "report", ex=SOURCE_KEPT)

    # Requests

    def _ask(self, endpoint: Endpoint, path: str, params: Mapping[str, str]) -> Row:
        patience = LIST_PATIENCE if "next_page_token" in params else PATIENCE
        return self._retried(lambda: self._asked(endpoint, path, params, patience))

    def _retried(self, ask: Callable[[], Read]) -> Read:
        for attempt in range(ATTEMPTS - 1):
            try:
                return ask()
            except _PageTokenEndedError:
                raise
            except (_TooManyCallsError, _TokenRefusedError):
                continue  # the permit waits; there is another token
            except SourceError as error:
                if is_timeout(error.__cause__):  # has waited long enough
                    raise
                self._pause(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        return ask()

    def _asked(self, endpoint: Endpoint, path: str, params: Mapping[str, str], patience: float) -> Row:
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
            raise _TooManyCallsError(f"Zoom wants no more {endpoint.label} calls now (429).", due)
        if answer.token_refused:
            self._login.refused(token)
            raise _TokenRefusedError(f"Zoom's {endpoint.path} refused one token after another.")
        raise self._failure(endpoint, answer, paged="next_page_token" in params)

    def _get(
        self, shown: str, path: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> requests.Response:
        try:
            # No redirect is followed: the token is for this host only.
            return self._session.get(
                self.base_url + path,
                params=params,
                headers={"Accept": "application/json", **headers, **self._header},
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        # ValueError: a host or Location that cannot be one comes through requests untranslated.
        except (requests.RequestException, ValueError) as error:
            url = self.base_url + shown
            raise failure("Zoom", url, error, host="ZOOM_API_URL", login=CREDENTIALS, timeout=TIMEOUT) from error

    def _now(self) -> datetime:
        response = self._get("", "", {}, {})
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SourceError(f"Zoom at {self.base_url} answered {response.status_code}.")
        try:
            now = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            raise SourceError(
                f"Zoom at {self.base_url} answered without a usable Date header; see whether a proxy drops it."
            ) from None
        return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)

    def _failure(self, endpoint: Endpoint, answer: Answer, *, paged: bool) -> HarvestError:
        """Return what an answer means that is not the one asked for."""
        where = f"Zoom's {endpoint.path}"
        said = f"{answer.status}, code {answer.code}" if answer.code else f"{answer.status}"
        if answer.passing:
            what = " with a web page" if answer.page else "" if answer.body else " with something that is not JSON"
            return SourceError(f"{where} answered {said}{what}.")
        if answer.page_token_ended and paged:
            return _PageTokenEndedError(f"{where} does not take its page token any more ({said}).")
        if answer.code in answers.SCOPES:
            scope = " or ".join(answer.scopes or endpoint.scopes[:2])
            return BlockedError(f"{where} may not be asked ({said}). Give the app the scope {scope}{self._why()}.")
        if answer.code == answers.NO_PERMISSION:
            line = f"{where} is not for this account ({said}). It needs {endpoint.plan}{self._why()}."
            return _NoDashboardError(line) if endpoint in {MEETINGS, PARTICIPANTS} else BlockedError(line)
        return _failure_of_one(endpoint, answer, where, said) or _failure_of_all(answer, where, said)

    def _why(self) -> str:
        """Say why reports are asked for, where they are."""
        return " (asked because the account has no Dashboard)" if self._redis.get(self._source_key) else ""


def _failure_of_one(endpoint: Endpoint, answer: Answer, where: str, said: str) -> HarvestError | None:
    """Return what an answer means that is about one meeting, or one user; None if it is about more."""
    # Neither of these says that there is no such meeting: there is no such endpoint, or no Zoom.
    if answer.code == answers.NO_ENDPOINT or (answer.body is None and not answer.code):
        return None
    gone = answer.status == HTTPStatus.NOT_FOUND
    if endpoint is USER_MEETINGS and (gone or answer.code in answers.USER_GONE):
        return _UserUnavailableError(f"{where} has no such host ({said}).")
    if endpoint not in {PARTICIPANTS, REPORTED_PARTICIPANTS}:
        return None
    if gone or answer.code in answers.GONE or answer.of_webinar:
        return MeetingUnavailableError(f"{where} has no such meeting ({said}).", answer.code or answer.status)
    refused = answer.code and answer.status >= HTTPStatus.BAD_REQUEST
    return PoisonError(f"{where} refused this meeting ({said}).") if refused else None


def _failure_of_all(answer: Answer, where: str, said: str) -> HarvestError:
    """Return what an answer means that any other request would have got too."""
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return SourceError(f"{where} answered {said}, an error.")
    if answer.code == answers.VALIDATION:
        return BlockedError(f"{where} refused the days, or another parameter ({said}). Ask for other days.")
    return BlockedError(f"{where} answered {said}. Check ZOOM_API_URL and {CREDENTIALS}.")


def _check_echo(endpoint: Endpoint, body: Row, asked: tuple[str, str]) -> None:
    """Refuse an answer for other days: Zoom moves those that it has not, or that are too many, and says 200."""
    told = tuple((text(body.get(name)) or "")[:10] for name in ("from", "to"))
    if any(is_ and is_ != was for is_, was in zip(told, asked, strict=True)):
        shown = [day if re.fullmatch(r"[\d-]+", day) else "?" for day in told]
        raise BlockedError(
            f"Zoom's {endpoint.path} answered for {shown[0]} to {shown[1]}, and was asked for {asked[0]} to {asked[1]}."
            " It keeps six months, and lists one at once: ask for other days."
        )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict)


def _is_meeting(row: Any) -> bool:
    return _is_row(row) and row.get("type") not in reports.WEBINARS
