"""What was opened is handed to the workers and followed."""

from types import SimpleNamespace

import pytest

from tests.fakes import NOON, World, at, span
from uaharvest.errors import BlockedError, BusyError, RetryableError, SpanRefusedError
from uaharvest.runs import opened as opened_
from uaharvest.runs.opened import Opened, follow, hand_over


@pytest.fixture
def world(client):
    world = World(client, max_span=60)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(at(1), at(40))
    return world


@pytest.fixture
def explicit(world):
    run = world.engine.ask(span(0, 50), world.options(), may_move=False)
    return Opened.explicit(world.engine, world.options(), run)


@pytest.fixture
def live(world):
    return Opened.live(world.engine, world.options(), NOON, at(170), 2)


def refuse(world, monkeypatch, error):
    def refused(_):
        raise error

    monkeypatch.setattr(world.engine, "advance", refused)
    monkeypatch.setattr(world.engine, "advance_explicit", refused)


def test_the_workers_are_sent_the_slices_of_a_run(world, explicit):
    assert hand_over(explicit) is None
    assert world.mailbox.slices


def test_what_a_worker_has_taken_already_is_no_trouble(world, explicit, live, monkeypatch):
    refuse(world, monkeypatch, BusyError("planned by another worker"))
    assert (hand_over(explicit), hand_over(live)) == (None, None)


def test_a_run_whose_workers_cannot_be_reached_stays_open_and_says_so(world, explicit, live, monkeypatch):
    refuse(world, monkeypatch, RetryableError("no broker."))
    assert hand_over(explicit) == "no broker."
    with pytest.raises(RetryableError):
        hand_over(live)


def test_a_run_that_is_blocked_stays_open_and_says_so(world, explicit, live, monkeypatch):
    refuse(world, monkeypatch, BlockedError("no right"))
    stays = f"run {explicit.run.id[:8]} is open and will continue once this is fixed: no right"
    with pytest.raises(BlockedError, match=stays):
        hand_over(explicit)
    with pytest.raises(BlockedError, match=r"^no right$"):
        hand_over(live)


def test_a_run_is_followed_to_its_end(world, explicit, monkeypatch):
    hand_over(explicit)

    def work(_):
        if world.mailbox.slices:
            world.work()
        else:
            world.engine.advance_explicit(explicit.run.id)

    monkeypatch.setattr(opened_, "time", SimpleNamespace(monotonic=lambda: 0, sleep=work))
    shown = []
    last = follow(explicit, shown.append)
    assert (last.ended, last.records, shown[-1]) == (True, 2, last)
    assert not shown[0].ended


def test_what_stands_on_a_stream_ends_it_only_if_it_stays(world, explicit, live, monkeypatch):
    world.engine.state.failed("opening", SpanRefusedError("too long"))
    looks = []
    clock = SimpleNamespace(monotonic=lambda: len(looks), sleep=looks.append)
    monkeypatch.setattr(opened_, "time", clock)
    with pytest.raises(SpanRefusedError, match="too long"):
        follow(live, lambda _: None)
    assert len(looks) == opened_.HEALING + 1
    # That no live window can be opened is nothing to an explicit run: it goes on until it is blocked itself.
    looks.clear()

    def block(pause):
        looks.append(pause)
        if len(looks) == 100:
            world.engine.state.failed("working", BlockedError("no queue"))

    clock.sleep = block
    with pytest.raises(BlockedError, match="no queue"):
        follow(explicit, lambda _: None)
    assert len(looks) > 100
