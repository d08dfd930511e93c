"""The Zoom endpoints that the harvest uses: their paths, labels and scopes. Nothing here calls Zoom."""

import dataclasses
from typing import Literal
from urllib.parse import quote

from uaharvest.zoom.quota import Label

ListKind = Literal["past", "pastOne"]
"""The Dashboard's two lists of past meetings: `pastOne` has those with one participant, `past` has all others."""
KINDS: tuple[ListKind, ...] = ("past", "pastOne")
Source = Literal["dashboard", "report"]
"""Endpoints that know past meetings: the Dashboard's, or the Report ones on an account without a Dashboard."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    Attributes:
        path: Path below the API's URL, with `{id}` in place of an id.
        label: The rate limit that its calls count against.
        rows: Member of the response that holds the list.
        scopes: Scopes that permit calls, each sufficient: the granular one first, then the classic ones.
        plan: What the account needs, for error messages.
        numbered: Whether it also accepts page numbers.
    """

    path: str
    label: Label
    rows: str
    scopes: tuple[str, ...]
    plan: str
    numbered: bool = False

    @property
    def of_account(self) -> bool:
        """Whether it concerns the whole account rather than a particular person."""
        return "{id}" not in self.path

    def of(self, name: str) -> str:
        """Return the path with this id inserted. Pass "" if the path has no id."""
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
USERS = Endpoint(
    "report/users",
    Label.HEAVY,
    "users",
    ("report:read:list_users:admin", *_REPORT),
    _REPORT_PLAN,
    numbered=True,
)
USER_MEETINGS = Endpoint(
    "report/users/{id}/meetings",
    Label.HEAVY,
    "meetings",
    ("report:read:user:admin", *_REPORT),
    _REPORT_PLAN,
    numbered=True,
)
REPORTED_PARTICIPANTS = Endpoint(
    "report/meetings/{id}/participants",
    Label.HEAVY,
    "participants",
    ("report:read:list_meeting_participants:admin", *_REPORT),
    _REPORT_PLAN,
)


def kind_named(name: str) -> ListKind:
    """Return the list of this name; raises ValueError if there is none."""
    return KINDS[KINDS.index(name)]


def encoded(name: str) -> str:
    """Return an id encoded as a path segment.

    Zoom decodes a path before it splits it into segments, then decodes each segment again. It does not find a uuid that
    starts with "/" or contains "//" (code 3001) unless the uuid is encoded twice.
    """
    once = quote(name, safe="", errors="surrogatepass")  # JSON can contain lone surrogates
    return quote(once, safe="") if name.startswith("/") or "//" in name else once
