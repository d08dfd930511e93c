"""Footprints that Opencast lengthens in place after they were sent: what was watched arrives."""

import collections
import json
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import requests
import sqlalchemy as sa

from devservers import databases, stack
from tests.fakes import World
from uaharvest.intervals import whole_second
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.source import ActionsSource
from uaharvest.opencast.sql import SqlSource, connect
from uaharvest.sinks import Receipt
from uaharvest.streams.useractions import Useractions

UTC_ZONE = ZoneInfo("UTC")
EVERY = 10  # seconds between two reports of a player
TICK = 120
HOUR = 3600


class Sink:
    """Keeps how far each footprint went, and how often it came."""

    def __init__(self):
        self.seconds = {}
        self.times = collections.Counter()

    def deliver(self, records):
        for record in records:
            body = json.loads(record.body)
            self.times[record.id] += 1
            if body["action"]["type"] == "FOOTPRINT":
                self.seconds[record.id] = max(self.seconds.get(record.id, 0), body["action"]["length"])
            yield Receipt([record])


class Player:
    """A viewer's player: it reports what was watched since its last report, and what the viewer does."""

    def __init__(self, number, rng):
        self.rng = rng
        self.number = number
        self.sessions = 0
        self._begin()

    def _begin(self):
        self.sessions += 1
        self.session = f"s{self.number}-{self.sessions}"
        self.position = self.rng.randrange(3000)
        self.idle = 0
        # Some leave the lecture running from its beginning to its end.
        self.restless = self.rng.choice((0.0, 0.01, 0.05))
        self.left = self.rng.randrange(60, 540)

    def reports(self, created):
        """Yield what is reported at `created`, epoch seconds."""
        self.left -= 1
        if self.idle:
            self.idle -= 1
            return
        yield self._row(created, "FOOTPRINT", self.position, self.position + EVERY)
        self.position += EVERY
        if self.left < 0:
            self._begin()
        elif self.rng.random() < self.restless:
            if self.rng.random() < 0.5:
                yield self._row(created, "PAUSE", self.position, self.position)
                self.idle = self.rng.randrange(90)
            else:
                self.position = self.rng.randrange(3000)
                yield self._row(created, "SEEK", self.position, self.position)
        elif self.rng.random() < 0.3:
            yield self._row(created, "HEARTBEAT", self.position, self.position)

    def _row(self, created, what, inpoint, outpoint):
        return {
            "created": created,
            "session": self.session,
            "mediapackage": "lecture",
            "type": what,
            "inpoint": inpoint,
            "outpoint": outpoint,
        }


class Simulated:
    """The simulator's table, read by REST."""

    def __init__(self, url, client):
        self.url = url
        opencast = Opencast(url, "admin", "opencast")
        self.source = ActionsSource(opencast, UTC_ZONE, Turns())

    def report(self, rows):
        for path, some in (
            ("footprints", [row for row in rows if row["type"] == "FOOTPRINT"]),
            ("rows", [row for row in rows if row["type"] != "FOOTPRINT"]),
        ):
            requests.post(f"{self.url}/_sim/{path}", json={"rows": some}, timeout=60).raise_for_status()

    def seconds(self):
        answer = requests.get(f"{self.url}/_sim/footprints", timeout=60).json()
        return {int(row_id): seconds for row_id, seconds in answer["seconds"].items()}

    def cost(self):
        log = requests.get(f"{self.url}/_sim/requests", timeout=60).json()["actions_log"]
        return len(log), sum(one["rows"] for one in log)


class Stored:
    """A real database's tables, written as Opencast 5.5 to 16.6 do."""

    base_url = "http://engage.example.edu/"

    def __init__(self, url, writer):
        self.writer = writer
        self.source = SqlSource(connect(url), UTC_ZONE, Turns(), self)
        self.newest = {}
        self.lengths = {}
        self.id = 0

    def action(self, row_id):
        return None

    def report(self, rows):
        new = []
        grown = {}
        for row in rows:
            last = self.newest.get(row["session"]) if row["type"] == "FOOTPRINT" else None
            if last and last["outpoint"] == row["inpoint"]:
                last["outpoint"] = row["outpoint"]
                last["length"] = last["outpoint"] - last["inpoint"]
                grown[last["id"]] = {name: last[name] for name in ("outpoint", "length", "id")}
                self.lengths[last["id"]] = last["length"]
                continue
            self.id += 1
            stored = row | {
                "id": self.id,
                "length": row["outpoint"] - row["inpoint"],
                "mediapackageId": row["mediapackage"],
                "sessionId": {"sessionId": row["session"]},
                "created": datetime.fromtimestamp(row["created"], UTC).isoformat(),
                "isPlaying": True,
            }
            if row["type"] == "FOOTPRINT":
                self.newest[row["session"]] = stored
                self.lengths[self.id] = stored["length"]
            new.append(stored)
        databases.insert(self.writer, new)
        change = "UPDATE oc_user_action SET outpoint = :outpoint, length = :length WHERE id = :id"
        with self.writer.begin() as connection:
            for values in grown.values():
                connection.execute(sa.text(change), values)

    def seconds(self):
        return dict(self.lengths)


