"""Footprints that a stock Opencast lengthens in place after they were sent."""

import json
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.stock import StockWorld
from uaharvest.errors import SourceError

MORNING = datetime(2026, 3, 4, 8, tzinfo=UTC)  # far from any midnight
EVENING = datetime(2026, 3, 4, 23, tzinfo=UTC)  # an hour before the viewers' midnight
EVERY = 10  # seconds between two reports of a player


class Viewers:
    """Players that report what was watched; Opencast lengthens a footprint that goes on where it ended."""

    def __init__(self, world, sessions, seed=1):
        self.world = world
        self.dice = random.Random(seed)
        self.open = dict.fromkeys(range(sessions))
        self.lengths, self.sessions = {}, {}
        told = world.opencast._json
        world.opencast._json = lambda row: told(row) | self._footprint(row.id)

    def _footprint(self, row_id):
        length = self.lengths[row_id]
        session = {"sessionId": {"sessionId": f"s{self.sessions[row_id]}"}}
        return {"type": "FOOTPRINT", "inpoint": 0, "outpoint": length, "length": length} | session

    def watch(self, seconds):
        for _ in range(seconds // EVERY):
            self.world.clock.forward(EVERY)
            for session, last in self.open.items():
                if last is None or self.dice.random() < 0.02:  # begins, or goes elsewhere
                    [row_id] = self.world.opencast.add(self.world.clock.now)
                    self.open[session] = row_id
                    self.lengths[row_id], self.sessions[row_id] = 0, session
                self.lengths[self.open[session]] += EVERY

    def share_that_arrived(self):
        arrived = {}
        for record in self.world.sink.records:
            body = json.loads(record.body)
            arrived[record.id] = max(arrived.get(record.id, 0), body["action"]["length"])
        return sum(arrived.get(row_id, 0) for row_id in self.lengths) / sum(self.lengths.values())


class Records:
    """Keeps the records that a world's sink takes."""

    def __init__(self, sink):
        self._deliver = sink.deliver
        self.kept = []

    def __call__(self, records):
        records = list(records)
        self.kept += records
        return self._deliver(records)


def make(client, now, nodes=(0.0,)):
    world = StockWorld(client, opencast_zone=ZoneInfo("UTC"), batch_size=1_000, overlap=7_200)
    world.opencast.nodes = list(nodes)
    world.clock.now = now
    world.start_at(now - timedelta(minutes=1))
    records = Records(world.sink)
    world.sink.deliver, world.sink.records = records, records.kept
    return Viewers(world, 12)


@pytest.fixture
def viewers(client):
    return make(client, MORNING)


def harvest(viewers, ticks, *, watching=True):
    for _ in range(ticks):
        if watching:
            viewers.watch(120)
        else:
            viewers.world.clock.forward(600)
        viewers.world.settle()


def test_nearly_all_seconds_that_were_watched_arrive(viewers):
    harvest(viewers, 60)
    harvest(viewers, 25, watching=False)
    assert viewers.share_that_arrived() >= 0.99
    times = [viewers.world.sink.arrived.count(row_id) for row_id in viewers.lengths]
    assert min(times) >= 1
    assert max(times) <= 3
    # Each is looked up by its id, once or twice.
    assert viewers.world.opencast.looked_up <= 2 * len(viewers.lengths)


@pytest.mark.parametrize("nodes", [(0.0, 3.0), (0.0, -15.0)], ids=str)
def test_so_do_those_of_viewers_who_stay_beyond_midnight(client, nodes):
    viewers = make(client, EVENING, nodes)
    harvest(viewers, 36)
    harvest(viewers, 20, watching=False)
    assert viewers.share_that_arrived() >= 0.99
    assert max(viewers.world.sink.arrived.count(row_id) for row_id in viewers.lengths) <= 3


def test_one_footprint_at_which_opencast_fails_costs_only_what_it_grew(viewers):
    harvest(viewers, 60)
    bad = min(viewers.lengths)
    ask = viewers.world.opencast.action

    def action(row_id):
        if row_id == bad:
            raise SourceError("this row fails")
        return ask(row_id)

    viewers.world.opencast.action = action
    harvest(viewers, 25, watching=False)
    assert not viewers.world.dead()
    assert viewers.share_that_arrived() >= 0.95
