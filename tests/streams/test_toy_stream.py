"""A stream is one file: a toy that no other file names is harvested, enqueued, watched and scheduled as the others."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from devservers import stack
from uaharvest import aws, settings
from uaharvest.runs.watermark import WatermarkStore

pytestmark = pytest.mark.fault  # a worker and beat

TOY = str(Path(__file__).with_name("toy.py"))
DELIVERED = "toy:delivered"


class Site:
    def __init__(self, environment):
        self.environment = environment

    @property
    def delivered(self):
        with Redis.from_url(self.environment["REDIS_URL"]) as client:
            return [int(row) for row in client.lrange(DELIVERED, 0, -1)]

    @property
    def mark(self):
        chosen = settings.load(self.environment)
        store = WatermarkStore(aws.s3_client(), chosen.bucket, "toy-watermark", chosen.opencast_zone)
        stored = store.read()
        return stored.mark.at if stored else None

    def celery(self, *arguments, ready):
        return stack.Child(
            f"celery {arguments[0]}",
            [sys.executable, TOY, "celery", "-A", "tasks", *arguments],
            stack.says(ready),
            environment={"PYTHONPATH": str(stack.ROOT), "PYTHONUNBUFFERED": "1", **self.environment},
        ).start()

    def manage(self, *arguments, program=(TOY,)):
        return subprocess.run(
            [sys.executable, *program, str(stack.ROOT / "manage.py"), *arguments],
            env={**os.environ, "PYTHONPATH": str(stack.ROOT), **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def site(redis, valkey_url, bucket):
    return Site(
        {
            "REDIS_URL": valkey_url,
            "S3_HARVEST_TS_BUCKET": bucket,
            "OPENCAST_TIMEZONE": "UTC",
            "HARVEST_EVERY_SECONDS": "1",
            "HARVEST_LAG_SECONDS": "0",
            "HARVEST_BATCH_SIZE": "10",
            "HARVEST_MAX_WINDOW": "60",
            "DEFAULT_INTERVAL": "3",
        }
    )


@pytest.fixture
def worker(site):
    with ExitStack() as children:
        options = ("-c", "1", "--without-gossip", "--without-mingle")
        worker = children.enter_context(site.celery("worker", *options, ready=r"\bready\."))
        children.callback(worker.kill)
        yield worker


def even(start, end):
    return [second for second in range(int(start.timestamp()), int(end.timestamp())) if second % 2 == 0]


def assert_each_once(site):
    """Every row before the watermark came once; return them. A window after it may be on its way."""
    mark = site.mark
    delivered = sorted(row for row in site.delivered if row < mark.timestamp())
    assert delivered == even(datetime.fromtimestamp(delivered[0], UTC), mark)
    return delivered


def test_a_worker_hears_its_queue_has_its_tasks_and_does_what_is_enqueued(site, worker):
    assert set(re.findall(r"\.> (\w+) +exchange", worker.output)) >= {"toy", "useractions", "control"}
    done = site.manage("enqueue", "toy", "--follow")
    assert done.returncode == 0, done.stderr + worker.output
    assert {"toy.advance", "toy.fetch"} <= set(re.findall(r"Task (\S+)\[", worker.output))
    assert len(assert_each_once(site)) >= 89  # three minutes, less a second at each end


def test_beat_asks_for_it_and_each_row_comes_once(site, worker):
    with site.celery("beat", "-s", "schedule", ready=r"Sending due task toy \(toy\.advance\)"):
        end = time.monotonic() + 60
        while not (mark := site.mark) or mark < datetime.now(UTC) - timedelta(seconds=30):
            assert time.monotonic() < end, worker.output[-2000:]
            time.sleep(0.1)
        first = mark
        while site.mark < first + timedelta(seconds=4):
            assert time.monotonic() < end, worker.output[-2000:]
            time.sleep(0.1)
    assert_each_once(site)


def test_the_command_line_harvests_it_and_knows_its_watermark_and_state(site):
    shown = site.manage("watermark", "show", "--stream", "toy")
    assert "toy-watermark" in shown.stdout
    assert "begins DEFAULT_INTERVAL minutes before it" in shown.stdout
    assert site.manage("watermark", "set", "--stream", "toy", "2026-03-03T12:00:00Z").returncode == 0
    start, end = datetime(2026, 3, 3, 11, 59, tzinfo=UTC), datetime(2026, 3, 3, 12, 2, tzinfo=UTC)
    done = site.manage("run", "toy", "--start", f"{start:%FT%TZ}", "--end", f"{end:%FT%TZ}")
    assert done.returncode == 0, done.stderr
    assert "90 toy" in done.stderr
    assert sorted(site.delivered) == even(start, end)
    assert "2026-03-03 12:02:00 UTC" in site.manage("watermark", "show", "--stream", "toy").stdout
    report = json.loads(site.manage("status", "--json").stdout)
    assert list(report["streams"]) == ["useractions", "toy"]
    assert report["streams"]["toy"]["watermark"] == "2026-03-03T12:02:00Z"
    assert report["streams"]["toy"]["last_runs"][0]["delivered"] == 90
    assert report["queues"]["toy"] == 0


def test_without_the_registry_nobody_knows_it(site):
    done = site.manage("watermark", "show", "--stream", "toy", program=())
    assert done.returncode == 2
    assert "'useractions', 'episodes', 'zoom', 'viewings', 'attendance'" in done.stderr
