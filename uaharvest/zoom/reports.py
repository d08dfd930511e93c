"""Rows of Zoom's Report endpoints under the names that the Dashboard's have; pure."""

from collections.abc import Mapping
from typing import Any

# Of the types of a meeting: these are webinars, which the Report endpoints give too.
WEBINARS = frozenset({5, 6, 9})

_MEETING = {
    "host": "user_name",
    "email": "user_email",
    "participants": "participants_count",
    **{
        name: name
        for name in (
            "uuid",
            "id",
            "topic",
            "start_time",
            "end_time",
            "has_screen_share",
            "has_recording",
            "custom_keys",
            "tracking_fields",
            "session_key",
        )
    },
}


def meeting(row: Mapping[str, Any], host_id: str) -> dict[str, Any]:
    """Return a row of `report/users/{id}/meetings`; its duration, in minutes, is coarser than its times are."""
    return {name: row.get(reported) for name, reported in _MEETING.items()} | {"host_id": host_id}


def participant(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `report/meetings/{id}/participants`; the rest of its names are the same."""
    rest = {name: value for name, value in row.items() if name not in {"name", "user_email"}}
    return rest | {"user_name": row.get("name"), "email": row.get("user_email")}
