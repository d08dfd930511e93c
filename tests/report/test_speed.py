"""How long a report takes, in CPU time, so that a busy machine makes little difference."""

import time

from simulators import course as simulated


def test_forty_lectures_and_three_hundred_students_take_less_than_five_seconds(make, tmp_path):
    truth = simulated.course(lectures=40, students=300)
    started = time.process_time()
    report = make(tmp_path / "out", truth=truth)
    assert time.process_time() - started < 5
    assert (len(report.course.lectures), len(report.course.students)) == (40, 300)
