import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import Clock, FakeOpencast
from uaharvest.intervals import Interval
from uaharvest.opencast.times import WallRange, ambiguous, look_back, reported_as, wall_from, wall_range

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")
# When clocks change, forward or back, UTC; Lord Howe Island by half an hour, Kolkata not at all.
CHANGES = {
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Europe/London": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "Australia/Lord_Howe": ["2026-10-03T15:30", "2026-04-04T15:00"],
    "Pacific/Auckland": ["2026-09-26T14:00", "2026-04-04T14:00"],
    "America/Sao_Paulo": ["2018-11-04T03:00", "2018-02-18T02:00"],
    "Asia/Kolkata": ["2026-06-01T00:00"],
    "UTC": ["2026-06-01T00:00"],
}
SERVERS = {
    "column of wall times": {"wall_column": True},
    "instants, ambiguous is the later": {"reading": 1},
    "instants, ambiguous is the earlier": {"reading": 0},
}


@st.composite
def changes(draw):
    name = draw(st.sampled_from(sorted(CHANGES)))
    return ZoneInfo(name), datetime.fromisoformat(draw(st.sampled_from(CHANGES[name]))).replace(tzinfo=UTC)


near = st.one_of(
    st.integers(-3 * 3600, 3 * 3600),
    st.builds(lambda half, off: half * 1800 + off, st.integers(-5, 5), st.integers(-2, 2)),
)


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@settings(max_examples=150, deadline=None)
@given(
    change=changes(),
    cuts=st.lists(near, min_size=1, max_size=8, unique=True),
    rows=st.lists(st.tuples(near, st.sampled_from([0, 0, 500])), max_size=12),
)
def test_each_row_is_found_by_exactly_one_slice_of_a_tiling_however_the_server_reads_times(
    server, change, cuts, rows
):
    zone, instant = change
    opencast = FakeOpencast(Clock(), zone=zone, **server)
    opencast.add(*(instant + timedelta(seconds=second, milliseconds=millis) for second, millis in rows))
    bounds = [instant + timedelta(seconds=second) for second in sorted({-4 * 3600, 5 * 3600, *cuts})]
    found = []
    for start, end in itertools.pairwise(bounds):
        asked = wall_range(start, end, zone)
        told = {row.id: row.created for row in opencast.actions(asked.first, asked.last, 999).actions}
        found += [row_id for row_id, created in told.items() if start <= created < end]
    assert sorted(found) == [row.id for row in opencast.rows]


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@settings(max_examples=150, deadline=None)
@given(change=changes(), bounds=st.tuples(near, near).filter(lambda pair: pair[0] < pair[1]), rows=st.lists(near))
def test_what_a_server_that_heeds_the_range_answers_is_covered_by_it(server, change, bounds, rows):
    zone, instant = change
    opencast = FakeOpencast(Clock(), zone=zone, **server)
    opencast.add(*(instant + timedelta(seconds=second) for second in rows))
    asked = wall_range(*(instant + timedelta(seconds=second) for second in bounds), zone)
    for row in opencast.actions(asked.first, asked.last, 999).actions:
        assert asked.covers(row.created, zone)


def test_away_from_changes_a_range_is_the_local_time_and_nothing_is_widened():
    start = datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert wall_range(start, start + HOUR, NEW_YORK) == WallRange(
        datetime(2026, 3, 3, 7), datetime(2026, 3, 3, 8), widened=False
    )


def test_a_range_that_begins_in_the_first_pass_begins_before_the_repeated_hour():
    start = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    asked = wall_range(start, start + 3 * HOUR, NEW_YORK)
    assert asked == WallRange(datetime(2026, 11, 1, 0, 59, 59), datetime(2026, 11, 1, 3, 30), widened=True)


def test_a_range_that_ends_in_the_second_pass_ends_after_the_repeated_hour():
    end = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    asked = wall_range(end - 3 * HOUR, end, NEW_YORK)
    assert asked == WallRange(datetime(2026, 10, 31, 23, 30), datetime(2026, 11, 1, 2), widened=True)


@pytest.mark.parametrize("outside", [-SECOND, HOUR + SECOND])
def test_a_row_outside_is_not_covered(outside):
    start = datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert not wall_range(start, start + HOUR, NEW_YORK).covers(start + outside, NEW_YORK)


def test_the_last_second_is_covered_with_its_fraction():
    start = datetime(2026, 3, 3, 12, tzinfo=UTC)
    asked = wall_range(start, start + HOUR, NEW_YORK)
    assert asked.covers(start + HOUR + timedelta(milliseconds=999), NEW_YORK)


