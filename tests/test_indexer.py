import copy
import dataclasses
import json
import threading
import time
import uuid

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from uaharvest import assembly, aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import BlockedError, IndexBlockedError, PoisonError, RetryableError
from uaharvest.geolite import nowhere
from uaharvest.indexer import Indexer, Tally
from uaharvest.privacy.site import protection
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.receiver import Receiver

DAY = "useractions-2026.11.20"


class MemoryStore:
    """A store that keeps what Elasticsearch would keep, and fails as it is told to."""

    def __init__(self):
        self.documents = {}
        self.versions = {}
        self.writes = []  # how many documents each bulk had
        self.refuse = set()
        self.blocked = {}  # indices that take nothing, and why
        self.fail = None  # called with the documents of each bulk; may raise
        self.lock = threading.Lock()

    def write(self, documents):
        documents = list(documents)
        with self.lock:
            self.writes.append(len(documents))
        blocked = {index: self.blocked[index] for index in {one.index for one in documents} & set(self.blocked)}
        documents = [document for document in documents if document.index not in blocked]
        half = len(documents) // 2
        for number, part in enumerate((documents[:half], documents[half:])):
            if number and self.fail:
                self.fail(documents)
            with self.lock:
                for document in part:
                    if document.id not in self.refuse:
                        self._put(document)
            yield Receipt(confirmed=[document for document in part if document.id not in self.refuse])
        refused = [document for document in documents if document.id in self.refuse]
        if len(refused) > 3:
            raise BlockedError("the store refuses many")
        yield Receipt(refused=[(document, "400 no") for document in refused])
        if blocked:
            raise IndexBlockedError(blocked)

    def _put(self, document):
        key = (document.index, document.id)
        if document.version is None or document.version >= self.versions.get(key, -1):
            self.versions[key] = document.version or 0
            self.documents[key] = copy.deepcopy(document.body)


def record(number, **changes):
    return {
        "action_id": number,
        "timestamp": "2026-11-20T16:00:02+00:00",
        "action": {"type": "HEARTBEAT", "inpoint": number, "outpoint": number, "length": 0},
        **changes,
    }


