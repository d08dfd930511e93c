"""The tables of the Parquet export: their columns, the type of each, and how a document fills it.

A column has its type on each day, whatever the documents of the day hold: what does not fit is null. Names, e-mail
addresses and network addresses are in none.
"""

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from uaharvest.coerce import instant, members, text, whole
from uaharvest.exporting.people import person_of

Fields = Mapping[str, Any]
_SPAN = 'STRUCT("start" DOUBLE, "end" DOUBLE)[]'
_PLAYED = 'STRUCT("start" DOUBLE, "end" DOUBLE, "began" TIMESTAMPTZ, "ended" TIMESTAMPTZ)[]'
_STAYS = 'STRUCT("began" TIMESTAMPTZ, "ended" TIMESTAMPTZ)[]'
# Some 64-bit integers do not fit in JSON numbers of other tools, but DuckDB reads them as they are.
_HIGHEST = 2**63 - 1


class ParquetColumn(NamedTuple):
    """A column of a table.

    Attributes:
        name: Its name.
        type: Its type, as DuckDB names it.
        value: Returns the value of a document, as JSON, or None.
    """

    name: str
    type: str
    value: Callable[[Fields], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ParquetTable:
    """A table.

    Attributes:
        name: Its name, and that of the documents' family.
        daily: Whether the documents have an index for each day; then each index becomes a file. If not, they are
            divided by the day of `@timestamp`, and always written as a whole.
        columns: Its columns.
        order: The columns by which each file is sorted.
    """

    name: str
    daily: bool
    columns: Sequence[ParquetColumn]
    order: Sequence[str]


def _field(path: str, read: Callable[[Any], Any]) -> Callable[[Fields], Any]:
    *parents, last = path.split(".")

    def value(document: Fields) -> Any:
        inside: Mapping[str, Any] = document
        for parent in parents:
            inside = members(inside.get(parent))
        return read(inside.get(last))

    return value


def _integer(value: Any) -> int | None:
    found = whole(value)
    return found if found is not None and abs(found) <= _HIGHEST else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    """Return a boolean, which is_live has as 0 or 1."""
    return {"0": False, "1": True, "false": False, "true": True}.get(text(value) or "")


def _time(value: Any) -> str | None:
    at = instant(value)
    return None if at is None else at.isoformat()


def _texts(value: Any) -> list[str]:
    return [found for found in map(text, value) if found] if isinstance(value, list) else []


def _records(value: Any, **names: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return lists of values as records with these names; leave out those of another length."""
    listed = value if isinstance(value, list) else []
    return [
        {name: read(part) for (name, read), part in zip(names.items(), one, strict=True)}
        for one in listed
        if isinstance(one, list) and len(one) == len(names)
    ]


def _epoch(value: Any) -> str | None:
    number = _number(value)
    if number is None:
        return None
    try:
        return dt.datetime.fromtimestamp(number, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def _hidden(*parts: Any) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(map(str, parts))))


def _columns(kind: str, read: Callable[[Any], Any], *paths: str) -> list[ParquetColumn]:
    return [ParquetColumn(path.replace(".", "_"), kind, _field(path, read)) for path in paths]


USERACTIONS = ParquetTable(
    "useractions",
    daily=True,
    columns=[
        *_columns("BIGINT", _integer, "action_id"),
        ParquetColumn("timestamp", "TIMESTAMPTZ", _field("@timestamp", _time)),
        *_columns("VARCHAR", text, "mpid", "huid"),
        *_columns("VARCHAR", text, "viewer", "session_id"),
        ParquetColumn("type", "VARCHAR", _field("action.type", text)),
        ParquetColumn("inpoint", "BIGINT", _field("action.inpoint", _integer)),
        ParquetColumn("outpoint", "BIGINT", _field("action.outpoint", _integer)),
        ParquetColumn("length", "BIGINT", _field("action.length", _integer)),
        ParquetColumn("is_playing", "BOOLEAN", _field("action.is_playing", _truth)),
        *_columns("BOOLEAN", _truth, "is_live", "is_live_inferred"),
        ParquetColumn("series", "VARCHAR", _field("episode.series", text)),
        ParquetColumn("year", "VARCHAR", _field("episode.year", text)),
        ParquetColumn("term", "VARCHAR", _field("episode.term", text)),
        ParquetColumn("title", "VARCHAR", _field("episode.title", text)),
        ParquetColumn("duration_ms", "BIGINT", _field("episode.duration", _integer)),
        *_columns("VARCHAR", text, "ua.name", "ua.os_name", "ua.device"),
        ParquetColumn("country", "VARCHAR", _field("geoip.country_code2", text)),
        ParquetColumn("city", "VARCHAR", _field("geoip.city_name", text)),
    ],
    order=("mpid", "timestamp", "action_id"),
)

VIEWINGS = ParquetTable(
    "viewings",
    daily=False,
    columns=[
        *_columns("VARCHAR", text, "mpid", "viewer", "huid", "series", "title"),
        *_columns("DOUBLE", _number, "duration_s"),
        *_columns("VARCHAR[]", _texts, "evidence"),
        *_columns("DOUBLE", _number, "seen_s", "coverage", "watched_s", "again_s", "furthest_s"),
        *_columns("BIGINT", _integer, "sittings"),
        *_columns("TIMESTAMPTZ", _time, "first", "last"),
        *_columns("DOUBLE", _number, "live_s"),
        ParquetColumn("intervals", _SPAN, lambda row: _records(row.get("intervals"), start=_number, end=_number)),
        ParquetColumn(
            "played",
            _PLAYED,
            lambda row: _records(row.get("played"), start=_number, end=_number, began=_epoch, ended=_epoch),
        ),
        ParquetColumn("stays", _STAYS, lambda row: _records(row.get("stays"), began=_time, ended=_time)),
    ],
    order=("mpid", "viewer"),
)

SESSIONS = ParquetTable(
    "sessions",
    daily=True,
    columns=[
        *_columns("VARCHAR", text, "meeting"),
        ParquetColumn("session", "VARCHAR", _field("_id", text)),
        ParquetColumn("person", "VARCHAR", lambda row: person_of(row, _hidden)),
        *_columns("VARCHAR", text, "role"),
        *_columns("TIMESTAMPTZ", _time, "join_time", "leave_time"),
        *_columns("BIGINT", _integer, "duration"),
        *_columns("VARCHAR", text, "device", "country", "city", "network_type", "leave_reason"),
        *_columns("BOOLEAN", _truth, "waiting_room", "breakout_room", "recording"),
        *_columns("BOOLEAN", _truth, "share_application", "share_desktop", "share_whiteboard"),
    ],
    order=("meeting", "join_time", "session"),
)

TABLES = {table.name: table for table in (USERACTIONS, VIEWINGS, SESSIONS)}
