"""How far a run has come, as a person is shown it."""

import pytest

from tests.fakes import NOON, World, at, span
from uaharvest.errors import HarvestError
from uaharvest.runs.watch import LiveWatch, RunWatch, windows_of


@pytest.fixture
def world(client):
    world = World(client, max_window=100)
    world.start_at(NOON)
    world.clock.now = at(300)
    world.opencast.add(at(1), at(150), at(151), at(250))
    return world


def work_off(world, run):
    world.engine.advance_explicit(run.id)
    while world.mailbox.slices:
        world.work()
        world.engine.advance_explicit(run.id)


def test_an_explicit_run_goes_window_by_window_to_its_end(world):
    run = world.engine.ask(span(0, 280), world.options(), may_move=False)
    watch = RunWatch(world.ledger, world.engine.state, run, 100)
    first = watch.poll()
    assert (first.window, first.windows, first.records, first.expected, first.ended) == (1, 3, 0, 4, False)
    world.engine.advance_explicit(run.id)
    world.work()
    world.engine.advance_explicit(run.id)
    second = watch.poll()
    assert (second.window, second.records, second.ended) == (2, 1, False)
    work_off(world, run)
    last = watch.poll()
    assert (last.window, last.records, last.done == last.planned, last.ended) == (3, 4, True, True)


def test_a_run_that_redis_lost_is_an_error_and_never_done(world):
    run = world.engine.ask(span(0, 280), world.options(), may_move=False)
    world.redis.flushall()
    with pytest.raises(HarvestError, match="Redis has lost its data"):
        RunWatch(world.ledger, world.engine.state, run, 100).poll()


def test_live_runs_are_added_up_until_the_watermark_is_there(world):
    watch = LiveWatch(
        world.ledger, world.engine.state, world.store, since=NOON, until=at(290), expected=4, max_window=100
    )
    world.engine.advance()
    first = watch.poll()
    assert (first.window, first.windows, first.records, first.ended) == (1, 3, 0, False)
    world.harvest()
    last = watch.poll()
    assert (last.window, last.records, last.done == last.planned, last.ended) == (3, 4, True, True)


def test_runs_that_had_ended_before_do_not_count(world):
    world.harvest()
    watch = LiveWatch(
        world.ledger,
        world.engine.state,
        world.store,
        since=world.mark.at,
        until=world.mark.at,
        expected=0,
        max_window=100,
    )
    assert (watch.poll().records, watch.poll().ended) == (0, True)


def test_a_window_that_is_begun_counts_whole():
    assert [windows_of(span(0, seconds), 100) for seconds in (1, 100, 101, 300)] == [1, 1, 2, 3]
