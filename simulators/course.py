"""A course with its roster, and what its students did, as the documents of a report; it knows who did it.

People behave as they do in Zoom: they have nicknames and namesakes, join by phone, share a computer, drop out and come
back, and guests come too.
"""

import dataclasses
import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

FIRST = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Elif",
    "Femi",
    "Grace",
    "Hiro",
    "Ines",
    "Jonas",
    "Katarina",
    "Liam",
    "Maria",
    "Noah",
    "Olivia",
    "Pablo",
    "Quinn",
    "Rosa",
    "Søren",
    "Tomás",
    "Uma",
    "Victor",
    "William",
    "Xin",
    "Yusuf",
    "Zoë",
    "Amélie",
    "Björn",
    "Chloé",
    "Daria",
    "Emre",
    "Fatima",
    "Giulia",
    "Henry",
    "Isla",
    "José",
    "Kwame",
    "Lena",
    "Mateo",
    "Nia",
]
LAST = [
    "Adams",
    "Brown",
    "Chen",
    "Díaz",
    "Evans",
    "Fischer",
    "García",
    "Hansen",
    "Ito",
    "Jones",
    "Kim",
    "López",
    "Müller",
    "Nguyen",
    "O'Brien",
    "Patel",
    "Quist",
    "Rossi",
    "Smith",
    "Tanaka",
    "Ueda",
    "Varga",
    "Wang",
    "Xu",
    "Young",
    "Zhang",
    "Álvarez",
    "Becker",
    "Cohen",
    "Dupont",
    "Eriksen",
    "Farah",
    "Gupta",
    "Haddad",
    "Ivanov",
    "Johnson",
]
NICKNAMES = {"William": "Bill", "Katarina": "Kat", "Tomás": "Tom", "José": "Pepe", "Maria": "Mia", "David": "Dave"}
DEVICES = ("iPhone", "Galaxy S24", "iPad (3)", "Library PC 7", "Zoom User")
ALIKE = 5  # students who have namesakes among the guests
SYSTEMS = ("Windows", "Windows", "Windows", "Mac OS X", "Mac OS X", "iOS", "Android", "Linux")
COUNTRIES = ("United States",) * 12 + ("Canada", "Germany", "Kenya")
LENGTH = 75 * 60
BIN = 30
SHOWN_EVERY = 300  # seconds of a bin of the clock

