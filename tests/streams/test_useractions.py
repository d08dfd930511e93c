import collections
import itertools
import json

import pytest

from tests.fakes import DESTINATION, NOON, World, at, span
from uaharvest.errors import PoisonError, RetryableError, SourceError
from uaharvest.runs.known import KnownIds, known_key
from uaharvest.runs.stream import Split
from uaharvest.runs.watermark import Watermark
from uaharvest.runs.windows import Interval


class Desk:
    """Remembers what a slice reports."""

    def __init__(self, known=()):
        self.left_out = set(known)
        self.confirmed = []
        self.buried = []
        self.counts = collections.Counter()

    def known(self, start, end):
        return self.left_out

    def confirm(self, rows):
        self.confirmed += [row.id for row in rows]

    def bury(self, rows):
        self.buried += [row_id for _, row_id in rows]

    def count(self, counts):
        self.counts += counts


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
    return KnownIds(world.redis, known_key("useractions", "first-epoch", DESTINATION))


def know(world, seconds):
    world.redis.zadd(known(world).key, {f"known {second}": at(second).timestamp() for second in seconds})


# Plans


@pytest.mark.parametrize(("rows", "slices"), [(0, 0), (1, 1), (4, 1), (5, 2), (9, 3)])
def test_a_window_is_cut_into_as_many_slices_as_its_total_has_batches(world, run, rows, slices):
    world.opencast.add(*map(at, range(rows)))
    plan = world.stream.plan(run, late=[], known=known(world))
    assert (len(plan.slices), plan.expected) == (slices, rows)


def test_an_overlap_that_counts_as_many_as_are_known_is_left_alone(world, run):
    world.opencast.add(*map(at, range(-50, 0)))
    know(world, range(-50, 0))
    world.opencast.asked.clear()
    assert world.stream.plan(run, late=[span(-60, 0)], known=known(world)).slices == []
    assert len(world.opencast.asked) == 3  # overlap, window, its zone


def test_few_rows_are_fetched_rather_than_counted_by_halves(world, run):
    world.opencast.add(*map(at, range(-10, 0)))
    know(world, range(-10, -1))
    plan = world.stream.plan(run, late=[span(-60, 0)], known=known(world))
    assert len(plan.slices) == 3
    assert (plan.slices[0].split("-")[0], plan.slices[-1].split("-")[1]) == tuple(str(span(-60, 0)).split("-"))


def test_among_many_the_difference_is_found_by_halves(world, run):
    world.opencast.add(*[at(second) for second in range(-512, 0) for _ in range(8)])
    world.redis.zadd(
        known(world).key,
        {f"{second} {n}": at(second).timestamp() for second in range(-512, 0) for n in range(8)},
    )
    world.opencast.add(at(-100))
    world.opencast.asked.clear()
    plan = world.stream.plan(run, late=[span(-512, 0)], known=known(world))
    starts, ends = ([int(slice_.split("-")[n]) for slice_ in plan.slices] for n in (0, 1))
    assert min(starts) <= at(-100).timestamp() < max(ends)
    assert max(ends) - min(starts) <= 64
    assert len(world.opencast.asked) < 15


def test_where_most_is_new_it_is_not_halved(world, run):
    world.opencast.add(*[at(second) for second in range(-512, 0) for _ in range(2)])
    world.opencast.asked.clear()
    plan = world.stream.plan(run, late=[span(-512, 0)], known=known(world))
    assert len(plan.slices) == 256
    assert len(world.opencast.asked) == 3


def test_the_watermarks_own_second_is_the_windows(world, run):
    world.opencast.add(at(0))
    plan = world.stream.plan(run, late=[span(-60, 0)], known=known(world))
    assert plan.slices == [str(span(0, 100))]


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
    plan = world.stream.plan(run, late=[span(-60, 0)], known=known(world))
    assert plan.slices[-1].split("-")[1] == str(span(0, 100)).split("-")[1]
    assert plan.expected == 0
    world.opencast.fails = spoils(-20)
    plan = world.stream.plan(run, late=[span(-60, 0)], known=known(world))
    assert plan.slices == [str(span(-60, 0)), str(span(0, 100))]


