"""The rules of others, against the answers that they published."""

import csv
import datetime as dt
import gzip
from collections import Counter

import pytest

from tests.viewing.cases import beats, oracle, parts, said
from uaharvest.viewing.published import mod_zoom, old_tools, ubc
from uaharvest.viewing.published.aspects import Event, segments

SKIPPED = [Event(("v",), 0, "played", 0), Event(("v",), 10, "seeked", 500), Event(("v",), 30, "paused", 520)]


def test_aspects_segments_are_the_rows_of_its_own_seeds():
    with gzip.open(oracle("aspects", "video_playback_events.csv.gz"), "rt") as file:
        events = [
            Event(
                (row["org"], row["course_key"], row["actor_id"], row["object_id"]),
                row["emission_time_long"],
                row["verb_id"].rpartition("/")[2],
                float(row["video_position"]),
            )
            for row in csv.DictReader(file)
        ]
    with gzip.open(oracle("aspects", "fact_video_segments.csv.gz"), "rt") as file:
        expected = Counter(
            {
                (
                    (row["org"], row["course_key"], row["actor_id"], row["object_id"]),
                    int(row["watched_segment"]),
                ): int(row["watch_count"])
                for row in csv.DictReader(file)
            }
        )
    found = segments(events)
    assert len(expected) == 14_628
    assert found == expected
    assert found.total() == 14_900


def test_aspects_counts_what_was_skipped_and_we_do_not():
    assert sorted(second for _, second in segments(SKIPPED)) == list(range(1, 521))
    rows = [said("PLAY", 0, 0), said("SEEK", 10, 10, 500), said("PAUSE", 30, 520)]
    assert parts(rows) == [(0, 10), (500, 520)]


def test_aspects_leaves_out_a_start_without_an_end_and_jumps_back():
    key = ("v",)
    assert segments([Event(key, 0, "played", 5), Event(key, 9, "played", 20)]) == {}
    assert segments([Event(key, 0, "played", 50), Event(key, 9, "paused", 20)]) == {}
    assert segments([Event(key, 0, "paused", 50), Event(key, 9, "initialized", 90)]) == {}


def sessions_of_mod_zoom():
    with oracle("mod_zoom", "grading.csv").open() as file:
        return list(csv.DictReader(file))


def test_mod_zoom_grades_as_its_own_test_does():
    rows = sessions_of_mod_zoom()
    meeting = tuple(dt.datetime(2023, 5, 1, hour, tzinfo=dt.UTC).timestamp() for hour in (15, 17))
    assert len(rows) == 8
    for person in {row["person"] for row in rows}:
        own = [row for row in rows if row["person"] == person]
        sessions = [
            tuple(dt.datetime.fromisoformat(row[name]).timestamp() for name in ("join_time", "leave_time"))
            for row in own
        ]
        for scheduled in (meeting, None):
            assert mod_zoom.grade(sessions, meeting, scheduled, 60) == float(own[0]["grade_of_60"])


def test_mod_zoom_divides_by_what_of_the_meeting_was_scheduled():
    assert mod_zoom.grade([(0, 50)], (0, 200), (0, 100), 60) == 30
    assert mod_zoom.grade([(0, 50)], (0, 200), None, 60) == 15
    assert mod_zoom.grade([(0, 200)], (0, 200), (0, 100), 60) == 60
    assert mod_zoom.grade([(0, 50)], (0, 200), (300, 400), 60) == 0


def test_mod_zoom_counts_the_time_of_a_session_inside_another_once():
    assert mod_zoom.grade([(0, 100), (10, 20), (15, 120)], (0, 120), None, 60) == 60


def test_ubc_chunks_count_viewers_of_any_of_most_and_their_time():
    viewings = {"a": [(0, 50), (0, 50)], "b": [(0, 37.5), (90, 100)], "c": [(40, 45)], "d": []}
    first, second, *rest = ubc.chunks(viewings, 1000)
    assert (first.start, first.end, first.viewers, first.most) == (0, 50, 3, 2)
    assert first.mean_s == (100 + 37.5 + 5) / 3
    assert (second.viewers, second.most, second.mean_s) == (1, 0, 10)
    assert [chunk.viewers for chunk in rest] == [0] * 18
    assert rest[-1].end == 1000


def test_ubc_completed_is_three_quarters():
    assert ubc.completed({"a": [(0, 75)], "b": [(0, 74)], "c": [(0, 40), (40, 80), (0, 9)]}, 100) == 2


# The old tools. One viewer v: 30 … 300 s and 630 s.
ROWS = [*beats(*range(30, 301, 30), 630), *beats(700, viewer="w"), *beats("710", viewer="w", start=60)]


