"""Each italic sentence of the design's "The run", and what the engine does when things go wrong."""

import contextlib
import json
import threading
from datetime import timedelta

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.fakes import DESTINATION, NOON, World, access_denied, at, span, unavailable
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    HarvestError,
    RetryableError,
    SourceError,
    SpanRefusedError,
)
from uaharvest.keys import PREFIX, RUN_SLICES
from uaharvest.runs import coordinator, opening
from uaharvest.runs.delivered import known_key
from uaharvest.runs.hints import HINTS
from uaharvest.runs.watermark import advanced


class KilledError(BaseException):
    """A worker ends where it stands."""


@pytest.fixture
def world(client):
    """An engine whose watermark is noon; it is three minutes past."""
    world = World(client)
    world.start_at(NOON)
    world.clock.now = at(180)
    return world


def once_at(part, gate, act):
    """Let `act` happen the next time that something comes to `gate` of `part`."""
    waiting = [act]

    def gates(name):
        if name == gate and waiting:
            waiting.pop()()

    part.gates = gates


def die():
    raise KilledError


def fail_in(world, low, high, error):
    """Let the source fail for ranges that touch the seconds from `low` to `high` after noon."""
    first_bad, last_bad = at(low).replace(tzinfo=None), at(high).replace(tzinfo=None)

    def fails(first, last, limit):
        return error if limit > 1 and first <= last_bad and last >= first_bad else None

    world.opencast.fails = fails


def wall(first, last):
    """Return a range in which Opencast is asked, by seconds after noon."""
    return at(first).replace(tzinfo=None), at(last).replace(tzinfo=None)


def attempts_used(world):
    """Return the attempts that are counted of outstanding slices."""
    states = world.redis.hvals(f"{PREFIX}run:{world.live.id}:slices")
    return {json.loads(state)["attempts"] for state in states}


# All goes well


def test_a_tick_harvests_from_the_watermark_to_the_sources_clock_less_lag_and_moves_the_watermark(world):
    ids = world.opencast.add(*map(at, (0, 1, 50, 51, 52, 169)))
    world.opencast.add(at(170), at(-1))  # the window's end is not in it, what lies before it was never asked for
    world.harvest()
    assert world.sink.ids == ids
    assert world.mark.at == at(170)
    assert world.live is None
    assert [entry.outcome for entry in world.engine.state.history()] == ["done"]


def test_a_second_tick_at_once_does_nothing(world):
    world.opencast.add(at(5))
    world.harvest()
    mark = world.mark
    world.harvest()
    assert (world.mark, world.sink.ids) == (mark, [1])


def test_two_ticks_at_once_open_one_run_and_publish_each_slice_once(world):
    world.opencast.add(*map(at, range(0, 100, 10)))
    once_at(world.ledger, "before run_open", world.engine.advance)
    world.engine.advance()
    assert len(world.mailbox.slices) == world.live.planned == 3
    assert len(set(world.mailbox.slices)) == 3


def test_a_window_without_rows_moves_the_watermark_without_a_slice(world):
    world.engine.advance()
    assert (world.mark.at, world.mailbox.slices) == (at(170), [])


def test_a_long_way_back_is_harvested_window_by_window(world):
    ids = world.opencast.add(*map(at, range(0, 1000, 100)))
    world.clock.now = at(1010)
    world.harvest()
    assert (world.sink.ids, world.mark.at) == (ids, at(1000))
    ends = [entry.end for entry in world.engine.state.history()]
    assert len(ends) == 4  # of 300 s at most


def test_a_lost_message_costs_a_tick_and_no_row(world):
    ids = world.opencast.add(at(5), at(100))
    world.engine.advance()
    world.mailbox.slices.clear()
    world.time_passes_in_redis()
    world.harvest()
    assert (world.sink.ids, world.mark.at) == (ids, at(170))


def test_the_last_slice_of_a_run_asks_for_advance(world):
    world.opencast.add(at(5))
    world.engine.advance()
    assert world.mailbox.advances == 0
    world.work()
    assert world.mailbox.advances == 1


def test_hints_on_their_way_are_bounded_and_each_slice_that_ends_sends_the_next(world):
    world.opencast.add(*[at(n) for n in range(160) for _ in "ab"])
    world.engine.advance()
    assert (world.live.planned, len(world.mailbox.slices)) == (80, HINTS)
    world.engine.work(*world.mailbox.slices[0])
    assert len(world.mailbox.slices) == HINTS + 1


def test_a_worker_that_has_time_works_on_all_slices_for_which_there_is_no_hint(world):
    ids = world.opencast.add(*map(at, range(0, 170, 6)))
    world.engine.advance()
    planned = world.live.planned
    said = world.engine.work(*world.mailbox.slices.pop(0), seconds=1000)
    assert world.live.planned == planned  # no slice was too full, and cut
    assert said.startswith(f"{planned - HINTS} slices; the last: ")
    # After the first, it sent a hint so that an idle worker could join in. The others were there.
    assert (world.live.outstanding, len(world.mailbox.slices)) == (HINTS, HINTS)
    assert sorted(world.due(world.live.id)) == sorted(slice_id for _, slice_id in world.mailbox.slices)
    world.work()
    world.engine.advance()
    assert (sorted(world.sink.arrived), world.mark.at) == (sorted(ids), at(170))


def test_a_hint_that_cannot_be_sent_keeps_no_worker_from_its_slice(world, monkeypatch):
    """A broker that is full still hands out what waits there."""
    world.opencast.add(*map(at, range(0, 170, 3)))
    world.engine.advance()
    hint = world.mailbox.slices.pop(0)
    monkeypatch.setattr(world.mailbox, "work", lambda *_: pytest.fail("full"))
    with pytest.raises(pytest.fail.Exception, match="full"):
        world.engine.work(*hint, seconds=1000)
    assert world.live.done == 1


def test_a_worker_that_is_blocked_goes_on_with_no_other_slice(world):
    world.opencast.add(*map(at, range(0, 170, 3)))
    world.engine.advance()
    tries = []
    world.sink.fails = lambda: (tries.append(1), BlockedError("denied"))[1]
    assert world.engine.work(*world.mailbox.slices[0], seconds=1000) == "blocked: denied"
    assert (len(tries), world.live.done) == (1, 0)


def test_a_worker_that_dies_at_a_slice_for_which_there_was_no_hint_loses_nothing(world):
    ids = world.opencast.add(*map(at, range(0, 170, 3)))
    world.engine.advance()
    world.sink.chunk = 4  # a slice
    once_at(world.sink, "after the delivery", lambda: once_at(world.sink, "after the delivery", die))
    with pytest.raises(KilledError):
        world.engine.work(*world.mailbox.slices.pop(0), seconds=1000)
    assert world.live.done == 1
    world.time_passes_in_redis()
    world.harvest()
    assert (set(world.sink.arrived), world.mark.at) == (set(ids), at(170))


def test_a_quiet_stream_does_not_chase_its_own_clock(world):
    """Were each request to take a second, there would always be a window of some seconds more."""
    asked = []

    def slowly(name):
        asked.append(name)
        assert len(asked) < 100, "never ends"
        world.clock.forward(1)

    world.opencast.gates = slowly
    world.engine.advance()
    assert world.mark.at >= at(170)


# The design says: random: an id made of start and end lets a survivor of a lost Redis complete the new run's slice


def test_a_survivor_of_a_lost_redis_cannot_complete_the_new_runs_slice(world):
    world.opencast.add(at(5))
    world.engine.advance()
    old_run, old_slice = world.mailbox.slices.pop()

    def redis_loses_all_and_the_next_tick_opens_the_window_anew():
        world.redis.flushall()
        world.engine.advance()

    once_at(world.sink, "after the delivery", redis_loses_all_and_the_next_tick_opens_the_window_anew)
    world.engine.work(old_run, old_slice)
    assert world.live.id != old_run
    assert world.due(world.live.id) == [old_slice]
    assert not world.live.finished
    world.engine.advance()
    assert world.mark.at == NOON


def test_what_a_survivor_has_confirmed_is_known_to_the_new_run(world):
    world.opencast.add(at(5))
    world.engine.advance()
    once_at(world.sink, "after the delivery", lambda: (world.redis.flushall(), world.engine.advance()))
    world.harvest()
    assert (world.sink.arrived, world.mark.at) == ([1], at(170))


# "Slot, outstanding and done are read in one script"


def test_slot_outstanding_and_done_are_read_at_one_moment(world):
    world.opencast.add(at(5))
    world.engine.advance()
    commands = []
    execute = world.redis.execute_command
    world.redis.execute_command = lambda *args, **options: (commands.append(args[0]), execute(*args, **options))[1]
    assert world.ledger.live().outstanding == 1
    assert commands == ["EVALSHA"]


# "its ETag is not the one the run was opened with → the run is void at once, before anything is published"


