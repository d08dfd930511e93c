"""A past Zoom meeting as the document that readers depend on: the old tool's names and units, and what v2 adds."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from uaharvest.documents.indexed import without_surrogates
from uaharvest.documents.session import Session
from uaharvest.documents.values import amount, between, count, instant, iso, seconds, truth
from uaharvest.opencast.foreign import many, members, text

LONGEST_ID = 512  # bytes of an _id in Elasticsearch; a longer one refuses the whole bulk

Stay = tuple[datetime, datetime]

_TRUTHS = (
    "has_pstn",
    "has_voip",
    "has_3rd_party_audio",
    "has_video",
    "has_screen_share",
    # new in v2
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


def uuid(row: Any) -> str | None:
    """Return the uuid of a meeting's row; None for a row that has none that could be a document's id."""
    found = text(members(row).get("uuid"))
    if found is None:
        return None
    try:
        usable = len(found.encode()) <= LONGEST_ID
    except UnicodeEncodeError:
        return None
    return found if usable else None


def fields(row: Mapping[str, Any], host_id: str | None) -> dict[str, Any]:
    """Return the fields of a meeting's document; what is not known is not among them, so that it stays.

    Of a meeting that cannot be read wholly (empty times, for weeks in 2021) a later look at it fills in the rest.

    Args:
        row: A row of `/metrics/meetings`.
        host_id: The host's, which that row has not.
    """
    start, end = instant(row.get("start_time")), instant(row.get("end_time"))
    lasted = seconds(row.get("duration"))
    host = {
        "host_id": host_id,
        "name": text(row.get("host")),
        "email": text(row.get("email")),
        "user_type": text(row.get("user_type")),
    }
    found = {
        "uuid": uuid(row),
        "meeting_series_id": text(row.get("id")),
        "topic": text(row.get("topic")),
        "host": _known(host) or None,
        "start_time": iso(start),
        "end_time": iso(end),
        "duration": between(start, end) if lasted is None else lasted,
        "participant_sessions": count(row.get("participants")),
        **{name: truth(row.get(name)) for name in _TRUTHS},
        "recording": truth(row.get("has_recording")),
        "dept": text(row.get("dept")),
        "in_room_participants": count(row.get("in_room_participants")),
        **{name: text(row.get(name)) for name in _QUALITIES},
        "avg_jointime_cost": amount(row.get("avg_jointime_cost")),
        "tracking_fields": _pairs(row.get("tracking_fields"), "field"),
        "custom_keys": _pairs(row.get("custom_keys"), "key"),
    }
    cleaned: dict[str, Any] = without_surrogates(_known(found))
    return cleaned


def attendance(sessions: Iterable[Session]) -> dict[str, int]:
    """Return what all sessions of a meeting together tell of it.

    Who waits to be let in does not attend. Rooms, devices and rejoins of one person overlap, so that the sum of
    their durations says too much: `person_seconds` counts each person's second once.
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


def union(stays: Iterable[Stay]) -> list[Stay]:
    """Return the union of half-open intervals as intervals that do not touch, in order."""
    merged: list[Stay] = []
    for join, leave in sorted(stays):
        if merged and join <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], leave))
        else:
            merged.append((join, leave))
    return merged


def _most_at_once(stays: Sequence[Stay]) -> int:
    """Return how many stays, of which a person has one at a time, hold at the same instant."""
    # -1 sorts first: who leaves in the second in which another comes was not there together with them.
    changes = sorted([(join, 1) for join, _ in stays] + [(leave, -1) for _, leave in stays])
    return max(accumulate((change for _, change in changes), initial=0))


def _pairs(listed: Any, name: str) -> list[dict[str, str]] | None:
    pairs = [
        _known({name: text(members(one).get(name)), "value": text(members(one).get("value"))})
        for one in many(listed)
    ]
    return [pair for pair in pairs if pair] or None


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
