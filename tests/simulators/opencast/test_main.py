"""The process: how it starts, what it prints, how it ends, what it refuses."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.opencast.options import parse_options

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "simulators.opencast"]


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=20, cwd=ROOT
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_one_line_and_ends_cleanly_on_a_signal(start, ending):
    simulator = start("--rows", 10)
    assert simulator.line.startswith("listening on http://127.0.0.1:")
    assert simulator.get("/usertracking/actions.json").status_code == 200
    simulator.process.send_signal(ending)
    assert simulator.process.wait(timeout=60) == 0
    assert simulator.process.stdout.read() == ""


def test_a_port_in_use_is_one_clear_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = run("--port", port)
    assert ended.returncode == 1
    assert ended.stderr == f"--port {port}: cannot listen on 127.0.0.1: Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "70000"], "argument --port: expected a whole number from 0 to 65535, got '70000'"),
        (["--rows", "many"], "argument --rows: expected a whole number of at least 0, got 'many'"),
        (["--seed", "x"], "argument --seed: expected a whole number, got 'x'"),
        (["--episodes", "0"], "argument --episodes: expected a whole number of at least 1, got '0'"),
        (["--zone", "Mars/Base"], "argument --zone: expected a zone like America/New_York, got 'Mars/Base'"),
        (["--zone", "America"], "argument --zone: expected a zone"),
        (["--until", "yesterday"], "argument --until: expected 'now' or an ISO time with a zone"),
        (["--until", "2026-11-20T16:00:00"], "argument --until: expected 'now' or an ISO time with a zone"),
        (["--span-seconds", "-1"], "argument --span-seconds: expected a number of at least 0, got '-1'"),
        (["--latency-ms", "inf"], "argument --latency-ms: expected a number of at least 0, got 'inf'"),
        (["--live-rate", "1", "--late-share", "1.5"], "--late-share: expected a number from 0 to 1, got '1.5'"),
        (["--late-share", "0.5"], "argument --late-share: expected together with --live-rate"),
        (["--profile", "oc99"], "argument --profile: invalid choice: 'oc99' (choose from"),
        (["--order", "random"], "argument --order: invalid choice"),
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


def test_a_bad_option_ends_the_process_with_exit_code_2():
    ended = run("--rows", "many")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "--rows" in ended.stderr


def test_help_names_the_options_and_the_control_interface():
    ended = run("--help")
    assert ended.returncode == 0
    for word in ("--profile", "--live-rate", "--start-503-seconds", "/_sim/", "127.0.0.1"):
        assert word in ended.stdout
