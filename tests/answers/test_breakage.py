"""What each fault shows, and where: every place that an operator looks at names the culprit and the remedy.

Each fault is real: the thing is broken, a tick or two is harvested by the tasks that workers run, and then the doctor,
`status`, the metrics (whose alerts Prometheus's own promtool evaluates), the log and the alerts for a person are read.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import redis
import requests
import yaml
from click.testing import CliRunner
from redis import Redis

import celeryconfig
from devservers import databases, stack
from devservers.proxy import Proxy, Reply
from tasks import alerts as alerts_task
from tasks import index as index_task
from tasks.streams import TASKS
from tests.answers.indexed import record
from tests.answers.site import Site as HarvestedSite
from tests.answers.site import opencast_environment, zoom_environment
from tests.doctor.conftest import Workers
from tests.doctor.test_aws import DENIED_S3, DENIED_SQS
from tests.system.conftest import sites
from uaharvest import alerts, assembly, aws, counters, index_templates, keys, logs, metrics, settings, startup
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import Exit
from uaharvest.indexer import STREAM
from uaharvest.intervals import whole_second
from uaharvest.readers import cluster_url
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection
from uaharvest.sinks.sqs import RETENTION
from uaharvest.zoom.endpoints import MEETINGS, PARTICIPANTS, USERS

PAGE = stack.ROOT / "docs/breakage.md"
RULES = stack.ROOT / "monitoring/alerts.yml"
ME = "tests/answers/test_breakage.py"
UNHEALTHY = "UaharvestUnhealthy"
MINUTES = 90
INDEX = "useractions-2026.11.20"
SECRETS = ("wrong-secret", "word-of-webhook")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an operator sees of a fault.

    Attributes:
        doctor: The lines of the doctor that are not ok, each as check, status and text.
        doctor_code: Its exit code.
        status: The troubles and notes of `status`, or its one line.
        status_code: Its exit code.
        firing: The alerts of monitoring/alerts.yml that fire if this lasts, in their order.
        log: The lines of the log, warnings and worse.
        person: The texts of the alerts for a person.
    """

    doctor: list[tuple[str, str, str]]
    doctor_code: int
    status: list[str]
    status_code: int
    firing: list[str]
    log: list[str]
    person: list[str]


class Site(HarvestedSite):
    """A site of real servers, harvested in this process by the tasks of the workers."""

    def __init__(self, environment, client, patch, folder):
        super().__init__("useractions", environment, client, patch)
        self.folder = folder
        self.output = io.StringIO()
        self.server = None  # the Valkey
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(TASKS["useractions"], "hints", self.hints)
        patch.setattr(TASKS["zoom"], "hints", self.hints)

    def begin(self, start):
        super().begin(start)
        assembly.indexer_state(self.settings, self.redis).state.tick(0)

    def change(self, **variables):
        """Change settings, as someone who restarts all processes afterwards; None removes one."""
        for name, value in variables.items():
            if value is None:
                self._patch.delenv(name, raising=False)
            else:
                self._patch.setenv(name, value)
        self.environment = {
            name: value for name, value in {**self.environment, **variables}.items() if value is not None
        }
        self.restart()

    def restart(self):
        """Forget what a process keeps."""
        settings.current.cache_clear()
        index_task.indexer.cache_clear()
        for tasks in TASKS.values():
            tasks.__dict__.pop("engine", None)
        self.settings = settings.current()

    def start(self):
        """Report what worker and beat report when they start, and log from now on."""
        with contextlib.redirect_stderr(self.output):
            logs.configure("info", self.settings)
        for problem in startup.problems(self.settings):
            logs.structlog.get_logger().error(problem)

    def tick(self):
        with contextlib.suppress(redis.RedisError):
            self.time_passes()
        if self.stream == STREAM:
            index_task.drain(seconds=10)
            return
        TASKS[self.stream].advance()
        while self.hints.waiting:
            TASKS[self.stream].fetch(*self.hints.waiting.popleft())

    def simulate(self, proxy, path, body):
        """Talk to the control interface of the simulator behind a proxy."""
        requests.post(f"http://{proxy.upstream.netloc}/_sim/{path}", json=body, timeout=30).raise_for_status()

    def look(self):
        """Look everywhere."""
        return looked(self._command, self.output.getvalue(), self.settings)

    def _command(self, *arguments):
        settings.current.cache_clear()  # as in a process of its own
        result = CliRunner().invoke(cli, arguments, obj=Context(lambda: Workers(self.settings)))
        return result.exit_code, result.stdout, result.stderr


