import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fakeredis
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.lock import Lock

from uaharvest.errors import BlockedError, SourceError
from uaharvest.opencast.cache import EpisodeCache, fetch_from


class Source:
    """Episodes, and how often each was asked for."""

    def __init__(self, episodes=None):
        self.episodes = episodes
        self.asked = []

    def __call__(self, mpid):
        self.asked.append(mpid)
        return {"title": mpid} if self.episodes is None else self.episodes[mpid]


def no_pause(seconds):
    raise AssertionError("nothing to wait for")


@pytest.fixture(params=[False, True], ids=["bytes", "str"])
def server(request):
    return fakeredis.FakeRedis(decode_responses=request.param)


def cache(server, fetch, *, source="http://engage.example.edu/", pause=no_pause):
    return EpisodeCache(server, fetch, 900, source, pause=pause)


def lock_key(server):
    (key,) = server.keys("*:lock:*")
    return key


def part_key(server):
    (key,) = server.keys()
    return key


def test_each_episode_is_looked_up_once(server):
    source = Source()
    episodes = cache(server, source)
    expected = {"a": '{"title":"a"}', "b": '{"title":"b"}'}
    assert episodes.get_many(["a", "b", "a"]) == expected
    assert episodes.get_many(iter(["b", "a"])) == expected
    assert sorted(source.asked) == ["a", "b"]


def test_nothing_asked_is_nothing_found(server):
    assert cache(server, Source()).get_many([]) == {}


def test_all_that_is_known_costs_one_call_to_redis(server, monkeypatch):
    cache(server, Source()).get_many(["a", "b"])
    calls = []
    execute = server.execute_command
    monkeypatch.setattr(
        server, "execute_command", lambda *args, **kw: calls.append(args[0]) or execute(*args, **kw)
    )
    cache(server, Source()).get_many(["a", "b"])
    assert calls == ["MGET"]


def test_the_text_is_compact_and_ascii(server):
    text = cache(server, Source({"a": {"title": "Übung", "year": None}})).get_many(["a"])["a"]
    assert text == '{"title":"\\u00dcbung","year":null}'


def test_an_episode_is_kept_as_long_as_the_setting_says(server):
    cache(server, Source()).get_many(["a"])
    assert 890 < server.ttl(part_key(server)) <= 900


def test_an_episode_that_is_not_there_is_remembered_for_a_minute(server):
    source = Source({"a": {}})
    episodes = cache(server, source)
    assert episodes.get_many(["a"]) == episodes.get_many(["a"]) == {"a": "{}"}
    assert source.asked == ["a"]
    assert 50 < server.ttl(part_key(server)) <= 60


def test_sources_share_nothing(server):
    cache(server, Source({"a": {"title": "here"}})).get_many(["a"])
    there = cache(server, Source({"a": {"title": "there"}}), source="http://other.example.edu/")
    assert there.get_many(["a"]) == {"a": '{"title":"there"}'}
    assert all(key.startswith("uaharvest:episode:") for key in map(_str, server.keys()))


def _str(key):
    return key if isinstance(key, str) else key.decode()


def test_an_id_that_utf8_cannot_hold_does_no_harm(server):
    assert cache(server, Source({"\ud800": {}})).get_many(["\ud800"]) == {"\ud800": "{}"}


@pytest.mark.parametrize("error", [SourceError, BlockedError])
def test_a_look_up_that_fails_caches_nothing_and_can_be_tried_again_at_once(server, error):
    def fail(mpid):
        raise error("Opencast is away")

    with pytest.raises(error, match="is away"):
        cache(server, fail).get_many(["a"])
    assert server.keys() == []
    assert cache(server, Source()).get_many(["a"]) == {"a": '{"title":"a"}'}


def test_after_a_failure_the_look_ups_that_have_not_begun_are_left(server):
    asked, raised = [], threading.Event()

    def fetch(mpid):
        asked.append(mpid)
        if mpid == "0":
            raise SourceError("Opencast is away")
        assert raised.wait(20)
        return {}

    episodes = cache(server, fetch)
    with pytest.raises(SourceError):
        episodes.get_many(map(str, range(20)))
    raised.set()
    episodes._threads.shutdown(wait=True)
    assert len(asked) <= 5  # the one that failed, three beside it, and one that its thread had begun


