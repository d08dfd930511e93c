"""The workflow endpoints: one list up to Opencast 11, one list per media package from 12 on."""

import re
from collections.abc import Sequence

from simulators.opencast.actions import integer
from simulators.opencast.profiles import one_or_many, wrapped
from simulators.opencast.site import Site
from simulators.opencast.workflows import Workflow, new_workflow, old_workflow, wanted_states
from simulators.wire import Request, Response

_DEFAULT_COUNT = 20
_BY_MEDIAPACKAGE = re.compile(r"/workflow/mediaPackage/([^/]+)/instances\.json")


class WorkflowEndpoints:
    """A site's workflow service, in the form of its release."""

    def __init__(self, site: Site) -> None:
        """Serve the workflows of `site`."""
        self._site = site

    def answer(self, request: Request) -> Response | None:
        """Answer a request; None if this release has no such path."""
        if self._site.profile.lists_workflows:
            return self._list(request) if request.path == "/workflow/instances.json" else None
        asked = _BY_MEDIAPACKAGE.fullmatch(request.path)
        return self._of_mediapackage(asked[1]) if asked else None

    def _list(self, request: Request) -> Response:
        """Filter and paginate; `startPage` is really a page number, unlike `offset` elsewhere."""
        start_page, count = integer(request, "startPage"), integer(request, "count")
        count = _DEFAULT_COUNT if count < 1 else count
        found = self._filtered(request)
        page = found[max(0, start_page) * count :][:count]
        profile = self._site.profile
        numbers = {"startPage": start_page, "count": count, "searchTime": 3, "totalCount": len(found)}
        workflows = {
            **{name: profile.attribute(str(value)) for name, value in numbers.items()},
            **one_or_many("workflow", [old_workflow(workflow, profile) for workflow in page]),
        }
        return Response(200, profile.encode({"workflows": workflows}).encode())

    def _filtered(self, request: Request) -> Sequence[Workflow]:
        mediapackage, definition = request.parameter("mp"), request.parameter("workflowdefinition")
        states = wanted_states(request.query.get("state", []))
        return [
            workflow
            for workflow in self._site.workflows
            if mediapackage in ("", workflow.episode.id)
            and definition in ("", workflow.definition)
            and workflow.state in states
        ]

    def _of_mediapackage(self, mediapackage: str) -> Response:
        profile = self._site.profile
        found = [
            new_workflow(workflow, profile, self._site.zone)
            for workflow in self._site.workflows
            if workflow.episode.id == mediapackage
        ]
        return Response(200, profile.encode({"workflows": wrapped("workflow", found)}).encode())
