"""What each profile gives and costs: one evening harvested from each, and the table of it in docs/opencast.md.

Engine, Valkey, HTTP and the databases are real; beat and workers are not there, so that only the harvest is counted.
All clocks are one that stands still but for what the harvester does, so that the same is asked for each time.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import random
import re
import statistics
import threading
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import boto3
import pytest
import sqlalchemy as sa
from redis import Redis

from devservers import databases
from simulators.opencast import rows as simulated
from simulators.opencast.options import parse_options
from simulators.opencast.profiles import PROFILES as SIMULATED
from simulators.opencast.server import Application
from simulators.opencast.site import Site
from simulators.opencast.table import Filter
from simulators.serving import Server
from tests.fakes import FakeSink
from uaharvest.opencast import sql
from uaharvest.opencast.profile import kept_profile
from uaharvest.opencast.stock import DaySource
from uaharvest.runs.local import LocalHints
from uaharvest.settings import Settings
from uaharvest.streams.engines import useractions as building
from uaharvest.streams.stock import StockUseractions
from uaharvest.streams.useractions import Useractions

DOCS = Path(__file__).resolve().parents[2] / "docs" / "opencast.md"
BEGINS, ENDS = "<!-- profiles -->\n", "\n<!-- /profiles -->"
RENEW = "python -m pytest tests/system/test_profiles.py --renew-docs"
HEAD = (
    "| profile | delivered | lost | repeated | requests per tick | with late rows | at midnight "
    "| rows per new row, in a tick | with late rows | all evening |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)

NEW_YORK = ZoneInfo("America/New_York")
MIDNIGHT = datetime(2026, 11, 20, tzinfo=NEW_YORK).timestamp()
MINUTE = 60
BEGIN, LAST_ROW = MIDNIGHT - 16 * MINUTE, MIDNIGHT + 16 * MINUTE
OVERLAP = 20 * MINUTE
END = LAST_ROW + OVERLAP
EVERY = 2 * MINUTE
BACKLOG, BACKLOG_SPAN = 5_000, 120 * MINUTE
INTERVAL = 119  # minutes; what is older is not to be sent
ROWS = 200  # a tick
LATE_SHARE = 0.01
SHOWS_LATE = 5  # each so many ticks what is late appears, ten minutes late at most
LATENCY = 0.02  # seconds of a request by `day`

RELEASES = ("oc7", "oc9", "oc15", "oc16", "oc18", "oc20")
PROFILES = ("dce", *RELEASES, *databases.KINDS)

connect_to_database = sql.connect


class Clock:
    """Everybody's time, epoch seconds."""

    def __init__(self):
        self.now = BEGIN

    def read(self):
        """Tell the time to who asks before and after a request."""
        self.now += LATENCY / 2
        return self.now

    def wait(self, seconds):
        self.now += seconds


class FastSite(Site):
    """A simulated Opencast by that clock."""

    def __init__(self, options, clock):
        self.clock = clock
        super().__init__(options)

    def now(self):
        return self.clock.now


