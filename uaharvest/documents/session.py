"""A participant's stay in a Zoom meeting: the old tool's names and units, and what v2 adds.

Left out are the names and numbers of personal devices and networks (camera, microphone, speaker, pc_name, device_name,
domain, mac_addr, harddisk_id, internal_ip_addresses, audio_call, sip_uri): no reader needs them.
"""

import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import iso3166

from uaharvest.documents.indexed import without_surrogates
from uaharvest.documents.values import amount, between, count, instant, iso, truth
from uaharvest.errors import PoisonError
from uaharvest.opencast.foreign import text

Locate = Callable[[str], Mapping[str, Any] | None]

WAITING = "in_waiting_room"

# Of the new fields those that tell something; unlike the old ones they are left out where nothing is known.
_NEW_TEXTS = (
    "email",
    "role",
    "status",
    "registrant_id",
    "participant_uuid",
    "participant_user_id",
    "customer_key",
    "bo_mtg_id",
    "location",
    "client",
    "version",
    "os",
    "os_version",
    "browser_name",
    "browser_version",
    "data_center",
    "connection_type",
    "audio_quality",
    "video_quality",
    "screen_share_quality",
)
# The strongest first. A guest has none but the name, which two people may share, and "iPhone" often do.
_IDENTITIES = ("id", "participant_user_id", "registrant_id", "email", "user_name")

