"""Several nodes behind one address, whose clocks differ: a run of a stock Opencast ends, and loses nothing."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.stock import StockWorld

NIGHTS = {
    "a quiet date": ("Europe/Berlin", datetime(2026, 3, 4)),
    "a leap day begins": ("Europe/Berlin", datetime(2028, 2, 29)),
    "a leap day ends": ("Asia/Kolkata", datetime(2028, 3, 1)),
    "the year ends": ("America/New_York", datetime(2027, 1, 1)),
    "a month ends": ("Europe/Berlin", datetime(2026, 12, 1)),
    "clocks go forward": ("Europe/Berlin", datetime(2026, 3, 29)),
    "clocks go back": ("America/New_York", datetime(2026, 11, 1)),
    "clocks go forward at midnight": ("Africa/Cairo", datetime(2026, 4, 24)),
}


def night(client, name, *, seed=1, **options):
    zone, day = NIGHTS[name]
    midnight = day.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    world = StockWorld(client, opencast_zone=ZoneInfo(zone), seed=seed, **{"batch_size": 1_000} | options)
    world.clock.now = midnight - timedelta(minutes=5)
    world.start_at(world.clock.now - timedelta(minutes=1))
    return world, midnight


def live(world, until, *, per_second, every=120, seed=1):
    """Let rows be made by random nodes' clocks, and ticks come; return all ids and the requests of each tick."""
    dice = random.Random(seed)
    made, requests = [], []
    while world.clock.now < until:
        since = world.clock.now
        world.clock.forward(every - world.clock.now.timestamp() % every or every)
        span = (world.clock.now - since).total_seconds()
        instants = sorted(dice.uniform(0, span) for _ in range(round(span * per_second)))
        made += world.opencast.add(
            *(since + timedelta(seconds=one + dice.choice(world.opencast.nodes)) for one in instants)
        )
        before = world.opencast.requests - world.opencast.looked_up
        world.settle(patience=4)
        requests.append(world.opencast.requests - world.opencast.looked_up - before)
    return made, requests


def finish(world):
    for _ in range(3 + world.settings.overlap // 600):
        world.clock.forward(600)
        world.settle(patience=4)


@pytest.mark.parametrize("millis", [False, True], ids=["whole seconds", "milliseconds"])
@pytest.mark.parametrize("per_second", [0.05, 3], ids=["quiet", "busy"])
@pytest.mark.parametrize("nodes", [(0.0, 3.0), (0.0, 0.4), (0.0, -2.0, 5.0)], ids=str)
def test_a_midnight_of_nodes_with_clocks_of_their_own_is_delivered_whole_and_once(
    client, nodes, per_second, millis
):
    world, midnight = night(client, "a quiet date", millis=millis)
    world.opencast.nodes = list(nodes)
    made, requests = live(world, midnight + timedelta(minutes=12), per_second=per_second)
    finish(world)
    assert Counter(world.sink.arrived) == Counter(made)
    assert not world.dead()
    assert max(requests) <= 40  # the tick that looks at midnight
    assert sorted(requests)[len(requests) // 2] <= 8


@pytest.mark.parametrize("name", sorted(NIGHTS))
def test_no_night_is_special(client, name):
    world, midnight = night(client, name)
    world.opencast.nodes = [0.0, 3.0]
    made, requests = live(world, midnight + timedelta(minutes=8), per_second=1)
    finish(world)
    assert Counter(world.sink.arrived) == Counter(made)
    assert max(requests) <= 40


@pytest.mark.parametrize("apart", [12.0, 31.0])
def test_nodes_whose_clocks_are_far_apart_hold_no_run_up(client, apart):
    world, midnight = night(client, "a quiet date")
    world.opencast.nodes = [0.0, apart]
    made, requests = live(world, midnight + timedelta(minutes=12), per_second=1)
    finish(world)
    # A minute that no node showed whole was found by the ids of its rows.
    assert Counter(world.sink.arrived) == Counter(made)
    assert max(requests) <= 60