class Database:
    """An Opencast's database with the rows of `site`; counts what is asked of it."""

    def __init__(self, server, site):
        self.url = server.url
        self.statements = self.rows = 0
        self._writer = databases.engine(server)
        databases.create_tables(self._writer)
        databases.insert(self._writer, map(json.loads, site.read_page(Filter(), 0, BACKLOG).bodies))

    def insert(self, site, ids):
        databases.insert(self._writer, [json.loads(site.read_row(row_id)) for row_id in ids])

    def connect(self, url):
        self._reader = connect_to_database(url)
        sa.event.listen(self._reader, "after_cursor_execute", self._count)
        return self._reader

    def close(self):
        self._reader.dispose()
        self._writer.dispose()

    def _count(self, connection, cursor, *_):
        self.statements += 1
        if "session_id" in [column[0] for column in cursor.description]:
            self.rows += cursor.rowcount


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a tick cost.

    Attributes:
        kind: backlog, tick, late (rows appear late), midnight (it has just passed) or quiet (nobody watches any more).
        requests: Requests for useractions, log-ins included; or statements.
        rows: Rows transferred.
        sent: Rows sent.
    """

    kind: str
    requests: int
    rows: int
    sent: int


@dataclasses.dataclass(frozen=True)
class Harvest:
    """What came of an evening, and what it cost; `found` is the profile that was found out, if it was asked for."""

    found: str | None
    stream: type
    expected: frozenset[int]
    arrived: collections.Counter[int]
    costs: list[Cost]

    @property
    def lost(self):
        return len(self.expected - set(self.arrived))

    @property
    def repeated(self):
        return self.arrived.total() - len(self.arrived)

    def requests(self, kind):
        """Return how many a tick of this kind has as a rule."""
        return round(statistics.median(cost.requests for cost in self.costs if cost.kind == kind))

    def rows_per_new_row(self, *kinds):
        """Return it for ticks of these kinds together."""
        costs = [cost for cost in self.costs if not kinds or cost.kind in kinds]
        return sum(cost.rows for cost in costs) / sum(cost.sent for cost in costs)


class Evening:
    """A site on which rows appear, and a harvester of it."""

    def __init__(self, name, resources, redis_url, bucket):
        self.clock = Clock()
        self.dice = random.Random(1)
        self._late = []
        patch = resources.enter_context(pytest.MonkeyPatch.context())
        # Players without footprints: what these cost to read again is measured elsewhere.
        types = [type_.replace("FOOTPRINT", "HEARTBEAT") for type_ in simulated._TYPES]
        patch.setattr(simulated, "_TYPES", types)
        profile = "oc16" if name in databases.KINDS else name
        data = ("--rows", str(BACKLOG), "--span-seconds", str(BACKLOG_SPAN), "--order", "mariadb")
        until = datetime.fromtimestamp(BEGIN, UTC).isoformat()
        self.site = FastSite(
            parse_options(["--profile", profile, "--zone", NEW_YORK.key, "--until", until, *data]), self.clock
        )
        url = resources.enter_context(served(self.site))
        self.sink = FakeSink(chunk=100)
        patch.setattr(building, "sink", lambda settings, lost: self.sink)
        self.database = None
        if name in databases.KINDS:
            server = resources.enter_context(databases.database(name, zone="Asia/Tokyo"))
            self.database = Database(server, self.site)
            resources.callback(self.database.close)
            self._set_clock_of_databases(patch)
        else:
            clock = self.clock

            class Days(DaySource):
                __init__ = functools.partialmethod(DaySource.__init__, clock=clock.read, pause=clock.wait)

            patch.setattr(building, "DaySource", Days)
        settings = Settings(
            engage_url=url,
            opencast_user="admin",
            opencast_password="opencast",
            opencast_zone=NEW_YORK,
            database_url=self.database.url if self.database else None,
            queue="profiles",
            bucket=bucket,
            redis_url=redis_url,
            default_interval=INTERVAL,
            overlap=OVERLAP,
        )
        self.redis = Redis.from_url(redis_url, decode_responses=True)
        resources.callback(self.redis.close)
        self.redis.flushall()
        self.hints = LocalHints()
        self.engine = building.useractions_engine(settings, self.hints)
        resources.callback(self.engine.ledger._redis.close)
        self.found = kept_profile(self.redis, f"{url}/")

    def pass_by(self):
        """Let it pass, tick by tick; return what came of it."""
        costs = [self._harvest("backlog")]
        while self.clock.now < END:
            since = BEGIN + (len(costs) - 1) * EVERY
            self.clock.now = max(self.clock.now, since + EVERY)  # who waited for a minute's end may be late
            late = self._late if len(costs) % SHOWS_LATE == 0 else []
            self._late = [] if late else self._late
            self._insert([*late, *self._rows_of(since)])
            costs.append(self._harvest(self._kind(since, late)))
        assert not self._late
        expected = self.site.truth(int((BEGIN - INTERVAL * MINUTE) * 1000), 10**15, with_late=False)
        arrived = collections.Counter(self.sink.arrived)
        return Harvest(self.found, type(self.engine.stream), frozenset(expected), arrived, costs)

    @staticmethod
    def _kind(since, late):
        if since >= LAST_ROW:
            return "quiet"
        if since <= MIDNIGHT < since + EVERY:
            return "midnight"
        return "late" if late else "tick"

    def _rows_of(self, since):
        """Make the rows of a tick, and of each second around midnight; return those that appear at once."""
        if since >= LAST_ROW:
            return []
        instants = [self.dice.uniform(since, since + EVERY) for _ in range(ROWS)]
        instants += [MIDNIGHT + second for second in range(-60, 60) if since <= MIDNIGHT + second < since + EVERY]
        rows = [self.site.new_row(instant, None) for instant in sorted(instants)]
        # Late ones have their ids from when they were made.
        late = [row for row in rows if self.dice.random() < LATE_SHARE]
        self._late = self._late + late
        return [row for row in rows if row not in late]

    def _insert(self, rows):
        self.site.store(rows)
        if self.database:
            self.database.insert(self.site, [row.id for row in rows])

    def _harvest(self, kind):
        """Harvest all that is there by now, as beat and the last slice of a run would; return what it cost."""
        before = self._spent()
        while True:
            self.engine.advance()
            if not self.hints.waiting:
                break
            while self.hints.waiting:
                self.engine.work(*self.hints.waiting.popleft())
        assert self.engine.ledger.live() is None, "a slice was put off"
        return Cost(kind, *(now - then for now, then in zip(self._spent(), before, strict=True)))

    def _spent(self):
        counts, _, log = self.site.log.read()
        requests, rows = counts.get("actions", 0), sum(asked.rows for asked in log)
        if self.database:
            requests, rows = requests + self.database.statements, rows + self.database.rows
        return requests, rows, len(self.sink.arrived)

    def _set_clock_of_databases(self, patch):
        """Let the database be asked for its clock, and take the evening's in place of what it says."""
        ask = sql.SqlSource.now

        def now(source, *, wait=0):
            ask(source, wait=wait)
            return datetime.fromtimestamp(int(self.clock.now), UTC)

        patch.setattr(sql.SqlSource, "now", now)
        patch.setattr(sql, "connect", self.database.connect)


