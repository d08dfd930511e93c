"""Attendance of a course: its students and its lectures. docs/report.md says what counts."""

import dataclasses
import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from uaharvest.coerce import instant
from uaharvest.intervals import union
from uaharvest.report.lectures import Lecture
from uaharvest.report.matching import Attendee, By, KnownAs, Match, Matcher, Stay, Why, as_it_is
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments, Fields


class Attending(enum.StrEnum):
    """What counts as attending."""

    LIVE = "live"
    RECORDING = "recording"
    EITHER = "either"


class State(enum.StrEnum):
    """How a student attended a lecture."""

    LIVE = "live"
    RECORDING = "recording"
    BOTH = "live and recording"
    SOME = "below the threshold"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """What is known of one student and one lecture.

    Attributes:
        state: How the student attended, by the threshold.
        attended: Whether that counts, by the rule.
        live: The share of the lecture's time that the student was there, live or in Zoom; None if the lecture's
            length is unknown.
        coverage: The share of the recording that the student saw; None if its duration is unknown.
        live_s: Seconds at Opencast's live stream.
        zoom_s: Seconds in Zoom, in the lecture's time.
        watched_s: Seconds of the recording that were played, each as often as it was.
        again_s: Those that were played again.
    """

    state: State
    attended: bool
    live: float | None
    coverage: float | None
    live_s: float = 0.0
    zoom_s: float = 0.0
    watched_s: float = 0.0
    again_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Unmatched:
    """Somebody in the documents who is none of the students, as far as can be known.

    Attributes:
        source: "Opencast" or "Zoom".
        who: The viewer, or the name and other identities in Zoom.
        could_be: Students of the same name, by number in the roster.
        sessions: Viewings (one for each recording) or sessions in Zoom.
        minutes: Watched or present.
    """

    source: str
    who: str = dataclasses.field(repr=False)
    why: Why
    could_be: tuple[int, ...]
    sessions: int
    minutes: float


