"""A stock Opencast is harvested whole: simulated nights, every physical order, both passes of a repeated hour."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.stock import ORDERS, StockWorld

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 3, 3, 22, 55, tzinfo=UTC)  # five minutes before midnight in Berlin


def live(world, ends, *, every=120, rows_per_tick=20, late_share=0.05, seed=1, loses_redis_at=()):
    """Let rows appear and ticks come until `ends`; return the ids of all rows by the instant that they are told at."""
    dice = random.Random(seed)
    made = {}
    late = []
    losses = sorted(loses_redis_at)
    since = world.clock.now
    while world.clock.now < ends:
        world.clock.forward(every)
        now = world.clock.now
        while losses and losses[0] <= now:
            losses.pop(0)
            world.redis.flushall()
            world.mailbox.slices.clear()
        span = (now - since).total_seconds()
        instants = sorted(since + timedelta(seconds=dice.uniform(0, span)) for _ in range(rows_per_tick))
        for instant in instants:
            if dice.random() < late_share:
                # Its id it has from when it was made.
                seen = instant + timedelta(seconds=dice.uniform(30, world.settings.overlap - 2 * every))
                late.append((seen, instant, world.opencast.new_id()))
            else:
                remember(world, made, instant, world.opencast.new_id())
        for row in sorted(late):
            if row[0] <= now:
                remember(world, made, *row[1:])
                late.remove(row)
        since = now
        world.settle()
    for row in late:
        remember(world, made, *row[1:])
    return made


def remember(world, made, instant, row_id):
    world.opencast.add(instant, ids=[row_id])
    made[row_id] = world.opencast.rows[-1].at


def finish(world):
    """Let time pass until the overlap is over and the last midnight closed, tick by tick."""
    for _ in range(3 + world.settings.overlap // 600):
        world.clock.forward(600)
        world.settle()


@pytest.fixture
def world(client):
    world = StockWorld(client, opencast_zone=BERLIN)
    world.clock.now = EVENING
    world.start_at(EVENING - timedelta(minutes=1))
    return world


def test_a_night_is_delivered_whole_and_once(world):
    made = live(world, EVENING + timedelta(minutes=50))
    finish(world)
    assert Counter(world.sink.arrived) == Counter(list(made))
