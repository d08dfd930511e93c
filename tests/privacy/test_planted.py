"""The planted person goes through every stream in this process; nothing that leaves it names them."""

import json
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import FakeReporter, FakeS3, at, span
from tests.fakes import World as ActionsWorld
from tests.privacy import planted
from tests.privacy.planted import found
from tests.stock import StockWorld
from uaharvest.dead_letters import DeadLetters
from uaharvest.documents import indexed
from uaharvest.errors import PoisonError
from uaharvest.importing.files import opened
from uaharvest.importing.importer import Importer, ToDocuments
from uaharvest.importing.positions import Positions
from uaharvest.indexer import Indexer
from uaharvest.opencast.cache import Failing
from uaharvest.privacy.pseudonyms import PseudonymKey, Pseudonyms
from uaharvest.privacy.site import protection
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.records import RecordsToDocuments
from uaharvest.streams.time_slice import TimeSlice
from uaharvest.streams.zoom.documents import MeetingDocuments
from uaharvest.streams.zoom.lists import MeetingLists
from uaharvest.streams.zoom.slices import Meeting
from uaharvest.zoom.rows import read_meeting, read_participant

KEYS = (("k2", "a secret of sixteen or more"), ("k1", "an older secret of sixteen"))
ON = {"privacy_pseudonyms": KEYS, "privacy_address": "truncated", "privacy_agent": "family"}
NOTHING = {**ON, "privacy_address": "none", "privacy_agent": "none"}
person = Pseudonyms([PseudonymKey(*key) for key in KEYS]).of


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
        assert set(found(body, planted.EVERYTHING)) > {
            planted.LOGIN,
            planted.ADDRESS,
            planted.TERM,
            planted.SESSION,
        }
        assert "geoip" not in json.loads(body)


def test_a_stock_opencast_is_protected_too(client):
    world, sink = StockWorld(client, **ON), Sink()
    world.opencast._json = lambda row: planted.action(row.id, created=row.created.isoformat(), type="FOOTPRINT")
    world.stream._delivery._sink = sink
    world.start_at(at(0))
    world.clock.now = at(400)
    world.opencast.add(at(100))
    world.settle()
    (body,) = sink.bodies
    assert found(body, planted.EVERYTHING) == []


def test_a_record_says_what_its_values_are(client):
    live = Live(client, ON)
    live.work(1)
    record = json.loads(live.sink.bodies[0])
    assert record["huid"] == person(planted.LOGIN)
    assert record["session_id"] == person(planted.SESSION)
    assert (record["ip"], record["proxy1"], record["action"]["type"]) == (
        "203.0.113.0",
        "2001:db8:7777::",
        "SEARCH",
    )
    assert record["ua"] == {"name": "Chrome Mobile", "os": "Android", "os_name": "Android"}
    assert "useragent" not in record


@pytest.mark.parametrize("kind", ["refused", "unreadable", "no episode"])
def test_dead_letters_of_useractions_hold_what_records_hold_and_are_replayed_as_these(client, kind):
    live = Live(client, {**ON, "batch_size": 100})
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


class Store:
    """Keeps documents, or refuses them."""

    def __init__(self):
        self.documents = []
        self.refuses = False

    def write(self, documents):
        documents = list(documents)
        if self.refuses:
            yield Receipt(refused=[(one, "refused") for one in documents])
        else:
            self.documents += documents
            yield Receipt(documents)

    def get_many(self, keys):
        return {}

    @property
    def text(self):
        return json.dumps([[one.index, one.id, dict(one.body)] for one in self.documents])


LOCATED = {"ip": planted.ADDRESS, "city_name": "Boston", "location": [-71.0, 42.0]}


class Zoom:
    """What writes the documents of meetings."""

    def __init__(self, client, settings):
        self.store, self.s3 = Store(), FakeS3()
        self.dead_letters = DeadLetters(self.s3, "bucket", "dead/")
        self.documents = MeetingDocuments(
            self.store,
            self.dead_letters,
            Settings(opencast_zone=ZoneInfo("UTC"), **settings),
            client=client,
            place="zoom",
            locate=lambda address: LOCATED if address == planted.ADDRESS else None,
        )
        self.lists = MeetingLists(None, self.documents, client=client, place="zoom")

    def take(self, *rows):
        days = (date(2026, 11, 17), date(2026, 11, 17))
        return self.lists.take([read_meeting(row) for row in rows], "past", "dashboard", days, set())

    def harvest(self, *rows):
        (one,) = self.take(planted.meeting())
        return self.documents.write_sessions(one, [read_participant(row) for row in rows])

    def letters(self):
        return b"\n".join(self.s3.objects.values())


