"""The demo's comparison of a report with the truth."""

import dataclasses
from datetime import UTC, datetime

import pytest

from demo.courses import Course, Lecture, compared
from simulators.course import course

ANN, BEN, _ = course(lectures=0, students=3).people
LECTURES = [
    Lecture("a", "Sounds", datetime(2026, 1, 26, 15, tzinfo=UTC), 3600),
    Lecture("b", "Signs", datetime(2026, 1, 28, 15, tzinfo=UTC), 3600),
]
SEEN = {"Sounds": {ANN.huid: 0.2, BEN.huid: 0.6}, "Signs": {BEN.huid: 0.3}}
TRUTH = Course("1", "Course 1", LECTURES, [ANN, BEN], SEEN, {ANN.huid: 0.9}, "91234567890")
REPORT = {
    "lectures": "number,lecture\n2,Signs\n1,Sounds\n",
    "attendance": "huid,01_state,01_live,01_seen,02_state,02_live,02_seen\n"
    f"{ANN.huid},live,0.9,0.2011,nothing,0.0,0.0\n"
    f"{BEN.huid},recording,0.0,0.6,below the threshold,0.0,0.3\n",
}


@pytest.fixture
def report(tmp_path):
    for name, text in REPORT.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    return tmp_path


def test_a_report_that_says_the_truth_agrees_with_it(report):
    found = [(one.reported, one.truth, one.agree) for one in compared(TRUTH, report)]
    assert found == [("2", "2", True), ("27.5%", "27.5%", True), ("1", "1", True)]


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        (
            {"seen": {**SEEN, "Sounds": {ANN.huid: 0.6, BEN.huid: 0.2}}},
            ["lectures attended"],
        ),  # their mean is the same
        ({"seen": {**SEEN, "Signs": {BEN.huid: 0.35}}}, ["seen of recordings"]),
        ({"present": {ANN.huid: 0.9, BEN.huid: 0.1}}, ["students in Zoom"]),
    ],
)
def test_a_report_that_says_something_else_does_not_agree(report, changed, wrong):
    assert [one.what for one in compared(dataclasses.replace(TRUTH, **changed), report) if not one.agree] == wrong


def test_a_course_without_a_class_has_nobody_in_zoom(report):
    found = compared(dataclasses.replace(TRUTH, meeting=None), report)
    assert [one.what for one in found] == ["lectures attended", "seen of recordings"]
