"""Writes tables as Parquet files, one for each day, with DuckDB: `<table>/date=YYYY-mm-dd/part.parquet`.

DuckDB sorts on disk when a day does not fit in memory. pyarrow does not, and is twice as large.
"""

import datetime as dt
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uaharvest import unfinished
from uaharvest.coerce import instant
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.exporting.source import SiteDocuments
from uaharvest.exporting.tables import ParquetTable

if TYPE_CHECKING:
    import duckdb

MEMORY = "512MB"  # of DuckDB; what is larger is sorted on disk
GROUP = 61_440  # rows; readers of one recording skip the groups that do not have it
FILE = "part.parquet"
_DATE = "date="


class Parquet:
    """Writes the tables below a folder.

    Args:
        folder: Where the tables are. It is created.

    Raises:
        BadInputError: DuckDB is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import duckdb  # noqa: PLC0415 - optional, and takes time to import
        except ImportError:
            raise BadInputError(
                "export parquet needs DuckDB: pip install -r requirements-parquet.txt -c constraints.txt"
            ) from None
        self._duckdb = duckdb
        self._folder = folder

    def write(
        self, source: SiteDocuments, table: ParquetTable, start: dt.date | None, end: dt.date | None
    ) -> Iterator[tuple[dt.date, int]]:
        """Write a table; yield each day that is written and its number of rows. A day without rows has no file.

        Each file is replaced as a whole once its new content is on the disk.

        Args:
            source: The documents.
            table: The table.
            start: The first day; None: the first that there is. Ignored unless the table is daily.
            end: The last day; None: the last that there is. Ignored unless the table is daily.

        Raises:
            HarvestError: A file cannot be written.
        """
        folder = self._folder / table.name
        folder.mkdir(parents=True, exist_ok=True)
        if table.daily:
            for day in source.days(table.name, start, end):
                counts = self._write(folder, table, source.of_day(table.name, day), day)
                self._remove(folder, {day} - counts.keys())
                yield day, counts.get(day, 0)
        else:
            documents = source.store.select(source.index(table.name))
            counts = self._write(folder, table, documents)
            self._remove(folder, _days(folder) - counts.keys())
            yield from counts.items()

    def _write(
        self,
        folder: Path,
        table: ParquetTable,
        documents: Iterable[Mapping[str, Any]],
        only: dt.date | None = None,
    ) -> dict[dt.date, int]:
        """Write the files of some documents, those of one day or of any days; return the rows of each day."""
        # Beside the files, because a host's /tmp may be in memory.
        with unfinished.folder(folder) as work:
            lines = work / "rows.ndjson"
            days = set()
            with lines.open("w", encoding="utf-8") as opened:
                for document in documents:
                    day = only or _day_of(document)
                    days.add(day)
                    row = {column.name: column.value(document) for column in table.columns}
                    opened.write(json.dumps({**row, "date": day.isoformat()}))
                    opened.write("\n")
            if not days:
                return {}
            try:
                with self._duckdb.connect(str(work / "rows.duckdb")) as database:
                    _load(database, table, lines, work)
                    lines.unlink()
                    return {day: _copy(database, table, work / "new", folder, day) for day in sorted(days)}
            except self._duckdb.Error as error:
                # Its text may quote a row.
                raise HarvestError(
                    f"DuckDB cannot write the table {table.name} below {self._folder} ({type(error).__name__})."
                    " Is the disk full?"
                ) from None

    @staticmethod
    def _remove(folder: Path, days: Iterable[dt.date]) -> None:
        for day in days:
            own = folder / f"{_DATE}{day}"
            (own / FILE).unlink(missing_ok=True)
            if own.is_dir() and not any(own.iterdir()):
                own.rmdir()


def _load(database: "duckdb.DuckDBPyConnection", table: ParquetTable, lines: Path, work: Path) -> None:
    """Read the rows, whose columns have the same types whatever is in them."""
    for setting, value in {
        "memory_limit": MEMORY,
        "temp_directory": work,
        "threads": min(2, os.cpu_count() or 1),
        "TimeZone": "UTC",
        "autoinstall_known_extensions": False,  # all that is needed is built in
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }.items():
        database.execute(f"SET {setting} = {_quoted(value)}")
    types = ", ".join(f'"{column.name}": {_quoted(column.type)}' for column in table.columns)
    options = f"format = 'newline_delimited', columns = {{{types}, \"date\": 'DATE'}}"
    database.execute(f"CREATE TABLE rows AS SELECT * FROM read_json({_quoted(lines)}, {options})")  # noqa: S608 - ours


def _copy(
    database: "duckdb.DuckDBPyConnection", table: ParquetTable, new: Path, folder: Path, day: dt.date
) -> int:
    """Write the file of a day, as `new` first; return its rows."""
    own = folder / f"{_DATE}{day}"
    own.mkdir(exist_ok=True)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    order = ", ".join(f'"{name}"' for name in table.order)
    query = f"SELECT {names} FROM rows WHERE \"date\" = '{day}' ORDER BY {order}"  # noqa: S608 - our own names
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP}, USE_TMP_FILE false"
    [count] = database.execute(f"COPY ({query}) TO {_quoted(new)} ({options})").fetchone() or [0]
    unfinished.put(new, own / FILE)
    return int(count)


def _quoted(value: object) -> str:
    """Return a literal of SQL."""
    if isinstance(value, bool | int):
        return str(value).lower()
    escaped = str(value).replace("'", "''")
    return f"'{escaped}'"


def _day_of(document: Mapping[str, Any]) -> dt.date:
    """Return the day of a document, in UTC; 1970-01-01 if it has none."""
    at = instant(document.get("@timestamp"))
    return at.date() if at else dt.date(1970, 1, 1)


def _days(folder: Path) -> set[dt.date]:
    """Return the days that have a file."""
    found = set()
    for path in folder.glob(f"{_DATE}*/{FILE}"):
        try:
            found.add(dt.date.fromisoformat(path.parent.name.removeprefix(_DATE)))
        except ValueError:
            continue
    return found
