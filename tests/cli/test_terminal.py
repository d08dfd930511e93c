"""What a terminal, a pipe, a full disk and a person's typing errors get to see."""

import os
import pty
import re
import select
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from devservers import stack
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import BlockedError, Exit
from uaharvest.plain import lines, one_line

MANAGE = str(stack.ROOT / "manage.py")
# Rich's markup, an emoji's code, an escape sequence, a bell, a right-to-left override, lines within lines.
FOREIGN = "[/bold] [lower case] [link=x]y :smile: \x1b[2J\x1b]0;title\x07 \u202egpj.exe \x9b31m a\r\nb\u2028c"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, MANAGE, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def failing():
    """Fails in a command with what it is given, as the command line would."""

    def fail(error, *arguments):
        @click.command("fail")
        def command():
            raise error

        cli.add_command(command)
        try:
            return CliRunner().invoke(cli, [*arguments, "fail"], obj=Context(lambda: None))
        finally:
            del cli.commands["fail"]

    return fail


def test_nothing_foreign_is_left_that_a_terminal_would_obey():
    shown = one_line(FOREIGN)
    assert shown.isprintable()
    assert "[/bold] [lower case] [link=x]y :smile: " in shown
    assert r"\x1b[2J\x1b]0;title\x07 \u202egpj.exe \x9b31m a\r\nb\u2028c" in shown
    assert one_line("Zoë 日本 [x]") == "Zoë 日本 [x]"
    assert one_line("\udc80") == r"\udc80"
    assert lines("two\nlines\x1b") == "two\nlines\\x1b"


def test_what_a_server_says_is_shown_as_it_is_on_one_line(failing):
    done = failing(BlockedError(f"Zoom says: {FOREIGN}"))
    assert done.exit_code == Exit.BLOCKED
    assert done.stderr == f"Zoom says: {one_line(FOREIGN)}\n"


def test_an_unexpected_error_names_its_place_and_keeps_its_values_to_itself(failing):
    done = failing(ValueError("ann@example.edu"))
    assert done.exit_code == Exit.ERROR
    assert re.fullmatch(
        r"unexpected ValueError at test_terminal\.py, line \d+ \(`manage\.py --debug .*\n", done.stderr
    )
    with pytest.raises(ValueError, match="ann@"):
        raise failing(ValueError("ann@example.edu"), "--debug").exception


def test_what_was_typed_is_quoted_without_its_control_characters():
    done = run("run", "zoom", "--date", "\x1b[31m\n")
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    for arguments in (["status", "--\x1b[31mwhat"], ["--\x1b[31mwhat"], ["\x1b[31mwhat"]):
        done = run(*arguments)
        assert done.returncode == Exit.USAGE
        assert "\x1b" not in done.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}])
def test_a_terminal_that_knows_only_ascii_is_no_reason_to_end(environment):
    done = run("run", "zoom", "--date", "Zoë", **environment)
    assert done.returncode == Exit.USAGE
    assert "is not a date" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_that_is_closed_early_leaves_no_trace():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, MANAGE, "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == Exit.ERROR


def test_a_full_disk_is_one_line(tmp_path):
    documents = f"sqlite:///{tmp_path}/documents.db"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, MANAGE, "setup", "index-templates"],
            env={**os.environ, "DOCUMENTS_URL": documents},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == Exit.ERROR
    assert done.stderr == "No space left on device (`manage.py --debug ...` shows where)\n"


