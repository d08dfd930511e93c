"""Writes documents to an SQLite file with the same indices, ids and rules as in Elasticsearch; for small sites."""

import contextlib
import itertools
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from uaharvest.documents.document import Document, merged
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.retries import Retries
from uaharvest.sinks import Receipt
from uaharvest.sinks.documents import Key, Within, matching

BATCH = 500  # documents per transaction; other processes wait for its duration
DELETED_AT_ONCE = 5000  # they are small changes

_LOCK_TIMEOUT = 30  # seconds to wait for other transactions
_CREATING = threading.Lock()  # keeps threads from opening a file that another has just created and will close

_TABLE = """
CREATE TABLE IF NOT EXISTS documents (
    in_index TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (in_index, id)
) WITHOUT ROWID
"""
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'documents'"
# Versions are numbered as in Elasticsearch: a document without one gets the stored version plus one.
_INDEX = """
INSERT INTO documents (in_index, id, version, body) VALUES (:index, :id, coalesce(:version, 1), :body)
ON CONFLICT (in_index, id) DO UPDATE SET body = :body, version = coalesce(:version, documents.version + 1)
WHERE :version IS NULL OR :version >= documents.version
"""
_GET = "SELECT body FROM documents WHERE in_index = ? AND id = ?"
_GET_MANY = """
SELECT documents.in_index, documents.id, documents.body FROM json_each(?) AS key
JOIN documents
ON documents.in_index = json_extract(key.value, '$[0]') AND documents.id = json_extract(key.value, '$[1]')
"""
_COUNTS = "SELECT in_index, count(*) FROM documents GROUP BY in_index ORDER BY in_index"
# Jumps from one index to the next: to count them would read all ids.
_NAMES = """
WITH RECURSIVE name (of) AS (
    SELECT min(in_index) FROM documents
    UNION ALL
    SELECT (SELECT min(in_index) FROM documents WHERE in_index > name.of) FROM name WHERE name.of IS NOT NULL
)
SELECT of FROM name WHERE of IS NOT NULL
"""
_EXPORT = "SELECT in_index, id, body FROM documents WHERE in_index = ? ORDER BY id"
_HAVING = """
SELECT in_index, id, body FROM documents
WHERE in_index = ? AND json_extract(body, ?) IN (SELECT value FROM json_each(?)) ORDER BY id
"""
_IDS = "SELECT id FROM documents WHERE in_index = ?"
_IDS_WITHIN = f"{_IDS} AND json_extract(body, ?) >= ? AND json_extract(body, ?) < ?"
_TALLY = """
SELECT CAST(json_extract(body, ?) AS TEXT) AS value, count(*) FROM documents
WHERE in_index = ? AND value IS NOT NULL GROUP BY value
"""
_IDS_BEFORE = f"{_IDS} AND json_extract(body, ?) < ?"
# Reading all bodies of these indices takes a second a million. An index of values would make each write slower, and
# nobody looks for a person often. LIKE ignores the case of ASCII letters, which finds e-mail addresses; it is faster
# than instr. JSON writes other letters as escapes.
_HOLDING = """
SELECT in_index, id, body FROM documents
WHERE in_index IN (SELECT value FROM json_each(?)) AND ({conditions})
"""
_WILD = re.compile("[%_!]")  # what LIKE takes for more than itself
_DELETE = "DELETE FROM documents WHERE in_index = ? AND id = ?"
_DROP = "DELETE FROM documents WHERE in_index = ? AND id IN (SELECT id FROM documents WHERE in_index = ? LIMIT ?)"
_STATES = """
SELECT CAST(json_extract(body, :path) AS TEXT) AS value, count(*) || '.' || sum(version) FROM documents
WHERE in_index IN (SELECT value FROM json_each(:indices)) AND value IS NOT NULL GROUP BY value
"""
# Made by the first who selects by a field: without it, each selection would read the whole file.
_BY_FIELD = """
CREATE INDEX IF NOT EXISTS documents_by_{field} ON documents (CAST(json_extract(body, '$."{field}"') AS TEXT))
"""
_SELECT = """
SELECT body FROM documents WHERE CAST(json_extract(body, '$."{field}"') AS TEXT) = ?
AND in_index IN (SELECT value FROM json_each(?))
"""
# json_each makes each array element a value of the field, as in Elasticsearch.
_DISTINCT = """
SELECT DISTINCT CAST(field.value AS TEXT) FROM documents, json_each(documents.body, :path) AS field
WHERE in_index IN (SELECT value FROM json_each(:indices)) AND field.type IN ('text', 'integer') ORDER BY 1
"""