def test_a_run_opened_on_a_watermark_that_has_moved_is_void_before_anything_is_published(world):
    world.opencast.add(at(5), at(100))
    once_at(world.ledger, "before run_open", lambda: world.store.move(at(50)))
    world.engine.advance()
    assert [entry.outcome for entry in world.engine.state.history()] == ["void"]
    assert {run_id for run_id, _ in world.mailbox.slices} == {world.live.id}
    assert world.live.window == span(50, 170)


def test_a_run_is_void_when_an_operator_moves_the_watermark_under_it(world):
    world.opencast.add(at(5), at(100))
    world.engine.advance()
    first = world.live.id
    world.mailbox.slices.clear()
    world.store.move(at(20))
    world.engine.advance()
    assert world.live.id != first
    assert world.live.window == span(20, 170)
    world.harvest()
    assert world.sink.ids == [2]


def test_a_run_is_void_when_the_watermark_is_deleted_under_it_and_the_next_starts_as_a_first_one(world):
    world.opencast.add(at(5), at(100))
    world.engine.advance()
    world.mailbox.slices.clear()
    world.store.delete()
    world.harvest()
    assert world.sink.ids == [2]  # two minutes back
    assert world.mark.floor == at(60)


# "Outstanding" includes claimed, parked and backed-off ones


@pytest.mark.parametrize("state", ["claimed", "parked"])
def test_a_run_is_not_committed_while_a_slice_is(world, state):
    world.opencast.add(at(5))
    world.engine.advance()
    run_id, slice_id = world.mailbox.slices.pop()
    claim = world.ledger.claim(run_id, slice_id, "token")
    if state == "parked":
        world.ledger.release(run_id, claim, delay=300, attempts=0, waits=1, reason="down")
    world.engine.advance()
    assert (world.live.id, world.mark.at) == (run_id, NOON)


# The design says: the ledger exists and says done = planned; an empty or missing set proves nothing


@pytest.mark.parametrize("part", [":due", ""])
def test_an_empty_or_missing_ledger_proves_nothing(world, part):
    world.opencast.add(at(5))
    world.engine.advance()
    run_id, _ = world.mailbox.slices.pop()
    world.redis.unlink(f"{PREFIX}run:{run_id}{part}")
    world.engine.advance()
    assert world.mark.at == NOON
    assert world.live.id != run_id
    world.harvest()
    assert (world.sink.ids, world.mark.at) == ([1], at(170))


# "close frees the slot only if it still holds this id"


def test_a_late_close_does_not_free_the_slot_of_the_next_run(world):
    world.opencast.add(at(5))
    world.engine.advance()
    first = world.live

    def another_commits_and_opens_the_next():
        world.clock.forward(60)
        world.harvest()
        world.opencast.add(at(200))
        world.clock.forward(60)
        world.engine.advance()

    world.work()
    once_at(world.s3, "before the put", another_commits_and_opens_the_next)
    world.engine.advance()
    assert world.live is not None
    assert world.live.id != first.id
    world.harvest()
    assert (world.sink.ids, world.mark.at) == ([1, 2], at(290))


# The design says: written first (IfNoneMatch), then harvested


def test_without_a_watermark_it_is_written_first_then_harvested(client):
    world = World(client)
    world.opencast.add(at(-121), at(-120), at(-11))
    wrote = []
    once_at(world.s3, "after the put", lambda: wrote.append(list(world.opencast.asked)))
    world.harvest()
    assert len(wrote[0]) == 1  # only the clock was asked for
    assert world.sink.ids == [2, 3]
    assert (world.mark.floor, world.mark.at) == (at(-120), at(-10))


def test_a_first_watermark_of_another_worker_is_not_overwritten(client):
    world = World(client)
    once_at(world.s3, "before the put", lambda: world.start_at(at(-300)))
    world.engine.advance()
    assert world.mark.floor == at(-300)


# "Plan first; then slot and whole ledger in one script; publish last"


def test_a_worker_that_dies_while_it_plans_leaves_the_slot_free(world):
    world.opencast.add(at(5))
    once_at(world.ledger, "before run_open", die)
    with pytest.raises(KilledError):
        world.engine.advance()
    assert (world.redis.keys(f"{PREFIX}slot*"), world.redis.keys(f"{PREFIX}run*")) == ([], [])
    world.harvest()
    assert world.sink.ids == [1]


def test_a_worker_that_dies_after_opening_leaves_a_run_that_the_next_tick_publishes(world):
    world.opencast.add(at(5))
    once_at(world.ledger, "after run_open", die)
    with pytest.raises(KilledError):
        world.engine.advance()
    assert (world.live.planned, world.live.outstanding, world.mailbox.slices) == (1, 1, [])
    world.harvest()
    assert (world.sink.ids, world.mark.at) == ([1], at(170))


# "known ids are counted first, the total second"


def test_known_ids_are_counted_before_the_total_so_that_what_is_confirmed_in_between_hides_no_late_row(world):
    """The other way round the late row, only in the total, and the other, only in the known ids, would add up."""
    world.opencast.add(at(5))
    world.harvest()
    late = world.opencast.add(at(20))[0]
    world.clock.forward(60)

    def another_run_sends_a_row_that_appears_after_the_total(name):
        if name == "after the request" and world.opencast.asked[-1][:2] == wall(0, 169):
            world.opencast.gates = lambda name: None
            sent = world.opencast.add(at(30))[0]
            key = known_key("useractions", "first-epoch", DESTINATION)
            world.redis.zadd(key, {str(sent): at(30).timestamp()})

    world.opencast.gates = another_run_sends_a_row_that_appears_after_the_total
    world.harvest()
    assert late in world.sink.ids


# "the attempt is counted at the claim"


def test_a_slice_whose_worker_is_stopped_is_due_at_once_and_asked_for_again_without_an_attempt(world):
    world.opencast.add(at(5))
    world.engine.advance()
    hint = world.mailbox.slices.pop()

    def stop():
        raise SystemExit

    once_at(world.opencast, "after the request", stop)
    with pytest.raises(SystemExit):
        world.engine.work(*hint)
    assert world.mailbox.slices == [hint]
    assert attempts_used(world) == {0}
    assert world.ledger.slices(world.live.id).due == 1
    world.work()
    assert world.sink.ids == [1]


def test_a_slice_that_kills_each_worker_is_halved_and_its_second_becomes_a_dead_letter(world):
    world.opencast.add(*map(at, (5, 100, 100)))
    bad = 2

    def kills(name):
        if name == "after the request" and world.opencast.asked[-1][2] > 1:
            first, last, _ = world.opencast.asked[-1]
            if first <= at(100).replace(tzinfo=None) < last:
                raise KilledError

    world.opencast.gates = kills
    world.engine.advance()
    for _ in range(200):
        world.time_passes_in_redis()
        with contextlib.suppress(KilledError):
            world.harvest()
        if world.mark.at > NOON:
            break
    assert world.mark.at == at(170)
    assert world.sink.ids == [1]
    assert world.dead() == [("slice", {"start": "2026-03-03T12:01:40Z", "end": "2026-03-03T12:01:41Z"})]
    assert bad not in world.sink.arrived


# "until total ≤ limit"; by time, never by offset


def test_a_second_that_is_too_big_is_asked_for_again_until_the_total_fits_into_the_limit(world):
    ids = world.opencast.add(*[at(5)] * 9)
    grown = []

    def grows(first, last, limit):
        if limit == 9 and not grown:  # between the first request and the one with its total
            grown.extend(world.opencast.add(at(5), at(5)))

    world.opencast.fails = grows
    world.harvest()
    assert (world.sink.ids, world.mark.at) == (ids + grown, at(170))


def test_a_slice_of_more_than_a_batch_is_replaced_by_as_many_parts_as_its_total_asks_for(world):
    world.opencast.add(at(5))
    world.engine.advance()
    assert world.live.planned == 1
    world.opencast.add(*map(at, range(10, 19)))
    world.engine.work(*world.mailbox.slices.pop())
    assert (world.live.planned, world.live.outstanding, world.sink.arrived) == (3, 3, [])
    world.harvest()
    assert world.sink.ids == list(range(1, 11))


# "marking ids known after each confirmation, never before"


def test_a_row_is_known_only_after_its_confirmation(world):
    world.opencast.add(*map(at, (5, 6, 7)))  # two chunks
    world.engine.advance()
    seen = []
    world.sink.gates = lambda name: seen.append((name, world.known()))
    once_failed = [None, RetryableError("down")]
    world.sink.fails = lambda: once_failed.pop(0) if once_failed else None
    world.work()
    assert seen[0] == ("before the delivery", [])
    first_two = sorted(map(str, world.sink.arrived))
    assert len(first_two) == 2
    assert world.known() == first_two
    world.time_passes_in_redis()
    world.harvest()
    assert (world.sink.ids, len(world.sink.arrived)) == ([1, 2, 3], 3)


