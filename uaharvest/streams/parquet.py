"""Useractions in Parquet files, as `export parquet` writes them: those that the store no longer has."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uaharvest.errors import BadInputError, BlockedError, RetryableError
from uaharvest.privacy.people import Erased, is_about

_FILES = "useractions/*/*.parquet"
_ROWS = 10_000  # that are in memory at once
_QUERY = """
SELECT action_id, epoch_us("timestamp"), huid, session_id, is_live, "type", inpoint, outpoint, "length", is_playing,
    title, series, duration_ms
FROM read_parquet(?) WHERE mpid = ?
"""


class ParquetUseractions:
    """Reads useractions from Parquet files; see `UseractionsReader`."""

    def __init__(self, folder: Path, erased: Erased) -> None:
        """Read the files below `folder`, without those of people who were erased.

        Raises:
            BadInputError: DuckDB is not installed.
        """
        try:
            import duckdb  # noqa: PLC0415 - optional, and takes time to import
        except ImportError:
            raise BadInputError(
                "VIEWINGS_PARQUET needs DuckDB: pip install -r requirements-parquet.txt -c constraints.txt"
            ) from None
        self._duckdb = duckdb
        self._folder = folder
        self._erased = erased

    def read(self, mpid: str) -> Iterator[Mapping[str, Any]]:
        """Yield the useractions of a recording; see `UseractionsReader`."""
        knows = self._erased.knows()
        for row in self._rows(mpid):
            document = _document(row)
            if knows is None or not is_about(knows, "useractions", document):
                yield document

    def _rows(self, mpid: str) -> Iterator[tuple[Any, ...]]:
        if next(self._folder.glob(_FILES), None) is None:
            raise BlockedError(
                f"no file matches {self._folder / _FILES}. Check VIEWINGS_PARQUET: `export parquet` writes such files,"
                " and every worker must see them."
            )
        try:
            with self._duckdb.connect() as database:
                found = database.execute(_QUERY, [str(self._folder / _FILES), mpid])
                while rows := found.fetchmany(_ROWS):
                    yield from rows
        except self._duckdb.Error as error:  # its text may quote a row
            raise RetryableError(f"DuckDB cannot read {self._folder / _FILES} ({type(error).__name__})") from None


def _document(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the document of a useraction, without the fields that no viewing follows from."""
    id_, at, huid, session, live, kind, inpoint, outpoint, length, playing, title, series, duration = row
    return {
        "action_id": id_,
        "@timestamp": None if at is None else datetime.fromtimestamp(at / 1e6, UTC).isoformat(),
        "huid": huid,
        "session_id": session,
        "is_live": live,
        "action": {
            "type": kind,
            "inpoint": inpoint,
            "outpoint": outpoint,
            "length": length,
            "is_playing": playing,
        },
        "episode": {"title": title, "series": series, "duration": duration},
    }
