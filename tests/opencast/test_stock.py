from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.fakes import Clock
from tests.stock import StockOpencast
from uaharvest.errors import BlockedError, SourceError
from uaharvest.opencast.client import ActionsPage
from uaharvest.opencast.stock import DaySource, ServerClock

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 4, 11, 0, 30, 250_000, tzinfo=UTC)
TODAY = date(2026, 3, 4)
NO_THROTTLE = SimpleNamespace(turn=lambda wait: None)


class Scene:
    def __init__(self, **options):
        self.clock = Clock(NOW)
        self.opencast = StockOpencast(self.clock, BERLIN, **options)
        self.skew = 0.0
        self.source = self.source_for(BERLIN)

    def source_for(self, zone):
        return DaySource(
            self.opencast,
            zone,
            NO_THROTTLE,
            clock=lambda: self.clock.now.timestamp() + self.skew,
            pause=self.clock.forward,
        )

    @property
    def second(self):
        return self.clock.now.timestamp() % 60


@pytest.fixture
def scene():
    return Scene()


# The server's clock


@given(
    st.lists(
        st.tuples(st.floats(0, 200), st.floats(0, 3), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30
    ),
    st.floats(-1e5, 1e5),
)
def test_the_servers_time_is_never_outside_of_what_is_said_of_it(requests, ahead):
    clock, now = ServerClock(), 1_000_000.0
    for pause, took, told_at, looked_at in requests:
        sent = now + pause
        now = sent + took
        # `Date` may be taken before or after the moment that counts.
        moment = clock.between(sent, now, float(int(sent + took * told_at + ahead)))
        looked = sent + took * looked_at + ahead
        assert moment.earliest - 1e-6 <= looked <= moment.latest + 1e-6
        assert moment.latest - moment.earliest <= 1 + 3 * took + 1


def test_many_answers_tell_the_servers_clock_to_the_time_of_a_request():
    clock = ServerClock()
    for number in range(40):
        sent = 1_000_000 + number * 1.037
        moment = clock.between(sent, sent + 0.05, float(int(sent + 0.02 + 7.4)))
    assert moment.latest - moment.earliest < 0.2


def test_a_clock_that_is_set_is_learnt_anew():
    clock = ServerClock()
    clock.between(1_000.0, 1_000.1, 5_000.0)
    moment = clock.between(1_010.0, 1_010.1, 9_000.0)
    assert 8_999 < moment.earliest < moment.latest < 9_002


# Pages


def test_a_day_is_that_of_the_servers_zone(scene):
    ids = scene.opencast.add(datetime(2026, 3, 3, 23, 5, tzinfo=UTC), datetime(2026, 3, 4, 23, 5, tzinfo=UTC))
    page = scene.source.page(TODAY, 10)
    assert ([action.id for action in page.actions], page.total) == (ids[:1], 1)


def test_the_clock_costs_no_rows(scene):
    scene.opencast.add(NOW)
    assert scene.source.now() == NOW.replace(microsecond=0)
    assert scene.opencast.transferred == 0


def test_all_of_a_day_is_asked_for_until_the_limit_was_large_enough(scene):
    scene.opencast.add(*(NOW - timedelta(seconds=n) for n in range(300)))
    more = iter([300, 0, 0])
    scene.opencast.during = lambda: scene.opencast.add(*(NOW - timedelta(hours=1) for _ in range(next(more, 0))))
    page = scene.source.all(TODAY)
    assert len(page.actions) >= page.total == 600


def test_an_answer_that_is_short_of_its_total_is_not_taken_for_all(scene):
    scene.opencast.add(NOW, NOW)
    whole = scene.opencast.actions_of_day
    scene.opencast.actions_of_day = lambda *asked, **further: ActionsPage(
        (page := whole(*asked, **further)).total, page.actions[:1], [], page.now
    )
    with pytest.raises(SourceError, match="says there are 2 useractions and gives 1"):
        scene.source.all(TODAY)


def test_rows_of_another_day_block(scene):
    scene.opencast.add(NOW)
    whole = scene.opencast.actions_of_day
    scene.opencast.actions_of_day = lambda day, *asked, **further: whole(TODAY, *asked, **further)
    with pytest.raises(BlockedError, match=r"ignores the day .* see OPENCAST_PROFILE"):
        scene.source.page(TODAY - timedelta(days=1), 10)


def test_rows_of_another_zone_block(scene):
    scene.opencast.add(NOW)
    with pytest.raises(
        BlockedError, match=r"OPENCAST_TIMEZONE is 'UTC', but times .* are at \+01:00. Try Europe/Berlin"
    ):
        scene.source_for(ZoneInfo("UTC")).page(TODAY, 10)


def test_a_row_is_found_by_its_id(scene):
    [row_id] = scene.opencast.add(NOW)
    assert scene.source.row(row_id).id == row_id
    assert scene.source.row(row_id + 1) is None


# Waiting


@pytest.mark.parametrize("skew", [0, 1234.5])
@pytest.mark.parametrize(("low", "high"), [(0.2, 4.0), (56.0, 59.6)])
def test_it_waits_for_a_part_of_the_servers_minute(scene, low, high, skew):
    scene.skew = skew
    for _ in range(8):
        scene.source.page(TODAY, 1)
        scene.clock.forward(7.13)
    scene.source.wait_for_phase(low, high)
    assert low - 0.3 <= scene.second <= high
    before = scene.clock.now
    scene.source.wait_for_phase(low, high)
    assert (scene.clock.now - before).total_seconds() < 0.1  # the time of a request


def test_after_a_wait_it_is_known_within_which_second_the_server_looked_at_its_clock(scene):
    for _ in range(6):
        scene.source.page(TODAY, 1)
        scene.clock.forward(0.61)
    scene.source.wait_for_end_of_second()
    moment = scene.source.page(TODAY, 1).moment
    assert int(moment.earliest) == int(moment.latest)