def test_a_row_whose_confirmation_was_lost_is_sent_again(world):
    world.opencast.add(at(5))
    errors = [RetryableError("no answer")]
    world.sink.loses_confirmation = lambda: errors.pop() if errors else None
    world.harvest()
    assert world.known() == []
    world.time_passes_in_redis()
    world.harvest()
    assert world.sink.arrived == [1, 1]


# "only when all is confirmed complete it in the ledger"


@pytest.mark.parametrize("gate", ["before the delivery", "after the delivery"])
def test_a_slice_is_complete_only_when_all_of_it_is_confirmed(world, gate):
    world.opencast.add(*map(at, (5, 6, 7)))
    world.engine.advance()
    message = world.mailbox.slices.pop()
    once_at(world.sink, gate, die)
    with pytest.raises(KilledError):
        world.engine.work(*message)
    assert (world.live.done, world.live.outstanding) == (0, 1)
    world.time_passes_in_redis()
    world.harvest()
    assert world.sink.ids[-1] == 3
    assert set(world.sink.arrived) == {1, 2, 3}


# "PUT the watermark with the ETag read when the run was opened"; 412 or 404


def test_a_watermark_moved_just_before_the_commit_is_not_overwritten(world):
    world.opencast.add(at(5), at(100))
    world.engine.advance()
    world.work()
    once_at(world.s3, "before the put", lambda: world.store.move(at(90)))
    world.engine.advance()
    assert world.engine.state.history()[0].outcome == "void"
    assert (world.mark.at, world.live.window) == (at(90), span(90, 170))


def test_the_etag_of_the_opening_counts_not_one_read_later(world):
    """A commit that reads anew and writes over what it finds would take an operator's move back."""
    world.opencast.add(at(5))
    world.engine.advance()
    world.work()
    once_at(world.s3, "after the get", lambda: world.store.move(at(90)))
    world.engine.advance()
    assert world.mark.at >= at(90)
    assert world.mark.epoch != "first-epoch"
    assert [entry.outcome for entry in world.engine.state.history()] == ["done", "void"]


def test_a_watermark_deleted_just_before_the_commit_stays_deleted_for_the_run(world):
    world.opencast.add(at(5), at(100))
    world.engine.advance()
    world.work()
    once_at(world.s3, "before the put", world.store.delete)
    world.engine.advance()
    assert world.engine.state.history()[-1].outcome == "void"
    assert world.mark.floor == at(60)


def test_a_commit_whose_answer_was_lost_is_done_when_the_object_names_this_run(world):
    world.opencast.add(at(5))
    world.engine.advance()
    run_id = world.live.id
    world.work()
    world.s3.loses_confirmation = lambda key: unavailable()
    world.engine.advance()  # the store looks and finds its own content
    assert (world.mark.run, world.mark.at) == (run_id, at(170))
    assert world.engine.state.history()[0].outcome == "done"
    assert world.sink.arrived == [1]


def test_a_worker_that_dies_between_commit_and_close_leaves_a_run_that_is_done(world):
    world.opencast.add(at(5))
    world.engine.advance()
    run_id = world.live.id
    world.work()
    once_at(world.s3, "after the put", die)
    with pytest.raises(KilledError):
        world.engine.advance()
    assert world.live.id == run_id
    world.engine.advance()
    assert [(entry.id, entry.outcome) for entry in world.engine.state.history()] == [(run_id, "done")]
    world.clock.forward(60)
    world.harvest()
    assert world.sink.arrived == [1]


def test_two_workers_that_commit_at_once_move_the_watermark_once(world):
    world.opencast.add(at(5))
    world.engine.advance()
    world.work()
    once_at(world.s3, "before the put", world.engine.advance)
    world.engine.advance()
    assert world.mark.at == at(170)
    assert [entry.outcome for entry in world.engine.state.history()] == ["done"]


# "Every write has fresh random content, so that an ETag never comes back"


def test_an_operators_way_back_to_the_same_instant_does_not_bring_the_etag_back(world):
    world.opencast.add(at(5), at(100))
    world.store.move(NOON)
    world.engine.advance()
    run_id = world.live.id
    world.work()
    world.store.move(at(30))
    world.store.move(NOON)
    world.engine.advance()
    assert world.engine.state.history()[0].id == run_id
    assert world.engine.state.history()[0].outcome == "void"


# "known ids are kept per epoch, source and queue"


def test_after_an_operators_set_everything_from_there_on_is_sent_again(world):
    world.opencast.add(at(5), at(100))
    world.harvest()
    world.store.move(at(50))
    world.harvest()
    # Backward, late rows are looked for as far back as before, and nothing is known in the new epoch.
    assert world.sink.arrived.count(2) == 2
    assert world.mark.at == at(170)


def test_the_known_ids_of_the_former_epoch_do_not_stay_behind(world):
    world.opencast.add(at(5))
    world.harvest()
    world.store.move(at(1))
    world.harvest()
    world.clock.forward(60)
    world.harvest()
    epochs = {key.rpartition(":")[2] for key in world.redis.scan_iter(f"{PREFIX}known:useractions:*:*")}
    assert epochs == {world.mark.epoch}


def test_a_worker_that_slept_through_an_operators_set_does_not_forget_the_new_epochs_ids(world):
    world.opencast.add(at(5))
    world.harvest()
    world.clock.forward(60)
    sleeper = []

    def meanwhile():
        if sleeper:
            return
        sleeper.append(True)
        world.opencast.gates = lambda name: None
        world.store.move(at(1))
        world.harvest()

    once_at(world.opencast, "after the request", meanwhile)
    world.engine.advance()
    assert world.known() == ["1"]
    world.clock.forward(60)
    world.harvest()
    assert world.sink.arrived == [1, 1]


# "trimmed by event time against the watermark at a live commit, never by a TTL"


def test_known_ids_are_trimmed_by_event_time_at_a_live_commit(world):
    world.opencast.add(at(5), at(6), at(900))
    world.harvest()
    assert world.known() == ["1", "2"]
    world.clock.now = at(616)
    world.harvest()
    assert (world.mark.at, world.known()) == (at(606), ["2"])  # from 6 s on


def test_an_outage_of_a_day_does_not_forget_known_ids(world):
    world.opencast.add(at(5), at(100))
    world.harvest()
    assert world.redis.ttl(known_key("useractions", "first-epoch", DESTINATION)) == -1


def test_neither_a_void_nor_an_explicit_run_trims_known_ids(world):
    world.opencast.add(at(5), at(100))
    world.harvest()
    known = world.known()
    world.clock.now = at(1500)
    world.engine.ask(span(700, 800), world.options(), may_move=True)
    for run_id in world.ledger.explicit():
        world.engine.advance_explicit(run_id)
    assert world.engine.state.history()[0].kind == "explicit"
    assert world.known() == known


# Late rows


def test_a_row_that_appears_late_is_found_by_comparing_counts_and_sent_once(world):
    world.opencast.add(*map(at, range(0, 160, 10)))
    world.harvest()
    late = world.opencast.add(at(75), at(0))
    world.clock.forward(60)
    world.harvest()
    world.clock.forward(60)
    world.harvest()
    assert sorted(world.sink.arrived) == list(range(1, 19))
    assert set(late) <= set(world.sink.arrived)


def test_an_overlap_in_which_nothing_is_late_costs_one_request(world):
    world.opencast.add(*map(at, range(0, 160, 10)))
    world.harvest()
    world.opencast.asked.clear()
    world.clock.forward(60)
    world.engine.advance()
    assert [asked[:2] for asked in world.opencast.asked].count(wall(0, 169)) == 1
    assert len(world.opencast.asked) == 4  # the clock, the overlap, the window, and its zone as it is empty


def test_late_rows_are_not_looked_for_before_the_floor(world):
    world.opencast.add(at(5))
    world.harvest()
    world.opencast.add(at(-1))
    world.clock.forward(60)
    world.harvest()
    assert world.sink.ids == [1]


def test_late_rows_are_looked_for_as_far_back_as_the_overlap(world):
    world.clock.now = at(1000)
    world.harvest()
    assert world.mark.at == at(990)
    world.opencast.add(at(389), at(390))
    world.clock.forward(60)
    world.harvest()
    assert world.sink.ids == [2]


@pytest.mark.parametrize("rows", [0, 1, 600])
def test_a_late_row_in_the_last_fraction_of_a_second_before_the_watermark_is_not_missed(client, rows):
    """Opencast counts whole seconds, so that the overlap is compared up to a second before the watermark."""
    world = World(client, overlap=300)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(*[at(5)] * rows)
    world.harvest()
    assert world.mark.at == at(170)
    late = world.opencast.add(at(169) + timedelta(milliseconds=500))[0]
    world.clock.now = at(5000)  # the next windows lead further away than the overlap
    world.harvest()
    assert late in world.sink.arrived
    assert len(set(world.sink.arrived)) == len(world.sink.arrived) == rows + 1


