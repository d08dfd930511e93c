import pytest
from redis import Redis

from uaharvest.keys import THROTTLE
from uaharvest.opencast.throttle import Throttle


class Naps:
    """Remembers how long somebody would have slept."""

    def __init__(self):
        self.seconds = []

    def __call__(self, seconds):
        self.seconds.append(seconds)


@pytest.fixture(params=[True, False], ids=["str", "bytes"])
def client(request, redis, valkey_url):
    with Redis.from_url(valkey_url, decode_responses=request.param) as client:
        yield client


def test_without_a_wait_nobody_asks_redis(client):
    naps = Naps()
    Throttle(client, "http://a/", pause=naps).turn(0)
    assert (naps.seconds, client.keys()) == ([], [])


def test_turns_of_all_workers_lie_the_wait_apart(client):
    naps = Naps()
    workers = [Throttle(client, "http://a/", pause=naps) for _ in range(3)]
    for worker in workers:
        worker.turn(100)
    assert naps.seconds[0] == 0
    # Each asked some moments after the one before, however slow this machine is.
    assert 90 < naps.seconds[1] <= 100
    assert 190 < naps.seconds[2] <= 200


def test_nobody_waits_for_a_clock_of_redis_that_went_back(client):
    client.set(THROTTLE("http://a/"), client.time()[0] * 1000 + 3_600_000)
    naps = Naps()
    for _ in range(2):
        Throttle(client, "http://a/", pause=naps).turn(5)
    assert (naps.seconds[0], 0 < naps.seconds[1] <= 5) == (0, True)


def test_hosts_do_not_wait_for_each_other(client):
    naps = Naps()
    for host in ("http://a/", "http://b/"):
        Throttle(client, host, pause=naps).turn(100)
    assert naps.seconds == [0, 0]


def test_a_turn_long_past_leaves_nothing_behind(client):
    Throttle(client, "http://a/", pause=Naps()).turn(100)
    (key,) = client.keys()
    assert 90_000 < client.pttl(key) <= 101_000


def test_a_wait_may_be_a_fraction_of_a_second(client):
    naps = Naps()
    throttle = Throttle(client, "http://a/", pause=naps)
    for _ in range(50):
        throttle.turn(0.5)
    assert naps.seconds[-1] > 5
