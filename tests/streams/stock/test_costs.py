"""What a tick of a stock Opencast costs: exact requests, and rows that its MariaDB reads, at the simulator."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from simulators.opencast.options import parse_options
from simulators.opencast.server import Application
from simulators.opencast.site import Site
from simulators.wire import Request
from tests.stock import StockWorld
from uaharvest.opencast.actions import read_rows
from uaharvest.opencast.client import ActionsPage
from uaharvest.streams.stock import looks

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2026, 5, 6, 12, tzinfo=NEW_YORK).astimezone(UTC)
# A hundredth of a busy site: six days, of which half of the last.
ROWS, DAYS = 10_000, 5.5
NEW = 42
LATENCY = 0.02


class FastSite(Site):
    """A simulated Opencast by the world's clock."""

    clock = None

    def now(self):
        return self.clock.now.timestamp() if self.clock else NOON.timestamp()


class SimulatedClient:
    """Asks a simulated Opencast without a network between."""

    base_url = "http://engage.example.edu/"

    def __init__(self, site, clock):
        self.site = site
        self._application = Application(site)
        self._clock = clock

    def actions_of_day(self, day, limit, offset=0, *, timeout=60):
        page = self._ask("actions.json", day=f"{day:%Y%m%d}", limit=limit, offset=offset)["actions"]
        rows = page.get("action", [])
        return ActionsPage(page["total"], *read_rows(rows if isinstance(rows, list) else [rows]), self._date)

    def action(self, row_id):
        return self._ask(f"action/{row_id}.json").get("action")

    def _ask(self, path, **query):
        self._clock.forward(LATENCY / 2)
        self._date = self._clock.now.replace(microsecond=0)
        path = f"/usertracking/{path}"
        given = {name: [str(value)] for name, value in query.items()}
        request = Request("GET", path, path, given, {"accept": "*/*"}, b"", keep_alive=True)
        body = self._application.answer(request).body
        self._clock.forward(LATENCY / 2)
        return json.loads(body or b"{}")


@pytest.fixture
def world(client):
    world = StockWorld(client, opencast_zone=NEW_YORK, batch_size=60, overlap=3_600)
    words = ["--profile", "oc16", "--order", "mariadb", "--auth", "open", "--until", NOON.isoformat()]
    site = FastSite(
        parse_options([*words, "--zone", NEW_YORK.key, "--rows", str(ROWS), "--span-seconds", str(DAYS * 86_400)])
    )
    site.clock = world.clock
    world.clock.now = NOON
    world.start_at(NOON - timedelta(minutes=2))
    world.source._client = SimulatedClient(site, world.clock)
    world.site = site
    world.settle()
    for _ in range(30):  # a worker that has run for a while knows the server's clock
        world.clock.forward(7.037)
        world.source.now()
    tick(world, NEW)
    return world


def tick(world, *ages):
    """Let rows appear, `ages` seconds old (a whole number of them alone: so many new ones); harvest; return the cost.

    Returns:
        Requests, rows transferred, rows read by the database in days, and the rows of the day.
    """
    world.clock.forward(120)
    now = world.clock.now.timestamp()
    if len(ages) == 1:
        ages = [119 - 119 * number / ages[0] for number in range(ages[0])]
    ids = []
    for age in ages:
        row = world.site.new_row(now - age, None)
        world.site.store([row])
        ids.append(row.id)
    world.site.log.reset()
    world.settle()
    assert set(ids) <= set(world.sink.arrived)
    log = world.site.log.read()[2]
    # What the clock's question counts is a row that is not there.
    day = world.source._client.actions_of_day(world.clock.now.astimezone(NEW_YORK).date(), 1).total
    return len(log), sum(asked.rows for asked in log), sum(asked.read for asked in log), day


def test_a_tick_with_new_rows_is_the_clock_and_one_page(world):
    requests, rows, read, day = tick(world, NEW)
    assert requests == 2
    assert NEW < rows <= NEW + 10
    assert 2 * day <= read <= 2 * day + rows + 5  # of each row's session one


def test_a_quiet_tick_is_the_clock_and_one_page_of_hardly_a_row(world):
    tick(world, NEW)
    tick(world, 0)
    requests, rows, read, day = tick(world, 0)
    assert (requests, rows) == (2, 1)
    assert 2 * day <= read <= 2 * day + 5


def test_late_rows_cost_some_pages_and_never_the_day(world, monkeypatch):
    monkeypatch.setattr(looks, "LARGE", 1)  # all is a hundredth here
    requests, rows, read, day = tick(world, 600, 590, 580, 570, 560, 550, 540, 530, 520)
    assert requests <= 5
    assert read <= 6 * day + 2 * rows
    assert rows < day / 2


@pytest.mark.parametrize("busy", [166_000])
def test_at_the_size_of_a_busy_site_that_is_less_than_half_a_million_rows(world, busy):
    # What is read grows with the day alone.
    _, _, read, day = tick(world, NEW)
    assert read / day * busy + 2 * 700 <= 500_000