def test_the_lock_of_a_worker_that_died_is_waited_for_until_it_expires(server, monkeypatch):
    caught = []

    def killed(mpid):
        caught.append((lock_key(server), server.get(lock_key(server)), server.ttl(lock_key(server))))
        return {}

    cache(server, killed).get_many(["a"])
    server.flushall()
    ((key, token, seconds),) = caught
    assert 0 < seconds <= 30
    server.set(key, token)  # as if that worker had never come back
    pauses, asked = [], []

    def pause(wait):
        pauses.append(wait)
        asked.append(list(source.asked))
        if len(pauses) == 3:
            server.delete(key)

    tries = []
    acquire = Lock.acquire
    monkeypatch.setattr(Lock, "acquire", lambda lock, **kw: tries.append(lock.name) or acquire(lock, **kw))
    source = Source()
    found = cache(server, source, pause=pause).get_many(["a", "b"])
    assert found == {"a": '{"title":"a"}', "b": '{"title":"b"}'}
    assert asked == [["b"]] * 3
    assert tries.count(_str(key)) == 1


def test_a_lock_that_is_another_workers_by_now_is_left_alone(server):
    def slow(mpid):
        server.set(lock_key(server), "the next worker's")
        return {"title": mpid}

    assert cache(server, slow).get_many(["a"]) == {"a": '{"title":"a"}'}
    assert _str(server.get(lock_key(server))) == "the next worker's"


def test_an_error_of_redis_is_passed_on():
    away = fakeredis.FakeServer()
    away.connected = False
    with pytest.raises(RedisConnectionError):
        cache(fakeredis.FakeRedis(server=away), Source()).get_many(["a"])


def test_workers_that_miss_the_same_episode_at_once_look_it_up_once(redis, valkey_url):
    workers = 8
    asked, waiting = [], set()
    together, all_wait = threading.Barrier(workers), threading.Event()

    def slow(mpid):
        asked.append(mpid)
        assert all_wait.wait(20), "somebody did not wait"
        return {"title": mpid}

    def work(number):
        def pause(seconds):
            waiting.add(number)
            if len(waiting) == workers - 1:
                all_wait.set()
            time.sleep(0.002)

        with Redis.from_url(valkey_url) as client:
            together.wait()
            return EpisodeCache(client, slow, 900, "source", pause=pause).get_many(["a"])

    with ThreadPoolExecutor(workers) as pool:
        assert list(pool.map(work, range(workers))) == [{"a": '{"title":"a"}'}] * workers
    assert asked == ["a"]
    assert redis.keys("*:lock:*") == []


def test_workers_that_miss_many_episodes_share_the_work(redis, valkey_url):
    mpids = [f"episode-{number}" for number in range(100)]
    asked, together = [], threading.Barrier(4)

    def fetch(mpid):
        asked.append(mpid)
        return {"title": mpid}

    def work(_):
        with Redis.from_url(valkey_url) as client:
            together.wait()
            return EpisodeCache(client, fetch, 900, "source", pause=lambda _: time.sleep(0.002)).get_many(mpids)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            assert found == {mpid: json.dumps({"title": mpid}, separators=(",", ":")) for mpid in mpids}
    assert sorted(asked) == sorted(mpids)


def test_an_episode_of_opencast_is_taken_apart_and_a_missing_one_is_empty():
    class Answers:
        def episode(self, mpid):
            return {"mediapackage": {"title": "Lecture 1"}} if mpid == "a" else None

    fetch = fetch_from(Answers())
    assert (fetch("a"), fetch("b")) == ({"title": "Lecture 1"}, {})


def test_it_is_told_whether_look_ups_work_at_all(server):
    def down(mpid):
        raise SourceError("the search is down")

    assert cache(server, Source()).answers()
    assert not cache(server, down).answers()