def looked(command, log, settings_):
    """Return what the commands show, given the log and the settings of the workers."""
    doctor_code, said, _ = command("doctor", "--json")
    doctor = [
        (one["check"], one["status"], f"{one['found']}. {one['remedy']}".strip())
        for one in json.loads(said)["checks"]
        if one["status"] in {"warn", "fail"}
    ]
    status_code, said, error = command("status", "--json")
    if status_code in {Exit.ERROR, Exit.USAGE}:  # nothing starts, the metrics neither
        return Seen(doctor, doctor_code, error.splitlines(), status_code, firing([]), log_lines(log), [])
    report = json.loads(said)
    lines = [trouble["line"] for trouble in report["troubles"]] + report["notes"] + log_lines(error)
    counted = None if report["redis"]["error"] else metrics.count(settings_)
    _, texts = alerts.decide({}, report, "2026-11-20T12:00:00Z")
    return Seen(
        doctor=doctor,
        doctor_code=doctor_code,
        status=lines,
        status_code=status_code,
        firing=firing(list(metrics.families(metrics.samples(settings_, report, counted, datetime.now(UTC))))),
        log=log_lines(log),
        person=[alert.text for alert in texts],
    )


def log_lines(text):
    """Return the warnings and errors of a log, as event and reason."""
    found = []
    for line in text.splitlines():
        if not line.startswith("{"):
            found.append(line)
            continue
        entry = json.loads(line)
        if entry["level"] in {"warning", "error"} or entry["event"] in {"put off", "slice put off"}:
            more = entry.get("reason") or entry.get("text") or entry.get("command") or ""
            found.append(f"{entry['level']}: {entry['event']}{f': {more}' if more else ''}")
    return list(dict.fromkeys(found))


