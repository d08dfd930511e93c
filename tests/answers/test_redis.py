"""Every moment of a harvest, and of indexing, at which Redis can fail, with every way in which it can."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis
import requests
from click.testing import CliRunner
from redis.backoff import NoBackoff
from redis.retry import Retry

from devservers import stack
from devservers.proxy import Call, Proxy
from tests import redis_servers
from tests.answers.indexed import IndexedSite, record
from tests.answers.site import NEVER_LATE, SteppedSite, Workers, opencast_environment, zoom_environment
from tests.answers.tcp import HOST, RedisProxy
from uaharvest import assembly
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import Exit
from uaharvest.indexer import STREAM
from uaharvest.intervals import whole_second
from uaharvest.redis_url import RedisUrl
from uaharvest.sinks.sqlite import SqliteStore

PASSWORD = "open-sesame"
TICKS = 3
RECORDS = 5
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x0a"
NO_ETAG = f'"{"0" * 32}"'
WEB_PAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\nhidden"


class Server:
    """A real Valkey behind a proxy, and a client that goes around it."""

    def __init__(self, child, proxy):
        self.child = child
        self.proxy = proxy
        self.admin = redis.Redis(HOST, child.port, password=PASSWORD, decode_responses=True)
        self.url = f"redis://:{PASSWORD}@{HOST}:{proxy.port}/0"


@dataclasses.dataclass(frozen=True)
class RedisFault:
    """What becomes of faults of one kind.

    Attributes:
        title: For the table in docs/.
        verdict: As the failure policy has it.
        says: How the line in `status` goes on after the place of Redis.
        advice: How it ends.
    """

    title: str
    verdict: str
    says: str
    advice: str

    @property
    def shown(self):
        """The line, for the table in docs/."""
        return f"`Redis at … {self.says.replace(': ', ': …')}. {self.advice}`"


KINDS = {
    "unreachable": RedisFault(
        "cannot be reached", "put off", "does not answer: ", "Does it run, and is REDIS_URL right?"
    ),
    "foreign": RedisFault(
        "something else answers",
        "blocked",
        "answers, but not as Redis does",
        "Check REDIS_URL: host, port, and rediss:// if it expects TLS.",
    ),
    "loading": RedisFault(
        "starts", "put off", "has started and is not ready yet: ", "Wait until it has loaded its data."
    ),
    "in a script": RedisFault(
        "is held up",
        "put off",
        "is busy with a script: ",
        "Wait until the script ends; its log says which one it is.",
    ),
    "login": RedisFault(
        "refuses the login", "blocked", "refuses the login: ", "Check the user and password in REDIS_URL."
    ),
    "permission": RedisFault(
        "refuses a command",
        "blocked",
        "does not permit a command that uaharvest needs: ",
        "Grant it to the user in REDIS_URL with ACL SETUSER.",
    ),
    "cluster": RedisFault(
        "is a cluster's",
        "blocked",
        "belongs to a cluster: ",
        "REDIS_URL must name a Redis without cluster mode.",
    ),
    "replica": RedisFault(
        "is a replica",
        "blocked",
        "takes no writes, because it is a replica: ",
        "REDIS_URL must name the primary, or the sentinels that know it.",
    ),
    "full": RedisFault(
        "is full (noeviction)",
        "blocked",
        "takes no writes, because it is full: ",
        "Give it more memory (maxmemory).",
    ),
    "cannot save": RedisFault(
        "cannot save",
        "blocked",
        "takes no writes, because it cannot save its data: ",
        "Its log says why. Often its disk is full.",
    ),
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A way in which Redis fails.

    Attributes:
        name: For people.
        kind: Of KINDS.
        during: Lets it last for a while.
    """

    name: str
    kind: str
    during: Callable[[Server], contextlib.AbstractContextManager]


def at_the_proxy(answer):
    return lambda server: server.proxy.failing(answer)


def commanded(do, undo, *, reconnect=False):
    """Put the real server into a state; who is connected already stays in unless they must `reconnect`."""

    @contextlib.contextmanager
    def during(server):
        server.admin.execute_command(*do.split())
        if reconnect:
            server.proxy.drop()
        try:
            yield
        finally:
            server.admin.execute_command(*undo.split())

    return during