@dataclasses.dataclass(frozen=True, slots=True)
class Matched:
    """How many documents, sessions and people of a source were matched."""

    source: str
    sessions: int
    matched: int
    unmatched: int
    people: int
    by: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """A course.

    Attributes:
        series: The id of the series.
        students: The roster.
        lectures: In the order of time.
        cells: For each student, one for each lecture.
        unmatched: Everyone who was not matched.
        tallies: For each source, how many sessions there were, and how many of them were matched.
        others: For each lecture, its viewers who are not on the roster, and those who were not logged in.
        viewers: For each lecture, everyone who watched it in Opencast, and whether they are on the roster.
        zoom: For each lecture, the people in its Zoom meetings: a student's number or None, and their stays.
        threshold: The share from which on something counts, 0 to 1.
    """

    series: str
    title: str
    students: Sequence[Student]
    lectures: Sequence[Lecture]
    cells: Sequence[Sequence[Cell]]
    unmatched: Sequence[Unmatched]
    tallies: Sequence[Matched]
    others: Sequence[tuple[int, int]]
    viewers: Sequence[Mapping[str, bool]]
    zoom: Sequence[Sequence[tuple[int | None, Sequence[Stay]]]]
    threshold: float
    rule: Attending

    def column(self, lecture: int) -> list[Cell]:
        """Return the cells of all students for a lecture, by its place in `lectures`."""
        return [row[lecture] for row in self.cells]


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What a report has to answer about a course.

    Attributes:
        threshold: The share from which on a lecture counts, above 0, up to 1.
    """

    series: str
    title: str
    threshold: float
    rule: Attending


def course(
    question: Question,
    roster: Sequence[Student],
    lectures: Sequence[Lecture],
    documents: CourseDocuments,
    known_as: KnownAs = as_it_is,
) -> Course:
    """Join live viewing, recordings and Zoom for a roster.

    Args:
        question: What to answer.
        roster: The students.
        lectures: Those to report on.
        documents: The course's; documents of other lectures are ignored.
        known_as: See `Matcher`.
    """
    matcher = Matcher(roster, known_as)
    places = {fields["mpid"]: n for n, one in enumerate(lectures) if (fields := one.recording)}
    held = {meeting.uuid: n for n, one in enumerate(lectures) for meeting in one.meetings}
    viewings = [fields for fields in documents.viewings if fields["mpid"] in places]
    # All people are matched, also those of other meetings: these may show that two people have the same name.
    people = [seen(fields) for fields in documents.attendance]
    matches = matcher.zoom(people)
    present = [
        (fields, one, match)
        for fields, one, match in zip(documents.attendance, people, matches, strict=True)
        if one.meeting in held
    ]
    viewers = [matcher.viewer(str(fields["viewer"]), fields.get("huid")) for fields in viewings]

    watched: dict[tuple[int, int], list[Fields]] = defaultdict(list)
    others = [[0, 0] for _ in lectures]
    audience: list[dict[str, bool]] = [{} for _ in lectures]
    for fields, match in zip(viewings, viewers, strict=True):
        place = places[fields["mpid"]]
        audience[place][fields["viewer"]] = match.student is not None
        if match.student is not None:
            watched[match.student, place].append(fields)
        else:
            others[place][match.by is Why.ANONYMOUS] += 1
    stays: dict[tuple[int, int], list[Stay]] = defaultdict(list)
    zoom: list[dict[int | str, list[Stay]]] = [defaultdict(list) for _ in lectures]
    for _, one, match in present:
        place = held[one.meeting]
        zoom[place][one.person if match.student is None else match.student] += one.stays
        if match.student is not None:
            stays[match.student, place] += one.stays

    cells = [
        [
            _cell(question, one, watched.get((student, place), ()), stays.get((student, place), ()))
            for place, one in enumerate(lectures)
        ]
        for student in range(len(roster))
    ]
    joined = [(fields, match) for fields, _, match in present]
    return Course(
        series=question.series,
        title=question.title,
        students=roster,
        lectures=lectures,
        cells=cells,
        unmatched=[
            *_unmatched("Opencast", zip(viewings, viewers, strict=True), matcher),
            *_unmatched("Zoom", joined, matcher),
        ],
        tallies=[
            _tally("Opencast", list(zip(viewings, viewers, strict=True))),
            _tally("Zoom", joined),
        ],
        others=[(named, anonymous) for named, anonymous in others],
        viewers=audience,
        zoom=[[(who if isinstance(who, int) else None, times) for who, times in one.items()] for one in zoom],
        threshold=question.threshold,
        rule=question.rule,
    )


def seen(fields: Fields) -> Attendee:
    """Return what a document of attendance says of a person."""
    return Attendee(
        meeting=fields["uuid"],
        person=str(fields["person"]),
        huid=fields.get("huid"),
        email=fields.get("user_email"),
        registrant=fields.get("registrant_id"),
        name=fields.get("user_name") or "",
        stays=tuple(_stays(fields.get("stays") or [[fields.get("joined"), fields.get("left")]])),
    )


def _stays(pairs: Iterable[Sequence[object]]) -> Iterable[Stay]:
    for pair in pairs:
        since, until = map(instant, pair)
        if since and until and since < until:
            yield since.timestamp(), until.timestamp()


def _cell(question: Question, lecture: Lecture, watched: Sequence[Fields], stays: Sequence[Stay]) -> Cell:
    if not watched and not stays:
        return _nothing(lecture)
    live = [stay for fields in watched for stay in _stays(fields.get("stays") or ())]
    zoom = stays
    if lecture.start is not None and lecture.length_s is not None:
        begin = lecture.start.timestamp()
        zoom = _clipped(stays, begin, (lecture.start + timedelta(seconds=lecture.length_s)).timestamp())
    zoom_s = _length(zoom)
    # Stays are rounded to seconds, so one document's sum is more exact.
    live_s = watched[0].get("live_s") or 0.0 if len(watched) == 1 else _length(live)
    together = _length([*live, *zoom]) if live else live_s + zoom_s
    share = min(1.0, together / lecture.length_s) if lecture.length_s else None
    # A student has one document for each recording, but two huids may share an e-mail.
    coverages = [fields["coverage"] for fields in watched if fields.get("coverage") is not None]
    coverage = max(coverages, default=_nothing(lecture).coverage)
    was_there = share is not None and share >= question.threshold
    saw = coverage is not None and coverage >= question.threshold
    any_trace = together or any(fields.get("seen_s") for fields in watched)
    state = {
        (True, True): State.BOTH,
        (True, False): State.LIVE,
        (False, True): State.RECORDING,
        (False, False): State.SOME if any_trace else State.NOTHING,
    }[was_there, saw]
    attended = {
        Attending.LIVE: was_there,
        Attending.RECORDING: saw,
        Attending.EITHER: was_there or saw,
    }[question.rule]
    return Cell(
        state,
        attended,
        None if share is None else round(share, 4),
        coverage,
        round(live_s, 1),
        round(zoom_s, 1),
        round(sum(fields.get("watched_s") or 0.0 for fields in watched), 1),
        round(sum(fields.get("again_s") or 0.0 for fields in watched), 1),
    )


def _nothing(lecture: Lecture) -> Cell:
    recorded = lecture.recording is not None and lecture.recording.get("duration_s")
    return Cell(
        State.NOTHING,
        attended=False,
        live=0.0 if lecture.length_s else None,
        coverage=0.0 if recorded else None,
    )


def _clipped(stays: Iterable[Stay], begin: float, end: float) -> list[Stay]:
    cut = ((max(since, begin), min(until, end)) for since, until in stays)
    return [(since, until) for since, until in cut if since < until]


def _length(stays: Iterable[Stay]) -> float:
    """Return the seconds in the union of some stays."""
    return sum(until - since for since, until in union(stays))


def _sessions(fields: Fields) -> int:
    return int(fields.get("sessions") or 1) if "uuid" in fields else 1


def _minutes(fields: Fields) -> float:
    if "uuid" in fields:
        return float(fields.get("minutes") or 0.0)
    return float((fields.get("watched_s") or 0.0) + (fields.get("live_s") or 0.0)) / 60


def _who(fields: Fields) -> str:
    """Return who somebody is, as far as the documents say, in one line. All visitors are one."""
    if "uuid" not in fields:
        return str(fields["viewer"]) if fields.get("huid") else "visitors"
    said = [str(fields[name]) for name in ("user_name", "user_email", "registrant_id") if fields.get(name)]
    return " · ".join(said) or str(fields["person"])


def _unmatched(source: str, found: Iterable[tuple[Fields, Match]], matcher: Matcher) -> list[Unmatched]:
    """Return everyone who was not matched, once for each reason."""
    groups: dict[tuple[str, Why], list[Fields]] = defaultdict(list)
    for fields, match in found:
        if isinstance(match.by, Why):
            groups[_who(fields), match.by].append(fields)
    rows = [
        Unmatched(
            source,
            who,
            why,
            tuple(sorted(matcher.named(group[0].get("user_name") or ""))),
            sum(map(_sessions, group)),
            round(sum(map(_minutes, group)), 1),
        )
        for (who, why), group in groups.items()
    ]
    return sorted(rows, key=lambda one: (list(Why).index(one.why), -one.minutes, one.who))


def _tally(source: str, found: Sequence[tuple[Fields, Match]]) -> Matched:
    by: Counter[str] = Counter()
    matched = 0
    for fields, match in found:
        sessions = _sessions(fields)
        by[match.by.value] += sessions
        matched += sessions * (match.student is not None)
    order = [*By, *Why]
    total = sum(by.values())
    people = {match.student if match.student is not None else _who(fields) for fields, match in found}
    return Matched(
        source,
        total,
        matched,
        total - matched,
        len(people),
        {kind.value: by[kind.value] for kind in order if by[kind.value]},
    )
