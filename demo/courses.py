"""Two courses whose students watch and attend, and what the simulators know of it: the truth of the demo's reports.

Who is who, and what each of them does, is the same on every day.
"""

import csv
import dataclasses
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any

import requests

from devservers.site import Site
from simulators.course import Person, course

DAYS = 8  # of watching: each lecture's students begin on one of the first, and may come back on the next
LECTURES = 3  # of each course
PLAYERS = ("heartbeats", "footprints")  # of each course
ROSTERS = (slice(18), slice(12, 30))  # some take both courses
WATCH, COME, DROP_OUT = 0.8, 0.7, 0.2  # shares of students: who watch a recording, come to a class, drop out of it
NEVER_WATCH = 3  # the last of each roster
OUTSIDERS = ("91000001", "91000002")  # watch, but are on no roster
ATTENDED = {"live", "recording", "live and recording"}  # states of a report
THRESHOLD = 0.5  # the default of REPORT_THRESHOLD
ERROR = 0.01  # of what was seen, as a share of the recording: docs/viewing.md


@dataclasses.dataclass(frozen=True, slots=True)
class Lecture:
    """A recorded lecture."""

    mpid: str
    title: str
    start: datetime
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """A number of a report, the truth, and whether they agree, student by student."""

    what: str
    reported: str
    truth: str
    agree: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """A course and its truth.

    Attributes:
        students: The roster.
        seen: How much of a lecture a student saw, 0 to 1, by title and huid; absent: nothing.
        present: How much of the class in Zoom a student attended, 0 to 1, by huid.
        meeting: The class's number in Zoom; None without one. The class was the first lecture.
    """

    series: str
    title: str
    lectures: list[Lecture]
    students: list[Person]
    seen: dict[str, dict[str, float]]
    present: dict[str, float]
    meeting: str | None

    def write_roster(self, path: Path) -> None:
        """Write the roster as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["huid", "email", "first_name", "last_name"])
            rows.writerows([one.huid, one.email, one.first, one.last] for one in self.students)


def days() -> tuple[date, date]:
    """Return the first day on which students watch, and the day after the last; the live harvest is of later ones."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=DAYS + 2), today - timedelta(days=2)


def held(running: Site, day: date) -> list[Course]:
    """Let the students of two courses watch from a day on, and those of the second one attend a class in Zoom."""
    first = datetime.combine(day, time(17), UTC)
    people = course(lectures=0, students=ROSTERS[-1].stop).people
    found = []
    for number, (series, title, lectures) in enumerate(_recorded(running.opencast.url, first)):
        students = people[ROSTERS[number]]
        dice = Random(f"course {number}")  # noqa: S311 - viewers
        seen = {
            one.title: _watch(
                running.opencast.url, one, students, PLAYERS[number], first + timedelta(days=later), dice
            )
            for later, one in enumerate(lectures)
        }
        found.append(Course(series, title, lectures, students, seen, {}, None))
    present, meeting = _meet(running.zoom.url, found[1], Random("class"))  # noqa: S311 - students
    return [found[0], dataclasses.replace(found[1], present=present, meeting=meeting)]


def _recorded(opencast: str, before: datetime) -> list[tuple[str, str, list[Lecture]]]:
    """Return the first courses with enough lectures that were published before a time: series, title, lectures."""
    episodes = requests.get(f"{opencast}/_sim/episodes", timeout=60).json()["episodes"]
    by_series: dict[tuple[str, str], list[Lecture]] = defaultdict(list)
    for one in episodes:
        if one["state"] != "published" or not all(
            one[name] for name in ("series", "start_ms", "duration_ms", "title")
        ):
            continue
        start = datetime.fromtimestamp(one["start_ms"] / 1000, UTC)
        if start + timedelta(days=1) < before:
            lecture = Lecture(one["id"], one["title"], start, one["duration_ms"] / 1000)
            by_series[one["series"], one["series_title"]].append(lecture)
    chosen = [
        (series, title, sorted(lectures, key=lambda one: one.start)[:LECTURES])
        for (series, title), lectures in by_series.items()
        if len(lectures) >= LECTURES
    ]
    return chosen[: len(ROSTERS)]


