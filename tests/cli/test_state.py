"""`status --follow` where the run is known but its stream cannot be opened."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from simulators import stack
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.runs.ledger import Run
from uaharvest.runs.local import LocalHints
from uaharvest.runs.windows import Interval

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
    ledger = assembly.ledger(settings.load(environment))
    run = Run(
        id=RUN,
        stream="useractions",
        kind="explicit",
        asked=asked,
        window=asked,
        etag=None,
        epoch="epoch",
        known_from=None,
        batch_size=100,
        wait=0,
        opened_at=datetime.now(UTC),
    )
    ledger.open(run, [str(asked)])

    def follow(opencast):
        for name, value in {**environment, "MATTERHORN_ENGAGE_HOST": opencast}.items():
            monkeypatch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, ["status", "--follow", RUN[:8]], obj=Context(Workers))

    yield follow
    ledger.redis.close()
    settings.current.cache_clear()


def assert_cannot_be_followed(done, exit_code, reason):
    assert done.exit_code == exit_code, done.stderr
    assert f"run {RUN[:8]} is open, but cannot be followed while this is so: " in done.stderr
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_opencast_that_is_down_is_the_reason_why_a_run_cannot_be_followed(follow):
    host = f"http://127.0.0.1:{stack.free_port()}"
    assert_cannot_be_followed(follow(host), 1, host)


def test_an_opencast_that_refuses_is_the_reason_why_a_run_cannot_be_followed(follow):
    with stack.opencast_simulator("--rows", "1") as opencast:
        assert_cannot_be_followed(follow(opencast.url), 4, "MATTERHORN_REST_PASS")
