import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import DESTINATION, NOON, FakeReporter, World, at, span
from uaharvest.errors import SourceError
from uaharvest.intervals import Interval
from uaharvest.runs.delivered import IdsByTime, known_key
from uaharvest.runs.stream import Split
from uaharvest.runs.watermark import Watermark
from uaharvest.streams.time_slice import TimeSlice


@pytest.fixture
def world(client):
    world = World(client)
    world.start_at(NOON)
    world.clock.now = at(180)
    return world


@pytest.fixture
def run(world):
    return world.engine.ask(span(0, 100), world.options(), may_move=False)


def known(world):
    return IdsByTime(world.redis, known_key("useractions", "first-epoch", DESTINATION))


def know(world, seconds):
    world.redis.zadd(known(world).key, {f"known {second}": at(second).timestamp() for second in seconds})


# Plans


@pytest.mark.parametrize(("rows", "slices"), [(0, 0), (1, 1), (4, 1), (5, 2), (9, 3)])
def test_a_window_is_cut_into_as_many_slices_as_its_total_has_batches(world, run, rows, slices):
    world.opencast.add(*map(at, range(rows)))
    plan = world.stream.plan(run, late=[], delivered=known(world))
    assert (len(plan.slices), plan.expected) == (slices, rows)


def test_an_overlap_that_counts_as_many_as_are_known_is_left_alone(world, run):
    world.opencast.add(*map(at, range(-50, 0)))
    know(world, range(-50, 0))
    world.opencast.asked.clear()
    assert world.stream.plan(run, late=[span(-60, 0)], delivered=known(world)).slices == []
    assert len(world.opencast.asked) == 3  # overlap, window, its zone


def test_few_rows_are_fetched_rather_than_counted_by_halves(world, run):
    world.opencast.add(*map(at, range(-10, 0)))
    know(world, range(-10, -1))
    plan = world.stream.plan(run, late=[span(-60, 0)], delivered=known(world))
    assert len(plan.slices) == 3
    assert (plan.slices[0].interval.start, plan.slices[-1].interval.end) == (at(-60), at(0))


def test_among_many_the_difference_is_found_by_halves(world, run):
    world.opencast.add(*[at(second) for second in range(-512, 0) for _ in range(8)])
    world.redis.zadd(
        known(world).key,
        {f"{second} {n}": at(second).timestamp() for second in range(-512, 0) for n in range(8)},
    )
    world.opencast.add(at(-100))
    world.opencast.asked.clear()
    plan = world.stream.plan(run, late=[span(-512, 0)], delivered=known(world))
    found = [slice_.interval for slice_ in plan.slices]
    start, end = min(one.start for one in found), max(one.end for one in found)
    assert start <= at(-100) < end
    assert (end - start).total_seconds() <= 64
    assert len(world.opencast.asked) < 15


def test_where_most_is_new_it_is_not_halved(world, run):
    world.opencast.add(*[at(second) for second in range(-512, 0) for _ in range(2)])
    world.opencast.asked.clear()
    plan = world.stream.plan(run, late=[span(-512, 0)], delivered=known(world))
    assert len(plan.slices) == 256
    assert len(world.opencast.asked) == 3


def test_the_watermarks_own_second_is_the_windows(world, run):
    world.opencast.add(at(0))
    plan = world.stream.plan(run, late=[span(-60, 0)], delivered=known(world))
    assert plan.slices == [TimeSlice(span(0, 100))]


@pytest.mark.parametrize("watermark", ["06:29:50", "07:00:00"])
def test_a_row_that_was_late_in_a_repeated_hour_is_found_after_an_outage(client, watermark):
    world = World(
        client, opencast_zone=ZoneInfo("America/New_York"), wall_column=True, overlap=7_200, max_window=21_600
    )
    mark = datetime.fromisoformat(f"2026-11-01T{watermark}Z")
    world.start_at(mark - timedelta(minutes=20))
    world.clock.now = mark + timedelta(seconds=world.settings.lag)
    world.harvest()
    assert world.store.read().mark.at == mark
    [late] = world.opencast.add(mark - timedelta(minutes=5))
    world.clock.now += timedelta(hours=9)
    for _ in range(6):
        world.harvest()
    assert world.store.read().mark.at == world.clock.now - timedelta(seconds=world.settings.lag)
    assert world.sink.ids == [late]