def test_a_late_row_between_two_halves_is_found(world):
    world.opencast.add(*[at(second) for second in range(160) for _ in range(4)])
    world.harvest()
    late = world.opencast.add(at(84) + timedelta(milliseconds=500))[0]
    world.clock.forward(60)
    world.harvest()
    assert late in world.sink.arrived
    assert len(set(world.sink.arrived)) == len(world.sink.arrived)


def test_where_known_ids_were_lost_the_overlap_is_sent_once_more(world):
    world.opencast.add(*map(at, range(0, 160, 10)))
    world.harvest()
    world.redis.flushall()
    world.clock.forward(60)
    world.harvest()
    assert sorted(world.sink.arrived) == sorted([*range(1, 17)] * 2)
    world.clock.forward(60)
    world.harvest()
    assert len(world.sink.arrived) == 32


# Outages, blocks, dead letters


@pytest.mark.parametrize("what", ["source", "sink", "episodes", "dead letters"])
def test_an_outage_uses_up_no_attempts_and_costs_no_row(world, what):
    ids = world.opencast.add(at(5), at(100), at(101), at(102), at(103), at(104))
    world.engine.advance()
    if what == "source":
        world.opencast.fails = lambda first, last, limit: SourceError("down")
    elif what == "sink":
        world.sink.fails = lambda: RetryableError("down")
    elif what == "episodes":
        world.episodes.fails = SourceError("down")  # and the useractions come as ever
    else:
        world.sink.refused = {1}
        world.s3.fails = lambda operation, key: unavailable() if key.startswith("dead") else None
        world.opencast.fails = lambda first, last, limit: SourceError("down") if limit == 1 else None
    for _ in range(20):
        world.time_passes_in_redis()
        with contextlib.suppress(RetryableError):
            world.harvest()
    assert world.dead() == []
    assert world.mark.at == NOON
    assert attempts_used(world) == {0}
    world.opencast.fails = lambda first, last, limit: None
    world.sink.fails = lambda: None
    world.episodes.fails = None
    world.s3.fails = lambda operation, key: None
    world.time_passes_in_redis()
    world.harvest()
    assert world.mark.at == at(170)
    assert set(world.sink.arrived) == set(ids) - world.sink.refused
    assert len(world.dead()) == (what == "dead letters")


def test_a_second_that_always_fails_becomes_a_dead_letter_while_others_are_delivered(world):
    ids = world.opencast.add(*map(at, (5, 6, 60, 100, 101, 150)))
    fail_in(world, 60, 60, SourceError("500"))
    for _ in range(80):
        world.time_passes_in_redis()
        world.harvest()
        if world.mark.at > NOON:
            break
    assert world.mark.at == at(170)
    assert world.sink.ids == [row for row in ids if row != 3]
    kinds = [kind for kind, _ in world.dead()]
    assert set(kinds) == {"slice"}
    assert all("12:00:59" <= payload["start"][11:19] <= "12:01:00" for _, payload in world.dead())
    assert world.engine.state.history()[0].dead_letters == len(kinds)


def test_in_a_run_all_of_whose_slices_fail_only_the_bad_seconds_become_dead_letters(world):
    ids = world.opencast.add(*map(at, (5, 30, 31, 90, 91, 150)))
    fail_in(world, 30, 30, SourceError("500"))
    bad = world.opencast.fails
    fail_in(world, 91, 91, SourceError("500"))
    worse = world.opencast.fails
    world.opencast.fails = lambda *asked: bad(*asked) or worse(*asked)
    for _ in range(150):
        world.time_passes_in_redis()
        world.harvest()
        if world.mark.at > NOON:
            break
    assert world.mark.at == at(170)
    assert world.sink.ids == [row for row in ids if row not in {2, 4, 5}]
    assert [payload["start"][14:19] for _, payload in world.dead()] == ["00:29", "00:30", "01:30", "01:31"]


def test_a_dead_slice_is_not_looked_for_as_late_again_and_again(world):
    world.opencast.add(*map(at, (5, 6, 60, 100, 101, 150)))
    fail_in(world, 60, 60, SourceError("500"))
    for _ in range(80):
        world.time_passes_in_redis()
        world.harvest()
        if world.mark.at > NOON:
            break
    dead = len(world.dead())
    world.opencast.asked.clear()
    world.clock.forward(60)
    world.harvest()
    assert (world.mark.at, len(world.dead())) == (at(230), dead)
    assert not [asked for asked in world.opencast.asked if asked[2] > 1]


def test_a_gap_is_forgotten_when_its_window_is_harvested_again(world):
    world.opencast.add(at(60))
    world.engine.state.add_gap(span(60, 61))
    world.store.move(at(1))
    world.harvest()
    late = world.opencast.add(at(60))[0]
    world.clock.forward(60)
    world.harvest()
    assert late in world.sink.arrived


def test_a_dead_letter_of_a_slice_is_written_before_the_slice_leaves_the_ledger(world):
    world.opencast.add(at(60))
    world.engine.advance()
    run_id, slice_id = world.mailbox.slices.pop()
    world.redis.hset(f"{PREFIX}run:{run_id}:slices", slice_id, '{"attempts": 99, "waits": 0}')
    for parts in (span(60, 61), span(61, 170), span(0, 60)):
        assert parts.seconds > 0
    world.ledger.split(run_id, slice_id, [str(span(60, 61))], attempts=99)
    world.s3.fails = lambda operation, key: unavailable() if key.startswith("dead") else None
    world.engine.work(run_id, str(span(60, 61)))
    assert (world.live.outstanding, world.dead()) == (1, [])
    world.s3.fails = lambda operation, key: None
    once_at(world.s3, "after the put", die)
    world.time_passes_in_redis()
    with pytest.raises(KilledError):
        world.engine.work(run_id, str(span(60, 61)))
    assert (world.live.outstanding, len(world.dead())) == (1, 1)


@pytest.mark.parametrize("attempts", [0, 99])
def test_a_slice_that_this_version_cannot_read_is_given_back_and_blocks_the_stream(world, attempts):
    world.opencast.add(at(1))
    world.engine.advance()
    run_id, slice_id = world.mailbox.slices.pop()
    world.ledger.split(run_id, slice_id, ["of another version"], attempts=attempts)
    world.engine.work(run_id, "of another version")
    assert "unexpected ValueError" in world.engine.state.blocked("working").reason
    assert (world.live.outstanding, world.dead()) == (1, [])
    assert world.ledger.claim(run_id, "of another version", "token").attempts == attempts + 1


def test_a_record_that_the_sink_refuses_becomes_a_dead_letter_and_counts_as_known(world):
    world.opencast.add(at(5), at(6))
    world.sink.refused = {2}
    world.harvest()
    assert world.sink.ids == [1]
    ((kind, payload),) = world.dead()
    assert (kind, payload["record"]["action_id"]) == ("record", 2)
    assert world.known() == ["1", "2"]
    world.s3.objects.pop(next(key for key in world.s3.objects if key.startswith("dead/")))
    world.clock.forward(60)
    world.harvest()
    assert world.dead() == []


def test_a_row_that_cannot_be_read_becomes_a_dead_letter_and_counts_as_known(world):
    world.opencast.add(at(5), at(6))
    world.opencast.add(at(7), readable=False)
    world.harvest()
    assert world.sink.ids == [1, 2]
    assert [(kind, payload["raw"]["id"]) for kind, payload in world.dead()] == [("record", 3)]
    assert world.known() == ["1", "2", "3"]
    world.opencast.asked.clear()
    world.clock.forward(60)
    world.harvest()
    assert not [asked for asked in world.opencast.asked if asked[2] > 1]


def test_many_rows_that_cannot_be_read_are_a_source_that_changed(world):
    world.opencast.add(*map(at, (5, 6, 7, 8)), readable=False)
    world.harvest()
    assert (world.mark.at, world.dead()) == (NOON, [])
    assert "may have changed with an upgrade" in world.engine.state.blocked().reason


def test_blocked_each_tick_tries_one_slice_and_it_heals_by_itself(world):
    ids = world.opencast.add(*map(at, range(0, 160, 10)))
    world.sink.fails = lambda: BlockedError("no queue: set SQS_QUEUE_NAME")
    world.harvest()
    assert world.engine.state.blocked().reason == "no queue: set SQS_QUEUE_NAME"
    assert world.engine.state.blocked().exit_code == 4
    for _ in range(9):
        world.time_passes_in_redis()
        world.engine.advance()
        assert len(world.mailbox.slices) == 1
        assert world.work() == 1
    assert (world.dead(), attempts_used(world)) == ([], {0})
    world.sink.fails = lambda: None
    world.harvest()
    assert (world.sink.ids, world.engine.state.blocked(), world.mark.at) == (ids, None, at(170))


