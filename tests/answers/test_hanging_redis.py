"""A Redis that accepts connections and never answers, as one does that is frozen or starved of memory."""

import contextlib
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from structlog.testing import CapturingLogger

from tasks.streams import TASKS
from tests import commands, redis_servers
from tests.answers.site import Site, opencast_environment
from uaharvest import assembly, settings
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second

# Seconds: a minute, and time for a busy machine. When each call was tried six times, one took a minute or more.
BOUND = 90
STALL = 5.0


def is_search(call):
    return call.path.endswith("/episode.json")


def is_send(call):
    return call.target == "SendMessageBatch"


def moments(always):
    """One moment is tried always; the rest is left to `make test-faults`."""
    names = {None: "at the start", is_search: "while episodes are looked up", is_send: "while rows are sent"}
    marks = (pytest.mark.fault, pytest.mark.long)
    return [pytest.param(one, id=name, marks=() if one is always else marks) for one, name in names.items()]


class Server:
    """A Valkey that can be frozen. Its kernel goes on accepting connections and requests."""

    def __init__(self, child):
        self._child = child
        self.url = child.url
        self.place = child.url.removeprefix("redis://").removesuffix("/0")
        self.frozen = False

    def freeze(self):
        os.kill(self._child.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        os.kill(self._child.pid, signal.SIGCONT)

    def stall(self):
        """Freeze it for as long as nothing should notice."""
        self.freeze()
        threading.Timer(STALL, self.thaw).start()


@pytest.fixture
def server():
    with redis_servers.valkey() as child:
        made = Server(child)
        yield made
        made.thaw()


@pytest.fixture
def environment(*, opencast_proxy, aws_proxy, aws, server, bucket, queue_name):
    return opencast_environment(opencast_proxy.url) | {
        "REDIS_URL": server.url,
        "AWS_ENDPOINT_URL": aws_proxy.url,
        "DIRECT_AWS": aws,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
    }


@pytest.fixture
def site(environment, server, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.current.cache_clear()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        site = Site("useractions", environment, client, monkeypatch)
        site.begin(whole_second(datetime.now(UTC)) - timedelta(hours=1))
        yield site
    settings.current.cache_clear()


@contextlib.contextmanager
def bounded():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND


def line(server):
    return f"Redis at {server.place} does not answer: Timeout reading from socket. Does it run, and is REDIS_URL right?"


def test_status_names_it(site, environment, server):
    server.freeze()
    with bounded():
        done = commands.manage("status", environment=environment)
    assert done.returncode == Exit.BLOCKED
    assert line(server) in done.stdout.splitlines(), done.stdout


@pytest.fixture
def begins(opencast_proxy, aws_proxy):
    """Let something begin at a moment."""

    def begins(moment, act):
        if moment is None:
            act()
            return contextlib.nullcontext()
        return (aws_proxy if moment is is_send else opencast_proxy).watching(moment, act)

    return begins


@pytest.mark.parametrize("moment", moments(is_send))
def test_a_command_ends_with_a_line_about_it(*, site, environment, begins, server, moment):
    with begins(moment, server.freeze), bounded():
        done = commands.manage("run", "useractions", environment=environment)
    assert server.frozen
    assert done.returncode == Exit.ERROR, done.stderr
    assert done.stderr.splitlines()[-1] == line(server)


@pytest.mark.parametrize("moment", moments(is_search))
def test_a_workers_task_ends_and_the_rows_come_later(*, site, begins, server, rows, moment, monkeypatch):
    now = whole_second(datetime.now(UTC))
    site.engine = assembly.engine("useractions", site.settings, site.hints)
    site.engine.advance()
    monkeypatch.setitem(TASKS["useractions"].__dict__, "engine", site.engine)
    logger = CapturingLogger()
    monkeypatch.setattr("tasks.engines.log", logger)
    with begins(moment, server.freeze), bounded():
        TASKS["useractions"].fetch(*site.hints.waiting.popleft())
    assert server.frozen
    assert [call.kwargs["reason"] for call in logger.calls] == [line(server)]
    server.thaw()
    assert site.heals(now - timedelta(seconds=1))
    assert set(site.received()) == set(rows)
    assert site.dead_letters() == []


@pytest.mark.parametrize("moment", moments(is_send))
def test_a_stall_costs_nothing(*, site, environment, begins, rows, server, moment):
    with begins(moment, server.stall):
        done = commands.manage("run", "useractions", environment=environment)
    assert server.frozen
    assert done.returncode == Exit.DONE, done.stderr
    assert "put off" not in done.stderr
    assert site.received() == dict.fromkeys(rows, 1)


def test_sentinels_that_hang_are_asked_for_a_limited_time():
    with redis_servers.Sentinels() as servers, contextlib.ExitStack() as closing:
        client = closing.enter_context(assembly.redis_client(settings.load({"REDIS_URL": servers.url})))
        assert client.ping()
        everything = [Server(child) for child in (servers.primary, servers.replica, *servers.sentinels)]
        for one in everything:
            one.freeze()
        try:
            with bounded(), pytest.raises(redis.RedisError):
                client.ping()
            with bounded(), pytest.raises(redis.RedisError, match="No master found"):
                client.ping()
        finally:
            for one in everything:
                one.thaw()
        assert client.ping()
