import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes import at, span
from uaharvest import keys as keys_
from uaharvest.keys import HISTORY, PREFIX, RUN_SENT
from uaharvest.runs.ledger import Claim, EndedRun, Ledger, Run, SliceCounts
from uaharvest.runs.state import StreamState

LEASE = 60
COUNTERS = keys_.COUNTERS("useractions")


@pytest.fixture
def ledger(client):
    return Ledger(client, "useractions", lease=LEASE)


@pytest.fixture
def state(client):
    return StreamState(client, "useractions")


def run(run_id="one", **others):
    fields = {
        "kind": "live",
        "requested": span(0, 60),
        "window": span(0, 60),
        "etag": '"e"',
        "epoch": "epoch",
        "destination": "0123456789ab",
        "known_from": at(-600),
    }
    return Run(
        id=run_id, stream="useractions", batch_size=10, wait=0, opened_at=datetime.now(UTC), **(fields | others)
    )


def key(run_id="one", part=""):
    return f"{PREFIX}run:{run_id}{part}"


def let_all_be_due(client, run_id="one"):
    """Let leases and back-offs end."""
    due = key(run_id, ":due")
    client.zadd(due, dict.fromkeys(client.zrange(due, 0, -1), 0))


# Opening


def test_a_run_is_read_as_it_was_opened(ledger):
    opened = run(expected=7)
    assert ledger.open(opened, ["a", "b"])
    read = ledger.live()
    assert read == ledger.run("one")
    assert read == dataclasses.replace(opened, planned=2, outstanding=2)


def test_a_run_without_etag_and_known_ids_is_read_so(ledger):
    opened = run(kind="explicit", etag=None, known_from=None)
    ledger.open(opened, [])
    assert (ledger.run("one").etag, ledger.run("one").known_from) == (None, None)


def test_a_taken_slot_is_not_taken_and_nothing_of_the_second_run_is_written(ledger, client):
    ledger.open(run("one"), ["a"])
    keys = set(client.keys())
    assert not ledger.open(run("two"), ["a"])
    assert ledger.live().id == "one"
    assert set(client.keys()) == keys


def test_a_slot_whose_run_is_gone_is_taken(ledger, client):
    ledger.open(run("one"), ["a"])
    client.unlink(key("one"))
    assert ledger.live() is None
    assert ledger.open(run("two"), ["a"])
    assert ledger.live().id == "two"


def test_explicit_and_private_runs_leave_the_slot_alone(ledger):
    ledger.open(run("one"), ["a"])
    assert ledger.open(run("two", kind="explicit"), ["a"])
    assert ledger.open(run("three", kind="private"), ["a"])
    assert ledger.live().id == "one"
    assert ledger.explicit() == ["two"]


def test_streams_share_nothing(ledger, client):
    other = Ledger(client, "zoom", lease=LEASE)
    ledger.open(run(), ["a"])
    assert (other.live(), other.explicit()) == (None, [])


def test_a_slice_planned_twice_is_one_slice(ledger):
    ledger.open(run(), ["a", "a"])
    assert (ledger.live().planned, ledger.live().outstanding) == (1, 1)


# What is outstanding, and proof


def test_claimed_and_parked_slices_are_outstanding(ledger):
    ledger.open(run(), ["a", "b", "c"])
    ledger.claim("one", "a", "t")
    ledger.release("one", ledger.claim("one", "b", "t"), delay=300, attempts=1, waits=1, reason="down")
    assert ledger.live().outstanding == 3
    assert not ledger.live().finished


def test_a_run_is_finished_when_all_that_was_planned_is_done(ledger):
    ledger.open(run(), ["a", "b"])
    ledger.complete("one", "a", found=1)
    assert not ledger.live().finished
    ledger.complete("one", "b", found=1)
    assert ledger.live().finished


def test_an_empty_set_of_slices_proves_nothing(ledger, client):
    ledger.open(run(), ["a", "b"])
    client.unlink(key(part=":due"))
    assert ledger.live().outstanding == 0
    assert not ledger.live().finished