def test_a_stream_that_cannot_be_opened_says_so_until_it_can(world):
    world.s3.fails = lambda operation, key: access_denied(operation)
    with pytest.raises(BlockedError, match="s3:GetObject"):
        world.engine.advance()
    assert "s3:GetObject" in world.engine.state.blocked().reason
    world.s3.fails = lambda operation, key: None
    world.engine.advance()
    assert world.engine.state.blocked() is None


def test_a_passing_failure_at_opening_does_not_stand_on_the_stream(world):
    world.opencast.fails = lambda first, last, limit: SourceError("down")
    with pytest.raises(SourceError):
        world.engine.advance()
    assert world.engine.state.blocked() is None


def test_a_lost_redis_in_the_midst_of_a_slice_is_raised_and_the_slice_comes_back(world):
    world.opencast.add(at(5))
    world.engine.advance()

    def breaks():
        raise RedisConnectionError

    once_at(world.ledger, "before run_mark", breaks)
    with pytest.raises(RedisConnectionError):
        world.work()
    assert world.live.outstanding == 1
    world.time_passes_in_redis()
    world.harvest()
    assert (world.sink.arrived, world.mark.at) == ([1, 1], at(170))


def test_a_slice_in_hand_keeps_its_lease(client):
    world = World(client, lease=1)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(at(5))
    world.engine.advance()
    renewed = threading.Event()
    world.ledger.gates = lambda name: renewed.set() if name == "after slice_renew" else None
    once_at(world.sink, "before the delivery", lambda: renewed.wait(20))
    world.work()
    assert renewed.is_set()
    assert world.sink.arrived == [1]


def test_the_lease_that_is_renewed_is_that_of_the_slice_in_hand(client):
    world = World(client, lease=1)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(*map(at, range(0, 170, 3)))
    world.engine.advance()
    world.sink.chunk = 4  # a slice
    renewed = threading.Event()
    in_hand = []

    def renew(run_id, claim, *, really=world.ledger.renew):
        if really(run_id, claim) and in_hand and claim.slice_id == in_hand[0]:
            renewed.set()

    def wait_at_the_second():
        slices = world.redis.hgetall(RUN_SLICES(world.live.id))
        in_hand.extend(slice_id for slice_id, text in slices.items() if "token" in text)
        renewed.wait(20)
        die()

    world.ledger.renew = renew
    once_at(
        world.sink, "before the delivery", lambda: once_at(world.sink, "before the delivery", wait_at_the_second)
    )
    with pytest.raises(KilledError):
        world.engine.work(*world.mailbox.slices.pop(0), seconds=1000)
    assert renewed.is_set()


# The span guard, and the future


def test_a_watermark_that_lies_too_far_back_is_refused_visibly(client):
    world = World(client, max_span=100)
    world.start_at(NOON)
    world.clock.now = at(101)
    with pytest.raises(SpanRefusedError):
        world.engine.advance()
    assert world.engine.state.blocked().exit_code == 3
    assert world.live is None
    world.engine.advance(world.options(check_span=False))
    assert (world.mark.at, world.engine.state.blocked()) == (at(91), None)


def test_catch_up_harvests_a_longer_span_window_by_window(client):
    world = World(client, max_span=100, catch_up=True)
    world.start_at(NOON)
    ids = world.opencast.add(*map(at, range(0, 1000, 90)))
    world.clock.now = at(1010)
    world.harvest()
    assert (world.sink.ids, world.mark.at) == (ids, at(1000))


def test_explicit_runs_go_at_full_speed_while_the_span_guard_stops_the_live_ones(client):
    world = World(client, max_span=100)
    world.start_at(NOON)
    world.opencast.add(*map(at, range(0, 90, 9)))
    world.clock.now = at(2000)
    with pytest.raises(SpanRefusedError):
        world.engine.advance()
    world.engine.ask(span(0, 90), world.options(), may_move=False)
    with pytest.raises(SpanRefusedError):
        world.engine.advance()
    assert len(world.mailbox.slices) == 3


def test_a_watermark_in_the_future_is_an_error_not_nothing_to_do(world):
    world.store.move(at(1000))
    with pytest.raises(BlockedError, match=r"manage.py watermark set"):
        world.engine.advance()
    assert world.engine.state.blocked().exit_code == 4


def test_a_run_never_moves_the_watermark_back(world):
    with pytest.raises(HarvestError, match="would move the watermark back"):
        advanced(world.mark, at(-1), "run")


# Explicit windows


def finish(world, run):
    """Work an explicit run to its end; return what the history says of it."""
    world.engine.advance_explicit(run.id)
    while world.work():
        world.engine.advance_explicit(run.id)
    world.engine.advance_explicit(run.id)
    (entry,) = [entry for entry in world.engine.state.history() if entry.id == run.id]
    return entry


def test_an_explicit_window_sends_all_that_it_finds_whether_known_or_not(world):
    world.opencast.add(at(5), at(100))
    world.harvest()
    for _ in range(2):
        finish(world, world.engine.ask(span(0, 60), world.options(), may_move=False))
    assert sorted(world.sink.arrived) == [1, 1, 1, 2]


def test_an_explicit_window_sends_each_row_once_though_a_slice_is_worked_twice(world):
    world.opencast.add(*map(at, (5, 6, 7)))
    run = world.engine.ask(span(0, 60), world.options(), may_move=False)
    world.engine.advance_explicit(run.id)
    errors = [None, RetryableError("down")]
    world.sink.fails = lambda: errors.pop(0) if errors else None
    world.work()
    world.time_passes_in_redis()
    finish(world, run)
    assert sorted(world.sink.arrived) == [1, 2, 3]


def test_an_explicit_window_is_cut_into_windows_and_is_done_when_all_are(world):
    world.clock.now = at(1000)
    ids = world.opencast.add(*map(at, range(0, 700, 50)))
    run = world.engine.ask(span(0, 700), world.options(), may_move=False)
    assert (run.window, run.requested, run.expected) == (span(0, 300), span(0, 700), 14)
    entry = finish(world, run)
    assert world.sink.ids == ids
    assert (entry.outcome, entry.delivered) == ("done", 14)
    assert world.ledger.explicit() == []


def test_what_an_explicit_window_sends_ahead_of_the_watermark_the_live_one_leaves_out(world):
    world.opencast.add(at(100), at(5))
    finish(world, world.engine.ask(span(60, 120), world.options(), may_move=True))
    world.harvest()
    assert sorted(world.sink.arrived) == [1, 2]


@pytest.mark.parametrize(
    ("start", "end", "may_move", "moves"),
    [
        (0, 100, True, True),
        (-50, 100, True, True),
        (1, 100, True, False),
        (-50, 0, True, False),
        (0, 100, False, False),
    ],
    ids=["from the watermark", "over it", "after it", "before it", "not wanted"],
)
def test_an_explicit_window_moves_the_watermark_only_over_it(world, start, end, may_move, moves):
    entry = finish(world, world.engine.ask(span(start, end), world.options(), may_move=may_move))
    assert world.mark.at == (at(end) if moves else NOON)
    assert world.mark.floor == NOON
    assert ("moved to its end" in entry.note) == moves


def test_whether_it_moves_is_decided_at_its_opening_with_the_etag_of_that_moment(world):
    world.opencast.add(at(5))
    run = world.engine.ask(span(0, 100), world.options(), may_move=True)
    world.store.move(at(50))
    entry = finish(world, run)
    assert world.mark.at == at(50)
    assert entry.note == "the watermark stays: it was moved meanwhile"


def test_the_end_of_an_explicit_window_is_clipped_to_what_the_source_can_have(world):
    moving = world.engine.ask(span(0, 1000), world.options(), may_move=True)
    assert moving.requested == span(0, 170)
    staying = world.engine.ask(span(0, 1000), world.options(), may_move=False)
    assert staying.requested == span(0, 180)


def test_a_window_in_the_future_is_refused(world):
    with pytest.raises(BadInputError, match="source's clock"):
        world.engine.ask(span(200, 300), world.options(), may_move=True)


def test_an_explicit_window_that_moves_the_watermark_reconciles_the_overlap_before_it(world):
    world.opencast.add(at(5), at(100))
    world.harvest()
    late = world.opencast.add(at(50), at(180))[0]
    world.clock.now = at(900)  # the next live window would look back to 290 s only
    entry = finish(world, world.engine.ask(span(170, 890), world.options(), may_move=True))
    assert world.mark.at == at(890)
    assert sorted(world.sink.arrived) == [1, 2, late, late + 1]
    assert entry.delivered == 2


def test_an_explicit_window_that_leaves_the_watermark_alone_looks_for_nothing_before_it(world):
    world.opencast.add(at(5))
    world.harvest()
    world.opencast.add(at(50), at(150))
    finish(world, world.engine.ask(span(100, 160), world.options(), may_move=False))
    assert sorted(world.sink.arrived) == [1, 3]


