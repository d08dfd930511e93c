"""What is opened for what a person asks for."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes import NOON, World, at, span
from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval
from uaharvest.streams.opening import DayRange, Selection, Window, open_run
from uaharvest.streams.specs import episodes, useractions

DAY = timedelta(days=1)
TODAY = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def world(client):
    world = World(client)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(at(1), at(100), at(150))
    return world


def opened(world, asked, **others):
    return open_run(world.engine, asked, world.options(), **others)


def no_watermark():
    raise AssertionError("the watermark was asked for")


def test_without_a_wish_the_live_runs_are_looked_at_from_the_watermark_to_the_lag(world):
    live = opened(world, Window())
    assert (live.run, live.start, live.end, live.expected) == (None, NOON, at(170), 3)
    assert world.ledger.explicit() == []


def test_without_a_watermark_the_live_runs_begin_where_the_stream_does(client):
    world = World(client, default_interval=2)
    world.clock.now = at(180)
    assert opened(world, Window()).start == at(60)


def test_where_all_is_harvested_the_source_is_not_asked_to_count(world, monkeypatch):
    world.clock.now = at(5)
    monkeypatch.setattr(world.stream, "count", lambda *_, **__: no_watermark())
    live = opened(world, Window())
    assert live.end <= live.start
    assert live.watch.poll().ended


@pytest.mark.parametrize(
    ("window", "interval", "moves"),
    [
        (Window(start=at(-50), end=at(50)), span(-50, 50), True),
        (Window(end=at(50)), span(0, 50), True),
        (Window(start=at(20)), span(20, 180), False),  # it does not begin at the watermark
        (Window(may_move=False), span(0, 180), False),
        (Window(start=at(-50), end=at(50), may_move=False), span(-50, 50), False),
        (Window(minutes=1, may_move=False), span(120, 180), False),
    ],
)
def test_a_window_takes_a_run_of_its_own(world, window, interval, moves):
    explicit = opened(world, window)
    assert (explicit.run.kind, explicit.run.requested) == ("explicit", interval)
    assert (explicit.start, explicit.end) == (interval.start, interval.end)
    assert (explicit.run.etag is not None) == moves


def test_other_connections_take_a_private_run_that_moves_nothing(world):
    private = opened(world, Window(), private=True)
    assert (private.run.kind, private.run.requested, private.run.etag) == ("private", span(0, 180), None)


def test_so_many_minutes_are_harvested_where_the_watermark_cannot_be_read(world, monkeypatch):
    monkeypatch.setattr(world.engine.watermarks, "read", no_watermark)
    assert opened(world, Window(minutes=2), private=True).run.requested == span(60, 180)


def test_a_window_that_ends_before_it_begins_is_refused(world):
    with pytest.raises(
        BadInputError, match="--end 2026-03-03 12:00:10 UTC is not after --start 2026-03-03 12:00:10"
    ):
        opened(world, Window(start=at(10), end=at(10)))
    assert world.ledger.explicit() == []


@pytest.mark.parametrize(
    ("days", "interval"),
    [
        (DayRange(), Interval(TODAY - DAY, TODAY)),
        (DayRange(first=TODAY - 3 * DAY), Interval(TODAY - 3 * DAY, TODAY)),
        (DayRange(first=TODAY, last=TODAY), Interval(TODAY, TODAY + DAY)),
        (Selection(), Interval(NOON - DAY, NOON)),
    ],
)
def test_days_are_whole_and_yesterday_where_none_is_named(days, interval):
    assert days.interval(NOON, no_watermark) == interval
    assert days.explicit == (days != DayRange())
    assert not days.may_move


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (DayRange(first=TODAY), "--from 2026-03-03 is after --to 2026-03-02"),
        (DayRange(first=TODAY, last=TODAY + DAY), "2026-03-04 has not begun yet"),
    ],
)
def test_days_that_cannot_be_are_refused(days, message):
    with pytest.raises(BadInputError, match=message):
        days.interval(NOON, no_watermark)


def test_a_day_is_due_when_so_much_time_has_passed_since_its_end(world):
    spec = episodes.SPEC
    due = [spec.due_until(world.settings, NOON, ready_after=timedelta(hours=hours)) for hours in (11, 13)]
    assert due == [TODAY, TODAY - DAY]
    assert spec.due_until(world.settings, NOON) == spec.due_until(
        world.settings, NOON, ready_after=world.settings.episodes_at
    )
    assert (spec.due_from(NOON), useractions.SPEC.due_from(NOON)) == (TODAY, NOON)
