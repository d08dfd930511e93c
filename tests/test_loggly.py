"""Log lines at a stand-in for Loggly that is well, hangs or refuses; what is logged never waits for it."""

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time

import pytest
import structlog

from devservers import stack
from uaharvest import loggly, logs
from uaharvest.settings import Settings

TOKEN = "0a1b2c3d-token-of-loggly"
DEADLINE = 30


class Loggly:
    """A stand-in whose answers are `statuses`, the last one for ever; "hang": it does not answer."""

    def __init__(self, server):
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.statuses = [200]
        self.requests = []
        self.came = threading.Condition()
        self.over = threading.Event()

    @property
    def lines(self):
        return [json.loads(line) for _, body in self.requests for line in body.splitlines()]

    def until(self, condition):
        with self.came:
            assert self.came.wait_for(condition, DEADLINE)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        stand_in = self.server.stand_in
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with stand_in.came:
            status = stand_in.statuses.pop(0) if len(stand_in.statuses) > 1 else stand_in.statuses[0]
            stand_in.requests.append((self.path, body))
            stand_in.came.notify_all()
        if status == "hang":
            stand_in.over.wait()
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def stand_in():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.stand_in = stand_in = Loggly(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield stand_in
        stand_in.over.set()
        server.shutdown()


@pytest.fixture
def log_to(stand_in, monkeypatch, capsys):
    """Configure logging as a process does, with the stand-in in place of Loggly."""
    monkeypatch.setattr(loggly, "HOST", stand_in.url)
    monkeypatch.setattr(loggly, "LINGER", 0.05)
    monkeypatch.setattr(loggly, "RETRY", 0.05)
    root = logging.getLogger()
    before = root.handlers, root.level

    def configure(**settings):
        logs.configure("warning", Settings(loggly_token=TOKEN, **settings))
        return structlog.get_logger()

    yield configure
    for handler in root.handlers:
        handler.close()
    root.handlers, level = before
    root.setLevel(level)
    structlog.reset_defaults()


def end():
    """Do as the end of a process does."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def test_lines_come_as_json_with_the_tags_from_log_level_on(stand_in, log_to, capsys):
    log_to(loggly_tags=("site-a", "test")).info("run closed", found=3)
    stand_in.until(lambda: stand_in.lines)
    [(path, _)] = stand_in.requests
    assert path == f"/bulk/{TOKEN}/tag/uaharvest,site-a,test/"
    [line] = stand_in.lines
    assert (line["event"], line["found"], line["level"]) == ("run closed", 3, "info")
    assert line["timestamp"].endswith("Z")
    assert capsys.readouterr().err == ""  # stderr has its own level


def test_the_end_of_a_process_sends_what_is_left(stand_in, log_to, monkeypatch):
    monkeypatch.setattr(loggly, "LINGER", 60)
    log_to().warning("last words")
    end()
    assert [line["event"] for line in stand_in.lines] == ["last words"]


def test_a_loggly_that_fails_for_a_while_gets_every_line_later(stand_in, log_to, capsys):
    stand_in.statuses = [500, 503, 200]
    log_to().warning("once")
    stand_in.until(lambda: len(stand_in.requests) == 3)
    end()
    assert stand_in.requests[-1][1].count("once") == 1
    said = capsys.readouterr().err
    assert "Loggly does not take log lines: it answered 500" in said
    assert TOKEN not in said


def test_a_wrong_token_is_said_once_and_counted(stand_in, log_to, capsys):
    stand_in.statuses = [403]
    log = log_to()
    for number in range(3):
        log.warning("unwanted")
        stand_in.until(lambda: len(stand_in.requests) > number)  # noqa: B023 - called at once
    end()
    said = capsys.readouterr().err
    assert said.count("it answered 403, check LOGGLY_TOKEN. Dropped so far: 1") == 1
    assert "Loggly has not taken 3 of its log lines" in said
    assert TOKEN not in said


def test_who_logs_never_waits_for_a_loggly_that_hangs_and_what_is_too_much_is_counted(
    stand_in, log_to, monkeypatch, capsys
):
    monkeypatch.setattr(loggly, "MOST_WAITING", 100)
    stand_in.statuses = ["hang"]
    log = log_to()
    log.warning("first")
    stand_in.until(lambda: stand_in.requests)
    began = time.monotonic()
    for _ in range(1000):
        log.info("more")
    assert len(logging.getLogger().handlers[-1]._waiting) == 100
    end()
    assert time.monotonic() - began < DEADLINE / 2  # loggly.TIMEOUT would be 10 s for each of them
    assert "Loggly has not taken 1001 of its log lines" in capsys.readouterr().err


SITE = "import uaharvest.loggly; uaharvest.loggly.HOST = {url!r}"


@pytest.fixture
def elsewhere(stand_in, tmp_path):
    """The environment of a process whose Loggly is the stand-in."""
    (tmp_path / "sitecustomize.py").write_text(SITE.format(url=stand_in.url))
    return {"PYTHONPATH": f"{tmp_path}:{stack.ROOT}", "LOGGLY_TOKEN": TOKEN, "LOGGLY_TAGS": "here"}


def test_a_command_ends_although_loggly_hangs(stand_in, elsewhere):
    stand_in.statuses = ["hang"]
    code = "import structlog; from uaharvest import logs, settings"
    code += "; logs.configure('warning', settings.current()); structlog.get_logger().warning('bye')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **elsewhere},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert "Loggly has not taken 1 of its log lines" in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.fault
@pytest.mark.long
def test_each_process_of_a_worker_sends_its_own_lines(stand_in, elsewhere, redis, valkey_url):
    """The pool's processes are forked after logging was configured, and threads do not survive that."""
    environment = {**elsewhere, "REDIS_URL": valkey_url}
    with stack.celery(
        "worker", "--concurrency", "2", "--max-tasks-per-child", "1", environment=environment
    ) as worker:
        tick = "from tasks.streams import TASKS; TASKS['useractions'].advance.delay()"
        for _ in range(2):
            subprocess.run([sys.executable, "-c", tick], env={**os.environ, **environment}, check=True)
        failed = "blocked"  # no bucket is set
        stand_in.until(lambda: [line["event"] for line in stand_in.lines].count(failed) == 2)
        stand_in.until(lambda: any("ready" in line["event"] for line in stand_in.lines))  # the main process's
        worker.kill()
        assert TOKEN not in worker.output
    ours = [line for line in stand_in.lines if line["event"] == failed]
    assert {line["stream"] for line in ours} == {"useractions"}
    assert len({line["task_id"] for line in ours}) == 2


def test_at_level_debug_no_line_has_the_token(stand_in, log_to, capsys):
    log = log_to(log_level="debug")
    logging.getLogger().handlers[0].setLevel("DEBUG")
    log.debug("first")
    stand_in.until(lambda: stand_in.requests)
    log.debug("second")  # after all that the first request has logged
    end()
    said = capsys.readouterr().err
    assert "second" in said
    assert TOKEN not in said + json.dumps(stand_in.lines)
