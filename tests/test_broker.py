"""What the broker says of queues and workers, without Celery."""

import pytest

from devservers import stack
from uaharvest import broker, keys
from uaharvest.broker import QUEUES, Broker, Heart
from uaharvest.errors import RetryableError
from uaharvest.settings import Settings


class Asked:
    """What Celery would say."""

    def queues(self):
        return {"control": 3}

    def alive(self, wait=None):
        return {"old@host": ["control"], "wait": wait}


def of(url, celery=lambda: pytest.fail("Celery is not needed")):
    return Broker(Settings(redis_url=url), celery)


def test_a_worker_shows_from_its_start_until_it_stops(redis, valkey_url):
    site = of(valkey_url)
    assert site.alive() == {}
    options = ("-c", "1", "-n", "one@host", "-Q", "zoom,control")
    with stack.celery("worker", *options, environment={"REDIS_URL": valkey_url}):
        assert site.alive() == {"one@host": ["control", "zoom"]}
        assert site.queues() == dict.fromkeys(QUEUES, 0)
    assert site.alive() == {}


@pytest.mark.parametrize("shift", [-broker.SILENT, 3600], ids=["silent", "Redis's clock went back"])
def test_a_worker_that_falls_silent_is_gone_and_the_next_one_removes_it(client, valkey_url, shift):
    Heart(valkey_url).beat("killed@host", ["zoom"])
    assert 0 < client.ttl(keys.WORKERS()) <= broker.SILENT
    [(killed, at)] = client.zrange(keys.WORKERS(), 0, -1, withscores=True)
    client.zadd(keys.WORKERS(), {killed: at + shift})
    assert of(valkey_url).alive() == {}
    Heart(valkey_url).beat("other@host", ["zoom"])
    assert client.zcard(keys.WORKERS()) == 1


def test_a_worker_shows_the_queues_that_it_consumes_now(client, valkey_url, monkeypatch):
    monkeypatch.setattr(broker, "EVERY", 0.0)
    heart = Heart(valkey_url)
    heart.beat("one@host", ["zoom"])
    heart.beat("one@host", ["zoom", "index"])
    assert of(valkey_url).alive() == {"one@host": ["index", "zoom"]}
    heart.stop()
    heart.beat("one@host", ["zoom"])
    assert of(valkey_url).alive() == {}


def test_heartbeats_in_quick_succession_are_written_once(client, valkey_url):
    heart = Heart(valkey_url)
    heart.beat("one@host", ["zoom"])
    client.delete(keys.WORKERS())
    heart.beat("one@host", ["zoom"])
    assert of(valkey_url).alive() == {}


def test_messages_that_wait_are_counted(client, valkey_url):
    client.lpush(keys.CELERY("zoom"), "one", "two")
    assert of(valkey_url).queues() == dict.fromkeys(QUEUES, 0) | {"zoom": 2}


def test_workers_of_older_versions_are_found_by_asking(redis, valkey_url):
    assert of(valkey_url, Asked).alive(3.0) == {"old@host": ["control"], "wait": 3.0}


def test_a_broker_that_is_no_redis_is_left_to_celery():
    site = Broker(Settings(broker_url="sqs://"), Asked)
    assert (site.queues(), site.alive()) == ({"control": 3}, {"old@host": ["control"], "wait": None})


@pytest.mark.parametrize("look", [Broker.queues, Broker.alive])
def test_a_broker_that_is_down_is_an_outage_with_its_setting(look):
    site = of(f"redis://:top-secret@127.0.0.1:{stack.free_port()}/0")
    with pytest.raises(RetryableError, match="CELERY_BROKER_URL") as raised:
        look(site)
    assert "top-secret" not in str(raised.value)
