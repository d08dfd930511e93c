"""The indexer: stores queued messages as documents, and deletes a message once its documents are confirmed.

Any number of indexers may drain one queue, and any of them may die: SQS delivers an undeleted message again.
Documents have the ids of their events, so indexing them twice overwrites them with the same content.
"""

import concurrent.futures
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
import structlog

from uaharvest import counters, keys
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import indexed
from uaharvest.documents.document import Document
from uaharvest.documents.indexed import Locate
from uaharvest.errors import BlockedError, HarvestError, IndexBlockedError, PoisonError, RetryableError
from uaharvest.privacy.people import Knows, is_about
from uaharvest.privacy.protection import Protection
from uaharvest.runs.state import StreamState
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentStore
from uaharvest.sinks.receiver import ReceivedMessage, Receiver
from uaharvest.tolerance import too_many

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

log = structlog.get_logger()

STREAM = "index"
THREADS = 4  # per indexer; each mostly waits for SQS or the store
# A batch is one bulk request. Documents and bytes are limited so that THREADS batches fit into a worker's memory.
# The time spent collecting is limited so that a trickle of messages becomes searchable soon.
MOST_DOCUMENTS = 1000
MOST_BYTES = 5_000_000
LONGEST_WAIT = 5.0  # seconds
SHOWN_EVERY = 1.0  # seconds
# Messages for a blocked index are put aside for as long as the block has lasted, but at most for this long: they
# are retried soon after a short block, and rarely during a long one, when there may be many of them.
LONGEST_ASIDE = 300.0
# If this many batches were put aside before any document was stored, the drain ends: perhaps every index is
# blocked.
MOST_BARREN = 10


@dataclasses.dataclass(slots=True)
class Tally:
    """Documents confirmed, dead letters written and records of erased people left out in a drain so far."""

    indexed: int = 0
    dead: int = 0
    erased: int = 0


class IndexerState:
    """The state that all indexers share in Redis: counts, the last drain, and blocked indices."""

    def __init__(self, client: "redis.Redis", place: str) -> None:
        """Use `client`, which must decode responses; `place` is the stream `index` with its deployment."""
        self.state = StreamState(client, place)
        self._redis = client
        self._key = keys.INDEXER(place)
        self._held = keys.HELD(place)
        self._counters = keys.COUNTERS(place)

    def count(self, *, indexed: int, dead: int) -> None:
        """Add to the counts of indexed documents and of dead letters; write what this process has counted, too."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hincrby(self._key, "indexed", indexed)
        pipeline.hincrby(self._key, "dead", dead)
        pipeline.hincrby(self._counters, "dead", dead)
        with counters.taken() as counted:
            for name, amount in counted.items():
                pipeline.hincrby(self._counters, name, amount)
            pipeline.execute()

    def ended(self, tally: Tally, seconds: float, error: HarvestError | None = None) -> None:
        """Record the end of a drain and the error that stopped it; success clears an earlier failure."""
        last = {
            "ended_at": f"{datetime.now(UTC):%FT%TZ}",
            "seconds": round(seconds, 1),
            "indexed": tally.indexed,
            "dead_letters": tally.dead,
            "erased": tally.erased,
            "error": str(error) if error else None,
        }
        self._redis.hset(self._key, "last", json.dumps(last))
        if error is None:
            self.state.passed("working")
        else:
            self.state.failed("working", error)

    def hold(self, indices: Mapping[str, str]) -> None:
        """Record blocked indices and why; an index already blocked keeps its start time."""
        for index, reason in indices.items():
            former = self.held().get(index)
            entry = {"reason": reason, "since": former["since"] if former else self._now()}
            self._redis.hset(self._held, index, json.dumps(entry))

    def took(self, indices: Iterable[str]) -> None:
        """Clear indices that accept documents again, or that have no messages left."""
        if names := list(indices):
            self._redis.hdel(self._held, *names)

    def held(self) -> dict[str, dict[str, Any]]:
        """Return the blocked indices: why (`reason`), and for how many seconds (`age`)."""
        found: Any = self._redis.hgetall(self._held)
        now = self._now() if found else 0.0
        entries = {index: json.loads(text) for index, text in found.items()}
        return {index: {**entry, "age": max(now - entry["since"], 0.0)} for index, entry in entries.items()}

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def last(self) -> dict[str, Any] | None:
        """Return the result of the last finished drain, or None."""
        text = self._redis.hget(self._key, "last")
        return json.loads(text) if text else None

    def counts(self) -> dict[str, int]:
        """Return the numbers of documents `indexed` and of dead letters (`dead`) since Redis was last empty."""
        values = self._redis.hmget(self._key, "indexed", "dead")
        return {name: int(value or 0) for name, value in zip(("indexed", "dead"), values, strict=True)}


class RecordOrigin(NamedTuple):
    """Where a document comes from: the message, and the record's position in it."""

    message: ReceivedMessage
    place: int


