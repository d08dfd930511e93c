"""The indexer: what is in the queue becomes documents, and a message goes only when its documents are confirmed.

Any number of indexers may drain one queue, and any of them may die: a message that is not deleted comes back, and
its documents, which have the ids of their events, overwrite themselves.
"""

import concurrent.futures
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import indexed
from uaharvest.documents.indexed import Locate
from uaharvest.errors import BlockedError, HarvestError, PoisonError, RetryableError
from uaharvest.inbox import Inbox, Message
from uaharvest.runs.ledger import PREFIX, Ledger
from uaharvest.settings import Settings
from uaharvest.sinks.documents import Document, DocumentStore

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

STREAM = "index"
THREADS = 4  # of one indexer; each waits for SQS or the store most of the time
# A batch is one bulk. Documents and bytes are bounded, so that THREADS of them fit into a worker's memory, and the
# time for which it waits for more, so that a trickle is searchable soon.
MOST_DOCUMENTS = 1000
MOST_BYTES = 5_000_000
LONGEST_WAIT = 5.0  # seconds
# More unreadable records than this share of a batch are no bad records: something else writes to the queue.
UNREADABLE_SHARE = 0.05
FEW = 3
SHOWN_EVERY = 1.0  # seconds


@dataclasses.dataclass(slots=True)
class Tally:
    """What a drain has done so far: documents confirmed, dead letters written."""

    indexed: int = 0
    dead: int = 0


class Board:
    """What Redis remembers of all indexers: counts, the last drain, and what stands in the way.

    Args:
        ledger: Of the stream `index`, which has no runs but may be blocked.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._redis = ledger.redis
        self._key = f"{PREFIX}indexer"

    def count(self, *, indexed: int, dead: int) -> None:
        """Add to what was indexed and what became dead letters."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hincrby(self._key, "indexed", indexed)
        pipeline.hincrby(self._key, "dead", dead)
        pipeline.execute()

    def ended(self, tally: Tally, seconds: float, error: HarvestError | None = None) -> None:
        """Note a drain that has ended, and what stopped it; that no longer stands in the way if nothing did."""
        last = {
            "ended_at": f"{datetime.now(UTC):%FT%TZ}",
            "seconds": round(seconds, 1),
            "indexed": tally.indexed,
            "dead_letters": tally.dead,
            "error": str(error) if error else None,
        }
        self._redis.hset(self._key, "last", json.dumps(last))
        if error is None:
            self._ledger.unblock("working")
        elif not isinstance(error, RetryableError):
            self.block(error)

    def block(self, error: HarvestError) -> None:
        """Let what a person must change stand on the stream."""
        self._ledger.block("working", str(error), error.exit_code)

    def blocked(self) -> dict[str, Any] | None:
        """Return what a person must change (reason, since, exit_code), or None."""
        return self._ledger.blocked()

    def last(self) -> dict[str, Any] | None:
        """Return what came of the last drain that ended, or None."""
        text = self._redis.hget(self._key, "last")
        return json.loads(text) if text else None

    def counts(self) -> dict[str, int]:
        """Return how many documents were `indexed` and letters written (`dead`) since Redis was empty."""
        values = self._redis.hmget(self._key, "indexed", "dead")
        return {name: int(value or 0) for name, value in zip(("indexed", "dead"), values, strict=True)}


@dataclasses.dataclass(slots=True)
class _Batch:
    """Some messages, and what they hold.

    Attributes:
        origins: Of each document, by its `id()`: its message, and its place there.
        unreadable: Letters of what became no document, with its message.
        last: The queue was empty then.
    """

    messages: list[Message] = dataclasses.field(default_factory=list)
    documents: list[Document] = dataclasses.field(default_factory=list)
    origins: dict[int, tuple[Message, int]] = dataclasses.field(default_factory=dict)
    unreadable: list[tuple[Message, DeadLetter]] = dataclasses.field(default_factory=list)
    size: int = 0
    last: bool = False

    @property
    def full(self) -> bool:
        return len(self.documents) >= MOST_DOCUMENTS or self.size >= MOST_BYTES

    def settled(self, confirmed: Collection[int]) -> list[Message]:
        """Return the messages all of whose documents are in `confirmed`, by their `id()`."""
        waiting = {message.handle for message, _ in self.unreadable}
        waiting |= {message.handle for key, (message, _) in self.origins.items() if key not in confirmed}
        return [message for message in self.messages if message.handle not in waiting]


