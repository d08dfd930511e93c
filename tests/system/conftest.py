"""A whole site: real Valkey, SQS and S3, the simulator, and workers as processes; the test is beat."""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import boto3
import pytest
import redis
import requests
from celery import Celery

from devservers import stack
from tests import commands
from uaharvest import assembly
from uaharvest import settings as settings_
from uaharvest.dead_letters import DeadLetters
from uaharvest.intervals import whole_second
from uaharvest.opencast.times import ZoneInfo
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.watermark import WatermarkStore

ZONE = "America/Bogota"  # its clocks never change, so that no day is special
READERS = 4  # threads that empty the queue
PATIENCE = 90  # seconds after which a condition counts as never met
TICK = 0.5  # seconds between two ticks of the test, which plays beat
_numbers = itertools.count(1)


class Site:
    """A site of its own; what it does is seen in its ledger, watermark and queue, never by waiting a while."""

    def __init__(self, resources, valkey, simulator, environment):
        self.valkey = valkey
        self.simulator = simulator
        self.environment = environment
        self.workers = []
        self._resources = resources
        self._received = []
        where = RedisUrl.parse(valkey.url)
        self.redis = resources.enter_context(where.client(decode_responses=True, socket_timeout=60))
        self.settings = settings_.load(environment)
        self.ledger = assembly.ledger(self.settings, self.redis)
        self.state = assembly.state(self.settings, self.redis)
        self.state.tick(0)  # beat was heard
        s3 = boto3.client("s3")
        resources.callback(s3.close)
        bucket = environment["S3_HARVEST_TS_BUCKET"]
        self.watermarks = WatermarkStore(
            s3, bucket, "last-action-timestamp", ZoneInfo(environment["OPENCAST_TIMEZONE"])
        )
        self.dead_letters = DeadLetters(s3, bucket, "dead-letters/")
        self._sqs = boto3.client("sqs")
        resources.callback(self._sqs.close)
        self._celery = Celery()
        self._celery.config_from_object("celeryconfig")
        broker = where.broker({})
        self._celery.conf.broker_url = broker.url
        self._celery.conf.broker_transport_options |= broker.transport_options
        resources.callback(self._celery.close)

    # Processes

    def add_worker(self, *arguments, **settings):
        """Start one more worker with one pool child."""
        name = f"w{next(_numbers)}@test"
        worker = stack.celery(
            *("worker", "--concurrency", "1", "--hostname", name, "--without-gossip", "--without-mingle"),
            *arguments,
            environment={**self.environment, **settings},
        )
        self._resources.enter_context(worker)
        self._resources.callback(worker.kill)  # at the end nobody waits for it to shut down softly
        self.workers.append(worker)
        return worker

    def add_workers(self, count):
        """Start several more workers at once."""
        with concurrent.futures.ThreadPoolExecutor(count) as starters:
            list(starters.map(lambda _: self.add_worker(), range(count)))

    def add_beat(self, every):
        """Start a beat that ticks each `every` seconds."""
        beat = stack.celery("beat", environment={**self.environment, "HARVEST_EVERY_SECONDS": str(every)})
        return self._resources.enter_context(beat)

    def manage(self, *arguments, **settings):
        """Run `manage.py` with this site's settings; return the completed process."""
        return commands.manage(*arguments, environment={**self.environment, **settings}, timeout=PATIENCE)

    # Time

    def tick(self):
        """Ask the workers for `advance`, as beat does, soon or not at all; a broker that is down hears nothing."""
        with contextlib.suppress(redis.RedisError, OSError, self._celery.connection().transport.connection_errors):
            self._celery.send_task("useractions.advance", queue="control", retry=False, expires=2 * TICK)

    def until(self, condition, *, ticking=True, patience=PATIENCE):
        """Wait until `condition` holds, and return what it returned; meanwhile tick."""
        end = time.monotonic() + patience
        next_tick = 0.0
        while True:
            with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
                if found := condition():
                    return found
            if time.monotonic() > end:
                logs = "\n".join(f"{worker.name}: {worker.output[-2000:]}" for worker in self.workers)
                pytest.fail(f"not within {patience} s. The workers say:\n{logs}")
            if ticking and time.monotonic() > next_tick:
                self.tick()
                next_tick = time.monotonic() + TICK
            time.sleep(0.02)

    def harvest(self, until, **options):
        """Let the workers harvest until everything before `until` is delivered; return the watermark."""

        def harvested():
            stored = self.watermarks.read()
            return stored if stored and stored.mark.at >= until and self.ledger.live() is None else None

        return self.until(harvested, **options).mark

    def mark(self):
        """Return the watermark, or None."""
        stored = self.watermarks.read()
        return stored.mark if stored else None

    def look_once_more(self):
        """Let the workers open and end one more run; it has looked for all that there was at the call."""
        seen = {entry.id for entry in self.state.history()}
        # The first new one may have been open already.
        self.until(lambda: len({entry.id for entry in self.state.history()} - seen) > 1)

    def settle(self):
        """Let the workers look for what is new or late until they have looked once more and found nothing."""
        seen = {entry.id for entry in self.state.history()}

        def looked_in_vain():
            new = [entry for entry in self.state.history() if entry.id not in seen]
            # The first of them may have been opened before this call.
            in_vain = len(new) > 1 and new[0].outcome == "done" and not new[0].delivered
            return in_vain and self.ledger.live() is None

        self.until(looked_in_vain)
        return self.watermarks.read().mark

    @contextlib.contextmanager
    def caught(self, condition, workers=None):
        """Freeze the pool processes of `workers` (default: all) at an instant at which `condition` holds.

        It is looked at while nothing moves, so that what the block does happens at no other instant.
        """
        with contextlib.ExitStack() as thaw:

            def caught():
                with contextlib.ExitStack() as frozen:
                    for worker in workers or self.workers:
                        for pid in pool_children(worker):
                            os.kill(pid, signal.SIGSTOP)
                            frozen.callback(go_on, pid)
                    if found := condition():
                        thaw.push(frozen.pop_all())
                    return found

            yield self.until(caught)

    def in_mid_run(self):
        """Return the open run if some of its rows are sent and known, and a worker holds a slice."""
        run = self.ledger.live()
        return run if run and run.delivered and self.ledger.slices(run.id).claimed else None

    def in_first_half(self):
        """Return the open run if not even half of its slices are done."""
        run = self.in_mid_run()
        return run if run and 2 * run.done < run.planned else None

    def something_put_off_twice(self):
        """Tell whether a slice of the open run has failed, waited, and failed again."""
        run = self.ledger.live()
        states = self.redis.hvals(f"uaharvest:run:{run.id}:slices") if run else []
        return any(json.loads(state)["waits"] > 1 for state in states)

    def all_hold_a_slice(self):
        """Return the open run if every worker has a slice of it in hand."""
        run = self.ledger.live()
        busy = run and self.ledger.slices(run.id).claimed == len(self.workers)
        return run if busy and not self._looking_up() else None

    def _looking_up(self):
        """Tell whether a look-up of an episode is under way: who is frozen there is waited for up to 30 s."""
        return self.redis.keys("uaharvest:episode:*:lock:*")

    @staticmethod
    def thaw(worker):
        """Let a worker that is `caught` go on before the others."""
        for pid in pool_children(worker):
            go_on(pid)

    @staticmethod
    def kill_pool_process(worker):
        """Kill a worker's only pool process, as the kernel does when memory runs out."""
        [pid] = pool_children(worker)
        os.kill(pid, signal.SIGKILL)

    def sent_and_unmarked(self):
        """Return the open run if some rows of a slice in hand are in the queue and not yet known as sent.

        Needs a message per record.
        """
        run = self.ledger.live()
        sent = run and run.delivered and self.waiting() > run.delivered
        return run if sent and not self._looking_up() else None

    # What is true, and what came

    def simulate(self, path, body=None, method=None):
        """Talk to the simulator's /_sim/ interface."""
        answer = requests.request(
            method or ("GET" if body is None else "POST"),
            f"{self.simulator.url}/_sim/{path}",
            json=body,
            timeout=30,
        )
        answer.raise_for_status()
        return answer.json()

    def truth(self, start, end):
        """Return the ids of the rows that Opencast has in [start, end)."""
        return set(self.simulate(f"truth?start={start.timestamp()}&end={end.timestamp()}")["ids"])

    def bodies(self):
        """Return the records of all messages that ever came; each message is received once."""
        url = self._sqs.get_queue_url(QueueName=self.environment["SQS_QUEUE_NAME"])["QueueUrl"]

        def drain(_):
            received = []
            while messages := self._sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=43_200
            ).get("Messages"):
                received += [message["Body"] for message in messages]
            return received

        with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
            for received in readers.map(drain, range(READERS)):
                for body in received:
                    content = json.loads(body)
                    self._received += content if isinstance(content, list) else [content]
        return list(self._received)

    def delivered(self):
        """Return how often each id came."""
        return collections.Counter(record["action_id"] for record in self.bodies())

    def waiting(self):
        """Return how many messages are in the queue."""
        url = self._sqs.get_queue_url(QueueName=self.environment["SQS_QUEUE_NAME"])["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        return int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def pool_children(worker):
    """Return the ids of a worker's pool processes."""
    return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


def go_on(pid):
    """Let a frozen process go on, if it still lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def start_site(aws):
    """Start a site: `rows` useractions over `seconds`, which end 20 s ago, and `workers` workers."""
    with sites() as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_site(aws):
    """Start a site that the tests of a module share."""
    with sites() as start:
        yield start


@contextlib.contextmanager
def sites():
    """Give a function that starts sites, which end with the block."""
    with contextlib.ExitStack() as resources:

        def start(
            *simulator_arguments,
            rows=2_000,
            seconds=1_800,
            workers=1,
            simulator=None,
            valkey=None,
            appendonly=False,
            settings=MappingProxyType({}),
        ):
            number = next(_numbers)
            end = whole_second(datetime.now(UTC) - timedelta(seconds=20))
            valkey = valkey or resources.enter_context(stack.valkey(appendonly=appendonly))
            if simulator is None:
                data = ("--rows", str(rows), "--span-seconds", str(seconds), "--until", end.isoformat())
                data += ("--zone", settings.get("OPENCAST_TIMEZONE", ZONE))
                simulator = resources.enter_context(stack.opencast_simulator(*data, *simulator_arguments))
                simulator.rows_end = end
            site = Site(
                resources,
                valkey,
                simulator,
                {
                    "MATTERHORN_ENGAGE_HOST": simulator.url,
                    "MATTERHORN_REST_USER": "admin",
                    "MATTERHORN_REST_PASS": "opencast",
                    "OPENCAST_TIMEZONE": ZONE,
                    "S3_HARVEST_TS_BUCKET": f"site-{number}",
                    "SQS_QUEUE_NAME": f"site-{number}",
                    "REDIS_URL": valkey.url,
                    "DEFAULT_INTERVAL": str(seconds // 60 + 5),
                    "HARVEST_LEASE_SECONDS": "2",
                    "HARVEST_BATCH_SIZE": "200",
                    **settings,
                },
            )
            site.end = simulator.rows_end
            if workers:
                site.add_workers(workers)
            return site

        yield start
