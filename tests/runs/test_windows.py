import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uaharvest.errors import BlockedError, SpanRefusedError
from uaharvest.intervals import Interval, duration, whole_second, without
from uaharvest.runs.windows import allowed_skew, guard_clock, guard_span, next_window, stepped_back

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def seconds_of(intervals):
    """The seconds that intervals cover, as often as they do."""
    return sorted(
        second for one in intervals for second in range(int(one.start.timestamp()), int(one.end.timestamp()))
    )


@st.composite
def intervals(draw, longest=500):
    start = draw(st.integers(-300, 300))
    return Interval(at(start), at(start + draw(st.integers(1, longest))))


# Intervals


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOON, NOON),
        (at(1), NOON),
        (NOON.replace(microsecond=1), at(5)),
        (NOON.replace(tzinfo=None), at(5)),
        (NOON.astimezone(timezone(timedelta(hours=1))), at(5)),
    ],
    ids=["empty", "backwards", "fraction", "naive", "not UTC"],
)
def test_what_is_no_interval_is_refused_where_it_is_made(start, end):
    with pytest.raises(ValueError):
        Interval(start, end)


@given(start=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), length=st.integers(1, 10**9))
def test_an_interval_is_read_as_it_was_written(start, length):
    start = start.replace(microsecond=0, tzinfo=UTC)
    interval = Interval(start, start + timedelta(seconds=length))
    assert Interval.parse(str(interval)) == interval
    assert Interval.parse(str(interval)).start.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["20261123-20261124:days", "20261123-20261124:days+20261124-20261124:late~5", "0-1-2", "-5", "a 0-1", ""],
)
def test_what_is_no_interval_is_not_read_as_one(text):
    with pytest.raises(ValueError, match="no interval"):
        Interval.parse(text)


@given(interval=intervals(), parts=st.integers(-1, 600))
def test_parts_tile_an_interval_and_none_is_empty(interval, parts):
    cut = interval.cut(parts)
    assert len(cut) == min(max(parts, 1), interval.seconds)
    assert (cut[0].start, cut[-1].end) == (interval.start, interval.end)
    assert all(one.end == other.start for one, other in itertools.pairwise(cut))
    lengths = [part.seconds for part in cut]
    assert max(lengths) - min(lengths) <= 1


@given(interval=intervals(longest=5000))
def test_halving_always_ends_at_single_seconds(interval):
    rest, steps = [interval], 0
    while any(one.seconds > 1 for one in rest):
        rest = [max(one.cut(2), key=lambda part: part.seconds) for one in rest]
        steps += 1
    assert steps <= 13


@given(whole=st.lists(intervals(), max_size=4), gaps=st.lists(intervals(longest=100), max_size=6))
def test_what_is_left_without_gaps_is_each_second_that_is_in_none(whole, gaps):
    holes = set(seconds_of(gaps))
    assert seconds_of(without(whole, gaps)) == [second for second in seconds_of(whole) if second not in holes]


def test_an_instant_loses_its_fraction_and_its_zone():
    eastern = datetime(2026, 3, 3, 7, 0, 0, 999_999, tzinfo=timezone(-timedelta(hours=5)))
    assert whole_second(eastern) == NOON
    assert whole_second(eastern).tzinfo is UTC


# Windows


@given(
    behind=st.integers(0, 20_000),
    lag=st.integers(0, 60),
    longest=st.integers(1, 4000),
    waits=st.lists(st.integers(0, 500), max_size=30),
)
def test_windows_tile_the_time_from_the_watermark_to_now_less_lag(behind, lag, longest, waits):
    assume(behind / longest < 500)
    mark, now, windows = NOON, at(behind), []
    for wait in [*waits, 0]:
        now += timedelta(seconds=wait)
        while (window := next_window(mark, now, lag=lag, longest=longest)) is not None:
            assert window.seconds <= longest
            assert window.end <= now - timedelta(seconds=lag)
            windows.append(window)
            mark = window.end
            if len(windows) > 2000:
                pytest.fail("never ends")
    assert mark == max(NOON, now - timedelta(seconds=lag))
    assert seconds_of(windows) == list(range(int(NOON.timestamp()), int(mark.timestamp())))


@pytest.mark.parametrize("behind", [0, 1, 10])
def test_there_is_no_window_before_the_lag_is_over(behind):
    assert next_window(NOON, at(behind), lag=10, longest=60) is None


def test_a_watermark_in_the_future_is_an_error_not_nothing_to_do():
    with pytest.raises(
        BlockedError, match=r"2026-03-03 12:00:01 UTC lies after .*12:00:00.*manage.py watermark set"
    ):
        next_window(at(1), NOON, lag=10, longest=60)


# The span guard


@pytest.mark.parametrize(("span", "longest"), [(3600, 3600), (0, 1), (10**9, None)])
def test_a_span_up_to_the_longest_passes(span, longest):
    guard_span(NOON, at(span), longest=longest)


@pytest.mark.parametrize("span", [3601, 86_400 + 5])  # the second: timedelta.seconds would be 5
def test_a_longer_span_is_refused_by_its_total_seconds(span):
    with pytest.raises(SpanRefusedError, match=r"MAX_START_END_SPAN is 1 h.*HARVEST_CATCH_UP.*--disable-start"):
        guard_span(NOON, at(span), longest=3600)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (41, "41 s"),
        (200, "3 min 20 s"),
        (93_600, "1 d 2 h"),
        (3600, "1 h"),
        (273_601, "3 d 4 h"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


# Clocks


@pytest.mark.parametrize(("lag", "overlap", "allowed"), [(10, 3600, 1810), (10, 0, 10), (0, 0, 0), (60, 601, 360)])
def test_a_clock_may_be_ahead_by_the_lag_and_half_the_overlap(lag, overlap, allowed):
    assert allowed_skew(lag, overlap) == allowed


@pytest.mark.parametrize("ahead", [-86_400, 0, 1810])
def test_a_clock_that_is_behind_or_a_little_ahead_passes(ahead):
    guard_clock(at(ahead), NOON, allowed=1810, where="Opencast")


def test_a_clock_that_is_further_ahead_is_refused_with_both_clocks_and_their_settings():
    with pytest.raises(BlockedError) as refused:
        guard_clock(at(7200), NOON, allowed=1810, where="Opencast at http://x/ (MATTERHORN_ENGAGE_HOST)")
    words = ("is 2 h ahead", "14:00:00 and 2026-03-03 12:00:00 UTC", "30 min 10 s", "MATTERHORN_ENGAGE_HOST")
    assert all(word in str(refused.value) for word in (*words, "REDIS_URL", "HARVEST_MAX_SKEW_SECONDS"))


@pytest.mark.parametrize(("behind", "small"), [(0, False), (1, True), (15, True), (1810, True), (1811, False)])
def test_a_small_step_back_of_a_clock_is_told_from_a_watermark_in_the_future(behind, small):
    assert stepped_back(at(behind), NOON, allowed=1810) is small
