"""The ladder of a run, rung by rung."""

import dataclasses

import pytest

from tests.fakes import NOON, at, span
from uaharvest.runs.ledger import Run
from uaharvest.runs.steps import (
    Close,
    Commit,
    NextWindow,
    Open,
    Publish,
    Void,
    depends_on_watermark,
    next_step,
)
from uaharvest.runs.watermark import Stored, Watermark

HERE = "digest"
ETAG = '"etag"'


def mark(run="another"):
    return Watermark(NOON, NOON, "epoch", run)


CURRENT = Stored(mark(), ETAG)
MOVED = Stored(mark(), '"moved"')
COMMITTED = Stored(mark("run"), '"committed"')

DONE = Run(
    id="run",
    stream="useractions",
    kind="live",
    requested=span(0, 60),
    window=span(0, 60),
    etag=ETAG,
    epoch="epoch",
    known_from=NOON,
    batch_size=10,
    wait=0,
    opened_at=at(60),
    destination=HERE,
    planned=3,
    done=3,
)
BUSY = {"done": 1, "outstanding": 2}
LOST = {"done": 1, "outstanding": 0}
ELSEWHERE = {"destination": "another"}
HALF_WAY = {"requested": span(0, 120)}


def live(**changes):
    return dataclasses.replace(DONE, **changes)


def explicit(**changes):
    return dataclasses.replace(DONE, kind="explicit", **changes)


@pytest.mark.parametrize("stored", [None, CURRENT])
def test_where_no_live_run_is_open_the_next_is_opened(stored):
    assert next_step(None, stored, HERE) == Open(stored)


@pytest.mark.parametrize("changes", [{}, BUSY, LOST, ELSEWHERE])
@pytest.mark.parametrize("stored", [None, MOVED])
def test_a_live_run_whose_watermark_was_moved_is_void_before_anything_else(changes, stored):
    run = live(**changes)
    assert next_step(run, stored, HERE) == Void(
        run, "the watermark was moved meanwhile; its rows are harvested again"
    )


@pytest.mark.parametrize("changes", [{}, BUSY, LOST, ELSEWHERE])
def test_a_live_run_that_somebody_has_committed_is_done(changes):
    assert next_step(live(**changes), COMMITTED, HERE) == Close(live(**changes))


@pytest.mark.parametrize("changes", [{}, BUSY, LOST])
def test_a_live_run_of_another_destination_is_void(changes):
    run = live(**changes | ELSEWHERE)
    note = "source or destination was changed meanwhile; its rows are harvested again"
    assert next_step(run, CURRENT, HERE) == Void(run, note)


def test_outstanding_slices_of_a_live_run_are_published():
    assert next_step(live(**BUSY), CURRENT, HERE) == Publish(live(**BUSY))


def test_a_live_run_whose_ledger_proves_nothing_is_void():
    note = "its ledger does not add up; the window is harvested again"
    assert next_step(live(**LOST), CURRENT, HERE) == Void(live(**LOST), note)


def test_a_live_run_that_is_delivered_is_committed():
    assert next_step(live(), CURRENT, HERE) == Commit(live(), CURRENT)


@pytest.mark.parametrize("kind", ["explicit", "private"])
@pytest.mark.parametrize("stored", [None, CURRENT, MOVED, COMMITTED])
@pytest.mark.parametrize(
    ("changes", "step"),
    [
        (ELSEWHERE, lambda run: Void(run, "source or destination was changed meanwhile; ask for it again")),
        (
            BUSY | ELSEWHERE,
            lambda run: Void(run, "source or destination was changed meanwhile; ask for it again"),
        ),
        (BUSY, Publish),
        (BUSY | HALF_WAY, Publish),
        (LOST, lambda run: Void(run, "its ledger does not add up; ask for it again")),
        (LOST | HALF_WAY, lambda run: Void(run, "its ledger does not add up; ask for it again")),
        (HALF_WAY, NextWindow),
        ({"etag": None}, Close),
    ],
)
def test_before_its_end_an_explicit_run_goes_on_wherever_the_watermark_is(kind, stored, changes, step):
    run = dataclasses.replace(explicit(**changes), kind=kind)
    assert next_step(run, stored, HERE) == step(run)
    assert not depends_on_watermark(run, HERE)


@pytest.mark.parametrize(
    ("stored", "step"),
    [
        (CURRENT, Commit(explicit(), CURRENT)),
        (COMMITTED, Close(explicit(), "the watermark moved to its end")),
        (MOVED, Close(explicit(), "the watermark stays: it was moved meanwhile")),
        (None, Close(explicit(), "the watermark stays: it was moved meanwhile")),
    ],
)
def test_at_the_end_of_an_explicit_run_the_watermark_moves_if_nobody_moved_it(stored, step):
    assert next_step(explicit(), stored, HERE) == step
    assert depends_on_watermark(explicit(), HERE)


@pytest.mark.parametrize("run", [None, live(), live(**BUSY), live(**LOST), live(**ELSEWHERE)])
def test_each_step_of_the_live_run_depends_on_the_watermark(run):
    assert depends_on_watermark(run, HERE)