@contextlib.contextmanager
def without_primary(server):
    server.admin.config_set("replica-serve-stale-data", "no")
    server.admin.replicaof(HOST, "1")
    try:
        yield
    finally:
        server.admin.replicaof("NO", "ONE")
        server.admin.config_set("replica-serve-stale-data", "yes")


@contextlib.contextmanager
def cannot_save(server):
    """Take away the folder that snapshots go to. It does not come back: the server stops to save instead."""
    shutil.rmtree(server.child.directory / "data", ignore_errors=True)
    server.admin.config_set("save", "3600 1000000")
    try:
        server.admin.bgsave()
        redis_servers.Sentinels.wait(
            lambda: server.admin.info("persistence")["rdb_last_bgsave_status"] == "err", seconds=20
        )
        yield
    finally:
        server.admin.config_set("save", "")


FAULTS = (
    Fault("the connection is refused", "unreachable", at_the_proxy("refuse")),
    Fault("the connection is reset", "unreachable", at_the_proxy("reset")),
    Fault("half of an answer, then a reset", "unreachable", at_the_proxy("half")),
    Fault("no answer in time", "unreachable", at_the_proxy("silent")),
    Fault(
        "too many clients",
        "unreachable",
        commanded("CONFIG SET maxclients 1", "CONFIG SET maxclients 1000", reconnect=True),
    ),
    Fault("an answer in HTTP", "foreign", at_the_proxy(WEB_PAGE)),
    Fault("an answer in TLS", "foreign", at_the_proxy(TLS_ALERT)),
    Fault("LOADING", "loading", at_the_proxy(b"-LOADING Redis is loading the dataset in memory\r\n")),
    Fault("BUSY", "in a script", at_the_proxy(b"-BUSY Redis is busy running a script.\r\n")),
    Fault(
        "WRONGPASS",
        "login",
        commanded("CONFIG SET requirepass changed", f"CONFIG SET requirepass {PASSWORD}", reconnect=True),
    ),
    Fault("NOAUTH", "login", at_the_proxy(b"-NOAUTH Authentication required.\r\n")),
    Fault("NOPERM, writes", "permission", commanded("ACL SETUSER default -@write", "ACL SETUSER default +@all")),
    Fault("NOPERM, scripts", "permission", commanded("ACL SETUSER default -evalsha", "ACL SETUSER default +@all")),
    Fault(
        "NOPERM, keys",
        "permission",
        commanded("ACL SETUSER default resetkeys ~celery*", "ACL SETUSER default allkeys"),
    ),
    Fault("MOVED", "cluster", at_the_proxy(b"-MOVED 3999 127.0.0.1:1\r\n")),
    Fault("CLUSTERDOWN", "cluster", at_the_proxy(b"-CLUSTERDOWN Hash slot not served\r\n")),
    Fault("READONLY", "replica", commanded(f"REPLICAOF {HOST} 1", "REPLICAOF NO ONE")),
    Fault("MASTERDOWN", "replica", without_primary),
    Fault("OOM", "full", commanded("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0")),
    Fault("MISCONF", "cannot save", cannot_save),
)


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment of a harvest, or of `indexing`: the site reaches `step`, or `proxy` sees a call that `concerns` it."""

    name: str
    indexing: bool = False
    step: str = ""
    proxy: str = ""
    concerns: Callable[[Call], bool] | None = None

    def __str__(self):
        return self.name


MOMENTS = (
    Moment("before a run is opened", step="opening"),
    Moment("before a slice is claimed", step="working"),
    Moment(
        "while episodes are looked up", proxy="opencast", concerns=lambda call: call.path.endswith("/episode.json")
    ),
    Moment("while rows are sent", proxy="aws", concerns=lambda call: call.target == "SendMessageBatch"),
    Moment(
        "while the watermark is written",
        proxy="aws",
        concerns=lambda call: (
            call.path.endswith("/last-action-timestamp")
            and call.headers.get("if-match", NO_ETAG) != NO_ETAG  # with which it is tried whether S3 heeds it
        ),
    ),
    Moment(
        "while Zoom's list is read", proxy="zoom", concerns=lambda call: call.path.endswith("/metrics/meetings")
    ),
    Moment(
        "while the quota is spent on a meeting",
        proxy="zoom",
        concerns=lambda call: call.path.endswith("/participants"),
    ),
    Moment("before the indexer begins", indexing=True, step="indexing"),
    Moment(
        "while the indexer receives",
        indexing=True,
        proxy="aws",
        concerns=lambda call: call.target == "ReceiveMessage",
    ),
    Moment(
        "while it writes a dead letter",
        indexing=True,
        proxy="aws",
        concerns=lambda call: call.method == "PUT" and "/index/" in call.path,
    ),
    Moment(
        "while it deletes messages",
        indexing=True,
        proxy="aws",
        concerns=lambda call: call.target == "DeleteMessageBatch",
    ),
    Moment(
        "while it looks whether the queue is empty",
        indexing=True,
        proxy="aws",
        concerns=lambda call: call.target == "GetQueueAttributes",
    ),
)


def _cases():
    """Each kind and each moment are tried once always; the rest is left to `make test-faults`."""
    first = [next(fault.name for fault in FAULTS if fault.kind == kind) for kind in KINDS]
    always = {
        (MOMENTS[number % len(MOMENTS)], first[number % len(first)])
        for number in range(max(len(MOMENTS), len(first)))
    }
    return [
        pytest.param(
            moment,
            fault,
            id=f"{moment.name} - {fault.name}",
            marks=() if (moment, fault.name) in always else (pytest.mark.fault, pytest.mark.long),
        )
        for moment in MOMENTS
        for fault in FAULTS
    ]


CASES = _cases()
OF_USERACTIONS = [case for case in CASES if not case.values[0].indexing and case.values[0].proxy != "zoom"]
OF_ZOOM = [case for case in CASES if case.values[0].proxy == "zoom"]
OF_THE_INDEXER = [case for case in CASES if case.values[0].indexing]


def status_of(site):
    """Return what `manage.py status` prints, and its exit code."""

    class Here(Context):
        settings = site.settings

    done = CliRunner().invoke(cli, ["status"], obj=Here(Workers))
    return done.output.splitlines(), done.exit_code


def noted(site, stream, place, error):
    """Note a failure as a task does, in the Redis that fails."""
    with contextlib.closing(assembly.redis_client(site.settings)) as client:
        assembly.state(site.settings, client, stream=stream).failed(place, error)


class RedisSite(SteppedSite):
    """A site that reaches Redis through the proxy. What the test itself asks of it goes past the proxy."""

    def time_passes(self):
        with contextlib.suppress(redis.RedisError):  # its state may spare nobody
            super().time_passes()

    def _note(self, place, error):
        noted(self, self.stream, place, error)


class RedisIndexedSite(IndexedSite):
    """A site whose indexer reaches Redis through the proxy, and which does something before it begins."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.at = {}

    def tick(self):
        self.at.pop("indexing", lambda: None)()
        super().tick()

    def _note(self, place, error):
        noted(self, STREAM, place, error)

    def indexed(self):
        """Return the ids of all documents."""
        return sorted(int(one["_id"]) for one in assembly.document_store(self.settings).select("useractions*"))


