"""Imports files of useractions in batches; the position in a file moves once a batch is confirmed."""

import collections
import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import imported, indexed
from uaharvest.documents.imported import LineKind, Useraction
from uaharvest.documents.indexed import Locate
from uaharvest.errors import BadInputError, PoisonError
from uaharvest.importing.files import LONGEST_LINE, File, Line
from uaharvest.importing.positions import FilePosition, Positions, RecordCounts
from uaharvest.privacy.people import is_about
from uaharvest.privacy.protection import Protection
from uaharvest.sinks import Outgoing, Sink
from uaharvest.sinks.documents import DocumentStore
from uaharvest.tolerance import too_many

STREAM = "import"  # of its dead letters
BATCH_RECORDS = 2000
BATCH_BYTES = 5_000_000


class ImportedAction(NamedTuple):
    """A useraction, its line, and its position among the records of the line."""

    found: Useraction
    line: Line
    place: int


class BatchResult(NamedTuple):
    """What became of a batch at its destination; `refused` are items that it will never accept, with the reasons."""

    counts: RecordCounts
    refused: Sequence[tuple[ImportedAction, str]]


class Destination(Protocol):
    """Where the useractions go."""

    def deliver(self, items: Sequence[ImportedAction]) -> BatchResult:
        """Deliver all items, and return once each is confirmed or refused.

        Raises:
            RetryableError: The destination fails; some may have arrived.
            BlockedError: It denies us access, or accepts nothing.
        """
        ...


class ToDocuments:
    """Stores useractions as the documents that the indexer makes, without making a stored one poorer."""

    def __init__(self, store: DocumentStore, locate: Locate, infix: str | None) -> None:
        """Write to `store`; `locate` returns the `geoip` fields of an address, `infix` is INDEX_INFIX."""
        self._store = store
        self._locate = locate
        self._infix = infix

    def deliver(self, items: Sequence[ImportedAction]) -> BatchResult:
        """Store all items; see `Destination.deliver`."""
        documents = [imported.as_document(item.found, self._locate, self._infix, item) for item in items]
        stored = self._store.get_many({(document.index, document.id) for document in documents})
        changes, present = imported.changes(documents, stored)
        refused: list[tuple[ImportedAction, str]] = []
        for written in self._store.write(change.document for change in changes):
            refused += [(document.origin, reason) for document, reason in written.refused]
        unwritten = {id(item) for item, _ in refused}
        taken = [change for change in changes if id(change.document.origin) not in unwritten]
        new = sum(change.is_new for change in taken)
        present += sum(change.repeats for change in changes)
        return BatchResult(RecordCounts(imported=new, completed=len(taken) - new, present=present), refused)


class ToQueue:
    """Sends useractions as queue messages."""

    def __init__(self, sink: Sink) -> None:
        """Send to `sink`."""
        self._sink = sink

    def deliver(self, items: Sequence[ImportedAction]) -> BatchResult:
        """Send all items; see `Destination.deliver`."""
        outgoing = [
            Outgoing(place, item.found.at.timestamp(), imported.as_message(item.found))
            for place, item in enumerate(items)
        ]
        sent = 0
        refused: list[tuple[ImportedAction, str]] = []
        for receipt in self._sink.deliver(outgoing):
            sent += len(receipt.confirmed)
            refused += [(items[int(record.id)], reason) for record, reason in receipt.refused]
        return BatchResult(RecordCounts(imported=sent), refused)


@dataclasses.dataclass(slots=True)
class Batch:
    """Consecutive lines of a file.

    Attributes:
        end: The position after them.
        items: Their useractions.
        unreadable: Dead letters for what cannot be read.
        skipped: How many documents are not useractions.
        size: Their bytes.
    """

    end: int
    items: list[ImportedAction] = dataclasses.field(default_factory=list)
    unreadable: list[DeadLetter] = dataclasses.field(default_factory=list)
    skipped: int = 0
    size: int = 0

    @property
    def total(self) -> int:
        """The number of records."""
        return len(self.items) + len(self.unreadable) + self.skipped

    @property
    def is_full(self) -> bool:
        """Tell whether no further line is added."""
        return self.total >= BATCH_RECORDS or self.size >= BATCH_BYTES