@pytest.mark.parametrize(
    ("settings", "absent"),
    [({}, [planted.MAC]), ({"privacy_pseudonyms": KEYS}, planted.IDENTITIES), (NOTHING, planted.EVERYTHING)],
)
def test_documents_of_zoom_hold_nothing_of_the_planted_person_that_the_site_gives_up(client, settings, absent):
    zoom = Zoom(client, settings)
    zoom.harvest(planted.participant(), planted.participant(user_id="", participant_uuid=""))
    assert len(zoom.store.documents) == 4
    assert found(zoom.store.text, absent) == []
    if not settings:
        assert set(found(zoom.store.text, planted.EVERYTHING)) >= {planted.NAME, planted.EMAIL, planted.ZOOM_ID}


def test_a_document_of_zoom_says_what_its_values_are(client):
    zoom = Zoom(client, ON)
    zoom.harvest(planted.participant())
    meeting, session, _ = (one.body for one in zoom.store.documents)
    assert meeting["topic"] == f"{person(planted.NAME)}'s Zoom Meeting"
    assert meeting["host"] == {
        "host_id": person(planted.ZOOM_ID),
        "name": person(planted.NAME),
        "email": person(planted.EMAIL),
    }
    assert meeting["tracking_fields"] == [{"field": "Owner", "value": person(planted.EMAIL)}]
    assert (session["email"], session["user_name"]) == (person(planted.EMAIL), person(planted.NAME))
    assert session["geoip"] == {"ip": "203.0.113.0", "city_name": "Boston", "location": [-71.0, 42.0]}
    assert (session["ip_address"], session["city"], session["client"]) == ("203.0.113.0", "Boston", "Zoom")
    assert {"version", "os_version", "leave_reason"}.isdisjoint(session)


@pytest.mark.parametrize("kind", ["listed", "session", "row", "meeting row"])
def test_dead_letters_of_zoom_hold_what_documents_hold_and_are_replayed_as_these(client, kind):
    zoom = Zoom(client, NOTHING)
    zoom.harvest(planted.participant())
    written = [(one.index, one.id, one.body) for one in zoom.store.documents]
    zoom.store.documents.clear()
    zoom.store.refuses = kind in {"listed", "session"}
    if kind == "listed":
        zoom.take(planted.meeting())
    elif kind == "meeting row":
        zoom.take(planted.meeting("u" * 600))
    elif kind == "session":
        zoom.documents.write_sessions(
            Meeting("past", "uuid==", planted.AT, "state"), [read_participant(planted.participant())]
        )
    else:
        zoom.harvest(planted.participant(user_id="", participant_uuid="", join_time=""))
    letters = [zoom.dead_letters.get(name) for name in zoom.dead_letters.names()]
    assert letters
    assert found(zoom.letters(), planted.EVERYTHING) == []
    zoom.store.refuses = False
    zoom.store.documents.clear()
    for letter in letters:
        if "document" in letter.payload:
            zoom.documents.write_again(letter.payload["document"])
    again = [(one.index, one.id, one.body) for one in zoom.store.documents]
    assert all(one in written for one in again)
    assert bool(again) == (kind in {"listed", "session"})


def test_without_any_protection_dead_letters_leave_out_what_documents_leave_out(client):
    zoom = Zoom(client, {})
    zoom.harvest(planted.participant(user_id="", participant_uuid="", join_time=""))
    (letter,) = map(zoom.dead_letters.get, zoom.dead_letters.names())
    left_out = {"internal_ip_addresses", "device_name", "pc_name", "mac_addr", "harddisk_id", "sip_uri"}
    assert letter.payload["row"].keys() == planted.participant().keys() - left_out
    live = Live(client, {"batch_size": 100})
    told = live.world.opencast.told
    live.world.opencast.told = lambda row: (
        told(row) if row.id > 1 else told(row) | {"created": "long ago", "secret": planted.MAC}
    )
    live.work(*range(30))
    ((_, payload),) = live.world.dead()
    assert payload == {"raw": planted.action(1, created="long ago")}


# The same person


def test_a_person_has_one_pseudonym_in_all_streams(client):
    live = Live(client, ON)
    live.world.opencast.told = lambda row: planted.action(
        row.id, created=row.created.isoformat(), sessionId={"userId": planted.EMAIL.upper()}
    )
    live.work(1)
    zoom = Zoom(client, ON)
    zoom.harvest(planted.participant(customer_key=planted.LOGIN))
    meeting, session, _ = (one.body for one in zoom.store.documents)
    login = json.loads(live.sink.bodies[0])["huid"]
    assert login == meeting["host"]["email"] == session["email"] == person(planted.EMAIL.lower())
    live = Live(client, ON)
    live.work(1)
    assert json.loads(live.sink.bodies[0])["huid"] == session["customer_key"] == person(planted.LOGIN)