@pytest.fixture(scope="module")
def server():
    # What the tests are about must not reach the Valkey that others share.
    options = ("--requirepass", PASSWORD)
    with redis_servers.valkey(*options) as child, RedisProxy(child.port) as proxy:
        made = Server(child, proxy)
        yield made
        made.admin.close()


@pytest.fixture
def environment(aws_proxy, aws, server, bucket, monkeypatch):
    """What sites have in common, and clients of Redis that do not wait for long."""
    of_redis = RedisUrl.client
    hasty = {"socket_timeout": 0.5, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 1)}
    monkeypatch.setattr(RedisUrl, "client", lambda url, **options: of_redis(url, **options | hasty))
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    return {"REDIS_URL": server.url, "DIRECT_AWS": aws, "S3_HARVEST_TS_BUCKET": bucket}


@pytest.fixture
def site(*, environment, opencast_proxy, server, queue_name, monkeypatch):
    environment |= opencast_environment(opencast_proxy.url) | {"SQS_QUEUE_NAME": queue_name}
    return RedisSite("useractions", environment, server.admin, monkeypatch)


@pytest.fixture
def indexed_site(*, index_environment, environment, server, tmp_path, monkeypatch):
    environment = index_environment | environment | {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"}
    return RedisIndexedSite(environment, server.admin, monkeypatch)


@pytest.fixture(scope="module")
def yesterday():
    return whole_second(datetime.now(UTC)).replace(hour=0, minute=0, second=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def zoom_proxy(yesterday):
    options = ["--meetings", "4", "--date", f"{yesterday:%F}", "--seed", "11"]
    options += ["--limit", "heavy+resource-intensive=100000/s"]
    with stack.zoom_simulator(*options) as simulator, Proxy(simulator.url) as proxy:
        yield proxy


@pytest.fixture
def zoom_site(environment, zoom_proxy, server, tmp_path, monkeypatch):
    environment |= zoom_environment(zoom_proxy.url, tmp_path) | {"HARVEST_MAX_LAG_SECONDS": NEVER_LATE}
    return RedisSite("zoom", environment, server.admin, monkeypatch)


@contextlib.contextmanager
def struck(site, server, moment, fault, proxies):
    """Let the fault begin at its moment, once, and last until the end."""
    begun = []
    with contextlib.ExitStack() as lasting:

        def strike():
            lasting.enter_context(fault.during(server))
            begun.append(fault)

        if moment.step:
            site.at[moment.step] = strike
            yield
        else:
            with proxies[moment.proxy].watching(moment.concerns, strike):
                yield
    assert begun, "the moment never came"


def assert_it_is_told(site, server, fault):
    """Look at `manage.py status` while the fault lasts."""
    shown, code = status_of(site)
    kind = KINDS[fault.kind]
    told = [line for line in shown if "Redis" in line]
    assert len(told) == 1, shown
    assert told[0].startswith(f"Redis at {HOST}:{server.proxy.port} {kind.says}"), told
    assert told[0].endswith(kind.advice), told
    assert code == Exit.BLOCKED
    assert not any(secret in line for line in shown for secret in (PASSWORD, "hidden"))


@pytest.mark.parametrize(("moment", "fault"), OF_USERACTIONS)
def test_a_redis_that_fails_is_named_and_loses_no_useraction(
    *, site, server, rows, opencast_proxy, aws_proxy, moment, fault
):
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=1))
    with struck(site, server, moment, fault, {"opencast": opencast_proxy, "aws": aws_proxy}):
        for _ in range(TICKS):
            site.tick()
        assert_it_is_told(site, server, fault)
    assert site.heals(now - timedelta(seconds=1))
    assert set(site.received()) == set(rows)
    assert site.dead_letters() == []
    assert site.report()[1] == 0