@dataclasses.dataclass(slots=True)
class Survey:
    """What a file holds.

    Attributes:
        kinds: The number of records of each kind.
        unreadable: The number of records that cannot be read.
        reason: Why the first of them cannot.
        first: The time of the earliest useraction, UTC.
        last: That of the latest.
    """

    kinds: collections.Counter[LineKind] = dataclasses.field(default_factory=collections.Counter)
    unreadable: int = 0
    reason: str = ""
    first: dt.datetime | None = None
    last: dt.datetime | None = None

    @property
    def read(self) -> int:
        """The number of all records."""
        return self.kinds.total() + self.unreadable


class Importer:
    """Imports files to one destination.

    Args:
        destination: Where the useractions go.
        label: "documents" or "queue"; a dead letter records it.
        dead_letters: Where dead letters go.
        positions: Where the positions are kept.
        zone: The Opencast server's zone.
        protection: Protects personal data in what is delivered, and in dead letters.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        label: str,
        dead_letters: DeadLetters,
        positions: Positions,
        zone: ZoneInfo,
        protection: Protection,
    ) -> None:
        self._destination = destination
        self._label = label
        self._dead_letters = dead_letters
        self._positions = positions
        self._zone = zone
        self._protection = protection

    def run(self, file: File, *, again: bool = False) -> Iterator[FilePosition]:
        """Import `file` from where it was left; yield each position, the first and the last included.

        A caller that stops iterating leaves nothing half-done: what it was given last is stored.

        Args:
            file: The file.
            again: Import all of it, whatever was done.

        Raises:
            BadInputError: It is broken, it has changed since a part of it was imported, or more than 5 % of its
                records cannot be read.
            HarvestError: Another process imports it too.
            BlockedError: A person must change something at the destination or in S3.
            RetryableError: The destination or S3 fails.
        """
        position = self._positions.read(file, again=again)
        yield position
        if position.done:
            return
        for batch in batches(file, position.at, self._zone):
            require_few(file, batch, position.counts)
            items = self._kept(batch.items)
            unreadable = [
                letter for letter in batch.unreadable if not self._is_erased(letter.payload.get("record"))
            ]
            delivered = self._destination.deliver(list(map(self._protected, items)))
            dead_letters = [*unreadable, *(self._letter(item, reason) for item, reason in delivered.refused)]
            for letter in dead_letters:
                self._dead_letters.put(self._stored(letter, file))
            counts = position.counts + delivered.counts
            erased = len(batch.items) - len(items) + len(batch.unreadable) - len(unreadable)
            counts += RecordCounts(read=batch.total, skipped=batch.skipped, dead=len(dead_letters), erased=erased)
            position = self._positions.save(file, dataclasses.replace(position, at=batch.end, counts=counts))
            yield position
        position = self._positions.save(file, dataclasses.replace(position, done=True))
        yield position

    def redeliver(self, letter: DeadLetter) -> int:
        """Deliver the contents of a dead letter; return how many records it held.

        Raises:
            PoisonError: It still cannot be read, or the destination still refuses it.
        """
        records = letter.records()
        line = Line(0, 0, b"")
        found = [imported.useraction(record, self._zone) for record in records]
        items = [ImportedAction(one, line, place) for place, one in enumerate(found) if one is not None]
        delivered = self._destination.deliver(list(map(self._protected, self._kept(items))))
        if delivered.refused:
            raise PoisonError(delivered.refused[0][1])
        return len(records)

    def _kept(self, items: Iterable[ImportedAction]) -> list[ImportedAction]:
        """Return the items without those of people who were erased."""
        return [item for item in items if not self._is_erased(item.found.record)]

    def _is_erased(self, record: Any) -> bool:
        knows = self._protection.erased.knows()
        if knows is None or not isinstance(record, Mapping):
            return False
        source = record.get("_source")  # as elasticdump writes a document
        return is_about(knows, "useractions", source if isinstance(source, Mapping) else record)

    def _protected(self, item: ImportedAction) -> ImportedAction:
        record = self._protection.record(item.found.record)
        return item._replace(found=item.found._replace(record=record))

    def _letter(self, item: ImportedAction, reason: str) -> DeadLetter:
        """Return the dead letter for a useraction that the destination refuses; it holds the record as received."""
        record = indexed.records(_decoded(item.line))[item.place]
        return DeadLetter.of_record(STREAM, None, reason, {"record": record})

    def _stored(self, letter: DeadLetter, file: File) -> DeadLetter:
        """Return a dead letter as it is stored: protected, with its file and where its contents were going."""
        payload = dict(letter.payload)
        if "body" in payload:
            payload = self._protection.unreadable(payload["body"])
        else:
            payload["record"] = self._protection.kept(payload["record"])
        return dataclasses.replace(letter, payload={**payload, "to": self._label, "file": file.name})


def survey(file: File, zone: ZoneInfo) -> Iterator[Survey]:
    """Read `file` as an import does, but deliver nothing; yield what was found so far, after each batch.

    Raises:
        BadInputError: It is broken, or more than 5 % of its records cannot be read.
        RetryableError: S3 cannot be reached.
    """
    whole = Survey()
    yield whole
    for batch in batches(file, 0, zone):
        require_few(file, batch, RecordCounts(read=whole.read, dead=whole.unreadable))
        whole.kinds.update(item.found.kind for item in batch.items)
        whole.kinds[LineKind.OTHER] += batch.skipped
        whole.unreadable += len(batch.unreadable)
        if batch.unreadable and not whole.reason:
            whole.reason = batch.unreadable[0].reason
        times = [item.found.at for item in batch.items]
        whole.first = min(filter(None, [whole.first, *times]), default=None)
        whole.last = max(filter(None, [whole.last, *times]), default=None)
        yield whole


def batches(file: File, position: int, zone: ZoneInfo) -> Iterator[Batch]:
    """Yield the lines of a file from `position` on, in batches."""
    batch = Batch(position)
    for line in file.lines(position):
        _read(line, zone, batch)
        batch.end = line.end
        batch.size += len(line.content)
        if batch.is_full:
            yield batch
            batch = Batch(line.end)
    if batch.total:
        yield batch


def require_few(file: File, batch: Batch, before: RecordCounts) -> None:
    """Raise BadInputError if too much of a batch cannot be read; a short one is judged with all `before` it."""
    bad, total = len(batch.unreadable), batch.total
    if not batch.is_full:
        bad, total = bad + before.dead, total + before.read
    if batch.unreadable and too_many(bad, total):
        raise BadInputError(
            f"{file.name}: {bad:,} of {total:,} records cannot be read, such as the one {batch.unreadable[0].reason}."
            " So many cannot be single bad records. Expected lines of JSON, as `documents export`, elasticdump or the"
            " old tool writes them."
        )


def _read(line: Line, zone: ZoneInfo, batch: Batch) -> None:
    """Add the records of a line to the batch."""
    where = f"at byte {line.start:,}"
    try:
        contents = indexed.records(_decoded(line))
    except PoisonError as error:
        digest = hashlib.sha256(line.content).hexdigest()[:32]
        text = line.content.decode("utf-8", "backslashreplace")
        batch.unreadable.append(DeadLetter.of_message(STREAM, digest, f"{where}: {error}", {"body": text}))
        return
    for place, content in enumerate(contents):
        try:
            found = imported.useraction(content, zone)
        except PoisonError as error:
            payload: Mapping[str, object] = {"record": indexed.records(_decoded(line))[place]}
            batch.unreadable.append(DeadLetter.of_record(STREAM, None, f"{where}: {error}", payload))
            continue
        if found is None:
            batch.skipped += 1
        else:
            batch.items.append(ImportedAction(found, line, place))


def _decoded(line: Line) -> str:
    """Return a line's text, without the mark that Windows puts at the beginning of a file.

    Raises:
        PoisonError: It is too long, or not UTF-8.
    """
    if line.is_too_long:
        raise PoisonError(f"the line has {line.end - line.start:,} bytes, more than {LONGEST_LINE:,}")
    try:
        return line.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PoisonError("the line is not UTF-8") from None
