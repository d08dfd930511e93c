import math

import pytest

from tests.viewing.cases import HOUR, START, beats, measured, parts, played, said
from uaharvest.viewing.actions import Actions
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.evidence import Evidence


def test_nothing_was_played_without_useractions():
    assert played([]) == []


# Heartbeats


def test_heartbeats_at_the_pace_of_time_are_one_viewing_from_page_load_to_the_middle_of_the_last_interval():
    assert played(beats(28, 58, 88)) == [(0, 103, 2, 105)]


def test_a_heartbeat_alone_is_half_an_interval_on_each_side():
    assert played(beats(500)) == [(485, 515, 15, 45)]


def test_a_player_that_is_paused_plays_nothing_more():
    assert parts(beats(30, "40", "40", "40")) == [(0, 40)]


def test_a_page_that_only_rests_plays_nothing():
    assert parts(beats("0", "0", "0")) == []


def test_a_player_that_paused_or_started_right_at_a_heartbeat_played_nothing_in_the_interval():
    assert parts(beats(30, "30", "30")) == [(0, 30)]
    assert parts(beats("40", 40, "55")) == [(40, 55)]


def test_a_playhead_that_is_back_where_it_was_has_played_in_between():
    assert parts(beats(330, 360, 360, 390)) == [(315, 375), (345, 405)]


def test_between_two_rests_a_playhead_that_moved_no_faster_than_time_has_played():
    assert parts(beats("0", "20", "20")) == [(0, 20)]
    assert parts(beats("0", "900", "900")) == []


def test_lost_heartbeats_are_bridged():
    assert parts(beats(30, 60, None, None, 150, 180)) == [(0, 195)]
    assert parts(beats(30, 60, *[None] * 20, 690, 720)) == [(0, 735)]


def test_a_jump_shares_the_time_out_before_and_after_it():
    assert parts(beats(30, 60, 690, 720)) == [(0, 75), (675, 735)]
    assert parts(beats(330, 360, 130, 160)) == [(315, 375), (115, 175)]


def test_a_jump_back_to_the_beginning_starts_there():
    assert parts(beats(330, 360, 20, 50)) == [(315, 370), (0, 65)]


def test_a_short_jump_forward_is_no_higher_speed():
    assert parts(beats(30, 60, 120, 150)) == [(0, 75), (105, 165)]


@pytest.mark.parametrize("speed", [0.5, 0.75, 1, 1.25, 1.5, 2, 3])
def test_a_speed_that_lasts_is_a_speed(speed):
    positions = [int(30 * speed * number) for number in range(1, 11)]
    [(start, end)] = parts(beats(*positions))
    assert start == 0
    assert end == pytest.approx(positions[-1] + 15 * speed, abs=1)


def test_two_heartbeats_show_a_speed_if_the_first_one_agrees():
    assert parts(beats(50, 110)) == [(0, 140)]


def test_a_player_that_starts_between_two_heartbeats_plays_up_to_the_second_one():
    assert played(beats("0", 10)) == [(0, 25, 40, 75)]


def test_speeds_may_change_on_the_way():
    assert parts(beats(30, 60, 90, 135, 195, 255, 315)) == [(0, 345)]


def test_a_page_that_slept_played_up_to_the_sleep_and_from_the_waking_on():
    asleep = [*beats(30, 60), said("HEARTBEAT", 20_000, 90), said("HEARTBEAT", 20_030, 120)]
    assert played(asleep)[0] == (0, 90, 0, 120)
    assert measured(asleep).seen_s == 135


def test_a_page_that_came_back_elsewhere_played_half_an_interval_on_each_side():
    assert parts([*beats(30, 60), said("HEARTBEAT", 20_000, 2000)]) == [(0, 75), (1985, 2015)]


def test_two_devices_at_once_are_two_viewings_and_cover_what_both_show():
    rows = [*beats(30, 60, session="laptop"), *beats(1030, 1060, start=7, session="phone")]
    assert parts(rows) == [(0, 75), (1015, 1075)]
    assert measured(rows).sittings == 1


def test_viewers_who_share_a_session_are_kept_apart():
    rows = [*beats(30, 60, session=None), *beats(1030, 1060, session=None, viewer="w")]
    assert parts(rows) == [(0, 75), (1015, 1075)]


def test_a_client_without_cookies_has_a_session_per_heartbeat():
    rows = [beat._replace(session=str(beat.at)) for beat in beats(30, 60, 90, 120)]
    assert measured(rows).seen_s == 135


# PLAY, PAUSE and SEEK


def test_play_and_pause_bound_what_was_played():
    assert played([said("PLAY", 0, 100), said("PAUSE", 50, 150)]) == [(100, 150, 0, 50)]


def test_a_seek_has_the_time_before_and_after_the_jump():
    rows = [said("PLAY", 0, 0), said("SEEK", 10, 10, 500), said("PAUSE", 30, 520)]
    assert played(rows) == [(0, 10, 0, 10), (500, 520, 10, 30)]


def test_a_seek_of_a_paused_player_plays_nothing():
    rows = [
        said("PLAY", 0, 0),
        said("PAUSE", 10, 10),
        said("SEEK", 20, 10, 500, playing=False),
        said("PLAY", 30, 500),
        said("PAUSE", 40, 510),
    ]
    assert parts(rows) == [(0, 10), (500, 510)]


def test_paused_for_hours_is_not_played():
    rows = [said("PLAY", 0, 0), said("PAUSE", 10, 10), said("PLAY", 9000, 10), said("PAUSE", 9010, 20)]
    assert played(rows) == [(0, 10, 0, 10), (10, 20, 9000, 9010)]


