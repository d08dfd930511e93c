"""Who was in a past Zoom meeting and for how long, from the documents of the meeting and of its sessions.

docs/viewings.md has the fields. The same documents give the same bytes, in whatever order they come.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from uaharvest.coerce import instant, text, whole
from uaharvest.documents.meeting import Stay
from uaharvest.documents.session import identity, people
from uaharvest.intervals import union

FIELDS = (
    "id",
    "participant_user_id",
    "registrant_id",
    "email",
    "user_name",
    "user_id",
    "participant_uuid",
    "bo_mtg_id",
    "join_time",
    "leave_time",
    "waiting_room",
)
"""The fields of a session's document that are read."""

_MINUTE = 60


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _ParticipantSession:
    """One session as its document has it; no repr, because it names a person.

    Attributes:
        stay: None in the waiting room, and if its times are unknown.
    """

    id: str | None
    participant_user_id: str | None
    registrant_id: str | None
    email: str | None
    user_name: str | None
    user_id: str | None
    participant_uuid: str | None
    bo_mtg_id: str | None
    stay: Stay | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "_ParticipantSession":
        """Return the session of a document."""
        joined, left = instant(document.get("join_time")), instant(document.get("leave_time"))
        stay = None
        if joined and left and joined <= left and document.get("waiting_room") is not True:
            stay = joined, left
        names = (field.name for field in dataclasses.fields(cls) if field.name != "stay")
        return cls(stay=stay, **{name: text(document.get(name)) for name in names})


def attendance(
    meeting: str, about: Mapping[str, Any] | None, sessions: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the fields of each person's document by the document's id. Unknown fields are left out.

    Args:
        meeting: The meeting's uuid.
        about: The meeting's document. Without one, or without times in it, the meeting lasted from the first to the
            last moment in which somebody was there.
        sessions: The documents of its sessions.
    """
    present = _by_key([_ParticipantSession.of(document) for document in sessions])
    if not present:
        return {}
    known = about or {}
    start, end = _times(known, [stay for _, stays in present.values() for stay in stays])
    host = known.get("host")
    shared = {
        "uuid": meeting,
        "meeting_id": text(known.get("meeting_series_id")),
        "topic": text(known.get("topic")),
        "host_id": text(host.get("host_id")) if isinstance(host, dict) else None,
        "start": _iso(start),
        "end": _iso(end),
    }
    found = {}
    for person, (own, stays) in sorted(present.items()):
        id_ = hashlib.sha256(f"{meeting}\0{person}".encode("utf-8", "surrogatepass")).hexdigest()
        fields = {**shared, "person": person, **_person(own), **_stays(stays, start, end)}
        found[id_] = {name: value for name, value in fields.items() if value is not None}
    return found


def _by_key(sessions: Sequence[_ParticipantSession]) -> dict[str, tuple[list[_ParticipantSession], list[Stay]]]:
    """Return all sessions and the stays of each person who was there, by the person's stable key.

    Sessions without a stay, as in the waiting room, also say who is who, as in `meeting.attendance`.
    """
    same: dict[str, list[_ParticipantSession]] = {}
    for number, session in zip(people(sessions), sessions, strict=True):
        same.setdefault(number, []).append(session)
    found: dict[str, tuple[list[_ParticipantSession], list[Stay]]] = {}
    for own in same.values():
        if stays := [session.stay for session in own if session.stay]:
            known, there = found.setdefault(_key(own), ([], []))
            known += own
            there += stays
    return found


def _key(own: Sequence[_ParticipantSession]) -> str:
    """Return the key of one person: the same for all meetings, as far as Zoom allows."""
    match identity(lambda field: _first(own, field)):
        case None:
            return f"participant:{min(map(_place, own))}"
        case "user_name", name:
            return f"name:{name}"
        case _, id_:
            return id_


def _place(session: _ParticipantSession) -> str:
    """Return what tells people apart of whom nothing is known. A number counts only within its room."""
    number = session.user_id or session.participant_uuid or ""
    return f"{session.bo_mtg_id} {number}" if session.bo_mtg_id else number


def _person(own: Sequence[_ParticipantSession]) -> dict[str, str | None]:
    return {
        "user_id": _first(own, "participant_user_id") or _first(own, "id"),
        "registrant_id": _first(own, "registrant_id"),
        "user_email": _first(own, "email"),
        "user_name": _first(own, "user_name"),
    }


def _first(own: Sequence[_ParticipantSession], name: str) -> str | None:
    """Return the alphabetically first of the values that one person's sessions have."""
    values = ((getattr(session, name) or "").strip() for session in own)
    return min(filter(None, values), default=None)


def _stays(stays: Sequence[Stay], start: datetime, end: datetime) -> dict[str, Any]:
    """Return when one person was there, from the sessions."""
    joined, left = min(stay[0] for stay in stays), max(stay[1] for stay in stays)
    merged = union(stays)
    inside = _seconds((max(since, start), min(until, end)) for since, until in merged)
    length = (end - start).total_seconds()
    return {
        "@timestamp": _iso(joined),
        "joined": _iso(joined),
        "left": _iso(left),
        "minutes": _minutes(_seconds(merged)),
        "share": round(inside / length, 4) if length else None,
        "late_minutes": _minutes(max((joined - start).total_seconds(), 0)),
        "early_minutes": _minutes(max((end - left).total_seconds(), 0)),
        "sessions": len(stays),
        "stays": [[_iso(since), _iso(until)] for since, until in merged],
    }


def _times(known: Mapping[str, Any], stays: Sequence[Stay]) -> tuple[datetime, datetime]:
    """Return when the meeting began and ended."""
    start = instant(known.get("start_time")) or min(stay[0] for stay in stays)
    end = instant(known.get("end_time"))
    seconds = whole(known.get("duration"))
    if end is None and seconds is not None and 0 < seconds < 10**7:
        end = start + timedelta(seconds=seconds)
    if end is None or end < start:
        end = max(start, *(stay[1] for stay in stays))
    return start, end


def _seconds(stays: Iterable[Stay]) -> float:
    return sum(max((left - joined).total_seconds(), 0) for joined, left in stays)


def _minutes(seconds: float) -> float:
    return round(seconds / _MINUTE, 1)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
