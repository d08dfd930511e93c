"""A site may let messages go by SQS (`pip install "kombu[sqs]"`); the ledger stays in Redis."""

from contextlib import ExitStack, closing

import boto3
import pytest

from devservers import stack
from tests import commands

pytest.importorskip("pycurl", reason='kombu talks to SQS with pycurl: pip install "kombu[sqs]"')

ROWS = 30


@pytest.fixture
def worker(redis, valkey_url, bucket, monkeypatch):
    """A worker, and this process's environment, with SQS as broker. The endpoint is boto3's own setting."""
    with ExitStack() as resources:
        simulator = resources.enter_context(stack.opencast_simulator("--rows", str(ROWS)))
        settings = {
            "CELERY_BROKER_URL": "sqs://",
            "MATTERHORN_ENGAGE_HOST": simulator.url,
            "MATTERHORN_REST_USER": "admin",
            "MATTERHORN_REST_PASS": "opencast",
            "OPENCAST_TIMEZONE": "America/Bogota",
            "HARVEST_LAG_SECONDS": "0",
            "REDIS_URL": valkey_url,
            "S3_HARVEST_TS_BUCKET": bucket,
            "SQS_QUEUE_NAME": bucket,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        worker = resources.enter_context(stack.celery("worker", "--concurrency", "1", environment=settings))
        resources.callback(worker.kill)
        yield worker


def test_a_worker_hears_by_sqs_what_there_is_to_do(worker):
    done = commands.manage("enqueue", "useractions", "--interval", "70", "--follow", environment={})
    assert (done.returncode, done.stdout) == (0, "")
    assert f"done. {ROWS} sent" in done.stderr
    for task in ("advance", "fetch"):
        assert f"Task useractions.{task}[" in worker.output
    with closing(boto3.client("sqs")) as sqs:
        queues = {url.rpartition("/")[2] for url in sqs.list_queues(QueueNamePrefix="uaharvest-")["QueueUrls"]}
    streams = ("useractions", "episodes", "zoom", "viewings", "attendance")
    assert queues == {f"uaharvest-{name}" for name in (*streams, "index", "backfill", "control")}
