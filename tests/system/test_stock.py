"""A stock Opencast, real workers and a day in fast time: its clock is set from tick to tick, the rest is real."""

import random
import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

pytestmark = pytest.mark.fault

ZONE = "America/New_York"
EVERY = timedelta(minutes=20)
# Clocks go back in the night that follows. Near the end of a minute, so that it need not be waited for.
BEGIN = datetime(2026, 10, 31, 9, 0, 50, tzinfo=ZoneInfo(ZONE))
ROWS = 40  # a tick
LATE = 1_500  # seconds at most
OVERLAP = 3_600
MIDNIGHT_TAKES = 400  # seconds at most: some minutes' ends are waited for


class FastDay:
    """Sets the clock of a site's Opencast, lets rows appear, and harvests them."""

    def __init__(self, site):
        self.site = site
        self.dice = random.Random(1)
        self.made = {}
        self._late = []
        self.now = BEGIN.timestamp()

    def pass_until(self, end):
        """Let ticks pass until `end`."""
        while self.now < end.timestamp():
            since, self.now = self.now, self.now + EVERY.total_seconds()
            instants = sorted(self.dice.uniform(since, self.now) for _ in range(ROWS))
            late = [instant for instant in instants if self.dice.random() < 0.1]
            due = [instant for instant in self._late if instant + LATE < self.now or self.dice.random() < 0.5]
            self._late = [instant for instant in self._late if instant not in due] + late
            self._insert([instant for instant in instants if instant not in late] + due)
            self.harvest()

    def end(self):
        """Let what is still to come late appear, and the last midnight be closed."""
        self._insert(self._late)
        for _ in range(2 * OVERLAP // int(EVERY.total_seconds())):
            self.now += EVERY.total_seconds()
            self.harvest()

    def around_midnight(self, midnight):
        """Let rows appear in each second of the two minutes around a midnight."""
        self._insert([midnight.timestamp() + second for second in range(-60, 60)])

    def harvest(self):
        """Set the clock and let the workers harvest up to it."""
        self.site.simulate("clock", {"offset_seconds": self.now - time.time()})
        until = datetime.fromtimestamp(self.now - 10, ZoneInfo("UTC")).replace(microsecond=0)
        self.site.harvest(until, patience=MIDNIGHT_TAKES)

    def _insert(self, instants):
        if instants:
            answer = self.site.simulate("rows", {"rows": [{"created": instant} for instant in instants]})
            self.made |= dict(zip(answer["ids"], answer["created"], strict=True))


def begin_day(start_site, begin, *nodes):
    """Return a day that begins with a watermark at `begin` and an Opencast that has some rows of the hours before."""
    arguments = ("--profile", "stock", "--order", "mariadb", "--until", begin.isoformat(), *nodes)
    settings = {
        "OPENCAST_TIMEZONE": ZONE,
        "DEFAULT_INTERVAL": "1",
        "HARVEST_OVERLAP_SECONDS": str(OVERLAP),
        "SQS_EVENTS_PER_MESSAGE": "10",
        "HARVEST_MAX_WINDOW": "3600",
    }
    site = start_site(*arguments, rows=500, seconds=7_200, workers=0, settings=settings)
    day = FastDay(site)
    day.now = begin.timestamp()
    site.simulate("clock", {"offset_seconds": day.now - time.time()})
    site.add_workers(2)
    day.harvest()
    return day


@pytest.fixture
def fast_day(start_site):
    return begin_day(start_site, BEGIN)


@pytest.mark.long
def test_two_nodes_three_seconds_apart_at_midnight_cost_few_requests_and_the_run_ends(start_site):
    midnight = datetime(2026, 11, 20, tzinfo=ZoneInfo(ZONE))
    nodes = ("--node-clocks", "0,3", "--node-choice", "random")
    day = begin_day(start_site, midnight - timedelta(minutes=25), *nodes)
    day.pass_until(midnight - timedelta(minutes=5))
    day.around_midnight(midnight)
    day.site.simulate("reset-requests", {})
    day.pass_until(midnight + timedelta(minutes=15))  # each harvest has a deadline
    asked = [one["query"].get("day") for one in day.site.simulate("requests")["actions_log"]]
    # Look-ups by id ask for no day, and the clock for one that nobody has.
    assert sum(day not in (None, "20000101") for day in asked) <= 60
    day.end()
    delivered = day.site.delivered()
    assert {row for row in delivered if row in day.made} == set(day.made)
    assert set(delivered.values()) == {1}


@pytest.mark.long
def test_a_day_with_late_rows_a_midnight_and_a_repeated_hour_is_delivered_whole_and_once(fast_day):
    midnight = datetime(2026, 11, 1, tzinfo=ZoneInfo(ZONE))
    fast_day.pass_until(midnight - timedelta(minutes=5))
    fast_day.around_midnight(midnight)
    fast_day.pass_until(midnight + timedelta(hours=4))
    fast_day.end()
    delivered = fast_day.site.delivered()
    floor = fast_day.site.mark().floor.timestamp()
    assert set(delivered) - {row for row in delivered if row not in fast_day.made} == set(fast_day.made)
    assert set(delivered.values()) == {1}
    # Of the morning before the first watermark nothing was sent.
    morning = fast_day.site.truth(
        datetime.fromtimestamp(0, ZoneInfo("UTC")), datetime.fromtimestamp(floor, ZoneInfo("UTC"))
    )
    assert not set(delivered) & morning


@pytest.mark.long
def test_a_redis_that_loses_its_data_costs_the_overlap_once_more_and_never_a_row(fast_day):
    site = fast_day.site
    fast_day.pass_until(BEGIN + timedelta(hours=4))
    mark = site.mark()
    site.redis.flushall()
    fast_day.pass_until(BEGIN + timedelta(hours=6))
    delivered = site.delivered()
    assert set(fast_day.made) - {row for row in fast_day.made if row in delivered} == set()
    twice = {row for row, times in delivered.items() if times > 1}
    since = mark.at.timestamp() - OVERLAP
    assert twice
    assert all(fast_day.made[row] >= since for row in twice)
    assert max(delivered.values()) == 2