class Turns:
    """Nobody waits for a turn."""

    def turn(self, wait):
        pass


class Evening:
    """Players, a table and a harvest, by a clock of its own."""

    def __init__(self, client, table, *, players, seed=1, **settings):
        self.table = table
        self.start = whole_second(datetime.now(UTC))
        chosen = {"batch_size": 1000, "overlap": HOUR, "max_window": HOUR, "lag": 10}
        self.world = World(client, **(chosen | settings))
        self.sink = Sink()
        world = self.world
        stream = Useractions(table.source, world.episodes, self.sink, world.dead_letters, world.settings)
        table.source.now = lambda **_: world.clock.now
        world.stream = stream
        world.use()
        world.clock.now = self.start
        world.start_at(self.start)
        rng = random.Random(seed)
        self.players = [Player(number, rng) for number in range(players)]

    def watch(self, seconds):
        """Let players report and the harvest tick for so long."""
        for _ in range(seconds // TICK):
            begin = self.world.clock.now.timestamp()
            times = range(int(begin), int(begin) + TICK, EVERY)
            self.table.report([row for at in times for player in self.players for row in player.reports(at)])
            self.tick(TICK)

    def tick(self, seconds):
        self.world.clock.now += timedelta(seconds=seconds)
        self.world.harvest()


@pytest.fixture
def simulated(client):
    with stack.opencast_simulator("--rows", "0", "--zone", "UTC", "--wall-time", "off") as simulator:
        yield Simulated(simulator.url, client)


@pytest.fixture
def stored(database, tables):
    table = Stored(database.url, tables)
    yield table
    table.source._engine.dispose()


def arrived(evening):
    """Return which share of the seconds watched arrived."""
    truth = evening.table.seconds()
    return sum(min(evening.sink.seconds.get(row_id, 0), seconds) for row_id, seconds in truth.items()) / sum(
        truth.values()
    )


def test_nearly_all_seconds_that_were_watched_arrive(client, simulated):
    evening = Evening(client, simulated, players=12)
    evening.watch(3 * HOUR)
    for _ in range(25):
        evening.tick(600)
    assert arrived(evening) >= 0.99
    assert max(evening.sink.times.values()) <= 3  # once, and once or twice again
    assert {row_id for row_id, times in evening.sink.times.items() if times > 1} <= set(simulated.seconds())
    requests_, rows = simulated.cost()
    ticks = 3 * HOUR // TICK + 25
    assert requests_ <= 5 * ticks  # 4 without footprints
    assert rows <= 2 * len(evening.sink.times)


def test_a_footprint_is_recent_by_the_sources_clock_whatever_the_hosts_clock(client):
    """The world's noon is months before this host's time."""
    world = World(client)
    world.stream = Useractions(
        world.stream._source, world.episodes, sink := Sink(), world.dead_letters, world.settings
    )
    world.use()
    reached = {}
    told = world.opencast.told
    world.opencast.told = lambda row: (
        told(row)
        | {
            "type": "FOOTPRINT",
            "inpoint": 0,
            "outpoint": reached[row.id],
            "length": reached[row.id],
            "sessionId": {"sessionId": "s"},
        }
    )

    def begin():
        [row_id] = world.opencast.add(world.clock.now - timedelta(seconds=30))
        reached[row_id] = 10
        world.harvest()
        return row_id

    world.start_at()
    world.clock.forward(120)
    first = begin()
    world.clock.forward(120)
    reached[first] = 130
    begin()
    world.clock.forward(120)
    world.harvest()
    assert (sink.seconds[first], sink.times[first]) == (130, 2)


@pytest.mark.fault
@pytest.mark.long
def test_nearly_all_seconds_arrive_from_a_real_database(client, stored):
    evening = Evening(client, stored, players=6, seed=2)
    evening.watch(HOUR)
    for _ in range(22):
        evening.tick(600)
    assert arrived(evening) >= 0.99
    assert max(evening.sink.times.values()) <= 3
