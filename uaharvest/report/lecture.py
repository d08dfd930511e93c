"""What was watched of a lecture, as tables: along the recording, on the clock, and by its students."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from uaharvest.coerce import instant
from uaharvest.report import groups
from uaharvest.report.course import Cell, Course
from uaharvest.report.groups import ShownCount
from uaharvest.report.matching import Stay
from uaharvest.report.source import UNKNOWN, Fields
from uaharvest.report.tables import Column, Table

FIVE_MINUTES = 300
STEPS = 10  # bars of the distribution of coverage

RECORDING = (
    Column("from_s", "From", "position"),
    Column("to_s", "To", "position"),
    Column("viewers", "Viewers", "count", "retention"),
    Column("views", "Times played", "count", "views"),
    Column("again", "Played again", "count", "again"),
)
CLOCK = (
    Column("at", "Five minutes from", "instant"),
    Column("live", "Live", "count", "concurrency"),
    Column("zoom", "Zoom", "count", "concurrency"),
    Column("recorded", "Recording", "count", "concurrency"),
)
DAYS = (Column("day", "Day", "day"), Column("viewers", "Viewers", "count", "days"))
COVERAGE = (
    Column("from_share", "Seen from", "share"),
    Column("to_share", "to", "share"),
    Column("students", "Students", "count", "coverage"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Audience:
    """How many people watched a recording, live or later.

    Attributes:
        students: On the roster; they are shown one by one.
        viewers: All, whether on the roster or not.
        visitors: Those who were not logged in.
    """

    students: int
    viewers: ShownCount
    visitors: ShownCount


def audience(course: Course, place: int, least: int) -> Audience:
    """Return who watched a lecture in Opencast. What is shown of all viewers does not depend on the roster."""
    students = sum(1 for cell in course.column(place) if cell.live_s or cell.watched_s)
    _, visitors = course.others[place]
    return Audience(students, groups.count(len(course.viewers[place]), least), groups.count(visitors, least))


def along(recording: Fields, least: int) -> Table:
    """Return how often each part of a recording was played, and by how many."""
    step = recording.get("bin_s") or 30
    length = recording.get("duration_s") or step * len(recording.get("views") or ())
    rows: list[list[Any]] = []
    for n, (views, viewers) in enumerate(
        zip(recording.get("views") or (), recording.get("retention") or (), strict=False)
    ):
        shown = groups.count(viewers, least)
        # What few people did is theirs: how often it was played, and how often again.
        times = (
            [groups.Hidden("hidden")] * 2
            if isinstance(shown, groups.Hidden)
            else [groups.count(views, least), groups.count(max(0, views - viewers), least)]
        )
        rows.append([n * step, min((n + 1) * step, length), shown, *times])
    return Table("along", "Along the recording", RECORDING, rows)


def clock(recording: Fields, zoom: Iterable[Sequence[Stay]], zone: tzinfo, least: int) -> Table:
    """Return how many people watched at the same time, where these are not too few.

    Args:
        recording: The document.
        zoom: When each person was in the lecture's Zoom meetings.
        zone: Of the course.
        least: The fewest people to show.
    """
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in recording.get("concurrency") or ():
        if (at := instant(one.get("at"))) is not None:
            place = counts[int(at.timestamp() // FIVE_MINUTES)]
            place[0] += one.get("live") or 0
            place[2] += one.get("recorded") or 0
    for stays in zoom:
        for n in {
            n for since, until in stays for n in range(int(since // FIVE_MINUTES), -int(-until // FIVE_MINUTES))
        }:
            counts[n][1] += 1
    rows = [
        [datetime.fromtimestamp(n * FIVE_MINUTES, zone), *(groups.count(one, least) for one in numbers)]
        for n, numbers in sorted(counts.items())
        if any(one >= least for one in numbers)
    ]
    return Table("clock", "On the clock", CLOCK, rows)


def days(viewings: Iterable[Fields], zone: tzinfo, least: int) -> Table:
    """Return how many people played the recording on each day of the course's clock, from the first to the last."""
    counts: Counter[date] = Counter()
    for fields in viewings:
        times = [datetime.fromtimestamp(began, zone).date() for _, _, began, _ in fields.get("played") or ()]
        counts.update(set(times))
    if not counts:
        return Table("days", "By day", DAYS, [])
    first, last = min(counts), max(counts)
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return Table("days", "By day", DAYS, [[day, groups.count(counts[day], least)] for day in span])


def distribution(cells: Sequence[Cell]) -> Table:
    """Return how many students saw how much of a recording."""
    counts = [0] * STEPS
    for cell in cells:
        if cell.watched_s and cell.coverage is not None:
            counts[min(STEPS - 1, int(cell.coverage * STEPS))] += 1
    rows = [[n / STEPS, (n + 1) / STEPS, count] for n, count in enumerate(counts)]
    return Table("seen", "How much of the recording students saw", COVERAGE, rows)


def whereabouts(viewers: Collection[str], found: Mapping[str, tuple[str, str]], least: int) -> list[Table]:
    """Return how many viewers used which system most, and were in which country most.

    Args:
        viewers: Everyone who watched, whether on the roster or not.
        found: What is known of them.
        least: The fewest people to show.
    """
    tables = []
    for number, (name, caption) in enumerate((("devices", "Devices"), ("places", "Places"))):
        shown = groups.partition(Counter(found.get(who, (UNKNOWN, UNKNOWN))[number] for who in viewers), least)
        if shown.keys() - {UNKNOWN}:
            columns = (Column(name[:-1], caption[:-1]), Column("viewers", "Viewers", "count", "groups"))
            tables.append(Table(name, caption, columns, [[label, number] for label, number in shown.items()]))
    return tables


def last_seen(documents: Sequence[Fields]) -> datetime | None:
    """Return the time of the newest document."""
    found = [at for fields in documents if (at := instant(fields.get("@timestamp"))) is not None]
    return max(found, default=None, key=lambda at: at.astimezone(UTC))