def test_a_missing_ledger_is_no_run(ledger, client):
    ledger.open(run(), [])
    client.unlink(key())
    assert ledger.live() is None
    assert ledger.run("one") is None


# Hints


def test_no_slice_is_hinted_at_twice_within_the_hold(ledger):
    ledger.open(run(), ["a", "b", "c"])
    first = ledger.take("one", 2)
    assert len(first) == 2
    assert set(ledger.take("one", 2)) == {"a", "b", "c"} - set(first)
    assert ledger.take("one", 9) == []


def test_a_hint_older_than_the_hold_is_taken_for_lost(client):
    ledger = Ledger(client, "useractions", lease=LEASE)
    ledger.open(run(), ["a"])
    ledger.take("one", 1)
    client.zincrby(key(part=":hinted"), -LEASE * 1000, "a")
    assert ledger.take("one", 1) == ["a"]
    assert ledger.take("one", 1) == []


@pytest.mark.parametrize("hours", [1, 24])
def test_leases_and_hints_end_in_time_if_the_clock_of_redis_goes_back(client, hours):
    """Their times are then that much later; those of the future stand for it here."""
    ledger = Ledger(client, "useractions", lease=LEASE)
    ledger.open(run(), ["claimed", "hinted", "parked"])
    claim = ledger.claim("one", "parked", "t")
    ledger.release("one", claim, delay=hours * 3600, attempts=0, waits=1, reason="the day's calls are used up")
    parked = client.zscore(key(part=":due"), "parked")
    ledger.claim("one", "claimed", "t")
    ledger.take("one", 9)
    for part, slice_id in ((":due", "claimed"), (":hinted", "hinted")):
        client.zincrby(key(part=part), hours * 3_600_000, slice_id)
    assert ledger.take("one", 9) == ["hinted"]
    now = client.time()[0] * 1000
    assert abs(client.zscore(key(part=":due"), "claimed") - now - LEASE * 1000) < 10_000
    assert client.zscore(key(part=":due"), "parked") == parked


def test_what_is_claimed_or_parked_is_not_hinted_at(ledger):
    ledger.open(run(), ["a", "b"])
    ledger.claim("one", "a", "t")
    ledger.release("one", ledger.claim("one", "b", "t"), delay=300, attempts=0, waits=1, reason="down")
    assert ledger.take("one", 9) == []


def test_a_slice_given_back_is_hinted_at_again_as_soon_as_it_is_due(ledger):
    ledger.open(run(), ["a"])
    assert ledger.take("one", 1) == ["a"]
    ledger.release("one", ledger.claim("one", "a", "t"), delay=0, attempts=0, waits=0, reason="down")
    assert ledger.take("one", 1) == ["a"]


# Claims


def test_a_claim_is_refused_while_another_holds_the_slice(ledger):
    ledger.open(run(), ["a"])
    assert ledger.claim("one", "a", "mine") == Claim("a", "mine", 1, 0, None)
    assert ledger.claim("one", "a", "theirs") is None


def test_a_claim_of_what_is_done_unknown_or_parked_is_refused(ledger):
    ledger.open(run(), ["a", "b"])
    ledger.complete("one", "a", found=0)
    ledger.release("one", ledger.claim("one", "b", "t"), delay=300, attempts=0, waits=1, reason="down")
    for slice_id in ("a", "b", "no such"):
        assert ledger.claim("one", slice_id, "t") is None
    assert ledger.claim("no such", "a", "t") is None


def test_a_refused_claim_writes_nothing(ledger, client):
    ledger.claim("no such", "a", "t")
    assert client.keys() == []


def test_the_attempt_is_counted_at_the_claim_so_that_a_dying_worker_counts(ledger, client):
    ledger.open(run(), ["a"])
    counted = []
    for token in ("first", "second", "third"):
        counted.append(ledger.claim("one", "a", token).attempts)
        let_all_be_due(client)
    assert counted == [1, 2, 3]


