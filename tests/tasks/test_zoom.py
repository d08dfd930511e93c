"""Zoom's tasks: what waits for a quota's next second or minute is asked for when that comes."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from tasks.streams import TASKS
from uaharvest.errors import PutOffError
from uaharvest.keys import PREFIX
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.state import StreamState

RUN = "run-1"
ZOOM = TASKS["zoom"]


class FakeEngine:
    """An engine whose steps end as they are told to."""

    def __init__(self, client):
        self.redis = client
        self.ledger = Ledger(client, "zoom", lease=60)
        self.state = StreamState(client, "zoom")
        self.error = None

    def advance(self):
        if self.error:
            raise self.error

    def advance_explicit(self, run_id):
        self.advance()

    def work(self, run_id, slice_id, *, seconds):
        pass


@pytest.fixture
def engine(redis, valkey_url, monkeypatch):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        engine = FakeEngine(client)
        monkeypatch.setitem(vars(ZOOM), "engine", engine)
        yield engine


@pytest.fixture
def woken(monkeypatch):
    """What is asked for later: for which run, in how many seconds."""
    sent = []
    monkeypatch.setattr(
        ZOOM.advance, "apply_async", lambda kwargs, countdown: sent.append((kwargs["run_id"], countdown))
    )
    return sent


def after(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def waiting(engine, *seconds):
    """Let slices of the run be due in so many seconds."""
    engine.redis.zadd(
        f"{PREFIX}run:{RUN}:due", {f"{n}": after(wait).timestamp() * 1000 for n, wait in enumerate(seconds)}
    )


@pytest.mark.parametrize("run_id", [None, RUN])
def test_lists_that_wait_for_the_next_minute_are_gone_on_with_then(engine, woken, run_id):
    engine.error = PutOffError("Zoom's calls of this minute are used up.", after(40))
    ZOOM.advance(run_id=run_id)
    ((woken_run, wait),) = woken
    assert woken_run == run_id
    assert 40 < wait < 41


def test_lists_that_wait_for_the_next_day_are_left_to_the_ticks(engine, woken):
    engine.error = PutOffError("Zoom's calls for the day are used up.", after(3600))
    ZOOM.advance()
    assert woken == []


def test_when_all_that_is_left_waits_the_first_is_waited_for(engine, woken):
    waiting(engine, 30, 5)
    ZOOM.fetch(RUN, "slice")
    ((woken_run, wait),) = woken
    assert woken_run is None
    assert 5 < wait < 6


@pytest.mark.parametrize("seconds", [(-1, 5), (), (3600,)])
def test_while_something_is_due_or_nothing_soon_nobody_is_waited_for(engine, woken, seconds):
    if seconds:
        waiting(engine, *seconds)
    ZOOM.fetch(RUN, "slice")
    assert woken == []


def test_many_workers_ask_once(engine, woken):
    waiting(engine, 30)
    for _ in range(5):
        ZOOM.fetch(RUN, "slice")
    assert len(woken) == 1
    waiting(engine, 2)
    ZOOM.fetch(RUN, "slice")
    assert len(woken) == 2