Stay = tuple[datetime, datetime]


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """A student, and how Zoom knows them.

    Attributes:
        account: The id of a Zoom account, which has the e-mail address; None for a guest.
        shown: The name shown in Zoom.
        registrant: The id of a registration.
        named: Whether the name shown is enough to recognise this person.
    """

    huid: str
    email: str
    first: str
    last: str
    account: str | None
    shown: str
    registrant: str | None
    named: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What Zoom shows of somebody."""

    name: str
    account: str | None = None
    email: str | None = None
    registrant: str | None = None

    @property
    def person(self) -> str:
        """Return the key of documents of attendance."""
        return self.registrant or self.account or (self.email or "").lower() or f"name:{self.name}"


@dataclasses.dataclass(slots=True)
class Simulated:
    """A course.

    Attributes:
        roster: The lines of the roster: huid, email, first_name, last_name, registrant.
        truth: Who somebody in a meeting really is, by uuid and person: the huid, or None for a guest.
        whereabouts: For each recording and viewer, the system and the country.
        identifiable: Those of them who showed enough of themselves to be recognised.
    """

    series: str
    people: list[Person]
    roster: list[list[str]]
    viewings: list[dict[str, Any]]
    recordings: list[dict[str, Any]]
    attendance: list[dict[str, Any]]
    truth: dict[tuple[str, str], str | None]
    identifiable: set[tuple[str, str]]
    whereabouts: dict[str, dict[str, tuple[str, str]]]


def course(
    *,
    lectures: int,
    students: int,
    seed: int = 1,
    first: datetime = datetime(2026, 1, 26, 15, tzinfo=UTC),
    zoom: bool = True,
    guests: int = 12,
) -> Simulated:
    """Return a course that meets twice a week."""
    dice = random.Random(seed)
    people = _people(dice, students)
    found = Simulated(
        "20260210038",
        people,
        [[p.huid, p.email, p.first, p.last, p.registrant or ""] for p in people],
        [],
        [],
        [],
        {},
        set(),
        defaultdict(dict),
    )
    taste = {p.huid: (dice.random(), dice.betavariate(4, 1.6)) for p in people}
    for number in range(lectures):
        start = first + timedelta(days=7 * (number // 2) + 2 * (number % 2))
        _lecture(found, dice, number, start, taste, zoom=zoom, guests=guests)
    return found


def _people(dice: random.Random, count: int) -> list[Person]:
    pairs = [(one, other) for one in FIRST for other in LAST]
    dice.shuffle(pairs)
    chosen = pairs[: count - count // 25]
    chosen += dice.sample(chosen, count - len(chosen))  # namesakes
    times: dict[tuple[str, str], int] = defaultdict(int)
    for pair in chosen:
        times[pair] += 1
    people = []
    for number, (first, last) in enumerate(chosen):
        kind = dice.random()
        account = f"acc{number:05}" if kind < 0.6 else None
        registrant = f"reg{number:05}" if 0.6 <= kind < 0.75 else None
        nick = NICKNAMES.get(first)
        shown = dice.choice(_spellings(first, last)) if nick is None or dice.random() < 0.3 else f"{nick} {last}"
        # The first students have namesakes who are guests.
        by_name = number >= ALIKE and times[first, last] == 1 and not (nick and shown.startswith(nick))
        people.append(
            Person(
                f"{40000000 + number * 37:08}",
                f"{first}.{last}{number}@Example.edu".lower().replace("'", ""),
                first,
                last,
                account,
                shown,
                registrant,
                by_name,
            )
        )
    return people


def _spellings(first: str, last: str) -> list[str]:
    return [
        f"{first} {last}",
        f"{first} {last}",
        f"{last}, {first}",
        f"{first.upper()} {last.upper()}",
        f"{first} {last} (she/her)",
    ]


def _lecture(
    found: Simulated,
    dice: random.Random,
    number: int,
    start: datetime,
    taste: dict[str, tuple[float, float]],
    *,
    zoom: bool,
    guests: int,
) -> None:
    mpid = hashlib.sha256(f"{found.series}-{number}".encode()).hexdigest()
    mpid = f"{mpid[:8]}-{mpid[8:12]}-{mpid[12:16]}-{mpid[16:20]}-{mpid[20:32]}"
    title = TOPICS[number % len(TOPICS)]
    meeting = {
        "uuid": hashlib.sha256(mpid.encode()).hexdigest()[:22] + "==",
        "meeting_id": "91234567890",
        "topic": "Course 38",
        "host_id": "host",
        "start": _iso(start - timedelta(minutes=4)),
        "end": _iso(start + timedelta(seconds=LENGTH + 200)),
    }
    common = {"mpid": mpid, "series": found.series, "title": title, "duration_s": float(LENGTH)}
    end = start + timedelta(seconds=LENGTH)
    fading = 1 - 0.25 * number / 40
    for place, person in enumerate(found.people):
        liking, diligence = taste[person.huid]
        live = dice.random() < (0.75 if liking < 0.55 else 0.12) * diligence * fading
        through_zoom = zoom and place % 3 != 0
        stay = None
        if live:
            joined = start + timedelta(seconds=dice.uniform(-180, 600))
            left = end - timedelta(seconds=max(0.0, dice.gauss(-100, 900)))
            stay = (joined, max(joined + timedelta(minutes=2), left))
            if through_zoom:
                _join(found, dice, person, meeting, [stay])
        watches = dice.random() < (0.25 if live else 0.7) * diligence
        if watches or (live and not through_zoom):
            _view(
                found,
                dice,
                person.huid,
                person.huid,
                common,
                start,
                stay if live and not through_zoom else None,
                watches=watches,
            )
    for visitor in range(dice.randint(0, 9)):
        session = f"node{number:02}{visitor:03}"
        _view(found, dice, f"session:{session}", None, common, start, None, watches=True)
    for visitor in range(dice.randint(0, 3)):
        _view(found, dice, f"9{visitor:07}", f"9{visitor:07}", common, start, None, watches=True)
    if zoom:
        _guests(found, dice, meeting, (start, end), guests)
    own = [one for one in found.viewings if one["mpid"] == mpid]
    found.recordings.append(_recording(common, own, start))


TOPICS = (
    "What a language is",
    "Sounds and signs",
    "Words and their parts",
    "Sentences",
    "Meaning",
    "Speaking to somebody",
    "How children learn",
    "How languages change",
    "Writing",
    "Families of languages",
)


def _join(
    found: Simulated, dice: random.Random, person: Person, meeting: dict[str, Any], stays: list[Stay]
) -> None:
    shown = Shown(
        person.shown, person.account, person.email.title() if person.account else None, person.registrant
    )
    identifiable = bool(person.account or person.registrant or person.named)
    roll = dice.random()
    if roll < 0.06:
        nobody = (f"1617555{dice.randint(1000, 9999)}", dice.choice(DEVICES), f"{person.first} and friend")
        shown, identifiable = Shown(dice.choice(nobody)), False
    elif roll < 0.15:  # Zoom hides the address of an account, unless it belongs to the host's organisation
        shown = dataclasses.replace(shown, email=None)
    elif roll < 0.18 and person.account and person.named:  # on a friend's computer
        away = (one for one in found.people if one.account and (meeting["uuid"], one.account) not in found.truth)
        friend = next(one for one in reversed(list(away)) if one is not person)
        shown, identifiable = Shown(person.shown, friend.account, friend.email), False
    elif roll < 0.22 and identifiable:  # dropped out, and came back by phone
        [(joined, left)] = stays
        half = joined + (left - joined) / 2
        again = Shown(f"{person.first} {person.last}")
        _attend(found, meeting, again, [(half + timedelta(minutes=1), left)], person.huid, person.named)
        stays = [(joined, half)]
    _attend(found, meeting, shown, stays, person.huid, identifiable)


def _guests(found: Simulated, dice: random.Random, meeting: dict[str, Any], stay: Stay, count: int) -> None:
    """Some are called like a student, but have accounts of their own; others share a device."""
    for guest in range(count):
        _attend(found, meeting, Shown(f"Guest {guest} Speaker"), [stay], None, identifiable=False)
    alike = dice.choice(found.people[:ALIKE])
    email = f"{alike.first}@elsewhere.org".lower()
    _attend(
        found,
        meeting,
        Shown(f"{alike.first} {alike.last}", f"ext{alike.huid}", email),
        [stay],
        None,
        identifiable=False,
    )
    there = {who: huid for (uuid, who), huid in found.truth.items() if uuid == meeting["uuid"]}
    present = [one for one in found.people if one.account and there.get(one.account) == one.huid]
    if present:  # a guest without an account, while the student of that name is there
        student = dice.choice(present)
        _attend(found, meeting, Shown(f"{student.first} {student.last}"), [stay], None, identifiable=False)
    one, other = dice.sample(found.people, 2)
    both = Shown(f"{one.first} {one.last} & {other.first} {other.last}")
    _attend(found, meeting, both, [stay], None, identifiable=False)


def _attend(  # noqa: PLR0917
    found: Simulated,
    meeting: dict[str, Any],
    shown: Shown,
    stays: list[Stay],
    huid: str | None,
    identifiable: bool,  # noqa: FBT001
) -> None:
    who = (meeting["uuid"], shown.person)
    if who in found.truth:  # two who look alike to Zoom are one person in the documents
        before = next(one for one in found.attendance if (one["uuid"], one["person"]) == who)
        before["stays"] = _merged(before["stays"], stays)
        found.truth[who] = found.truth[who] if found.truth[who] == huid else None
        found.identifiable.discard(who)
        return
    found.truth[who] = huid
    if identifiable:
        found.identifiable.add(who)
    seconds = sum((left - joined).total_seconds() for joined, left in stays)
    length = (datetime.fromisoformat(meeting["end"]) - datetime.fromisoformat(meeting["start"])).total_seconds()
    known = {"user_email": shown.email, "registrant_id": shown.registrant, "user_id": shown.account}
    found.attendance.append(
        {
            "@timestamp": _iso(stays[0][0]),
            **meeting,
            "person": shown.person,
            "user_name": shown.name,
            **{field: value for field, value in known.items() if value},
            "joined": _iso(stays[0][0]),
            "left": _iso(stays[-1][1]),
            "minutes": round(seconds / 60, 1),
            "share": round(min(1.0, seconds / length), 4),
            "late_minutes": 0.0,
            "early_minutes": 0.0,
            "sessions": len(stays),
            "stays": [[_iso(joined), _iso(left)] for joined, left in stays],
        }
    )


def _view(  # noqa: PLR0917
    found: Simulated,
    dice: random.Random,
    viewer: str,
    huid: str | None,
    common: dict[str, Any],
    start: datetime,
    stay: Stay | None,
    *,
    watches: bool,
) -> None:
    played = list(_played(dice, start)) if watches else []
    intervals = _union((round(a, 1), round(b, 1)) for a, b, _, _ in played)
    seen = round(sum(b - a for a, b in intervals), 1)
    total = round(sum(b - a for a, b, _, _ in played), 1)
    times = [datetime.fromtimestamp(at, UTC) for _, _, began, ended in played for at in (began, ended)] + list(
        stay or ()
    )
    fields = {
        "@timestamp": _iso(max(times)),
        **common,
        "viewer": viewer,
        "evidence": ["heartbeat"],
        "seen_s": seen,
        "coverage": round(seen / LENGTH, 4),
        "watched_s": total,
        "again_s": round(total - seen, 1),
        "furthest_s": max((b for _, b in intervals), default=0.0),
        "sittings": 1,
        "first": _iso(min(times)),
        "last": _iso(max(times)),
        "live_s": round((stay[1] - stay[0]).total_seconds(), 1) if stay else 0.0,
        "intervals": intervals,
        "played": played,
        "stays": [[_iso(stay[0]), _iso(stay[1])]] if stay else [],
    }
    found.whereabouts[common["mpid"]][viewer] = (dice.choice(SYSTEMS), dice.choice(COUNTRIES))
    found.viewings.append({**fields, "huid": huid} if huid else fields)


def _played(dice: random.Random, start: datetime) -> Iterator[list[float]]:
    """Yield stretches that were played: most from the beginning on, some of a passage that is hard."""
    began = start.timestamp() + LENGTH + 7200 + dice.expovariate(1 / (3.5 * 86400))
    reach = min(LENGTH, dice.choice([LENGTH, LENGTH, dice.uniform(300, LENGTH)]))
    yield [0.0, round(reach, 1), round(began, 1), round(began + reach, 1)]
    for _ in range(dice.choice([0, 0, 1, 2])):
        a = max(0.0, min(LENGTH - 300.0, dice.gauss(LENGTH * 0.55, 300)))
        began += reach + 600
        reach = dice.uniform(120, 300)
        yield [round(a, 1), round(a + reach, 1), round(began, 1), round(began + reach, 1)]


def _recording(common: dict[str, Any], own: list[dict[str, Any]], start: datetime) -> dict[str, Any]:
    bins = -(-LENGTH // BIN)
    views, retention = [0] * bins, [0] * bins
    clock: dict[int, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for one in own:
        for a, b, began, ended in one["played"]:
            for n in range(int(a // BIN), min(bins, int(-(-b // BIN)))):
                views[n] += 1
            for at in range(int(began // SHOWN_EVERY), int(ended // SHOWN_EVERY) + 1):
                clock[at][1].add(one["viewer"])
        for a, b in one["intervals"]:
            for n in range(int(a // BIN), min(bins, int(-(-b // BIN)))):
                retention[n] += 1
        for joined, left in one["stays"]:
            first, last = (int(datetime.fromisoformat(at).timestamp() // SHOWN_EVERY) for at in (joined, left))
            for at in range(first, last + 1):
                clock[at][0].add(one["viewer"])
    coverages = sorted(one["coverage"] for one in own)
    return {
        **common,
        "@timestamp": max((one["last"] for one in own), default=_iso(start)),
        "start": _iso(start),
        "viewers": len(own),
        "anonymous": sum("huid" not in one for one in own),
        "mean_coverage": round(sum(coverages) / max(1, len(coverages)), 4),
        "median_coverage": coverages[len(coverages) // 2] if coverages else 0.0,
        "bin_s": BIN,
        "views": views,
        "retention": retention,
        "concurrency": [
            {
                "at": _iso(datetime.fromtimestamp(at * SHOWN_EVERY, UTC)),
                "live": len(live),
                "recorded": len(recorded),
            }
            for at, (live, recorded) in sorted(clock.items())
        ],
    }


def _merged(stays: list[list[str]], more: list[Stay]) -> list[list[str]]:
    seconds = [tuple(datetime.fromisoformat(at).timestamp() for at in stay) for stay in stays]
    seconds += [(joined.timestamp(), left.timestamp()) for joined, left in more]
    return [[_iso(datetime.fromtimestamp(at, UTC)) for at in stay] for stay in _union(seconds)]


def _union(intervals: Iterable[tuple[float, ...]]) -> list[list[float]]:
    found: list[list[float]] = []
    for a, b in sorted(intervals):
        if found and a <= found[-1][1]:
            found[-1][1] = max(found[-1][1], b)
        else:
            found.append([a, b])
    return found


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
