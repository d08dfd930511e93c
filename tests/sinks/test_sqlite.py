"""What is special about the SQLite file: many processes, and what can be wrong with a file."""

import multiprocessing
import sqlite3

import pytest

from uaharvest.errors import BlockedError, RetryableError
from uaharvest.sinks import sqlite
from uaharvest.sinks.documents import Document
from uaharvest.sinks.sqlite import SqliteStore

DAY = "useractions-2026.11.20"
EACH = 1000


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


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    path = tmp_path / "documents.db"
    store = SqliteStore(path)
    list(store.write([Document(DAY, "1", {})]))
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.indices() == {DAY: 1}
    writer.close()


def test_a_file_that_stays_locked_is_retryable(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.05)
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
    assert [document["_id"] for document in store.export(DAY)] == ["1", "2"]


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
    assert [document["_id"] for document in store.export(DAY)] == ["a", "b", "c"]
