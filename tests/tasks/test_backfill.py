"""The tick that looks for backfills: windows that were left open do not stay in Redis."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tasks import backfill
from uaharvest import assembly, settings
from uaharvest.intervals import Interval
from uaharvest.runs.backfills import Backfill
from uaharvest.runs.ledger import Run

START = datetime(2026, 5, 6, tzinfo=UTC)
ASKED = Interval(START, START + timedelta(days=1))


@pytest.fixture
def site(monkeypatch, valkey_url, redis, bucket, queue_name):
    for name, value in {
        "MATTERHORN_ENGAGE_HOST": "http://engage.invalid",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
    }.items():
        monkeypatch.setenv(name, value)
    settings.current.cache_clear()
    made = backfill.TASKS["useractions"]
    monkeypatch.setattr(backfill.registry, "enabled", lambda _: [made._spec])
    monkeypatch.setattr(made.advance, "delay", lambda: None)
    yield settings.current()
    for name in ("ledger", "stored"):
        made.__dict__.pop(name, None)
    settings.current.cache_clear()


@pytest.fixture
def left_open(site, client):
    """Store a backfill in this state, of which Redis has an open window; return that window's ledger and id."""

    def left_open(state):
        new = Backfill.new(ASKED, to="queue", rate=10, now=START)
        assembly.backfills(site, "useractions").add(dataclasses.replace(new, state=state))
        ledger = assembly.ledger(site, client, stream=assembly.backfills_of("useractions"))
        run = Run(
            id=new.run_id,
            stream="useractions",
            kind="backfill",
            requested=ASKED,
            window=ASKED,
            etag=None,
            epoch="",
            known_from=None,
            batch_size=10,
            wait=0,
            opened_at=START,
            destination="",
        )
        ledger.open(run, ["a", "b"])
        return ledger, new.run_id

    return left_open


def test_a_window_of_a_backfill_that_is_done_is_closed_though_none_is_running(left_open, client):
    ledger, _ = left_open("done")
    assert backfill.tick() == "0 streams with backfills"
    assert ledger.explicit() == []
    assert client.keys("uaharvest:run:*") == []


@pytest.mark.parametrize(("state", "running"), [("running", 1), ("stopped", 0)])
def test_a_window_that_will_go_on_stays_open(left_open, state, running):
    ledger, run_id = left_open(state)
    assert backfill.tick() == f"{running} streams with backfills"
    assert ledger.explicit() == [run_id]