_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_PRIMARY = 0xFF  # the low byte of an extended error code


class SqliteStore:
    """Stores documents in one SQLite file on a local disk; many processes and threads may use it at once.

    Args:
        path: The file; it is created if missing, its directory is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, documents: Iterable[Document]) -> Iterator[Receipt[Document]]:
        """Store all `documents`; see `DocumentStore.write`. SQLite never refuses any."""
        remaining = iter(documents)
        while batch := list(itertools.islice(remaining, BATCH)):
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                for document in batch:
                    _store(connection, document)
                connection.execute("COMMIT")
            yield Receipt(confirmed=batch)

    def indices(self) -> Mapping[str, int]:
        """Return how many documents each index holds."""
        with self._connection() as connection:
            return dict(connection.execute(_COUNTS))

    def matching(self, index_pattern: str) -> Sequence[str]:
        """Return the names of the matching indices; see `DocumentStore.matching`."""
        with self._connection() as connection:
            names = [name for (name,) in connection.execute(_NAMES)]
        return matching(names, index_pattern)

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, or None if it does not exist."""
        with self._connection() as connection:
            return _stored(connection, index, document_id)

    def get_many(self, keys: Collection[Key]) -> dict[Key, dict[str, Any]]:
        """Return the fields of several documents; see `DocumentStore.get_many`."""
        with self._connection() as connection:
            found = connection.execute(_GET_MANY, (json.dumps(list(keys)),))
            return {(index, id_): json.loads(body) for index, id_, body in found}

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents of the matching indices; see `DocumentStore.export`."""
        for index in self.matching(index_pattern):
            with self._connection() as connection:
                for in_index, id_, body in connection.execute(_EXPORT, (index,)):
                    yield {"_index": in_index, "_id": id_, **json.loads(body)}

    def having(self, index_pattern: str, field: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the documents that have one of these values; see `DocumentStore.having`."""
        wanted = json.dumps(sorted(values))
        for index in self.matching(index_pattern):
            with self._connection() as connection:
                for in_index, id_, body in connection.execute(_HAVING, (index, _path(field), wanted)):
                    yield {"_index": in_index, "_id": id_, **json.loads(body)}

    def ids(self, index: str, within: Within | None = None) -> Iterator[str]:
        """Yield the ids of an index; see `DocumentStore.ids`."""
        query, values = _IDS, [index]
        if within is not None:
            path, (start, end) = _path(within.field), within.bounds
            query, values = _IDS_WITHIN, [index, path, start, path, end]
        with self._connection() as connection:
            for (id_,) in connection.execute(query, values):
                yield id_

    def tally(self, index: str, field: str) -> Mapping[str, int]:
        """Count the documents by the value of a field; see `DocumentStore.tally`."""
        with self._connection() as connection:
            return dict(connection.execute(_TALLY, (_path(field), index)))

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield each distinct value of a field; nothing if no index matches."""
        values = {"path": _path(field), "indices": json.dumps(self.matching(index_pattern))}
        with self._connection() as connection:
            for (value,) in connection.execute(_DISTINCT, values):
                yield value

    def holding(
        self,
        index_pattern: str,
        fields: Sequence[str],  # noqa: ARG002 - a look at the whole body is faster than at each field
        values: Collection[str],
    ) -> Iterator[dict[str, Any]]:
        """Yield the documents that may have one of `values`; see `DocumentStore.holding`."""
        texts = [_WILD.sub(r"!\g<0>", json.dumps(value)[1:-1]) for value in values]
        query = _HOLDING.format(conditions=" OR ".join(["body LIKE ? ESCAPE '!'"] * len(texts)))
        patterns = [f"%{text}%" for text in texts]
        with self._connection() as connection:
            for index, id_, body in connection.execute(
                query, (json.dumps(self.matching(index_pattern)), *patterns)
            ):
                yield {"_index": index, "_id": id_, **json.loads(body)}

    def before(self, index: str, field: str, instant: str) -> Iterator[str]:
        """Yield the ids of documents that are older; see `DocumentStore.before`."""
        with self._connection() as connection:
            for (id_,) in connection.execute(_IDS_BEFORE, (index, _path(field), instant)):
                yield id_

    def delete(self, keys: Iterable[Key]) -> Iterator[int]:
        """Delete documents; see `DocumentStore.delete`. What they held is overwritten in the file."""
        remaining = iter(keys)
        while batch := list(itertools.islice(remaining, DELETED_AT_ONCE)):
            with self._erasing() as connection:
                yield self._changed(connection, partial(_delete_all, keys=batch))

    def drop(self, index: str) -> None:
        """Delete all documents of an index; see `DocumentStore.drop`."""
        with self._erasing() as connection:
            while self._changed(connection, lambda within: within.execute(_DROP, (index, index, DELETED_AT_ONCE))):
                pass

    @contextlib.contextmanager
    def _erasing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            yield connection
            # The log of changes holds former pages until others overwrite them.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @staticmethod
    def _changed(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], object]) -> int:
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        change(connection)
        connection.execute("COMMIT")
        return connection.total_changes - before

    def states(self, index_pattern: str, field: str) -> Mapping[str, str]:
        """Return the state of the documents by the value of a field; see `DocumentStore.states`."""
        values = {"path": _path(field), "indices": json.dumps(self.matching(index_pattern))}
        with self._connection() as connection:
            return dict(connection.execute(_STATES, values))

    def select(
        self,
        index_pattern: str,
        field: str,
        value: str,
        fields: Sequence[str],  # noqa: ARG002 - all come from the same page of the disk
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the documents whose field has a value; see `DocumentStore.select`."""
        indices = json.dumps(self.matching(index_pattern))
        with self._connection() as connection:
            connection.execute(_BY_FIELD.format(field=field))
            for (body,) in connection.execute(_SELECT.format(field=field), (value, indices)):
                yield json.loads(body)

    def combinations(
        self, index_pattern: str, field: str, value: str, fields: Sequence[str]
    ) -> Iterator[tuple[tuple[str | None, ...], int]]:
        """Yield the combinations of values of some fields; see `DocumentStore.combinations`."""
        indices = json.dumps(self.matching(index_pattern))
        columns = ", ".join(["CAST(json_extract(body, ?) AS TEXT)"] * len(fields))
        query = _SELECT.format(field=field).replace("body", f"count(*), {columns}", 1)
        places = ", ".join(str(number + 2) for number in range(len(fields)))
        with self._connection() as connection:
            connection.execute(_BY_FIELD.format(field=field))
            given = (*map(_path, fields), value, indices)
            for count, *key in connection.execute(f"{query} GROUP BY {places}", given):
                yield tuple(key), count

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file; every call does so, because connections must not cross forks or threads."""
        self._create()
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT, isolation_level=None)
            ) as connection:
                _prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise self._translate(error) from None

    def _create(self) -> None:
        """Create the file if it does not exist; SQLite would make it world-readable.

        Its -wal and -shm files get the same mode. An existing file is never opened here: when a process closes any
        descriptor of a file, POSIX releases all the locks that its other threads hold on it, and SQLite's writers
        would then corrupt each other's pages.
        """
        with _CREATING, contextlib.suppress(OSError):  # SQLite reports what is wrong
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _translate(self, error: sqlite3.Error) -> HarvestError:
        if _code(error) in _PASSING:
            return RetryableError(f"SQLite file {self._path}: {error}")
        return BlockedError(f"SQLite file {self._path}: {error}. Check DOCUMENTS_URL, its folder and permissions.")


def _delete_all(connection: sqlite3.Connection, keys: Iterable[Key]) -> None:
    connection.executemany(_DELETE, keys)


def _path(field: str) -> str:
    return "$" + "".join(f'."{part}"' for part in field.split("."))


def _prepare(connection: sqlite3.Connection) -> None:
    """Prepare the file, which many processes may open for the first time at once.

    SQLite (3.40) ignores the time-out and returns SQLITE_BUSY at once where waiting could deadlock: when two
    processes switch a new file to WAL, and while the last one to close it cleans up.
    """
    retries = Retries(first=0.02, growth=1.0, jitter=(0.05, 1.0), within=_LOCK_TIMEOUT)
    retries.call(lambda: _make_ready(connection), pause=time.sleep, again=_collides)


def _make_ready(connection: sqlite3.Connection) -> None:
    try:
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for writers
        connection.execute("PRAGMA synchronous = FULL")  # confirmed documents survive a power cut
        if connection.execute(_IS_THERE).fetchone() is None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.execute("COMMIT")
    except sqlite3.OperationalError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _collides(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and _code(error) in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY


def _store(connection: sqlite3.Connection, document: Document) -> None:
    body = document.body
    if document.update:
        stored = _stored(connection, document.index, document.id) or {}
        body = merged(stored, body)
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
