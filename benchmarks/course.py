"""`python -m benchmarks.course`: measures how long the pages of a course take, from documents to files."""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from simulators import course as simulated
from uaharvest.report import lectures
from uaharvest.report.course import Attending, Question, course
from uaharvest.report.pages import folder, model
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments

GOAL = 5.0  # seconds of CPU time: one thread, so what an idle machine takes
ZONE = ZoneInfo("America/New_York")


def make(truth: simulated.Simulated, path: Path) -> tuple[int, int]:
    """Make the pages of a simulated course; return how many lectures and students they show."""
    documents = CourseDocuments(truth.viewings, truth.recordings, truth.attendance, truth.whereabouts)
    roster = [
        Student(huid, (email.lower(),), first, last, registrant or None)
        for huid, email, first, last, registrant in truth.roster
    ]
    links = lectures.propose(documents.recordings, lectures.meetings(documents.attendance))
    found = lectures.lectures(documents, links, ZONE)
    question = Question(truth.series, "A course", 0.5, Attending.EITHER)
    whole = course(question, roster, found, documents)
    folder.write(model.site(whole, documents, model.Look(ZONE, 5)), path, {})
    return len(whole.lectures), len(whole.students)


def main() -> None:
    """Measure and print; exit with 1 if anything is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.course", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small course, to see that it works")
    size = (4, 30) if parser.parse_args().quick else (40, 300)
    truth = simulated.course(lectures=size[0], students=size[1])
    with tempfile.TemporaryDirectory() as temporary:
        began, used = time.perf_counter(), time.process_time()
        shown = make(truth, Path(temporary) / "report")
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    if shown != size:
        sys.exit(f"{shown} lectures and students are shown, not {size}")
    verdict = "met" if cpu < GOAL else "MISSED"
    print(
        f"\nA course of {size[0]} lectures and {size[1]} students, {len(truth.viewings):,} viewings: {cpu:.1f} s"
        f" of CPU time from documents to pages ({seconds:.1f} s in all), goal under {GOAL:.0f} s: {verdict}"
    )


if __name__ == "__main__":
    main()