def test_after_an_explicit_window_moved_the_watermark_the_live_run_goes_on_from_there_without_repeats(world):
    world.opencast.add(*map(at, (5, 50, 120, 160)))
    finish(world, world.engine.ask(span(0, 100), world.options(), may_move=True))
    world.harvest()
    assert (sorted(world.sink.arrived), world.mark.at) == ([1, 2, 3, 4], at(170))


def test_an_explicit_run_that_redis_lost_is_never_done(world):
    run = world.engine.ask(span(0, 100), world.options(), may_move=True)
    world.redis.flushall()
    world.engine.advance_explicit(run.id)
    assert world.ledger.run(run.id) is None
    assert world.engine.state.history() == []
    assert world.mark.at == NOON


def test_an_explicit_run_whose_ledger_does_not_add_up_is_void(world):
    world.opencast.add(at(5))
    run = world.engine.ask(span(0, 100), world.options(), may_move=True)
    world.redis.unlink(f"{PREFIX}run:{run.id}:due")
    assert finish(world, run).outcome == "void"
    assert world.mark.at == NOON


def test_a_private_run_does_not_touch_what_the_workers_share(world):
    world.opencast.add(at(5))
    run = world.engine.ask(span(0, 100), world.options(), may_move=False, private=True)
    assert world.ledger.explicit() == []
    finish(world, run)
    assert (world.sink.arrived, world.known(), world.mark.at) == ([1], [], NOON)


def test_without_a_bucket_only_private_runs_go(client):
    world = World(client)
    world.use(watermarks=None)
    world.opencast.add(at(-50))
    with pytest.raises(BadInputError, match="S3_HARVEST_TS_BUCKET"):
        world.engine.advance()
    run = world.engine.ask(span(-60, -40), world.options(), may_move=True, private=True)
    finish(world, run)
    assert world.sink.arrived == [1]


def test_a_window_longer_than_the_guard_is_refused_before_anything_is_opened(client):
    world = World(client, max_span=100)
    world.start_at(NOON)
    world.clock.now = at(1000)
    with pytest.raises(SpanRefusedError):
        world.engine.ask(span(0, 101), world.options(), may_move=False)
    assert world.ledger.explicit() == []
    world.engine.ask(span(0, 101), world.options(check_span=False), may_move=False)


def refuse_the_second_window(world):
    """Let an explicit run come to a window that the source no longer has; return the run."""
    world.opencast.add(at(5), at(400))
    world.clock.now = at(1000)
    run = world.engine.ask(span(0, 700), world.options(), may_move=False)
    world.engine.advance_explicit(run.id)
    world.work()
    plan = world.stream.plan

    def refuses(run, **others):
        if run.kind == "live":
            return plan(run, **others)
        raise BadInputError("Zoom keeps six months")

    world.stream.plan = refuses
    return run


def test_an_explicit_run_of_which_the_source_no_longer_has_the_rest_is_void_and_says_why(world):
    run = refuse_the_second_window(world)
    world.engine.advance_explicit(run.id)
    [entry] = [entry for entry in world.engine.state.history() if entry.id == run.id]
    assert (entry.outcome, entry.note) == ("void", "Zoom keeps six months")
    assert world.ledger.explicit() == []


def test_an_explicit_run_that_cannot_go_on_hides_no_trouble_of_the_live_one_and_holds_no_other_back(world):
    world.opencast.add(at(7))
    others = [world.engine.ask(span(0, 60), world.options(), may_move=False) for _ in range(4)]
    refuse_the_second_window(world)
    world.s3.fails = lambda operation, key: access_denied(operation)
    with pytest.raises(BlockedError, match="AccessDenied"):
        world.engine.advance()
    assert {run_id for run_id, _ in world.mailbox.slices} == {run.id for run in others}


def test_an_explicit_run_that_moves_the_watermark_of_a_worker_without_bucket_holds_no_other_back(world):
    world.opencast.add(at(5))
    moving = world.engine.ask(span(0, 100), world.options(), may_move=True)
    world.engine.advance_explicit(moving.id)
    world.work()
    staying = world.engine.ask(span(0, 60), world.options(), may_move=False)
    world.ledger.explicit = lambda: [moving.id, staying.id]
    world.use(watermarks=None)
    with pytest.raises(BadInputError, match="S3_HARVEST_TS_BUCKET"):
        world.engine.advance()
    assert [run_id for run_id, _ in world.mailbox.slices] == [staying.id]


def test_a_tick_advances_explicit_runs_though_the_live_one_cannot_be_opened(world):
    world.opencast.add(at(5))
    world.engine.ask(span(0, 60), world.options(), may_move=False)
    world.s3.fails = lambda operation, key: access_denied(operation)
    with pytest.raises(BlockedError):
        world.engine.advance()
    assert len(world.mailbox.slices) == 1


def test_what_a_process_cannot_go_on_after_leaves_work_and_gives_the_slice_back(world):
    """A pipe that nobody reads any more: a second attempt would write into nothing and count as delivered."""
    world.opencast.add(at(1))
    run = world.engine.ask(span(0, 10), world.options(), may_move=False, private=True)
    world.sink.fails = lambda: HarvestError("the pipe is closed")
    with pytest.raises(HarvestError, match="the pipe is closed"):
        world.engine.work(run.id, world.due(run.id)[0])
    assert world.ledger.run(run.id).outstanding == 1
    assert world.ledger.claim(run.id, world.due(run.id)[0], "another").attempts == 1


def test_the_troubles_of_a_private_run_are_not_the_streams(world):
    world.opencast.add(at(1))
    world.engine.state.failed("working", BlockedError("the queue is gone"))
    run = world.engine.ask(span(0, 10), world.options(), may_move=False, private=True)
    world.sink.fails = lambda: BlockedError("no terminal")
    with pytest.raises(BlockedError, match="no terminal"):
        world.engine.work(run.id, world.due(run.id)[0])
    assert world.engine.state.blocked().reason == "the queue is gone"
    world.sink.fails = lambda: None
    world.engine.work(run.id, world.due(run.id)[0])
    assert world.sink.ids == [1]
    assert world.engine.state.blocked().reason == "the queue is gone"


def test_after_a_long_outage_a_slice_is_due_within_a_tick(world):
    world.opencast.add(at(1))
    world.engine.advance()
    run, slice_id = world.mailbox.slices[0]
    world.sink.fails = lambda: RetryableError("SQS is down")
    for _ in range(12):
        world.time_passes_in_redis()
        world.engine.work(run, slice_id)
    seconds, microseconds = world.redis.time()
    wait = world.redis.zscore(f"{PREFIX}run:{run}:due", slice_id) / 1000 - seconds - microseconds / 1e6
    assert world.settings.every / 4 < wait <= world.settings.every


def test_a_redis_that_fails_for_a_moment_uses_up_no_attempt(world):
    world.opencast.add(at(1))
    world.engine.advance()
    run, slice_id = world.mailbox.slices[0]

    def breaks():
        raise RedisConnectionError("gone for a moment")

    once_at(world.ledger, "before run_mark", breaks)
    with pytest.raises(RedisConnectionError):
        world.engine.work(run, slice_id)
    assert world.ledger.claim(run, slice_id, "another").attempts == 1
    assert world.ledger.run(run).trouble == "Redis did not answer"


def test_why_a_slice_was_put_off_stands_in_the_ledger(world):
    world.opencast.add(at(1))
    world.engine.advance()
    world.sink.fails = lambda: RetryableError("SQS is down")
    world.work()
    assert world.live.trouble == "SQS is down"


def test_the_end_of_an_explicit_run_asks_for_that_run_only(world):
    """A live window would be opened, and a first watermark written, where perhaps nobody wants one."""
    world.opencast.add(at(1))
    run = world.engine.ask(span(0, 10), world.options(), may_move=False)
    world.engine.work(run.id, world.due(run.id)[0])
    assert world.mailbox.last_advance == run.id


def test_the_end_of_a_live_run_asks_for_the_stream(world):
    world.opencast.add(at(1))
    world.engine.advance()
    world.engine.work(*world.mailbox.slices[0])
    assert (world.mailbox.advances, world.mailbox.last_advance) == (1, None)


# Source or destination change while a run is open


def elsewhere(world):
    """Return a world of the same stream whose queue is another one; Redis and the watermark are the same."""
    other = World(world.redis, destination="http://engage.example.edu/ other-queue")
    other.clock.now = world.clock.now
    other.opencast.rows = world.opencast.rows
    other.s3.objects = world.s3.objects
    return other


def forget_its_destination(world, run):
    world.redis.hdel(f"{PREFIX}run:{run.id}", "destination")


