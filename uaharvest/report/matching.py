"""Decides which student of the roster somebody in the documents is; never by a guess. docs/report.md has the rules."""

import dataclasses
import enum
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from uaharvest.report.roster import Student

SAME_TIME_S = 120.0
"""Zoom notices up to this much later that a connection broke, so that two stays of one person overlap. Seconds."""

# Keys of people who showed no identity that is the same in every meeting.
_NO_ACCOUNT = ("name:", "participant:")

Stay = tuple[float, float]  # epoch seconds
Name = tuple[str, ...]
KnownAs = Callable[[str], Sequence[str]]

# Of limited length. Otherwise a name of opening brackets would be searched from each of them to its end.
_ASIDE = re.compile(r"\([^)]{0,200}\)|\[[^\]]{0,200}\]|\"[^\"]{0,200}\"|“[^”]{0,200}”")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u2018`\u00b4")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "\u0131": "i"})
_PHONE = re.compile(r"[+(]?\d[\d\s().*x-]{5,}")


class By(enum.StrEnum):
    """What a person was recognised by, the strongest first."""

    HUID = "huid"
    EMAIL = "e-mail"
    REGISTRANT = "registrant"
    ACCOUNT = "account"
    NAME = "name"


class Why(enum.StrEnum):
    """Why a person was not matched."""

    ANONYMOUS = "not logged in"
    NOT_ON_ROSTER = "the id is not on the roster"
    TWO_STUDENTS = "the identities belong to two students"
    PHONE = "only a phone number"
    NO_NAME = "no name and no other identity"
    UNKNOWN_NAME = "nobody on the roster has this name"
    SHARED_NAME = "several students have this name"
    OTHER_EMAIL = "a student's name, but another e-mail"
    OTHER_REGISTRANT = "a student's name, but another registrant"
    NAMESAKE = "a student's name, but somebody else has it too"
    ALREADY_THERE = "a student's name, but that student was there at the same time"


@dataclasses.dataclass(frozen=True, slots=True)
class Attendee:
    """Somebody in one Zoom meeting.

    Attributes:
        meeting: The meeting's uuid.
        person: The key of this person, the same in all meetings; with `name:` or `participant:` before it
            if nothing is.
        name: As shown in the meeting.
        stays: When this person was there.
    """

    meeting: str
    person: str = dataclasses.field(repr=False)
    huid: str | None = dataclasses.field(default=None, repr=False)
    email: str | None = dataclasses.field(default=None, repr=False)
    registrant: str | None = dataclasses.field(default=None, repr=False)
    name: str = dataclasses.field(default="", repr=False)
    stays: tuple[Stay, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """Who somebody is: a student, by number in the roster, or the reason why nobody knows."""

    student: int | None
    by: By | Why


def normalised(name: str) -> Name:
    """Return a name as words in lower case without accents and punctuation, the first name first.

    What stands in brackets or quotation marks is left out: pronouns, nicknames, devices.
    """
    plain = unicodedata.normalize("NFKC", _ASIDE.sub(" ", name)).casefold().translate(_APOSTROPHES)
    last, comma, first = plain.partition(",")
    if comma and "," not in first:
        plain = f"{first} {last}"
    plain = unicodedata.normalize("NFKD", plain.translate(_LETTERS))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return tuple("".join(letter if letter.isalnum() else " " for letter in letters).split())


def as_it_is(value: str) -> Sequence[str]:
    """Return what stands in documents for an id of the roster where there are no pseudonyms."""
    return (value,)


class Matcher:
    """Matches people with a roster.

    Args:
        roster: The students.
        known_as: Returns what may stand in documents for an id or e-mail address of the roster.
    """

    def __init__(self, roster: Sequence[Student], known_as: KnownAs = as_it_is) -> None:
        self._roster = roster
        numbered = list(enumerate(roster))
        self._huids = {value: number for number, student in numbered for value in known_as(student.huid)}
        self._emails = {
            value: number for number, student in numbered for email in student.emails for value in known_as(email)
        }
        self._registrants = {
            value: number
            for number, student in numbered
            if student.registrant is not None
            for value in known_as(student.registrant)
        }
        self._names: dict[Name, set[int]] = defaultdict(set)
        for number, student in enumerate(roster):
            for name in _names(student):
                self._names[name].add(number)

    def named(self, name: str) -> set[int]:
        """Return the students who may go by a name, by number in the roster."""
        return self._names.get(normalised(name), set())

    def viewer(self, viewer: str, huid: str | None) -> Match:
        """Match a viewer of Opencast.

        Args:
            viewer: The document's `viewer`.
            huid: Its `huid`; None for a visitor who was not logged in.
        """
        if huid is None:
            return Match(None, Why.ANONYMOUS)
        for known, key, by in ((self._huids, viewer, By.HUID), (self._emails, viewer.lower(), By.EMAIL)):
            if key in known:
                return Match(known[key], by)
        return Match(None, Why.NOT_ON_ROSTER)

    def zoom(self, people: Sequence[Attendee]) -> list[Match]:
        """Match the people of all meetings of a course, in their order.

        All meetings are looked at together: an account that showed a student's e-mail once is that student's
        everywhere, and a name that somebody else has in one meeting is nobody's in another.
        """
        found = self._by_identity(people)
        left = [number for number, match in enumerate(found) if match is None]
        named = {number: self._by_name(people[number]) for number in left}
        contested = {
            normalised(people[number].name)
            for number, match in named.items()
            if match.by in {Why.OTHER_EMAIL, Why.OTHER_REGISTRANT}
        }
        there: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number, one in enumerate(people):
            match = found[number] or named[number]
            if match.student is not None:
                there[one.meeting, match.student].append(number)
        matches = []
        for number, one in enumerate(people):
            match = found[number] or named[number]
            if match.by is By.NAME and match.student is not None:
                others = [people[other] for other in there[one.meeting, match.student] if other != number]
                if normalised(one.name) in contested:
                    match = Match(None, Why.NAMESAKE)
                elif any(_together(one.stays, other.stays) for other in others):
                    match = Match(None, Why.ALREADY_THERE)
            matches.append(match)
        return matches

    def _by_identity(self, people: Sequence[Attendee]) -> list[Match | None]:
        """Match by what only one person has; None where there is nothing of the kind.

        If the name is another student's, two share a device or an account, and nobody knows which of them it is.
        """
        own = [self._identities(one) for one in people]
        accounts: dict[str, set[int]] = defaultdict(set)
        for one, identities in zip(people, own, strict=True):
            if not one.person.startswith(_NO_ACCOUNT):
                accounts[one.person].update(student for student, _ in identities)
        found: list[Match | None] = []
        for one, identities in zip(people, own, strict=True):
            students = {student for student, _ in identities} | accounts.get(one.person, set())
            named = self.named(one.name)
            if len(students) > 1 or (students and named and not students & named):
                found.append(Match(None, Why.TWO_STUDENTS))
            elif students:
                [student] = students
                found.append(Match(student, identities[0][1] if identities else By.ACCOUNT))
            else:
                found.append(None)
        return found

    def _identities(self, one: Attendee) -> list[tuple[int, By]]:
        known: Iterable[tuple[Mapping[str, int], str | None, By]] = (
            (self._huids, one.huid, By.HUID),
            (self._emails, (one.email or "").strip().lower(), By.EMAIL),
            (self._registrants, one.registrant, By.REGISTRANT),
        )
        return [(ids[value], by) for ids, value, by in known if value and value in ids]

    def _by_name(self, one: Attendee) -> Match:
        name = normalised(one.name)
        students = self._names.get(name, set())
        if len(students) == 1:
            [number] = students
            student = self._roster[number]
            if one.email and student.emails:
                return Match(None, Why.OTHER_EMAIL)
            if one.registrant and student.registrant:
                return Match(None, Why.OTHER_REGISTRANT)
            return Match(number, By.NAME)
        if students:
            return Match(None, Why.SHARED_NAME)
        if not name:
            return Match(None, Why.NO_NAME)
        return Match(None, Why.PHONE if _PHONE.fullmatch(one.name.strip()) else Why.UNKNOWN_NAME)


def _names(student: Student) -> set[Name]:
    """Return the names that a student may go by; a single word does not count as a name."""
    last = normalised(student.last_name)
    first = normalised(student.first_name)
    preferred = normalised(student.preferred_name or "")
    names = {first + last, first[:1] + last, preferred + last}
    return {name for name in names if len(name) > 1 and len(name) > len(last)} if last else set()


def _together(some: Iterable[Stay], others: Sequence[Stay]) -> bool:
    """Tell whether two people were there at the same time, for longer than a broken connection explains."""
    overlap = sum(
        max(0.0, min(left, until) - max(joined, since)) for joined, left in some for since, until in others
    )
    return overlap > SAME_TIME_S
