"""The account that is simulated: its people, its meetings and their sessions. Times are UTC, epoch ms."""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

State = Literal["future", "live", "ended", "past"]


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the account."""

    id: str
    name: str
    email: str
    licensed: bool
    may_host: bool  # who may not is refused with 3161
    listed: bool  # False: has left the account, no list knows the address any more
    dept: str
    pmi: int


@dataclass(frozen=True, slots=True)
class Session:
    """One row of a meeting's participants. What is "" is so at the source too."""

    person: int  # who it really is, numbered within the meeting; Zoom tells nobody
    user_id: str
    participant_uuid: str
    join_ms: int
    leave_ms: int | None  # None: a defective row, whose leave_time is ""
    id: str = ""
    participant_user_id: str = ""
    user_name: str = ""
    email: str = ""
    registrant_id: str = ""
    role: str = "attendee"
    device: str = "Windows"
    os: str = "Windows"
    client: str = "Zoom Client"
    ip_address: str = ""
    location: str = ""
    network_type: str = "Wifi"
    leave_reason: str = ""
    status: str = "in_meeting"
    bo_mtg_id: str = ""
    phone: str = ""
    quality: str = "good"
    share_application: bool = False
    share_desktop: bool = False
    share_whiteboard: bool = False
    recording: bool = False

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells sessions of one meeting apart; exact duplicates have one key."""
        return self.participant_uuid, self.user_id, self.join_ms


@dataclass(slots=True)
class Meeting:
    """One instance of a meeting. Recurring ones, personal rooms and dropped hosts share an `id`."""

    uuid: str
    id: int
    topic: str
    host: Person
    kind: str  # which oddity the generator made, for tests
    type: int  # 1 instant, 2 scheduled, 3 recurring without a time, 8 recurring
    start_ms: int
    end_ms: int
    sessions: list[Session] = field(repr=False)
    defective: bool = False  # the list says "" for its times and duration (moodle-mod_zoom issue 239)
    delay_ms: int | None = None  # when it becomes visible after its end, in place of the account's

    @property
    def alone(self) -> bool:
        """Whether only one person was there, however often."""
        first = self.sessions[0].person if self.sessions else 0
        return all(session.person == first for session in self.sessions)

    def state(self, now_ms: int, delay_ms: int) -> State:
        """Tell where it stands; `ended` is over and not yet visible anywhere."""
        if now_ms < self.start_ms:
            return "future"
        if now_ms < self.end_ms:
            return "live"
        own = delay_ms if self.delay_ms is None else self.delay_ms
        return "past" if now_ms >= self.end_ms + own else "ended"


class World:
    """People and meetings, found by what callers know of them. Not thread-safe; the site locks."""

    def __init__(self, people: Sequence[Person], meetings: Iterable[Meeting]) -> None:
        """Hold people and meetings; uuids are unique."""
        self.people = people
        self._meetings = sorted(meetings, key=_order)
        self._by_uuid = {meeting.uuid: meeting for meeting in self._meetings}

    def __iter__(self) -> Iterator[Meeting]:
        """Give the meetings, the newest first, as Zoom lists them."""
        return reversed(self._meetings)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._by_uuid

    def by_uuid(self, uuid: str) -> Meeting | None:
        """Find one instance."""
        return self._by_uuid.get(uuid)

    def instances(self, number: int) -> list[Meeting]:
        """Find all instances of a meeting number, the newest first."""
        return [meeting for meeting in self if meeting.id == number]

    def person(self, id_or_email: str) -> Person | None:
        """Find a user by id or address."""
        return next((one for one in self.people if id_or_email in (one.id, one.email)), None)

    def add(self, meeting: Meeting) -> None:
        """Add an instance."""
        bisect.insort(self._meetings, meeting, key=_order)
        self._by_uuid[meeting.uuid] = meeting

    def remove(self, uuid: str) -> None:
        """Remove an instance; raises `KeyError` for an unknown one."""
        self._meetings.remove(self._by_uuid.pop(uuid))


def _order(meeting: Meeting) -> tuple[int, str]:
    return meeting.start_ms, meeting.uuid


def iso(ms: int) -> str:
    """Write epoch ms as Zoom does: UTC with a Z, fractions only where there are any."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if ms % 1000 == 0 else f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
