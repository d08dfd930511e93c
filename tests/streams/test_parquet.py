"""Viewings from Parquet files, alone and beside the store."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from tests.exporting import site
from uaharvest.errors import BlockedError, RetryableError
from uaharvest.exporting.parquet import GROUP, Parquet
from uaharvest.exporting.tables import USERACTIONS
from uaharvest.privacy.people import NO_ONE
from uaharvest.settings import Settings
from uaharvest.streams.engines.derived import viewings_engine
from uaharvest.streams.parquet import ParquetUseractions
from uaharvest.streams.viewings import UNREADABLE, Recordings, StoredUseractions

PLAYERS = ("heartbeats", "events+heartbeats", "footprints")


class ErasedUser:
    """Stands for people who were erased: one user."""

    def __init__(self, user):
        self.user = user

    def knows(self):
        return lambda id_: id_ == self.user


class World:
    def __init__(self, folder):
        _, self.useractions = site.watched(3, PLAYERS, each=2, recordings=("lecture", "other"))
        self.source = site.source(folder, self.useractions)
        self.folder = folder / "it's parquet"
        dict(Parquet(self.folder).write(self.source, USERACTIONS, None, None))

    @property
    def stored(self):
        return StoredUseractions(self.source.store, "useractions-*")

    def parquet(self, erased=NO_ONE):
        return ParquetUseractions(self.folder, erased)

    def made(self, *readers, mpid="lecture"):
        counts = Counter()
        derivation = Recordings(readers, self.source.store, Settings())
        documents = {one.id: (one.index, one.body) for one in derivation.documents(mpid, [], counts)}
        assert not counts[UNREADABLE]
        return documents


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_parquet_files_give_the_documents_that_the_store_gives(world):
    documents = world.made(world.stored)
    assert len(documents) == 1 + 2 * len(PLAYERS)
    assert world.made(world.parquet()) == documents
    assert world.made(world.parquet(), mpid="other") == world.made(world.stored, mpid="other") != documents


def test_what_is_in_the_store_and_in_files_counts_once(world):
    assert world.made(world.stored, world.parquet()) == world.made(world.stored)


def test_what_the_store_no_longer_has_still_counts(world):
    before = world.made(world.stored)
    gone = min(one.index for one in world.useractions)
    world.source.store.drop(gone)
    assert world.made(world.stored) != before
    assert world.made(world.stored, world.parquet()) == before


def test_useractions_of_an_erased_person_are_left_out(world):
    user = next(one.body["huid"] for one in world.useractions if one.body["mpid"] == "lecture")
    viewers = {body.get("viewer") for _, body in world.made(world.stored).values()}
    assert user in viewers
    made = world.made(world.parquet(ErasedUser(user)))
    assert {body.get("viewer") for _, body in made.values()} == viewers - {user}


def test_a_folder_without_such_files_is_named_with_its_setting(world, tmp_path):
    with pytest.raises(BlockedError, match=r"useractions/\*/\*\.parquet. Check VIEWINGS_PARQUET"):
        world.made(ParquetUseractions(tmp_path / "nowhere", NO_ONE))


def test_a_file_that_is_none_is_tried_again_and_nothing_of_it_is_shown(world):
    file = next(world.folder.rglob("part.parquet"))
    file.write_bytes(b"secret name")
    with pytest.raises(RetryableError, match="DuckDB cannot read") as error:
        world.made(world.parquet())
    assert "secret" not in str(error.value)


def test_the_stream_reads_the_folder_of_its_setting_beside_the_store(world, tmp_path, monkeypatch):
    settings = Settings(documents_url=f"sqlite:///{tmp_path}/documents.db", viewings_parquet=world.folder)
    made = []
    monkeypatch.setattr("uaharvest.streams.engines.derived.Recordings", lambda readers, *_: made.extend(readers))
    monkeypatch.setattr("uaharvest.streams.engines.derived._engine", lambda *_, **__: None)
    viewings_engine(settings, None)
    assert list(map(type, made)) == [StoredUseractions, ParquetUseractions]
    made.clear()
    viewings_engine(dataclasses.replace(settings, viewings_parquet=None), None)
    assert list(map(type, made)) == [StoredUseractions]


# Memory

DAYS, VIEWERS_A_DAY, BEATS = 10, 200, 360
OF_A_DAY = f"""
SELECT {{day}} * 1000000 + n AS action_id,
    TIMESTAMPTZ '2026-11-20 10:00:00Z' + INTERVAL ({{day}}) DAY + INTERVAL (n % {BEATS} * 30) SECOND AS "timestamp",
    CASE WHEN n < {VIEWERS_A_DAY * BEATS} THEN 'lecture' ELSE 'other ' || n % 20 END AS mpid, 'HEARTBEAT' AS "type",
    n % {BEATS} * 30 AS inpoint, n % {BEATS} * 30 AS outpoint, 0 AS "length", true AS is_playing, false AS is_live,
    'user ' || {{day}} * 1000 + n // {BEATS} AS huid, huid AS viewer, 'node ' || huid AS session_id,
    'Lecture' AS title, 's' AS series, 10800000 AS duration_ms
FROM range(300000) AS numbers (n)
"""


def many_useractions(folder):
    """Write 10 days of 300,000 useractions, of which 72,000 are of one recording, as `export parquet` does."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        for number in range(DAYS):
            made = OF_A_DAY.format(day=number)
            given = {column[0] for column in database.execute(f"DESCRIBE {made}").fetchall()}
            columns = ", ".join(
                f'CAST({column.name if column.name in given else "NULL"} AS {column.type}) AS "{column.name}"'
                for column in USERACTIONS.columns
            )
            own = folder / "useractions" / f"date=2026-11-{20 + number}"
            own.mkdir(parents=True)
            query = f"SELECT {columns} FROM ({made}) ORDER BY {', '.join(USERACTIONS.order)}"
            options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP}"
            database.execute(f"COPY ({query}) TO '{own / 'part.parquet'}' ({options})")


@pytest.mark.fault
@pytest.mark.long
def test_a_recording_with_two_thousand_viewers_of_three_hours_needs_less_than_300_mb(tmp_path):
    many_useractions(tmp_path)
    program = [sys.executable, Path(__file__).with_name("large_parquet.py"), tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=600)
    grown, made = map(int, done.stdout.split())
    assert made == DAYS * VIEWERS_A_DAY + 1
    assert grown < 300_000_000
