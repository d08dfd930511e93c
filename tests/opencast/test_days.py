import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from uaharvest.opencast.days import ClockReading, at_edge, day_of

MINUTE_0 = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]
)
def test_a_day_is_that_of_the_wall_clock(zone):
    zone = ZoneInfo(zone)
    dice = random.Random(1)
    for _ in range(300):
        instant = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + dice.uniform(0, 365 * 86_400)
        wall = datetime.fromtimestamp(instant, zone)
        assert day_of(instant, zone) == wall.date()
        assert at_edge(instant, zone) == ((wall.hour, wall.minute) in {(0, 0), (23, 59)})


@pytest.mark.parametrize(
    ("earliest", "latest", "phase", "phases"),
    [
        (12.0, 13.5, (12.0, 13.5), [(12.0, 13.5)]),
        # A minute ended meanwhile.
        (59.0, 61.5, (0.0, 60.0), [(59.0, 60.0), (0.0, 1.5)]),
        (12.0, 72.0, (0.0, 60.0), [(0.0, 60.0)]),
    ],
)
def test_which_second_of_the_minute_it_may_have_been(earliest, latest, phase, phases):
    moment = ClockReading(MINUTE_0 + earliest, MINUTE_0 + latest)
    assert (moment.phase, moment.phases) == (phase, phases)


def test_a_server_looks_at_its_clock_soon_after_a_request_as_a_rule():
    assert ClockReading(10.0, 15.0, likely=11.0).soonest == ClockReading(10.0, 11.0)
    assert ClockReading(10.0, 15.0, likely=9.0).soonest == ClockReading(10.0, 10.0)
    assert ClockReading(10.0, 15.0).soonest == ClockReading(10.0, 15.0)
