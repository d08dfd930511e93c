"""Handles a request: route, gate, quota, plan, scopes, faults and endpoint."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from simulators.wire import Request, Response
from simulators.zoom import rows
from simulators.zoom.answers import NO_DASHBOARD, ZoomError, as_json, invalid
from simulators.zoom.control import Control
from simulators.zoom.dates import Window, read_window
from simulators.zoom.endpoints import TOKEN, Endpoint, find_endpoint, no_such_meeting, read_meeting_id
from simulators.zoom.gate import GatewayError
from simulators.zoom.site import Site
from simulators.zoom.world import Meeting, Person, State, World

_TYPES = ("live", "past", "pastOne")
# What each type of /users/{id}/meetings shows.
_SCHEDULED: dict[str, tuple[State, ...]] = {
    "scheduled": ("future", "live"),
    "live": ("live",),
    "upcoming": ("future",),
    "upcoming_meetings": ("future",),
    "previous_meetings": ("past",),
}
_YEAR_MS = 365 * 86_400_000


class Application:
    """Answers one request after another for a site."""

    def __init__(self, site: Site) -> None:
        """Serve `site`."""
        self.site = site
        self._control = Control(site)
        self._handlers: dict[str, Callable[[Request, str], object]] = {
            "meetings": self._dashboard_meetings,
            "meeting": self._dashboard_meeting,
            "participants": self._dashboard_participants,
            "report-users": self._report_users,
            "report-user-meetings": self._report_user_meetings,
            "report-meeting": self._report_meeting,
            "report-participants": self._report_participants,
            "history": self._history,
            "past-meeting": self._past_meeting,
            "users": self._users,
            "user-meetings": self._user_meetings,
        }

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return self.site.now()

    def open(self) -> None:
        """Begin: the clock starts now."""
        self.site.open()

    def answer(self, request: Request) -> Response:
        """Answer and count a request; raise `DroppedConnectionError` to send no response."""
        if request.path.startswith("/_sim/"):
            return self._control.answer(request)
        time.sleep(self.site.options.latency_ms / 1000)
        found = find_endpoint(request.target)
        endpoint, raw = found or (None, "")
        is_token = request.path == "/oauth/token"
        name = TOKEN if is_token else endpoint.name if endpoint else "other"
        uuid = self._asked_uuid(endpoint, raw)
        status = 0
        try:
            response = self._token(request) if is_token else self._guarded(request, endpoint, raw, uuid)
            status = response.status
        finally:
            self.site.log.add(name, uuid, status)
        tracking = f"v=2.0;clid=us02;rid=WEB_{secrets.token_hex(16)}"
        return replace(response, headers={**response.headers, "x-zm-trackingid": tracking})

    def _asked_uuid(self, endpoint: Endpoint | None, raw: str) -> str | None:
        """Return the UUID in a path, however it was encoded; None if the path identifies no meeting."""
        if endpoint is None or not endpoint.is_about_a_meeting:
            return None
        try:
            named = read_meeting_id(raw)
            meeting = self._find(named)
        except ZoomError:
            return None
        return meeting.uuid

    def _token(self, request: Request) -> Response:
        if request.method != "POST":
            return as_json({"reason": "Method not allowed", "error": "invalid_request"}, 405)
        site = self.site
        return self._faulty(
            TOKEN, None, "", request, lambda: site.gate.issue(request, site.options.account(), site.now())
        )

    def _guarded(self, request: Request, endpoint: Endpoint | None, raw: str, uuid: str | None) -> Response:
        """Answer an API call, or raise the reason for refusing it."""
        site = self.site
        if endpoint is None or request.method != "GET":
            return ZoomError(2300).response()
        try:
            scopes = site.gate.admit(request, site.options.account(), site.now())
        except (ZoomError, GatewayError) as refusal:
            return refusal.response()
        verdict = site.quotas.admit(endpoint.label, site.rules)
        if verdict.error is not None:
            return verdict.error.response(verdict.headers)
        try:
            self._check_plan(endpoint)
            if scopes is not None and not set(endpoint.scopes) & set(scopes):
                raise ZoomError(  # noqa: TRY301 - all errors are answered in one place
                    4711, f"Invalid access token, does not contain scopes:[{endpoint.scopes[0]}]."
                )
            handler = self._handlers[endpoint.name]
            response = self._faulty(
                endpoint.name,
                uuid or unquote(raw),
                endpoint.scopes[0],
                request,
                lambda: as_json(handler(request, raw)),
            )
        except ZoomError as refusal:
            response = refusal.response()
        return replace(response, headers={**response.headers, **verdict.headers})

    def _faulty(
        self, name: str, uuid: str | None, scope: str, request: Request, answer: Callable[[], Response]
    ) -> Response:
        return self.site.faults.apply(name, uuid, scope, request, answer)

    def _check_plan(self, endpoint: Endpoint) -> None:
        options = self.site.options
        if endpoint.needs == "dashboard" and not (options.plan == "business" and options.dashboard):
            raise ZoomError(200, NO_DASHBOARD)
        if endpoint.needs == "paid" and options.plan == "free":
            raise ZoomError(200, f"Only available for paid account: {options.account_id}")

    # Shared by all endpoints

    def _window(self, request: Request, *, times: bool = False) -> Window:
        refuse_old = self.site.options.old_windows == "refused"
        return read_window(request, self.site.now(), times=times, refuse_old=refuse_old)

    def _page(
        self,
        request: Request,
        name: str,
        select: Callable[[], Sequence[Any]],
        row: Callable[[Any], rows.Row],
        *,
        numbered: bool = False,
    ) -> dict[str, object]:
        options = self.site.options
        page = self.site.pages.page(
            request,
            select,
            now=self.site.now(),
            life=options.page_token_seconds,
            overlap=options.page_overlap,
            numbered=numbered,
        )
        return {**page.members, name: [row(one) for one in page.rows]}

    def _find(self, named: str, wanted: Callable[[Meeting], bool] = lambda _: True) -> Meeting:
        """Return the meeting with a UUID, or the newest instance of a number that `wanted` accepts."""

        def search(world: World) -> Meeting | None:
            if not named.isdecimal():
                return world.by_uuid(named)
            known = [meeting for meeting in world.instances(int(named)) if self.site.state(meeting) != "future"]
            return next(filter(wanted, known), known[0] if known else None)

        meeting = self.site.read(search)
        if meeting is None or self.site.state(meeting) == "future":
            raise no_such_meeting(named)
        if self.site.now_ms() - meeting.end_ms > _YEAR_MS:
            raise ZoomError(12702)
        return meeting

    def _ended(self, raw: str, wanted: Callable[[Meeting], bool] = lambda _: True) -> Meeting:
        """Return a meeting that has ended and is visible."""

        def is_wanted(meeting: Meeting) -> bool:
            return self.site.state(meeting) == "past" and wanted(meeting)

        meeting = self._find(read_meeting_id(raw), is_wanted)
        if not is_wanted(meeting):
            raise ZoomError(3001)
        return meeting

    def _person(self, raw: str) -> Person:
        person = self.site.read(lambda world: world.person(unquote(raw)))
        # An account-level app has no "me".
        if person is None or not person.listed:
            raise ZoomError(1001, f"User does not exist: {raw}.")
        return person

    def _past(self, keep: Callable[[Meeting], bool]) -> list[Meeting]:
        return self.site.read(
            lambda world: [meeting for meeting in world if self.site.state(meeting) == "past" and keep(meeting)]
        )

    def _is_of_type(self, meeting: Meeting, kind: str) -> bool:
        """Tell whether the Dashboard lists a meeting under `kind`: `live`, `past` or `pastOne`."""
        state = self.site.state(meeting)
        return state == "live" if kind == "live" else state == "past" and meeting.alone == (kind == "pastOne")

    # The dashboard

    def _dashboard_meetings(self, request: Request, _: str) -> object:
        kind = _type(request)
        by_end = request.parameter("query_date_type") == "end_time"
        if kind == "live" and not request.parameter("from"):
            echo, window = {"from": "", "to": ""}, None
        else:
            window = self._window(request, times=True)
            echo = window.echo

        def matches(meeting: Meeting) -> bool:
            at = meeting.end_ms if by_end else meeting.start_ms
            return self._is_of_type(meeting, kind) and (
                kind == "live" or (window is not None and window.holds(at))
            )

        now_ms = self.site.now_ms()
        tracked = "tracking_fields" in request.parameter("include_fields")
        page = self._page(
            request,
            "meetings",
            lambda: self.site.read(lambda world: [meeting for meeting in world if matches(meeting)]),
            lambda meeting: rows.dashboard_meeting(meeting, now_ms, tracked=tracked),
        )
        return {**echo, **page}

    def _dashboard_instance(self, request: Request, raw: str) -> Meeting:
        """Return the meeting in a path; with a type other than its own it is not found."""
        kind = _type(request)
        meeting = self._find(read_meeting_id(raw), lambda one: self._is_of_type(one, kind))
        if not self._is_of_type(meeting, kind):
            raise ZoomError(3001)
        return meeting

    def _dashboard_meeting(self, request: Request, raw: str) -> object:
        meeting = self._dashboard_instance(request, raw)
        return {**rows.dashboard_meeting(meeting, self.site.now_ms(), tracked=False), "has_meeting_summary": False}

    def _dashboard_participants(self, request: Request, raw: str) -> object:
        meeting = self._dashboard_instance(request, raw)
        now_ms = self.site.now_ms()
        live = self.site.state(meeting) == "live"
        registered = "registrant_id" in request.parameter("include_fields") and not live
        page = self._page(
            request,
            "participants",
            lambda: rows.participant_rows(meeting, now_ms),
            lambda session: rows.dashboard_participant(session, now_ms, live=live, registered=registered),
        )
        return {**page, "meeting_number": str(meeting.id)}

    # The reports

    def _report_users(self, request: Request, _: str) -> object:
        kind = request.parameter("type") or "active"
        if kind not in ("active", "inactive"):
            raise invalid("type", "Invalid field.")
        window = self._window(request)
        hosted: dict[str, list[Meeting]] = {}
        for meeting in self._past(lambda one: window.holds(one.start_ms)):
            hosted.setdefault(meeting.host.id, []).append(meeting)

        def select() -> list[rows.Row]:
            people = self.site.read(lambda world: [person for person in world.people if person.listed])
            wanted = [person for person in people if (person.id in hosted) == (kind == "active")]
            return [rows.report_user(person, hosted.get(person.id, [])) for person in wanted]

        users = select()
        sums = {
            f"total_{name}": sum(user[name] for user in users)
            for name in ("meeting_minutes", "meetings", "participants")
        }
        page = self._page(request, "users", lambda: users, lambda user: user, numbered=True)
        return {**window.echo, **sums, **page}

    def _report_user_meetings(self, request: Request, raw: str) -> object:
        kind = request.parameter("type") or "past"
        if kind not in ("past", "pastOne", "pastJoined"):
            raise invalid("type", "Invalid field.")
        person = self._person(raw)
        window = self._window(request)

        def matches(meeting: Meeting) -> bool:
            if not window.holds(meeting.start_ms):
                return False
            if kind == "pastJoined":
                return any(session.id == person.id for session in meeting.sessions)
            return meeting.host.id == person.id and meeting.alone == (kind == "pastOne")

        page = self._page(
            request, "meetings", lambda: self._past(matches), rows.report_user_meeting, numbered=True
        )
        return {**window.echo, **page}

    def _report_meeting(self, _: Request, raw: str) -> object:
        return rows.report_meeting(self._ended(raw))

    def _report_participants(self, request: Request, raw: str) -> object:
        meeting = self._ended(raw, lambda one: not one.alone)
        now_ms = self.site.now_ms()
        return self._page(
            request,
            "participants",
            lambda: rows.participant_rows(meeting, now_ms),
            lambda session: rows.report_participant(session, meeting, now_ms),
        )

    def _history(self, request: Request, _: str) -> object:
        window = self._window(request)
        by_end = request.parameter("date_type") == "end_time"
        page = self._page(
            request,
            "history_meetings",
            lambda: self._past(lambda one: window.holds(one.end_ms if by_end else one.start_ms)),
            rows.history_meeting,
        )
        return {**window.echo, **page}

    # The rest

    def _past_meeting(self, _: Request, raw: str) -> object:
        return rows.past_meeting(self._ended(raw))

    def _users(self, request: Request, _: str) -> object:
        def select() -> list[Person]:
            return self.site.read(lambda world: [person for person in world.people if person.listed])

        return self._page(request, "users", select, rows.user, numbered=True)

    def _user_meetings(self, request: Request, raw: str) -> object:
        """List scheduled meetings, by default those not yet over; never instant meetings."""
        states = _SCHEDULED.get(request.parameter("type") or "scheduled")
        if states is None:
            raise invalid("type", "Invalid field.")
        person = self._person(raw)
        if not person.may_host:
            raise ZoomError(3161)

        def select() -> list[Meeting]:
            return self.site.read(
                lambda world: [
                    meeting
                    for meeting in world
                    if meeting.host.id == person.id and meeting.type != 1 and self.site.state(meeting) in states
                ]
            )

        return self._page(request, "meetings", select, rows.scheduled_meeting, numbered=True)


def _type(request: Request) -> str:
    kind = request.parameter("type") or "live"
    if kind not in _TYPES:
        raise invalid("type", f"Invalid field. Expected one of {', '.join(_TYPES)}.")
    return kind
