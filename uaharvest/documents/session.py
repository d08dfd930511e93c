"""Builds the documents of participants' stays in Zoom meetings, with the old tool's names and units plus new v2 fields.

Names and numbers of personal devices and networks are left out, because no reader needs them: camera, microphone,
speaker, pc_name, device_name, domain, mac_addr, harddisk_id, internal_ip_addresses, audio_call, sip_uri.
"""

import dataclasses
import hashlib
import html
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import iso3166

from uaharvest.documents.indexed import Locate, without_surrogates
from uaharvest.documents.values import between, iso
from uaharvest.errors import PoisonError
from uaharvest.rows.zoom import ParticipantRow

WAITING = "in_waiting_room"
# Longer names are not searched for in a leave reason. Zoom allows 64 characters for each of two names.
LONGEST_NAME = 256

# New text fields. Unlike the old fields, they are left out if unknown.
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
# Strongest first. A guest has only a name, which two people may share; "iPhone" is common.
_STRONG = ("id", "participant_user_id", "registrant_id", "email")
_IDENTITIES = (*_STRONG, "user_name")

REASONS = {
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
# Each pattern runs in linear time on any text, because no two repetitions can match the same characters.
_BREAK = re.compile(r"<\s*+br\s*+(?:/\s*+)?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*+>")
_REASON = re.compile(r"\breason:\s*+(?=\S)", re.IGNORECASE)
_WHO = re.compile(r"\b(?:left|got disconnected from) the meeting\b", re.IGNORECASE)

_CODE = re.compile(r"\(([A-Z]{2})\)\Z")
# Zoom's country names that differ from ISO 3166.
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


class Identified(Protocol):
    """What tells the people in a meeting apart. ParticipantRow describes the fields."""

    @property
    def id(self) -> str | None: ...  # noqa: D102
    @property
    def participant_user_id(self) -> str | None: ...  # noqa: D102
    @property
    def registrant_id(self) -> str | None: ...  # noqa: D102
    @property
    def email(self) -> str | None: ...  # noqa: D102
    @property
    def user_name(self) -> str | None: ...  # noqa: D102
    @property
    def user_id(self) -> str | None: ...  # noqa: D102
    @property
    def participant_uuid(self) -> str | None: ...  # noqa: D102
    @property
    def bo_mtg_id(self) -> str | None: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One stay, and the values that its meeting's attendance figures need.

    Attributes:
        id: The document's id. It stays the same each time the row is read.
        person: Distinguishes people within the meeting, as well as possible.
        join, leave: UTC; None if unknown.
        waiting: Whether this is a stay in the waiting room.
        breakout: Whether this is a stay in a breakout room. The same person is in the main room too.
        fields: The document's fields.
    """

    id: str
    person: str = dataclasses.field(repr=False)
    join: datetime | None
    leave: datetime | None
    waiting: bool
    breakout: bool
    fields: Mapping[str, Any] = dataclasses.field(repr=False)


def _same(identity: str) -> str:
    return identity


def sessions(
    meeting: str, rows: Sequence[ParticipantRow], locate: Locate, pseudonym: Callable[[str], str] = _same
) -> tuple[list[Session], list[tuple[ParticipantRow, PoisonError]]]:
    """Return the sessions of a meeting, and the rows that cannot become sessions.

    Pages may repeat rows while Zoom's data settle. One session is kept per id: the one that ends last.

    Args:
        meeting: The meeting's uuid.
        rows: All participants of the meeting.
        locate: Returns the `geoip` fields of an address, or None if they are unknown.
        pseudonym: Replaces the identity of a person in ids of documents. Few need one: most rows have a number.
    """
    odd = []
    found: dict[str, Session] = {}
    for row, person in zip(rows, people(rows), strict=True):
        try:
            one = _session(meeting, row, person, locate, pseudonym)
        except PoisonError as error:
            odd.append((row, error))
            continue
        before = found.get(one.id)
        if before is None or _end(before) <= _end(one):
            found[one.id] = one
    return list(found.values()), odd


def stored(documents: Sequence[Mapping[str, Any]]) -> list[Session]:
    """Return the sessions of a meeting from their documents, for its attendance figures."""
    names = {field.name for field in dataclasses.fields(ParticipantRow)} - {"join_time", "leave_time", "raw"}
    rows = [
        ParticipantRow(
            **{name: document.get(name) for name in names},
            join_time=_instant(document.get("join_time")),
            leave_time=_instant(document.get("leave_time")),
            raw=None,
        )
        for document in documents
    ]
    return [
        Session(
            id="",
            person=person,
            join=row.join_time,
            leave=row.leave_time,
            waiting=bool(document.get("waiting_room")),
            breakout=bool(document.get("breakout_room")),
            fields=document,
        )
        for document, row, person in zip(documents, rows, people(rows), strict=True)
    ]


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _session(
    meeting: str, row: ParticipantRow, person: str, locate: Locate, pseudonym: Callable[[str], str]
) -> Session:
    if _within_meeting(row) is None and row.join_time is None:
        raise PoisonError("the participant has neither user_id nor join_time")
    city, country = place(row.location)
    waiting = row.status == WAITING
    in_breakout = row.bo_mtg_id is not None
    # Only values that a row has from the start, so that a later read gives the same id.
    who = row.user_id or pseudonym(row.participant_uuid or _anonymous(row))
    identity = [meeting, who, iso(row.join_time), row.bo_mtg_id, waiting]
    found = {
        "meeting": meeting,
        "id": row.id,
        "user_id": row.user_id,
        "user_name": row.user_name,
        "device": row.device,
        "ip_address": row.ip_address,
        "country": country,
        "city": city,
        "network_type": row.network_type,
        "join_time": iso(row.join_time),
        "leave_time": iso(row.leave_time),
        "duration": between(row.join_time, row.leave_time),
        "share_application": row.share_application,
        "share_desktop": row.share_desktop,
        "share_whiteboard": row.share_whiteboard,
        "recording": row.recording,
    }
    new = {
        "geoip": locate(row.ip_address) if row.ip_address else None,
        **{name: getattr(row, name) for name in _NEW_TEXTS},
        "leave_reason": reason(row.leave_reason, row.user_name),
        "in_room_participants": row.in_room_participants,
        "total_jointime_cost": row.total_jointime_cost,
        "waiting_room": waiting,
        "breakout_room": in_breakout,
    }
    return Session(
        id=_digest(identity),
        person=person,
        join=row.join_time,
        leave=row.leave_time,
        waiting=waiting,
        breakout=in_breakout,
        fields=without_surrogates({**found, **{name: value for name, value in new.items() if value is not None}}),
    )


def place(location: str | None) -> tuple[str | None, str | None]:
    """Return city and country code (as in v1) from "City (CC)", "City, Country", a country or a city."""
    if not location:
        return None, None
    if match := _CODE.search(location, max(len(location) - 4, 0)):
        return location[: match.start()].rstrip() or None, match[1]
    city, comma, last = location.rpartition(",")
    code = _country(last)
    if code is None:
        return location, None
    return (city.strip() if comma else "") or None, code


def reason(said: str | None, name: str | None) -> str | None:
    """Return why a person left, as plain text without their name.

    Zoom may write "NAME left the meeting.<br>Reason: Host ended the meeting.": the text after "Reason:" is returned.
    """
    if said is None:
        return None
    plain = _plain(said)
    plain = plain[max((match.end() for match in _REASON.finditer(plain)), default=0) :]
    if plain not in REASONS:  # somebody may be called "Host"
        plain = plain[max((match.start() for match in _WHO.finditer(plain)), default=0) :]
        who = _plain(name or "")
        if len(who) > LONGEST_NAME:
            return None
        if who:
            plain = " ".join(re.sub(rf"(?<!\w){re.escape(who)}(?!\w)", "", plain).split())
    return plain[:1].upper() + plain[1:] or None


def _plain(markup: str) -> str:
    """Return HTML as one line of plain text. Its tags may be written as entities."""
    return " ".join(_TAG.sub("", _BREAK.sub(" ", html.unescape(markup))).split())


def _country(name: str) -> str | None:
    name = name.strip()
    if re.fullmatch(r"[A-Z]{2}", name):
        return name if name in iso3166.countries_by_alpha2 else None
    known = iso3166.countries_by_name.get(name.upper()) or iso3166.countries_by_apolitical_name.get(name.upper())
    return known.alpha2 if known else _COUNTRIES.get(name.lower())


def _within_meeting(row: ParticipantRow) -> str | None:
    """Return the id of a stay within its meeting: `user_id` if known, because reports have no `participant_uuid`."""
    return row.user_id or row.participant_uuid


def _anonymous(row: ParticipantRow) -> str:
    """Return a stand-in for a missing id."""
    return json.dumps([getattr(row, name) for name in (*_IDENTITIES, "device", "ip_address")])


def identity(value_of: Callable[[str], str | None]) -> tuple[str, str] | None:
    """Return the field that says best who a participant is, and its value; None if there is neither id nor name.

    An id of Zoom's is the same in all meetings, and so is an e-mail address, here in small letters. A name may be that
    of several people.

    Args:
        value_of: Returns the value of a field of a session.
    """
    for field in ("registrant_id", "participant_user_id", "id", "email", "user_name"):
        value = value_of(field)
        if field == "email" and value:
            value = value.strip().lower()
        if value:
            return field, value
    return None


def people(rows: Sequence[Identified]) -> list[str]:
    """Return a key for each row. Rows of the same person have the same key.

    Rows belong to one person if they share an identity, compared from the strongest to the weakest, and no stronger
    one differs. `user_id` counts only within its room, because Zoom numbers the participants of every room from
    16778240. `participant_uuid` is globally unique, but the Report endpoints lack it. A name is the weakest: guests
    with the same name are one person, and somebody of that name in another room is the same person if nobody else has
    it.
    """
    people = _People(
        rooms=[row.bo_mtg_id or "" for row in rows],
        identified=[{name for name in _STRONG if _identity(row, name)} for row in rows],
    )
    for name in _STRONG:
        for same in _grouped(_identity(row, name) for row in rows):
            people.unite(same, stronger=_STRONG[: _STRONG.index(name)])
    for same in _grouped(_join(row) for row in rows):
        people.unite(same, stronger=_STRONG)
    for same in _grouped(_identity(row, "participant_uuid") for row in rows):
        people.unite(same, stronger=_STRONG)
    for same in _grouped(_identity(row, "user_name") for row in rows):
        people.unite(same, stronger=_STRONG, across_rooms=True)
    return [str(people.of(number)) for number in range(len(rows))]


class _People:
    """Groups rows by person, in disjoint sets. Each set records its rooms and the kinds of identities it has."""

    def __init__(self, rooms: Sequence[str], identified: Sequence[set[str]]) -> None:
        self._parents = list(range(len(rooms)))
        self._rooms = [{room} for room in rooms]
        self._identified = [set(names) for names in identified]

    def of(self, number: int) -> int:
        """Return the number of the row that stands for the person of row `number`."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def unite(self, numbers: Iterable[int], *, stronger: Sequence[str], across_rooms: bool = False) -> None:
        """Merge the people of these rows. If some certainly differ, merge only those without a stronger identity.

        Args:
            numbers: Rows that share a value.
            stronger: Identities compared before. Two people who both have an identity of the same kind differ.
            across_rooms: Also treat two people in the same room as different if one of them has a stronger identity.
        """
        everybody = sorted({self.of(number) for number in numbers})
        unknown = [one for one in everybody if self._identified[one].isdisjoint(stronger)]
        together = [one for one in everybody if not self._identified[one].isdisjoint(stronger)]
        if unknown:
            together.append(self._merge(unknown))
        kinds = [kind for one in together for kind in self._identified[one].intersection(stronger)]
        rooms = [room for one in together for room in self._rooms[one]] if across_rooms else []
        if len(kinds) == len(set(kinds)) and len(rooms) == len(set(rooms)):
            self._merge(together)

    def _merge(self, numbers: Sequence[int]) -> int:
        first, *others = numbers
        for other in others:
            self._parents[other] = first
            self._rooms[first] |= self._rooms[other]
            self._identified[first] |= self._identified[other]
        return first


def _grouped(values: Iterable[Any]) -> list[list[int]]:
    """Return the numbers of the rows that have the same value, for each value that more than one row has."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        if value is not None:
            groups[value].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _join(row: Identified) -> tuple[str | None, str] | None:
    return None if row.user_id is None else (row.bo_mtg_id, row.user_id)


def _identity(row: Identified, name: str) -> str | None:
    value = (getattr(row, name) or "").strip()
    return (value.casefold() if name in {"email", "user_name"} else value) or None


def _end(one: Session) -> datetime:
    return one.leave or datetime.min.replace(tzinfo=UTC)


def _digest(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