@contextlib.contextmanager
def served(site):
    """Serve a site from this process, whose clock it shares."""
    with Server(0) as server:
        server.application = Application(site)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def harvest_of(aws, valkey_url):
    """Harvest the evening from a profile, once for all tests."""

    @functools.cache
    def harvest(name):
        bucket = f"profiles-{name}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        with contextlib.ExitStack() as resources:
            return Evening(name, resources, valkey_url, bucket).pass_by()

    return harvest


def skip_without(name):
    package = databases.missing(name) if name in databases.KINDS else None
    if package:
        pytest.skip(f"no real {name} to test with: Debian's {package} is not installed")


def line_of(name, harvest):
    """Return the line of the table."""
    label = {"mariadb": "database, MariaDB", "postgresql": "database, PostgreSQL"}.get(name)
    if label is None:
        harvard = "Harvard's " if SIMULATED[name].harvard else ""
        label = f"`{harvest.found}`, {harvard}Opencast {SIMULATED[name].release}"
    whole = (harvest.arrived.total(), harvest.lost, harvest.repeated)
    requests = map(harvest.requests, ("tick", "late", "midnight"))
    rows = (harvest.rows_per_new_row("tick"), harvest.rows_per_new_row("late"), harvest.rows_per_new_row())
    cells = [label, *(f"{number:,}" for number in (*whole, *requests)), *(f"{ratio:.2f}" for ratio in rows)]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", PROFILES)
def test_every_row_of_the_evening_is_delivered_once(harvest_of, name):
    skip_without(name)
    harvest = harvest_of(name)
    assert (harvest.lost, harvest.repeated) == (0, 0)
    # Nothing that is older than the first watermark either; and the evening is the same one for all.
    assert set(harvest.arrived) == harvest.expected == harvest_of("dce").expected


@pytest.mark.parametrize("name", PROFILES)
def test_auto_finds_out_which_profile_it_is(harvest_of, name):
    skip_without(name)
    harvest = harvest_of(name)
    by_name = {"dce": ("dce", Useractions), **dict.fromkeys(RELEASES, ("stock", StockUseractions))}
    assert (harvest.found, harvest.stream) == by_name.get(name, (None, Useractions))


@pytest.mark.parametrize("name", PROFILES)
def test_a_tick_asks_little_and_transfers_little_more_than_is_new(harvest_of, name):
    skip_without(name)
    harvest = harvest_of(name)
    assert max(cost.requests for cost in harvest.costs if cost.kind == "tick") <= 6
    assert harvest.rows_per_new_row("tick") <= 2
    assert harvest.rows_per_new_row("backlog") <= 1.2
    assert max(cost.requests for cost in harvest.costs) <= 100


def test_the_table_of_the_docs_is_the_one_that_was_made(harvest_of, pytestconfig):
    missing = {name: package for name in databases.KINDS if (package := databases.missing(name))}
    made = {name: line_of(name, harvest_of(name)) for name in PROFILES if name not in missing}
    text = DOCS.read_text()
    before, table, after = re.fullmatch(f"(.*{BEGINS})(.*)({ENDS}.*)", text, re.DOTALL).groups()
    if pytestconfig.getoption("--renew-docs"):
        assert not missing, "a table without the databases is not all of it"
        DOCS.write_text("".join((before, "\n".join((HEAD, *made.values())), after)))
        return
    lines = table.splitlines()
    kept = dict(zip(PROFILES, lines[2:], strict=True))
    assert ["\n".join(lines[:2]), *(kept[name] for name in made)] == [HEAD, *made.values()], f"renew it: {RENEW}"
    if missing:
        pytest.skip(f"lines not compared, for Debian's packages are not installed: {missing}")