# Behind the queue


def indexer(settings, store, s3):
    chosen = Settings(opencast_zone=ZoneInfo("UTC"), **settings)
    return Indexer(
        None,
        store,
        dead_letters=DeadLetters(s3, "bucket", "dead/"),
        shared=None,
        locate=lambda _: None,
        protection=protection(chosen),
        settings=chosen,
    )


def queued(client, settings):
    """A message as a worker with these settings sends it."""
    live = Live(client, settings)
    live.work(1)
    return live.sink.bodies[0]


class Message:
    id = handle = "message"

    def __init__(self, body):
        self.body = body


@pytest.mark.parametrize("before", [{}, ON])
def test_the_indexer_protects_messages_that_were_queued_before(client, before):
    indexing = indexer(ON, Store(), FakeS3())
    (record,) = indexed.records(queued(client, before))
    body = indexing._document(record).body
    assert found(json.dumps(body), planted.EVERYTHING) == []
    (record,) = indexed.records(queued(client, ON))
    assert indexing._document(record).body == body


@pytest.mark.parametrize("kind", ["no JSON", "no id", "refused", "text"])
def test_dead_letters_of_the_indexer_hold_nothing_of_the_planted_person(client, kind):
    indexing = indexer(ON, Store(), FakeS3())
    body = queued(client, {})
    text = {
        "no JSON": body[:-1],
        "no id": body.replace('"action_id":1', '"action_id":"none"'),
        "refused": body,
        "text": json.dumps([planted.LOGIN]),
    }[kind]
    batch = type("Batch", (), {"messages": [], "documents": [], "unreadable": [], "size": 0})()
    indexing._read(batch, [Message(text)])
    letters = [letter for _, letter in batch.unreadable]
    letters += [indexing._letter(document, "refused")[1] for document in batch.documents]
    (letter,) = letters
    assert found(json.dumps(letter.payload), planted.EVERYTHING) == []
    if kind == "no JSON":
        with pytest.raises(PoisonError, match=r"withheld: .* characters that cannot be read"):
            letter.records()
    if kind == "refused":
        (record,) = letter.records()
        assert found(json.dumps(indexing._document(record).body), [person(planted.LOGIN)])


def test_a_backfill_to_documents_stores_what_the_indexer_would(client):
    live, store = Live(client, ON), Store()
    live.world.stream._delivery._sink = RecordsToDocuments(store, lambda _: pytest.fail("located"), None)
    live.world.opencast.told = lambda row: planted.action(
        row.id, created=row.created.isoformat(), sessionId={"userId": planted.LOGIN, "sessionId": planted.SESSION}
    )
    live.work(1)
    assert store.documents
    assert found(store.text, planted.EVERYTHING) == []


def lines(client):
    """A file with records in each of its forms, and two that cannot be read."""
    record = json.loads(queued(client, {}))
    document = {"@timestamp": "2026-11-17T10:00:00.000Z", **record}
    del document["timestamp"]
    dumped = {
        "_index": "useractions-x",
        "_id": "5",
        "_source": {**document, "hostname": f"{planted.LOGIN}.example"},
    }
    good = [record, document, dumped, {**record, "action_id": 9, "message": planted.NAME}]
    bad = [{**dumped, "_source": {**document, "action_id": "x"}}]
    return [json.dumps(one) for one in good * 20 + bad] + [json.dumps(record)[:-1]]


def test_an_import_stores_nothing_of_the_planted_person(client, tmp_path):
    path = tmp_path / "lines"
    path.write_text("\n".join(lines(client)))
    store, s3 = Store(), FakeS3()
    chosen = Settings(opencast_zone=ZoneInfo("UTC"), **ON)
    made = Importer(
        ToDocuments(store, lambda _: None, None),
        label="documents",
        dead_letters=DeadLetters(s3, "bucket", "dead/"),
        positions=Positions(s3, "bucket", "here"),
        zone=ZoneInfo("UTC"),
        protection=protection(chosen),
    )
    with opened(str(path)) as file:
        *_, last = made.run(file)
    assert last.counts.dead == 2
    assert store.documents
    assert found(store.text, planted.EVERYTHING) == []
    assert found(b"\n".join(s3.objects.values()), planted.EVERYTHING) == []
    assert {one.body["huid"] for one in store.documents} == {person(planted.LOGIN)}
