"""The planted person goes through every stream in this process; nothing that leaves it names them."""

import json
from datetime import timedelta

import pytest
from redis import Redis

from tests.fakes import FakeReporter, at, span
from tests.fakes import World as ActionsWorld
from tests.privacy import planted
from tests.privacy.planted import found
from uaharvest.errors import PoisonError
from uaharvest.opencast.cache import Failing
from uaharvest.privacy.pseudonyms import Key, Pseudonyms
from uaharvest.sinks import Receipt
from uaharvest.streams.time_slice import TimeSlice

KEYS = (("k2", "a secret of sixteen or more"), ("k1", "an older secret of sixteen"))
ON = {"privacy_pseudonyms": KEYS, "privacy_address": "truncated", "privacy_agent": "family"}
NOTHING = {**ON, "privacy_address": "none", "privacy_agent": "none"}
person = Pseudonyms([Key(*key) for key in KEYS]).of


class Sink:
    """Keeps what it is sent."""

    def __init__(self):
        self.bodies = []
        self.refuses = False

    def deliver(self, records):
        for record in records:
            if self.refuses:
                yield Receipt(refused=[(record, "refused")])
            else:
                self.bodies.append(record.body)
                yield Receipt([record])


def stored_in(client):
    """Everything in Redis, as bytes."""
    return b"\n".join(
        key + b"=" + (client.dump(key) or b"") for key in Redis(connection_pool=client.connection_pool).keys()
    )


class Live:
    """A site with a live Opencast."""

    def __init__(self, client, settings):
        self.world = ActionsWorld(client, **settings)
        self.world.start_at(at(0))
        self.world.clock.now = at(180)
        self.sink = Sink()
        self.world.stream._delivery._sink = self.sink
        self.run = self.world.engine.ask(span(0, 100), self.world.options(), may_move=False)
        self.world.opencast.told = lambda row: planted.action(row.id, created=row.created.isoformat())

    def work(self, *instants):
        self.world.opencast.add(*map(at, instants))
        reporter = FakeReporter()
        reporter.watched = []
        reporter.watch = reporter.watched.extend
        self.done = self.world.stream.work(self.run, TimeSlice(span(0, 100)), reporter)
        return reporter

    def letters(self):
        return b"\n".join(self.world.s3.objects.values())


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({}, []),
        ({"privacy_pseudonyms": KEYS}, planted.IDENTITIES),
        (ON, planted.EVERYTHING),
        (NOTHING, planted.EVERYTHING),
    ],
)
def test_the_queue_holds_nothing_of_the_planted_person_that_the_site_gives_up(client, settings, absent):
    live = Live(client, settings)
    reporter = live.work(1)
    (body,) = live.sink.bodies
    assert found(body, absent) == []
    assert [row.session for row in reporter.watched] == [json.loads(body)["session_id"]]
    if not settings:  # the search itself finds what is there
        assert set(found(body, planted.EVERYTHING)) > {planted.LOGIN, planted.ADDRESS, planted.TERM, planted.SESSION}
        assert "geoip" not in json.loads(body)


def test_a_record_says_what_its_values_are(client):
    live = Live(client, ON)
    live.work(1)
    record = json.loads(live.sink.bodies[0])
    assert record["huid"] == person(planted.LOGIN)
    assert record["session_id"] == person(planted.SESSION)
    assert (record["ip"], record["proxy1"], record["action"]["type"]) == ("203.0.113.0", "2001:db8:7777::", "SEARCH")
    assert record["ua"] == {"name": "Chrome Mobile", "os": "Android", "os_name": "Android"}
    assert "useragent" not in record


@pytest.mark.parametrize("kind", ["refused", "unreadable", "no episode"])
def test_dead_letters_of_useractions_hold_what_records_hold_and_are_replayed_as_these(client, kind):
    live = Live(client, ON)
    live.work(1)
    (whole,) = live.sink.bodies
    live.sink.bodies.clear()
    told = live.world.opencast.told
    if kind == "unreadable":
        live.world.opencast.told = lambda row: (
            told(row) if row.id > 1 else told(row) | {"created": "long ago", "secret": planted.NAME}
        )
        live.work(*range(2, 30))
    else:
        live.sink.refuses = kind == "refused"
        if kind == "no episode":
            live.world.episodes.refused = {"lecture": Failing("403", final=True)}
        live.work()
    assert live.done.dead == 1
    assert found(live.letters(), planted.EVERYTHING) == []
    ((_, payload),) = live.world.dead()
    live.sink.refuses, live.world.episodes.refused = False, {}
    live.sink.bodies.clear()
    if kind == "unreadable":
        with pytest.raises(PoisonError):
            live.world.stream.redeliver(payload)
        payload["raw"]["created"] = "2026-11-20T12:00:01+00:00"
    live.world.stream.redeliver(payload)
    (replayed,) = live.sink.bodies
    same = json.loads(replayed)
    assert {**same, "timestamp": ""} == {**json.loads(whole), "timestamp": ""}


def test_redis_knows_the_session_of_a_footprint_by_its_pseudonym(client):
    digests = []
    for settings in ({}, ON):
        client.flushall()
        live = Live(client, settings)
        live.world.opencast.told = lambda row: planted.action(
            row.id, created=row.created.isoformat(), type="FOOTPRINT"
        )
        live.world.opencast.add(at(5))
        live.world.clock.now = at(200)
        live.world.harvest()
        assert live.sink.bodies
        (key,) = client.keys("*:sessions")
        digests += client.hkeys(key)
        assert found(stored_in(client), planted.EVERYTHING if settings else []) == []
    assert len(set(digests)) == 2
