"""What is special about the SQLite file: many processes, and what can be wrong with a file."""

import contextlib
import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError, RetryableError
from uaharvest.sinks import sqlite
from uaharvest.sinks.sqlite import SqliteStore

DAY = "useractions-2026.11.20"
EACH = 1000
WRITERS, MOMENTS = 8, 60


def write_many(path, start, barrier):
    """In a process of its own: write EACH documents, every one in an index that others write too."""
    barrier.wait()
    store = SqliteStore(path)
    documents = [Document(DAY, str(number), {"action_id": number}) for number in range(start, start + EACH)]
    update = Document("episodes", "shared", {f"by-{start}": start}, update=True)
    for _ in store.write([*documents, update]):
        pass


def test_many_processes_write_at_once_from_the_first_moment(tmp_path):
    path = tmp_path / "documents.db"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    writers = [context.Process(target=write_many, args=(path, EACH * number, barrier)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    store = SqliteStore(path)
    assert store.indices() == {"episodes": 1, DAY: 4 * EACH}
    assert store.get("episodes", "shared") == {f"by-{EACH * number}": EACH * number for number in range(4)}


def write_first(folder, number, barrier, outcomes):
    """In a process of its own: write one document into each of many files, none of which is there yet."""
    failures = []
    for moment in range(MOMENTS):
        barrier.wait(60)
        try:
            list(SqliteStore(folder / f"{moment}.db").write([Document(DAY, str(number), {})]))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(repr(error))
    outcomes.put(failures)


def test_the_first_moment_of_a_file_is_everybodys(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(WRITERS), context.Queue()
    writers = [context.Process(target=write_first, args=(tmp_path, n, barrier, outcomes)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    assert [outcomes.get(timeout=300) for _ in writers] == [[]] * WRITERS
    for writer in writers:
        writer.join()
    assert [SqliteStore(tmp_path / f"{n}.db").indices() for n in range(MOMENTS)] == [{DAY: WRITERS}] * MOMENTS


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_its_owners_alone(tmp_path, umask):
    path = tmp_path / "documents.db"
    former = os.umask(umask)
    try:
        store = SqliteStore(path)
        list(store.write([Document(DAY, "1", {})]))
        export = store.select(DAY)
        next(export)  # while it is open, its -wal and -shm are there
        list(store.write([Document(DAY, "2", {})]))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        export.close()
    finally:
        os.umask(former)
    assert modes == dict.fromkeys(("documents.db", "documents.db-wal", "documents.db-shm"), 0o600)


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    path = tmp_path / "documents.db"
    store = SqliteStore(path)
    list(store.write([Document(DAY, "1", {})]))
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.indices() == {DAY: 1}
    writer.close()


def test_a_file_that_stays_locked_is_retryable(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_LOCK_TIMEOUT", 0.05)
    path = tmp_path / "documents.db"
    store = SqliteStore(path)
    list(store.write([Document(DAY, "1", {})]))
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match=f"SQLite file {path}: database is locked"):
            list(store.write([Document(DAY, "2", {})]))
    writer.close()


def test_what_was_confirmed_before_an_error_stays_and_the_rest_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BATCH", 2)
    store = SqliteStore(tmp_path / "documents.db")
    writing = store.write([Document(DAY, "1", {}), Document(DAY, "2", {}), Document(DAY, "3", {"bad": object()})])
    assert [document.id for document in next(writing).confirmed] == ["1", "2"]
    with pytest.raises(TypeError):
        next(writing)
    assert [document["_id"] for document in store.select(DAY)] == ["1", "2"]


def test_a_folder_that_is_not_there_blocks_and_the_setting_is_named(tmp_path):
    with pytest.raises(BlockedError, match=r"unable to open database file.*DOCUMENTS_URL"):
        list(SqliteStore(tmp_path / "nowhere" / "documents.db").write([Document(DAY, "1", {})]))


def test_a_file_of_another_kind_blocks(tmp_path):
    path = tmp_path / "documents.db"
    path.write_bytes(b"no database " * 100)
    with pytest.raises(BlockedError, match="file is not a database"):
        SqliteStore(path).indices()


def test_an_export_is_in_the_order_of_ids(tmp_path):
    store = SqliteStore(tmp_path / "documents.db")
    list(store.write([Document(DAY, id_, {}) for id_ in ("b", "c", "a")]))
    assert [document["_id"] for document in store.select(DAY)] == ["a", "b", "c"]


def test_a_connection_of_another_thread_keeps_its_lock_while_the_file_is_opened_again(tmp_path):
    path = tmp_path / "documents.db"
    store = SqliteStore(path)
    list(store.write([Document("useractions", "1", {})]))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO documents VALUES ('useractions', '2', 1, '{}')")
        store.indices()
        # The last process that closes the file removes the log. This one is not the last.
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sqlite3; sqlite3.connect({str(path)!r}).execute('PRAGMA user_version')",
            ],
            check=True,
        )
        assert path.with_name("documents.db-wal").stat().st_size > 0
    assert store.indices() == {"useractions": 2}