class Indexer:
    """Drains the queue into a document store.

    Args:
        client: From `aws.sqs_client(THREADS)`.
        store: Where the documents go; its `write` is called by several threads at once.
        letters: Where the rest goes.
        board: Where it is counted.
        locate: Gives the `geoip` fields of an address.
        settings: For the queue, its lease and the names of the indices.
    """

    def __init__(
        self,
        client: "SQSClient",
        store: DocumentStore,
        *,
        letters: DeadLetters,
        board: Board,
        locate: Locate,
        settings: Settings,
    ) -> None:
        self._client = client
        self._store = store
        self._letters = letters
        self._board = board
        self._locate = locate
        self._settings = settings
        self._lock = threading.Lock()

    def drain(self, seconds: float | None = None, show: Callable[[Tally], None] = lambda _: None) -> Tally:
        """Index until the queue is empty, or until `seconds` are over.

        After a drain that failed one thread tries one batch first, so that an outage costs few messages a receive.

        Args:
            seconds: None: as long as it takes.
            show: Called about every second.

        Raises:
            BlockedError: A person must change something; it stands on the stream until a drain succeeds.
            RetryableError: SQS, the store or S3 fails. Nothing is lost: the next drain goes on.
        """
        began = time.monotonic()
        until = began + seconds if seconds is not None else float("inf")
        tally = Tally()
        try:
            last = self._board.last()
            with Inbox(self._client, self._settings.queue or "", lease=self._settings.lease) as inbox:
                first = inbox.receive()
                if first and last and last["error"]:
                    self._round(inbox, tally, first, threading.Event())
                    self._work(inbox, tally, [], until, show)
                elif first:
                    self._work(inbox, tally, first, until, show)
        except HarvestError as error:
            self._board.ended(tally, time.monotonic() - began, error)
            raise
        self._board.ended(tally, time.monotonic() - began)
        return tally

    def redeliver(self, letter: DeadLetter) -> int:
        """Index what a dead letter holds after all; return how many records.

        Not by way of the queue: an indexer might write the letter anew before it is dropped.

        Raises:
            PoisonError: It still cannot be read, or the store still refuses it.
        """
        payload = letter.payload
        records = indexed.records(payload["body"]) if letter.kind == "message" else [payload["record"]]
        documents = [indexed.document(record, self._locate, self._settings) for record in records]
        for written in self._store.write(documents):
            if written.refused:
                raise PoisonError(written.refused[0][1])
        return len(documents)

    def _work(
        self,
        inbox: Inbox,
        tally: Tally,
        first: Sequence[Message],
        until: float,
        show: Callable[[Tally], None],
    ) -> None:
        """Let several threads go round until the queue is empty; raise the first error once all have stopped."""
        stop = threading.Event()

        def go_round(messages: Sequence[Message]) -> None:
            empty = False
            try:
                while not empty and not stop.is_set() and (messages or time.monotonic() < until):
                    empty = self._round(inbox, tally, messages, stop)
                    messages = ()
            except BaseException:
                stop.set()  # the others end what they have in hand
                raise

        with concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="index") as executor:
            threads = [executor.submit(go_round, first if number == 0 else ()) for number in range(THREADS)]
            try:
                while concurrent.futures.wait(threads, SHOWN_EVERY).not_done:
                    show(tally)
            finally:
                stop.set()
        for thread in threads:
            thread.result()
        show(tally)

    def _round(self, inbox: Inbox, tally: Tally, first: Sequence[Message], stop: threading.Event) -> bool:
        """Index one batch, which begins with `first`; return whether the queue was empty then."""
        batch = _Batch()
        try:
            self._read(batch, first)
            end = time.monotonic() + LONGEST_WAIT
            while not (batch.full or batch.last or stop.is_set()) and time.monotonic() < end:
                messages = inbox.receive()
                self._read(batch, messages)
                batch.last = not messages
            if batch.messages:
                self._index(batch, inbox, tally)
        finally:
            inbox.release(batch.messages)  # what is not deleted by now
        return batch.last

    def _read(self, batch: _Batch, messages: Iterable[Message]) -> None:
        """Add `messages` to the batch, as documents and as letters of what can be none."""
        for message in messages:
            batch.messages.append(message)
            batch.size += len(message.body)
            try:
                records = indexed.records(message.body)
            except PoisonError as error:
                letter = DeadLetter.of_message(STREAM, message.id, str(error), message.body)
                batch.unreadable.append((message, letter))
                continue
            for place, record in enumerate(records):
                try:
                    document = indexed.document(record, self._locate, self._settings)
                except PoisonError as error:
                    letter = DeadLetter.of_record(STREAM, None, str(error), {"record": record})
                    batch.unreadable.append((message, letter))
                else:
                    batch.documents.append(document)
                    batch.origins[id(document)] = (message, place)

    def _index(self, batch: _Batch, inbox: Inbox, tally: Tally) -> None:
        """Store the documents, bury the rest, and only then delete the messages."""
        total = len(batch.documents) + len(batch.unreadable)
        if len(batch.unreadable) > max(FEW, UNREADABLE_SHARE * total):
            raise BlockedError(
                f"{len(batch.unreadable)} of {total} records in SQS queue {self._settings.queue} cannot be read:"
                f" {batch.unreadable[0][1].reason}. So many are no single bad records: does something else write to"
                " SQS_QUEUE_NAME? Look at its messages, and take out what does not belong there."
            )
        confirmed: set[int] = set()
        refused: list[DeadLetter] = []
        try:
            for written in self._store.write(batch.documents):
                confirmed.update(id(document) for document in written.confirmed)
                refused += [self._letter(batch, document, reason) for document, reason in written.refused]
        except RetryableError:
            self._settle(inbox, tally, batch.settled(confirmed), [], len(confirmed))
            raise
        letters = [*refused, *(letter for _, letter in batch.unreadable)]
        self._settle(inbox, tally, batch.messages, letters, len(confirmed))

    def _settle(
        self,
        inbox: Inbox,
        tally: Tally,
        messages: Sequence[Message],
        letters: Sequence[DeadLetter],
        confirmed: int,
    ) -> None:
        for letter in letters:
            self._letters.put(letter)
        inbox.delete(messages)
        with self._lock:
            tally.indexed += confirmed
            tally.dead += len(letters)
        self._board.count(indexed=confirmed, dead=len(letters))

    @staticmethod
    def _letter(batch: _Batch, document: Document, reason: str) -> DeadLetter:
        """Return the letter of a document that the store refuses: with the record as it was in its message."""
        message, place = batch.origins[id(document)]
        # A FOOTPRINT comes again under its id, longer: each has a letter of its own.
        name = document.id if document.version is None else f"{document.id}-{document.version}"
        return DeadLetter.of_record(STREAM, name, reason, {"record": indexed.records(message.body)[place]})
