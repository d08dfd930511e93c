"""Flower's login, with and without the ways that lead around it."""

import base64
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from devservers import stack

LOGIN = "operator:secret-word"


def ask(process, path, login=None):
    """Return the status and the text of an answer."""
    request = urllib.request.Request(process.url + path)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@pytest.fixture(scope="module")
def flower(valkey_url, tmp_path_factory):
    """Flower as a person starts it by hand, in a folder with a `.env`."""
    port = stack.free_port()
    folder = tmp_path_factory.mktemp("flower")
    (folder / ".env").write_text(f"FLOWER_BASIC_AUTH='{LOGIN}'\nREDIS_URL={valkey_url}\n")
    process = stack.Child(
        "Flower",
        [
            *("sh", "-c", 'cd "$0" && exec "$@"', str(folder), sys.executable, "-m", "celery", "-A", "tasks"),
            *("flower", f"--address={stack.HOST}", f"--port={port}"),
        ],
        stack.says("Visit me at"),
        environment={"PYTHONPATH": str(stack.ROOT), "PYTHONUNBUFFERED": "1"},
        port=port,
        url=f"http://{stack.HOST}:{port}",
        deadline=90,
    )
    with process.start():
        yield process


@pytest.mark.parametrize("path", ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks"])
def test_nothing_is_shown_without_the_login_of_env(flower, path):
    assert ask(flower, path)[0] == 401
    assert ask(flower, path, "operator:other-word")[0] == 401


def test_with_it_pages_and_metrics_are_shown(flower):
    assert "uaharvest" not in ask(flower, "/metrics", LOGIN)[1]
    assert ask(flower, "/metrics", LOGIN)[0] == ask(flower, "/tasks", LOGIN)[0] == 200


def test_a_health_check_needs_none(flower):
    assert ask(flower, "/healthcheck") == (200, "OK")


def test_the_password_stands_in_no_command_line_and_no_log(flower):
    assert "secret-word" not in Path(f"/proc/{flower.pid}/cmdline").read_text()
    assert "secret-word" not in flower.output


@pytest.mark.parametrize("value", [None, "", "no-password"])
def test_it_does_not_start_without_a_login(valkey_url, value):
    environment = {"REDIS_URL": valkey_url, "PYTHONPATH": str(stack.ROOT)}
    if value is not None:
        environment["FLOWER_BASIC_AUTH"] = value
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--port={stack.free_port()}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "FLOWER_BASIC_AUTH" in done.stderr
    assert "user:password" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault
@pytest.mark.long
def test_it_remembers_over_a_restart_what_it_has_seen(flower):
    assert flower.running
    flower.stop()
    folder = Path(flower._command[3])
    assert list(folder.glob("flower.*"))
    flower.start()
    assert ask(flower, "/tasks", LOGIN)[0] == 200