def test_a_lease_ends_after_its_time_and_can_be_renewed(client):
    ledger = Ledger(client, "useractions", lease=LEASE)
    ledger.open(run(), ["a"])
    claim = ledger.claim("one", "a", "t")
    now = client.time()[0] * 1000
    assert abs(client.zscore(key(part=":due"), "a") - now - LEASE * 1000) < 10_000
    let_all_be_due(client)
    assert ledger.renew("one", claim)
    assert ledger.claim("one", "a", "other") is None


def test_a_stale_token_can_neither_renew_nor_release(ledger, client):
    ledger.open(run(), ["a"])
    stale = ledger.claim("one", "a", "stale")
    let_all_be_due(client)
    fresh = ledger.claim("one", "a", "fresh")
    assert not ledger.renew("one", stale)
    assert not ledger.release("one", stale, delay=0, attempts=0, waits=0, reason="down")
    assert ledger.claim("one", "a", "third") is None
    assert ledger.renew("one", fresh)


def test_what_is_done_can_neither_be_renewed_nor_released(ledger):
    ledger.open(run(), ["a"])
    claim = ledger.claim("one", "a", "t")
    ledger.complete("one", "a", found=0)
    assert not ledger.renew("one", claim)
    assert not ledger.release("one", claim, delay=0, attempts=0, waits=0, reason="down")
    assert ledger.live().outstanding == 0


def test_a_release_keeps_attempts_and_waits_and_notes_how_far_the_stream_was(ledger, client):
    ledger.open(run(), ["a", "b"])
    ledger.complete("one", "b", found=0)
    assert ledger.progress() == 1
    assert ledger.release("one", ledger.claim("one", "a", "t"), delay=300, attempts=2, waits=7, reason="down")
    let_all_be_due(client)
    assert ledger.claim("one", "a", "t") == Claim("a", "t", 3, 7, 1)


# Ends


def test_complete_acts_once(ledger):
    ledger.open(run(), ["a", "b"])
    assert ledger.complete("one", "a", found=5, dead=1)
    assert not ledger.complete("one", "a", found=5, dead=1)
    live = ledger.live()
    assert (live.done, live.found, live.dead, live.outstanding, ledger.progress()) == (1, 5, 1, 1, 1)


def test_complete_does_not_act_on_what_was_never_planned_or_on_a_run_that_is_gone(ledger, client):
    ledger.open(run(), ["a"])
    assert not ledger.complete("one", "no such", found=1)
    assert not ledger.complete("gone", "a", found=1)
    assert not client.exists(key("gone"))
    assert ledger.live().done == 0


def test_a_split_puts_parts_in_the_place_of_a_slice_once(ledger):
    ledger.open(run(), ["ab", "c"])
    assert ledger.split("one", "ab", ["a", "b"], attempts=2)
    assert not ledger.split("one", "ab", ["a", "b"])
    assert (ledger.live().planned, ledger.live().outstanding) == (3, 3)
    assert ledger.claim("one", "ab", "t") is None
    assert ledger.claim("one", "a", "t").attempts == 3
    assert not ledger.complete("one", "ab", found=1)


def test_a_split_after_completion_adds_nothing(ledger):
    ledger.open(run(), ["ab"])
    ledger.complete("one", "ab", found=1)
    assert not ledger.split("one", "ab", ["a", "b"])
    assert ledger.live().finished


def test_a_split_into_parts_some_of_which_are_there_still_adds_up(ledger):
    ledger.open(run(), ["ab", "a"])
    ledger.split("one", "ab", ["a", "b"])
    ledger.complete("one", "a", found=0)
    ledger.complete("one", "b", found=0)
    assert ledger.live().finished


def test_parts_are_due_at_once_and_unclaimed(ledger):
    ledger.open(run(), ["ab"])
    ledger.claim("one", "ab", "t")
    ledger.split("one", "ab", ["a", "b"])
    assert sorted(ledger.take("one", 9)) == ["a", "b"]


