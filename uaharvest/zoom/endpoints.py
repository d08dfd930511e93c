"""The endpoints that are asked: their paths, labels and scopes; pure."""

import dataclasses
from urllib.parse import quote

from uaharvest.zoom.quota import Label


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    Attributes:
        path: Below the API's URL; `{id}` for an id.
        label: What its calls count as.
        rows: The member of its answer that holds the list.
        scopes: Any of them lets it be asked: the granular one first, then the classic ones.
        plan: What the account must have, for errors.
    """

    path: str
    label: Label
    rows: str
    scopes: tuple[str, ...]
    plan: str

    def of(self, name: str) -> str:
        """Return its path for an id; "" where it has none."""
        return self.path.replace("{id}", encoded(name))


_DASHBOARD = ("dashboard_meetings:read:admin", "dashboard:read:admin")
_DASHBOARD_PLAN = "a Business, Education or Enterprise plan with the Dashboard switched on"
_REPORT = ("report:read:admin",)
_REPORT_PLAN = "a Pro plan or a higher one"

MEETINGS = Endpoint(
    "metrics/meetings",
    Label.RESOURCE_INTENSIVE,
    "meetings",
    ("dashboard:read:list_meetings:admin", *_DASHBOARD),
    _DASHBOARD_PLAN,
)
PARTICIPANTS = Endpoint(
    "metrics/meetings/{id}/participants",
    Label.HEAVY,
    "participants",
    ("dashboard:read:list_meeting_participants:admin", *_DASHBOARD),
    _DASHBOARD_PLAN,
)
USERS = Endpoint("report/users", Label.HEAVY, "users", ("report:read:list_users:admin", *_REPORT), _REPORT_PLAN)
USER_MEETINGS = Endpoint(
    "report/users/{id}/meetings", Label.HEAVY, "meetings", ("report:read:user:admin", *_REPORT), _REPORT_PLAN
)
REPORTED_PARTICIPANTS = Endpoint(
    "report/meetings/{id}/participants",
    Label.HEAVY,
    "participants",
    ("report:read:list_meeting_participants:admin", *_REPORT),
    _REPORT_PLAN,
)


def encoded(name: str) -> str:
    """Return an id as a part of a path.

    Zoom decodes a path before it looks for its parts, and once more after: a uuid that begins with "/" or holds "//"
    is not found (3001) unless it is encoded twice.
    """
    once = quote(name, safe="")
    return quote(once, safe="") if name.startswith("/") or "//" in name else once