def _watch(  # noqa: PLR0917
    opencast: str, lecture: Lecture, students: list[Person], player: str, first: datetime, dice: Random
) -> dict[str, float]:
    """Let most students watch a recording, on two evenings; return how much each of them saw, 0 to 1."""
    viewers = [one.huid for one in students[:-NEVER_WATCH] if dice.random() < WATCH] + [*OUTSIDERS]
    seen: dict[str, float] = {}
    for evening, users in enumerate((viewers[::2], viewers[1::2])):
        asked = {
            "users": users,
            "player": player,
            "mediapackage": lecture.mpid,
            "duration": lecture.seconds,
            "start": (first + timedelta(days=evening)).timestamp(),
            "seed": dice.randrange(10**6),
        }
        answer = _post(f"{opencast}/_sim/viewers", asked)
        seen |= {one["user"]: one["seen_s"] / lecture.seconds for one in answer["viewers"]}
    return seen


def _meet(zoom: str, course_: Course, dice: Random) -> tuple[dict[str, float], str]:
    """Hold the first lecture in Zoom too; return how much of it each student attended, 0 to 1, and its number.

    Students come late, leave early, and some drop out for a while. A guest comes too.
    """
    lecture = course_.lectures[0]
    begin, seconds = int(lecture.start.timestamp()), int(lecture.seconds)
    present, sessions = {}, []
    coming = [one for one in course_.students if (one.account or one.named) and dice.random() < COME]
    for number, one in enumerate(coming):
        late, early = dice.randrange(600), int(dice.random() ** 2 * seconds)
        stays = [(late, max(late + 600, seconds - early))]
        if dice.random() < DROP_OUT:
            middle = sum(stays[0]) // 2
            stays = [(late, middle), (middle + 120, stays[0][1])]
        present[one.huid] = sum(until - since for since, until in stays) / seconds
        sessions += [_session(number, one.shown, one, begin + since, begin + until) for since, until in stays]
    sessions.append(_session(len(coming), "Guest Speaker", None, begin, begin + seconds))
    made = _post(
        f"{zoom}/_sim/meetings",
        {
            "start": lecture.start.isoformat(),
            "seconds": seconds,
            "topic": course_.title,
            "sessions": sessions,
        },
    )
    return present, str(made["id"])


def _session(number: int, shown: str, person: Person | None, joined: int, left: int) -> dict[str, Any]:
    account = person and person.account
    return {
        "person": number,
        "user_name": shown,
        "id": account or "",
        "participant_user_id": account or "",
        "email": person.email if person and account else "",
        "registrant_id": "",
        "role": "attendee",
        "join_ms": joined * 1000,
        "leave_ms": left * 1000,
    }


def _post(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    answer = requests.post(url, json=asked, timeout=60)
    answer.raise_for_status()
    return answer.json()  # type: ignore[no-any-return] # an object, by the simulators' control interfaces


def compared(one: Course, folder: Path) -> list[Compared]:
    """Compare a course's report with the truth.

    Args:
        one: The course.
        folder: The report, as `manage.py report course` writes it.
    """
    numbers = {row["lecture"]: int(row["number"]) for row in _read(folder / "lectures.csv")}
    rows = {row["huid"]: row for row in _read(folder / "attendance.csv")}
    attended, true_attended = set(), set()
    seen, true_seen = [], []
    for lecture in one.lectures:
        prefix = f"{numbers[lecture.title]:02}"
        present = one.present if lecture is one.lectures[0] else {}
        for student in one.students:
            row, share = rows[student.huid], one.seen[lecture.title].get(student.huid, 0.0)
            if row[f"{prefix}_state"] in ATTENDED:
                attended.add((lecture.title, student.huid))
            if max(share, present.get(student.huid, 0.0)) >= THRESHOLD:
                true_attended.add((lecture.title, student.huid))
            seen.append(float(row[f"{prefix}_seen"]))
            true_seen.append(share)
    mean, true_mean = sum(seen) / len(seen), sum(true_seen) / len(true_seen)
    found = [
        Compared(
            "lectures attended", f"{len(attended)}", f"{len(true_attended)}", agree=attended == true_attended
        ),
        Compared("seen of recordings", f"{mean:.1%}", f"{true_mean:.1%}", agree=abs(mean - true_mean) <= ERROR),
    ]
    if one.meeting:
        live = f"{numbers[one.lectures[0].title]:02}_live"
        came = {huid for huid, row in rows.items() if float(row[live] or 0)}
        found.append(
            Compared("students in Zoom", f"{len(came)}", f"{len(one.present)}", agree=came == set(one.present))
        )
    return found


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