@pytest.mark.parametrize("worked", [False, True], ids=["on its way", "delivered, not committed"])
def test_a_live_run_of_another_destination_is_void_and_its_rows_are_sent_to_the_present_one(world, worked):
    ids = world.opencast.add(at(5), at(100))
    world.engine.advance()
    hints = list(world.mailbox.slices)
    if worked:
        world.work()
    other = elsewhere(world)
    for hint in hints:
        other.engine.work(*hint)
    assert other.sink.arrived == []  # not its own
    other.harvest()
    assert (other.sink.ids, other.mark.at) == (ids, at(170))
    assert [(entry.outcome, entry.note) for entry in other.engine.state.history()] == [
        ("done", ""),
        ("void", "source or destination was changed meanwhile; its rows are harvested again"),
    ]


def test_a_live_run_of_an_earlier_version_is_void_for_its_destination_is_not_known(world):
    ids = world.opencast.add(at(5))
    world.engine.advance()
    forget_its_destination(world, world.live)
    world.work()
    assert world.sink.arrived == []
    world.harvest()
    assert (world.sink.arrived, world.mark.at) == (ids, at(170))


def test_an_explicit_run_of_another_destination_is_void_and_is_to_be_asked_for_again(world):
    world.opencast.add(at(5))
    run = world.engine.ask(span(0, 60), world.options(), may_move=True)
    other = elsewhere(world)
    other.engine.advance_explicit(run.id)
    assert (other.mailbox.slices, other.ledger.explicit(), other.mark.at) == ([], [], NOON)
    assert other.engine.state.history()[0].note == "source or destination was changed meanwhile; ask for it again"


# An unexpected error is nobody's bad data


@pytest.mark.parametrize(
    "error", [ValueError("ann@example.edu"), KeyError("ETag"), OSError(28, "ann@example.edu")]
)
def test_an_unexpected_error_blocks_and_never_makes_a_dead_letter(client, error):
    world = World(client, attempts=1, max_window=30)
    world.start_at(NOON)
    world.clock.now = at(180)
    ids = world.opencast.add(at(0), at(1), at(20))
    world.sink.fails = lambda: error
    for _ in range(8):
        world.time_passes_in_redis()
        world.harvest()
    assert world.dead() == []
    assert attempts_used(world) == {0}
    blocked = world.engine.state.blocked("working")
    assert blocked.reason.startswith(f"unexpected {type(error).__name__} at fakes.py:")
    assert blocked.exit_code == 4
    assert "ann@" not in world.live.trouble + blocked.reason
    world.sink.fails = lambda: None
    world.time_passes_in_redis()
    world.harvest()
    assert (world.sink.ids, world.mark.at) == (ids, at(170))
    assert world.engine.state.blocked() is None


def test_an_unexpected_error_ends_a_private_run_with_one_line(client):
    world = World(client)
    world.start_at(NOON)
    world.clock.now = at(180)
    world.opencast.add(at(0))
    world.sink.fails = lambda: ValueError("ann@example.edu")
    run = world.engine.ask(span(0, 100), world.options(), may_move=False, private=True)
    world.engine.advance_explicit(run.id)
    with pytest.raises(
        HarvestError, match=r"useractions stopped: unexpected ValueError at fakes.py:\d+"
    ) as caught:
        world.work()
    assert (caught.value.exit_code, "ann@" in str(caught.value)) == (1, False)
    assert world.dead() == []


# How far ids are known


def arrivals(world):
    """Harvest at each of the next ten minutes; return what arrived meanwhile."""
    before = len(world.sink.arrived)
    for _ in range(10):
        world.clock.forward(60)
        world.harvest()
    return world.sink.arrived[before:]


def test_a_longer_overlap_sends_nothing_again_and_finds_what_is_late_from_now_on(client):
    world = World(client, overlap=60)
    world.start_at(NOON)
    world.clock.now = at(10)
    world.opencast.add(*map(at, range(0, 600, 20)))
    arrivals(world)
    longer = World(client, overlap=3600)
    longer.s3.objects, longer.clock.now = world.s3.objects, world.clock.now
    longer.opencast.rows = world.opencast.rows
    assert sorted(arrivals(longer)) == longer.opencast.add(*map(at, ())) == []
    late = longer.opencast.add(longer.clock.now - timedelta(seconds=400))
    assert arrivals(longer) == late  # nine minutes back, by then beyond the shorter overlap


def test_the_overlap_before_a_watermark_that_was_set_back_is_not_sent_again(world):
    ids = world.opencast.add(*map(at, range(0, 1200, 20)))
    while world.mark.at < at(1100):
        world.clock.forward(300)
        world.harvest()
    before = len(world.sink.arrived)
    world.store.move(at(900))
    late = world.opencast.add(at(850))
    world.clock.forward(60)
    world.harvest()
    again = sorted(world.sink.arrived[before:])
    assert again == [row for row in ids if row > 45] + late  # from 900 s on, and what came late


def test_a_watermark_that_was_set_back_further_than_ids_are_known_sends_what_comes_after_it(world):
    ids = world.opencast.add(*map(at, range(0, 3000, 60)))
    while world.mark.at < at(2900):
        world.clock.forward(300)
        world.harvest()
    before = len(world.sink.arrived)
    world.store.move(at(600))
    while world.mark.at < at(2900):
        world.harvest()
    assert sorted(world.sink.arrived[before:]) == [row for row in ids if row > 10]


def test_a_redis_that_lost_its_data_looks_back_over_the_whole_overlap(world):
    world.opencast.add(*map(at, range(0, 300, 20)))
    world.clock.forward(300)
    world.harvest()
    world.redis.flushall()
    late = world.opencast.add(at(50))
    world.clock.forward(60)
    world.harvest()
    assert set(late) <= set(world.sink.arrived)


# A watermark that is gone


def test_a_watermark_that_is_gone_is_a_loss_that_stands_until_it_is_confirmed(world):
    world.opencast.add(at(5), at(400), at(1100))
    world.harvest()
    delivered = world.mark.at
    world.store.delete()
    world.clock.now = at(1180)
    world.harvest()
    begun = world.mark.floor
    assert (delivered, begun) == (at(170), at(1060))
    [loss] = world.engine.losses.all()
    for words in ("2026-03-03 12:02:50", "2026-03-03 12:17:40", "s3://bucket/mark"):
        assert words in loss.reason
    command = "manage.py enqueue useractions --start 2026-03-03T12:02:50Z --end 2026-03-03T12:17:40Z"
    assert f"`{command}" in loss.reason
    assert world.mark.at == at(1170)  # the harvest goes on meanwhile
    world.harvest()
    assert world.engine.losses.confirm() == [loss]
    assert world.engine.losses.all() == []


def test_a_watermark_that_goes_twice_is_two_losses(world):
    world.harvest()
    for now in (1200, 2400):
        world.store.delete()
        world.clock.now = at(now)
        world.harvest()
    assert len(world.engine.losses.all()) == 2


def test_who_dies_before_the_new_watermark_is_written_has_said_what_is_missing(world):
    world.harvest()
    world.store.delete()
    world.clock.now = at(1200)
    once_at(world.s3, "after the put", die)
    with pytest.raises(KilledError):
        world.engine.advance()
    assert len(world.engine.losses.all()) == 1
    world.harvest()
    assert len(world.engine.losses.all()) == 1


def test_a_watermark_that_begins_again_before_what_was_delivered_loses_nothing(world):
    world.harvest()
    world.store.delete()
    world.harvest()
    assert world.engine.losses.all() == []


def test_two_deployments_in_one_redis_do_not_meet(client):
    worlds = [World(client, deployment=name, destination=name) for name in ("a", "b")]
    for world in worlds:
        world.start_at(NOON)
        world.clock.now = at(180)
        world.opencast.add(*map(at, range(0, 100, 10)))
        world.engine.advance()
    assert len({world.live.id for world in worlds}) == 2
    for world in worlds:
        world.harvest()
    assert [(len(world.sink.ids), world.mark.at) for world in worlds] == [(10, at(170))] * 2
    assert [len(world.engine.state.history()) for world in worlds] == [1, 1]


# Clocks, and what stands on the stream


def compare_with(world, ahead):
    """Let the source's clock be so many seconds ahead of Redis's."""
    world.engine.clocks.now = lambda: world.clock.now - timedelta(seconds=ahead)


def test_a_source_clock_that_is_far_ahead_blocks_before_a_row_can_be_lost(world):
    """Its rows have the right time: a window up to its clock would be done before they are written."""
    compare_with(world, 7200)
    with pytest.raises(BlockedError, match="2 h ahead of that of Redis"):
        world.engine.advance()
    assert world.engine.state.blocked("opening").exit_code == 4
    assert (world.mark.at, world.live) == (NOON, None)
    with pytest.raises(BlockedError, match="2 h ahead"):
        world.engine.ask(span(0, 50), world.options(), may_move=True)
    compare_with(world, 0)
    world.harvest()
    assert (world.mark.at, world.engine.state.failures()) == (at(170), [])


