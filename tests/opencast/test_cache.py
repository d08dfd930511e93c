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
from uaharvest.opencast.cache import NO_EPISODE, EpisodeCache, Failing, fetch_from


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
    (key,) = server.keys("*:part:*")
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


def test_of_a_search_that_is_down_only_a_few_are_asked_for(server):
    asked = []

    def fetch(mpid):
        asked.append(mpid)
        raise SourceError("Opencast is away")

    episodes = cache(server, fetch)
    with pytest.raises(SourceError):
        episodes.get_many(map(str, range(100)))
    episodes._threads.shutdown(wait=True)
    assert len(asked) <= 5  # one in each thread, and the neutral one


# One episode's refusal


class Refusing(Source):
    """A search that fails at some episodes."""

    def __init__(self, errors, *, down=False):
        super().__init__()
        self.errors = errors
        self.down = down

    def __call__(self, mpid):
        self.asked.append(mpid)
        if self.down or mpid in self.errors:
            raise self.errors.get(mpid) or SourceError("down")
        return {} if mpid == NO_EPISODE else {"title": mpid}


def test_a_refusal_of_one_episode_is_its_own_and_asked_for_once_in_a_while(server):
    source = Refusing({"bad": BlockedError("403 from a firewall")})
    episodes = cache(server, source)
    for _ in range(3):
        assert episodes.get_many(["a", "bad", "b"]) == {"a": '{"title":"a"}', "b": '{"title":"b"}'}
    assert source.asked.count("bad") == 1
    assert episodes.failing(["a", "bad"]) == {"bad": Failing("403 from a firewall", final=True)}
    assert 250 < server.ttl(*server.keys("*failing*")) <= 300


def test_an_episode_at_which_the_search_breaks_is_tried_again_and_then_given_up(server):
    source = Refusing({"bad": SourceError("500")})
    episodes = cache(server, source)
    for tries in range(1, 4):
        assert episodes.get_many(["bad"]) == episodes.get_many(["bad"]) == {}
        assert source.asked.count("bad") == tries
        assert episodes.failing(["bad"]) == {"bad": Failing("500", final=tries == 3)}
        server.delete(*server.keys("*failing*"))  # its time is over
    assert server.keys()  # how often it was tried is remembered


def test_a_search_that_is_down_is_nobodys_refusal(server):
    source = Refusing({}, down=True)
    with pytest.raises(SourceError, match="down"):
        cache(server, source).get_many(["bad"])
    assert server.keys() == []


def test_a_search_that_refuses_everybody_blocks(server):
    refused = BlockedError("who are you?")
    source = Refusing({"a": refused, NO_EPISODE: refused})
    with pytest.raises(BlockedError, match="who are you"):
        cache(server, source).get_many(["a"])
    assert server.keys() == []


@pytest.mark.parametrize("error", [SourceError("500"), BlockedError("403")])
def test_a_search_that_fails_at_all_it_has_is_not_the_episodes_fault(server, error):
    mpids = [str(number) for number in range(8)]
    with pytest.raises(type(error)):
        cache(server, Refusing(dict.fromkeys(mpids, error))).get_many(mpids)
    assert server.keys() == []


def test_one_that_was_found_before_shows_that_the_search_now_fails_at_all(server):
    source = Refusing({})
    episodes = cache(server, source)
    episodes.get_many(["good"])
    source.errors = dict.fromkeys(["good", "a"], SourceError("500"))
    with pytest.raises(SourceError):
        episodes.get_many(["a"])
    assert episodes.failing(["a"]) == {}


def test_many_refused_ids_are_their_own_fault_in_a_process_that_has_found_none_yet(server):
    """At night there may be no others, and a worker that has just started knows of none."""
    bad = {f"' OR {number}=1 --": BlockedError("403") for number in range(20)}
    source = Refusing(bad)
    cache(server, source).get_many(["good"])
    server.delete(part_key(server))
    episodes = cache(server, source)
    assert episodes.get_many(bad) == {}
    assert episodes.failing(bad).keys() == bad.keys()
    source.errors = {**bad, "good": BlockedError("403"), "new": BlockedError("403")}
    with pytest.raises(BlockedError, match="403"):
        cache(server, source).get_many(["new"])


def test_many_refused_ids_hide_no_episode_that_is_found(server):
    """Anybody may store useractions with any id."""
    bad = {f"' OR {number}=1 --": BlockedError("403") for number in range(20)}
    source = Refusing(bad)
    assert cache(server, source).get_many([*bad, "good"]) == {"good": '{"title":"good"}'}


def test_who_asks_again_is_not_held_off_by_a_former_refusal(server):
    source = Refusing({"bad": BlockedError("403")})
    episodes = cache(server, source)
    episodes.get_many(["bad"])
    source.errors = {}
    assert episodes.get_many(["bad"]) == {}
    assert episodes.ask_again(["bad"]) == {"bad": '{"title":"bad"}'}


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
