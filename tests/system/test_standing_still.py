"""Green means moving: beat and workers as processes, each way to stand still, and what `status` makes of it."""

import contextlib
import http.server
import json
import re
import socket
import threading
import urllib.error
import urllib.request

import pytest
from celery import Celery

from devservers import stack
from uaharvest import assembly, settings
from uaharvest.runs.state import Clocks

SECRET = "ann@example.edu"
SLOW = 300  # seconds that a busy machine may take
EVERY = 1  # seconds between two ticks


class Standing:
    """A site whose parts are taken away; S3 and SQS are its own."""

    def __init__(self, site, aws):
        self.site = site
        self.aws = aws

    def status(self, *arguments, **settings):
        done = self.site.manage("status", *arguments, **settings)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def until(self, exit_code, pattern=""):
        """Ask for the status until it is this one; return what it says."""

        def says():
            done = self.status()
            return done if done.returncode == exit_code and re.search(pattern, done.stdout) else None

        return self.site.until(says, ticking=False, patience=SLOW).stdout


@pytest.fixture(scope="module")
def standing(start_shared_site):
    """A site with beat and a worker, which each test leaves as it was."""
    with stack.ministack() as aws:
        more = {"HARVEST_EVERY_SECONDS": str(EVERY), "OPENCAST_PROFILE": "dce"}
        site = start_shared_site(rows=50, seconds=60, settings={**stack.aws_variables(aws), **more})
        site.add_beat(EVERY)
        yield Standing(site, aws)


def opencast_away(standing):
    standing.site.simulator.kill()
    return r"useractions cannot open a run \(since .*, seen .* ago\): .*" + re.escape(standing.site.simulator.url)


def back(standing):
    standing.site.simulator.start()


def s3_and_sqs_down(standing):
    standing.aws.kill()
    return r"useractions: (s3://\S+ cannot be reached|S3 has not answered within 8 s)"


def up(standing):
    standing.aws.start()

    def green():  # it has lost what it held, which a person must confirm
        standing.site.manage("watermark", "confirm")
        return standing.status().returncode == 0

    standing.site.until(green, ticking=False, patience=SLOW)


def redis_full(standing):
    standing.site.redis.config_set("maxmemory", "1")
    return r"Redis at 127\.0\.0\.1:\d+ takes no writes, because it is full: "


def redis_roomy(standing):
    standing.site.redis.config_set("maxmemory", "0")


def advance_raises(standing):
    """Leave a run in the slot that is none: whoever looks at it fails with an exception that quotes it."""
    window = "1772539200-1772539260"
    broken = dict.fromkeys(("stream", "kind", "etag", "epoch", "known_from"), "")
    broken |= {
        "asked": window,
        "window": window,
        "batch_size": "1",
        "wait": "0",
        "opened_at": "0",
        "planned": SECRET,
    }
    standing.site.redis.hset("uaharvest:run:broken", mapping=broken)
    standing.site.redis.set(f"uaharvest:slot:{standing.site.ledger.place}", "broken")
    return r"useractions cannot open a run .*: unexpected ValueError at ledger\.py:\d+"


def mended(standing):
    standing.site.redis.delete(f"uaharvest:slot:{standing.site.ledger.place}", "uaharvest:run:broken")


def worker_gone(standing):
    for worker in standing.site.workers:
        worker.kill()
    return r"queue control has \d+ messages? and no worker\. Start one: celery -A tasks worker -Q control"


def worker_back(standing):
    for worker in standing.site.workers:
        worker.start()


SITUATIONS = {
    "Opencast is away at each opening": (opencast_away, back),
    "S3 and SQS are down": (s3_and_sqs_down, up),
    "Redis is full": (redis_full, redis_roomy),
    "advance raises at each tick": (advance_raises, mended),
    "there is no worker": (worker_gone, worker_back),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_stands_still_is_red_with_its_reason_and_green_again_once_it_moves(standing, situation):
    breaks, mends = SITUATIONS[situation]
    standing.until(0)
    said = standing.until(4, breaks(standing))
    assert SECRET not in said
    mends(standing)
    standing.until(0)


def test_without_beat_and_worker_nothing_is_green(standing):
    with stack.valkey() as valkey:
        done = standing.status(REDIS_URL=valkey.url)
    assert done.returncode == 4
    assert "beat has not been heard yet. Start it: celery -A tasks beat" in done.stdout


@pytest.fixture
def silent():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_hangs_costs_seconds_all_of_it_together(standing, silent):
    done = standing.status(
        REDIS_URL=f"redis://127.0.0.1:{silent}/0", AWS_ENDPOINT_URL=f"http://127.0.0.1:{silent}"
    )
    assert done.returncode == 4
    assert f"Redis at 127.0.0.1:{silent} does not answer: Timeout" in done.stdout
    for what in ("useractions: S3", "SQS"):  # the broker is that Redis, which is named once
        assert f"{what} has not answered within 8 s." in done.stdout


def test_without_redis_the_rest_is_shown_in_full_and_redis_in_one_line(standing):
    done = standing.status(REDIS_URL=f"redis://:top-secret@127.0.0.1:{stack.free_port()}/0")
    assert (done.returncode, done.stderr) == (4, "")
    assert re.search(
        r"Redis at 127\.0\.0\.1:\d+ does not answer: Error 111 connecting to 127\.0\.0\.1", done.stdout
    )
    assert re.search(r"^useractions +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", done.stdout, re.MULTILINE)
    assert "top-secret" not in done.stdout


class NoConditions(http.server.BaseHTTPRequestHandler):
    """An S3 before `self.server.upstream` that does not know conditional writes."""

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("If-Match") or self.headers.get("If-None-Match"):
            return self.answer(
                501, {}, b"<Error><Code>NotImplemented</Code><Message>no If-Match</Message></Error>"
            )
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        url = self.server.upstream + self.path
        request = urllib.request.Request(url, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                return self.answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return self.answer(error.code, error.headers, error.read())

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"date", "server", "content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - as its base class calls them

    def log_message(self, *_):
        pass


@pytest.mark.fault
@pytest.mark.long
def test_an_s3_that_refuses_conditional_writes_is_red(standing, start_site):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoConditions) as server:
        server.upstream = standing.aws.url
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "OPENCAST_PROFILE": "dce"}
        site = start_site(simulator=standing.site.simulator, settings={**stack.aws_variables(standing.aws), **own})
        site.add_beat(EVERY)
        Standing(site, standing.aws).until(4, r"useractions (cannot open a run|is blocked).*(501|NotImplemented)")
        server.shutdown()


