"""The simulated account's people, meetings and sessions. Times are epoch ms (UTC)."""

import bisect
from collections import defaultdict
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
    may_host: bool  # otherwise refused with 3161
    listed: bool  # False: has left the account, so no list has the address any more
    dept: str
    pmi: int


@dataclass(frozen=True, slots=True)
class Session:
    """A row of a meeting's participants. Values that are "" are empty at the source too."""

    person: int  # the real person, numbered within the meeting; never shown by Zoom
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
    def identities(self) -> set[tuple[str, str]]:
        """The identities that Zoom shows; a name is the weakest, because two people may share it."""
        shown = {
            "id": self.id,
            "participant_user_id": self.participant_user_id,
            "registrant_id": self.registrant_id,
            "email": self.email.casefold(),
            "user_name": self.user_name.casefold(),
        }
        return {(name, value) for name, value in shown.items() if value}

    @property
    def key(self) -> tuple[str, str, int]:
        """Identifies a session within a meeting; exact duplicates have the same key."""
        return self.participant_uuid, self.user_id, self.join_ms


@dataclass(slots=True)
class Meeting:
    """An instance of a meeting. Instances of recurring meetings, personal rooms and restarts share an `id`."""

    uuid: str
    id: int
    topic: str
    host: Person
    kind: str  # the generator's special case, for tests
    type: int  # 1 instant, 2 scheduled, 3 recurring without a time, 8 recurring
    start_ms: int
    end_ms: int
    sessions: list[Session] = field(repr=False)
    defective: bool = False  # the list has "" for its times and duration (moodle-mod_zoom issue 239)
    delay_ms: int | None = None  # until it becomes visible after its end; overrides the account's

    @property
    def alone(self) -> bool:
        """Whether only one person attended, however often."""
        first = self.sessions[0].person if self.sessions else 0
        return all(session.person == first for session in self.sessions)

    @property
    def distinguishable(self) -> tuple[int, int]:
        """The fewest and the most people distinguishable in Zoom's data, without those only in the waiting room.

        Fewest: sessions that share any identity, even a name, are one person. Most: someone who returns without an
        identity in common with the previous join is a different person. `registrant_id` does not count for the
        latter, because the Dashboard includes it only on request.
        """
        few = _linked([(one, one.identities | {("person", str(one.person))}) for one in self.sessions])
        joins = [
            (
                one,
                {
                    *one.identities - {("registrant_id", one.registrant_id)},
                    ("join", f"{one.bo_mtg_id} {one.user_id}"),
                },
            )
            for one in self.sessions
        ]
        of_each = defaultdict(list)
        for join in joins:
            of_each[join[0].person].append(join)
        return few, sum(_linked(rows) for rows in of_each.values())

    def state(self, now_ms: int, delay_ms: int) -> State:
        """Return the meeting's state; `ended` means over but not yet visible anywhere."""
        if now_ms < self.start_ms:
            return "future"
        if now_ms < self.end_ms:
            return "live"
        own = delay_ms if self.delay_ms is None else self.delay_ms
        return "past" if now_ms >= self.end_ms + own else "ended"


class World:
    """People and meetings, with look-ups. Not thread-safe; the site holds a lock."""

    def __init__(self, people: Sequence[Person], meetings: Iterable[Meeting]) -> None:
        """Store people and meetings; UUIDs must be unique."""
        self.people = people
        self._meetings = sorted(meetings, key=_order)
        self._by_uuid = {meeting.uuid: meeting for meeting in self._meetings}

    def __iter__(self) -> Iterator[Meeting]:
        """Yield the meetings, newest first, as Zoom lists them."""
        return reversed(self._meetings)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._by_uuid

    def by_uuid(self, uuid: str) -> Meeting | None:
        """Return the instance with this UUID, or None."""
        return self._by_uuid.get(uuid)

    def instances(self, number: int) -> list[Meeting]:
        """Return all instances of a meeting number, newest first."""
        return [meeting for meeting in self if meeting.id == number]

    def person(self, id_or_email: str) -> Person | None:
        """Return a user by id or email address, or None."""
        return next((one for one in self.people if id_or_email in (one.id, one.email)), None)

    def add(self, meeting: Meeting) -> None:
        """Add an instance."""
        bisect.insort(self._meetings, meeting, key=_order)
        self._by_uuid[meeting.uuid] = meeting

    def remove(self, uuid: str) -> None:
        """Remove an instance; raise `KeyError` if it is unknown."""
        self._meetings.remove(self._by_uuid.pop(uuid))


def _linked(rows: Sequence[tuple[Session, set[tuple[str, str]]]]) -> int:
    """Count the groups of sessions that share an identity, except groups that were only in the waiting room."""
    parents = list(range(len(rows)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    first: dict[tuple[str, str], int] = {}
    for number, (_, shown) in enumerate(rows):
        for identity in shown:
            parents[root(number)] = root(first.setdefault(identity, number))
    return len({root(number) for number, (session, _) in enumerate(rows) if session.status != "in_waiting_room"})


def _order(meeting: Meeting) -> tuple[int, str]:
    return meeting.start_ms, meeting.uuid


def iso(ms: int) -> str:
    """Format epoch ms as Zoom does: UTC with a Z, and a fraction only if it is not zero."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if ms % 1000 == 0 else f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
