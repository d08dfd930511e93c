"""A simulated course, as documents and as pages."""

import dataclasses
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from simulators import course as simulated
from uaharvest.report import lectures as lectures_
from uaharvest.report.course import Attending, Course, Question, course
from uaharvest.report.pages import folder, model
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments

ZONE = ZoneInfo("America/New_York")


@dataclasses.dataclass
class Made:
    """A report, and what it was made of."""

    documents: CourseDocuments
    course: Course
    site: model.ReportPages
    folder: Path


def made(
    path,
    *,
    lectures=5,
    students=80,
    least=5,
    rule=Attending.EITHER,
    title="Linguistics <1>",
    truth=None,
    **look,
):
    """Make a report on a simulated course."""
    truth = truth or simulated.course(lectures=lectures, students=students)
    documents = CourseDocuments(truth.viewings, truth.recordings, truth.attendance, truth.whereabouts)
    roster = [
        Student(huid, (email.lower(),), first, last, registrant or None)
        for huid, email, first, last, registrant in truth.roster
    ]
    links = lectures_.propose(documents.recordings, lectures_.meetings(documents.attendance))
    found = lectures_.lectures(documents, links, ZONE)
    whole = course(Question(truth.series, title, 0.5, rule), roster, found, documents)
    site = model.site(whole, documents, model.Appearance(ZONE, least, **look))
    folder.write(site, path, {"meetings.csv": "uuid,mpid\r\n"})
    return Made(documents, whole, site, path)


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A report that many tests look at; do not change it."""
    return made(tmp_path_factory.mktemp("reports") / "course")


@pytest.fixture
def make():
    return made
