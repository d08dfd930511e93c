"""What a person sees of the progress."""

import io
import re
import time

import pytest
from rich.console import Console

from uaharvest.cli.progress import STILL, RateEstimate, _bar, shown
from uaharvest.runs.watch import Snapshot


def snapshot(*, done=1, records=100, ended=False, windows=1):
    return Snapshot(
        window=1, windows=windows, done=done, planned=4, records=records, expected=400, dead=0, ended=ended
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when the test says so."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_and_what_is_left_are_told(clock):
    told = RateEstimate()
    clock[0] += 10
    assert told.pace(snapshot()) == "10/s    about 30 s left"


def test_at_the_end_nothing_is_left(clock):
    told = RateEstimate()
    clock[0] += 10
    assert told.pace(snapshot(ended=True)) == "10/s"


def test_elsewhere_than_on_a_terminal_there_are_plain_lines_on_stderr_at_intervals(clock, capsys):
    with shown(wanted=True) as show:
        for _ in range(12):
            show(snapshot(windows=3))
            clock[0] += 1
        show(snapshot(done=4, records=400, ended=True))
    written = capsys.readouterr()
    lines = written.err.splitlines()
    assert written.out == ""
    assert len(lines) == 4
    assert lines[0].startswith("window 1/3, slices 1/4, records 100, ")
    assert lines[-1].startswith("slices 4/4, records 400, ")


def test_unwanted_nothing_is_shown(capsys):
    with shown(wanted=False) as show:
        show(snapshot(ended=True))
    assert capsys.readouterr() == ("", "")


def test_if_nothing_moves_for_long_it_is_said_once(clock):
    said = []
    with shown(wanted=True, on_still=lambda: said.append("still")) as show:
        show(snapshot())
        for _ in range(3):
            clock[0] += STILL + 1
            show(snapshot())
    assert said == ["still"]


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_a_narrow_terminal_cuts_nothing(columns):
    written = io.StringIO()
    console = Console(file=written, width=columns, force_terminal=True, color_system=None)
    with _bar(console) as show:
        show(snapshot(done=3, records=1_234_567, windows=48))
    assert "…" not in written.getvalue()
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).split()
    assert {"1/48", "slices", "3/4", "records", "1,234,567"} <= set(words)


def test_a_pipe_gets_no_bar_even_with_force_color(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown(wanted=True) as show:
        show(snapshot(ended=True))
    assert "\x1b" not in capsys.readouterr().err
