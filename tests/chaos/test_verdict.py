"""Planted violations are found, and repeats have the causes that the design names."""

import dataclasses

import pytest

from chaos.record import Ahead, Delivery, Happened, Record, Taken
from chaos.verdict import ASKED, CONFIRMATION, CRASH, GREW, LOST_DATA, PAUSE, judge

LEASE = 2
WELL = Record(
    source=frozenset({1, 2, 3}),
    late=frozenset({3}),
    indexed=frozenset({1, 2, 3}),
    deliveries=(Delivery(1, 1.0, "worker1"), Delivery(2, 2.0, "worker2"), Delivery(3, 30.0, "worker1")),
    faults=(),
    known={1: [1.1], 2: [2.1], 3: [30.1]},
    taken=(),
    ahead=(),
    marks=4,
    seen=100,
    stuck=(),
    leaked=(),
    complaints=(),
    ticks=1,
    recovery=4.5,
    dead_letters=0,
)


def verdict(**changed):
    return judge(dataclasses.replace(WELL, **changed), lease=LEASE)


def wrong(**changed):
    """Return the only line that says what is wrong."""
    [line] = verdict(**changed).wrong
    return line


def again(at, by="worker3", of=1):
    """Return the deliveries, with one more of a row that came before."""
    return (*WELL.deliveries, Delivery(of, at, by))


def test_a_run_in_which_all_came_once_is_well():
    found = verdict()
    assert (found.wrong, found.lost, found.repeats.total()) == ([], 0, 0)


def test_a_row_that_never_came_is_lost():
    assert wrong(source=frozenset({1, 2, 3, 4}), indexed=frozenset({1, 2, 3, 4})) == (
        "lost: 1 rows never came into the queue: 4"
    )


def test_a_lost_row_that_appeared_late_says_so():
    changed = {"source": frozenset({1, 2, 3, 4}), "late": frozenset({3, 4}), "indexed": frozenset({1, 2, 3})}
    assert wrong(**changed) == "lost: 1 rows never came into the queue, 1 of them late: 4"
    assert verdict(**changed).lost == 1


def test_a_row_without_a_document_is_lost():
    assert wrong(indexed=frozenset({1, 3})) == "lost: 1 rows have no document: 2"


def test_a_watermark_that_is_ahead_is_found():
    line = wrong(ahead=(Ahead(7.25, "12:00:05", [8, 9]),))
    assert line.startswith("ahead: at 7.2 s the watermark 12:00:05 was written, but 2 rows")
    assert line.endswith("8, 9")


def test_an_observer_that_saw_nothing_proves_nothing():
    assert wrong(marks=0).startswith("observer: ")
    assert wrong(seen=0).startswith("observer: ")


def test_a_repeat_without_a_cause_is_found_with_both_senders():
    line = wrong(deliveries=again(5.0))
    assert line.startswith("repeated: 1 rows came again without a cause: 1")
    assert "by worker1 at 1.0 s, again by worker3 at 5.0 s" in line


def fault(kind, target, begin=1.2, end=None, back_to=0.0):
    return Happened(kind, target, begin, begin if end is None else end, back_to)


UNMARKED = {2: [2.1], 3: [30.1]}  # row 1 was sent, and nobody marked it as known
KILLED = fault("kill", "worker1")


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (KILLED, CRASH),
        (fault("kill", "worker1", begin=4.0), CRASH),  # in the same slice
        (fault("restart", "Redis"), CRASH),
        (fault("disconnect", "Redis"), CRASH),
        (fault("stop", "Redis", end=3.0), PAUSE),
        (fault("stop", "S3/SQS", end=3.0), CONFIRMATION),
        (fault("lose", "Redis", begin=20.0), LOST_DATA),
        (fault("roll back", "Redis", begin=20.0, back_to=0.5), LOST_DATA),
    ],
)
def test_a_row_that_was_not_marked_may_come_again_after_a_fault_that_hit_its_sender(one, cause):
    found = verdict(deliveries=again(25.0), faults=(one,), known=UNMARKED)
    assert (found.wrong, dict(found.repeats)) == ([], {cause: 1})


@pytest.mark.parametrize(
    "one",
    [
        fault("kill", "worker2"),  # another worker's
        fault("kill", "worker1", begin=9.0),  # the slice was done long before
        fault("terminate", "worker1"),  # a worker that is asked to end finishes its slice
        fault("kill", "beat1"),
        fault("stop", "worker1", end=9.0),  # nobody took its slice meanwhile
        fault("stop", "machine", end=9.0),
        fault("stop", "Opencast"),
        fault("answer", "S3/SQS"),  # the answer to this delivery was passed on
        fault("lose", "Redis", begin=26.0),  # after the repeat
        fault("roll back", "Redis", begin=20.0, back_to=19.0),  # it was not known at the snapshot either
        fault("insert", "Opencast"),
    ],
)
def test_a_fault_that_cannot_be_the_cause_excuses_nothing(one):
    assert wrong(deliveries=again(25.0), faults=(one,), known=UNMARKED).startswith("repeated: 1 rows")


def test_a_worker_that_was_held_up_before_it_was_killed_had_not_come_to_marking():
    held = fault("stop", "worker1", begin=1.5, end=7.0)
    late = fault("kill", "worker1", begin=8.0)
    assert dict(verdict(deliveries=again(25.0), faults=(held, late), known=UNMARKED).repeats) == {CRASH: 1}
    assert wrong(deliveries=again(25.0), faults=(late,), known=UNMARKED).startswith("repeated: 1 rows")