def test_in_an_outage_nothing_is_planned(world, run):
    world.opencast.fails = lambda first, last, limit: SourceError("down")
    with pytest.raises(SourceError):
        world.stream.plan(run, late=[], known=known(world))


def test_what_is_known_is_left_out_and_the_rest_is_delivered(world, run):
    world.opencast.add(at(1), at(2), at(3))
    desk = Desk(known={"2"})
    tally = world.stream.work(run, str(span(0, 10)), desk)
    assert (tally.found, tally.dead) == (3, 0)
    assert (sorted(desk.confirmed), world.sink.ids) == ([1, 3], [1, 3])


def test_too_many_rows_are_a_split(world, run):
    world.opencast.add(*map(at, range(9)))
    assert world.stream.work(run, str(span(0, 9)), Desk()) == Split([str(part) for part in span(0, 9).cut(3)])
    assert world.sink.arrived == []


def test_a_look_up_that_fails_delivers_nothing_and_is_not_the_slices_fault(world, run):
    world.opencast.add(at(1))
    world.episodes.fails = SourceError("the search is down")
    with pytest.raises(RetryableError, match="the search is down") as raised:
        world.stream.work(run, str(span(0, 10)), Desk())
    assert not isinstance(raised.value, SourceError)
    assert world.sink.arrived == []


def test_an_episode_that_alone_cannot_be_looked_up_is_the_slices_fault(world, run):
    """Or everything would wait for it for ever."""
    world.opencast.add(at(1))
    world.episodes.fails = SourceError("500 for this one")
    world.episodes.fails_at_all = False
    with pytest.raises(SourceError, match="500 for this one"):
        world.stream.work(run, str(span(0, 10)), Desk())


def test_a_refused_record_is_buried_only_after_its_letter_is_written(world, run):
    world.opencast.add(at(1), at(2))
    world.sink.refused = {1}
    desk = Desk()
    assert world.stream.work(run, str(span(0, 10)), desk).dead == 1
    assert (desk.confirmed, desk.buried) == ([2], [1])
    assert [payload["record"]["action_id"] for _, payload in world.dead()] == [1]

    def fails(operation, key):
        raise RetryableError("S3 is down")

    world.s3.fails = fails
    desk = Desk()
    with pytest.raises(RetryableError):
        world.stream.work(run, str(span(0, 10)), desk)
    assert desk.buried == []


def test_a_slice_has_halves_until_it_is_a_second(world):
    assert world.stream.halves(str(span(0, 3))) == [str(span(0, 1)), str(span(1, 3))]
    assert world.stream.halves(str(span(0, 1))) == []


# Replays


def test_a_refused_record_is_sent_as_it_was(world, run):
    world.opencast.add(at(1))
    world.sink.refused = {1}
    world.stream.work(run, str(span(0, 10)), Desk())
    ((_, payload),) = world.dead()
    sent = []
    deliver = world.sink.deliver
    world.sink.deliver = lambda records: deliver([sent.append(row) or row for row in records])
    world.stream.redeliver(payload)
    assert json.loads(sent[0].body) == payload["record"]


def test_a_row_that_can_be_read_by_now_is_sent(world):
    world.opencast.add(at(1))
    world.stream.redeliver({"raw": world.opencast.rows[0].to_json(world.opencast.zone)})
    assert len(world.sink.arrived) == 1


def test_a_row_that_still_cannot_be_read_stays(world):
    with pytest.raises(PoisonError):
        world.stream.redeliver({"raw": {"id": 1}})


def test_a_record_that_is_refused_again_stays(world):
    world.sink.refused = {"replayed"}
    with pytest.raises(PoisonError, match="refused"):
        world.stream.redeliver({"record": {"action_id": 1}})