@pytest.mark.parametrize(("minute", "twice"), [(-61, False), (-60, True), (0, True), (59, True), (60, False)])
def test_both_passes_of_a_repeated_hour_are_ambiguous(minute, twice):
    change = datetime(2026, 11, 1, 6, tzinfo=UTC)
    assert ambiguous(change + timedelta(minutes=minute), NEW_YORK) is twice


def test_the_hour_that_is_left_out_in_spring_makes_nothing_ambiguous():
    change = datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert not any(ambiguous(change + timedelta(minutes=minute), NEW_YORK) for minute in range(-120, 121))


# How far back late rows are looked for

overlaps = st.one_of(st.sampled_from([0, 1, 60, 599, 3599, 3600]), st.integers(0, 4 * 3600)).map(
    lambda seconds: timedelta(seconds=seconds)
)


@settings(deadline=None)
@given(change=changes(), watermark=near, overlap=overlaps)
def test_it_is_never_after_the_watermark_less_the_overlap(change, watermark, overlap):
    zone, instant = change
    instant += timedelta(seconds=watermark)
    assert look_back(instant, overlap, zone) <= instant - overlap


@settings(deadline=None, max_examples=300)
@given(change=changes(), watermarks=st.tuples(near, near), overlap=overlaps)
@example((NEW_YORK, datetime(2026, 11, 1, 6, tzinfo=UTC)), (-3600 + 50, -3600 + 899), timedelta(seconds=3599))
def test_it_never_goes_back_while_the_watermark_goes_on(change, watermarks, overlap):
    """What was forgotten before it would be taken for late."""
    zone, instant = change
    earlier, later = (
        look_back(instant + timedelta(seconds=second), overlap, zone) for second in sorted(watermarks)
    )
    assert earlier <= later


@settings(deadline=None)
@given(change=changes(), into=st.integers(0, 4 * 3600), overlap=overlaps)
def test_what_was_not_compared_in_a_repeated_hour_is_made_up_for_until_overlap_after_it(change, into, overlap):
    zone, instant = change
    begin = instant - 2 * HOUR
    while not ambiguous(begin, zone):
        begin += timedelta(minutes=30)
        if begin > instant:
            return  # clocks go forward here
    end = begin
    while ambiguous(end, zone):
        end += timedelta(minutes=30)
    watermark = begin + timedelta(seconds=into)
    bound = look_back(watermark, overlap, zone)
    assert (bound == begin - overlap) == (watermark - overlap < end or watermark - overlap == begin - overlap)


def test_far_from_any_repeated_hour_it_is_the_watermark_less_the_overlap():
    watermark = datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert look_back(watermark, HOUR, NEW_YORK) == watermark - HOUR


def test_a_slice_within_one_second_is_asked_for_as_two_inclusive_seconds():
    one = Interval(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 12, 0, 1, tzinfo=UTC))
    asked = wall_range(one.start, one.end, NEW_YORK)
    assert (asked.last - asked.first) == SECOND


@given(
    st.sampled_from([(name, change) for name, changes in CHANGES.items() for change in changes]),
    st.integers(-3 * 3600, 3 * 3600),
    st.integers(-7200, 7200),
)
def test_a_wall_time_lies_in_the_range_of_the_slice_that_it_is_told_in_and_in_no_other(change, away, seconds):
    zone = ZoneInfo(change[0])
    there = datetime.fromisoformat(change[1]).replace(tzinfo=UTC).astimezone(zone)
    wall = there.replace(tzinfo=None, fold=0) + timedelta(seconds=away)
    told = reported_as(wall, zone)
    if told is None:  # the clocks skipped it
        return
    bound = (told + timedelta(seconds=seconds)).astimezone(UTC).replace(microsecond=0)
    assert (wall >= wall_from(bound, zone)) == (told >= bound)


@pytest.mark.parametrize(
    ("wall", "told"),
    [
        (datetime(2026, 11, 1, 1, 30), "2026-11-01T01:30:00-05:00"),
        (datetime(2026, 11, 1, 0, 59, 59), "2026-11-01T00:59:59-04:00"),
        (datetime(2026, 3, 8, 1, 59, 59), "2026-03-08T01:59:59-05:00"),
        (datetime(2026, 3, 8, 3), "2026-03-08T03:00:00-04:00"),
    ],
)
def test_a_wall_time_is_told_as_java_takes_it(wall, told):
    assert reported_as(wall, NEW_YORK).isoformat() == told


def test_a_wall_time_that_the_clocks_skip_is_none():
    assert reported_as(datetime(2026, 3, 8, 2), NEW_YORK) is None
    assert reported_as(datetime(2026, 3, 8, 2, 59, 59), NEW_YORK) is None