@pytest.mark.parametrize(("moment", "fault"), OF_ZOOM)
def test_a_redis_that_fails_is_named_and_loses_no_meeting(
    *, zoom_site, server, zoom_proxy, yesterday, moment, fault, tmp_path
):
    zoom_site.begin(yesterday)
    with struck(zoom_site, server, moment, fault, {"zoom": zoom_proxy}):
        for _ in range(TICKS):
            zoom_site.tick()
        assert_it_is_told(zoom_site, server, fault)
    assert zoom_site.heals(yesterday + timedelta(days=1))
    day = {"from": f"{yesterday:%F}", "to": f"{yesterday:%F}", "sessions": 1}
    truth = requests.get(f"http://{zoom_proxy.upstream.netloc}/_sim/truth", params=day, timeout=10).json()
    store = SqliteStore(tmp_path / "documents.db")
    assert {one["uuid"] for one in store.select("meetings*")} == {one["uuid"] for one in truth["meetings"]}
    assert len(list(store.select("sessions*"))) == sum(len(one["sessions"]) for one in truth["meetings"])
    assert zoom_site.dead_letters() == []
    assert zoom_site.report()[1] == 0


@pytest.mark.parametrize(("moment", "fault"), OF_THE_INDEXER)
def test_a_redis_that_fails_is_named_and_every_message_is_indexed_or_kept(
    *, indexed_site, server, aws_proxy, moment, fault
):
    site = indexed_site
    site.begin(None)
    site.send(*(json.dumps(record(number)) for number in range(RECORDS)), "no JSON")
    with struck(site, server, moment, fault, {"aws": aws_proxy}):
        for _ in range(TICKS):
            site.tick()
        assert_it_is_told(site, server, fault)
        assert site.waiting() >= RECORDS + 1 - len(site.indexed()) - len(site.kept())
    site.drained()
    assert site.indexed() == list(range(RECORDS))
    assert len(site.kept()) == 1
    assert not any("Redis" in line for line in site.found()[1])
