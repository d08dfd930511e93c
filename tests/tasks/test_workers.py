"""What the command line learns of Celery's queues, and how many messages beat lets pile up; with real brokers."""

import json
import os
import signal
import subprocess
import sys

import pytest
from redis import Redis

from devservers import stack
from tasks.engines import MOST_WAITING
from tests import redis_servers
from uaharvest.broker import QUEUES, Broker
from uaharvest.settings import Settings

SEND = """
import json
from tasks import workers
workers.hints("useractions").advance(None)
workers.hints("useractions").advance("run")
workers.hints("episodes").work("run", "slice")
print(json.dumps(workers.queues()))
"""
TICK = f"""
import json
from tasks import workers
from tasks.streams import TASKS
advance = TASKS["useractions"].advance
sent = [advance.apply_async(kwargs={{"tick": True}}) is not None for _ in range({MOST_WAITING + 5})]
print(json.dumps([sent.count(True), workers.queues()["control"]]))
"""
HINTS = f"""
import json
from tasks import workers
for number in range({MOST_WAITING + 70}):
    workers.hints("useractions").work("run", str(number))
print(json.dumps(workers.queues()["useractions"]))
"""
HANGING_BROKER = """
import time
from tasks import workers
from uaharvest.errors import RetryableError
began = time.monotonic()
try:
    workers.hints("useractions").work("run", "slice")
except RetryableError as error:
    print(error)
print(time.monotonic() - began)
"""
ALIVE = """
import json
from tasks import workers
workers.ANSWER_WITHIN = 600
print(json.dumps(list(workers.alive())))
"""
STALE = """
import json
from tasks import workers
from tasks.app import app
with app.connection_for_read() as connection, connection.channel() as channel:
    channel._queue_bind(workers.CONTROL, "", "", "dead@host.celery.pidbox")
print(json.dumps([list(workers.alive()), list(workers.alive(5.0))]))
"""
NO_BROKER = """
from tasks import workers
from uaharvest.errors import RetryableError
try:
    workers.hints("useractions").advance(None)
except RetryableError as error:
    print(error)
"""


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(stack.ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_the_messages_that_wait_in_queues_without_a_worker_are_counted(redis, valkey_url):
    """By a passive declaration all of them are 0: it looks for the queue without `global_keyprefix`."""
    depths = json.loads(python(SEND, REDIS_URL=valkey_url).stdout)
    assert depths == dict.fromkeys(QUEUES, 0) | {"episodes": 1, "control": 2}
    assert Broker(Settings(redis_url=valkey_url), lambda: None).queues() == depths


def test_those_of_sqs_are_counted_too(aws, redis, valkey_url):
    pytest.importorskip("pycurl", reason='kombu talks to SQS with pycurl: pip install "kombu[sqs]"')
    with stack.ministack() as own:
        environment = {**stack.aws_variables(own), "REDIS_URL": valkey_url, "CELERY_BROKER_URL": "sqs://"}
        depths = json.loads(python(SEND, **environment).stdout)
    assert depths == dict.fromkeys(QUEUES, 0) | {"episodes": 1, "control": 2}


def test_ticks_that_nobody_takes_do_not_pile_up(redis, valkey_url):
    done = python(TICK, REDIS_URL=valkey_url)
    assert json.loads(done.stdout.splitlines()[-1]) == [MOST_WAITING, MOST_WAITING]
    assert "no tick sent, because no worker takes the waiting ones" in done.stdout + done.stderr


def test_slices_that_nobody_takes_do_not_pile_up(redis, valkey_url):
    done = python(HINTS, REDIS_URL=valkey_url)
    assert json.loads(done.stdout.splitlines()[-1]) <= MOST_WAITING


def test_a_broker_that_is_full_is_an_outage(valkey_url):
    with stack.valkey() as broker, Redis.from_url(broker.url) as client:
        client.config_set("maxmemory", "1")
        done = python(NO_BROKER, REDIS_URL=valkey_url, CELERY_BROKER_URL=broker.url)
    assert "Celery's broker takes no messages" in done.stdout


@pytest.mark.fault
def test_a_broker_that_hangs_is_an_outage_within_a_minute(valkey_url):
    with redis_servers.valkey() as broker:
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            done = python(HANGING_BROKER, REDIS_URL=valkey_url, CELERY_BROKER_URL=broker.url)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
    *_, said, seconds = done.stdout.splitlines()
    assert "Celery's broker takes no messages" in said
    assert float(seconds) < 60


def test_a_broker_that_is_down_is_an_outage_with_its_setting(redis, valkey_url):
    broker = f"redis://:top-secret@127.0.0.1:{stack.free_port()}/0"
    done = python(NO_BROKER, REDIS_URL=valkey_url, CELERY_BROKER_URL=broker)
    assert "CELERY_BROKER_URL" in done.stdout
    assert "top-secret" not in done.stdout + done.stderr


def test_workers_are_waited_for_until_all_that_the_broker_knows_have_answered(redis, valkey_url):
    with stack.celery("worker", "-c", "1", "-n", "one@host", environment={"REDIS_URL": valkey_url}):
        assert json.loads(python(ALIVE, REDIS_URL=valkey_url).stdout) == ["one@host"]
        assert json.loads(python(STALE, REDIS_URL=valkey_url).stdout) == [["one@host"], ["one@host"]]
