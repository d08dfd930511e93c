"""Late rows are found in a bounded number of requests, whatever lies between them."""

import itertools
import threading

import pytest

from tests.fakes import DESTINATION, NOON, World, at, span
from uaharvest.errors import BusyError, SourceError
from uaharvest.intervals import without
from uaharvest.runs.delivered import IdsByTime, known_key
from uaharvest.streams.late import REQUESTS

GONE = -2  # Redis's answer to PTTL of a key that does not exist
MOST = REQUESTS + 4  # the window's own count, and the last failing one with its clock


@pytest.fixture
def world(client):
    world = World(client, batch_size=1000, overlap=3600)
    world.start_at(NOON)
    world.clock.now = at(180)
    return world


@pytest.fixture
def known(world):
    return IdsByTime(world.redis, known_key("useractions", "first-epoch", DESTINATION))


@pytest.fixture
def plan(world, known):
    """Plan the next live run with these stretches of late time; the number of requests is in `world.asked`."""

    def plan(late):
        run = world.run_of(span(0, 100))
        world.opencast.asked.clear()
        slices = [slice_.interval for slice_ in world.stream.plan(run, late=late, delivered=known).slices]
        world.asked = len(world.opencast.asked)
        return slices

    return plan


def know(world, known, seconds, each=1):
    """Let rows appear and be known."""
    seconds = list(seconds)
    ids = world.opencast.add(*[at(second) for second in seconds for _ in range(each)])
    times = [at(second).timestamp() for second in seconds for _ in range(each)]
    world.redis.zadd(known.key, dict(zip(map(str, ids), times, strict=True)))


def holds(slices, second):
    return any(slice_.start <= at(second) < slice_.end for slice_ in slices)


def share_nothing(slices):
    return all(one.end <= other.start for one, other in itertools.pairwise(sorted(slices)))


def test_many_late_rows_among_many_cost_no_more_requests_than_the_budget(world, known, plan):
    know(world, known, range(-3600, -1), each=3)
    late = range(-3590, -10, 36)
    world.opencast.add(*map(at, late))
    slices = plan([span(-3600, 0)])
    assert world.asked <= MOST
    assert all(holds(slices, second) for second in late)
    assert share_nothing(slices)


def dead(seconds):
    """Return what is left of the overlap without the seconds that became dead letters."""
    return without([span(-3600, 0)], [span(second, second + 1) for second in seconds])


DEAD = range(-3500, -10, 35)  # a hundred


def test_dead_letters_are_counted_once_and_then_cost_nothing(world, known, plan):
    know(world, known, (second for second in range(-3600, -1) if second not in DEAD))
    world.opencast.add(*map(at, DEAD))
    know(world, known, [second + 0.5 for second in DEAD[:3]])  # delivered before it became a dead letter
    late = dead(DEAD)
    for _ in range(8):
        slices = plan(late)
        assert world.asked <= MOST
        assert share_nothing(slices)
        assert not any(holds(slices, second) for second in DEAD)
    assert (slices, world.asked) == ([], 3)  # overlap, window, its zone
    world.opencast.add(at(-1000.0), at(-20))
    slices = plan(late)
    assert holds(slices, -1000)
    assert holds(slices, -20)
    assert world.asked < MOST


def test_what_appears_late_in_a_dead_letter_is_the_letters(world, known, plan):
    know(world, known, (second for second in range(-600, -1) if second not in {-300, -200}))
    world.opencast.add(at(-300), at(-200))
    late = without([span(-600, 0)], [span(-300, -299), span(-200, -199)])
    assert plan(late) == []
    world.opencast.add(at(-300))
    assert plan(late) == []
    assert world.asked > 3
    assert plan(late) == []
    assert world.asked == 3  # it was counted again


@pytest.mark.parametrize("late_row", [-20, -301, -1777])
def test_seconds_that_cannot_be_counted_hide_no_late_row(world, known, plan, late_row):
    know(world, known, (second for second in range(-3600, -1) if second not in DEAD))
    bad = [at(second).replace(tzinfo=None) for second in DEAD]
    world.opencast.fails = lambda first, last, limit: (
        SourceError("500") if any(first <= wall <= last for wall in bad) else None
    )
    world.opencast.add(at(late_row))
    for _ in range(3):
        slices = plan(dead(DEAD))
        assert world.asked <= MOST
        assert holds(slices, late_row)


def test_one_plans_at_a_time(world, known, plan):
    world.opencast.add(at(-20))
    lock = world.redis.lock(f"{known.key}:planning", timeout=60)
    assert lock.acquire(blocking=False)
    with pytest.raises(BusyError):
        plan([span(-60, 0)])
    assert world.opencast.asked == []
    lock.release()
    assert plan([span(-60, 0)])
    assert plan([span(-60, 0)])  # it was given back


def test_a_planner_that_died_keeps_the_others_away_for_a_lease_at_most(client, known, plan, world):
    other = World(client, lease=2, overlap=3600)
    world.stream = other.stream
    acquired = []
    other.opencast.gates = lambda name: acquired.append(client.pttl(f"{known.key}:planning"))
    plan([span(-60, 0)])
    assert acquired
    assert all(0 < left <= 2000 for left in acquired)


def test_a_planner_that_takes_longer_than_a_lease_keeps_the_others_away_all_the_time(client, known, plan, world):
    other = World(client, lease=1, overlap=3600)
    world.stream = other.stream
    renewed = threading.Event()

    def wait_for_a_renewal(name):
        left = client.pttl(f"{known.key}:planning")
        while not renewed.is_set() and left > 0:
            before, left = left, client.pttl(f"{known.key}:planning")
            if left > before:
                renewed.set()

    other.opencast.gates = wait_for_a_renewal
    plan([span(-60, 0)])
    assert renewed.is_set()
    assert client.pttl(f"{known.key}:planning") == GONE
