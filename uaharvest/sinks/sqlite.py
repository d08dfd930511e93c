"""Documents to an SQLite file, under the same indices, ids and rules as in Elasticsearch; for small sites."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.sinks.documents import Document, Written, matching

BATCH = 500  # documents of one transaction: other processes wait as long as that takes

_PATIENCE = 30  # seconds for others to end their transactions

_TABLE = """
CREATE TABLE IF NOT EXISTS documents (
    in_index TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (in_index, id)
) WITHOUT ROWID
"""
# Elasticsearch's numbering: a document that comes without a version is the one after the stored one.
_INDEX = """
INSERT INTO documents (in_index, id, version, body) VALUES (:index, :id, coalesce(:version, 1), :body)
ON CONFLICT (in_index, id) DO UPDATE SET body = :body, version = coalesce(:version, documents.version + 1)
WHERE :version IS NULL OR :version >= documents.version
"""
_GET = "SELECT body FROM documents WHERE in_index = ? AND id = ?"
_COUNTS = "SELECT in_index, count(*) FROM documents GROUP BY in_index ORDER BY in_index"
_EXPORT = "SELECT in_index, id, body FROM documents WHERE in_index = ? ORDER BY id"
# json_each: each element of an array is a value of the field, as in Elasticsearch.
_DISTINCT = """
SELECT DISTINCT CAST(field.value AS TEXT) FROM documents, json_each(documents.body, :path) AS field
WHERE in_index IN (SELECT value FROM json_each(:indices)) AND field.type IN ('text', 'integer') ORDER BY 1
"""

_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_PRIMARY = 0xFF  # the low byte of an extended error code


class SqliteStore:
    """Keeps documents in one SQLite file on a local disk; many processes and threads may use it at once.

    Args:
        path: The file; it is created, its folder is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, documents: Iterable[Document]) -> Iterator[Written]:
        """Store all `documents`; see `DocumentStore.write`. SQLite refuses none."""
        remaining = iter(documents)
        while batch := list(itertools.islice(remaining, BATCH)):
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                for document in batch:
                    _store(connection, document)
                connection.execute("COMMIT")
            yield Written(confirmed=batch)

    def indices(self) -> Mapping[str, int]:
        """Return how many documents each index holds."""
        with self._connection() as connection:
            return dict(connection.execute(_COUNTS))

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, None if there is none."""
        with self._connection() as connection:
            return _stored(connection, index, document_id)

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents of the indices that match; see `DocumentStore.export`."""
        for index in self._matching(index_pattern):
            with self._connection() as connection:
                for in_index, id_, body in connection.execute(_EXPORT, (index,)):
                    yield {"_index": in_index, "_id": id_, **json.loads(body)}

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield every value of a field once; nothing if no index matches."""
        path = "$" + "".join(f'."{part}"' for part in field.split("."))
        values = {"path": path, "indices": json.dumps(self._matching(index_pattern))}
        with self._connection() as connection:
            for (value,) in connection.execute(_DISTINCT, values):
                yield value

    def _matching(self, index_pattern: str) -> list[str]:
        return matching(self.indices(), index_pattern)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file; for each call anew, since no connection may cross a fork or a thread."""
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for who writes
                connection.execute("PRAGMA synchronous = FULL")  # confirmed is confirmed, also if the power goes
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise self._translate(error) from None

    def _translate(self, error: sqlite3.Error) -> HarvestError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
        if code in _PASSING:
            return RetryableError(f"SQLite file {self._path}: {error}")
        return BlockedError(f"SQLite file {self._path}: {error}. Check DOCUMENTS_URL, its folder and permissions.")


def _store(connection: sqlite3.Connection, document: Document) -> None:
    body = document.body
    if document.update:
        stored = _stored(connection, document.index, document.id) or {}
        body = _merged(stored, body)
    connection.execute(
        _INDEX,
        {
            "index": document.index,
            "id": document.id,
            "version": document.version,
            "body": json.dumps(body, separators=(",", ":")),
        },
    )


def _stored(connection: sqlite3.Connection, index: str, document_id: str) -> dict[str, Any] | None:
    row = connection.execute(_GET, (index, document_id)).fetchone()
    stored: dict[str, Any] | None = json.loads(row[0]) if row else None
    return stored


def _merged(stored: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return `stored` with what is `known`, objects merged and all else replaced, as Elasticsearch updates."""
    merged = dict(stored)
    for name, value in known.items():
        before = stored.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(before, value)
        else:
            merged[name] = value
    return merged
