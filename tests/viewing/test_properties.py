"""What holds for any useractions, however wrong."""

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.opencast.viewers import Habits, both, events, footprints, heartbeats, make_viewer, report
from tests.viewing.cases import actions_of
from uaharvest.viewing.actions import Action, Actions
from uaharvest.viewing.columns import union
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures, watch_counts

DURATIONS = {"r": 600.0}
POSITIONS = st.none() | st.integers(-50, 900) | st.sampled_from([0, 30, 60, 90, 10**12, -(2**31)])


@st.composite
def useractions(draw, most=25):
    rows = draw(
        st.lists(
            st.builds(
                Action,
                id=st.integers(1, 40),
                at=st.integers(0, 2000).map(lambda at: 1.7e9 + at),
                recording=st.sampled_from(["r", "s"]),
                viewer=st.sampled_from(["v", "w"]),
                session=st.sampled_from([None, "a", "b"]),
                type=st.sampled_from(["HEARTBEAT", "HEARTBEAT", "PLAY", "PAUSE", "SEEK", "FOOTPRINT", "X"]),
                inpoint=POSITIONS,
                outpoint=POSITIONS,
                playing=st.booleans(),
                live=st.sampled_from([False, False, False, True]),
            ),
            max_size=most,
        )
    )
    # An id is of one row, which only a FOOTPRINT's outpoint changes.
    firsts = {}
    return [firsts.setdefault(row.id, row)._replace(outpoint=row.outpoint) for row in rows]


def of(rows):
    return viewings(Actions.of(rows), DURATIONS)


def shown(found):
    # In whole milliseconds, because the sums of floats depend on their order.
    columns = (found.start, found.end, found.began, found.ended)
    return sorted(
        (found.pairs[found.pair[n]], *(f"{column[n]:.3f}" for column in columns), int(found.evidence[n]))
        for n in range(len(found))
    )


def measured(rows):
    return {(one.recording, one.viewer): one for one in measures(of(rows), DURATIONS)}


@given(useractions())
def test_viewings_are_half_open_inside_the_recording_and_take_time(rows):
    found = of(rows)
    vod = found.take(~found.live)
    known = np.array([found.pairs[pair][0] == "r" for pair in vod.pair], bool)
    assert (vod.start >= 0).all()
    assert (vod.end > vod.start).all()
    assert (vod.end[known] <= DURATIONS["r"]).all()
    assert (found.ended >= found.began).all()


@given(useractions())
def test_measures_agree_with_each_other(rows):
    for one in measured(rows).values():
        assert one.again_s >= 0
        assert one.seen_s <= one.watched_s + 0.001
        assert one.seen_s <= one.furthest_s + 0.001
        assert one.sittings >= 1
        assert one.first <= one.last
        assert 0 <= one.live_s <= one.last - one.first + 0.001
        assert (one.coverage is None) == (one.recording != "r")
        assert 0 <= (one.coverage or 0) <= 1


@given(useractions(), st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(rows, rng):
    again = rows + rows[: len(rows) // 2]
    rng.shuffle(again)
    # Rows of the same second are told apart by their id.
    assert shown(of(again)) == shown(of(rows))


@given(useractions(), useractions())
def test_recordings_and_viewers_add_up(rows, others):
    others = [row._replace(viewer=f"other {row.viewer}") for row in others]
    assert shown(of(rows + others)) == sorted(shown(of(rows)) + shown(of(others)))


@given(useractions(), useractions())
def test_another_device_never_takes_anything_away(rows, others):
    elsewhere = [row._replace(session=f"other {row.session}", id=row.id + 100) for row in others]
    both_devices = measured(rows + elsewhere)
    for device in (measured(rows), measured(elsewhere)):
        for pair, one in device.items():
            assert both_devices[pair].seen_s >= one.seen_s - 0.001
            assert both_devices[pair].live_s >= one.live_s - 0.001
    # Seconds played add up over devices.
    total = sum(one.watched_s for one in both_devices.values())
    parts = sum(one.watched_s for device in (rows, elsewhere) for one in measured(device).values())
    assert abs(total - parts) < 0.01


@given(useractions(), st.integers(0, 500), st.integers(1, 300))
def test_more_footprints_never_cover_less(rows, start, length):
    more = Action(999, 1.7e9, "r", "v", "a", "FOOTPRINT", start, start + length, playing=True)
    rows = [row for row in rows if row.type == "FOOTPRINT"]
    before = measured(rows).get(("r", "v"))
    assert measured([*rows, more])["r", "v"].seen_s >= (before.seen_s if before else 0)


@given(useractions())
def test_counts_of_seconds_add_up_to_the_seconds_watched(rows):
    found = of(rows)
    vod = found.take(~found.live)
    seconds = watch_counts(vod, 1000)
    assert (seconds >= 0).all()
    # Each end of each viewing may be rounded by half a second.
    assert abs(seconds.sum() - np.minimum(vod.end, 1000).sum() + np.minimum(vod.start, 1000).sum()) <= len(vod)


INTERVALS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 20)), max_size=20)


@given(INTERVALS, st.integers(0, 5))
def test_union_contains_what_any_interval_contains(intervals, gap):
    groups, starts, lengths = (
        (np.array(column, np.int64) for column in zip(*intervals, strict=True))
        if (intervals)
        else (np.array([], np.int64),) * 3
    )
    found = list(zip(*union(groups, starts * 1.0, (starts + lengths) * 1.0), strict=True))
    within = {(group, second) for group, start, end in found for second in range(int(start), int(end))}
    expected = {(g, second) for g, start, length in intervals for second in range(start, start + length)}
    assert within == expected
    assert found == sorted(found)
    assert all(a[0] != b[0] or a[2] < b[1] for a, b in itertools.pairwise(found))
    joined = list(zip(*union(groups, starts * 1.0, (starts + lengths) * 1.0, gap), strict=True))
    assert all(a[0] != b[0] or b[1] - a[2] > gap for a, b in itertools.pairwise(joined))


@pytest.mark.parametrize(
    ("player", "error"), [(heartbeats, 30), (both(events, heartbeats), 30), (footprints, 0.001)]
)
def test_never_more_than_the_truth_and_the_stated_error_of_each_visit(player, error):
    for seed in range(30):
        rng = Random(seed)
        habits = Habits(speeds=(1.0,), whole=player is footprints)
        viewer = make_viewer(rng, "r", DURATIONS["r"], 1.7e9, habits)
        found = measures(viewings(actions_of(report([viewer], player, rng)), DURATIONS), DURATIONS)
        assert sum(one.seen_s for one in found) - viewer.seen_s <= error * len(viewer.visits)
