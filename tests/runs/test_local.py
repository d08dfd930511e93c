"""A run worked at in this process, and what ends it."""

from types import SimpleNamespace

import pytest

from tests.fakes import NOON, World, at, span
from uaharvest.errors import BlockedError, BusyError, SpanRefusedError
from uaharvest.runs.local import PLANNED, LocalHints, drive, raise_if_blocked
from uaharvest.runs.watch import LiveWatch, RunWatch


@pytest.fixture
def world(client):
    world = World(client, max_span=60)
    world.mailbox = LocalHints()
    world.use(hints=world.mailbox)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(at(1), at(100), at(150))
    return world


def drive_asked(world, run):
    watch = RunWatch(world.ledger, world.engine.state, run, world.settings.max_window)
    return drive(world.engine, world.mailbox, watch, run=run, options=world.options(), show=lambda _: None)


def drive_live(world, **options):
    watch = LiveWatch(
        world.ledger, world.engine.state, world.store, since=NOON, until=at(170), expected=3, max_window=300
    )
    shown = []
    chosen = world.options(**options)
    last = drive(world.engine, world.mailbox, watch, run=None, options=chosen, show=shown.append)
    assert shown[-1] == last
    return last


def test_live_runs_are_driven_until_the_watermark_is_there(world):
    last = drive_live(world, check_span=False)
    assert (last.records, last.done, last.planned, last.dead) == (3, 1, 1, 0)
    assert world.mark.at == at(170)


def test_a_span_that_is_refused_ends_it(world):
    with pytest.raises(SpanRefusedError):
        drive_live(world)
    assert world.sink.ids == []


def test_an_explicit_run_is_not_ended_by_what_stops_the_live_ones(world):
    with pytest.raises(SpanRefusedError):
        world.engine.advance()
    run = world.engine.ask(span(0, 50), world.options(), may_move=False)
    assert drive_asked(world, run).records == 1


def test_what_blocked_the_stream_before_is_tried_once_before_it_ends_a_run(world):
    world.engine.state.failed("working", BlockedError("the queue was gone"))
    run = world.engine.ask(span(0, 50), world.options(), may_move=False)
    assert drive_asked(world, run).records == 1
    assert world.engine.state.blocked() is None


@pytest.mark.parametrize("step", ["advance", "advance_explicit"])
def test_while_another_worker_plans_the_window_it_is_waited_for(world, monkeypatch, step):
    run = world.engine.ask(span(0, 170), world.options(check_span=False), may_move=False)
    planned, pauses = getattr(world.engine, step), []

    def busy(_):
        raise BusyError("the lists are being read by another worker")

    def sleep(seconds):
        pauses.append(seconds)
        monkeypatch.setattr(world.engine, step, planned)

    monkeypatch.setattr(world.engine, step, busy)
    monkeypatch.setattr("uaharvest.runs.local.time", SimpleNamespace(sleep=sleep))
    last = drive_live(world, check_span=False) if step == "advance" else drive_asked(world, run)
    assert last.records == 3
    assert pauses[0] == PLANNED


def test_a_blocked_slice_ends_a_run(world):
    run = world.engine.ask(span(0, 50), world.options(), may_move=False)
    world.sink.fails = lambda: BlockedError("the queue is gone")
    with pytest.raises(BlockedError, match="the queue is gone"):
        drive_asked(world, run)


def test_what_stands_on_a_stream_is_raised_as_the_error_that_it_was(world):
    world.engine.state.failed("opening", SpanRefusedError("too long"))
    with pytest.raises(SpanRefusedError, match="too long"):
        raise_if_blocked(world.engine.state.blocked())
    raise_if_blocked(None)