def test_metric_1_counts_periods_of_the_clock_per_segment_of_all_viewers():
    crowd = [row for number in range(15) for row in beats(30, viewer=f"v{number}")]
    assert old_tools.rewatch_heatmap(crowd) == {0: 15}
    assert old_tools.rewatch_heatmap([*beats(10, 40), *beats(10, start=3000), *beats(-5)]) == {0: 2}


def test_metric_2_gives_a_bin_of_180_s_for_a_heartbeat():
    assert old_tools.lecture_attendance(ROWS, 900) == {"v": 60, "w": 20}
    assert old_tools.lecture_attendance(ROWS, 901) == {"v": 50, "w": 16}
    assert old_tools.lecture_attendance(beats(0, 200), 180) == {"v": 200}  # not clamped


def test_metric_3_counts_lectures_of_at_least_half():
    lectures = {"a": {"v": 50, "w": 49}, "b": {"v": 100}, "c": {}}
    assert old_tools.series_attendance(lectures) == {"v": (2, 3), "w": (0, 3)}


def test_metric_4_fills_gaps_of_up_to_a_minute_between_positions():
    percents, summary = old_tools.summary_table(ROWS, 1000)
    assert percents == {"v": 36, "w": 6}
    assert summary == (21, 21, 15)
    assert old_tools.summary_table([], 1000) == ({}, (0, 0, 0))


def test_metric_5_draws_a_minute_around_each_position():
    assert old_tools.detailed(beats(30, 30, 700)) == {"v": [(0, 60), (670, 730)]}


def test_metric_6_counts_viewers_of_each_lecture():
    rows = [*ROWS, *beats(30, recording="s")]
    assert old_tools.series_viewing(rows) == ({"r": 2, "s": 1}, (1.5, 1.5, 0.5))


def test_metric_7_gives_a_bin_of_300_s_for_a_heartbeat_and_leaves_out_the_anonymous():
    assert old_tools.export_attendance([*ROWS, *beats(30, viewer="anonymous")], 900) == {"v": 100, "w": 33}


def test_metric_8_counts_buttons():
    rows = [
        said("paella:caption:enabled;English", 1, 5),
        said("paella:caption:enabled;German", 2, 5),
        said("paella:button:action;es.upv.paella.playbackRatePlugin", 3, 5),
        said("paella:button:action;edu.harvard.dce.paella.viewModeTogglePlugin", 4, 5, viewer="w"),
        said("paella:button:action;other", 4, 5, viewer="x"),
        said("paella:caption:enabled", 5, 5, viewer="anonymous"),
    ]
    assert old_tools.viewing_options(rows) == {"v": (2, 1, 0), "w": (0, 0, 1)}


def test_metric_9_counts_any_row_of_the_export():
    assert old_tools.attended_of_enrolled({"v": 0, "w": 90}, ["v", "x"]) == (1, 2)


def test_metric_10_counts_lectures_with_a_row_of_the_student():
    assert old_tools.attended_of_lectures({"a": {"v": 0}, "b": {"w": 3}, "c": {}}, "v") == (1, 3)


def test_metric_11_is_metric_9_by_date():
    dates = {"b": dt.date(2026, 11, 2), "a": dt.date(2026, 11, 9), "c": dt.date(2026, 11, 1)}
    assert old_tools.attendance_over_time(dates, {"a": {"v"}, "b": {"v", "w"}}, ["v", "w"]) == [
        (dt.date(2026, 11, 1), "c", 0),
        (dt.date(2026, 11, 2), "b", 2),
        (dt.date(2026, 11, 9), "a", 1),
    ]


def test_metric_12_counts_viewers_live_and_not_and_the_share_of_the_roster():
    rows = [*ROWS, *beats(5, viewer="w", live=True), *beats(5, viewer="x", live=True)]
    assert old_tools.course_summary(rows, ["w", "x", "y"]) == (3, 2, 2, 1, 2, 67)
    assert old_tools.course_summary(rows, []).percent == 0


def test_metric_13_averages_bins_of_300_s():
    stats = old_tools.episode_stats(ROWS, 900)
    assert stats.mean_watched_percent == pytest.approx((100 + 100 / 3) / 2)
    assert stats.unique_viewers == 2
    assert stats.events == {dt.date(2023, 11, 14): 12}
    assert old_tools.episode_stats([], 900) == (0, 0, {})


def test_all_metrics_are_there_by_number():
    assert list(old_tools.METRICS) == list(range(1, 14))
