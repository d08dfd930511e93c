"""Backfills: harvested beside the live stream, at a bounded rate, once, whatever is lost on the way."""

import dataclasses
import itertools
import json
from collections import Counter
from datetime import timedelta

import pytest

from tests.fakes import NOON, GatedLedger, Mailbox, World, at, span, unavailable
from uaharvest.errors import BadInputError, BlockedError, RetryableError, SourceError
from uaharvest.intervals import Interval
from uaharvest.runs.backfills import TRIES, Backfill, Backfills
from uaharvest.runs.pace import LONGEST_TURN, Pace
from uaharvest.runs.state import StreamState
from uaharvest.s3_object import S3Object
from uaharvest.streams import backfill as backfill_
from uaharvest.streams.lag import MOST, at_once
from uaharvest.streams.time_slice import TimeSlice

FAST = 1_000_000  # rows per second: no wait


class KilledError(BaseException):
    """A worker ends where it stands."""


class Notes(Mailbox):
    """Hints that nobody has read yet, those for `advance` too."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def advance(self, run_id):
        self.asked.append(run_id)


class History:
    """A backfiller of a world whose watermark is noon and whose rows lie before it."""

    def __init__(self, client, world=None, **settings):
        self.world = world or World(client, **{"max_window": 300, "overlap": 0, **settings})
        if world is None:
            self.world.start_at(NOON)
            self.world.clock.now = at(180)
        self.redis = client
        self.now = 0.0
        self.slept = []
        self.begin()

    def begin(self):
        """Start as a new process does, which knows nothing but the settings."""
        world = self.world
        self.mailbox = Notes()
        self.ledger = GatedLedger(self.redis, "backfill-useractions", lease=world.settings.lease)
        state = StreamState(self.redis, self.ledger.place)
        parts = dataclasses.replace(world.engine.parts, ledger=self.ledger, state=state, hints=self.mailbox)
        self.stored = stored(world.s3)
        pace = Pace(self.redis, self.ledger.place, clock=lambda: at(self.now), pause=self.sleep)
        self.made = backfill_.of_parts(parts, world.settings, self.stored, to="queue", pace=pace)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def start(self, begin, end, rate=FAST, expected=0):
        return self.made.start(span(begin, end), rate=rate, expected=expected)

    def work(self, most=1000):
        """Follow the hints until there are none, or `most` slices were taken."""
        taken = 0
        while taken < most:
            if self.mailbox.slices:
                self.made.work(*self.mailbox.slices.pop(0))
                taken += 1
            elif self.mailbox.asked:
                self.made.advance(self.mailbox.asked.pop(0))
            else:
                return

    def harvest(self):
        """Tick, then do all that comes of it."""
        self.made.advance()
        self.work()

    def of(self, one):
        return self.stored.read()[one.id]

    @property
    def sent(self):
        return self.world.sink.ids


def stored(s3):
    return Backfills(S3Object(s3, "bucket", "backfills/useractions.json", what="list"), pause=lambda _: None)


@pytest.fixture
def history(client):
    return History(client)


def add(history, *seconds):
    return history.world.opencast.add(*map(at, seconds))


def stop(history, one):
    return history.stored.change(one.id, lambda stored: dataclasses.replace(stored, state="stopped"))


# All goes well


def test_a_backfill_sends_each_row_of_its_span_once_window_by_window(history):
    ids = add(history, *range(-1000, -100, 20))
    add(history, -1001, -100)  # outside
    one = history.start(-1000, -100)
    history.harvest()
    assert history.sent == ids
    done = history.of(one)
    assert (done.state, done.rows, done.dead, done.share) == ("done", len(ids), 0, 1.0)
    assert [ended.kind for ended in history.made.state.history()] == ["backfill"] * 3  # of 300 s


def test_the_live_stream_and_its_watermark_do_not_notice_a_backfill(history):
    world = history.world
    before = dict(world.s3.objects)
    live_keys = set(history.redis.scan_iter())
    add(history, *range(-500, 0, 10))
    history.start(-500, 0)
    history.made.advance()
    assert world.live is None
    assert (world.ledger.explicit(), world.mailbox.slices) == ([], [])
    history.work()
    assert {key: body for key, body in world.s3.objects.items() if key in before} == before
    left = set(history.redis.scan_iter()) - live_keys
    assert all("backfill-useractions" in key for key in left), left

    live = add(history, 5, 50)
    world.harvest()
    assert world.sink.ids == sorted([*range(1, 51), *live])
    assert world.mark.at == at(170)


def test_nothing_after_the_watermark_is_backfilled_because_the_live_stream_harvests_it(history):
    with pytest.raises(BadInputError, match=r"--end 2026-03-03 12:00:01 UTC is after the watermark"):
        history.start(-10, 1)


def test_without_a_watermark_a_backfill_ends_at_the_present_less_the_lag(client):
    history = History(client, World(client, lag=10))
    with pytest.raises(BadInputError, match=r"is not over yet\. Expected 2026-03-03 11:59:50 UTC at most"):
        history.start(-100, -5)
    assert history.start(-100, -10).state == "running"


def test_a_row_that_cannot_be_sent_and_a_slice_that_cannot_be_read_are_dead_letters_and_are_counted(history):
    world = history.world
    ids = add(history, *range(-120, -100))
    world.sink.refused = {ids[3]}
    bad = at(-110).replace(tzinfo=None)
    world.opencast.fails = lambda first, last, limit: (
        SourceError("this row cannot be told") if limit > 1 and first <= bad <= last else None
    )
    one = history.start(-120, -100)
    for _ in range(60):
        history.harvest()
        if history.of(one).state == "done":
            break
        world.time_passes_in_redis()
    done = history.of(one)
    kinds = [kind for kind, _ in world.dead()]
    assert (done.state, kinds.count("record")) == ("done", 1)
    assert done.dead == len(kinds) > 1
    assert len(world.sink.arrived) == len(set(world.sink.arrived))


def test_while_the_source_refuses_each_tick_tries_one_slice_and_then_it_goes_on(history):
    ids = add(history, *range(-300, -200, 10))
    history.start(-300, -200)
    history.made.advance()
    history.mailbox.slices.clear()
    history.world.time_passes_in_redis()
    tried = []

    def refused(first, last, limit):
        tried.append(first)
        return BlockedError("denied access (403)")

    history.world.opencast.fails = refused
    history.harvest()
    first = len(tried)
    history.harvest()
    assert 0 < first <= MOST
    assert len(tried) == first + 1
    assert "denied access" in history.made.state.blocked("working").reason
    assert history.world.engine.state.blocked() is None  # the live stream's own
    history.world.opencast.fails = lambda first, last, limit: None
    history.harvest()
    assert history.sent == ids


# Overlaps, and more than one at once


def test_overlapping_spans_are_refused_and_disjoint_ones_run_at_the_same_time(history):
    ids = add(history, *range(-900, -300, 20))
    first = history.start(-600, -300)
    with pytest.raises(BadInputError, match=rf"backfill {first.id} \(running\) .* overlaps"):
        history.start(-700, -599)
    second = history.start(-900, -600)
    history.harvest()
    assert history.sent == ids
    assert {history.of(one).state for one in (first, second)} == {"done"}


def test_of_two_hosts_that_start_overlapping_backfills_at_once_one_is_refused(client, history):
    other = History(client, history.world)
    history.world.s3.gates = once("before the put", lambda: other.start(-200, -100))
    with pytest.raises(BadInputError, match="overlaps"):
        history.start(-150, -50)
    assert [one.requested for one in history.stored.read().values()] == [span(-200, -100)]


def test_a_start_that_is_written_again_because_its_confirmation_was_lost_keeps_what_was_done(history):
    add(history, *range(-200, -100, 20))
    one = history.start(-200, -100)
    history.harvest()
    done = history.of(one)
    assert history.stored.add(one) == done
    assert history.of(one) == done
    assert (done.state, done.rows) == ("done", 5)


def test_a_stopped_backfill_still_holds_its_span_until_it_is_dropped(history):
    one = history.start(-200, -100)
    stop(history, one)
    with pytest.raises(BadInputError, match="stopped"):
        history.start(-200, -100)
    history.stored.drop(one.id)
    assert history.start(-200, -100).state == "running"


def once(gate, act):
    waiting = [act]

    def gates(name):
        if name == gate and waiting:
            waiting.pop()()

    return gates


# Compare-and-set


def test_what_two_workers_record_at_once_is_kept_of_both(history):
    one = history.start(-300, -100)
    other = stored(history.world.s3)

    def record(into, begin, end):
        into.change(one.id, lambda read: read.with_span(span(begin, end), rows=5, dead=0, now=at(0)))

    history.world.s3.gates = once("before the put", lambda: record(other, -200, -150))
    record(history.stored, -300, -250)
    assert history.of(one).spans == (span(-300, -250), span(-200, -150))
    assert history.of(one).rows == 10


def test_a_confirmation_that_is_lost_counts_no_row_twice(history):
    one = history.start(-300, -100)
    lost = iter([unavailable()])
    history.world.s3.loses_confirmation = lambda key: next(lost, None)
    history.stored.change(one.id, lambda read: read.with_span(span(-300, -250), rows=5, dead=0, now=at(0)))
    assert history.of(one).rows == 5


def test_a_worker_that_never_gets_its_turn_to_write_says_so(history):
    one = history.start(-300, -100)
    count = itertools.count(1)
    key = "backfills/useractions.json"

    def always_first(name):
        if name == "before the put":
            content = json.loads(history.world.s3.objects[key])
            content["backfills"][0]["expected"] = next(count)
            history.world.s3.objects[key] = json.dumps(content).encode()

    history.world.s3.gates = always_first
    with pytest.raises(RetryableError, match="too many workers"):
        stop(history, one)
    assert TRIES <= next(count) < 10 * TRIES


def test_an_object_that_is_something_else_blocks_and_is_not_overwritten(history):
    history.world.s3.objects["backfills/useractions.json"] = b'{"schema": 2}'
    with pytest.raises(BlockedError, match="not what `backfill` writes there"):
        history.start(-10, -5)


def test_ended_backfills_do_not_pile_up(history):
    for n in range(30):
        one = history.start(-1000 + n, -999 + n)
        history.stored.change(one.id, lambda read: dataclasses.replace(read, state="done"))
    assert len(history.stored.read()) < 25


# Stopped and lost


def test_a_stopped_backfill_sends_no_further_slice_and_goes_on_where_it_was(history):
    ids = add(history, *range(-300, -100, 3))
    one = history.start(-300, -100)
    history.made.advance()
    history.work(most=5)
    stop(history, one)
    sent = len(history.sent)
    history.harvest()
    assert 0 < sent == len(history.sent) < len(ids)
    history.stored.change(one.id, lambda read: dataclasses.replace(read, state="running"))
    history.harvest()
    assert sorted(history.world.sink.arrived) == ids
    assert history.of(one).rows == len(ids)


def test_another_host_goes_on_with_a_redis_that_lost_its_data_and_repeats_only_the_slice_that_was_cut_off(history):
    ids = add(history, *range(-400, -50, 5))
    one = history.start(-400, -50)
    history.made.advance()
    history.work(most=10)
    before = len(history.world.sink.arrived)
    cut_off = history.mailbox.slices[0]
    history.world.sink.gates = once("after the delivery", die)
    with pytest.raises(KilledError):
        history.made.work(*cut_off)
    repeated = len(history.world.sink.arrived) - before
    assert 0 < repeated <= history.world.settings.batch_size
    history.redis.flushall()
    history.begin()
    history.harvest()
    arrived = history.world.sink.arrived
    assert sorted(set(arrived)) == ids
    assert len(arrived) == len(ids) + repeated
    done = history.of(one)
    assert (done.state, done.rows) == ("done", len(ids))


def die():
    raise KilledError


class Opaque(TimeSlice):
    """A slice of which a backfill cannot tell what it is, like a meeting or some episodes."""

    def __str__(self):
        return f"rows of {self.interval}"

    @classmethod
    def parse(cls, text):
        return cls(Interval.parse(text.removeprefix("rows of ")))


def test_slices_that_are_no_intervals_are_recorded_with_their_window_which_a_lost_redis_begins_again(history):
    stream = history.world.stream
    plan = stream.plan
    stream.plan = lambda *of, **more: dataclasses.replace(
        made := plan(*of, **more), slices=[Opaque(one.interval) for one in made.slices]
    )
    stream.parse_slice = Opaque.parse
    first = add(history, *range(-600, -300, 10))
    second = add(history, *range(-300, 0, 10))
    one = history.start(-600, 0)
    history.made.advance()
    while history.of(one).done_to == at(-600):
        history.work(most=1)
    history.work(most=3)
    assert (history.of(one).rows, history.of(one).spans) == (len(first), ())
    history.redis.flushall()
    history.begin()
    history.harvest()
    done = history.of(one)
    assert (done.state, done.rows) == ("done", len(first + second))
    arrived = Counter(history.world.sink.arrived)
    assert set(arrived) == {*first, *second}
    assert {arrived[row_id] for row_id in first} == {1}


def test_a_worker_that_dies_after_it_has_recorded_its_slice_repeats_nothing(history):
    ids = add(history, *range(-300, -200, 5))
    history.start(-300, -200)
    history.made.advance()
    history.ledger.gates = once("before slice_complete", die)
    with pytest.raises(KilledError):
        history.work()
    history.world.time_passes_in_redis()
    history.redis.delete(*history.redis.keys("*:sent"))  # what S3 has is enough
    history.harvest()
    assert sorted(history.world.sink.arrived) == ids


def test_a_window_that_another_worker_finishes_while_it_is_planned_is_not_harvested_again(client, history):
    ids = add(history, *range(-600, 0, 12))
    history.start(-600, 0)
    other = History(client, history.world)

    def other_is_faster():
        other.made.advance()
        while other.of(next(iter(other.stored.read().values()))).done_to < at(-300):
            other.work(most=1)

    history.ledger.gates = once("before run_open", other_is_faster)
    history.made.advance()
    [one] = history.stored.read().values()
    assert {run_id for run_id, _ in history.mailbox.slices} <= {one.run_id}
    history.work()
    other.work()
    history.harvest()
    assert sorted(history.world.sink.arrived) == ids
    assert len(history.ledger.explicit()) == 0


def test_windows_of_a_worker_that_died_before_it_closed_them_are_closed(history):
    add(history, *range(-600, -300, 50))
    history.start(-600, -300)
    history.ledger.gates = once("before run_close", die)
    with pytest.raises(KilledError):
        history.harvest()
    assert history.ledger.explicit()
    history.harvest()
    assert history.ledger.explicit() == []


# The rate, and the live stream's lag


def test_the_source_is_read_at_no_more_than_the_rate(history):
    dense, sparse = range(-300, -260), range(-240, -200, 10)
    add(history, *dense, *sparse)
    one = history.start(-300, -200, rate=2)
    times = []
    history.world.sink.gates = lambda name: times.append(history.now) if name == "before the delivery" else None
    history.world.sink.chunk = 1
    history.made.advance()
    while history.of(one).state == "running":
        history.work()
        history.now += 1.0  # as the tasks' wake-ups
        history.made.advance()
    assert len(times) == len(dense) + len(sparse)
    for begin in times:
        for length in (2, 5, 10, 20):
            within = sum(begin <= moment < begin + length for moment in times)
            assert within <= 2 * length + 2 * history.world.settings.batch_size
    assert times[-1] < 2 * len(times)  # nor much slower


def test_a_worker_waits_for_a_turn_that_comes_soon(history):
    add(history, *range(-120, -100))
    history.start(-120, -100, rate=3)  # a slice of 4 rows is 1.3 s
    history.harvest()
    assert 0 < max(history.slept) <= LONGEST_TURN


def test_a_worker_gives_back_a_slice_whose_turn_comes_later(history):
    add(history, *range(-120, -100, 2))
    history.start(-120, -100, rate=1)
    history.harvest()
    assert 0 < len(history.sent) <= 4
    [run_id] = history.ledger.explicit()
    assert "rows a second at most" in history.ledger.run(run_id).trouble
    assert history.ledger.slices(run_id).claimed == 0
    assert history.mailbox.slices == []  # nor is any other tried
    assert at(history.now) < history.made.wakes_at(run_id) <= at(history.now + 4 - LONGEST_TURN)


def test_a_low_rate_makes_slices_small(history):
    history = History(history.redis, World(history.redis, batch_size=1000, overlap=0))
    add(history, -200)
    history.start(-400, -100, rate=6)
    history.made.advance()
    [run_id] = history.ledger.explicit()
    assert history.ledger.run(run_id).batch_size == 30


def test_fewer_slices_are_in_flight_while_the_live_stream_lags(history):
    add(history, *range(-300, -100))
    losses, now = history.world.engine.losses, history.made.state.now()
    losses.saw(now)
    history.start(-300, -100)
    history.made.advance()
    assert len(history.mailbox.slices) == MOST
    losses.saw(now - 3.5 * 3 * timedelta(seconds=history.world.settings.every))
    for _ in range(6):
        history.made.work(*history.mailbox.slices.pop(0))
    assert len(history.mailbox.slices) == 2
    history.made.work(*history.mailbox.slices.pop(0))
    assert len(history.mailbox.slices) == 2
    losses.saw(now)
    history.made.work(*history.mailbox.slices.pop(0))
    assert len(history.mailbox.slices) == MOST


@pytest.mark.parametrize(("behind", "most"), [(0, 8), (60, 8), (61, 7), (120, 4), (480, 1), (999_999, 1)])
def test_slices_at_once_go_down_in_proportion_to_the_lag_but_never_to_none(behind, most):
    assert at_once(timedelta(seconds=behind), timedelta(seconds=60)) == most


# What is shown


def test_the_time_left_comes_from_the_rate_and_the_count_or_else_from_the_share():
    one = Backfill.new(span(0, 100), to="queue", rate=5, now=at(0), expected=1000)
    half = one.with_window(span(0, 50), rows=500, dead=0, now=at(10))
    assert (half.rows_per_second, half.seconds_left(half.rows_per_second)) == (50.0, 10.0)
    assert dataclasses.replace(half, expected=0).seconds_left(25) == 20.0
    assert half.seconds_left(0) is None
    assert Backfill.parse(json.loads(json.dumps(half.entry()))) == half


def test_counting_first_counts_what_is_harvested_then(history):
    ids = add(history, *range(-1000, -100, 90))
    assert backfill_.count(history.made, span(-1000, -100)) == len(ids)
    assert history.stored.read() == {}
    assert history.redis.keys("*run:*") == []
