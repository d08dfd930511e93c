import json

import pytest

from tests.fakes import NOON, FakeReporter, World, at, span
from uaharvest.errors import PoisonError, PutOffError, RetryableError, SourceError
from uaharvest.opencast.cache import Failing
from uaharvest.streams import delivery
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


def test_a_look_up_that_fails_delivers_nothing_and_is_not_the_slices_fault(world, run):
    world.opencast.add(at(1))
    world.episodes.fails = SourceError("the search is down")
    with pytest.raises(RetryableError, match="the search is down") as raised:
        world.stream.work(run, TimeSlice(span(0, 10)), FakeReporter())
    assert not isinstance(raised.value, SourceError)
    assert world.sink.arrived == []


def rows_of(world, mpids):
    """Let a row appear for each of `mpids`, a second apart."""
    world.opencast.add(*map(at, range(len(mpids))))
    lectures = dict(zip(range(1, len(mpids) + 1), mpids, strict=True))
    to_json = type(world.opencast.rows[0]).to_json
    world.opencast.told = lambda row: to_json(row, world.opencast.zone) | {"mediapackageId": lectures[row.id]}


def test_what_names_an_episode_that_is_refused_becomes_dead_letters_and_holds_up_nothing_else(world, run):
    rows_of(world, ["good", "bad", "good"])
    world.episodes.refused = {"bad": Failing("403", final=True)}
    reporter = FakeReporter()
    assert world.stream.work(run, TimeSlice(span(0, 3)), reporter).dead == 1
    assert (world.sink.ids, sorted(reporter.confirmed), reporter.dead) == ([1, 3], [1, 3], [2])
    ((kind, payload),) = world.dead()
    assert (kind, payload["raw"]["id"]) == ("record", 2)
    with pytest.raises(PoisonError, match="403"):
        world.stream.redeliver(payload)
    world.episodes.refused = {}
    world.stream.redeliver(payload)
    assert len(world.sink.arrived) == 3


def test_what_names_an_episode_that_may_be_found_in_a_moment_waits_alone(world, run):
    rows_of(world, ["good", "perhaps", "bad"])
    world.episodes.refused = {"perhaps": Failing("500", final=False), "bad": Failing("403", final=True)}
    reporter = FakeReporter()
    with pytest.raises(PutOffError, match="500"):
        world.stream.work(run, TimeSlice(span(0, 3)), reporter)
    assert (world.sink.ids, reporter.dead) == ([1], [])
    world.episodes.refused.pop("perhaps")
    reporter = FakeReporter(delivered={"1"})
    assert (
        world.stream.work(run, TimeSlice(span(0, 3)), reporter).dead == 1
    )  # counted when the slice is done, so once
    assert (world.sink.ids, reporter.dead) == ([1, 2], [3])


def test_a_record_that_alone_cannot_be_built_is_its_own_dead_letter(world, run, monkeypatch):
    build = delivery.record

    def breaks(action, episode, *more):
        if action.id == 2:
            raise TypeError("secret")
        return build(action, episode, *more)

    monkeypatch.setattr(delivery, "record", breaks)
    world.opencast.add(*map(at, range(3)))
    reporter = FakeReporter()
    assert world.stream.work(run, TimeSlice(span(0, 3)), reporter).dead == 1
    assert (world.sink.ids, reporter.dead) == ([1, 3], [2])
    assert "secret" not in str(world.dead())


def test_a_record_without_neighbours_is_compared_with_a_plain_one(world, run, monkeypatch):
    build = delivery.record

    def breaks(action, episode, *more):
        if action.mpid == "lecture":
            raise TypeError
        return build(action, episode, *more)

    monkeypatch.setattr(delivery, "record", breaks)
    world.opencast.add(at(0))
    assert world.stream.work(run, TimeSlice(span(0, 3)), FakeReporter()).dead == 1


@pytest.mark.parametrize("rows", [1, 3])
def test_an_error_of_our_own_is_no_records_fault(world, run, monkeypatch, rows):
    def breaks(action, episode, *more):
        raise TypeError("a mistake in the code")

    monkeypatch.setattr(delivery, "record", breaks)
    world.opencast.add(*map(at, range(rows)))
    with pytest.raises(TypeError):
        world.stream.work(run, TimeSlice(span(0, 3)), FakeReporter())
    assert world.dead() == []


def test_a_refused_record_counts_as_delivered_only_after_its_letter_is_written(world, run):
    world.opencast.add(at(1), at(2))
    world.sink.refused = {1}
    reporter = FakeReporter()
    assert world.stream.work(run, TimeSlice(span(0, 10)), reporter).dead == 1
    assert (reporter.confirmed, reporter.dead) == ([2], [1])
    assert [payload["record"]["action_id"] for _, payload in world.dead()] == [1]

    def fails(operation, key):
        raise RetryableError("S3 is down")

    world.s3.fails = fails
    reporter = FakeReporter()
    with pytest.raises(RetryableError):
        world.stream.work(run, TimeSlice(span(0, 10)), reporter)
    assert reporter.dead == []


# Replays


def test_a_refused_record_is_sent_as_it_was(world, run):
    world.opencast.add(at(1))
    world.sink.refused = {1}
    world.stream.work(run, TimeSlice(span(0, 10)), FakeReporter())
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
