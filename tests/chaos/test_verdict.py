"""Planted violations are found, and repeats have the causes that the design names."""

import dataclasses

import pytest

from chaos.record import Ahead, Delivery, Happened, Record
from chaos.verdict import ASKED, CONFIRMATION, CRASH, GREW, LOST_DATA, PAUSE, judge

LEASE = 2
WELL = Record(
    source=frozenset({1, 2, 3}),
    late=frozenset({3}),
    indexed=frozenset({1, 2, 3}),
    deliveries=(Delivery(1, 1.0, "worker1"), Delivery(2, 2.0, "worker2"), Delivery(3, 30.0, "worker1")),
    faults=(),
    grown={},
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


@pytest.mark.parametrize(
    ("one", "cause"),
    [
        (fault("kill", "worker1"), CRASH),
        (fault("restart", "Redis"), CRASH),
        (fault("disconnect", "Redis"), CRASH),
        (fault("stop", "worker1", end=5.0), PAUSE),
        (fault("stop", "Redis", end=3.0), PAUSE),
        (fault("stop", "machine", end=3.0), PAUSE),
        (fault("stop", "S3/SQS", end=3.0), CONFIRMATION),
        (fault("lose", "Redis", begin=20.0), LOST_DATA),
        (fault("roll back", "Redis", begin=20.0, back_to=0.5), LOST_DATA),
    ],
)
def test_a_repeat_after_a_fault_of_its_sender_is_allowed_and_counted(one, cause):
    found = verdict(deliveries=again(25.0), faults=(one,))
    assert (found.wrong, dict(found.repeats)) == ([], {cause: 1})


@pytest.mark.parametrize(
    "one",
    [
        fault("kill", "worker2"),  # another worker's
        fault("kill", "worker1", begin=9.0),  # long after the row was marked as known
        fault("terminate", "worker1"),  # a worker that is asked to end finishes its slice
        fault("kill", "beat1"),
        fault("stop", "Opencast"),
        fault("answer", "S3/SQS"),  # the answer to this delivery was passed on
        fault("lose", "Redis", begin=26.0),  # after the repeat
        fault("roll back", "Redis", begin=20.0, back_to=6.0),  # the snapshot knew the row
        fault("insert", "Opencast"),
    ],
)
def test_a_fault_that_cannot_be_the_cause_excuses_nothing(one):
    assert wrong(deliveries=again(25.0), faults=(one,)).startswith("repeated: 1 rows")


def test_a_delivery_whose_confirmation_was_not_passed_on_may_be_repeated_once():
    untold = dataclasses.replace(WELL.deliveries[0], told=False)
    deliveries = (untold, *WELL.deliveries[1:], Delivery(1, 5.0, "worker2"))
    assert dict(verdict(deliveries=deliveries).repeats) == {CONFIRMATION: 1}
    assert wrong(deliveries=(*deliveries, Delivery(1, 9.0, "worker2"))).startswith("repeated: 1 rows")


def test_a_footprint_that_grew_may_come_again_but_not_before_it_grew():
    assert dict(verdict(deliveries=again(9.0), grown={1: [4.0]}).repeats) == {GREW: 1}
    assert wrong(deliveries=again(9.0), grown={1: [12.0]}).startswith("repeated: ")


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
