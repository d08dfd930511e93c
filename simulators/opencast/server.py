"""The way of a request through start, login, faults, answer."""

import time

from simulators.opencast import actions
from simulators.opencast.auth import Caller
from simulators.opencast.control import Control
from simulators.opencast.search import Search
from simulators.opencast.site import Asked, Site
from simulators.opencast.workflow_endpoints import WorkflowEndpoints
from simulators.wire import Request, Response, html

_LOGIN_PATHS = ("/login.html", "/admin-ng/login.html")
_PREFIXES = {"/usertracking/actions": "actions", "/search/": "search", "/workflow/": "workflow"}


class Application:
    """Answers one request after another for a site."""

    def __init__(self, site: Site) -> None:
        """Serve `site`."""
        self.site = site
        self._control = Control(site)
        self._search = Search(site)
        self._workflows = WorkflowEndpoints(site)

    def answer(self, request: Request) -> Response:
        """Answer and count a request; raises `DroppedConnectionError` where no answer is to be sent."""
        if request.path.startswith("/_sim/"):
            return self._control.answer(request)
        at = time.time()
        status = 0
        try:
            response = self._answer(request)
            status = response.status
        finally:
            query = {name: values[0] for name, values in request.query.items()}
            self.site.log.add(_kind(request.path), Asked(at, status, query))
        return response

    def now(self) -> float:
        """Give the server's clock, epoch seconds."""
        return self.site.now()

    def open(self) -> None:
        """Begin: from now on live rows are written, and the service counts as starting."""
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
        if request.path == "/usertracking/actions.json":
            query = actions.parse_query(self.site, request)
            # Deep offsets are slow: the database reads and throws away all rows before the page.
            time.sleep(query.offset / 10_000 * self.site.options.latency_per_10k_offset_ms / 1000)
            return self.site.faults.apply(kind, query.where, lambda: actions.answer(self.site, query))
        return self.site.faults.apply(kind, None, lambda: self._other(request, caller))

    def _other(self, request: Request, caller: Caller) -> Response:
        if request.path == "/search/episode.json":
            return self._search.answer(request, caller)
        found = self._workflows.answer(request)
        return found or Response(404, b"The resource you requested does not exist.", "text/plain")


def _kind(path: str) -> str:
    return next((kind for prefix, kind in _PREFIXES.items() if path.startswith(prefix)), "other")