@pytest.mark.parametrize(
    "command", ["documents list", "documents export *", "export xapi --home-page http://a.example"]
)
def test_what_cannot_be_written_is_no_success(command, tmp_path):
    done = subprocess.run(
        ["/bin/sh", "-c", f'set -f; "$0" "$1" {command} >&-', sys.executable, MANAGE],
        env={**os.environ, "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (Exit.ERROR, 1), done.stderr
    assert done.stderr.startswith("stdout cannot be written (Bad file descriptor).")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_reason_for_a_trace(redirection):
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" "$1" documents list {redirection}', sys.executable, MANAGE],
        env={**os.environ, "DOCUMENTS_URL": "sqlite:///none.db"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in {Exit.DONE, Exit.ERROR}


@pytest.mark.parametrize("wait", ["86400", "61", "-1"])
@pytest.mark.parametrize("command", ["run useractions", "enqueue useractions", "run episodes", "enqueue episodes"])
def test_a_wait_has_a_maximum(command, wait):
    done = run(*command.split(), "--wait", wait)
    assert done.returncode == Exit.USAGE
    assert "--wait" in done.stderr
    assert "0<=x<=60" in done.stderr


def on_terminal(columns, *arguments, **environment):
    """Run manage.py on a pseudo terminal so wide; return what it writes there."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, MANAGE, *arguments],
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment},
        stdin=subprocess.DEVNULL,
        stdout=secondary,
        stderr=secondary,
    )
    os.close(secondary)
    written = b""
    while True:
        ready, _, _ = select.select([primary], [], [], 60)
        try:
            data = os.read(primary, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        if not data:
            break
        written += data
    os.close(primary)
    process.wait(60)
    return written.decode()


def test_a_misspelt_variable_of_the_environment_is_said_on_stderr():
    done = run("documents", "list", OPENCAST_TIMZONE="UTC", DOCUMENTS_URL="sqlite:///none.db")
    assert done.returncode == Exit.DONE
    [line] = [line for line in done.stderr.splitlines() if "OPENCAST_TIMZONE" in line]
    assert "OPENCAST_TIMEZONE" in line


def test_each_setting_that_cannot_be_used_has_a_line():
    done = run("status", HARVEST_LAG_SECONDS="a\x1bb", LOG_LEVEL="z")
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 2
    assert "\x1b" not in done.stderr


@pytest.fixture(scope="module")
def site(aws, tmp_path_factory):
    """The environment of a site that stands still, with what a server said of it in the ledger."""
    with stack.valkey() as server:
        environment = {
            "REDIS_URL": server.url,
            "S3_HARVEST_TS_BUCKET": "terminal",
            "SQS_QUEUE_NAME": "terminal",
            "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:1",
            "OPENCAST_PROFILE": "dce",
            "OPENCAST_TIMEZONE": "UTC",
        }
        loaded = settings.load(environment)
        assembly.watermarks(loaded).move(WATERMARK)
        assembly.state(loaded).failed("opening", BlockedError(f"the server says: {FOREIGN}"))
        yield environment


WATERMARK = datetime(2026, 3, 3, 12, 34, 56, tzinfo=UTC)
SHOWN = "2026-03-03 12:34:56"


def plain_text(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80, 120, 300])
def test_status_cuts_nothing_at_any_width(site, columns):
    shown = plain_text(on_terminal(columns, "status", **site))
    assert SHOWN in shown
    assert one_line(FOREIGN) in shown
    assert "…" not in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)


@pytest.mark.parametrize(
    "environment",
    [{}, {"FORCE_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"COLUMNS": "40"}, {"TERM": "dumb"}],
)
def test_a_pipe_has_no_width(site, environment):
    done = run("status", **site, **environment)
    assert done.returncode == Exit.BLOCKED, done.stderr
    assert ("\x1b" in done.stdout) is ("FORCE_COLOR" in environment and "NO_COLOR" not in environment)
    shown = plain_text(done.stdout)
    [row] = [line for line in shown.splitlines() if SHOWN in line and line.startswith("useractions ")]
    assert re.search(rf"^useractions +{SHOWN} .* 0$", row)  # from the first column to the last
    assert one_line(FOREIGN) in shown


def test_no_color_counts_on_a_terminal_too(site):
    assert "\x1b[3" in on_terminal(200, "status", **site)
    assert "\x1b" not in on_terminal(200, "status", NO_COLOR="1", **site)


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_status_can_be_read_in_ascii(site, environment):
    done = run("status", **site, **environment)
    assert done.returncode == Exit.BLOCKED, done.stderr
    assert SHOWN in done.stdout
    assert done.stdout.isascii()
    assert r"\xb7" not in done.stdout


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"]])
def test_status_into_a_closed_pipe_exits_as_the_harvest_stands(site, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, MANAGE, *arguments],
        env={**os.environ, **site},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == Exit.BLOCKED
