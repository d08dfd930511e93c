"""Proxies before the real servers, and clients that neither wait nor try again for long."""

from datetime import UTC, datetime, timedelta

import pytest
import requests
from botocore.config import Config

from devservers import stack
from devservers.proxy import Proxy
from tests.answers.site import NEVER_LATE
from uaharvest import aws, status
from uaharvest.intervals import whole_second
from uaharvest.opencast import cache
from uaharvest.opencast import client as opencast_client
from uaharvest.retries import Retries
from uaharvest.runs import failures
from uaharvest.sinks import receiver
from uaharvest.streams.engines.zoom import zoom_engine
from uaharvest.transport import BoundedSession
from uaharvest.zoom import api as zoom_api
from uaharvest.zoom import auth


def _config(connections, **more):
    once = {"mode": "standard", "total_max_attempts": 1}
    return Config(connect_timeout=5, read_timeout=5, retries=once, max_pool_connections=connections, **more)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Shorten what a client waits: the verdicts stay what they are."""
    monkeypatch.setattr(aws, "_config", _config)
    monkeypatch.setattr(Retries, "seconds", lambda self, attempt: 0.001)
    monkeypatch.setattr(opencast_client, "LONGEST_ANSWER", 0.6 - opencast_client.TIMEOUT[1])
    monkeypatch.setattr(opencast_client, "LARGEST_ANSWER", 2_000_000)
    monkeypatch.setattr(opencast_client, "BYTES_PER_ACTION", 1000)
    monkeypatch.setattr(zoom_api, "PERMIT_WAIT", 0.05)
    monkeypatch.setattr(zoom_api, "LIST_PERMIT_WAIT", 0.05)
    monkeypatch.setattr(zoom_api, "LONGEST_ANSWER", 0.5)
    monkeypatch.setattr(auth, "LONGEST_ANSWER", 0.5)
    monkeypatch.setitem(BoundedSession.fetch.__kwdefaults__, "largest", 2_000_000)
    monkeypatch.setitem(zoom_engine.__kwdefaults__, "patience", 0.0)  # what waits for its turn is put off
    monkeypatch.setattr(cache, "TRY_AGAIN_SECONDS", 1)
    monkeypatch.setattr(failures, "FIRST_BACK_OFF", 0.001)
    monkeypatch.setattr(status, "LONG", 0.0)  # what fails now has failed for long


@pytest.fixture(scope="module", autouse=True)
def own_clients():
    """Give each module AWS clients of its own: to make one costs as much as most of these tests."""
    aws.s3_client.cache_clear()
    aws.sqs_client.cache_clear()
    yield
    aws.s3_client.cache_clear()
    aws.sqs_client.cache_clear()


@pytest.fixture(scope="module")
def yesterday():
    return whole_second(datetime.now(UTC)).replace(hour=0, minute=0, second=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def opencast_proxy():
    """A simulated Opencast of Harvard's kind, with a few useractions of the last minutes."""
    options = ["--rows", "40", "--span-seconds", "300", "--episodes", "6", "--zone", "UTC", "--seed", "7"]
    with stack.opencast_simulator(*options) as simulator, Proxy(simulator.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def opencast_actions(opencast_proxy):
    """The simulator's useractions, as `actions.json` has them."""
    answer = requests.get(
        f"http://{opencast_proxy.upstream.netloc}/usertracking/actions.json",
        params={"limit": 100},
        auth=requests.auth.HTTPDigestAuth("admin", "opencast"),
        headers={"X-Opencast-Matterhorn-Authorization": "true", "X-Requested-Auth": "Digest"},
        timeout=10,
    )
    return answer.json()["actions"]["action"]


@pytest.fixture(scope="module")
def rows(opencast_actions):
    """The simulator's useractions: ids and episodes."""
    return {int(action["id"]): action["mediapackageId"] for action in opencast_actions}


@pytest.fixture(scope="module")
def aws_proxy(aws):
    """S3 and SQS."""
    with Proxy(aws) as proxy:
        yield proxy


@pytest.fixture
def index_environment(*, aws_proxy, aws, valkey_url, bucket, queue_name, monkeypatch):
    """The settings of a site that indexes its queue, but for the store."""
    monkeypatch.setattr(receiver, "WAIT", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    return {
        "INDEXER": "true",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "HARVEST_LEASE_SECONDS": "1",
        "HARVEST_MAX_LAG_SECONDS": NEVER_LATE,
        "DIRECT_AWS": aws,
    }
