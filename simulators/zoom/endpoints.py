"""The endpoints with their paths, labels, scopes and plans, and how paths identify a meeting.

Paths are matched undecoded, because it matters whether a UUID was encoded once or twice.
"""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from simulators.zoom.answers import ZoomError
from simulators.zoom.quotas import Label


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint.

    Attributes:
        name: Short name, for faults and counts.
        path: The path's segments; an empty one matches any.
        label: Its rate-limit label.
        scopes: Sufficient scopes; errors name the first one, which is granular.
        needs: What the account must have: any plan, a paid one, or one with the Dashboard.
    """

    name: str
    path: tuple[str, ...]
    label: Label
    scopes: tuple[str, ...]
    needs: Literal["any", "paid", "dashboard"]

    @property
    def is_about_a_meeting(self) -> bool:
        """Whether its path identifies a meeting."""
        return "" in self.path and self.path[self.path.index("") - 1] in ("meetings", "past_meetings")


_DASHBOARD = ("dashboard_meetings:read:admin", "dashboard:read:admin")
_REPORT = ("report:read:admin",)
_MEETING = ("meeting:read:admin", "meeting:read")
ENDPOINTS = (
    Endpoint(
        "meetings",
        ("metrics", "meetings"),
        "Resource-intensive",
        ("dashboard:read:list_meetings:admin", *_DASHBOARD),
        "dashboard",
    ),
    Endpoint(
        "meeting", ("metrics", "meetings", ""), "Heavy", ("dashboard:read:meeting:admin", *_DASHBOARD), "dashboard"
    ),
    Endpoint(
        "participants",
        ("metrics", "meetings", "", "participants"),
        "Heavy",
        ("dashboard:read:list_meeting_participants:admin", *_DASHBOARD),
        "dashboard",
    ),
    Endpoint("report-users", ("report", "users"), "Heavy", ("report:read:list_users:admin", *_REPORT), "paid"),
    Endpoint(
        "report-user-meetings",
        ("report", "users", "", "meetings"),
        "Heavy",
        ("report:read:user:admin", *_REPORT),
        "paid",
    ),
    Endpoint(
        "report-meeting", ("report", "meetings", ""), "Heavy", ("report:read:meeting:admin", *_REPORT), "paid"
    ),
    Endpoint(
        "report-participants",
        ("report", "meetings", "", "participants"),
        "Heavy",
        ("report:read:list_meeting_participants:admin", *_REPORT),
        "paid",
    ),
    Endpoint(
        "history",
        ("report", "history_meetings"),
        "Heavy",
        ("report:read:list_history_meetings:admin", *_REPORT),
        "paid",
    ),
    Endpoint(
        "past-meeting", ("past_meetings", ""), "Light", ("meeting:read:past_meeting:admin", *_MEETING), "any"
    ),
    Endpoint("users", ("users",), "Medium", ("user:read:list_users:admin", "user:read:admin"), "any"),
    Endpoint(
        "user-meetings",
        ("users", "", "meetings"),
        "Medium",
        ("meeting:read:list_meetings:admin", *_MEETING),
        "any",
    ),
)
TOKEN = "token"  # noqa: S105 - a name
NAMES = (TOKEN, *(endpoint.name for endpoint in ENDPOINTS))
ALL_SCOPES = tuple(endpoint.scopes[0] for endpoint in ENDPOINTS)


def find_endpoint(target: str) -> tuple[Endpoint, str] | None:
    """Return the endpoint for a request target, and the undecoded path segment that identifies the object."""
    parts = target.partition("?")[0].split("/")
    if parts[:2] != ["", "v2"]:
        return None
    for endpoint in ENDPOINTS:
        pairs = list(zip(endpoint.path, parts[2:], strict=False))
        if len(endpoint.path) == len(parts) - 2 and all(part == (fixed or part) for fixed, part in pairs):
            return endpoint, next((part for fixed, part in pairs if not fixed), "")
    return None


def read_meeting_id(raw: str) -> str:
    """Decode a meeting's number or UUID as Zoom does; raises `ZoomError`.

    A UUID that begins with "/" or contains "//" must be encoded twice; others may be encoded once or twice.
    """
    once = unquote(raw)
    if "%" in once:  # no UUID contains "%", so this one was encoded twice
        return unquote(once)
    if once.startswith("/") or "//" in once:
        raise no_such_meeting(once)
    return once


def no_such_meeting(uuid: str) -> ZoomError:
    """Return the error for an unknown meeting; as at Zoom, the text lacks the UUID's leading slash."""
    return ZoomError(3001, f"Meeting does not exist: {uuid.removeprefix('/')}.")
