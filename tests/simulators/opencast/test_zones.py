"""Local time of the server: DST, repeated and skipped hours, how instants are written."""

from datetime import datetime

import pytest

from simulators.opencast.zones import Zone, utc_text

FIRST_PASS = 1_793_511_000_000  # 2026-11-01T05:30Z, 01:30 EDT
SECOND_PASS = FIRST_PASS + 3_600_000  # 06:30Z, 01:30 EST


def test_a_wall_time_column_reports_the_first_pass_an_hour_late():
    zone = Zone("America/New_York", wall_time=True)
    assert zone.reported_ms(FIRST_PASS) == SECOND_PASS
    assert zone.reported_ms(SECOND_PASS) == SECOND_PASS
    assert zone.text(SECOND_PASS) == "2026-11-01T01:30:00-05:00"


def test_a_column_of_instants_reports_them_as_they_are():
    zone = Zone("America/New_York", wall_time=False)
    assert zone.reported_ms(FIRST_PASS) == FIRST_PASS
    assert zone.text(FIRST_PASS) == "2026-11-01T01:30:00-04:00"


def test_the_hours_around_the_repeated_one_are_reported_right():
    zone = Zone("America/New_York", wall_time=True)
    for ms in (FIRST_PASS - 1_800_001, FIRST_PASS + 1_800_000, SECOND_PASS + 1_800_000):
        assert zone.reported_ms(ms) == ms


def test_half_an_hour_of_dst_shifts_by_half_an_hour():
    zone = Zone("Australia/Lord_Howe", wall_time=True)
    first_pass = 1_775_310_600_000  # 2026-04-04T13:50Z; at 15:00Z the clocks go back from 02:00 to 01:30
    assert zone.reported_ms(first_pass) == first_pass
    assert zone.reported_ms(first_pass + 3_000_000) == first_pass + 3_000_000 + 1_800_000


def test_an_ambiguous_wall_time_is_the_later_instant():
    zone = Zone("America/New_York", wall_time=False)
    assert zone.instant_ms(datetime(2026, 11, 1, 1, 30)) == SECOND_PASS


def test_a_skipped_wall_time_moves_forward():
    zone = Zone("America/New_York", wall_time=True)
    assert zone.instant_ms(datetime(2026, 3, 8, 2, 30)) == zone.instant_ms(datetime(2026, 3, 8, 3, 30))


@pytest.mark.parametrize(
    ("zone", "ms", "text"),
    [
        ("UTC", 0, "1970-01-01T00:00:00Z"),
        ("UTC", 1_007, "1970-01-01T00:00:01.007Z"),
        ("Asia/Kathmandu", 1_795_190_400_000, "2026-11-20T21:45:00+05:45"),
        ("America/New_York", 1_795_190_459_181, "2026-11-20T11:00:59.181-05:00"),
        ("America/St_Johns", 1_795_190_400_000, "2026-11-20T12:30:00-03:30"),
    ],
)
def test_instants_carry_the_offset_and_a_fraction_only_if_there_is_one(zone, ms, text):
    assert Zone(zone, wall_time=True).text(ms) == text


def test_utc_text_has_no_fraction():
    assert utc_text(1_795_190_400_999) == "2026-11-20T16:00:00Z"
