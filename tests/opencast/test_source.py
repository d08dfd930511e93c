from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import Clock, FakeOpencast, at, span
from uaharvest.errors import BlockedError, SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.source import ActionsSource, SlicePage, TooMany

NEW_YORK = ZoneInfo("America/New_York")
BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


class Turns:
    """Counts the turns that were asked for."""

    def __init__(self):
        self.waits = []

    def turn(self, wait):
        self.waits.append(wait)


@pytest.fixture
def opencast():
    return FakeOpencast(Clock())


@pytest.fixture
def source(opencast):
    return ActionsSource(opencast, UTC_ZONE, Turns())


def ids(page):
    assert isinstance(page, SlicePage)
    return sorted(action.id for action in page.actions)


def test_the_clock_is_the_servers(source, opencast):
    opencast.clock.now = at(77)
    assert source.now() == at(77)


def test_every_request_waits_for_its_turn(opencast):
    turns = Turns()
    source = ActionsSource(opencast, UTC_ZONE, turns)
    opencast.add(*[at(5)] * 3)
    source.now(wait=1)
    source.total(at(0), at(9), wait=2)
    source.check_zone_around(at(0), at(9), wait=3)
    source.fetch(span(5, 6), 2, wait=4)
    assert turns.waits == [1, 2, 3, 4, 4]
    assert len(opencast.asked) == 5


def test_a_total_counts_both_ends(source, opencast):
    opencast.add(at(0), at(5), at(9), at(10))
    assert source.total(at(0), at(9)) == 3


def test_a_slice_holds_its_start_and_not_its_end_and_each_row_once(source, opencast):
    opencast.add(at(-1), at(0), at(9), at(9) + timedelta(milliseconds=999), at(10))
    assert ids(source.fetch(span(0, 10), 99)) == [2, 3, 4]


def test_more_rows_than_asked_for_are_said_not_paged(source, opencast):
    opencast.add(*map(at, range(10)))
    assert source.fetch(span(0, 10), 4) == TooMany(10)
    assert len(opencast.asked) == 1


def test_a_single_second_is_asked_for_until_the_total_fits(source, opencast):
    opencast.add(*[at(0)] * 7)
    assert len(ids(source.fetch(span(0, 1), 2))) == 7
    assert [limit for _, _, limit in opencast.asked] == [2, 107]


def test_a_single_second_can_be_read_while_each_request_finds_more_rows(source, opencast):
    opencast.add(*[at(0)] * 7)
    opencast.gates = lambda moment: opencast.add(at(0)) if moment == "before the request" else None
    assert len(ids(source.fetch(span(0, 1), 2))) == 9


def test_a_widened_range_is_not_divided_for_its_parts_would_be_asked_for_alike():
    opencast = FakeOpencast(Clock(), zone=NEW_YORK, wall_column=True)
    source = ActionsSource(opencast, NEW_YORK, Turns())
    first_pass = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    opencast.add(*(first_pass + timedelta(seconds=n) for n in range(9)))
    told = first_pass + timedelta(hours=1)
    page = source.fetch(Interval(told, told + timedelta(seconds=9)), 2)
    assert len(ids(page)) == 9


def test_fewer_rows_than_the_total_says_are_a_failure_of_the_source(source, opencast):
    opencast.add(at(1), at(2), at(3))
    opencast.withheld = 1
    with pytest.raises(SourceError, match="there are 3 useractions and gives 2"):
        source.fetch(span(0, 9), 99)


def test_rows_that_cannot_be_read_come_apart_with_the_reason(source, opencast):
    opencast.add(at(1))
    opencast.add(at(2), readable=False)
    page = source.fetch(span(0, 9), 99)
    assert ids(page) == [1]
    ((raw, reason),) = page.unreadable
    assert (raw["id"], "created" in reason) == (2, True)


# A server that did not understand


def ask_total(source):
    source.total(at(0), at(60))


def ask_fetch(source):
    source.fetch(span(0, 60), 99)


def ask_around(source):
    source.check_zone_around(at(0), at(60))


@pytest.mark.parametrize("ask", [ask_total, ask_fetch, ask_around])
def test_a_wrong_zone_is_told_from_the_offsets_in_the_data(opencast, ask):
    opencast.zone = BERLIN
    opencast.add(at(30))
    source = ActionsSource(opencast, UTC_ZONE, Turns())
    opencast.heeds_range = False  # whatever the range is taken for, this row is seen
    with pytest.raises(BlockedError, match=r"OPENCAST_TIMEZONE is 'UTC'.*\+01:00. Try Europe/Berlin."):
        ask(source)


def test_a_wrong_zone_that_hides_all_rows_is_found_by_looking_around():
    opencast = FakeOpencast(Clock(), zone=NEW_YORK)
    opencast.add(at(30))
    source = ActionsSource(opencast, UTC_ZONE, Turns())
    assert source.total(at(0), at(60)) == 0
    with pytest.raises(BlockedError, match="Try America/New_York"):
        source.check_zone_around(at(0), at(60))


@pytest.mark.parametrize("ask", [ask_total, ask_fetch])
def test_a_stock_opencast_that_ignores_start_and_end_is_refused(source, opencast, ask):
    opencast.heeds_range = False
    opencast.add(at(-86_400))
    with pytest.raises(BlockedError, match=r"ignores start and end.*OPENCAST_PROFILE=stock"):
        ask(source)


def test_rows_of_the_inclusive_end_are_no_sign_of_a_server_that_did_not_understand(source, opencast):
    opencast.add(at(60))
    assert ids(source.fetch(span(0, 60), 99)) == []


@pytest.mark.parametrize("server", [{"wall_column": True}, {"reading": 1}, {"reading": 0}])
def test_no_slice_around_a_repeated_hour_is_taken_for_one(server):
    opencast = FakeOpencast(Clock(), zone=NEW_YORK, **server)
    source = ActionsSource(opencast, NEW_YORK, Turns())
    begin = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)
    opencast.add(*(begin + timedelta(minutes=minute) for minute in range(0, 240, 7)))
    window = Interval(begin, begin + timedelta(hours=4))
    found = [row_id for slice_ in window.cut(9) for row_id in ids(source.fetch(slice_, 99))]
    assert sorted(found) == [row.id for row in opencast.rows]


def test_an_unreadable_row_says_nothing_of_the_zone(source, opencast):
    opencast.add(at(30), readable=False)
    assert source.total(at(0), at(60)) == 1
    source.check_zone_around(at(0), at(60))