@pytest.mark.parametrize(
    "one",
    [
        KILLED,
        fault("restart", "Redis"),
        fault("disconnect", "Redis"),
        fault("stop", "worker1", end=5.0),
        fault("stop", "Redis", end=3.0),
        fault("stop", "machine", end=3.0),
        fault("stop", "S3/SQS", end=3.0),
        fault("roll back", "Redis", begin=20.0, back_to=6.0),  # the snapshot knew the row
        fault("lose", "Redis", begin=-3.0, end=-2.0),  # it was marked afterwards
    ],
)
def test_no_fault_excuses_the_repeat_of_a_row_that_is_known(one):
    """However busy the machine was: what is known is not sent again."""
    assert wrong(deliveries=again(25.0), faults=(one,)).startswith("repeated: 1 rows")


@pytest.mark.parametrize(
    "one",
    [fault("lose", "Redis", begin=20.0), fault("roll back", "Redis", begin=20.0, back_to=0.5)],
)
def test_a_known_row_may_come_again_after_redis_lost_that(one):
    assert dict(verdict(deliveries=again(25.0), faults=(one,)).repeats) == {LOST_DATA: 1}


def test_a_row_that_was_sent_before_the_snapshot_and_marked_after_it_may_come_again():
    back = fault("roll back", "Redis", begin=20.0, back_to=1.05)
    assert dict(verdict(deliveries=again(25.0), faults=(back,)).repeats) == {LOST_DATA: 1}


def test_a_row_that_redis_forgot_and_whose_next_sender_was_killed_has_two_causes():
    lost, killed = fault("lose", "Redis", begin=20.0), fault("kill", "worker3", begin=25.1)
    found = verdict(deliveries=(*again(25.0), Delivery(1, 28.0, "worker2")), faults=(lost, killed))
    assert (found.wrong, dict(found.repeats)) == ([], {LOST_DATA: 1, CRASH: 1})


TAKEN = Taken(start=0.0, end=10.0, since=0.5, at=3.5, until=5.0)


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (fault("stop", "worker1", end=5.0), PAUSE),
        (
            fault("stop", "worker3", begin=0.6, end=5.0),
            PAUSE,
        ),  # it sent what it had prepared before it stood still
        (fault("stop", "Redis", end=3.0), PAUSE),
        (fault("stop", "machine", end=3.0), PAUSE),
        (fault("kill", "worker1", begin=2.0), CRASH),
    ],
)
def test_a_known_row_may_come_again_if_its_slice_changed_hands_because_of_a_fault(one, cause):
    assert dict(verdict(deliveries=again(4.0), faults=(one,), taken=(TAKEN,)).repeats) == {cause: 1}


@pytest.mark.parametrize(
    ("taken", "at"),
    [
        (dataclasses.replace(TAKEN, start=1.0), 4.0),  # the row lies in another slice
        (dataclasses.replace(TAKEN, since=4.0, at=7.0, until=9.0), 8.0),  # the row was sent long before
        (TAKEN, 25.0),  # the slice was done long before
    ],
)
def test_a_slice_that_changed_hands_excuses_no_other_rows(taken, at):
    held = fault("stop", "worker1", end=7.5)
    assert wrong(deliveries=again(at), faults=(held,), taken=(taken,)).startswith("repeated: 1 rows")


def test_a_slice_that_changed_hands_without_a_fault_excuses_nothing():
    assert wrong(deliveries=again(4.0), taken=(TAKEN,)).startswith("repeated: 1 rows")


def test_a_delivery_whose_confirmation_was_not_passed_on_may_be_repeated_once():
    untold = dataclasses.replace(WELL.deliveries[0], told=False)
    deliveries = (untold, *WELL.deliveries[1:], Delivery(1, 5.0, "worker2"))
    assert dict(verdict(deliveries=deliveries).repeats) == {CONFIRMATION: 1}
    assert wrong(deliveries=(*deliveries, Delivery(1, 9.0, "worker2"))).startswith("repeated: 1 rows")


def test_a_footprint_comes_again_only_if_it_grew():
    grown = Delivery(1, 9.0, "worker3", reach=5)
    assert dict(verdict(deliveries=(*WELL.deliveries, grown)).repeats) == {GREW: 1}
    assert wrong(deliveries=(*WELL.deliveries, grown, dataclasses.replace(grown, at=20.0))).startswith(
        "repeated: "
    )


def test_a_footprint_comes_again_each_time_it_grew():
    grown = [Delivery(1, 9.0 + more, "worker3", reach=more) for more in (5, 10)]
    assert dict(verdict(deliveries=(*WELL.deliveries, *grown)).repeats) == {GREW: 2}


def test_a_grown_footprint_comes_once_more_if_its_sender_was_killed():
    grown = Delivery(1, 9.0, "worker3", reach=5)
    deliveries = (*WELL.deliveries, grown, dataclasses.replace(grown, at=20.0))
    found = verdict(deliveries=deliveries, faults=(fault("kill", "worker3", begin=9.2),))
    assert (found.wrong, dict(found.repeats)) == ([], {GREW: 1, CRASH: 1})


def test_a_replayed_row_may_come_again():
    assert dict(verdict(deliveries=again(40.0, by="manage")).repeats) == {ASKED: 1}


def test_what_never_ended_is_stuck():
    assert wrong(stuck=("run 1f",)) == "stuck: run 1f"


def test_a_key_of_an_ended_run_is_a_leak():
    assert wrong(leaked=("uaharvest:run:1:due",)) == "leaked: 1 keys in Redis: uaharvest:run:1:due"


def test_a_complaint_of_a_command_stands_as_it_is():
    assert wrong(complaints=("status: exit code 4",)) == "status: exit code 4"


@pytest.mark.parametrize(
    ("ticks", "words"),
    [(3, "3 ticks after the last fault brought nothing, more than 2"), (None, "never moved again")],
)
def test_a_slow_recovery_is_wrong(ticks, words):
    assert words in wrong(ticks=ticks)
