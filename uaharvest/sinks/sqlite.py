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
from operator import methodcaller
from pathlib import Path
from typing import Any

from uaharvest.documents.document import Document, merged
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.retries import Retries
from uaharvest.sinks import Receipt
from uaharvest.sinks.documents import DocumentKey, Group, Has, Mentions, Where, Within, matching

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
# Reading all bodies of these indices takes a second a million. An index of values would make each write slower, and
# nobody looks for a person often. LIKE ignores the case of ASCII letters, which finds e-mail addresses; it is faster
# than instr. JSON writes other letters as escapes.
_MENTIONS = "body LIKE ? ESCAPE '!'"
_WILD = re.compile("[%_!]")  # what LIKE takes for more than itself
_DELETE = "DELETE FROM documents WHERE in_index = ? AND id = ?"
_DROP = "DELETE FROM documents WHERE in_index = ? AND id IN (SELECT id FROM documents WHERE in_index = ? LIMIT ?)"
_SELECT = "SELECT in_index, id, {body} FROM {source} WHERE in_index = ? AND {condition}{order}"
_GROUPS = """
SELECT count(*), sum(version), {columns} FROM {source}
WHERE in_index IN (SELECT value FROM json_each(?)) AND {condition} GROUP BY {names}
"""
_HAS = "{value} IN (SELECT value FROM json_each(?))"
# Made by the first who selects by a field: without it, each selection would read the whole file.
_BY_FIELD = 'CREATE INDEX IF NOT EXISTS "documents_by_{field}" ON documents ({value})'

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

    def get_many(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, dict[str, Any]]:
        """Return the fields of several documents; see `DocumentStore.get_many`."""
        with self._connection() as connection:
            found = connection.execute(_GET_MANY, (json.dumps(list(keys)),))
            return {(index, id_): json.loads(body) for index, id_, body in found}

    def select(
        self,
        index_pattern: str,
        where: Where | None = None,
        fields: Sequence[str] | None = None,
        *,
        only_open: bool = False,  # noqa: ARG002 - none is ever closed
    ) -> Iterator[dict[str, Any]]:
        """Yield documents, in the order of their ids unless `where` selects; see `DocumentStore.select`."""
        body = "'{}'" if fields is not None and not fields else "body"  # some come from the same page as all
        with self._connection() as connection:
            source, condition, values = _selection(connection, where)
            order = " ORDER BY id" if where is None else ""
            query = _SELECT.format(body=body, source=source, condition=condition, order=order)
            for index in self.matching(index_pattern):
                for in_index, id_, text in connection.execute(query, (index, *values)):
                    yield {"_index": in_index, "_id": id_, **json.loads(text)}

    def groups(
        self,
        index_pattern: str,
        fields: Sequence[str],
        where: Where | None = None,
        *,
        only_open: bool = False,  # noqa: ARG002 - none is ever closed
    ) -> Iterator[Group]:
        """Group documents; see `DocumentStore.groups`."""
        indices = json.dumps(self.matching(index_pattern))
        columns = [f"{_value(field)} AS field{number}" for number, field in enumerate(fields)]
        names = ", ".join(f"field{number}" for number in range(len(fields)))
        with self._connection() as connection:
            source, condition, values = _selection(connection, where)
            query = _GROUPS.format(columns=", ".join(columns), source=source, condition=condition, names=names)
            for count, versions, *key in connection.execute(query, (indices, *values)):
                yield Group(tuple(key), count, f"{count}.{versions}")

    def delete(self, keys: Iterable[DocumentKey]) -> Iterator[int]:
        """Delete documents; see `DocumentStore.delete`. What they held is overwritten in the file."""
        remaining = iter(keys)
        while batch := list(itertools.islice(remaining, DELETED_AT_ONCE)):
            with self._erasing() as connection:
                yield self._changed(connection, methodcaller("executemany", _DELETE, batch))

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


def _value(field: str) -> str:
    """Return the SQL of the value of a field, as text."""
    path = "".join(f'."{part}"' for part in field.split("."))
    return f"CAST(json_extract(body, '${path}') AS TEXT)"


def _selection(connection: sqlite3.Connection, where: Where | None) -> tuple[str, str, list[str]]:
    """Return SQL that selects documents: the table, the condition, and the values of its parameters."""
    match where:
        case Has(field, wanted):
            connection.execute(_BY_FIELD.format(field=field, value=_value(field)))
            source = f'documents INDEXED BY "documents_by_{field}"'
            return source, _HAS.format(value=_value(field)), [json.dumps(list(wanted))]
        case Within(field):
            signs = {"gte": ">=", "lt": "<"}
            conditions = [f"{_value(field)} {signs[operator]} ?" for operator in where.bounds]
            return "documents", " AND ".join(conditions), list(where.bounds.values())
        case Mentions(_, wanted):
            texts = [_WILD.sub(r"!\g<0>", json.dumps(value)[1:-1]) for value in wanted]
            return "documents", f"({' OR '.join([_MENTIONS] * len(texts))})", [f"%{text}%" for text in texts]
        case None:
            return "documents", "TRUE", []


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
