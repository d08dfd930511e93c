"""Builds the documents of past Zoom meetings, with the old tool's field names and units plus the new fields of v2."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from uaharvest.documents.indexed import without_surrogates
from uaharvest.documents.session import Session
from uaharvest.documents.values import between, iso
from uaharvest.intervals import union
from uaharvest.rows.zoom import MeetingRow, Pair

LONGEST_ID = 512  # bytes of an _id in Elasticsearch; a longer one makes the whole bulk request fail

Stay = tuple[datetime, datetime]

_TRUTHS = (
    "has_pstn",
    "has_voip",
    "has_3rd_party_audio",
    "has_video",
    "has_screen_share",
    # New in v2.
    "has_sip",
    "has_archiving",
    "has_manual_captions",
    "has_automated_captions",
    "has_poll",
    "has_qa",
    "has_survey",
    "has_external_participant",
)
_QUALITIES = ("audio_quality", "video_quality", "screen_share_quality")


def uuid(row: MeetingRow) -> str | None:
    """Return the uuid of a meeting, or None if it cannot be the id of a document."""
    if row.uuid is None:
        return None
    try:
        usable = len(row.uuid.encode()) <= LONGEST_ID
    except UnicodeEncodeError:
        return None
    return row.uuid if usable else None


def fields(row: MeetingRow, host_id: str | None) -> dict[str, Any]:
    """Return the fields of a meeting's document. Unknown fields are left out, so that an update keeps stored values.

    Zoom may list a meeting before its data is complete (in 2021, times were empty for weeks). A later read adds the
    missing fields.

    Args:
        row: The meeting.
        host_id: The host's user id, which the Dashboard does not list.
    """
    host = {"host_id": host_id, "name": row.host, "email": row.email, "user_type": row.user_type}
    found = {
        "uuid": uuid(row),
        "meeting_series_id": row.id,
        "topic": row.topic,
        "host": _known(host) or None,
        "start_time": iso(row.start_time),
        "end_time": iso(row.end_time),
        "duration": between(row.start_time, row.end_time) if row.duration is None else row.duration,
        "participant_sessions": row.participants,
        **{name: getattr(row, name) for name in _TRUTHS},
        "recording": row.has_recording,
        "dept": row.dept,
        "in_room_participants": row.in_room_participants,
        **{name: getattr(row, name) for name in _QUALITIES},
        "avg_jointime_cost": row.avg_jointime_cost,
        "tracking_fields": _named(row.tracking_fields, "field"),
        "custom_keys": _named(row.custom_keys, "key"),
    }
    cleaned: dict[str, Any] = without_surrogates(_known(found))
    return cleaned


def attendance(sessions: Iterable[Session]) -> dict[str, int]:
    """Return the attendance figures of a meeting, from all its sessions.

    Time in the waiting room does not count as attendance. One person's sessions may overlap (rooms, devices, rejoins),
    so the sum of their durations would be too high: `person_seconds` counts each second of a person once.
    """
    listed = list(sessions)
    people: dict[str, list[Stay]] = {}
    for one in listed:
        if not one.waiting:
            stays = people.setdefault(one.person, [])
            if one.join and one.leave and one.join < one.leave:
                stays.append((one.join, one.leave))
    merged = [stay for stays in people.values() for stay in union(stays)]
    return {
        "unique_participants": len(people),
        "person_seconds": int(sum((leave - join).total_seconds() for join, leave in merged)),
        "peak_participants": _most_at_once(merged),
        "waiting_room_sessions": sum(one.waiting for one in listed),
        "breakout_sessions": sum(one.breakout for one in listed),
    }


def _most_at_once(stays: Sequence[Stay]) -> int:
    """Return the largest number of simultaneous stays. Each person must have at most one stay at a time."""
    # -1 sorts first, so a person who leaves in the second in which another joins does not overlap with them.
    changes = sorted([(join, 1) for join, _ in stays] + [(leave, -1) for _, leave in stays])
    return max(accumulate((change for _, change in changes), initial=0))


def _named(pairs: Iterable[Pair], name: str) -> list[dict[str, str]] | None:
    return [_known({name: pair.name, "value": pair.value}) for pair in pairs] or None


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