def test_no_slice_is_foremost_while_one_has_not_failed_yet(ledger):
    assert ledger.foremost("one") is None
    ledger.open(run(), ["b", "a"])
    ledger.release("one", ledger.claim("one", "b", "t"), delay=300, attempts=0, waits=1, reason="down")
    assert ledger.foremost("one") is None
    ledger.claim("one", "a", "t")
    assert ledger.foremost("one") is None


def test_where_all_that_is_left_has_failed_the_first_is_foremost_parked_or_claimed(ledger, client):
    ledger.open(run(), ["c", "b", "a"])
    ledger.complete("one", "c", found=0)
    for slice_id in ("a", "b"):
        ledger.release("one", ledger.claim("one", slice_id, "t"), delay=300, attempts=0, waits=1, reason="down")
    assert ledger.foremost("one") == "a"
    let_all_be_due(client)
    ledger.claim("one", "a", "t")
    assert ledger.foremost("one") == "a"


def test_a_slice_that_was_given_up_is_no_progress(ledger):
    ledger.open(run(), ["a", "b", "c"])
    ledger.complete("one", "a", found=0, dead=1)
    assert ledger.progress() == 0
    ledger.complete("one", "b", found=0)
    ledger.complete("one", "c", found=1, dead=1)
    assert ledger.progress() == 2


# Closing


def test_a_closed_run_leaves_its_history_and_counts_and_the_counters_and_nothing_else(ledger, state, client):
    ledger.open(run(), ["a", "b"])
    ledger.take("one", 1)
    ledger.claim("one", "a", "t")
    ledger.mark("one", [RUN_SENT("one")], [(1.0, 1)], delivered=1)
    assert ledger.close(ledger.live(), "void", "why")
    assert set(client.keys()) == {f"{PREFIX}history:useractions", COUNTERS}
    (entry,) = state.history()
    assert (entry.id, entry.outcome, entry.note, entry.delivered) == ("one", "void", "why", 1)


def test_what_a_stream_counts_is_counted_while_the_run_is_open_and_after(ledger, state):
    ledger.open(run(), ["a"])
    ledger.count("one", {"without_user": 2, "without_address": 1})
    ledger.count("one", {"without_user": 3})
    assert ledger.live().counts == {"without_user": 5, "without_address": 1}
    ledger.close(ledger.live(), "done")
    assert state.history()[0].counts == {"without_user": 5, "without_address": 1}


def test_counting_brings_no_run_back(ledger, client):
    ledger.count("one", {"without_user": 2})
    assert client.keys() == []


def test_close_frees_the_slot_only_if_it_still_holds_this_run(ledger, client):
    ledger.open(run("one"), ["a"])
    old = ledger.live()
    client.unlink(key("one"))
    ledger.open(run("two"), ["a"])
    ledger.close(old, "void")
    assert ledger.live().id == "two"


def test_a_run_is_put_into_the_history_once(ledger, state):
    ledger.open(run(), [])
    live = ledger.live()
    assert ledger.close(live, "done")
    assert not ledger.close(live, "void")
    assert [entry.outcome for entry in state.history()] == ["done"]


def test_the_history_is_bounded_and_newest_first(ledger, state):
    for number in range(53):
        ledger.open(run(str(number)), [])
        ledger.close(ledger.live(), "done")
    assert [entry.id for entry in state.history()] == [str(n) for n in range(52, 2, -1)]


# Marks


def test_confirmed_rows_are_known_and_counted_in_one_step(ledger, client):
    ledger.open(run(), ["a"])
    ledger.mark("one", ["first", "second"], [(1.5, 11), (2.0, "x")], delivered=2)
    assert client.zrange("first", 0, -1, withscores=True) == [("11", 1.5), ("x", 2.0)]
    assert client.zrange("second", 0, -1) == ["11", "x"]
    assert ledger.live().delivered == 2


