"""Some answers of each service, met by a real worker: what `manage.py status` says, and that it heals."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import requests
from celery import Celery

from devservers import stack
from devservers.answers import ANSWERS, fewer
from devservers.proxy import Call, Proxy
from tests import commands
from tests.answers.indexed import record
from tests.answers.site import NEVER_LATE, Site, opencast_environment, zoom_environment
from uaharvest import assembly
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second
from uaharvest.redis_url import RedisUrl
from uaharvest.sinks.sqlite import SqliteStore

PATIENCE = 90  # seconds after which a condition counts as never met
TICK = 0.5  # seconds between two ticks
DAY = timedelta(days=1)
ROWS, EPISODES, MEETINGS, RECORDS = 40, 6, 3, 3
ITEM = [""]  # the episode or the meeting that is attacked
BY_NAME = {answer.name: answer for answer in (*ANSWERS, fewer("meetings"))}


@dataclasses.dataclass(frozen=True)
class Row:
    """An answer to some calls.

    Attributes:
        name: For people.
        answer: Its name.
        concerns: Which calls are answered.
        code: The exit code of `status`.
        line: What a line of it must say.
    """

    name: str
    answer: str
    concerns: Callable[[Call], bool]
    code: Exit
    line: str

    def __str__(self):
        return f"{self.name} - {self.answer}"


def actions(call):
    return call.path.endswith("/actions.json")


def search(call):
    return call.path.endswith("/search/episode.json")


def item(call):
    return ITEM[0] in {call.query.get("id"), call.path.removesuffix("/participants").rpartition("/")[2]}


def watermark(method):
    return lambda call: call.method == method and call.path.endswith("/last-action-timestamp")


def send(call):
    return call.target == "SendMessageBatch"


USERACTIONS = (
    Row("Opencast: actions", "403 with a web page", actions, Exit.BLOCKED, "MATTERHORN_REST_USER"),
    Row("Opencast: actions", "a redirect to another host", actions, Exit.BLOCKED, "elsewhere.invalid"),
    Row("Opencast: actions", "429 without a body", actions, Exit.BLOCKED, "Opencast"),
    Row("Opencast: search", "503 with JSON", search, Exit.BLOCKED, "Opencast"),
    Row("Opencast: search", "200 with a web page", search, Exit.BLOCKED, "web page"),
    Row("Opencast: one episode", "403 with a web page", item, Exit.DEAD_LETTERS, "dead letters wait"),
    Row("S3: watermark", "a redirect to another host", watermark("GET"), Exit.BLOCKED, "s3://"),
    Row("S3: watermark", "502 without a body", watermark("PUT"), Exit.BLOCKED, "s3://"),
    Row("SQS: send", "403 without a body", send, Exit.BLOCKED, "SQS"),
    Row("SQS: send", "no answer, the connection is reset", send, Exit.BLOCKED, "SQS"),
)
ZOOM = (
    Row(
        "Zoom: token",
        "401 without a body",
        lambda call: call.path == "/oauth/token",
        Exit.BLOCKED,
        "ZOOM_TOKEN_URL",
    ),
    Row(
        "Zoom: list",
        "200 with half of the JSON",
        lambda call: call.path.endswith("/metrics/meetings"),
        Exit.BLOCKED,
        "Zoom",
    ),
    Row(
        "Zoom: list",
        "fewer rows than its total",
        lambda call: call.path.endswith("/metrics/meetings"),
        Exit.BLOCKED,
        "metrics/meetings",
    ),
    Row("Zoom: one meeting", "500 with a web page", item, Exit.DEAD_LETTERS, "dead letters wait"),
)
INDEX = (
    Row(
        "Elasticsearch: bulk",
        "403 without a body",
        lambda call: call.path.endswith("/_bulk"),
        Exit.BLOCKED,
        "at http://",
    ),
    Row(
        "Elasticsearch: bulk",
        "503 with JSON",
        lambda call: call.path.endswith("/_bulk"),
        Exit.BLOCKED,
        "at http://",
    ),
)


def parameters(rows, always=None):
    others = [row for row in rows if row is not always]
    return [
        *([pytest.param(always, id=str(always))] if always else []),
        pytest.param(others[0], id=str(others[0]), marks=pytest.mark.fault),
        *(pytest.param(row, id=str(row), marks=(pytest.mark.fault, pytest.mark.long)) for row in others[1:]),
    ]


class WorkedSite(Site):
    """A site with a worker of its own; the test is beat."""

    def __init__(self, stream, environment, client, patch):
        super().__init__(stream, environment, client, patch)
        self._celery = Celery()
        self._celery.config_from_object("celeryconfig")
        broker = RedisUrl.parse(environment["REDIS_URL"]).broker({})
        self._celery.conf.broker_url = broker.url
        self._celery.conf.broker_transport_options |= broker.transport_options
        self._worker = None

    @contextlib.contextmanager
    def at_work(self):
        """Start a worker that hears all queues."""
        options = ("--concurrency", "1", "--without-gossip", "--without-mingle")
        with stack.celery("worker", *options, environment=self.environment) as self._worker:
            yield
            self._worker.kill()
        self._celery.close()

    def tick(self):
        self.time_passes()
        indexes = self.stream == "index"
        queue = self.stream if self.stream in {"zoom", "index"} else "control"
        task = "index.drain" if indexes else f"{self.stream}.advance"
        self._celery.send_task(task, queue=queue, expires=2 * TICK)

    def until(self, condition):
        """Tick until `condition` holds; return what it returned."""
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < end, self._worker.output[-3000:]
            self.tick()
            time.sleep(TICK)
        return found

    def manage(self, *arguments):
        done = commands.manage(*arguments, environment=self.environment, timeout=PATIENCE)
        return done.returncode, done.stdout

    def failures(self):
        state = assembly.state(self.settings, self.redis, stream=self.stream)
        return state.failures()

    def says(self, row):
        """Tick until `status` reports the row as it should."""
        self.until(self.dead_letters if row.code == Exit.DEAD_LETTERS else self.failures)
        found = ()

        def reported():
            nonlocal found
            found = self.manage("status")
            return found[0] == row.code and row.line in found[1]

        with contextlib.suppress(AssertionError):
            self.until(reported)
        assert found[0] == row.code, found
        assert any(row.line in line for line in found[1].splitlines()), found

    def is_well(self):
        """Tick until `status` is green."""
        self.until(lambda: self.manage("status")[0] == Exit.DONE)


@pytest.fixture
def environment(*, aws_proxy, aws, client, valkey_url, bucket, queue_name, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    return {
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "OPENCAST_TIMEZONE": "UTC",
        "HARVEST_LAG_SECONDS": "0",
        "HARVEST_MAX_LAG_SECONDS": NEVER_LATE,
        "HARVEST_LEASE_SECONDS": "2",
        "HARVEST_ATTEMPTS": "2",
        "DIRECT_AWS": aws,
    }


def truth_of(proxy, path):
    return requests.get(f"http://{proxy.upstream.netloc}/_sim/{path}", timeout=10).json()


@pytest.mark.parametrize("row", parameters(USERACTIONS, always=USERACTIONS[0]))
def test_useractions(*, environment, opencast_proxy, aws_proxy, client, monkeypatch, row):
    environment |= opencast_environment(opencast_proxy.url)
    ITEM[0] = truth_of(opencast_proxy, "episodes")["episodes"][0]["id"]
    site = WorkedSite("useractions", environment, client, monkeypatch)
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=2))
    proxy = opencast_proxy if row.name.startswith("Opencast") else aws_proxy
    with site.at_work():
        with proxy.answering(row.concerns, BY_NAME[row.answer].reply):
            site.says(row)
        site.until(lambda: (site.mark or now - DAY) >= now - timedelta(seconds=1))
        if row.code == Exit.DEAD_LETTERS:
            assert site.manage("dead-letters", "replay", "--all")[0] == Exit.DONE
        site.is_well()
    arrived = site.received()
    assert len(arrived) == ROWS
    assert set(arrived.values()) == {1}


@pytest.fixture(scope="module")
def zoom_proxy():
    options = ("--meetings", str(MEETINGS), "--limit", "heavy+resource-intensive=100000/s")
    with stack.zoom_simulator(*options) as simulator, Proxy(simulator.url) as proxy:
        yield proxy


@pytest.mark.parametrize("row", parameters(ZOOM))
def test_zoom(*, environment, zoom_proxy, client, tmp_path, monkeypatch, row):
    environment |= zoom_environment(zoom_proxy.url, tmp_path)
    today = whole_second(datetime.now(UTC)).replace(hour=0, minute=0, second=0)
    meetings = truth_of(zoom_proxy, f"truth?from={today - DAY:%F}&sessions=1")["meetings"]
    ITEM[0] = requests.utils.quote(max(meetings, key=lambda one: len(one["sessions"]))["uuid"], safe="")
    site = WorkedSite("zoom", environment, client, monkeypatch)
    site.begin(today - DAY)
    with site.at_work():
        with zoom_proxy.answering(row.concerns, BY_NAME[row.answer].reply):
            site.says(row)
        site.until(lambda: (site.mark or today - DAY) >= today)
        if row.code == Exit.DEAD_LETTERS:
            assert site.manage("dead-letters", "replay", "--all")[0] == Exit.DONE
        site.is_well()
    store = SqliteStore(tmp_path / "documents.db")
    assert sorted(one["uuid"] for one in store.select("meetings*")) == sorted(one["uuid"] for one in meetings)
    assert len(list(store.select("sessions*"))) == sum(len(one["sessions"]) for one in meetings)


@pytest.fixture(scope="module")
def es_proxy(elasticsearch_url):
    with Proxy(elasticsearch_url) as proxy:
        yield proxy


@pytest.mark.parametrize("row", parameters(INDEX))
def test_index(*, environment, es, templates, es_proxy, client, monkeypatch, row):
    environment |= {"INDEXER": "true", "ES_HOST": es_proxy.url}
    site = WorkedSite("index", environment, client, monkeypatch)
    site.begin(None)
    sqs = boto3.client("sqs", endpoint_url=environment["DIRECT_AWS"])
    url = sqs.get_queue_url(QueueName=site.settings.queue)["QueueUrl"]
    for number in range(RECORDS):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record(number)))
    sqs.close()
    with site.at_work():
        with es_proxy.answering(row.concerns, BY_NAME[row.answer].reply):
            site.says(row)
        site.until(lambda: assembly.sqs_sink(site.settings).depth()[:2] == (0, 0))
        site.is_well()
    es.indices.refresh(index="useractions*")
    assert es.count(index="useractions*")["count"] == RECORDS
