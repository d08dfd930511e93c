"""The nightly audit as a task: beat's entry, and a stream that fails while others are audited."""

import pytest

import celeryconfig
import tasks
from tasks import audit
from uaharvest import assembly, settings
from uaharvest.errors import BlockedError


@pytest.fixture
def site(monkeypatch, valkey_url, redis, bucket, queue_name):
    for name, value in {
        "AUDIT_AT": "00:00",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
    }.items():
        monkeypatch.setenv(name, value)
    settings.current.cache_clear()
    yield settings.current()
    settings.current.cache_clear()


class Auditor:
    def __init__(self, error=None):
        self.error = error

    def nightly(self, now, at, seconds):
        if self.error:
            raise self.error
        return f"{seconds:.0f} s"


def test_it_has_its_queue_and_no_entry_without_a_time():
    tasks.app.loader.import_default_modules()
    assert tasks.app.amqp.router.route({}, "audit.nightly")["queue"].name == "control"
    assert "audit" not in celeryconfig.beat_schedule


def test_one_stream_that_fails_does_not_keep_others_from_being_audited(site, client, monkeypatch):
    auditors = {"useractions": Auditor(BlockedError("no")), "zoom": Auditor()}
    asked = []

    def auditor(stream):
        asked.append(stream)
        return auditors[stream]

    monkeypatch.setattr(audit, "_auditor", auditor)
    monkeypatch.setattr(audit, "audited", lambda _: list(auditors))
    assert audit.nightly() == "blocked: no"
    assert asked == ["useractions", "zoom"]
    state = assembly.state(site, client, stream=assembly.AUDIT)
    assert [failure.reason for failure in state.failures()] == ["no"]
    auditors["useractions"].error = None
    assert audit.nightly() == "useractions: 120 s, zoom: 120 s"
    assert list(state.failures()) == []