def test_marking_after_the_run_is_gone_keeps_the_ids_and_does_not_bring_the_run_back(ledger, client):
    ledger.mark("gone", ["known"], [(1.0, 1)], delivered=1)
    assert set(client.keys()) == {"known", COUNTERS}


def test_marking_after_an_explicit_run_is_gone_does_not_bring_back_what_it_sent(ledger, client):
    ledger.mark("gone", [RUN_SENT("gone"), "known"], [(1.0, 1)], delivered=1)
    assert set(client.keys()) == {"known", COUNTERS}


def test_a_thousand_rows_fit_in_one_mark(ledger, client):
    ledger.mark("gone", ["known"], [(float(n), n) for n in range(1000)], delivered=0)
    assert client.zcard("known") == 1000


# Explicit runs


def test_the_next_window_opens_once_and_only_when_all_of_the_present_one_is_done(ledger):
    asked = run(kind="explicit", requested=span(0, 120), expected=1)
    ledger.open(asked, ["a"])
    assert not ledger.next_window(asked, span(60, 120), ["b", "c"])
    ledger.complete("one", "a", found=1)
    assert ledger.next_window(asked, span(60, 120), ["b", "c"])
    assert not ledger.next_window(asked, span(60, 120), ["b", "c"])
    read = ledger.run("one")
    assert (read.window, read.requested) == (span(60, 120), span(0, 120))
    assert (read.planned, read.done, read.outstanding, read.expected) == (3, 1, 2, 1)


def test_an_explicit_run_that_redis_lost_can_be_forgotten(ledger, client):
    ledger.open(run(kind="explicit"), ["a"])
    client.unlink(key())
    assert ledger.explicit() == ["one"]
    ledger.forget("one")
    assert ledger.explicit() == []


def test_a_private_run_leaves_nothing_but_counts_behind_if_its_process_dies(ledger, client):
    ledger.open(run(kind="private", requested=span(0, 120)), ["ab"])
    ledger.take("one", 9)
    ledger.claim("one", "ab", "t")
    ledger.split("one", "ab", ["a", "b"])
    ledger.take("one", 9)
    ledger.claim("one", "a", "t")
    ledger.mark("one", [RUN_SENT("one")], [(1.0, 1)], delivered=1)
    assert all(client.ttl(name) > 0 for name in set(client.keys()) - {COUNTERS})


def test_what_the_workers_share_has_no_time_limit(ledger, client):
    ledger.open(run(), ["a"])
    ledger.take("one", 1)
    ledger.claim("one", "a", "t")
    assert {client.ttl(name) for name in list(client.keys())} == {-1}


def test_the_history_tells_what_a_run_was(ledger, state):
    ledger.open(run(kind="explicit"), ["a", "b"])
    ledger.complete("one", "a", found=7, dead=1)
    assert ledger.close(ledger.run("one"), "done", "why")
    (ended,) = state.history()
    assert ended == EndedRun(
        id="one",
        kind="explicit",
        start=at(0),
        end=at(60),
        outcome="done",
        note="why",
        slices=1,
        records=7,
        delivered=0,
        dead_letters=1,
        counts={},
        seconds=ended.seconds,
        closed_at=ended.closed_at,
    )
    assert abs(datetime.now(UTC) - ended.closed_at) < timedelta(minutes=1)


def test_the_history_is_read_though_other_versions_wrote_more_or_less(ledger, state, client):
    ledger.open(run(), [])
    ledger.close(ledger.live(), "done")
    (ended,) = state.history()
    entry = {**ended.entry(), "more": 1}
    del entry["counts"]
    client.lset(HISTORY("useractions"), 0, json.dumps(entry))
    assert state.history() == [ended]


def test_outstanding_slices_are_due_claimed_or_put_off(ledger):
    ledger.open(run(), ["a", "b", "c", "d"])
    ledger.claim("one", "a", "t")
    put_off = ledger.claim("one", "b", "t")
    ledger.release("one", put_off, delay=60, attempts=1, waits=1, reason="why")
    assert ledger.slices("one") == SliceCounts(due=2, claimed=1, put_off=1)
