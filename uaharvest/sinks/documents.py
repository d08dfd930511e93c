"""Where documents go: Elasticsearch, or SQLite for a demo or a small site; each confirms what it has taken."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document on its way.

    Attributes:
        index: Its index, by the event's UTC day where the index is daily; never by the day of writing.
        id: Deterministic, so that a repeat overwrites instead of doubling.
        body: The fields; for an update the ones that are known this time.
        version: An external version: the document is replaced only by one of the same version or a higher one.
        update: Leave the fields of the stored document as they are that `body` does not have.
    """

    index: str
    id: str
    body: Mapping[str, Any] = dataclasses.field(repr=False)
    version: int | None = None
    update: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a store says about some of the documents it was given.

    Attributes:
        confirmed: Stored; also those of which a higher version is stored already.
        refused: Those that it will never take, with its reason.
    """

    confirmed: Sequence[Document] = ()
    refused: Sequence[tuple[Document, str]] = ()


class DocumentStore(Protocol):
    """Keeps documents by index and id."""

    def write(self, documents: Iterable[Document]) -> Iterator[Written]:
        """Store all `documents`, in bulk; yield each confirmation as it comes, in any order.

        Refused ones come last. What was neither confirmed nor refused when an exception ends the iteration may
        or may not be stored.

        Raises:
            RetryableError: It cannot be reached, is full (429) or fails, after bounded retries with back-off.
            BlockedError: It refuses us, its templates are missing, or it refuses more than 5 % of the documents.
        """
        ...

    def indices(self) -> Mapping[str, int]:
        """Return how many documents each index holds."""
        ...

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, None if there is none."""
        ...

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents (`_index`, `_id` and the fields) of the indices that match, in a stable order."""
        ...

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield every value of a keyword field once; nothing if no index matches."""
        ...