def firing(families):
    """Return the alerts that fire if things stay as they are: gauges stay, counters grow by as much each minute."""
    series = []
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            value = float(sample.value)
            grows = value if family.type in {"counter", "histogram"} else 0
            series.append(
                {
                    "series": f"{sample.name}{{{labels}}}",
                    "values": f"{value}+{grows}x{MINUTES}",
                }
            )
    names = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    # promtool compares and does not show: an expectation that cannot hold makes it name what it got.
    query = {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{MINUTES - 1}m",
        "exp_samples": [{"labels": '{alertname="none"}', "value": 0}],
    }
    group = {"interval": "1m", "input_series": series, "promql_expr_test": [query]}
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [group]}
    done = subprocess.run(
        ["promtool", "test", "rules", "/dev/stdin"],
        input=yaml.safe_dump(content),
        capture_output=True,
        text=True,
        check=False,
    )
    got = (done.stdout + done.stderr).partition("got:")[2]
    assert got, done.stdout + done.stderr
    return [name for name in names if f'alertname="{name}"' in got]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what must show it.

    Attributes:
        name: For people.
        breaks: Breaks it for a while; takes the site and pytest's request.
        says: What each place must name: the culprit, and a setting, command or permission; regular expressions.
        checks: The doctor's checks that find it, the first one first; none if it is the harvest's own state.
        code: The exit code of `status`.
        alerts: The alerts of Prometheus that fire, besides UaharvestUnhealthy.
        person: Whether a person gets an alert.
        stream: The stream that ticks.
        ticks: How often.
        log: Whether the log has a line.
    """

    name: str
    breaks: Callable
    says: tuple[str, ...]
    checks: tuple[str, ...] = ()
    code: int = Exit.BLOCKED
    alerts: tuple[str, ...]
    person: bool = True
    stream: str = "useractions"
    ticks: int = 2
    log: bool = True


@pytest.fixture(autouse=True)
def nothing_counted():
    """Forget what the tests before have counted."""
    with counters.taken():
        pass


@pytest.fixture(scope="module")
def own_valkey():
    """A Valkey as in production: with AOF and a limit."""
    with stack.valkey(appendonly=True) as server:
        with Redis.from_url(server.url, decode_responses=True) as client:
            client.config_set("maxmemory", "100mb")
        yield server


@pytest.fixture
def site(*, opencast_proxy, aws_proxy, aws, own_valkey, tmp_path, monkeypatch, bucket, queue_name):
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": str(RETENTION)})
    sqs.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    aws_module_forgets()
    environment = opencast_environment(opencast_proxy.url) | {
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "REDIS_URL": own_valkey.url,
        "INDEXER": "true",
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "DIRECT_AWS": aws,
        "LOG_FORMAT": "json",
    }
    with Redis.from_url(own_valkey.url, decode_responses=True) as client:
        client.config_set("maxmemory", "100mb")
        site = Site(environment, client, monkeypatch, tmp_path)
        site.server, site.opencast, site.aws = own_valkey, opencast_proxy, aws_proxy
        site.restart()
        yield site
        site.restart()
    settings.current.cache_clear()
    aws_module_forgets()


def aws_module_forgets():
    aws.s3_client.cache_clear()
    aws.sqs_client.cache_clear()


# What breaks


@contextlib.contextmanager
def opencast_is_away(site, _):
    with site.opencast.answering(lambda _: True, Reply(breaks="reset")):
        yield


def changed(**variables):
    """Return what changes settings, and restarts the processes."""

    @contextlib.contextmanager
    def breaks(site, _):
        site.change(**variables)
        yield

    return breaks


@contextlib.contextmanager
def the_clock_of_opencast_is_ahead(site, _):
    site.simulate(site.opencast, "clock", {"offset_seconds": 7200})
    try:
        yield
    finally:
        site.simulate(site.opencast, "clock", {"offset_seconds": 0})


@contextlib.contextmanager
def an_episode_is_refused(site, request):
    mpid = min(request.getfixturevalue("rows").values())

    def concerns(call):
        return call.path.endswith("/search/episode.json") and call.query.get("id") == mpid

    with site.opencast.answering(concerns, Reply(403)):
        yield


def of_s3(site):
    return lambda call: call.path.startswith(f"/{site.settings.bucket}")


@contextlib.contextmanager
def s3_denies(site, _):
    with site.aws.answering(of_s3(site), DENIED_S3):
        yield


@contextlib.contextmanager
def s3_is_away(site, _):
    with site.aws.answering(of_s3(site), Reply(breaks="reset")):
        yield


@contextlib.contextmanager
def the_watermark_is_gone(site, _):
    site.tick()
    s3 = boto3.client("s3", endpoint_url=site.environment["DIRECT_AWS"])
    s3.delete_object(Bucket=site.settings.bucket, Key=assembly.watermark_key(site.settings, "useractions"))
    s3.close()
    yield


@contextlib.contextmanager
def sqs_denies(site, _):
    with site.aws.answering(lambda call: bool(call.target), DENIED_SQS):
        yield


@contextlib.contextmanager
def the_queue_is_gone(site, _):
    for _ in range(2):  # the second one commits what the first has delivered
        site.tick()
    sqs = boto3.client("sqs", endpoint_url=site.environment["DIRECT_AWS"])
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=site.settings.queue)["QueueUrl"])
    sqs.close()
    now = datetime.now(UTC).timestamp() - 5
    body = {"rows": [{"created": now, "mediapackage": "mp", "type": "PLAY"}]}
    site.simulate(site.opencast, "rows", body)
    while datetime.now(UTC) < site.mark + timedelta(seconds=1):
        time.sleep(0.05)  # a window is a second at least
    aws_module_forgets()
    site.restart()
    yield


@contextlib.contextmanager
def redis_is_away(site, _):
    site.server.kill()
    try:
        yield
    finally:
        site.server.revive()
        site.server.wait_until_ready()


def redis_has(name, value):
    """Return what configures Redis."""

    @contextlib.contextmanager
    def breaks(site, _):
        before = site.redis.config_get(name)[name]
        site.redis.config_set(name, value)
        site.start()
        try:
            yield
        finally:
            site.redis.config_set(name, before)

    return breaks


@contextlib.contextmanager
def a_cluster(site, request):
    """Let useractions be indexed into a real cluster, where one index is; yield its client and a proxy before it."""
    url, es = request.getfixturevalue("elasticsearch_url"), request.getfixturevalue("es")
    with Proxy(url) as proxy:
        site.change(DOCUMENTS_URL=None, ES_HOST=proxy.url)
        assembly.indexer_state(site.settings, site.redis).state.tick(0)
        index_templates.load(connection.connect(Settings(es_url=cluster_url(url))))
        sqs = boto3.client("sqs", endpoint_url=site.environment["DIRECT_AWS"])
        queue = sqs.get_queue_url(QueueName=site.settings.queue)["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(record(1)))
        sqs.close()
        yield es, proxy


@contextlib.contextmanager
def elasticsearch_is_away(site, request):
    with a_cluster(site, request) as (_, proxy), proxy.answering(lambda _: True, Reply(breaks="reset")):
        yield


@contextlib.contextmanager
def the_index_is_read_only(site, request):
    with a_cluster(site, request) as (es, _):
        es.indices.create(index=INDEX)
        es.indices.put_settings(index=INDEX, body={"index.blocks.write": True})
        yield


@contextlib.contextmanager
def the_template_is_missing(site, request):
    with a_cluster(site, request) as (es, _):
        es.indices.delete_index_template(name="uaharvest-*")
        yield


@contextlib.contextmanager
def the_database_refuses(site, _):
    if package := databases.missing("postgresql"):
        pytest.skip(f"no real PostgreSQL to test with: Debian's {package} is not installed")
    with databases.database("postgresql", zone="UTC") as server:
        engine = databases.engine(server)
        databases.create_tables(engine)
        engine.dispose()
        login, _, place = server.url.rpartition("@")
        wrong = f"{login.rpartition(':')[0]}:wrong-secret@{place}"
        site.change(OPENCAST_DATABASE_URL=wrong, OPENCAST_PROFILE=None)
        yield


def zoom_with(*options, **variables):
    """Return what harvests a Zoom account of this kind, with these settings."""

    @contextlib.contextmanager
    def breaks(site, request):
        yesterday = request.getfixturevalue("yesterday")
        data = ("--meetings", "3", "--date", f"{yesterday:%F}")
        with stack.zoom_simulator(*data, *options) as server:
            site.change(**zoom_environment(server.url, site.folder) | variables)
            s3 = boto3.client("s3", endpoint_url=site.environment["DIRECT_AWS"])
            key = assembly.watermark_key(site.settings, "zoom")
            s3.put_object(Bucket=site.settings.bucket, Key=key, Body=first(yesterday).to_json().encode())
            s3.close()
            assembly.state(site.settings, site.redis, stream="zoom").tick(0)
            yield

    return breaks


@contextlib.contextmanager
def the_receiver_of_alerts_is_away(site, _):
    site.change(ALERT_WEBHOOK_URL=f"http://127.0.0.1:{stack.free_port()}/word-of-webhook")
    dead_letters = assembly.dead_letters(site.settings)
    letter = DeadLetter.of_record("useractions", 1, "why", {})
    dead_letters.put(letter)
    alerts_task.check()
    dead_letters.drop(letter.name)
    yield


@contextlib.contextmanager
def a_name_is_misspelt(site, _):
    with contextlib.redirect_stderr(site.output):
        site.change(HARVEST_EVERY_SECOND="60")
    yield


def env_file(line):
    """Return what writes a line to `.env`, with which nothing starts any more."""

    @contextlib.contextmanager
    def breaks(site, _):
        (site.folder / ".env").write_text(f"LOG_LEVEL=info\n{line}\n")
        (site.folder / ".env").chmod(0o600)
        worker = [sys.executable, "-m", "celery", "-A", "tasks", "worker"]
        python = {"PYTHONPATH": str(stack.ROOT)}
        done = subprocess.run(
            worker, env=os.environ | python, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == Exit.USAGE
        site.output.write(done.stderr)
        try:
            yield
        finally:
            (site.folder / ".env").unlink()

    return breaks


BLOCKED = "UaharvestStreamBlocked"
FAILING = "UaharvestStreamFailing"
DOWN = "UaharvestUpstreamDown"
REFUSES = "UaharvestUpstreamRefuses"
GONE = "UaharvestMetricsGone"
UNUSABLE = {
    "checks": ("settings.values",),
    "code": Exit.USAGE,
    "alerts": (GONE,),
    "person": False,
    "ticks": 0,
}
QUICK = (
    Fault(
        name="Opencast is down",
        breaks=opencast_is_away,
        says=("Opencast at ", "MATTERHORN_ENGAGE_HOST"),
        checks=("opencast.engage",),
        alerts=(FAILING, DOWN),
        person=False,
    ),
    Fault(
        name="Opencast refuses the password",
        breaks=changed(MATTERHORN_REST_PASS="wrong-secret"),
        says=("Opencast at .* refused user 'admin'", "MATTERHORN_REST_PASS"),
        checks=("opencast.engage",),
        alerts=(BLOCKED, REFUSES),
    ),
    Fault(
        name="The time zone is wrong",
        breaks=changed(OPENCAST_TIMEZONE="America/New_York"),
        says=("times of Opencast at .* are at", "OPENCAST_TIMEZONE is 'America/New_York'.* Try "),
        checks=("opencast.newest",),
        alerts=(BLOCKED,),
    ),
    Fault(
        name="S3 denies access",
        breaks=s3_denies,
        says=("AccessDenied on s3:.* for s3://bucket", "The role needs s3:GetObject"),
        checks=("s3.bucket",),
        alerts=("UaharvestS3Down", BLOCKED, REFUSES),
    ),
    Fault(
        name="Redis deletes keys when it is full",
        breaks=redis_has("maxmemory-policy", "allkeys-lru"),
        says=("Redis.*deletes|deletes keys", "maxmemory-policy (to )?noeviction"),
        checks=("redis.eviction",),
        alerts=("UaharvestRedisEvicts",),
        person=False,
        code=Exit.DONE,
    ),
)
OTHERS = (
    Fault(
        name="Opencast's clock is two hours ahead",
        breaks=the_clock_of_opencast_is_ahead,
        says=("clock of (Opencast|the source of useractions)", "with NTP"),
        checks=("clocks",),
        alerts=(BLOCKED, "UaharvestClockSkew"),
    ),
    Fault(
        name="MAX_START_END_SPAN refuses a span",
        breaks=changed(MAX_START_END_SPAN="60"),
        says=("MAX_START_END_SPAN", "HARVEST_CATCH_UP=true"),
        checks=("harvest",),
        alerts=("UaharvestSpanRefused",),
        code=Exit.SPAN_REFUSED,
    ),
    Fault(
        name="The search refuses one episode",
        breaks=an_episode_is_refused,
        says=("dead.letter", "manage.py dead-letters list"),
        checks=("dead letters",),
        alerts=("UaharvestDeadLetters",),
        code=Exit.DEAD_LETTERS,
        ticks=5,
    ),
    Fault(
        name="The database refuses the password",
        breaks=the_database_refuses,
        says=("Opencast's database 'opencast' at .* refuses to log user", "OPENCAST_DATABASE_URL"),
        checks=("database.tables",),
        alerts=(BLOCKED, REFUSES),
    ),
    Fault(
        name="S3 is down",
        breaks=s3_is_away,
        says=("s3://bucket.* cannot be reached", "AWS_ENDPOINT_URL"),
        checks=("s3.bucket",),
        alerts=("UaharvestS3Down", FAILING, DOWN),
        person=False,
    ),
    Fault(
        name="The watermark is deleted",
        breaks=the_watermark_is_gone,
        says=("the watermark s3://bucket.* was gone", "manage.py enqueue.*manage.py watermark confirm"),
        checks=("harvest",),
        alerts=("UaharvestLoss",),
    ),
    Fault(
        name="SQS denies access",
        breaks=sqs_denies,
        says=("AccessDenied on sqs:.* for SQS queue", "The role needs sqs:SendMessage"),
        checks=("sqs.queue",),
        alerts=("UaharvestSqsDown", BLOCKED, REFUSES),
    ),
    Fault(
        name="The queue is deleted",
        breaks=the_queue_is_gone,
        says=("SQS queue .* was created again", "manage.py enqueue.*manage.py watermark confirm"),
        checks=("harvest",),
        alerts=("UaharvestLoss",),
    ),
    Fault(
        name="Redis is down",
        breaks=redis_is_away,
        says=("Redis at .* does not answer", "REDIS_URL"),
        checks=("redis.answers",),
        alerts=("UaharvestRedisDown",),
        person=False,
        ticks=1,
    ),
    Fault(
        name="Redis is full",
        breaks=redis_has("maxmemory", "1"),
        says=("Redis at .* is full", "maxmemory"),
        checks=("redis.writable", "redis.memory"),
        alerts=("UaharvestRedisDown",),
        person=False,
        ticks=1,
    ),
    Fault(
        name="Elasticsearch is down",
        breaks=elasticsearch_is_away,
        says=("Elasticsearch or OpenSearch at .* cannot be reached", "ES_HOST"),
        checks=("documents.version",),
        alerts=(FAILING, DOWN),
        person=False,
        stream=STREAM,
    ),
    Fault(
        name="An index is read-only",
        breaks=the_index_is_read_only,
        says=(INDEX, "Remove the block.*index.blocks.write"),
        checks=("documents.indices",),
        alerts=(BLOCKED, "UaharvestIndexBlocked"),
        stream=STREAM,
    ),
    Fault(
        name="The index templates are missing",
        breaks=the_template_is_missing,
        says=("no template", "manage.py setup index-templates"),
        checks=("documents.templates",),
        alerts=(BLOCKED, "UaharvestIndexBlocked"),
        stream=STREAM,
    ),
    Fault(
        name="Zoom refuses the secret",
        breaks=zoom_with(ZOOM_SECRET="wrong-secret"),
        says=("Zoom at .* refuses the app", "ZOOM_SECRET"),
        checks=("zoom.token",),
        alerts=(BLOCKED, REFUSES),
        stream="zoom",
    ),
    Fault(
        name="The Zoom app lacks a scope",
        breaks=zoom_with("--scope", MEETINGS.scopes[0], "--scope", PARTICIPANTS.scopes[0]),
        says=("is not permitted|token's scopes do not permit", f"Give the app the scope {USERS.scopes[0]}"),
        checks=("zoom.token",),
        alerts=(BLOCKED, REFUSES),
        stream="zoom",
    ),
    Fault(
        name="Zoom's calls for the day are used up",
        breaks=zoom_with("--limit", "resource-intensive=0/day"),
        says=("used up|put off", "ZOOM_PLAN|until"),
        checks=("zoom.quota",),
        alerts=("UaharvestZoomQuotaExhausted",),
        person=False,
        code=Exit.DONE,
        stream="zoom",
    ),
    Fault(
        name="The receiver of alerts is down",
        breaks=the_receiver_of_alerts_is_away,
        says=("ALERT_WEBHOOK_URL did not answer", "Is that setting right"),
        checks=("harvest",),
        alerts=(FAILING,),
        person=False,
    ),
    Fault(
        name="A setting in the environment is misspelt",
        breaks=a_name_is_misspelt,
        says=(r"HARVEST_EVERY_SECOND\b", "HARVEST_EVERY_SECONDS"),
        checks=("settings.values",),
        alerts=(),
        person=False,
        code=Exit.DONE,
    ),
    Fault(
        name="A setting in .env is misspelt",
        breaks=env_file("HARVEST_EVERY_SECOND=60"),
        says=("\\.env, line 2: nothing reads HARVEST_EVERY_SECOND", "HARVEST_EVERY_SECONDS"),
        **UNUSABLE,
    ),
    Fault(
        name="A value in .env cannot be used",
        breaks=env_file("HARVEST_EVERY_SECONDS=soon"),
        says=("HARVEST_EVERY_SECONDS: 'soon' cannot be used", "Expected "),
        **UNUSABLE,
    ),
    Fault(
        name="Junk is in .env",
        breaks=env_file("this is junk"),
        says=("\\.env", "line 2"),
        **UNUSABLE,
    ),
)
PROCESSES = (
    Fault(
        name="No worker consumes a queue",
        breaks=None,
        says=("queue '?useractions'? has .* and no worker", "celery -A tasks worker -Q useractions"),
        checks=("workers",),
        alerts=("UaharvestNoWorker",),
        person=False,
        log=False,
    ),
    Fault(
        name="No beat runs",
        breaks=None,
        says=("beat has not been heard", "celery -A tasks beat"),
        checks=("beat",),
        alerts=("UaharvestNoBeat",),
        person=False,
        log=False,
    ),
)


def judge(fault, seen):
    """Compare what is seen with what must be."""
    found = [check for check, _, _ in seen.doctor]
    assert set(found) == set(fault.checks), seen.doctor
    places = {"status": seen.status}
    if fault.checks:
        places["doctor"] = [text for check, _, text in seen.doctor if check == fault.checks[0]]
    if fault.person:
        places["person"] = seen.person
    if fault.log:
        places["log"] = seen.log
    for place, lines in places.items():
        for pattern in fault.says:
            assert re.search(pattern, " ".join(lines)), (place, pattern, lines)
    assert seen.status_code == fault.code, seen.status
    assert seen.firing == [name for name in seen.firing if name in {*fault.alerts, UNHEALTHY}]
    assert set(seen.firing) - {UNHEALTHY} == set(fault.alerts)
    assert (UNHEALTHY in seen.firing) is (fault.code not in {Exit.DONE, Exit.USAGE})
    assert bool(seen.person) is fault.person, seen.person
    assert bool(seen.log) is fault.log, seen.log
    assert not any(secret in str(seen) for secret in SECRETS)


# What the page shows


def steady(text):
    """Return a text without what differs from run to run."""
    for pattern, shown in (
        (r"127\.0\.0\.1:\d+", "…"),
        (r"port \d+", "port …"),
        (r"\b(bucket|queue|site)-\d+", r"\1"),
        (r"useractions-[0-9a-f]{12}\b", "useractions-…"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z| UTC)?", "…"),
        (r", seen \d+ s ago", ""),
        (r"is [\d hmins]+ ahead", "is … ahead"),
        (r"refused: [\d hmins]+ from", "refused: … from"),
        (r"Try [^.]+\.", "Try …."),
        (r"has \d+ (messages?|tasks?)", "has … messages"),
        (r"\b\d+ (of useractions|new dead letters)", r"… \1"),
        (r"[\d.]+ MB of [\d.]+ MB", "… of …"),
    ):
        text = re.sub(pattern, shown, text)
    return text


def cell(lines, nothing="nothing"):
    """Return lines as a cell of a table."""
    shown = dict.fromkeys(steady(line).replace("|", "\\|").replace("<", "&lt;") for line in lines)
    return "<br>".join(shown) or nothing


def section(seen):
    """Return the table of one fault."""
    doctor = [f"**{status}** {check}: {text}" for check, status, text in seen.doctor]
    fires = [f"`{name}`" for name in seen.firing if name != UNHEALTHY]
    rows = {
        f"`doctor` (exit code {int(seen.doctor_code)})": cell(doctor),
        f"`status` (exit code {int(seen.status_code)})": cell(seen.status),
        "Prometheus": ", ".join(fires) or "nothing",
        "log": cell(seen.log),
        "alert to a person": cell(seen.person),
    }
    return "".join(
        f"{line}\n" for line in ("| where | what |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows.items()))
    )


def overview():
    """Return the table of all faults."""
    lines = ["| fault | `doctor` finds it in | `status` exits with | alerts of Prometheus |", "|---|---|---|---|"]
    for fault in (*QUICK, *OTHERS, *PROCESSES):
        anchor = re.sub(r"[^\w -]", "", fault.name.lower()).replace(" ", "-")
        alerts_ = ", ".join(f"`{name}`" for name in fault.alerts) or "-"
        checks = ", ".join(fault.checks) or "-"
        lines.append(f"| [{fault.name}](#{anchor}) | {checks} | {int(fault.code)} | {alerts_} |")
    return "\n".join([*lines, ""])


def test_the_page_lists_all_faults(check_generated):
    check_generated(PAGE, ME, overview())


QUICKLY = [pytest.param(fault, id=fault.name) for fault in QUICK]
AT_LEISURE = [pytest.param(fault, id=fault.name, marks=(pytest.mark.fault, pytest.mark.long)) for fault in OTHERS]


def test_a_healthy_site_is_silent_everywhere(site):
    site.begin(whole_second(datetime.now(UTC)) - timedelta(hours=1))
    site.start()
    site.tick()
    seen = site.look()
    assert (seen.doctor, seen.status, seen.firing, seen.log, seen.person) == ([], [], [], [], [])
    assert (seen.doctor_code, seen.status_code) == (0, 0)


@pytest.mark.parametrize("fault", QUICKLY + AT_LEISURE)
def test_a_fault_is_shown_everywhere_with_its_culprit_and_remedy(site, fault, request, check_generated):
    site.begin(whole_second(datetime.now(UTC)) - timedelta(hours=1))
    site.start()
    with fault.breaks(site, request):
        with counters.taken():  # what it took to break it
            pass
        site.stream = fault.stream
        for _ in range(fault.ticks):
            site.tick()
        seen = site.look()
    judge(fault, seen)
    if fault.stream != STREAM or request.config.getoption("--elasticsearch").startswith("elasticsearch"):
        check_generated(PAGE, f"{ME}, {fault.name}", section(seen))


@pytest.mark.fault
@pytest.mark.long
@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in PROCESSES])
def test_a_process_that_does_not_run_is_shown_everywhere(aws, fault, tmp_path, monkeypatch, check_generated):
    monkeypatch.chdir(tmp_path)
    with sites() as start:
        site = start(rows=20, seconds=60, workers=0)
        lacking = {"useractions"} if "worker" in fault.name else set()
        worker = site.add_worker("-Q", ",".join({queue.name for queue in celeryconfig.task_queues} - lacking))
        if "worker" in fault.name:
            site.until(lambda: site.redis.llen(keys.CELERY("useractions")))
        else:
            site.redis.delete(keys.TICKED(site.state.place))

        def command(*arguments):
            done = site.manage(*arguments)
            return done.returncode, done.stdout, done.stderr

        log = "".join(line for line in worker.output.splitlines(keepends=True) if line.startswith("{"))
        seen = looked(command, log, site.settings)
    judge(fault, dataclasses.replace(seen, doctor=[one for one in seen.doctor if one[0] in fault.checks]))
    shown = dataclasses.replace(seen, doctor=[one for one in seen.doctor if one[0] in fault.checks])
    check_generated(PAGE, f"{ME}, {fault.name}", section(shown))
