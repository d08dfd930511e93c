"""Stores for documents: Elasticsearch or OpenSearch, or SQLite for a small site; each confirms what it has stored."""

import dataclasses
import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError
from uaharvest.intervals import Interval
from uaharvest.sinks import Receipt
from uaharvest.tolerance import too_many

Key = tuple[str, str]  # the index and the id of a document


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """Selects documents whose `field`, an instant as `YYYY-mm-ddTHH:MM:SS.sssZ`, lies in a half-open interval."""

    field: str
    interval: Interval

    @property
    def bounds(self) -> tuple[str, str]:
        """Return the first instant that is inside and the first that is after it, in the form of the field."""
        start, end = (f"{bound:%FT%T}.000Z" for bound in (self.interval.start, self.interval.end))
        return start, end


class DocumentSink(Protocol):
    """Stores documents and confirms them."""

    def write(self, documents: Iterable[Document]) -> Iterator[Receipt[Document]]:
        """Store all `documents`, in bulk; yield each confirmation as it comes, in any order.

        A document is also confirmed if a higher version is already stored. Refusals come last. If an exception
        ends the iteration, documents that were neither confirmed nor refused may or may not be stored.

        Raises:
            RetryableError: After a limited number of retries with back-off, the store still cannot be reached, is
                full (429) or fails.
            IndexBlockedError: Some indices accept nothing: they are read-only, closed, without a template, or
                refuse more than 5 % of their documents. All other documents were confirmed or refused before.
            BlockedError: The store denies us access.
        """
        ...


class DocumentStore(DocumentSink, Protocol):
    """Stores documents by index and id."""

    def indices(self) -> Mapping[str, int]:
        """Return the number of documents in each index that uaharvest writes, by name."""
        ...

    def matching(self, index_pattern: str) -> Sequence[str]:
        """Return the sorted names of the indices that match `index_pattern`, including closed ones.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
        """
        ...

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, or None if it does not exist."""
        ...

    def get_many(self, keys: Collection[Key]) -> dict[Key, dict[str, Any]]:
        """Return the fields of those of these documents that exist."""
        ...

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents (`_index`, `_id` and the fields) of the matching indices, index by index.

        Concurrent writes do not affect the index being read.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
        """
        ...

    def having(self, index_pattern: str, field: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield those documents that `export` yields whose keyword `field` has one of `values`."""
        ...

    def ids(self, index: str, within: Within | None = None) -> Iterator[str]:
        """Yield the id of each document of one index, or of those `within` an interval; nothing without such an index.

        Args:
            index: The index's whole name.
            within: The documents to select; None: all.
        """
        ...

    def tally(self, index: str, field: str) -> Mapping[str, int]:
        """Return how many documents of one index have each value of a keyword field; empty without such an index."""
        ...

    def holding(
        self, index_pattern: str, fields: Sequence[str], values: Collection[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield all documents (as `export` does) that have one of `values` in one of `fields`.

        An e-mail address is found in capital letters, too.

        Those written just before are found. The store may yield others as well, so look at each.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
            fields: Keyword fields, in nested objects as `object.field`.
            values: What they may hold.
        """
        ...

    def before(self, index: str, field: str, instant: str) -> Iterator[str]:
        """Yield the ids of the documents of one index in whose date field there is an earlier instant.

        Args:
            index: The index's whole name.
            field: The field.
            instant: As `Within` has it.
        """
        ...

    def delete(self, keys: Iterable[Key]) -> Iterator[int]:
        """Delete documents; yield how many of them were there, batch by batch, as each is confirmed.

        Raises:
            RetryableError: After a limited number of retries, the store cannot be reached or fails.
            BlockedError: The store denies us access.
        """
        ...

    def drop(self, index: str) -> None:
        """Delete an index with all its documents, if it exists; raises as `delete` does."""
        ...

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield each distinct value of a keyword field; nothing if no index matches."""
        ...

    def states(self, index_pattern: str, field: str) -> Mapping[str, str]:
        """Return a short text for each value of a keyword field; empty if no index matches.

        The text changes whenever a document with this value is added, written again or deleted, and at no other time
        except a re-index or a restore.
        """
        ...

    def select(
        self, index_pattern: str, field: str, value: str, fields: Sequence[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the documents whose keyword field has a value, page by page, in any order.

        Writes that happen meanwhile do not affect the index being read. Closed indices are left out.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
            field: The field.
            value: Its value.
            fields: Names of the fields to return, in nested objects as `object.field`; there may be others too.
        """
        ...

    def combinations(
        self, index_pattern: str, field: str, value: str, fields: Sequence[str]
    ) -> Iterator[tuple[tuple[str | None, ...], int]]:
        """Yield combinations of the values that some keyword fields have, and how many documents have them.

        A combination may come more than once. Closed indices are left out.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
            field: A keyword field that selects documents.
            value: Its value.
            fields: The fields; None stands for a field that a document does not have.
        """
        ...


def matching(indices: Iterable[str], index_pattern: str) -> list[str]:
    """Return those of `indices` that match the pattern: names, which may contain `*`, separated by commas."""
    patterns = index_pattern.split(",")
    return [index for index in indices if any(fnmatch.fnmatchcase(index, pattern) for pattern in patterns)]


def require_few(refused: Sequence[tuple[Document, str]], total: int, what: str) -> None:
    """Raise BlockedError if so many of `total` documents are refused that the documents cannot be at fault."""
    if too_many(len(refused), total):
        document, reason = refused[0]
        raise BlockedError(
            f"{what} refuses {len(refused)} of {total} documents, such as one for {document.index}: {reason}."
            " So many are no single bad documents: look at the index's mapping."
        )