def test_late_rows_of_a_repeated_hour_that_a_dead_letter_cuts_are_found_when_it_is_over(client):
    world = World(client, opencast_zone=ZoneInfo("America/New_York"), wall_column=True)
    change = datetime(2026, 11, 1, 6, tzinfo=UTC)

    def after(minutes):
        return change + timedelta(minutes=minutes)

    dead = Interval(after(30), after(30) + timedelta(seconds=1))
    world.opencast.add(after(20))

    def slices(mark):
        late = [Interval(after(-180), dead.start), Interval(dead.end, mark)]
        return world.stream.plan(
            world.run_of(Interval(mark, mark + timedelta(minutes=2))), late=late, delivered=known(world)
        ).slices

    assert not any(slice_.interval.start <= after(20) < slice_.interval.end for slice_ in slices(after(50)))
    # Of the three hours before the dead letter only the repeated one is read, in a single request.
    assert slices(after(70)) == [TimeSlice(Interval(after(-60), dead.start))]


# Work


def spoils(bad):
    """Fail every answer whose range covers the second `bad`."""
    wall = at(bad).replace(tzinfo=None)
    return lambda first, last, limit: SourceError("500") if first <= wall <= last else None


@pytest.mark.parametrize("late", [[-1], [-2], [-1, -2], [-1.5], [-1, -300, -301], [-0.5, -1, -590]])
def test_slices_of_late_rows_and_of_the_window_share_no_second(world, late):
    """Two workers would send what they share at the same time."""
    world.opencast.add(*map(at, [*late, 0, 5, 9]))
    stored = world.store.read()
    world.store.replace(Watermark(NOON, at(-600), stored.mark.epoch, "run"), stored.etag)
    world.engine.advance()
    slices = sorted(Interval.parse(slice_id) for slice_id in world.due(world.live.id))
    for one, following in itertools.pairwise(slices):
        assert one.end <= following.start
    world.harvest()
    assert world.sink.ids == sorted(row.id for row in world.opencast.rows)


def test_what_cannot_be_counted_is_planned_whole_if_the_source_answers(world, run):
    world.opencast.add(at(-20), at(10))
    world.opencast.fails = spoils(10)
    plan = world.stream.plan(run, late=[span(-60, 0)], delivered=known(world))
    assert plan.slices[-1].interval.end == at(100)
    assert plan.expected == 0
    world.opencast.fails = spoils(-20)
    plan = world.stream.plan(run, late=[span(-60, 0)], delivered=known(world))
    assert plan.slices == [TimeSlice(span(-60, 0)), TimeSlice(span(0, 100))]


def test_in_an_outage_nothing_is_planned(world, run):
    world.opencast.fails = lambda first, last, limit: SourceError("down")
    with pytest.raises(SourceError):
        world.stream.plan(run, late=[], delivered=known(world))


def test_what_is_known_is_left_out_and_the_rest_is_delivered(world, run):
    world.opencast.add(at(1), at(2), at(3))
    reporter = FakeReporter(delivered={"2"})
    delivered = world.stream.work(run, TimeSlice(span(0, 10)), reporter)
    assert (delivered.found, delivered.dead) == (3, 0)
    assert (sorted(reporter.confirmed), world.sink.ids) == ([1, 3], [1, 3])


def test_too_many_rows_are_a_split(world, run):
    world.opencast.add(*map(at, range(9)))
    assert world.stream.work(run, TimeSlice(span(0, 9)), FakeReporter()) == Split(
        [TimeSlice(part) for part in span(0, 9).cut(3)]
    )
    assert world.sink.arrived == []