class Queue:
    def __init__(self, name):
        self.sqs = boto3.client("sqs")
        self.url = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def send(self, *bodies):
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": body if isinstance(body, str) else json.dumps(body)}
                for n, body in enumerate(bodies[start : start + 10])
            ]
            assert not self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    @property
    def depth(self):
        """How many messages wait, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return tuple(int(found[name]) for name in names)


@pytest.fixture
def queue(queue_name):
    return Queue(queue_name)


@pytest.fixture
def settings(queue_name, bucket, valkey_url):
    return Settings(queue=queue_name, bucket=bucket, redis_url=valkey_url, lease=30)


@pytest.fixture
def dead_letters(settings):
    return DeadLetters(aws.s3_client(), settings.bucket, settings.dead_letter_prefix)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def shared(settings, redis):
    client = assembly.redis_client(settings)
    yield assembly.indexer_state(settings, client)
    client.close()


@pytest.fixture
def build(settings, store, dead_letters, shared, monkeypatch):
    """Make an indexer; what is given replaces the usual parts and settings."""
    monkeypatch.setattr("uaharvest.sinks.receiver.WAIT", 0)  # of one server an empty answer is an empty queue
    client = boto3.client("sqs")

    def indexer(dead_letters=dead_letters, **changes):
        changed = dataclasses.replace(settings, **changes)
        return Indexer(
            client,
            store,
            dead_letters=dead_letters,
            shared=shared,
            locate=nowhere,
            protection=protection(changed),
            settings=changed,
        )

    return indexer


@pytest.fixture
def indexer(build):
    return build()


def test_an_empty_queue_is_drained_at_once(indexer, store):
    tally = indexer.drain()
    assert (tally.indexed, tally.dead, store.writes) == (0, 0, [])


def test_single_records_and_arrays_become_documents_and_their_messages_go(indexer, queue, store):
    queue.send(record(1), [record(2), record(3)], [])
    assert indexer.drain().indexed == 3
    assert sorted(store.documents) == [(DAY, "1"), (DAY, "2"), (DAY, "3")]
    assert queue.depth == (0, 0)


def test_thousands_of_records_go_in_bulks(indexer, queue, store):
    queue.send(*([record(n) for n in range(start, start + 50)] for start in range(0, 5000, 50)))
    assert indexer.drain().indexed == 5000
    assert len(store.documents) == 5000
    assert len(store.writes) < 20
    assert max(store.writes) < 2000


def test_a_longer_footprint_stays_when_a_shorter_one_comes_late(indexer, queue, store):
    longer, shorter = (record(1, action={"type": "FOOTPRINT", "outpoint": n, "length": n}) for n in (60, 30))
    queue.send(longer)
    indexer.drain()
    queue.send(shorter)
    indexer.drain()
    assert store.documents[DAY, "1"]["action"]["outpoint"] == 60


def test_what_cannot_be_read_becomes_a_dead_letter_beside_records_that_go(indexer, queue, store, dead_letters):
    queue.send("no JSON", [record(1), {"huid": "60002627"}], record(2))
    tally = indexer.drain()
    assert (tally.indexed, tally.dead) == (2, 2)
    assert queue.depth == (0, 0)
    message, single = (dead_letters.get(name) for name in dead_letters.names("index"))
    assert (message.kind, message.payload) == ("message", {"body": "no JSON"})
    assert (single.kind, single.payload) == ("record", {"record": {"huid": "60002627"}})


def test_what_the_store_refuses_becomes_a_dead_letter_as_it_was_in_the_queue(indexer, queue, store, dead_letters):
    store.refuse = {"2"}
    queue.send([record(1), record(2), record(3)])
    assert indexer.drain().dead == 1
    assert queue.depth == (0, 0)
    letter = dead_letters.get("index/record-2")
    assert letter.reason == "400 no"
    assert letter.payload == {"record": record(2)}


def test_a_dead_letter_that_the_store_takes_now_is_indexed(indexer, queue, store, dead_letters):
    store.refuse = {"2"}
    queue.send([record(1), record(2)])
    indexer.drain()
    letter = dead_letters.get("index/record-2")
    with pytest.raises(PoisonError):
        indexer.redeliver(letter)
    store.refuse = set()
    assert indexer.redeliver(dead_letters.get("index/record-2")) == 1
    assert (DAY, "2") in store.documents


def test_a_message_that_still_cannot_be_read_stays_a_dead_letter(indexer, queue, dead_letters):
    queue.send("no JSON")
    indexer.drain()
    [name] = dead_letters.names("index")
    with pytest.raises(PoisonError, match="not JSON"):
        indexer.redeliver(dead_letters.get(name))


def test_a_store_that_fails_loses_nothing_and_gives_the_messages_back(indexer, queue, store, shared):
    def down(_):
        raise RetryableError("the store is down")

    store.fail = down
    queue.send(*(record(n) for n in range(40)))
    with pytest.raises(RetryableError):
        indexer.drain()
    waiting, hidden = queue.depth
    assert waiting + len(store.documents) >= 40
    assert waiting > 0
    assert hidden == 0
    assert shared.last()["error"] == "the store is down"
    assert shared.state.blocked() is None  # it passes by itself
    store.fail = None
    indexer.drain()
    assert len(store.documents) == 40
    assert queue.depth == (0, 0)
    assert shared.last()["error"] is None


def test_what_was_confirmed_before_the_store_failed_is_not_done_again(indexer, queue, store):
    def down(_):
        raise RetryableError("the store is down")

    store.fail = down
    queue.send([record(1)], [record(2)])
    with pytest.raises(RetryableError):
        indexer.drain()
    assert queue.depth == (1, 0)


def test_a_store_that_refuses_many_blocks_deletes_nothing_and_heals(indexer, queue, store, shared, dead_letters):
    store.refuse = {str(n) for n in range(40)}
    queue.send(*(record(n) for n in range(40)))
    with pytest.raises(BlockedError):
        indexer.drain()
    assert queue.depth == (40, 0)
    assert shared.state.blocked().reason == "the store refuses many"
    assert list(dead_letters.names("index")) == []
    store.refuse = set()
    indexer.drain()
    assert shared.state.blocked() is None
    assert len(store.documents) == 40


def test_a_culprit_that_was_mended_does_not_stand_while_the_store_is_down(indexer, queue, store, shared):
    def fails(error):
        def fail(_):
            raise error

        return fail

    queue.send(record(1))
    store.fail = fails(BlockedError("no right to write"))
    with pytest.raises(BlockedError):
        indexer.drain()
    store.fail = fails(RetryableError("the store is down"))
    with pytest.raises(RetryableError):
        indexer.drain()
    assert [failure.reason for failure in shared.state.failures()] == ["the store is down"]
    store.fail = None
    indexer.drain()
    assert shared.state.failures() == []


# One index that takes nothing

OLD_DAY = "useractions-2026.10.01"


def old(number, **changes):
    """A record of a day whose index is closed."""
    return record(number, timestamp="2026-10-01T16:00:02+00:00", **changes)


def test_an_index_that_takes_nothing_keeps_its_own_messages_and_no_others(
    indexer, queue, store, shared, dead_letters
):
    store.blocked = {OLD_DAY: f"{OLD_DAY} is closed"}
    queue.send(
        *([record(n), record(1000 + n)] for n in range(20)), old(3000), [old(3001), record(3002)], "no JSON"
    )
    with pytest.raises(IndexBlockedError, match=f"{OLD_DAY} is closed"):
        indexer.drain()
    assert queue.depth == (2, 0)
    assert len(store.documents) == 41  # and 3002, which comes again with its neighbour
    assert shared.counts() == {"indexed": 40, "dead": 1}
    assert len(list(dead_letters.names("index"))) == 1
    with pytest.raises(IndexBlockedError):
        indexer.drain()
    assert shared.state.blocked().reason == f"{OLD_DAY} is closed"
    store.blocked = {}
    assert indexer.drain().indexed == 3
    assert queue.depth == (0, 0)
    assert shared.state.blocked() is None
    assert shared.held() == {}
    assert shared.counts() == {"indexed": 43, "dead": 1}


def test_what_waits_for_an_index_does_not_hold_up_the_rest(indexer, queue, store):
    store.blocked = {OLD_DAY: "closed"}
    queue.send(*(old(n) for n in range(2500)))
    queue.send(*([record(n) for n in range(start, start + 100)] for start in range(10_000, 30_000, 100)))
    with pytest.raises(IndexBlockedError):
        indexer.drain(seconds=300)
    assert len(store.documents) == 20_000
    assert queue.depth == (2500, 0)
    assert len(store.writes) < 40  # an index that has refused is asked again in the next drain


def test_where_nothing_is_taken_a_drain_ends_after_some_batches(indexer, queue, store, monkeypatch):
    monkeypatch.setattr("uaharvest.indexer.MOST_DOCUMENTS", 10)
    store.blocked = {OLD_DAY: "closed"}
    queue.send(*(old(n) for n in range(600)))
    with pytest.raises(IndexBlockedError):
        indexer.drain()
    assert len(store.writes) <= 20
    assert queue.depth == (600, 0)


def test_the_longer_an_index_takes_nothing_the_longer_its_messages_are_put_aside(
    indexer, queue, store, shared, redis
):
    store.blocked = {OLD_DAY: "closed"}
    queue.send(old(1), record(2))
    shared.hold({OLD_DAY: "closed"})
    entry = json.loads(redis.hget(shared._held, OLD_DAY))
    redis.hset(shared._held, OLD_DAY, json.dumps({**entry, "since": entry["since"] - 200}))
    with pytest.raises(IndexBlockedError):
        indexer.drain()
    assert queue.depth == (0, 1)
    with pytest.raises(IndexBlockedError):  # though nothing is there to be tried
        indexer.drain()
    assert list(shared.held()) == [OLD_DAY]


def test_an_index_is_forgotten_with_its_last_message(indexer, queue, store, shared):
    store.blocked = {OLD_DAY: "closed"}
    queue.send(old(1))
    with pytest.raises(IndexBlockedError):
        indexer.drain()
    queue.sqs.purge_queue(QueueUrl=queue.url)
    indexer.drain()
    assert (shared.held(), shared.state.blocked()) == ({}, None)


def test_an_outage_beside_an_index_that_takes_nothing_is_told_and_loses_nothing(indexer, queue, store, shared):
    def down(_):
        raise RetryableError("the store is down")

    store.blocked, store.fail = {OLD_DAY: "closed"}, down
    queue.send(old(1), record(2), record(3))
    with pytest.raises(RetryableError):
        indexer.drain()
    assert shared.last()["error"] == "the store is down"
    store.blocked, store.fail = {}, None
    indexer.drain()
    assert len(store.documents) == 3


# Answers that are not SQS's, and errors of our own


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("get_queue_url", {}),
        ("get_queue_attributes", {}),
        ("get_queue_attributes", {"Attributes": {}}),
        ("get_queue_attributes", {"Attributes": {"ApproximateNumberOfMessages": "x"}}),
        ("receive_message", {"Messages": [{}]}),
        ("receive_message", {"Messages": [None]}),
        ("receive_message", {"Messages": "x"}),
        ("delete_message_batch", {"Failed": [{}]}),
        ("delete_message_batch", {"Successful": [None]}),
        ("delete_message_batch", {"Failed": None, "Successful": None}),
    ],
)
def test_an_answer_that_is_not_sqs_is_an_outage_and_nobodys_fault(indexer, queue, store, operation, answer):
    queue.send(record(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexer._client, operation, lambda **_: answer)
        if operation == "get_queue_attributes":
            patch.setattr(indexer._client, "receive_message", lambda **_: {})
        with pytest.raises(RetryableError, match="SQS queue"):
            indexer.drain()
    assert indexer.drain().dead == 0
    assert (len(store.documents), queue.depth) == (1, (0, 0))


@pytest.mark.parametrize("error", [KeyError("action_id"), TypeError("x"), OSError("disk")])
def test_an_error_of_our_own_is_no_bad_record(indexer, queue, store, dead_letters, error):
    def broken(*_):
        raise error

    queue.send(record(1), record(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uaharvest.documents.indexed.version", broken)
        with pytest.raises(type(error)):
            indexer.drain()
    store.fail = broken
    with pytest.raises(type(error)):
        indexer.drain()
    store.fail = None
    assert list(dead_letters.names("index")) == []
    assert queue.depth[1] == 0
    indexer.drain()
    assert len(store.documents) == 2


def test_after_a_failure_one_bulk_is_tried_before_all_threads_go(indexer, queue, store):
    def down(documents):
        raise RetryableError("the store is down")

    queue.send(*([record(n) for n in range(start, start + 100)] for start in range(0, 12_000, 100)))
    store.fail = down
    with pytest.raises(RetryableError):
        indexer.drain()
    before = len(store.writes)
    with pytest.raises(RetryableError):
        indexer.drain()
    assert len(store.writes) - before == 1


def test_another_programs_messages_block_instead_of_being_taken_away(indexer, queue, shared, dead_letters):
    queue.send(*("their own format" for _ in range(10)))
    with pytest.raises(BlockedError, match="SQS_QUEUE_NAME"):
        indexer.drain()
    assert queue.depth == (10, 0)
    assert list(dead_letters.names("index")) == []


def test_without_a_place_for_dead_letters_nothing_is_deleted(build, queue):
    queue.send(record(1), "no JSON")
    with pytest.raises(BlockedError, match="S3_HARVEST_TS_BUCKET"):
        build(dead_letters=DeadLetters(aws.s3_client(), None, "dead-letters/")).drain()
    assert queue.depth == (2, 0)


def test_a_queue_that_does_not_exist_blocks_and_says_so(indexer, queue, shared):
    queue.sqs.delete_queue(QueueUrl=queue.url)
    with pytest.raises(BlockedError, match="does not exist yet"):
        indexer.drain()
    assert shared.state.blocked().exit_code == 4


def test_messages_stay_hidden_while_a_slow_store_works_on_them(build, store, queue):
    # The lease is one second; the bulk ends when the messages would have come back twice over.
    others = []

    def slow(_):
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            others.extend(queue.sqs.receive_message(QueueUrl=queue.url, WaitTimeSeconds=1).get("Messages", ()))

    store.fail = slow
    queue.send(record(1), record(2))
    build(lease=1).drain()
    assert others == []
    assert queue.depth == (0, 0)


def test_it_ends_when_its_time_is_over_and_leaves_the_rest(indexer, queue, store):
    queue.send(*([record(n) for n in range(start, start + 500)] for start in range(0, 12_000, 500)))
    tally = indexer.drain(seconds=0)
    assert 0 < tally.indexed < 12_000
    waiting, hidden = queue.depth
    assert waiting * 500 + tally.indexed == 12_000
    assert hidden == 0


def test_counts_of_all_drains_are_remembered(indexer, queue, shared):
    queue.send(record(1), record(2), "no JSON")
    indexer.drain()
    queue.send(record(3))
    indexer.drain()
    assert shared.counts() == {"indexed": 3, "dead": 1}
    assert shared.last()["indexed"] == 1


def test_indexers_of_two_deployments_do_not_meet(settings, client):
    one, another = (
        assembly.indexer_state(dataclasses.replace(settings, documents_url=f"sqlite:///{name}.db"), client)
        for name in ("one", "another")
    )
    one.count(indexed=3, dead=1)
    one.ended(Tally(3, 1), 1.0, RetryableError("the store is down"))
    one.hold({OLD_DAY: "closed"})
    assert (another.counts(), another.last(), another.held()) == ({"indexed": 0, "dead": 0}, None, {})
    assert another.state.failures() == []


class HangingSqs:
    """Gives messages, and does not answer when they are given back."""

    def __init__(self):
        self.asked = 0

    def get_queue_url(self, **_):
        return {"QueueUrl": "queue"}

    def receive_message(self, **_):
        return {
            "Messages": [{"MessageId": f"{n}", "ReceiptHandle": uuid.uuid4().hex, "Body": ""} for n in range(10)]
        }

    def change_message_visibility_batch(self, **_):
        self.asked += 1
        raise ReadTimeoutError(endpoint_url="queue")


def test_an_sqs_that_hangs_is_not_asked_for_each_ten_messages():
    sqs = HangingSqs()
    with Receiver(sqs, "queue", lease=60) as receiver:
        receiver.release([message for _ in range(5) for message in receiver.receive()])
        assert sqs.asked == 1
        for _ in range(5):
            receiver.receive()
    assert sqs.asked == 2