@pytest.mark.parametrize("speed", [0.5, 1, 2, 3])
def test_any_speed_lies_between_play_and_pause(speed):
    assert parts([said("PLAY", 0, 100), said("PAUSE", 100, 100 + 100 * speed)]) == [(100, 100 + 100 * speed)]


def test_a_playhead_that_moved_at_rest_has_lost_a_seek():
    rows = [said("PLAY", 0, 0), said("PAUSE", 10, 10), said("PLAY", 30, 20), said("PAUSE", 40, 30)]
    assert parts(rows) == [(0, 10), (20, 30)]


def test_faster_than_any_player_is_a_lost_seek():
    assert parts([said("PLAY", 0, 100), said("PAUSE", 10, 900)]) == []


def test_a_tab_closed_while_playing_adds_nothing_without_heartbeats():
    assert parts([said("PLAY", 0, 0), said("SEEK", 10, 10, 500)]) == [(0, 10)]


def test_a_tab_closed_while_playing_adds_half_an_interval_with_heartbeats():
    assert parts([said("PLAY", 5, 0), *beats(25, 55, 85)]) == [(0, 100)]


@pytest.mark.parametrize("kind", ["paella:ended", "paella:endedundefined"])
def test_the_end_is_a_pause_where_a_player_reports_it(kind):
    assert parts([said("PLAY", 0, 3500), said(kind, 100, 3600, playing=False)]) == [(3500, 3600)]


def test_heartbeats_between_play_and_pause_add_no_error():
    rows = [said("PLAY", 5, 0), *beats(25, 55), said("SEEK", 70, 65, 900), *beats(920, start=60, id=8)]
    rows += [said("PAUSE", 100, 930), *beats("930", start=90, id=9)]
    assert parts(rows) == [(0, 65), (900, 930)]


# FOOTPRINT


def test_footprints_are_taken_as_they_are():
    rows = [said("FOOTPRINT", 5, 0, 5), said("FOOTPRINT", 60, 100, 140)]
    assert played(rows) == [(0, 5, 5, 10), (100, 140, 60, 100)]


def test_a_footprint_that_grew_counts_once_and_at_its_longest():
    rows = [said("FOOTPRINT", 5, 0, out, id=7) for out in (5, 300, 60)]
    assert parts(rows) == [(0, 300)]


def test_footprints_make_heartbeats_of_their_session_superfluous():
    rows = [said("FOOTPRINT", 5, 0, 70), *beats(30, 60, 90, 120)]
    assert parts(rows) == [(0, 70)]
    assert parts([*rows, *beats(2000, session="phone")]) == [(0, 70), (1985, 2015)]


# Live


def test_live_is_presence_by_the_clock_and_has_no_position():
    found = viewings(Actions.of(beats(5, 5, 5, live=True)), HOUR)
    assert math.isnan(found.start[0])
    assert (found.began - START).tolist() == [0]
    assert (found.ended - START).tolist() == [105]
    assert found.evidence.tolist() == [Evidence.LIVE]


def test_live_without_a_position_counts_too():
    rows = [said("HEARTBEAT", 30, None, live=True), said("HEARTBEAT", 60, -1, live=True)]
    assert measured(rows).live_s == 75


def test_a_live_viewer_who_left_for_longer_than_two_heartbeats_was_away():
    rows = [*beats(0, 0, live=True), said("HEARTBEAT", 1000, 0, live=True)]
    assert [(began, ended) for *_, began, ended in played(rows)] == [(0, 75), (970, 1015)]


def test_live_on_two_devices_is_one_presence():
    rows = [*beats(0, 0, live=True), *beats(0, 0, live=True, session="phone", start=10)]
    assert measured(rows).live_s == 85


# Bad values


@pytest.mark.parametrize("position", [None, -1, -100, 10**10, math.nan, math.inf])
def test_what_is_no_position_is_no_evidence(position):
    assert parts([*beats(30, 60), said("HEARTBEAT", 75, position, position), *beats(None, None, 90)]) == [(0, 105)]


def test_a_footprint_without_an_end_is_no_evidence():
    assert parts([said("FOOTPRINT", 5, 10, -1), said("FOOTPRINT", 9, 10, 10)]) == []


def test_nothing_lies_beyond_the_duration():
    assert parts([said("FOOTPRINT", 5, 90, 130), said("FOOTPRINT", 9, 120, 130)], {"r": 100.5}) == [(90, 100.5)]
    assert parts(beats(30, 60, 90), {"r": 100}) == [(0, 100)]


@pytest.mark.parametrize("durations", [{}, {"r": 0}, {"other": 5}])
def test_without_a_duration_everything_counts_but_there_is_no_coverage(durations):
    assert measured([said("FOOTPRINT", 5, 0, 9000)], durations).seen_s == 9000
    assert measured([said("FOOTPRINT", 5, 0, 9000)], durations).coverage is None


def test_other_useractions_say_nothing():
    assert parts([said("RESIZE-TO-1280x720", 30, 900), said("paella:button:action;x", 60, 930)]) == []


def test_repeated_rows_change_nothing():
    rows = [said("PLAY", 5, 0), *beats(25, 55, 85), said("PAUSE", 100, 95)]
    assert played(rows * 3) == played(rows)
    assert parts(beats(60, 120, 180, 240) * 2) == [(0, 270)]


def test_recordings_and_viewers_are_kept_apart():
    rows = [
        action._replace(recording=recording, viewer=viewer, id=action.id + 1000 * number)
        for number, (recording, viewer) in enumerate((r, v) for r in "ab" for v in "xy")
        for action in beats(30, 60, 90)
    ]
    found = viewings(Actions.of(rows), {})
    assert [found.pairs[pair] for pair in found.pair] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert set(zip(found.start, found.end, strict=True)) == {(0, 105)}
