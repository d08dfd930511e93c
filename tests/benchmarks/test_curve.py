import re
import subprocess
import sys

import pytest

from benchmarks import curve
from benchmarks.curve import Point
from devservers import databases
from devservers.stack import ROOT

POINTS = [
    Point(1_000, 1, 0, seconds=1.0, cpu=0.03, memory=100),
    Point(10_000, 1, 0, seconds=10.9, cpu=0.3, memory=104),
    Point(1_000, 2, 0, seconds=0.5, cpu=0.03, memory=100),
    Point(10_000, 2, 0, seconds=6.0, cpu=None, memory=None),
]


def test_a_point_is_a_line_with_what_a_row_costs():
    assert curve.line(POINTS[1]) == "| 0 | 10,000 | 1 | 10.9 | 917 | 30.0 | 104 |"
    assert curve.line(POINTS[3]) == "| 0 | 10,000 | 2 | 6.0 | 1,667 | - | - |"


def test_time_is_linear_if_a_row_costs_at_most_a_tenth_more_among_many():
    alone, both = curve.verdict(POINTS).splitlines()
    assert "+9% time a row and +4 MB from 1,000 to 10,000 rows" in alone
    assert "not linear" not in alone
    assert both.endswith("1.8 times as fast as one worker; **not linear within 10 %**")


def test_the_plot_is_a_picture(tmp_path):
    curve.plot(POINTS, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.fault
@pytest.mark.long
@pytest.mark.skipif(databases.missing("mariadb") is not None, reason="needs Debian's mariadb-server")
def test_the_quick_curve_is_measured_once_each_row_has_arrived():
    command = [sys.executable, "-m", "benchmarks.curve", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^\| 10 \| [12],000 \| 1 \|", done.stdout, re.MULTILINE)) == 2
