"""A healthy site of real servers; tests break one thing of it and look at what the doctor says."""

import boto3
import pytest

from devservers import stack
from uaharvest import __version__, assembly
from uaharvest.doctor.checks import CHECKS
from uaharvest.doctor.examination import examine
from uaharvest.doctor.fingerprint import fingerprint
from uaharvest.doctor.site import Site
from uaharvest.settings import load
from uaharvest.sinks.sqs import RETENTION

NAMES = {check.name: check for check in CHECKS}


class Workers:
    """What Celery would say of one healthy worker."""

    def __init__(self, settings):
        self.waiting = dict.fromkeys(("control", "useractions", "episodes", "zoom", "index", "backfill"), 0)
        self.facts = {
            "a@one": {
                "version": __version__,
                "settings": fingerprint(settings),
                "queues": list(self.waiting),
            }
        }

    def queues(self):
        return self.waiting

    def about(self, within=1.0):
        return self.facts

    def alive(self, within=1.0):
        return {name: facts["queues"] for name, facts in self.facts.items()}


def chosen(*names):
    """Return the named checks and what they need, in their order."""
    wanted, more = set(), set(names)
    while more:
        wanted |= more
        more = {need for name in more for need in NAMES[name].needs} - wanted
    return [check for check in CHECKS if check.name in wanted]


@pytest.fixture
def look():
    """Make the named checks, and those that they need; return the findings by check."""

    def look(settings, *names, workers=None, quick=False):
        site = Site(settings, lambda: workers or Workers(settings))
        findings = {}
        for entry in examine(site, chosen(*names) if names else CHECKS, quick=quick, limit=60, total=120):
            findings.setdefault(entry.check.name, []).append(entry.finding)
        site.redis.close()
        return findings

    return look


@pytest.fixture
def told(look):
    """The same of one check: return its findings that are not ok, each as status, what was found, and the remedy."""

    def told(settings, name, also=(), **options):
        findings = look(settings, name, *also, **options)[name]
        return [(str(one.status), one.found, one.remedy) for one in findings if one.status != "ok"]

    return told


@pytest.fixture(scope="session")
def opencast():
    with stack.opencast_simulator("--rows", "200", "--span-seconds", "60") as server:
        yield server


@pytest.fixture(scope="session")
def zoom():
    with stack.zoom_simulator("--meetings", "3") as server:
        yield server


@pytest.fixture
def durable(redis):
    """The shared Valkey as in production: with AOF and a limit."""
    before = {name: redis.config_get(name)[name] for name in ("appendonly", "maxmemory", "maxmemory-policy")}
    redis.config_set("appendonly", "yes")
    redis.config_set("maxmemory", "100mb")
    yield redis
    for name, value in before.items():
        redis.config_set(name, value)


@pytest.fixture
def at_aws(bucket, queue_name):
    """The settings of a bucket, and of a queue that keeps messages as long as it can."""
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": str(RETENTION)})
    return {"S3_HARVEST_TS_BUCKET": bucket, "SQS_QUEUE_NAME": queue_name, "INDEXER": "true"}


@pytest.fixture
def sources(opencast, zoom):
    """The settings of an Opencast and a Zoom."""
    return {
        "MATTERHORN_ENGAGE_HOST": opencast.url,
        "MATTERHORN_ADMIN_HOST": opencast.url,
        "MATTERHORN_REST_USER": "admin",
        "MATTERHORN_REST_PASS": "opencast",
        "OPENCAST_TIMEZONE": "America/Bogota",
        "ZOOM_ACCOUNT_ID": "account",
        "ZOOM_KEY": "key",
        "ZOOM_SECRET": "secret",
        "ZOOM_API_URL": f"{zoom.url}/v2/",
        "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which commands run, with no `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def environment(durable, valkey_url, at_aws, sources, folder):
    """The settings of a healthy site whose beat was heard."""
    documents = f"sqlite:///{folder}/documents.db"
    variables = {"REDIS_URL": valkey_url, **at_aws, **sources, "DOCUMENTS_URL": documents}
    settings = load(variables)
    client = assembly.redis_client(settings)
    for name in (*assembly.streams(settings), "index"):
        assembly.state(settings, client, stream=name).tick(0)
    client.close()
    return variables


@pytest.fixture
def settings_of(environment):
    """Return the settings of that site, with some changed; None leaves one out."""

    def settings_of(**changes):
        changed = {**environment, **changes}
        return load({name: value for name, value in changed.items() if value is not None})

    return settings_of
