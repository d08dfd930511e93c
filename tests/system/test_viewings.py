"""Viewings by real workers: one is killed, Redis loses all, rows come late; the documents are those of the truth."""

import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from devservers import stack
from tests.system.conftest import go_on, pool_children
from uaharvest import assembly, settings
from uaharvest.documents.document import Document
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.days import DAY, midnight
from uaharvest.runs.watermark import first
from uaharvest.viewing.documents import documents
from uaharvest.viewing.recording import RecordingActions

pytestmark = pytest.mark.fault

RECORDINGS, VIEWERS, BEATS = 20, 20, 20  # a day
PATIENCE = 90
TICK = 0.2


class Site:
    """A worker, and documents of three days; all but the first wait for their useractions."""

    def __init__(self, resources, valkey, environment):
        self.settings = settings.load(environment)
        self.today = midnight(datetime.now(UTC))
        self.redis = resources.enter_context(RedisUrl.parse(valkey.url).client(decode_responses=True))
        self.store = assembly.document_store(self.settings)
        self.ledger = assembly.ledger(self.settings, self.redis, stream="viewings")
        self.marks = assembly.watermarks(self.settings, "viewings")
        self.marks.create(first(self.today - 3 * DAY))
        self.useractions = assembly.watermarks(self.settings)
        self.useractions.create(first(self.today - 2 * DAY))
        self.celery = Celery()
        self.celery.config_from_object("celeryconfig")
        broker = RedisUrl.parse(valkey.url).broker({})
        self.celery.conf.broker_url = broker.url
        self.celery.conf.broker_transport_options |= broker.transport_options
        resources.callback(self.celery.close)
        self.worker = stack.celery(
            *("worker", "-c", "1", "-Q", "viewings,control", "--without-gossip", "--without-mingle"),
            environment=environment,
        )

    def index(self, days_ago, viewers=range(VIEWERS)):
        """Index useractions of each recording by some viewers, who watched it on one day."""
        day = self.today - days_ago * DAY
        list(
            self.store.write(
                self._row(day, recording, viewer, beat)
                for recording in range(RECORDINGS)
                for viewer in viewers
                for beat in range(1, BEATS + 1)
            )
        )

    @staticmethod
    def _row(day, recording, viewer, beat):
        at = day + timedelta(hours=8, minutes=viewer, seconds=30 * beat)
        id_ = ((day.toordinal() * RECORDINGS + recording) * 1000 + viewer) * BEATS + beat
        body = {
            "action_id": id_,
            "@timestamp": f"{at:%FT%T}.000Z",
            "mpid": f"recording-{recording}",
            "huid": f"{viewer:08}" if viewer % 5 else "anonymous",
            "session_id": f"{day:%d}-{viewer}",
            "is_live": 0,
            "action": {"type": "HEARTBEAT", "inpoint": 30 * beat, "outpoint": None, "is_playing": True},
            "episode": {"title": f"Lecture {recording}", "duration": 1_200_000},
        }
        return Document(f"useractions-{day:%Y.%m.%d}", str(id_), body)

    def truth(self):
        """Return the documents that follow from all useractions that are indexed."""
        recordings = {}
        for row in self.store.select("useractions-*"):
            recordings.setdefault(row["mpid"], RecordingActions(row["mpid"], {"anonymous"})).add(row)
        bodies = (body for rows in recordings.values() for body in documents(rows, None))
        return {(body.family, body.id): json.dumps(body.fields) for body in bodies}

    def made(self):
        return {
            (one.pop("_index"), one.pop("_id")): json.dumps(one)
            for one in self.store.select("viewings,recordings")
        }

    def until(self, condition):
        """Tick, as beat does, until `condition` holds."""
        end, next_tick = time.monotonic() + PATIENCE, 0.0
        while not condition():
            assert time.monotonic() < end, self.worker.output[-3000:]
            if time.monotonic() > next_tick:
                self.celery.send_task("viewings.advance", queue="control", expires=1)
                next_tick = time.monotonic() + TICK
            time.sleep(0.005)  # shorter than a recording takes: a run of them cannot pass unseen

    def harvested_until(self, day):
        """Say that the useractions of the days before `day` are there, so that they can be worked on."""
        self.useractions.replace(first(day), self.useractions.read().etag)

    def until_before(self, day):
        """Let the worker do all days before `day`."""
        self.until(lambda: self.marks.read().mark.at >= day and self.ledger.live() is None)

    @contextlib.contextmanager
    def frozen_in_mid_run(self):
        """Freeze the worker's process while some recordings of a run are done and others are not."""

        def caught():
            [pid] = pool_children(self.worker) or [None]
            if pid is None:
                return False
            os.kill(pid, signal.SIGSTOP)
            run = self.ledger.live()
            if run and run.delivered and run.done < run.planned and self.ledger.slices(run.id).claimed:
                return True
            go_on(pid)
            return False

        self.until(caught)
        yield pool_children(self.worker)[0]


@pytest.fixture
def site(aws, bucket, tmp_path):
    with contextlib.ExitStack() as resources:
        valkey = resources.enter_context(stack.valkey())
        environment = {
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": bucket,
            "SQS_QUEUE_NAME": "nobody-asks-it",
            "DOCUMENTS_URL": f"sqlite:///{tmp_path}/documents.db",
            "OPENCAST_TIMEZONE": "UTC",
            "HARVEST_LEASE_SECONDS": "2",
            "VIEWINGS": "true",
            "VIEWINGS_AT": "00:00",
        }
        site = Site(resources, valkey, environment)
        for days_ago in (3, 2):
            site.index(days_ago)
        with site.worker:
            resources.callback(site.worker.kill)
            yield site


def test_workers_that_die_a_redis_that_loses_all_and_late_rows_change_no_document(site):
    with site.frozen_in_mid_run() as pid:
        os.kill(pid, signal.SIGKILL)
    site.until_before(site.today - 2 * DAY)
    site.harvested_until(site.today - DAY)
    with site.frozen_in_mid_run() as pid:
        site.redis.flushall()
        os.kill(pid, signal.SIGCONT)
    site.until_before(site.today - DAY)
    assert site.made() == site.truth()
    site.index(3, viewers=range(VIEWERS, VIEWERS + 2))  # late
    site.index(2, viewers=[0])  # harvested again
    site.index(1, viewers=[1])
    site.harvested_until(site.today)
    site.until_before(site.today)
    made = site.made()
    assert made == site.truth()
    assert sum(family == "recordings" for family, _ in made) == RECORDINGS
