"""A stock Opencast hides a minute of each day and the seconds around midnight; an audit sees all rows."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import Clock
from tests.stock import StockOpencast
from uaharvest.audit.rows import MOST_LOOK_UPS, StockRows
from uaharvest.intervals import Interval
from uaharvest.opencast.stock import DaySource

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)
DAY = Interval(BEGIN, BEGIN + timedelta(days=1))


class NoThrottle:
    def turn(self, wait):
        pass


class World:
    """A stock Opencast in a zone, long after the day, and its rows as an audit reads them."""

    def __init__(self, zone="UTC", *, order="mariadb", seed=0):
        self.clock = Clock(BEGIN + timedelta(days=2, hours=3, seconds=33.4))
        zone = ZoneInfo(zone)
        self.opencast = StockOpencast(self.clock, zone, order=order, seed=seed)
        self.source = DaySource(
            self.opencast,
            zone,
            NoThrottle(),
            clock=self.time,
            pause=self.clock.forward,
        )

    def time(self):
        return self.clock.now.timestamp()

    def add(self, *seconds, ids=()):
        """Add rows that were made so many seconds after the day began."""
        return set(self.opencast.add(*(BEGIN + timedelta(seconds=at) for at in seconds), ids=ids))

    def rows(self):
        return StockRows(self.source, self.source._zone, wait=0)

    def ids(self, indexed=()):
        groups = [list(group) for group in self.rows().ids(DAY, set(indexed))]
        found = [row_id for group in groups for row_id in group]
        assert len(found) == len(set(found))
        return set(found)


@pytest.mark.parametrize("order", ["mariadb", "shuffled", "insertion"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_all_rows_of_a_day_are_seen_and_no_others(zone, order):
    world = World(zone, order=order)
    world.add(*range(-7200, 0, 60))
    ids = world.add(*range(0, 86_400, 60))
    world.add(*range(86_400, 93_600, 60))
    assert world.ids() == ids


@pytest.mark.parametrize("second", [0, 1, 12, 59, 86_340, 86_352, 86_398, 86_399])
def test_the_rows_of_both_hidden_minutes_are_seen(second):
    world = World()
    world.add(-40)
    ids = world.add(100, second, 50_000)
    world.add(86_500)
    assert world.ids() == ids


def test_a_row_of_the_first_second_is_found_by_its_id_between_its_neighbours():
    world = World()
    world.add(-30, ids=[1_000])
    ids = world.add(0, 90, ids=[1_300, 1_600])
    assert world.ids() == ids


def test_a_document_whose_row_is_hidden_is_looked_up_and_not_extra():
    world = World()
    ids = world.add(0, 43_200, ids=[1, 10_000_000])  # far from any other row
    assert world.ids(ids) == ids
    assert world.ids({*ids, 77}) == ids


def test_looking_up_ids_is_bounded():
    world = World()
    world.add(-30, ids=[1_000])
    world.add(90, ids=[10_000_000])
    world.add(86_500, ids=[30_000_000])
    world.ids()
    assert MOST_LOOK_UPS <= world.opencast.looked_up <= 2 * MOST_LOOK_UPS


def test_a_day_is_requested_once_if_its_last_minute_is_empty_and_twice_otherwise():
    quiet, busy = World(), World()
    ids = {*quiet.add(*range(100, 86_000, 100)), *busy.add(*range(100, 86_000, 100))}
    busy.add(86_395)
    quiet.ids()
    busy.ids()
    assert len(ids) == 859
    assert quiet.opencast.transferred < 1.1 * 859
    assert 2 * 859 < busy.opencast.transferred < 2.1 * 859


def test_rows_that_are_missing_are_returned_without_another_request():
    world = World()
    ids = sorted(world.add(100, 200, 300))
    rows = world.rows()
    list(rows.ids(DAY, set()))
    before = world.opencast.requests
    [page] = rows.rows(DAY, ids[:2])
    assert [action.id for action in page.actions] == ids[:2]
    assert world.opencast.requests == before


def test_a_request_that_is_handled_too_late_in_the_minute_is_repeated():
    world = World()
    ids = world.add(5, 15, 40_000)
    slow = iter([30.0])  # seconds that the first request for all rows waits at the server
    world.opencast.fails = lambda kind, limit: world.clock.forward(next(slow, 0.0)) if limit > 10 else None
    assert world.ids() == ids
