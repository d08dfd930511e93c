"""Zoom's tasks: what waits for a quota's next second or minute is asked for when that comes."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from tasks import zoom
from uaharvest.errors import PutOffError
from uaharvest.runs.ledger import PREFIX, Ledger

RUN = "run-1"


class FakeEngine:
    """An engine whose steps end as they are told to."""

    def __init__(self, client):
        self.ledger = Ledger(client, "zoom", lease=60)
        self.error = None

    def advance(self):
        if self.error:
            raise self.error

    def advance_asked(self, run_id):
        self.advance()

    def work(self, run_id, slice_id):
        pass


@pytest.fixture
def engine(redis, valkey_url, monkeypatch):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        engine = FakeEngine(client)
        monkeypatch.setattr(zoom, "engine", lambda: engine)
        yield engine


@pytest.fixture
def woken(monkeypatch):
    """What is asked for later: for which run, in how many seconds."""
    sent = []
    monkeypatch.setattr(
        zoom.advance, "apply_async", lambda kwargs, countdown: sent.append((kwargs["run_id"], countdown))
    )
    return sent


def after(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def waiting(engine, *seconds):
    """Let slices of the run be due in so many seconds."""
    engine.ledger.redis.zadd(
        f"{PREFIX}run:{RUN}:due", {f"{n}": after(wait).timestamp() * 1000 for n, wait in enumerate(seconds)}
    )


@pytest.mark.parametrize("run_id", [None, RUN])
def test_lists_that_wait_for_the_next_minute_are_gone_on_with_then(engine, woken, run_id):
    engine.error = PutOffError("Zoom's calls of this minute are used up.", after(40))
    zoom.advance(run_id=run_id)
    ((woken_run, wait),) = woken
    assert woken_run == run_id
    assert 40 < wait < 41


def test_lists_that_wait_for_the_next_day_are_left_to_the_ticks(engine, woken):
    engine.error = PutOffError("Zoom's calls of the day are used up.", after(3600))
    zoom.advance()
    assert woken == []


def test_when_all_that_is_left_waits_the_first_is_waited_for(engine, woken):
    waiting(engine, 30, 5)
    zoom.fetch_meeting(RUN, "slice")
    ((woken_run, wait),) = woken
    assert woken_run is None
    assert 5 < wait < 6


@pytest.mark.parametrize("seconds", [(-1, 5), (), (3600,)])
def test_while_something_is_due_or_nothing_soon_nobody_is_waited_for(engine, woken, seconds):
    if seconds:
        waiting(engine, *seconds)
    zoom.fetch_meeting(RUN, "slice")
    assert woken == []


def test_many_workers_ask_once(engine, woken):
    waiting(engine, 30)
    for _ in range(5):
        zoom.fetch_meeting(RUN, "slice")
    assert len(woken) == 1
    waiting(engine, 2)
    zoom.fetch_meeting(RUN, "slice")
    assert len(woken) == 2
