"""Generates the meetings of a day. All names are invented; all addresses are reserved for documentation or tests.

A meeting's number alone determines its special case. The first meetings of a day are one of each; the rest are
regular with a special one now and then, so that even two dozen meetings cover every case.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from random import Random

from simulators.zoom.world import Meeting, Person, Session

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_FIRST = ("Ada", "Ben", "Chris", "Dana", "Emre", "Fay", "Gus", "Hana", "Ivo", "Jun", "Kim", "Lea", "Mio", "Noa")
_LAST = ("Example", "Sample", "Muster", "Probe", "Beispiel", "Exemple", "Ejemplo", "Voorbeeld", "Esempio")
_TOPICS = ("Lecture", "Section", "Office Hours", "Seminar", "Review", "Lab", "Advising", "Büro / Sprechstunde")
_DEPARTMENTS = ("", "Mathematics", "History", "Extension School")
# Name, operating system and client of a device, and the percentage of people who have it.
_DEVICES = (
    ("Windows", "Windows", "Zoom Client", 30),
    ("win 11", "Windows", "Zoom Client", 10),
    ("Mac", "macOS", "Zoom Client", 30),
    ("iOS", "iOS", "Zoom Mobile", 12),
    ("Android", "Android", "Zoom Mobile", 8),
    ("Web Browser Chrome 130", "", "Web Client", 5),
    ("Linux", "Linux", "Zoom Client", 2),
    ("Zoom Rooms", "", "Zoom Rooms", 2),
    ("Unknown", "", "", 1),
)
_PHONE = ("Phone", "", "")
_MULTIPLE = ("Windows + Phone", "Windows", "Zoom Client")
# 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 and 2001:db8::/32 are reserved for documentation (RFC 5737, 3849).
# The fourth network is in Cambridge according to the tests' MaxMind database, and the IPv6 one in Germany.
_IPV4 = ("192.0.2", "198.51.100", "203.0.113", "128.103.24")
_LOCATIONS = {
    "192.0.2": "United States",
    "198.51.100": "San Jose (US)",
    "203.0.113": "New York",
    "128.103.24": "Cambridge (US)",
}
_NETWORKS = ("Wifi", "Wifi", "Wifi", "Wired", "Cellular", "PPP", "Others")
_LEFT = (
    "{name} left the meeting.",
    "{name} left the meeting.",
    "Host ended the meeting.",
    "{name} got disconnected from the meeting.<br>Reason: Network connection error. ",
    "{name} left the meeting.<br>Reason: Host ended the meeting.",
    "{name} left the meeting.&lt;br&gt;Reason: Host ended the meeting.",
    "Unknown reason.",
)
_FIRST_USER_ID, _NEXT_USER_ID = 16_778_240, 1024  # the same in every room of every meeting
_AGAIN = 16  # added for each further join of a person, so that numbers of different people never collide
_REJOINS, _GUESTS = 0.15, 0.25  # shares of participants in a regular meeting


def make_people(seed: int, count: int) -> list[Person]:
    """Create `count` users (at least 4); the last has left the account, the one before it may not host."""
    rng = Random(f"people {seed}")
    return [
        Person(
            id=_person_id(rng),
            name=f"{_FIRST[number % len(_FIRST)]} {_LAST[number % len(_LAST)]} {number}",
            email=f"host{number}@example.com",
            licensed=number % 10 != 9,
            may_host=number != count - 2,
            listed=number != count - 1,
            dept=_DEPARTMENTS[number % len(_DEPARTMENTS)],
            pmi=rng.randrange(10**9, 10**10),
        )
        for number in range(count)
    ]


class Generator:
    """Generates one day's meetings, which depend only on the seed, the day and the count."""

    def __init__(self, seed: int, people: Sequence[Person], day: date) -> None:
        """Prepare for `day` (UTC)."""
        self._rng = Random(f"meetings {seed} {day}")
        self._series_rng = Random(f"series {seed}")
        self._left = people[-1]
        self._hosts = [person for person in people if person.may_host and person.listed]
        self._series = [(self._series_rng.randrange(9 * 10**10, 10**11), host) for host in self._hosts]
        self._midnight_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000

    def make(self, count: int) -> list[Meeting]:
        """Create `count` meetings that start on the day."""
        made = self._endless()
        return [next(made) for _ in range(count)]

    def make_live(self, count: int, now_ms: int) -> list[Meeting]:
        """Create meetings that began within the hour before `now_ms` and last for some more hours."""
        rng = self._rng
        return [
            self._meeting(
                "live", now_ms - rng.randrange(5, 55) * MINUTE_MS, 3 * HOUR_MS, people=rng.randrange(2, 9)
            )
            for _ in range(count)
        ]

    def meeting(self, start_ms: int, duration_ms: int, people: int) -> Meeting:
        """Create one regular meeting on demand."""
        return self._meeting("posted", start_ms, duration_ms, people=people)

    def sessions(self, meeting: Meeting, count: int) -> list[Session]:
        """Create more participants for a meeting, with one session each."""
        first = max((session.person for session in meeting.sessions), default=-1) + 1
        return [self._join(meeting, first + number) for number in range(count)]

    def _endless(self) -> Iterator[Meeting]:
        specimens: Sequence[Callable[[], list[Meeting]]] = (
            self._regular,
            self._alone,
            lambda: [self._coded("slash", "/")],
            lambda: [self._coded("double-slash", "", "//")],
            lambda: [self._coded("plus", "", "+")],
            self._long,
            self._dropped,
            self._recurring,
            self._personal_room,
            self._waiting_room,
            self._breakouts,
            self._guests,
            self._masked,
            self._midnight,
            self._duplicates,
            self._defective,
            self._alone_again,
            self._devices,
            self._brief,
            self._former_host,
            self._slash_alone,
            self._large,
        )
        for make in specimens:
            yield from make()
        number = 0
        while True:
            for _ in range(40):
                yield from self._alone() if self._rng.random() < 0.15 else self._regular()
            # The large meeting and the 26-hour one are expensive and rare: only once a day.
            yield from [make for make in specimens if make not in (self._long, self._large)][number % 20]()
            number += 1

    # The meetings

    def _regular(self) -> list[Meeting]:
        rng = self._rng
        return [
            self._meeting(
                "regular", self._start(), rng.randrange(10, 110) * MINUTE_MS + 17_000, people=self._size()
            )
        ]

    def _alone(self) -> list[Meeting]:
        return [self._meeting("alone", self._start(), self._rng.randrange(30, 900) * SECOND_MS, people=1)]

    def _alone_again(self) -> list[Meeting]:
        """One person who came back: two rows, but still listed only in `pastOne`."""
        meeting = self._meeting("alone-again", self._start(), 20 * MINUTE_MS, people=1)
        self._rejoin(meeting, 0)
        return [meeting]

    def _coded(self, kind: str, first: str, inside: str = "", people: int | None = None) -> Meeting:
        """Create a meeting whose UUID has characters with a meaning in paths."""
        meeting = self._meeting(kind, self._start(), 45 * MINUTE_MS, people=people or self._size())
        text = first + meeting.uuid[len(first) :]
        text = text[:8] + inside + text[8 + len(inside) :]
        meeting.uuid = base64.b64encode(base64.b64decode(text)).decode()
        return meeting

    def _slash_alone(self) -> list[Meeting]:
        return [self._coded("slash-alone", "/", people=1)]

    def _long(self) -> list[Meeting]:
        meeting = self._meeting("long", self._midnight_ms + 10 * MINUTE_MS, 26 * HOUR_MS + 5_000, people=3)
        # One person stays the whole time: more than a day between join and leave.
        meeting.sessions[0] = replace(meeting.sessions[0], join_ms=meeting.start_ms, leave_ms=meeting.end_ms)
        return [meeting]

    def _dropped(self) -> list[Meeting]:
        """A host loses the connection and starts again: a new UUID with the same number."""
        first = self._meeting("dropped", self._start(), 25 * MINUTE_MS, people=5)
        again = first.end_ms + self._rng.randrange(1, 15) * MINUTE_MS
        second = self._meeting("dropped", again, 30 * MINUTE_MS, people=5, like=first)
        return [first, second]

    def _recurring(self) -> list[Meeting]:
        number, host = self._series[self._rng.randrange(len(self._series))]
        first = self._meeting("recurring", self._start(10), 50 * MINUTE_MS, people=6, type_=8)
        first.id, first.host = number, host
        return [
            first,
            self._meeting("recurring", first.end_ms + 2 * HOUR_MS, 50 * MINUTE_MS, people=6, like=first),
        ]

    def _personal_room(self) -> list[Meeting]:
        first = self._meeting("personal-room", self._start(10), 15 * MINUTE_MS, people=2)
        first.id, first.topic = first.host.pmi, f"{first.host.name}'s Personal Meeting Room"
        return [
            first,
            self._meeting("personal-room", first.end_ms + HOUR_MS, 15 * MINUTE_MS, people=3, like=first),
        ]

    def _waiting_room(self) -> list[Meeting]:
        """Time in the waiting room has its own rows; one person is never admitted."""
        meeting = self._meeting("waiting-room", self._start(), 40 * MINUTE_MS, people=5)
        inside = meeting.sessions
        waiting = [
            self._again(
                session,
                join_ms=session.join_ms - 90_000,
                leave_ms=session.join_ms,
                status="in_waiting_room",
                leave_reason="Leave waiting room.",
            )
            for session in inside[1:]
        ]
        waiting[-1] = replace(waiting[-1], leave_reason="Removed by host from waiting room.")
        meeting.sessions = inside[:-1] + waiting
        return [meeting]

    def _breakouts(self) -> list[Meeting]:
        """In a breakout room, a person has a second row besides the one for the whole meeting.

        Zoom reuses `user_id` in every room, so a number is unique only within a meeting and a room.
        """
        meeting = self._meeting("breakouts", self._start(), 60 * MINUTE_MS, people=8)
        rooms = [_token(self._rng, 16), _token(self._rng, 16)]
        third = (meeting.end_ms - meeting.start_ms) // 3
        # Once per person, even for those who joined twice: nobody is in two rooms, or twice in one, at the same
        # time.
        people = {session.person: session for session in meeting.sessions}
        meeting.sessions += [
            replace(
                session,
                user_id=str(_FIRST_USER_ID + _NEXT_USER_ID * (session.person // 2)),
                participant_uuid=_guid(self._rng),
                bo_mtg_id=rooms[session.person % 2],
                join_ms=meeting.start_ms + third + session.person * SECOND_MS,
                leave_ms=meeting.start_ms + 2 * third,
            )
            for session in people.values()
        ]
        return [meeting]

    def _guests(self) -> list[Meeting]:
        """Only the host has an id or an address, and two participants share a name."""
        meeting = self._meeting("guests", self._start(), 35 * MINUTE_MS, people=6)
        meeting.sessions = [
            session
            if session.role == "host"
            else _as_guest(session, "iPhone" if session.person < 3 else session.user_name)
            for session in meeting.sessions
        ]
        return [meeting]

    def _masked(self) -> list[Meeting]:
        """A meeting as shown to accounts without a signed BAA: no names, addresses or places."""
        meeting = self._meeting("masked", self._start(), 35 * MINUTE_MS, people=4)
        meeting.sessions = [
            replace(session, user_name="", email="", ip_address="", location="") for session in meeting.sessions
        ]
        return [meeting]

    def _midnight(self) -> list[Meeting]:
        start = self._midnight_ms + 23 * HOUR_MS + self._rng.randrange(20, 55) * MINUTE_MS
        return [self._meeting("midnight", start, 75 * MINUTE_MS, people=4)]

    def _duplicates(self) -> list[Meeting]:
        """Exact duplicates of rows."""
        meeting = self._meeting("duplicates", self._start(), 30 * MINUTE_MS, people=5)
        meeting.sessions += meeting.sessions[1:3]
        return [meeting]

    def _defective(self) -> list[Meeting]:
        meeting = self._meeting("defective", self._start(), 30 * MINUTE_MS, people=3)
        meeting.defective = True
        meeting.sessions[-1] = replace(meeting.sessions[-1], leave_ms=None, leave_reason="")
        return [meeting]

    def _devices(self) -> list[Meeting]:
        """IPv6, dial-in, several devices in one row, one person with two devices, fractions of a second."""
        meeting = self._meeting("devices", self._start(), 30 * MINUTE_MS, people=7)
        rows = meeting.sessions
        rows[1] = replace(rows[1], ip_address=f"2001:db8::1:{self._rng.randrange(1, 9999):x}", location="Germany")
        rows[2] = _dial_in(rows[2], self._rng)
        rows[3] = replace(rows[3], device=_MULTIPLE[0], os=_MULTIPLE[1], client=_MULTIPLE[2], phone="12025550143")
        rows[4] = replace(rows[4], join_ms=rows[4].join_ms + 123, ip_address="", quality="")
        rows.append(self._again(rows[5], join_ms=rows[5].join_ms + MINUTE_MS, device="iOS", os="iOS"))
        return [meeting]

    def _brief(self) -> list[Meeting]:
        return [self._meeting("brief", self._start(), 42 * SECOND_MS, people=2)]

    def _former_host(self) -> list[Meeting]:
        meeting = self._meeting("former-host", self._start(), 30 * MINUTE_MS, people=3)
        meeting.host = self._left
        return [meeting]

    def _large(self) -> list[Meeting]:
        return [self._meeting("large", self._start(8), 55 * MINUTE_MS, people=700, rejoins=0)]

    # Their parts

    def _start(self, last_hour: int = 21) -> int:
        return self._midnight_ms + self._rng.randrange(4 * 60, last_hour * 60 + 60) * MINUTE_MS + 11_000

    def _size(self) -> int:
        return min(60, 2 + int(self._rng.expovariate(0.15)))

    def _meeting(
        self,
        kind: str,
        start_ms: int,
        duration_ms: int,
        *,
        people: int,
        like: Meeting | None = None,
        type_: int = 2,
        rejoins: float = _REJOINS,
    ) -> Meeting:
        """Create a meeting with a session for each of `people`; `like` is another instance of the same number."""
        rng = self._rng
        meeting = Meeting(
            uuid=_token(rng, 16),
            id=like.id if like else rng.randrange(8 * 10**10, 9 * 10**10),
            topic=like.topic if like else f"{rng.choice(_TOPICS)} {rng.randrange(1000)}",
            host=like.host if like else rng.choice(self._hosts),
            kind=kind,
            type=like.type if like else type_,
            start_ms=start_ms,
            end_ms=start_ms + duration_ms,
            sessions=[],
        )
        meeting.sessions = [self._join(meeting, number) for number in range(people)]
        for number in range(1, people):
            if rng.random() < rejoins:
                self._rejoin(meeting, number)
        return meeting

    def _join(self, meeting: Meeting, number: int) -> Session:
        """Let one more person join; number 0 is the host, who is present from beginning to end."""
        rng = self._rng
        length = meeting.end_ms - meeting.start_ms
        host = number == 0
        late = 0 if host else int(rng.random() ** 3 * length / 2) // SECOND_MS * SECOND_MS
        early = 0 if host or rng.random() < 0.6 else int(rng.random() * length / 3) // SECOND_MS * SECOND_MS
        device, os, client, _ = rng.choices(_DEVICES, _WEIGHTS)[0]
        net = rng.choice(_IPV4)
        name = meeting.host.name if host else f"{rng.choice(_FIRST)} {rng.choice(_LAST)} {rng.randrange(4000)}"
        shares = rng.getrandbits(8)
        session = Session(
            person=number,
            user_id=str(_FIRST_USER_ID + _NEXT_USER_ID * number),
            participant_uuid=_guid(rng),
            join_ms=meeting.start_ms + late,
            leave_ms=meeting.end_ms - early,
            id=meeting.host.id if host else _person_id(rng),
            user_name=name,
            email=meeting.host.email if host else f"{name.replace(' ', '.').lower()}@students.example",
            role="host" if host else "attendee",
            device=device,
            os=os,
            client=client,
            ip_address=f"{net}.{rng.randrange(1, 255)}",
            location=_LOCATIONS[net],
            network_type=rng.choice(_NETWORKS),
            leave_reason="Host ended the meeting." if host else rng.choice(_LEFT).format(name=name),
            share_application=shares & 7 == 7,
            share_desktop=shares & 15 == 8,
            share_whiteboard=shares & 63 == 1,
            recording=host and shares & 64 == 0,
            registrant_id=_person_id(rng) if shares & 31 == 9 else "",
            quality="" if shares < 24 else "fair" if shares < 48 else "good",
        )
        session = replace(session, participant_user_id=session.id)
        return _as_guest(session, name) if not host and rng.random() < _GUESTS else session

    def _rejoin(self, meeting: Meeting, number: int) -> None:
        """Let a person leave at half time and return half a minute later: another row with new ids."""
        session = meeting.sessions[number]
        end = session.leave_ms or meeting.end_ms
        half = (session.join_ms + end) // 2 // SECOND_MS * SECOND_MS
        back = min(half + 30_000, end)
        meeting.sessions[number] = replace(
            session, leave_ms=half, leave_reason=f"{session.user_name} left the meeting."
        )
        meeting.sessions.append(self._again(session, join_ms=back))

    def _again(self, session: Session, **changes: object) -> Session:
        """Return another row for the same person, with the ids of a new join."""
        new = {"user_id": str(int(session.user_id) + _AGAIN), "participant_uuid": _guid(self._rng), **changes}
        return replace(session, **new)  # type: ignore[arg-type] # members of a Session


_WEIGHTS = [weight for *_, weight in _DEVICES]


def _as_guest(session: Session, name: str) -> Session:
    return replace(session, id="", participant_user_id="", email="", user_name=name)


def _dial_in(session: Session, rng: Random) -> Session:
    number = f"1202555{rng.randrange(100, 200):04d}"  # 555-0100 to 555-0199 are reserved for fiction
    device, os, client = _PHONE
    return replace(
        _as_guest(session, f"{number[:4]}***{number[-2:]}"),
        device=device,
        os=os,
        client=client,
        phone=number,
        ip_address="",
        network_type="",
    )


def _token(rng: Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


def _person_id(rng: Random) -> str:
    """Create a user id; unlike a meeting's UUID, it needs no encoding in paths."""
    return base64.urlsafe_b64encode(rng.randbytes(16)).decode().rstrip("=")


def _guid(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032X}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
