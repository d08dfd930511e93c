"""Stores for documents: Elasticsearch or OpenSearch, or SQLite for a small site; each confirms what it has stored."""

import dataclasses
import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError
from uaharvest.sinks import Receipt
from uaharvest.tolerance import too_many

DocumentKey = tuple[str, str]  # the index and the id of a document


@dataclasses.dataclass(frozen=True, slots=True)
class Has:
    """Selects documents whose keyword `field` has one of `values`."""

    field: str
    values: Collection[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """Selects documents whose `field`, an instant in UTC, is not before `start` and is before `end`, if these are set.

    The instants in the documents begin with `YYYY-mm-ddTHH:MM:SS`.
    """

    field: str
    start: datetime | None = None
    end: datetime | None = None

    @property
    def bounds(self) -> Mapping[str, str]:
        """Return the bounds by their operators, `gte` and `lt`, as text that sorts before all fractions and zones."""
        bounds = {"gte": self.start, "lt": self.end}
        return {operator: f"{bound:%FT%T}" for operator, bound in bounds.items() if bound is not None}


@dataclasses.dataclass(frozen=True, slots=True)
class Mentions:
    """Selects all documents that have one of `values` in one of the keyword `fields`, and perhaps others.

    An e-mail address is found in capital letters, too. Documents written just before are found.
    """

    fields: Sequence[str]
    values: Collection[str]


Where = Has | Within | Mentions


class Group(NamedTuple):
    """Documents that have the same values in some fields.

    Attributes:
        values: The values; None stands for a field that the documents do not have.
        documents: How many there are.
        state: A text that changes whenever a document of the group is added, written again or deleted, and at no other
            time except a re-index or a restore.
    """

    values: tuple[str | None, ...]
    documents: int
    state: str


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

    def get_many(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, dict[str, Any]]:
        """Return the fields of those of these documents that exist."""
        ...

    def select(
        self,
        index_pattern: str,
        where: Where | None = None,
        fields: Sequence[str] | None = None,
        *,
        only_open: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield documents (`_index`, `_id` and the fields) of the matching indices, index by index.

        Concurrent writes do not affect the index being read. In a cluster, documents that were written a second ago
        may be missing.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
            where: Which documents; None: all.
            fields: Names of the fields to return, in nested objects as `object.field`; there may be others too. None:
                all; empty: none.
            only_open: Leave out closed indices, which are an error otherwise.
        """
        ...

    def groups(
        self, index_pattern: str, fields: Sequence[str], where: Where | None = None, *, only_open: bool = False
    ) -> Iterator[Group]:
        """Group documents by the values of some keyword fields; a group may come in parts.

        Args:
            index_pattern: Names, which may contain `*`, separated by commas.
            fields: The fields.
            where: Which documents; None: all.
            only_open: As in `select`.
        """
        ...

    def delete(self, keys: Iterable[DocumentKey]) -> Iterator[int]:
        """Delete documents; yield how many of them were there, batch by batch, as each is confirmed.

        Raises:
            RetryableError: After a limited number of retries, the store cannot be reached or fails.
            BlockedError: The store denies us access.
        """
        ...

    def drop(self, index: str) -> None:
        """Delete an index with all its documents, if it exists; raises as `delete` does."""
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
            " So many cannot be single bad documents: look at the index's mapping."
        )
