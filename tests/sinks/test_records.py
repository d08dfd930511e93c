"""Records that are stored as documents without a queue in between."""

import json

import pytest

from tests.test_indexer import MemoryStore
from uaharvest import assembly
from uaharvest.documents.useraction import record
from uaharvest.errors import IndexBlockedError
from uaharvest.geolite import nowhere
from uaharvest.opencast.actions import read_action
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.records import RecordsToDocuments

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:65.0) Gecko/20100101 Firefox/65.0"


def outgoing(number, **changes):
    created = f"2026-11-{19 + number % 2}T23:59:0{number}+01:00"
    row = {"id": number, "created": created, "mediapackageId": "m", "type": "PLAY", "inpoint": 5, "length": 2}
    action = read_action({**row, "isPlaying": True, **changes})
    return Outgoing(action.id, action.created.timestamp(), record(action, '{"title":"\\u00c9tude"}'))


@pytest.fixture
def records():
    return [
        outgoing(1),
        outgoing(2, userAgent=AGENT, userIp="192.0.2.1"),
        outgoing(3, type="FOOTPRINT", outpoint=70),
        outgoing(4, userId={"userName": "lone \ud800 surrogate"}, sessionId="s"),
        outgoing(3, type="FOOTPRINT", outpoint=60),  # shorter, and read later
    ]


@pytest.mark.usefixtures("redis")
def test_the_documents_are_those_that_the_queue_and_the_indexer_give(valkey_url, tmp_path, records, bucket):
    stores = {}
    for way in ("queue", "documents"):
        settings = Settings(
            queue="records-to-documents",
            bucket=bucket,
            redis_url=valkey_url,
            documents_url=f"sqlite:///{tmp_path / way}.db",
            index_infix="site",
        )
        stores[way] = assembly.document_store(settings)
        if way == "queue":
            assert sum(len(sent.confirmed) for sent in assembly.sqs_sink(settings).deliver(records)) == 5
            assert assembly.indexer(settings).drain().indexed == 5
        else:
            sink = assembly.records_to_documents(settings)
            assert sum(len(stored.confirmed) for stored in sink.deliver(records)) == 5
    documents = {way: list(store.select("useractions*")) for way, store in stores.items()}
    assert documents["documents"] == documents["queue"]
    assert len(documents["queue"]) == 4
    assert {one["action"]["outpoint"] for one in documents["queue"] if one["action"]["type"] == "FOOTPRINT"} == {
        70
    }


def test_each_record_is_confirmed_or_refused_by_itself(records):
    store = MemoryStore()
    store.refuse = {"2"}
    broken = Outgoing(9, 0.0, json.dumps({"action_id": "nine"}))
    receipts = list(RecordsToDocuments(store, nowhere, None).deliver([*records[:2], broken]))
    assert [row.id for one in receipts for row in one.confirmed] == [1]
    refused = {row.id: reason for one in receipts for row, reason in one.refused}
    assert refused == {2: "400 no", 9: "the record has no action_id that is a whole number"}


def test_an_index_that_takes_nothing_blocks_but_the_others_have_confirmed_theirs(records):
    store = MemoryStore()
    store.blocked = {"useractions-2026.11.20": "is read-only"}
    confirmed = []

    def deliver():
        for one in RecordsToDocuments(store, nowhere, None).deliver(records):
            confirmed.extend(row.id for row in one.confirmed)

    with pytest.raises(IndexBlockedError, match="read-only"):
        deliver()
    assert confirmed == [2, 4]
