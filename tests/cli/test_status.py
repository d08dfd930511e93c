"""`status --follow` where the run is known but its stream cannot be opened, and `--json` while services are down."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from devservers import stack
from tests import commands
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.intervals import Interval
from uaharvest.runs.ledger import Run
from uaharvest.runs.local import LocalHints

RUN = "5eed" * 8
START = datetime(2026, 3, 3, 12, tzinfo=UTC)


class Workers:
    """What Celery would say."""

    def hints(self, stream="useractions"):
        return LocalHints()


@pytest.fixture
def follow(redis, valkey_url, bucket, queue_name, monkeypatch):
    """Follows an open run of a site whose Opencast has never been asked for its profile."""
    environment = {
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "MATTERHORN_REST_USER": "admin",
        "MATTERHORN_REST_PASS": "wrong",
        "OPENCAST_PROFILE": "auto",
    }
    asked = Interval(START, START + timedelta(seconds=4))
    run = Run(
        id=RUN,
        stream="useractions",
        kind="explicit",
        requested=asked,
        window=asked,
        etag=None,
        epoch="epoch",
        known_from=None,
        batch_size=100,
        wait=0,
        opened_at=datetime.now(UTC),
    )
    clients = []

    def follow(opencast):
        site = {**environment, "MATTERHORN_ENGAGE_HOST": opencast}
        clients.append(assembly.redis_client(settings.load(site)))
        assembly.ledger(settings.load(site), clients[0]).open(run, [str(asked)])
        for name, value in site.items():
            monkeypatch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, ["status", "--follow", RUN[:8]], obj=Context(Workers))

    yield follow
    clients[0].close()
    settings.current.cache_clear()


DOWN = "http://127.0.0.1:1", "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("variable", "url"), [("AWS_ENDPOINT_URL", DOWN[0]), ("REDIS_URL", DOWN[1]), ("CELERY_BROKER_URL", DOWN[1])]
)
def test_json_is_json_too_while_a_service_is_down(valkey_url, bucket, variable, url):
    site = {"REDIS_URL": valkey_url, "S3_HARVEST_TS_BUCKET": bucket}
    done = commands.manage("status", "--json", environment={**site, variable: url})
    assert done.returncode == 4, done.stderr
    lines = [trouble["line"] for trouble in json.loads(done.stdout)["troubles"]]
    assert any("127.0.0.1:1" in line for line in lines), lines


def assert_cannot_be_followed(done, exit_code, reason):
    assert done.exit_code == exit_code, done.stderr
    assert f"run {RUN[:8]} is open, but cannot be followed until this is fixed: " in done.stderr
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_opencast_that_is_down_is_the_reason_why_a_run_cannot_be_followed(follow):
    host = f"http://127.0.0.1:{stack.free_port()}"
    assert_cannot_be_followed(follow(host), 1, host)


def test_an_opencast_that_refuses_is_the_reason_why_a_run_cannot_be_followed(follow):
    with stack.opencast_simulator("--rows", "1") as opencast:
        assert_cannot_be_followed(follow(opencast.url), 4, "MATTERHORN_REST_PASS")