SHIFTED = """
import datetime, os

real = datetime.datetime
shift = datetime.timedelta(seconds=float(os.environ["SHIFT_SECONDS"]))


class Meta(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, real)


class Shifted(real, metaclass=Meta):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + shift


datetime.datetime = Shifted
"""


@pytest.mark.parametrize(("shift", "way"), [(-600, "10 min behind"), (600, "10 min ahead of")])
def test_a_beat_whose_clock_is_wrong_by_many_periods_is_heard_and_told(standing, start_site, tmp_path, shift, way):
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    more = {**stack.aws_variables(standing.aws), "OPENCAST_PROFILE": "dce"}
    site = start_site(simulator=standing.site.simulator, settings=more)
    wrong = {
        "PYTHONPATH": f"{tmp_path}:{stack.ROOT}",
        "SHIFT_SECONDS": str(shift),
        "HARVEST_EVERY_SECONDS": str(EVERY),
    }
    scheduler = ("--scheduler", "celery.beat:Scheduler")  # the usual one would pickle the shifted class
    with stack.celery("beat", *scheduler, environment={**site.environment, **wrong}) as beat:
        said = Standing(site, standing.aws).until(0, r"the clock of beat on \S+, pid \d+ is .* Redis's")
        assert re.search(
            rf"the clock of beat on \S+, pid \d+ is (9 min 5\d s|{way[:6]}).* {way[7:]} Redis's", said
        )
        assert '"clock": "beat on' in beat.output


def test_a_source_clock_that_is_far_ahead_blocks_with_the_figures_and_a_small_step_back_does_not(standing):
    simulate = standing.site.simulate
    try:
        simulate("clock", {"offset_seconds": 7200})
        said = standing.until(4, "useractions is blocked")
        line = next(line for line in said.splitlines() if "useractions is blocked" in line)
        assert re.search(
            r"is (2 h|1 h 59 min) ahead of that of Redis \(REDIS_URL\): 20\S+ \S+ and 20\S+ \S+ UTC", line
        )
        assert "MATTERHORN_ENGAGE_HOST" in line
        simulate("clock", {"offset_seconds": 0})
        standing.until(0)
        moves_on(standing)
        simulate("clock", {"offset_seconds": -15})
        standing.site.until(lambda: _compared(standing) < -10, ticking=False, patience=SLOW)
        standing.until(0, r"the clock of the source of useractions is 1\d s behind Redis's")
        moves_on(standing)
    finally:
        simulate("clock", {"offset_seconds": 0})


def moves_on(standing):
    """Wait until the watermark has moved."""
    mark = watermark(standing)
    standing.site.until(lambda: watermark(standing) > mark, ticking=False, patience=SLOW)


def watermark(standing):
    return json.loads(standing.status("--json").stdout)["streams"]["useractions"]["watermark"] or ""


def _compared(standing):
    """Return how far the source's clock was ahead at the last opening."""
    place = assembly.place(settings.load(standing.site.environment), "useractions")
    return next(clock.ahead for clock in Clocks(standing.site.redis, place).compared() if "source" in clock.name)


def test_neither_the_log_nor_the_events_that_flower_shows_hold_what_an_exception_quotes(standing):
    """Celery's own record of a task that raises has its text, its arguments and the variables of its frames."""
    events = []
    with Celery(broker=standing.site.valkey.url) as app, contextlib.ExitStack() as ending:
        app.config_from_object("celeryconfig")
        app.conf.broker_url = standing.site.valkey.url
        connection = ending.enter_context(app.connection_for_read())
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        listener = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None))
        listener.start()
        ending.callback(listener.join)
        ending.callback(setattr, receiver, "should_stop", True)
        standing.site.until(lambda: ended(events), ticking=False, patience=SLOW)
        ending.callback(mended, standing)
        advance_raises(standing)
        standing.site.until(lambda: raised(standing), ticking=False, patience=SLOW)
        before = len(ended(events))
        standing.site.until(lambda: len(ended(events)) > before + 1, ticking=False, patience=SLOW)
    assert "task-failed" not in {event["type"] for event in events}
    assert SECRET not in repr(events)
    for worker in standing.site.workers:
        assert "unexpected ValueError" in worker.output
        assert SECRET not in worker.output
    standing.until(0)


def ended(events):
    return [event for event in list(events) if event["type"] in {"task-succeeded", "task-failed"}]


def raised(standing):
    failure = standing.site.state.failure("opening")
    return failure and "ValueError" in failure.reason
