"""What worker and beat report when they start."""

import dataclasses
from pathlib import Path

import pytest
from redis import Redis

from devservers import stack
from uaharvest import startup
from uaharvest.settings import Settings


@pytest.fixture
def evicting():
    with stack.valkey() as server, Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield Settings(redis_url=server.url)


def test_a_redis_that_evicts_is_reported_with_the_policy_to_set(evicting):
    [line] = startup.problems(evicting)
    assert "allkeys-lru" in line
    assert "Set maxmemory-policy to noeviction" in line


def test_a_redis_that_keeps_its_keys_and_one_that_is_down_are_no_problem(redis, valkey_url):
    assert [*startup.problems(Settings(redis_url=valkey_url))] == []
    down = Settings(redis_url=f"redis://127.0.0.1:{stack.free_port()}/0")
    assert [*startup.problems(down)] == []
    url = f"mariadb://harvester:secret@127.0.0.1:{stack.free_port()}/opencast"
    [line] = startup.problems(dataclasses.replace(down, database_url=url, engage_url="http://127.0.0.1:1"))
    assert "OPENCAST_DATABASE_URL" in line


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_worker_and_beat_report_it_all_in_their_log_when_they_start(evicting, command):
    environment = {"REDIS_URL": evicting.redis_url, "GEOLITE_PATH": "/nowhere/City.mmdb"}
    options = ("--concurrency", "1") if command == "worker" else ()
    with stack.celery(command, *options, environment=environment, ready=r"maxmemory-policy") as child:
        assert "GEOLITE_PATH: /nowhere/City.mmdb cannot be read" in child.output


def test_a_geolite_database_that_is_missing_is_reported(redis, valkey_url):
    settings = dataclasses.replace(Settings(redis_url=valkey_url), geolite=Path("/nowhere/City.mmdb"))
    [line] = startup.problems(settings)
    assert line.startswith("GEOLITE_PATH: /nowhere/City.mmdb cannot be read")


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_database_of_opencast_that_does_not_answer_is_reported(redis, valkey_url, kind):
    url = f"{kind}://harvester:secret@127.0.0.1:{stack.free_port()}/opencast"
    settings = Settings(redis_url=valkey_url, database_url=url, engage_url="http://127.0.0.1:1")
    [line] = startup.problems(settings)
    assert "Opencast's database 'opencast' at 127.0.0.1" in line
    assert "OPENCAST_DATABASE_URL" in line
    assert "secret" not in line
