import pytest

from tests.viewing.cases import HOUR, START, beats, measured, said
from uaharvest.viewing.actions import Actions
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures, watch_counts

TWICE = [said("FOOTPRINT", 5, 0, 60), said("FOOTPRINT", 100, 30, 90)]


def counts(rows, seconds):
    return watch_counts(viewings(Actions.of(rows), {}), seconds).tolist()


def test_nobody_is_measured_without_a_viewing():
    durations = HOUR
    assert measures(viewings(Actions.of([]), durations), durations) == []
    assert measures(viewings(Actions.of(beats("0", "0")), durations), durations) == []


def test_coverage_is_the_union_by_the_duration():
    assert measured(TWICE, {"r": 360}).coverage == 0.25


def test_coverage_is_never_above_the_whole():
    assert measured(TWICE, {"r": 50}).coverage == 1
    assert measured(TWICE, {"r": 49.9996}).coverage == 1  # seconds seen are rounded to milliseconds


def test_what_was_played_twice_is_seen_once_and_watched_twice():
    one = measured(TWICE)
    assert (one.seen_s, one.watched_s, one.again_s) == (90, 120, 30)


def test_how_far_is_the_furthest_second_played_not_the_last():
    rows = [said("FOOTPRINT", 5, 500, 600), said("FOOTPRINT", 200, 0, 30)]
    assert measured(rows).furthest_s == 600


def test_first_and_last_are_when_it_began_and_ended_to_play():
    assert (measured(TWICE).first, measured(TWICE).last) == (START + 5, START + 160)


def test_a_break_of_more_than_half_an_hour_begins_a_new_sitting():
    def sittings(pause):
        return measured([said("FOOTPRINT", 0, 0, 60), said("FOOTPRINT", 60 + pause, 60, 120)]).sittings

    assert sittings(1800) == 1
    assert sittings(1801) == 2


def test_live_counts_as_live_only():
    one = measured([*beats(0, 0, live=True), *[row._replace(at=row.at + 9000) for row in TWICE]])
    assert (one.live_s, one.watched_s, one.sittings) == (75, 120, 2)


def test_seconds_are_half_open_and_counted_by_their_middle():
    assert counts([said("FOOTPRINT", 5, 1, 3)], 5) == [0, 1, 1, 0, 0]
    assert counts([said("FOOTPRINT", 5, 1.5, 3.5)], 5) == [0, 1, 1, 0, 0]
    assert counts([said("FOOTPRINT", 5, 1.51, 3.51)], 5) == [0, 0, 1, 1, 0]


def test_each_second_is_counted_as_often_as_it_was_played():
    assert counts([said("FOOTPRINT", 5, 0, 3), said("FOOTPRINT", 9, 1, 9)], 4) == [1, 2, 2, 1]


def test_live_has_no_seconds_to_count():
    assert counts(beats(0, 0, live=True), 3) == [0, 0, 0]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_useractions_does_not_matter(order):
    assert measured(TWICE[::order]) == measured(TWICE)
