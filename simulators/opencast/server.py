"""Handles a request: startup, login, faults, response."""

import re
import time

from simulators.opencast import actions
from simulators.opencast.auth import Caller
from simulators.opencast.control import Control
from simulators.opencast.search import Search
from simulators.opencast.site import Asked, Site
from simulators.opencast.workflow_endpoints import WorkflowEndpoints
from simulators.wire import Request, Response, html

_LOGIN_PATHS = ("/login.html", "/admin-ng/login.html")
_ONE_ACTION = re.compile(r"/usertracking/action/([^/]*)\.json")
_PREFIXES = {"/usertracking/action": "actions", "/search/": "search", "/workflow/": "workflow"}


class Application:
    """Answers one request after another for a site."""

    def __init__(self, site: Site) -> None:
        """Serve `site`."""
        self.site = site
        self._control = Control(site)
        self._search = Search(site)
        self._workflows = WorkflowEndpoints(site)

    def answer(self, request: Request) -> Response:
        """Answer and count a request; raise `DroppedConnectionError` to send no response."""
        if request.path.startswith("/_sim/"):
            return self._control.answer(request)
        at = time.time()
        response = Response(0)
        self.site.choose_node()
        self.site.log.note_read(0)
        try:
            response = self._answer(request)
        finally:
            query = {name: values[0] for name, values in request.query.items()}
            kind = _kind(request.path)
            # Every row has exactly one `created` member, and nothing else has one.
            rows = response.body.count(b'"created":') if kind == "actions" else 0
            self.site.log.add(
                kind, Asked(at, response.status, query, len(response.body), rows, self.site.log.read_rows)
            )
        return response

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return self.site.now()

    def open(self) -> None:
        """Begin: from now on live rows are written, and the startup phase (503) runs."""
        self.site.open()

    def _answer(self, request: Request) -> Response:
        time.sleep(self.site.options.latency_ms / 1000)
        if self.site.starting:
            return html(503, "HTTP ERROR 503")
        if request.path in _LOGIN_PATHS:
            return html(200, "Opencast login")
        public = request.path.startswith(("/usertracking/", "/search/"))
        caller = self.site.gate.admit(request, public=public)
        if isinstance(caller, Response):
            return caller
        if request.method != "GET":
            return Response(405)
        try:
            return self._serve(request, caller)
        except actions.RefusedError as refused:
            return refused.response

    def _serve(self, request: Request, caller: Caller) -> Response:
        kind = _kind(request.path)
        if request.path.startswith("/usertracking/") and self.site.options.usertracking != "on":
            if self.site.options.usertracking == "forbidden":
                return html(403, "403 Access is denied")
            return Response(404, b"The resource you requested does not exist.", "text/plain")
        if request.path == "/usertracking/actions.json":
            query = actions.parse_query(self.site, request)
            # Large offsets are slow: the database reads and discards all rows before the page.
            time.sleep(query.offset / 10_000 * self.site.options.latency_per_10k_offset_ms / 1000)
            return self.site.faults.apply(kind, query.where, lambda: actions.answer(self.site, query))
        wanted = request.parameter("id") or _mediapackage(request)
        return self.site.faults.apply(kind, None, lambda: self._other(request, caller), wanted=wanted)

    def _one_action(self, row_id: str) -> Response:
        """Answer `/usertracking/action/<id>.json`: 204 if there is no such row, 500 if the id is not a number."""
        if not row_id.isdecimal():
            return html(500, "HTTP ERROR 500")
        body = self.site.read_row(int(row_id))
        self.site.log.note_read(1 if body is None else 2)  # the row by its primary key, and its session
        return Response(204) if body is None else Response(200, b'{"action":' + body + b"}")

    def _other(self, request: Request, caller: Caller) -> Response:
        if match := _ONE_ACTION.fullmatch(request.path):
            return self._one_action(match[1])
        if request.path == "/search/episode.json":
            return self._search.answer(request, caller)
        found = self._workflows.answer(request)
        return found or Response(404, b"The resource you requested does not exist.", "text/plain")


def _mediapackage(request: Request) -> str:
    """Return the media package whose workflows are requested, for either of the two lists."""
    match = re.fullmatch(r"/workflow/mediaPackage/([^/]*)/instances.json", request.path)
    return match[1] if match else request.parameter("mp")


def _kind(path: str) -> str:
    return next((kind for prefix, kind in _PREFIXES.items() if path.startswith(prefix)), "other")
