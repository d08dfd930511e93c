"""What stands on a stream: the newest failure of each place, ticks, gaps, and clocks; against a real Redis."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis as redis_
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.fakes import at, span
from uaharvest import keys
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    BusyError,
    PoisonError,
    PutOffError,
    RetryableError,
    SourceError,
    SpanRefusedError,
)
from uaharvest.runs.state import Clocks, StreamState, reason_of, source_clock

SECRET = "ann@example.edu"


@pytest.fixture
def state(client):
    return StreamState(client, "useractions")


def age(client, seconds):
    """Let all that failed have failed so many seconds earlier."""
    for place, text in client.hgetall("uaharvest:failed:useractions").items():
        entry = json.loads(text)
        entry |= {name: entry[name] - seconds * 1000 for name in ("at", "since")}
        client.hset("uaharvest:failed:useractions", place, json.dumps(entry))


def fail(error):
    raise error


def raised(error):
    try:
        fail(error)
    except Exception as caught:  # noqa: BLE001 - any
        return caught


def test_nothing_stands_on_a_stream_that_never_failed(state):
    assert (state.failures(), state.failure(), state.blocked()) == ([], None, None)


def test_a_failure_has_its_reason_its_time_and_since_when_it_is_the_same(state, client):
    state.failed("working", BlockedError("why"))
    age(client, 600)
    state.failed("working", BlockedError("why"))
    failure = state.failure()
    assert (failure.place, failure.reason, failure.exit_code, failure.blocks) == ("working", "why", 4, True)
    assert timedelta(seconds=599) < failure.at - failure.since < timedelta(seconds=660)
    state.failed("working", BlockedError("something else"))
    assert state.failure().since == state.failure().at


@pytest.mark.parametrize(
    "newer", [RetryableError("the host is down"), SourceError("no answer"), ValueError(SECRET)]
)
def test_a_former_culprit_does_not_outlive_a_newer_failure(state, newer):
    state.failed("opening", BlockedError("OPENCAST_TIMEZONE is 'UTC'"))
    state.failed("opening", newer)
    assert [failure.reason for failure in state.failures()] == [reason_of(newer)]
    assert state.blocked() is None


def test_what_succeeds_at_one_place_says_nothing_of_the_other(state):
    state.failed("opening", BlockedError("zone"))
    state.failed("working", BlockedError("queue"))
    state.passed("working")
    assert state.blocked().reason == "zone"
    state.passed("opening")
    assert state.blocked() is None


def test_the_newest_of_all_places_comes_first(state, client):
    state.failed("working", BlockedError("queue"))
    age(client, 5)
    state.failed("opening", RetryableError("the host is down"))
    assert [failure.place for failure in state.failures()] == ["opening", "working"]
    assert state.failure().reason == "the host is down"
    assert state.blocked().reason == "queue"
    assert state.failure("working").reason == "queue"


def test_streams_share_nothing(state, client):
    state.failed("working", BlockedError("why"))
    state.tick(60)
    other = StreamState(client, "zoom")
    assert (other.failures(), other.ticked_at()) == ([], None)


@pytest.mark.parametrize(
    ("error", "exit_code", "blocks"),
    [
        (BlockedError("x"), 4, True),
        (SpanRefusedError("x"), 3, True),
        (BadInputError("x"), 2, True),
        (RetryableError("x"), 1, False),
        (PoisonError("x"), 1, False),
        (ValueError("x"), 1, False),
        (RedisConnectionError("x"), 1, False),
    ],
)
def test_only_what_a_person_must_change_blocks(state, error, exit_code, blocks):
    state.failed("opening", error)
    assert (state.failure().exit_code, state.failure().blocks) == (exit_code, blocks)


@pytest.mark.parametrize("error", [PutOffError("not its turn", datetime.now(UTC)), BusyError("another is at it")])
def test_what_waits_for_its_turn_has_not_failed(state, error):
    state.failed("opening", error)
    assert state.failure() is None


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), UnicodeError(SECRET), Exception(SECRET)])
def test_of_an_exception_that_is_not_our_own_type_and_place_are_kept_and_no_text(state, client, error):
    state.failed("working", raised(error))
    reason = state.failure().reason
    assert reason.startswith(f"unexpected {type(error).__name__} at test_state.py:")
    assert SECRET not in str(client.hgetall("uaharvest:failed:useractions"))


def test_a_redis_that_takes_no_writes_does_not_turn_one_failure_into_another(state, client):
    client.config_set("maxmemory", "1")
    try:
        state.failed("opening", BlockedError("why"))
    finally:
        client.config_set("maxmemory", "0")
    assert state.failure() is None


def test_a_redis_that_is_gone_does_not_either():
    with redis_.Redis(port=1, decode_responses=True) as nowhere:
        StreamState(nowhere, "useractions").failed("opening", BlockedError("why"))


# Ticks


def test_beat_is_heard_by_its_ticks(state):
    assert state.ticked_at() is None
    assert state.tick(60)
    assert abs(state.ticked_at() - state.now()) < timedelta(seconds=30)


def test_ticks_that_waited_in_an_outage_are_one(state, client):
    assert [state.tick(600) for _ in range(5)] == [True, False, False, False, False]
    client.set("uaharvest:ticked:useractions", (state.now().timestamp() - 301) * 1000)
    assert state.tick(600)


def test_a_redis_whose_clock_was_set_back_does_not_silence_beat(state, client):
    client.set("uaharvest:ticked:useractions", (state.now().timestamp() + 86_400) * 1000)
    assert state.tick(600)


# Clocks


def test_a_clock_is_compared_with_that_of_redis(client):
    clocks = Clocks(client, "useractions")
    now = clocks.now()
    assert clocks.compare("Opencast", now + timedelta(hours=2), now) == 7200
    assert clocks.compare("beat", now - timedelta(minutes=5), now) == -300
    assert {clock.name: clock.ahead for clock in clocks.compared()} == {"Opencast": 7200, "beat": -300}


def test_a_host_that_has_said_nothing_for_an_hour_is_forgotten(client):
    clocks = Clocks(client, "useractions")
    now = clocks.now()
    clocks.compare("worker a", now, now)
    clocks.compare("worker b", now, now)
    client.hset(
        "uaharvest:clocks:useractions", "worker a", json.dumps({"ahead": 9, "at": clocks.now().timestamp() - 3601})
    )
    assert [clock.name for clock in clocks.compared()] == ["worker b"]
    assert client.hkeys("uaharvest:clocks:useractions") == ["worker b"]


def test_clocks_of_two_deployments_in_one_redis_do_not_meet(client):
    ours, others = (Clocks(client, keys.place("useractions", digest)) for digest in ("a", "b"))
    now = ours.now()
    ours.compare(source_clock("useractions"), now, now)
    others.compare(source_clock("useractions"), now + timedelta(hours=2), now)
    assert [clock.ahead for clock in ours.compared()] == [0]


# Gaps


def test_gaps_are_kept_until_they_end_before_the_bound(state):
    state.add_gap(span(0, 10))
    state.add_gap(span(5, 20))
    assert state.gaps() == [span(0, 10), span(5, 20)]
    state.trim_gaps(at(9))
    assert len(state.gaps()) == 2
    state.trim_gaps(at(10))
    assert state.gaps() == [span(5, 20)]


def test_gaps_in_time_that_is_harvested_again_are_dropped(state):
    state.drop_gaps(at(0))
    for gap in (span(0, 10), span(9, 30), span(10, 20), span(40, 50)):
        state.add_gap(gap)
    state.drop_gaps(at(10))
    assert state.gaps() == [span(0, 10), span(9, 30)]


# Waking


def test_of_those_who_want_to_go_on_at_the_same_time_one_does(client):
    one, another = (StreamState(client, f"zoom:{deployment}") for deployment in ("one", "another"))
    assert one.wakes(None, at(5), wait=60)
    assert not one.wakes(None, at(5), wait=60)
    assert one.wakes("run", at(5), wait=60)
    assert one.wakes(None, at(6), wait=60)
    assert another.wakes(None, at(5), wait=60)
