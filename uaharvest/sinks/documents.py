"""Where documents go: Elasticsearch, or SQLite for a demo or a small site; each confirms what it has taken."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from uaharvest.errors import BlockedError

_REFUSED_SHARE = 0.05  # more than this are no bad documents but a bad index
_REFUSED_FEW = 3  # so many may be bad documents however few there are in all


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document on its way.

    Attributes:
        index: Its index, by the event's UTC day where the index is daily; never by the day of writing.
        id: Deterministic, so that a repeat overwrites instead of doubling.
        body: The fields; for an update the ones that are known this time.
        version: An external version, 0 or more: the document is replaced only by one of the same version or a
            higher one. Without one it is replaced always, and the new one's version is the next.
        update: Leave the fields of the stored document as they are that `body` does not have, also in the objects
            in it; what `body` has replaces, also a list, also by null. Not together with `version`.
    """

    index: str
    id: str
    body: Mapping[str, Any] = dataclasses.field(repr=False)
    version: int | None = None
    update: bool = False

    def __post_init__(self) -> None:
        if self.update and self.version is not None:
            raise ValueError("Elasticsearch takes no external version with an update")


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a store says about some of the documents it was given.

    Attributes:
        confirmed: Stored; also those of which a higher version is stored already.
        refused: Those that it will never take, with its reason.
    """

    confirmed: Sequence[Document] = ()
    refused: Sequence[tuple[Document, str]] = ()


class DocumentSink(Protocol):
    """Takes documents and confirms them."""

    def write(self, documents: Iterable[Document]) -> Iterator[Written]:
        """Store all `documents`, in bulk; yield each confirmation as it comes, in any order.

        Refused ones come last. What was neither confirmed nor refused when an exception ends the iteration may
        or may not be stored.

        Raises:
            RetryableError: It cannot be reached, is full (429) or fails, after bounded retries with back-off.
            BlockedError: It refuses us, its templates are missing, or it refuses more than 5 % of the documents.
        """
        ...


class DocumentStore(DocumentSink, Protocol):
    """Keeps documents by index and id."""

    def indices(self) -> Mapping[str, int]:
        """Return how many documents each index holds, by name; of the indices that uaharvest writes."""
        ...

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, None if there is none."""
        ...

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents (`_index`, `_id` and the fields) of the indices that match, index by index.

        What is written meanwhile does not disturb the index that is being read.

        Args:
            index_pattern: Names with `*`, separated by commas.
        """
        ...

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield every value of a keyword field once; nothing if no index matches."""
        ...


def matching(indices: Iterable[str], index_pattern: str) -> list[str]:
    """Return those of `indices` that match names with `*`, separated by commas."""
    patterns = index_pattern.split(",")
    return [index for index in indices if any(fnmatch.fnmatchcase(index, pattern) for pattern in patterns)]


def require_few(refused: Sequence[tuple[Document, str]], total: int, what: str) -> None:
    """Raise BlockedError if so many of `total` documents are refused that it is not the documents' fault."""
    if len(refused) > max(_REFUSED_FEW, _REFUSED_SHARE * total):
        document, reason = refused[0]
        raise BlockedError(
            f"{what} refuses {len(refused)} of {total} documents, such as one for {document.index}: {reason}."
            " So many are no single bad documents: look at the index's mapping."
        )
