"""Stores records as the documents that the indexer makes of them, without a queue in between."""

import itertools
from collections.abc import Iterable, Iterator

from uaharvest.documents import indexed
from uaharvest.documents.document import Document
from uaharvest.documents.indexed import Locate
from uaharvest.errors import PoisonError
from uaharvest.sinks import Outgoing, Receipt
from uaharvest.sinks.documents import DocumentSink

AT_ONCE = 1000  # documents in memory


class RecordsToDocuments:
    """A sink for records that stores them as documents."""

    def __init__(self, store: DocumentSink, locate: Locate, infix: str | None) -> None:
        """Write to `store`; `locate` returns the `geoip` fields of an address, `infix` is INDEX_INFIX."""
        self._store = store
        self._locate = locate
        self._infix = infix

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Receipt[Outgoing]]:
        """Store all `records`; see `Sink.deliver`.

        Raises:
            IndexBlockedError: Some indices accept no documents. The others have confirmed theirs.
        """
        rest = iter(records)
        while batch := list(itertools.islice(rest, AT_ONCE)):
            documents: list[Document] = []
            unreadable: list[tuple[Outgoing, str]] = []
            for outgoing in batch:
                try:
                    (record,) = indexed.records(outgoing.body)
                    documents.append(indexed.document(record, self._locate, self._infix, outgoing))
                except PoisonError as error:
                    unreadable.append((outgoing, str(error)))
            for written in self._store.write(documents):
                refused = [(document.origin, reason) for document, reason in written.refused]
                yield Receipt([document.origin for document in written.confirmed], refused)
            if unreadable:
                yield Receipt(refused=unreadable)