def test_rows_with_the_right_time_are_found_in_the_overlap_where_the_clock_is_less_far_ahead(world):
    compare_with(world, 310)  # lag and half the overlap
    world.harvest()
    ids = world.opencast.add(at(-130), at(60), at(169))  # by their own time just written
    world.clock.forward(60)
    world.harvest()
    assert sorted(world.sink.ids) == ids[1:]  # the first lies before the floor


def test_a_source_clock_that_is_behind_blocks_nothing(world):
    compare_with(world, -86_400)
    world.harvest()
    assert world.mark.at == at(170)
    assert [round(clock.ahead) for clock in world.engine.clocks.compared()] == [-86_400]


@pytest.mark.parametrize("back", [11, 15, 300])
def test_two_nodes_whose_clocks_differ_answer_by_turns_and_nothing_is_lost(world, back):
    ids = []
    for tick in range(6):
        now = at(400 + 60 * tick)
        ids += world.opencast.add(now - timedelta(seconds=back + 1))
        world.clock.now = now - timedelta(seconds=back if tick % 2 else 0)
        world.harvest()
    world.clock.forward(600)
    world.harvest()
    assert sorted(world.sink.ids) == ids
    assert world.engine.state.failures() == []


def go_back(world, seconds):
    """Harvest past the overlap, then let the source's clock go back to before the watermark; return the watermark."""
    while world.mark.at < at(1000):
        world.clock.forward(300)
        world.harvest()
    mark = world.mark.at
    world.clock.now = mark - timedelta(seconds=seconds)
    return mark


@pytest.mark.parametrize(
    ("seconds", "max_skew"), [(100, None), (600, None), (601, None), (5000, None), (600, 10_000), (900, 10_000)]
)
def test_rows_that_a_step_back_puts_before_the_overlap_are_told_until_a_person_confirms(client, seconds, max_skew):
    world = World(client, max_skew=max_skew, max_window=3600)
    world.start_at(at(-5000))
    mark = go_back(world, seconds)
    begin, end = world.clock.now - timedelta(seconds=120), mark - timedelta(seconds=600)
    world.clock.now -= timedelta(seconds=100)  # between the step and the next tick
    made = {world.clock.now: world.opencast.add(world.clock.now)[0]}
    world.clock.forward(100)
    while world.clock.now <= mark + timedelta(seconds=70):
        made[world.clock.now] = world.opencast.add(world.clock.now)[0]
        with contextlib.suppress(BlockedError):
            world.harvest()
        world.clock.forward(60)
    missing = [when for when, row_id in made.items() if when < mark and row_id not in world.sink.arrived]
    assert missing == [when for when in made if when < end]
    reasons = [loss.reason for loss in world.engine.losses.all()]
    assert len(reasons) == bool(missing)
    for reason in reasons:
        assert (
            f"went back to {begin:%F %T} UTC or later. Late rows before {end:%F %T} UTC are not looked" in reason
        )
        assert f"--start {begin:%FT%TZ} --end {end:%FT%TZ}`" in reason


def test_nodes_that_are_further_apart_than_the_overlap_are_one_loss(world):
    mark = go_back(world, 700)
    begin = world.clock.now - timedelta(seconds=120)
    for tick in range(4):
        with pytest.raises(BlockedError, match="lies after the source's clock"):
            world.engine.advance()
        world.clock.forward(760 + tick)
        world.harvest()
        world.clock.now -= timedelta(seconds=700)
    [loss] = world.engine.losses.all()
    assert f"went back to {begin:%F %T} UTC or later." in loss.reason
    assert f"{mark - timedelta(seconds=600):%F %T}" not in loss.reason  # its end moves with the watermark


def test_a_watermark_that_a_person_set_to_the_future_is_no_loss(client):
    world = World(client)
    world.start_at(at(5000))
    with pytest.raises(BlockedError, match="lies after the source's clock"):
        world.engine.advance()
    assert world.engine.losses.all() == []


def test_a_watermark_that_lies_far_after_the_clock_is_still_an_error(world):
    world.clock.now = at(-311)
    with pytest.raises(BlockedError, match="lies after the source's clock"):
        world.engine.advance()


@pytest.mark.parametrize(
    "error", [SourceError("no answer"), RetryableError("S3 is down"), ValueError("ann@example.edu")]
)
def test_whatever_advance_fails_with_stands_on_the_stream_until_it_succeeds(world, error, monkeypatch):
    def now():
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(world.stream, "now", now)
        with pytest.raises(type(error)):
            world.engine.advance()
    failure = world.engine.state.failure()
    assert (failure.place, failure.blocks, "ann@" in failure.reason) == ("opening", False, False)
    world.engine.advance()
    assert world.engine.state.failures() == []


def test_a_culprit_that_was_mended_does_not_stand_while_the_host_is_down(world):
    world.opencast.fails = lambda *_: BlockedError("OPENCAST_TIMEZONE is 'UTC'")
    with pytest.raises(BlockedError):
        world.engine.advance()
    world.opencast.fails = lambda *_: SourceError("the host is down")
    with pytest.raises(SourceError):
        world.engine.advance()
    assert [failure.reason for failure in world.engine.state.failures()] == ["the host is down"]


def test_a_culprit_at_work_does_not_either(world):
    world.opencast.add(at(5))
    world.engine.advance()
    world.sink.fails = lambda: BlockedError("the queue is gone")
    world.engine.work(*world.mailbox.slices[0])
    assert world.engine.state.blocked("working").reason == "the queue is gone"
    world.sink.fails = lambda: RetryableError("SQS is down")
    world.engine.work(*world.mailbox.slices[0])
    assert [failure.reason for failure in world.engine.state.failures()] == ["SQS is down"]


def test_what_failed_at_work_goes_with_its_run(world):
    world.engine.state.failed("working", RetryableError("SQS is down"))
    world.engine.advance()  # a quiet window: no slice will ever succeed in it
    assert (world.mark.at, world.engine.state.failures()) == (at(170), [])


def test_an_explicit_run_that_cannot_go_on_stands_there_and_holds_back_no_other(world, monkeypatch):
    run = world.engine.ask(span(-600, -300), world.options(check_span=False), may_move=False)
    look = world.ledger.run

    def fails(run_id):
        raise ValueError(run_id)

    monkeypatch.setattr(world.ledger, "run", fails)
    world.engine.advance()
    assert world.engine.state.failure().place == "explicit"
    assert world.mark.at == at(170)
    monkeypatch.setattr(world.ledger, "run", look)
    world.engine.advance()
    assert world.engine.state.failures() == []
    assert world.ledger.run(run.id) is None


# What is logged, and what came of it


def test_a_run_has_one_line_when_it_opens_and_one_when_it_closes_with_its_counts(world, monkeypatch):
    world.opencast.add(at(10), at(20), at(30))
    world.harvest()
    world.opencast.add(at(40))  # late, among three that were sent
    world.clock.now = at(200)
    lines = structlog.testing.CapturingLogger()
    monkeypatch.setattr(coordinator, "log", lines)
    monkeypatch.setattr(opening, "log", lines)
    world.harvest()
    opened, closed = ((call.args[0], call.kwargs) for call in lines.calls)
    assert (opened[0], closed[0]) == ("run opened", "run closed")
    counts = {name: closed[1][name] for name in ("outcome", "found", "sent", "repeated", "dead_letters")}
    assert counts["outcome"] == "done"
    assert counts["sent"] == 1
    assert counts["found"] == counts["sent"] + counts["repeated"]
    assert (opened[1]["start"], closed[1]["start"]) == ("2026-03-03T12:02:50Z",) * 2


def test_each_step_says_in_words_what_came_of_it(world):
    world.opencast.add(*map(at, (10, 20)))
    assert world.engine.advance().endswith(": 1 slices to do")
    run, slice_ = world.mailbox.slices.pop()
    assert world.engine.work(run, slice_) == "2 found, 2 sent"
    assert world.engine.work(run, slice_) == "left alone: done, taken or not due"
    assert world.engine.advance() == f"run {run[:8]} done: 2 found, 2 sent"
    assert world.engine.work(run, slice_) == "its run has ended"
    assert world.engine.advance() == "nothing to do"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BlockedError("refused"), "blocked: refused"),
        (SourceError("no answer"), "put off: no answer"),
        (ValueError("ann@example.edu"), "blocked: unexpected ValueError at "),
    ],
)
def test_a_slice_that_fails_says_why_and_no_more(world, error, said):
    world.opencast.add(at(10))
    world.engine.advance()
    fail_in(world, 0, 170, error)
    answer = world.engine.work(*world.mailbox.slices.pop())
    assert answer.startswith(said)
    assert "ann@example.edu" not in answer
