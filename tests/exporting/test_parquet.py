"""Parquet files as DuckDB and Polars read them."""

import datetime as dt
import sys

import duckdb
import polars as pl
import pytest

from tests.exporting import site
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.exporting import parquet
from uaharvest.exporting.parquet import Parquet
from uaharvest.exporting.tables import SESSIONS, TABLES, USERACTIONS, VIEWINGS

DAY = dt.timedelta(days=1)
T0 = site.MONDAY.timestamp()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "it's parquet"


def write(source, folder, table, start=None, end=None):
    return dict(Parquet(folder).write(source, table, start, end))


def files(folder):
    """All files, the hidden ones too, by their paths below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def by_duckdb(folder, table, what="*"):
    path = str(folder / table / "*" / "*.parquet").replace("'", "''")
    with duckdb.connect() as database:
        found = database.execute(f"SELECT {what} FROM read_parquet('{path}', hive_partitioning = true)")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def by_polars(folder, table):
    return pl.scan_parquet(folder / table / "*" / "*.parquet", hive_partitioning=True).collect()


def test_useractions_of_each_day_have_a_file_that_duckdb_and_polars_read_alike(tmp_path, folder):
    _, documents = site.watched(5, ["heartbeats"], recordings=("b", "a"))
    counts = write(site.source(tmp_path, documents), folder, USERACTIONS)
    assert len(counts) > 1
    assert files(folder) == [f"useractions/date={day}/part.parquet" for day in sorted(counts)]
    read = by_duckdb(
        folder, "useractions", 'action_id, mpid, viewer, inpoint, is_live, epoch_ms("timestamp") AS at, "date"'
    )
    frame = by_polars(folder, "useractions").with_columns(at=pl.col("timestamp").dt.epoch("ms"))
    same = frame.select("action_id", "mpid", "viewer", "inpoint", "is_live", "at", "date").to_dicts()
    assert sorted(read, key=lambda row: row["action_id"]) == sorted(same, key=lambda row: row["action_id"])
    expected = {int(document.id): document.body for document in documents}
    assert len(read) == sum(counts.values()) == len(expected)
    for row in read:
        body = expected[row["action_id"]]
        assert (row["mpid"], row["viewer"], row["inpoint"]) == (
            *(body["mpid"], body["huid"], body["action"]["inpoint"]),
        )
        assert site.iso(row["at"] / 1000) == body["@timestamp"]
        assert str(row["date"]) == body["@timestamp"][:10]


def test_files_are_sorted_by_recording_and_time_and_compressed_with_zstd(tmp_path, folder):
    _, documents = site.watched(6, ["heartbeats"], recordings=("b", "c", "a"))
    [day, *_] = write(site.source(tmp_path, documents), folder, USERACTIONS)
    file = folder / "useractions" / f"date={day}" / "part.parquet"
    keys = pl.read_parquet(file).select("mpid", "timestamp", "action_id").rows()
    assert keys == sorted(keys)
    assert len({key[0] for key in keys}) > 1
    path = str(file).replace("'", "''")
    with duckdb.connect() as database:
        codecs = database.execute(f"SELECT DISTINCT compression FROM parquet_metadata('{path}')").fetchall()
    assert codecs == [("ZSTD",)]


def test_each_day_has_the_same_schema_whatever_it_holds(tmp_path, folder):
    odd = site.useraction(1, T0, "PLAY", mpid=7, huid=None, is_live="true", episode="", ua=[], geoip=None)
    odd.body["action"] = {"type": 5, "inpoint": "x", "outpoint": 1e400, "length": 2**70, "is_playing": "true"}
    usual = site.useraction(2, T0 + 86_400, "PLAY")
    write(site.source(tmp_path, [odd, usual]), folder, USERACTIONS)
    first, second = (
        pl.read_parquet_schema(folder / "useractions" / f"date={day.date()}" / "part.parquet")
        for day in (site.MONDAY, site.MONDAY + DAY)
    )
    assert first == second
    [row] = [row for row in by_polars(folder, "useractions").to_dicts() if row["action_id"] == 1]
    assert (row["mpid"], row["viewer"], row["is_live"], row["is_playing"]) == ("7", "session:node01", True, True)
    assert (row["inpoint"], row["outpoint"], row["length"], row["title"], row["city"]) == (None,) * 5


def test_no_table_has_names_or_addresses():
    names = {column.name for table in TABLES.values() for column in table.columns}
    assert not names & {"ip", "ip_address", "hostname", "user_name", "email", "user_email", "proxy1"}


def test_only_the_days_that_are_asked_for_are_written(tmp_path, folder):
    documents = [site.useraction(number, T0 + number * 86_400, "PLAY") for number in range(5)]
    source = site.source(tmp_path, documents)
    first = site.MONDAY.date()
    counts = write(source, folder, USERACTIONS, first + DAY, first + 2 * DAY)
    assert counts == {first + DAY: 1, first + 2 * DAY: 1}
    assert len(files(folder)) == 2


def test_a_day_that_is_written_again_is_replaced(tmp_path, folder):
    source = site.source(tmp_path, [site.useraction(1, T0, "PLAY")])
    write(source, folder, USERACTIONS)
    list(source.store.write([site.useraction(2, T0 + 1, "PLAY")]))
    write(source, folder, USERACTIONS)
    assert by_polars(folder, "useractions")["action_id"].to_list() == [1, 2]
    assert len(files(folder)) == 1


def test_viewings_are_divided_by_day_and_move_when_a_viewer_comes_back(tmp_path, folder):
    source = site.source(tmp_path, [site.viewing(), site.viewing(viewer="session:node02")])
    assert write(source, folder, VIEWINGS, end=dt.date(2000, 1, 1)) == {dt.date(2026, 11, 23): 2}
    later = {"@timestamp": "2026-11-25T10:00:00+00:00", "last": "2026-11-25T10:00:00+00:00"}
    list(source.store.write([site.viewing(**later), site.viewing(viewer="session:node02", **later)]))
    write(source, folder, VIEWINGS)
    assert files(folder) == ["viewings/date=2026-11-25/part.parquet"]
    assert not (folder / "viewings" / "date=2026-11-23").exists()


def test_intervals_and_stays_of_viewings_can_be_unnested(tmp_path, folder):
    stays = [["2026-11-23T09:00:00+00:00", "2026-11-23T09:30:00+00:00"], "odd"]
    played = [[0.0, 1500.0, 1795424400.0, 1795425900.0], [None, None, 1795424400.0, 1e300], [1]]
    source = site.source(tmp_path, [site.viewing(stays=stays, played=played)])
    write(source, folder, VIEWINGS)
    [row] = by_polars(folder, "viewings").to_dicts()
    began = dt.datetime(2026, 11, 23, 9, tzinfo=dt.UTC)
    assert row["intervals"] == [{"start": 0.0, "end": 1500.0}]
    assert row["stays"] == [{"began": began, "ended": began + dt.timedelta(minutes=30)}]
    assert [one["start"] for one in row["played"]] == [0.0, None]
    assert row["played"][1]["ended"] is None
    assert (row["coverage"], row["evidence"], row["huid"]) == (0.5, ["heartbeat"], "12345678")
    [parts] = by_duckdb(folder, "viewings", "sum(list_sum([part.end - part.start for part in intervals])) AS seen")
    assert parts == {"seen": 1500.0}


def test_sessions_have_persons_without_names(tmp_path, folder):
    start = "2026-11-23T15:00:00Z"
    sessions = [site.session("s1", start, None), site.session("s2", start, None, id=None, email=None)]
    write(site.source(tmp_path, sessions), folder, SESSIONS)
    frame = by_polars(folder, "sessions")
    assert frame["session"].to_list() == ["s1", "s2"]
    assert frame["person"][0] == "u1"
    assert len(frame["person"][1]) == 36


def test_a_day_without_rows_has_no_file(tmp_path, folder):
    source = site.source(tmp_path, [site.useraction(1, T0, "PLAY")])
    write(source, folder, USERACTIONS)
    source.store.select = lambda index, where=None: iter(())
    assert write(source, folder, USERACTIONS) == {site.MONDAY.date(): 0}
    assert files(folder) == []


def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path, folder, monkeypatch):
    source = site.source(tmp_path, [site.useraction(1, T0, "PLAY")])
    write(source, folder, USERACTIONS)

    def fail(*_):
        raise duckdb.IOException("a name in a row")

    monkeypatch.setattr(parquet, "_load", fail)
    with pytest.raises(HarvestError, match="DuckDB cannot write the table useractions") as error:
        write(source, folder, USERACTIONS)
    assert "a name" not in str(error.value)
    assert len(files(folder)) == 1
    assert by_polars(folder, "useractions").height == 1


def test_a_store_that_fails_half_way_leaves_no_file(tmp_path, folder):
    source = site.source(tmp_path, [site.useraction(1, T0, "PLAY")])

    def select(index, where=None):
        yield site.useraction(1, T0, "PLAY").body
        raise HarvestError("the store is down")

    source.store.select = select
    with pytest.raises(HarvestError, match="the store is down"):
        write(source, folder, USERACTIONS)
    assert files(folder) == []


def test_without_duckdb_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(BadInputError, match=r"pip install -r requirements-parquet\.txt"):
        Parquet(folder)