_REASONS = {
    "Host ended the meeting.",
    "Host closed the meeting.",
    "Host started a new meeting.",
    "Host did not join.",
    "Network connection error.",
    "Exceeded free meeting minutes limit.",
    "Removed by host.",
    "Removed by host from waiting room.",
    "Leave waiting room.",
    "Unknown reason.",
}
_BREAK = re.compile(r"<\s*br\s*/?\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_REASON = re.compile(r".*\breason:\s*(?=\S)", re.IGNORECASE)
_WHO = re.compile(r".*\b(left|got disconnected from)\b(?= the meeting\b)", re.IGNORECASE)

_CODE = re.compile(r"(.*?)\s*\(([A-Z]{2})\)")
# Zoom's names that are not those of ISO 3166.
_COUNTRIES = {
    "united states": "US",
    "united kingdom": "GB",
    "russia": "RU",
    "south korea": "KR",
    "north korea": "KP",
    "taiwan": "TW",
    "vietnam": "VN",
    "iran": "IR",
    "syria": "SY",
    "venezuela": "VE",
    "bolivia": "BO",
    "tanzania": "TZ",
    "moldova": "MD",
    "laos": "LA",
    "brunei": "BN",
    "hong kong sar": "HK",
    "macao sar": "MO",
    "czech republic": "CZ",
    "turkey": "TR",
    "netherlands": "NL",
    "palestine": "PS",
    "micronesia": "FM",
    "ivory coast": "CI",
    "cape verde": "CV",
    "swaziland": "SZ",
    "north macedonia": "MK",
    "macedonia": "MK",
    "democratic republic of the congo": "CD",
    "republic of the congo": "CG",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One stay, and what is derived from it for its meeting.

    Attributes:
        id: The document's: the same whenever and however often the row is read.
        person: Tells people apart within the meeting, as well as that can be done.
        join, leave: UTC; None: not known.
        waiting: A stay in the waiting room.
        breakout: A stay in a breakout room; the same person is in the main room meanwhile.
        fields: The document.
    """

    id: str
    person: str = dataclasses.field(repr=False)
    join: datetime | None
    leave: datetime | None
    waiting: bool
    breakout: bool
    fields: Mapping[str, Any] = dataclasses.field(repr=False)


def sessions(
    meeting: str, rows: Iterable[Any], locate: Locate
) -> tuple[list[Session], list[tuple[Any, PoisonError]]]:
    """Return the sessions of a meeting, and the rows that are none.

    Of rows with the same id one is kept, and of two states of a stay the later: pages repeat rows while data settle.

    Args:
        meeting: Its uuid.
        rows: All of `/metrics/meetings/{uuid}/participants`, or of the report.
        locate: Gives the `geoip` fields of an address, None where they are not known.
    """
    rows, odd = list(rows), []
    found: dict[str, Session] = {}
    people = _people(rows)
    for row in rows:
        try:
            one = _session(meeting, row, people, locate)
        except PoisonError as error:
            odd.append((row, error))
            continue
        before = found.get(one.id)
        if before is None or _end(before) <= _end(one):
            found[one.id] = one
    return list(found.values()), odd


def _session(meeting: str, row: Any, people: Mapping[str, str], locate: Locate) -> Session:
    if not isinstance(row, dict):
        raise PoisonError(f"the participant is no object but a {type(row).__name__}")
    join, leave = instant(row.get("join_time")), instant(row.get("leave_time"))
    who = _within_meeting(row)
    if who is None and join is None:
        raise PoisonError("the participant has neither user_id nor join_time")
    address, location = text(row.get("ip_address")), text(row.get("location"))
    city, country = place(location)
    waiting = row.get("status") == WAITING
    room = text(row.get("bo_mtg_id"))
    # Not one that a re-read may change: only what a row has from its beginning on.
    identity = [meeting, who or _anonymous(row), iso(join), room, waiting]
    found = {
        "meeting": meeting,
        "id": text(row.get("id")),
        "user_id": text(row.get("user_id")),
        "user_name": text(row.get("user_name")),
        "device": text(row.get("device")),
        "ip_address": address,
        "country": country,
        "city": city,
        "network_type": text(row.get("network_type")),
        "join_time": iso(join),
        "leave_time": iso(leave),
        "duration": between(join, leave),
        "share_application": truth(row.get("share_application")),
        "share_desktop": truth(row.get("share_desktop")),
        "share_whiteboard": truth(row.get("share_whiteboard")),
        "recording": truth(row.get("recording")),
    }
    new = {
        "geoip": locate(address) if address else None,
        **{name: text(row.get(name)) for name in _NEW_TEXTS},
        "leave_reason": reason(row.get("leave_reason"), text(row.get("user_name"))),
        "in_room_participants": count(row.get("in_room_participants")),
        "total_jointime_cost": amount(row.get("total_jointime_cost")),
        "waiting_room": waiting,
        "breakout_room": room is not None,
    }
    return Session(
        id=_digest(identity),
        person=_person(row, people),
        join=join,
        leave=leave,
        waiting=waiting,
        breakout=room is not None,
        fields=without_surrogates({**found, **{name: value for name, value in new.items() if value is not None}}),
    )


def place(location: str | None) -> tuple[str | None, str | None]:
    """Return city and country (its code, as v1 had it) of "City (CC)", "City, Country", a country or a city."""
    if not location:
        return None, None
    if match := _CODE.fullmatch(location):
        return match[1] or None, match[2]
    city, comma, last = location.rpartition(",")
    code = _country(last)
    if code is None:
        return location, None
    return (city.strip() if comma else "") or None, code


def reason(value: Any, name: str | None) -> str | None:
    """Return why a person left, as plain text without their name.

    It may be "NAME left the meeting.<br>Reason: Host ended the meeting.": then what follows "Reason" counts.
    """
    plain = text(value)
    if plain is None:
        return None
    plain = _REASON.sub("", _plain(plain))
    if plain not in _REASONS:  # somebody may be called "Host"
        plain = _WHO.sub(lambda match: match[1], plain)
        if who := _plain(name or ""):
            plain = " ".join(re.sub(rf"(?<!\w){re.escape(who)}(?!\w)", "", plain).split())
    return plain[:1].upper() + plain[1:] or None


def _plain(markup: str) -> str:
    """Return HTML, of which the tags may be written as entities, as a line of text."""
    return " ".join(_TAG.sub("", _BREAK.sub(" ", html.unescape(markup))).split())


def _country(name: str) -> str | None:
    name = name.strip()
    if re.fullmatch(r"[A-Z]{2}", name):
        return name if name in iso3166.countries_by_alpha2 else None
    known = iso3166.countries_by_name.get(name.upper()) or iso3166.countries_by_apolitical_name.get(name.upper())
    return known.alpha2 if known else _COUNTRIES.get(name.lower())


def _within_meeting(row: Mapping[str, Any]) -> str | None:
    """Return what tells a join from others of its meeting; user_id first, for the report has no participant_uuid."""
    return text(row.get("user_id")) or text(row.get("participant_uuid"))


def _anonymous(row: Mapping[str, Any]) -> str:
    """Return something in place of an id that is missing."""
    return json.dumps([text(row.get(name)) for name in (*_IDENTITIES, "device", "ip_address")])


def _people(rows: Iterable[Any]) -> dict[str, str]:
    """Return the strongest identity of each user_id: the row of a breakout room may lack what the main room's has."""
    ranked: dict[str, tuple[int, str]] = {}
    for row in rows:
        if isinstance(row, dict) and (who := _within_meeting(row)) is not None:
            identity = _identity(row)
            if identity is not None:
                ranked[who] = min(ranked.get(who, identity), identity)
    return {who: f"{rank} {name}" for who, (rank, name) in ranked.items()}


def _person(row: Mapping[str, Any], people: Mapping[str, str]) -> str:
    who = _within_meeting(row)
    if who is not None:
        return people.get(who, f"join {who}")
    rank, name = _identity(row) or (len(_IDENTITIES), _anonymous(row))
    return f"{rank} {name}"


def _identity(row: Mapping[str, Any]) -> tuple[int, str] | None:
    for rank, name in enumerate(_IDENTITIES):
        value = text(row.get(name))
        if value is not None and value.strip():
            return rank, value.strip().casefold() if name in {"email", "user_name"} else value
    return None


def _end(one: Session) -> datetime:
    return one.leave or datetime.min.replace(tzinfo=UTC)


def _digest(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