@dataclasses.dataclass(slots=True)
class _Batch:
    """Some messages and their contents.

    Attributes:
        documents: Each has a RecordOrigin.
        unreadable: Dead letters for records that could not be read, each with its message.
        erased: How many records are of people who were erased; no document is made of them.
        last: Whether the queue was empty after this batch.
    """

    messages: list[ReceivedMessage] = dataclasses.field(default_factory=list)
    documents: list[Document] = dataclasses.field(default_factory=list)
    unreadable: list[tuple[ReceivedMessage, DeadLetter]] = dataclasses.field(default_factory=list)
    size: int = 0
    erased: int = 0
    last: bool = False

    @property
    def full(self) -> bool:
        return len(self.documents) >= MOST_DOCUMENTS or self.size >= MOST_BYTES

    def settled(self, done: Collection[RecordOrigin], *, unreadable: bool) -> list[ReceivedMessage]:
        """Return the messages that need no more work.

        Args:
            done: Origins of the documents that need no more work.
            unreadable: Include messages that are unreadable in part.
        """
        waiting = set() if unreadable else {message.handle for message, _ in self.unreadable}
        waiting |= {one.origin.message.handle for one in self.documents if one.origin not in done}
        return [message for message in self.messages if message.handle not in waiting]


@dataclasses.dataclass(slots=True)
class _Drain:
    """The progress of one drain, and its blocked indices.

    Attributes:
        ages: For how many seconds each index has been blocked, by name; shared by all indexers.
        refused: Indices that were blocked during this drain: it does not try them again.
        barren: Batches put through before the first document is stored; -1 from then on.
    """

    receiver: Receiver
    tally: Tally
    ages: dict[str, float]
    refused: set[str] = dataclasses.field(default_factory=set)
    barren: int = 0
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Indexer:
    """Drains the queue into a document store.

    Args:
        client: From `aws.sqs_client(THREADS)`.
        store: Where the documents go; several threads call its `write` at once.
        dead_letters: Where dead letters go.
        shared: The state that all indexers share.
        locate: Returns the `geoip` fields for an address.
        protection: Protects records that were queued before it was on, or by others.
        settings: Provide the queue, its lease and the names of the indices.
    """

    def __init__(
        self,
        client: "SQSClient",
        store: DocumentStore,
        *,
        dead_letters: DeadLetters,
        shared: IndexerState,
        locate: Locate,
        protection: Protection,
        settings: Settings,
    ) -> None:
        self._client = client
        self._store = store
        self._dead_letters = dead_letters
        self._shared = shared
        self._locate = locate
        self._protection = protection
        self._settings = settings

    def drain(self, seconds: float | None = None, show: Callable[[Tally], None] = lambda _: None) -> Tally:
        """Index until the queue is empty, or until `seconds` have passed.

        If the last drain failed, one thread first tries a single batch, so that during an outage few messages use
        up a receive.

        Args:
            seconds: The time limit; None means no limit.
            show: Called about once a second.

        Raises:
            IndexBlockedError: Some indices are blocked, and their messages stay in the queue. The rest is indexed.
            BlockedError: A person must change something; `status` reports it until a drain succeeds.
            RetryableError: SQS, the store or S3 fails. Nothing is lost: the next drain continues.
        """
        began = time.monotonic()
        until = began + seconds if seconds is not None else float("inf")
        tally = Tally()
        try:
            last = self._shared.last()
            with Receiver(self._client, self._settings.queue or "", lease=self._settings.lease) as receiver:
                ages = {index: entry["age"] for index, entry in self._shared.held().items()}
                drain = _Drain(receiver, tally, ages)
                first = receiver.receive()
                if first and last and last["error"]:
                    self._round(drain, first)
                    self._work(drain, [], until, show)
                elif first:
                    self._work(drain, first, until, show)
                if not drain.refused and receiver.is_empty():
                    self._shared.took(self._shared.held())  # their messages are gone
            if standing := self._shared.held():
                raise IndexBlockedError({index: entry["reason"] for index, entry in sorted(standing.items())})
        except HarvestError as error:
            self._shared.ended(tally, time.monotonic() - began, error)
            raise
        self._shared.ended(tally, time.monotonic() - began)
        return tally

    def redeliver(self, letter: DeadLetter) -> int:
        """Index the contents of a dead letter; return how many records it held.

        The queue is bypassed: otherwise an indexer might write the dead letter again before it is dropped.

        Raises:
            PoisonError: It still cannot be read, or the store still refuses it.
        """
        knows = self._protection.erased.knows()
        documents = [self._document(record) for record in letter.records() if not _is_about(knows, record)]
        for written in self._store.write(documents):
            if written.refused:
                raise PoisonError(written.refused[0][1])
        return len(documents)

    def _work(
        self, drain: _Drain, first: Sequence[ReceivedMessage], until: float, show: Callable[[Tally], None]
    ) -> None:
        """Run several threads until the queue is empty; raise the first error once all have stopped."""
        stop = drain.stop

        def go_round(messages: Sequence[ReceivedMessage]) -> None:
            empty = False
            try:
                while not empty and not stop.is_set() and (messages or time.monotonic() < until):
                    empty = self._round(drain, messages)
                    messages = ()
            except BaseException:
                stop.set()  # the other threads finish their current batch
                raise

        with concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="index") as executor:
            threads = [executor.submit(go_round, first if number == 0 else ()) for number in range(THREADS)]
            try:
                while concurrent.futures.wait(threads, SHOWN_EVERY).not_done:
                    show(drain.tally)
            finally:
                stop.set()
        for thread in threads:
            thread.result()
        show(drain.tally)

    def _round(self, drain: _Drain, first: Sequence[ReceivedMessage]) -> bool:
        """Index one batch, which begins with `first`; return whether the queue was empty afterwards."""
        batch = _Batch()
        try:
            self._read(batch, first)
            end = time.monotonic() + LONGEST_WAIT
            while not (batch.full or batch.last or drain.stop.is_set()) and time.monotonic() < end:
                messages = drain.receiver.receive()
                self._read(batch, messages)
                batch.last = not messages
            if batch.messages:
                self._index(batch, drain)
                with drain.lock:
                    drain.tally.erased += batch.erased
        finally:
            drain.receiver.release(batch.messages)  # those neither deleted nor put aside
        return batch.last

    def _read(self, batch: _Batch, messages: Iterable[ReceivedMessage]) -> None:
        """Add `messages` to the batch: documents, and dead letters for unreadable records."""
        knows = self._protection.erased.knows()
        for message in messages:
            batch.messages.append(message)
            batch.size += len(message.body)
            try:
                records = indexed.records(message.body)
            except PoisonError as error:
                payload = self._protection.unreadable(message.body)
                letter = DeadLetter.of_message(STREAM, message.id, str(error), payload)
                batch.unreadable.append((message, letter))
                continue
            for place, record in enumerate(records):
                origin = RecordOrigin(message, place)
                if _is_about(knows, record):
                    batch.erased += 1
                    continue
                try:
                    document = self._document(record, origin)
                except PoisonError as error:
                    letter = DeadLetter.of_record(
                        STREAM, None, str(error), {"record": self._protection.kept(record)}
                    )
                    batch.unreadable.append((message, letter))
                else:
                    batch.documents.append(document)

    def _index(self, batch: _Batch, drain: _Drain) -> None:
        """Store the documents, write the dead letters, and only then delete the messages."""
        total = len(batch.documents) + len(batch.unreadable)
        if too_many(len(batch.unreadable), total):
            raise BlockedError(
                f"{len(batch.unreadable)} of {total} records in SQS queue {self._settings.queue} cannot be read:"
                f" {batch.unreadable[0][1].reason}. So many cannot be single bad records: does something else write to"
                " SQS_QUEUE_NAME? Look at its messages, and take out what does not belong there."
            )
        with drain.lock:
            accepted = [document for document in batch.documents if document.index not in drain.refused]
        confirmed: dict[RecordOrigin, str] = {}  # the index of each document
        refused: list[tuple[Document, str]] = []
        blocked: Mapping[str, str] = {}
        try:
            for written in self._store.write(accepted):
                confirmed.update((document.origin, document.index) for document in written.confirmed)
                refused += written.refused
        except IndexBlockedError as error:
            blocked = error.indices
        except RetryableError:
            self._settle(drain, batch.settled(confirmed, unreadable=False), confirmed, [])
            raise
        self._note(drain, batch, set(confirmed.values()), blocked)
        settled = batch.settled({*confirmed, *(document.origin for document, _ in refused)}, unreadable=True)
        dead_letters = [self._letter(document, reason) for document, reason in refused]
        self._settle(drain, settled, confirmed, [*dead_letters, *batch.unreadable])
        self._put_aside(drain, batch, settled)

    def _settle(
        self,
        drain: _Drain,
        settled: Sequence[ReceivedMessage],
        confirmed: Collection[RecordOrigin],
        dead_letters: Sequence[tuple[ReceivedMessage, DeadLetter]],
    ) -> None:
        """Write the dead letters of settled messages, delete these messages, and count their contents.

        Messages that stay are not counted: they will be received again as a whole.
        """
        handles = {message.handle for message in settled}
        dead = 0
        for message, letter in dead_letters:
            if message.handle in handles:
                self._dead_letters.put(letter)
                dead += 1
        if dead:
            log.error("dead letters written", count=dead, command="manage.py dead-letters list")
        drain.receiver.delete(settled)
        indexed = sum(origin.message.handle in handles for origin in confirmed)
        with drain.lock:
            drain.tally.indexed += indexed
            drain.tally.dead += dead
        self._shared.count(indexed=indexed, dead=dead)

    def _note(self, drain: _Drain, batch: _Batch, took: set[str], blocked: Mapping[str, str]) -> None:
        """Record which indices accept documents and which are blocked."""
        with drain.lock:
            drain.refused |= set(blocked)
            if took:
                drain.barren = -1
            elif batch.documents and drain.barren >= 0:
                drain.barren += 1
            if drain.barren >= MOST_BARREN:
                drain.stop.set()
            again = [index for index in took if drain.ages.pop(index, None) is not None]
            for index in blocked:
                drain.ages.setdefault(index, 0.0)
        self._shared.took(again)
        self._shared.hold(blocked)

    def _put_aside(self, drain: _Drain, batch: _Batch, settled: Sequence[ReceivedMessage]) -> None:
        """Put messages for blocked indices aside for a while, so that they do not hold up the rest."""
        waiting = {message.handle for message in batch.messages} - {message.handle for message in settled}
        with drain.lock:
            ages = dict(drain.ages)
        aside: dict[float, dict[str, ReceivedMessage]] = {}
        for document in batch.documents:
            message = document.origin.message
            if message.handle in waiting and document.index in ages:
                aside.setdefault(ages[document.index], {})[message.handle] = message
        for age, messages in aside.items():
            drain.receiver.put_aside(messages.values(), min(age, LONGEST_ASIDE))

    def _document(self, record: Any, origin: RecordOrigin | None = None) -> Document:
        return indexed.document(self._protection.record(record), self._locate, self._settings.index_infix, origin)

    def _letter(self, document: Document, reason: str) -> tuple[ReceivedMessage, DeadLetter]:
        """Return the dead letter for a document that the store refuses; it holds the record as received."""
        message, place = document.origin
        # A FOOTPRINT is sent repeatedly under one id, longer each time. Each version gets its own dead letter.
        name = document.id if document.version is None else f"{document.id}-{document.version}"
        record = self._protection.kept(indexed.records(message.body)[place])
        return message, DeadLetter.of_record(STREAM, name, reason, {"record": record})


def _is_about(knows: Knows | None, record: Any) -> bool:
    return knows is not None and isinstance(record, dict) and is_about(knows, "useractions", record)
