"""The process: what it refuses, and that connections are kept."""

import http.client
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import simulators.zoom
from simulators.zoom.options import parse_options

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "70000"], "argument --port: expected a whole number from 0 to 65535, got '70000'"),
        (["--meetings", "many"], "argument --meetings: expected a whole number of at least 0, got 'many'"),
        (["--people", "3"], "argument --people: expected a whole number of at least 4, got '3'"),
        (["--date", "yesterday"], "argument --date: expected a day like 2026-11-20, got 'yesterday'"),
        (["--now", "noon"], "argument --now: expected 'now' or an ISO time with a zone"),
        (["--plan", "gold"], "argument --plan: invalid choice: 'gold' (choose from"),
        (["--dashboard", "maybe"], "argument --dashboard: expected on or off, got 'maybe'"),
        (["--limit", "heavy=5"], "argument --limit: expected LABEL=CALLS/PERIOD like heavy=5/s"),
        (["--limit", "huge=5/s"], "argument --limit: expected LABEL=CALLS/PERIOD"),
        (["--limit", "heavy=5/.s"], "argument --limit: expected LABEL=CALLS/PERIOD"),
        (["--gateway-header", "X-Api-Key"], "argument --gateway-header: expected a header like"),
        (["--fault", "[3]"], "argument --fault:"),
        (["--fault", '{"kind": "x"}'], "argument --fault: kind: expected one of status, error"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option_and_exit_code_2(capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_the_day_is_yesterday_by_the_clock():
    assert parse_options(["--now", "2026-11-22T00:30:00+01:00"]).date == date(2026, 11, 20)
    before = datetime.now(UTC).date()
    assert (before - parse_options([]).date).days in (0, 1)


def test_help_names_the_options_and_the_control_interface():
    command = [sys.executable, "-m", "simulators.zoom", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=ROOT)
    assert ended.returncode == 0
    for word in ("--plan", "--limit", "--day-ends-in", "/_sim/", "127.0.0.1"):
        assert word in ended.stdout
    for option in set(re.findall(r"^  (--[a-z-]+)", ended.stdout, re.MULTILINE)):
        assert option in simulators.zoom.__doc__, f"the package's docstring does not name {option}"


def test_a_connection_is_kept_also_over_refusals(zoom):
    connection = http.client.HTTPConnection(urlsplit(zoom.url).netloc, timeout=60)
    connection.connect()
    socket = connection.sock
    headers = dict(zoom.session.headers)
    for path, login in (
        ("/v2/users", headers),
        ("/v2/users", {}),
        ("/v2/nothing", headers),
        ("/v2/users", headers),
    ):
        connection.request("GET", path, headers=login)
        connection.getresponse().read()
        assert connection.sock is socket
    connection.request("GET", "/v2/users", headers={**headers, "Connection": "close"})
    connection.getresponse().read()
    assert connection.sock is None
