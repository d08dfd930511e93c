"""What the pages of a report show: tables, figures and the names of files."""

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from statistics import fmean
from typing import Any

from uaharvest.report import groups, lecture
from uaharvest.report.course import Attending, Cell, Course, State
from uaharvest.report.lectures import Lecture
from uaharvest.report.matching import Stay
from uaharvest.report.source import CourseDocuments, Fields
from uaharvest.report.tables import UNKNOWN, Column, Table, clock, percent, wall

RULES = {
    Attending.LIVE: "was there live for at least {} of it",
    Attending.RECORDING: "saw at least {} of the recording",
    Attending.EITHER: "was there live for at least {} of it, or saw at least {} of the recording",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A number with its label and the anchor of its definition."""

    value: str
    label: str
    term: str
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """A chart, which the page draws from its table.

    Attributes:
        kind: Which chart of report.js.
        title: Its heading.
        said: What it shows, as a sentence, for those who cannot see it.
        extra: More that the script needs, by name.
    """

    kind: str
    title: str
    said: str
    table: Table
    term: str
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A student's line in the table of a course.

    Attributes:
        cells: For each lecture: what the student did in words, a value to sort by, and a style.
    """

    name: str
    huid: str
    attended: int
    share: float
    cells: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class LecturePage:
    """The page of one lecture."""

    file: str
    lecture: Lecture
    when: str
    figures: Sequence[Figure]
    charts: Sequence[Chart]
    students: Table
    tables: Sequence[Table]
    notes: Sequence[str]

    @property
    def all_tables(self) -> list[Table]:
        """Return all tables, for their CSV files."""
        return [self.students, *(chart.table for chart in self.charts), *self.tables]


@dataclasses.dataclass(frozen=True, slots=True)
class ReportPages:
    """All pages."""

    title: str
    series: str
    rule: str
    until: str
    zone: str
    least: int
    pseudonyms: bool
    figures: Sequence[Figure]
    chart: Chart
    attendance: Table
    rows: Sequence[Row]
    lectures: Sequence[LecturePage]
    unmatched: Table
    tallies: Table


@dataclasses.dataclass(frozen=True, slots=True)
class Appearance:
    """How a report is shown.

    Attributes:
        least: The fewest people in a group that is shown.
        pseudonyms: Show numbers in place of names and ids.
        seed: Of the pseudonyms; None: a new order each time, which nobody can repeat.
    """

    zone: tzinfo
    least: int
    pseudonyms: bool = False
    seed: int | None = None


def site(course: Course, documents: CourseDocuments, look: Appearance) -> ReportPages:
    """Return what all pages of a course show."""
    people = _people(course, look)
    by_recording: dict[str, list[Fields]] = defaultdict(list)
    for fields in documents.viewings:
        by_recording[fields["mpid"]].append(fields)
    pages = [
        _lecture(course, place, documents, by_recording.get(one.key, ()), people, look)
        for place, one in enumerate(course.lectures)
    ]
    until = lecture.last_seen([*documents.viewings, *documents.attendance])
    return ReportPages(
        title=course.title,
        series=course.series,
        rule=rule(course),
        until=_when(until, look.zone),
        zone=str(look.zone),
        least=look.least,
        pseudonyms=look.pseudonyms,
        figures=_figures(course),
        chart=_over_time(course, look.zone, [page.file for page in pages]),
        attendance=_attendance(course, people),
        rows=_rows(course, people),
        lectures=pages,
        unmatched=_unmatched(course, people, look),
        tallies=_tallies(course, look),
    )


def rule(course: Course) -> str:
    """Return what counts as attending, as the end of a sentence."""
    share = percent(course.threshold)
    return RULES[course.rule].format(share, share)


def _people(course: Course, look: Appearance) -> list[tuple[str, str]]:
    """Return the name and the id under which each student is shown."""
    if not look.pseudonyms:
        return [(student.name, student.huid) for student in course.students]
    chance = random.SystemRandom() if look.seed is None else random.Random(look.seed)  # noqa: S311 - only tests seed
    numbers = list(range(1, len(course.students) + 1))
    chance.shuffle(numbers)
    width = len(str(len(numbers)))
    return [(f"Student {number:0{width}}", f"{number:0{width}}") for number in numbers]


def _when(at: datetime | None, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%A, %-d %B %Y, %H:%M}" if at else "at an unknown time"


def _figures(course: Course) -> list[Figure]:
    lectures, students = len(course.lectures), len(course.students)
    attended = [sum(cell.attended for cell in row) for row in course.cells]
    seen = [cell.coverage for row in course.cells for cell in row if cell.watched_s and cell.coverage is not None]
    share = fmean(attended) / lectures if lectures else 0.0
    return [
        Figure(f"{students:,}", "students", "roster"),
        Figure(f"{lectures:,}", "lectures", "lecture"),
        Figure(percent(share), "attended on average", "attended", f"{fmean(attended):.1f} of {lectures} lectures"),
        Figure(
            percent(fmean(seen)) if seen else UNKNOWN,
            "of a recording seen",
            "coverage",
            "by those who played it",
        ),
    ]


def _counts(cells: Sequence[Cell]) -> list[int]:
    states = Counter(cell.state for cell in cells)
    present = sum(cell.attended for cell in cells)
    return [present, len(cells) - present, *(states[state] for state in State)]


def _over_time(course: Course, zone: tzinfo, files: Sequence[str]) -> Chart:
    columns = (
        Column("number", "No.", "count"),
        Column("start", "Began", "instant"),
        Column("lecture", "Lecture"),
        Column("present", "Present", "count", "attended"),
        Column("absent", "Absent", "count", "attended"),
        Column("live", "Only live", "count", "live"),
        Column("recording", "Only recording", "count", "recording"),
        Column("both", "Both", "count", "both"),
        Column("below", "Below", "count", "below"),
        Column("nothing", "Nothing", "count", "nothing"),
    )
    rows: list[list[Any]] = []
    for place, one in enumerate(course.lectures):
        start = one.start.astimezone(zone) if one.start else None
        rows.append([one.number, start, one.title, *_counts(course.column(place))])
    table = Table("lectures", "The lectures", columns, rows, files)
    said = f"For each of {len(rows)} lectures, how many of {len(course.students)} students attended it, and how."
    return Chart(
        "lectures", "Attendance over time", said, table, "attended", {"students": str(len(course.students))}
    )


def _attendance(course: Course, people: Sequence[tuple[str, str]]) -> Table:
    columns = [Column("huid", "Id"), Column("name", "Name"), Column("attended", "Attended", "count")]
    for one in course.lectures:
        columns += [
            Column(f"{one.number:02}_state", f"{one.number}"),
            Column(f"{one.number:02}_live", f"{one.number} live", "share"),
            Column(f"{one.number:02}_seen", f"{one.number} seen", "share"),
        ]
    rows: list[list[Any]] = []
    for (name, huid), cells in zip(people, course.cells, strict=True):
        row: list[Any] = [huid, name, sum(cell.attended for cell in cells)]
        for cell in cells:
            row += [cell.state.value, cell.live, cell.coverage]
        rows.append(row)
    return Table("attendance", "Attendance", columns, rows)


def _rows(course: Course, people: Sequence[tuple[str, str]]) -> list[Row]:
    rows = []
    for (name, huid), cells in zip(people, course.cells, strict=True):
        attended = sum(cell.attended for cell in cells)
        rows.append(
            Row(name, huid, attended, attended / len(cells) if cells else 0.0, [_mark(cell) for cell in cells])
        )
    return rows


def _mark(cell: Cell) -> tuple[str, str, str]:
    words = []
    if cell.live:
        words.append(f"{percent(cell.live)} live")
    if cell.coverage:
        words.append(f"{percent(cell.coverage)} of the recording")
    best = max(cell.live or 0.0, cell.coverage or 0.0)
    return ", ".join(words) or "nothing", str(best), cell.state.name.lower()


def _lecture(  # noqa: PLR0917
    course: Course,
    place: int,
    documents: CourseDocuments,
    viewings: Sequence[Fields],
    people: Sequence[tuple[str, str]],
    look: Appearance,
) -> LecturePage:
    one = course.lectures[place]
    file = f"lecture-{one.number:02}"
    cells = course.column(place)
    figures = _lecture_figures(one, cells)
    seen = lecture.audience(course, place, look.least)
    notes = []
    if one.recording is None:
        notes.append("This lecture has no recording in Opencast.")
    else:
        figures += _audience(seen)
        if isinstance(seen.viewers, groups.Hidden) or not seen.viewers:
            notes.append(f"Fewer than {look.least} people watched in Opencast, so no more is shown of it.")
    if one.meetings:
        figures.append(_in_zoom(course.zoom[place], look.least))
    charts = _charts(course, place, viewings, seen, look, file)
    found = lecture.whereabouts(course.viewers[place], documents.whereabouts.get(one.key, {}), look.least)
    tables = [_named(file, table) for table in found]
    return LecturePage(
        file=f"{file}.html",
        lecture=one,
        when=_when(one.start, look.zone) if one.start else "at an unknown time",
        figures=figures,
        charts=charts,
        students=_students(file, cells, people),
        tables=tables,
        notes=notes,
    )


def _named(file: str, table: Table) -> Table:
    return dataclasses.replace(table, name=f"{file}-{table.name}")


def _lecture_figures(one: Lecture, cells: Sequence[Cell]) -> list[Figure]:
    present, absent, *_ = _counts(cells)
    live = sum(cell.state in {State.LIVE, State.BOTH} for cell in cells)
    saw = sum(cell.state in {State.RECORDING, State.BOTH} for cell in cells)
    return [
        Figure(f"{present:,}", "present", "attended", f"{absent:,} absent"),
        Figure(f"{live:,}", "live", "live", f"{clock(one.length_s)} long" if one.length_s else "length unknown"),
        Figure(f"{saw:,}", "by the recording", "recording"),
    ]


def _audience(seen: lecture.Audience) -> list[Figure]:
    visitors = f"{seen.visitors} not logged in" if seen.visitors else ""
    return [
        Figure(f"{seen.students:,}", "students watched in Opencast", "viewers"),
        Figure(str(seen.viewers), "viewers in all", "others", visitors),
    ]


def _in_zoom(people: Sequence[tuple[int | None, Sequence[Stay]]], least: int) -> Figure:
    students = sum(student is not None for student, _ in people)
    return Figure(
        f"{students:,}", "students in Zoom", "matching", f"{groups.count(len(people), least)} people in all"
    )


def _charts(  # noqa: PLR0917
    course: Course, place: int, viewings: Sequence[Fields], seen: lecture.Audience, look: Appearance, file: str
) -> list[Chart]:
    one = course.lectures[place]
    recording = one.recording or {}
    charts = []
    along = _named(file, lecture.along(recording, look.least))
    if along.rows and isinstance(seen.viewers, int) and seen.viewers:
        most = max(along.rows, key=lambda row: row[3] if isinstance(row[3], int) else 0)
        said = "How often each part of the recording was played, and by how many viewers."
        if isinstance(most[3], int) and most[3]:
            said += f" Most often from {clock(most[0])} to {clock(most[1])}: {most[3]} times."
        charts.append(Chart("along", "What was watched, and watched again", said, along, "views"))
    times = _named(
        file, lecture.clock(recording, [stays for _, stays in course.zoom[place]], look.zone, look.least)
    )
    if times.rows:
        said = (
            f"How many people watched at the same time: live, in Zoom, and the recording. Times with fewer than"
            f" {look.least} are left out."
        )
        start = {"start": str(wall(one.start.astimezone(look.zone)))} if one.start else {}
        extra = {**start, "length": f"{one.length_s or 0:.0f}"}
        charts.append(Chart("clock", "Watching at the same time", said, times, "concurrency", extra))
    by_day = _named(file, lecture.days(viewings, look.zone, look.least))
    if any(isinstance(row[1], int) and row[1] for row in by_day.rows):
        said = "How many people played the recording on each day."
        charts.append(Chart("days", "When the recording was watched", said, by_day, "days"))
    seen_table = _named(file, lecture.distribution(course.column(place)))
    if any(row[2] for row in seen_table.rows):
        said = "How many students saw how much of the recording."
        charts.append(Chart("seen", "How much of it students saw", said, seen_table, "coverage"))
    return charts


def _students(file: str, cells: Sequence[Cell], people: Sequence[tuple[str, str]]) -> Table:
    columns = (
        Column("name", "Name"),
        Column("huid", "Id"),
        Column("state", "Attended", "state", "attended"),
        Column("attended", "Counts", "state", "attended"),
        Column("live_share", "Live", "share", "live"),
        Column("live_min", "Opencast, min", "minutes", "live"),
        Column("zoom_min", "Zoom, min", "minutes", "live"),
        Column("seen_share", "Recording", "share", "coverage"),
        Column("watched_min", "Played, min", "minutes", "watched"),
        Column("again_min", "Again, min", "minutes", "again"),
    )
    rows = [
        [
            name,
            huid,
            cell.state.value,
            "yes" if cell.attended else "no",
            cell.live,
            *(round(seconds / 60, 1) for seconds in (cell.live_s, cell.zoom_s)),
            cell.coverage,
            *(round(seconds / 60, 1) for seconds in (cell.watched_s, cell.again_s)),
        ]
        for (name, huid), cell in zip(people, cells, strict=True)
    ]
    return Table(f"{file}-students", "Students", columns, rows)


def _unmatched(course: Course, people: Sequence[tuple[str, str]], look: Appearance) -> Table:
    columns = (
        Column("source", "Source"),
        Column("who", "Who"),
        Column("why", "Why", "text", "matching"),
        Column("could_be", "Could be"),
        Column("sessions", "Sessions", "count", "sessions"),
        Column("minutes", "Minutes", "minutes"),
    )
    rows: list[list[Any]] = []
    # The list helps to complete the roster; with pseudonyms it would only show groups that are too small.
    for one in () if look.pseudonyms else course.unmatched:
        could_be = "; ".join(people[student][0] for student in one.could_be)
        rows.append([one.source, one.who, one.why.value, could_be, one.sessions, one.minutes])
    return Table("unmatched", "Everyone who was not matched", columns, rows)


def _tallies(course: Course, look: Appearance) -> Table:
    columns = (
        Column("source", "Source"),
        Column("what", "By"),
        Column("sessions", "Sessions", "count", "sessions"),
    )
    rows: list[list[Any]] = []
    for tally in course.tallies:
        if not tally.sessions:
            continue
        matched = {f"matched by {by}": n for by, n in tally.by.items() if by in _BY}
        others = {f"not matched: {by}": n for by, n in tally.by.items() if by not in _BY}
        sums = {"all not matched": tally.unmatched, "all": tally.sessions}
        if look.pseudonyms:
            others, sums = {}, {}
        shown = {**matched, **others, "all matched": tally.matched, **sums}
        rows += [[tally.source, what, n] for what, n in shown.items()]
    return Table("sessions", "Sessions", columns, rows)


_BY = frozenset({"huid", "e-mail", "registrant", "account", "name"})
