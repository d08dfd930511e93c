"""Parses rows of meetings, participants and hosts from Zoom's JSON.

A field is None if Zoom sent no usable value for it. Fields of the Report endpoints get the Dashboard's names.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from uaharvest.coerce import many, members, text
from uaharvest.rows.zoom import MeetingRow, Pair, ParticipantRow, UserRow
from uaharvest.zoom.values import amount, count, instant, seconds, truth

# Meeting types that are webinars. The Report endpoints list these too.
WEBINARS = frozenset({5, 6, 9})

# Fields that change when the participants of a meeting change.
_STATE = ("participants", "end_time", "duration")

# The Report endpoints' name for each field. `duration` is left out: they give it in minutes, coarser than the times.
_REPORTED = {
    **{name: name for name in ("uuid", "id", "topic", "start_time", "end_time", "session_key")},
    **{name: name for name in ("has_screen_share", "has_recording", "custom_keys", "tracking_fields")},
    "host": "user_name",
    "email": "user_email",
    "participants": "participants_count",
}

# How a field is read, by its type.
_READERS: Mapping[Any, Callable[[Any], Any]] = {
    str | None: text,
    datetime | None: instant,
    int | None: count,
    bool | None: truth,
    float | None: amount,
}


def _readers(row: type) -> dict[str, Callable[[Any], Any]]:
    """Return how to read each field of a row that has one value."""
    return {field.name: _READERS[field.type] for field in dataclasses.fields(row) if field.type in _READERS}


_MEETING = _readers(MeetingRow) | {"duration": seconds}
_PARTICIPANT = _readers(ParticipantRow)


def read_user(raw: Any) -> UserRow:
    """Parse a row of `report/users`. Anything but an object becomes a row without fields."""
    row = members(raw)
    return UserRow(id=text(row.get("id")), email=text(row.get("email")), name=text(row.get("user_name")))


def read_meeting(raw: Any) -> MeetingRow:
    """Parse a row of `metrics/meetings`. Anything but an object becomes a row without fields."""
    row = members(raw)
    return MeetingRow(
        **{name: read(row.get(name)) for name, read in _MEETING.items()},
        tracking_fields=_pairs(row.get("tracking_fields"), "field"),
        custom_keys=_pairs(row.get("custom_keys"), "key"),
        state=_digest([row.get(name) for name in _STATE]),
        raw=raw,
    )


def read_reported_meeting(raw: Any, host_id: str) -> MeetingRow:
    """Parse a row of `report/users/{id}/meetings`. Anything but an object becomes a row without fields."""
    if not isinstance(raw, dict):
        return read_meeting(raw)
    return read_meeting({name: raw.get(reported) for name, reported in _REPORTED.items()} | {"host_id": host_id})


def read_participant(raw: Any) -> ParticipantRow:
    """Parse a row of `metrics/meetings/{id}/participants`. Anything but an object becomes a row without fields."""
    row = members(raw)
    return ParticipantRow(**{name: read(row.get(name)) for name, read in _PARTICIPANT.items()}, raw=raw)


def read_reported_participant(raw: Any) -> ParticipantRow:
    """Parse a row of `report/meetings/{id}/participants`. Only two of its fields have different names."""
    if not isinstance(raw, dict):
        return read_participant(raw)
    rest = {name: value for name, value in raw.items() if name not in {"name", "user_email"}}
    return read_participant(rest | {"user_name": raw.get("name"), "email": raw.get("user_email")})


def _pairs(listed: Any, name: str) -> tuple[Pair, ...]:
    pairs = (Pair(text(one.get(name)), text(one.get("value"))) for one in map(members, many(listed)))
    return tuple(pair for pair in pairs if pair != Pair(None, None))


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]
