import json
import logging
import subprocess
import sys

import pytest

from devservers.stack import ROOT
from uaharvest import logs
from uaharvest.errors import SourceError
from uaharvest.settings import Settings

SECRET = "ann@example.edu"
FAILING = f"""
import structlog
from uaharvest import logs
logs.configure("info")
def read(row):
    return int(row)
try:
    read("{SECRET}")
except ValueError as error:
    structlog.get_logger().error("slice failed", exc_info=error)
"""


def fail(error, cause=None):
    raise error from cause


def raised(error, cause=None):
    try:
        fail(error, cause)
    except Exception as caught:  # noqa: BLE001 - it is what is shown
        return type(caught), caught, caught.__traceback__


def test_a_failure_is_logged_with_its_place_and_without_what_people_were_in_it():
    done = subprocess.run([sys.executable, "-c", FAILING], cwd=ROOT, capture_output=True, text=True, check=True)
    [line] = done.stderr.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"]) == ("slice failed", "error")
    assert entry["exception"].startswith("ValueError\n")
    assert "in read" in entry["exception"]
    assert SECRET not in line


def test_a_line_for_a_terminal_says_no_more(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.configure("info")
        logging.getLogger("x").error("failed", exc_info=raised(ValueError(SECRET)))
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert SECRET not in shown


def test_what_our_own_errors_say_is_shown_and_so_is_the_cause():
    found = logs.tracebacks(raised(SourceError("Opencast answered 500."), ValueError(SECRET)))
    assert found.startswith("SourceError: Opencast answered 500.\n")
    assert found.endswith("\nValueError")
    assert SECRET not in found


@pytest.mark.parametrize("suppressed", [True, False])
def test_what_was_being_handled_is_shown_unless_it_was_left_out_on_purpose(suppressed):
    error = ValueError()
    error.__context__ = KeyError(SECRET)
    error.__suppress_context__ = suppressed
    found = logs.tracebacks((ValueError, error, None))
    assert ("KeyError" in found) is not suppressed
    assert SECRET not in found


ROWS = f"""
import sqlalchemy, urllib3
from uaharvest import logs
logs.configure("debug")
engine = sqlalchemy.create_engine("sqlite://", hide_parameters=True)
with engine.connect() as connection:
    connection.execute(sqlalchemy.text("SELECT '{SECRET}'")).all()
try:
    urllib3.PoolManager().request("GET", "http://127.0.0.1:1/?account_id={SECRET}", retries=2)
except urllib3.exceptions.HTTPError:
    pass
"""


def test_at_level_debug_no_library_logs_rows_or_urls():
    done = subprocess.run([sys.executable, "-c", ROWS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert SECRET not in done.stderr


def test_on_a_terminal_nothing_foreign_is_obeyed(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.configure("info")
        logging.getLogger("x").error("said \x1b[2J\nnext", exc_info=raised(SourceError("\x1b[2J\nnext")))
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert r"said \x1b[2J\nnext" in shown
    assert r"SourceError: \x1b[2J\nnext" in shown


@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_closed_stderr_is_no_reason_to_end(level):
    code = f"from uaharvest import logs; logs.configure({level!r})"
    subprocess.run(["/bin/sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [(None, True, False), (None, False, True), ("json", True, True), ("console", False, False)],
)
def test_log_format_chooses_else_the_terminal_does(monkeypatch, capsys, form, terminal, is_json):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.configure("info", Settings(log_format=form))
        logging.getLogger("x").error("failed")
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("{") is is_json
    assert ("\x1b" in line) is (terminal and not is_json)
