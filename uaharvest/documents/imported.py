"""Reads useractions from lines that other programs have written: the old tool, elasticdump, `documents export`."""

import datetime as dt
import enum
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from uaharvest.coerce import members, text, whole
from uaharvest.documents.document import Document, merged
from uaharvest.documents.episode_part import taken_apart
from uaharvest.documents.indexed import HIGHEST, Locate, document, version
from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import PoisonError
from uaharvest.rows.useractions import OMITTED

# From this day on, the players of Harvard DCE said whether they were live. Before, the old tool inferred it.
PLAYERS_SAY_LIVE = dt.datetime(2017, 2, 7, tzinfo=dt.UTC)

_FALSE = frozenset({"", "0", "0.0", "false", "f", "off", "no", "n"})  # Elasticsearch 2's boolean, in small letters
_TEXTS = ("mpid", "session_id", "huid", "ip")
_EPISODE_TEXTS = ("title", "course", "series", "type", "description", "start")
_NUMBERS = ("inpoint", "outpoint", "length")
_NOT_PARSED = "_dateparsefailure"  # Logstash's tag
# Logstash's own fields say nothing of the event.
_OF_LOGSTASH = frozenset({"@version", "tags"})
# Parts that are never mixed from two documents: two databases may know an address or a browser differently.
_UNMIXED = frozenset({"geoip", "ua"})


class LineKind(enum.StrEnum):
    """What a line holds, in words for a person."""

    MESSAGE = "queue messages"
    DUMP = "older messages with 'created'"
    DOCUMENT = "documents"
    OTHER = "documents that are not useractions"


class Useraction(NamedTuple):
    """A useraction, whatever form it came in.

    Attributes:
        kind: The form.
        at: When it happened, UTC.
        record: As in a queue message, plus the fields that only a document has (`geoip`, `ua`).
    """

    kind: LineKind
    at: dt.datetime
    record: dict[str, Any]


def useraction(content: Any, zone: ZoneInfo) -> Useraction | None:
    """Return the useraction in `content`, one of the `indexed.records` of a line; None if it is of another family.

    `content` may be modified. What the old tool and Logstash 2.4 wrote is brought to today's form:

    - `_source` of elasticdump is unwrapped; the id is taken from `_id` if there is no `action_id`.
    - `created`, with an offset or in local time, becomes `timestamp`. It also replaces the `@timestamp` of a document
      whose time Logstash could not parse, because that is the time of indexing.
    - A top-level `start` (February 2019) is put back into `episode`.
    - `is_live` is 0 or 1. Before 7 February 2017 it was inferred, so `is_live_inferred` is set.
    - The user "None", and values that Opencast omitted, are null.
    - Ids, numbers and texts have their types back. The year, term and course number of a series in another format than
      Harvard DCE's, which the old tool cut out of any id, are null.

    Documents made by uaharvest itself stay as they are.

    Args:
        content: JSON content.
        zone: The Opencast server's zone, for a `created` without an offset.

    Raises:
        PoisonError: It is not a useraction, or its id or time is unusable.
    """
    if not isinstance(content, dict):
        raise PoisonError(f"the record is not an object but a {type(content).__name__}")
    index = content.get("_index")
    if isinstance(index, str) and any(
        index == family or index.startswith(f"{family}-") for family in FAMILIES if family != "useractions"
    ):
        return None
    source = content.get("_source")
    record: dict[str, Any] = source if isinstance(source, dict) else content
    wrapped = record is not content or "_index" in content or "@timestamp" in record
    kind = LineKind.DOCUMENT if wrapped else LineKind.MESSAGE if "timestamp" in record else LineKind.DUMP
    id_ = whole(record["action_id"] if "action_id" in record else content.get("_id"))
    if id_ is None or abs(id_) > HIGHEST:
        raise PoisonError("the record has no action_id that is a whole number")
    for name in ("_index", "_type", "_id", "_score"):
        record.pop(name, None)
    at = _time(record, zone)
    record["action_id"] = id_
    record["timestamp"] = at.isoformat()
    _correct_types(record)
    if kind is not LineKind.DOCUMENT or "@version" in record:  # the old tool's, and not a document of uaharvest
        _correct_meanings(record, at)
    return Useraction(kind, at, record)


def as_document(found: Useraction, locate: Locate, infix: str | None, origin: Any = None) -> Document:
    """Return the document that the indexer makes; a former document keeps the place and browser that it has.

    Args:
        found: The useraction; its record becomes the document's body.
        locate: Returns the `geoip` fields of an address.
        infix: INDEX_INFIX.
        origin: Returned with the document's receipt.

    Raises:
        PoisonError: The id or time is unusable.
    """
    known = found.kind is LineKind.DOCUMENT
    if known and isinstance(found.record.get("ua"), dict):
        found.record.pop("useragent", None)
    return document(found.record, _nowhere if known else locate, infix, origin)


def as_message(found: Useraction) -> str:
    """Return the queue message of a useraction, as ASCII JSON. Logstash parses times only to the second."""
    record = {name: value for name, value in found.record.items() if name != "hostname"}  # added by the indexer
    return json.dumps({**record, "timestamp": found.at.isoformat(timespec="seconds")}, separators=(",", ":"))


def lacking(stored: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `found` knows and `stored` does not, as an update of `stored`; {} if that is nothing."""
    more: dict[str, Any] = {}
    for name, value in found.items():
        there = stored.get(name)
        if name in _OF_LOGSTASH or _is_empty(value):
            continue
        if _is_empty(there):
            more[name] = value
        elif isinstance(there, dict) and isinstance(value, dict) and name not in _UNMIXED:
            more |= {name: part} if (part := lacking(there, value)) else {}
    if not _is_empty(stored.get("is_live")):
        more.pop("is_live_inferred", None)  # it would cast doubt on a value that another document is sure of
    return more


class Change(NamedTuple):
    """A document to write.

    Attributes:
        document: What to write.
        is_new: Nothing was stored under its id.
        repeats: How many further documents had the same id.
    """

    document: Document
    is_new: bool
    repeats: int


def changes(
    documents: list[Document], stored: Mapping[tuple[str, str], Mapping[str, Any]]
) -> tuple[list[Change], int]:
    """Return what to write so that no stored document becomes poorer, and how many need no write.

    A new document has version 0, so that the store keeps what somebody else has written meanwhile. A stored one is
    updated with what it lacks. A FOOTPRINT is replaced by one that reaches further, but keeps what only it has.

    Args:
        documents: From `as_document`, in the order of their lines.
        stored: The bodies of those that exist, by index and id.
    """
    known: dict[tuple[str, str], Mapping[str, Any]] = dict(stored)
    made: dict[tuple[str, str], Document] = {}
    counts: dict[tuple[str, str], int] = {}
    for one in documents:
        key = (one.index, one.id)
        former = known.get(key)
        counts[key] = counts.get(key, 0) + 1
        if former is None:
            known[key], made[key] = one.body, one
            continue
        reach, there = one.version, version(former.get("action"))
        if reach is not None and there is not None and reach > there:
            known[key] = merged(one.body, lacking(one.body, former))
        elif more := lacking(former, one.body):
            known[key] = merged(former, more)
        else:
            continue
        made.setdefault(key, one)
    planned = [
        Change(_to_write(one, stored.get(key), known[key]), key not in stored, counts[key] - 1)
        for key, one in made.items()
    ]
    return planned, sum(count for key, count in counts.items() if key not in made)


def _to_write(one: Document, stored: Mapping[str, Any] | None, body: Mapping[str, Any]) -> Document:
    reach = version(body.get("action"))
    if stored is None or reach is not None:
        return Document(one.index, one.id, body, reach or 0, origin=one.origin)
    return Document(one.index, one.id, lacking(stored, body), update=True, origin=one.origin)


def _nowhere(_: str) -> None:
    return None


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | dict | list) and not value)


def _time(record: dict[str, Any], zone: ZoneInfo) -> dt.datetime:
    """Take the event's time out of `record`; return it in UTC.

    Raises:
        PoisonError: There is none, or it cannot be used.
    """
    logstash = record.pop("@timestamp", None)
    name = next((name for name in ("timestamp", "created") if name in record), None)
    value = logstash if name is None else record.pop(name)
    try:
        at = dt.datetime.fromisoformat(value)
        if at.tzinfo is None and name != "timestamp":
            # Like Java, take the second pass of a repeated hour: that is what Opencast itself reports.
            at = at.replace(tzinfo=zone if name else dt.UTC, fold=1)
        if at.tzinfo is not None:
            if name and isinstance(tags := record.get("tags"), list) and _NOT_PARSED in tags:
                record["tags"] = [tag for tag in tags if tag != _NOT_PARSED]
            return at.astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PoisonError(f"the record has no {name or '@timestamp'} that is ISO 8601 with a zone")


def _correct_types(record: dict[str, Any]) -> None:
    """Bring each value to the type that it has in today's messages; absent ones stay absent."""
    _convert(record, _TEXTS, _text)
    if "episode" in record:
        record["episode"] = members(record["episode"])
    start = record.pop("start", None)
    if start and isinstance(start, str):
        record.setdefault("episode", {}).setdefault("start", start)
    episode = record.get("episode", {})
    _convert(episode, _EPISODE_TEXTS, _text)
    _convert(episode, ("duration",), whole)
    if series := episode.get("series"):
        episode |= taken_apart(series)
    action = record.get("action")
    if isinstance(action, dict):
        _convert(action, ("type",), _text)
        _convert(action, _NUMBERS, whole)
        _convert(action, ("is_playing",), _is_true)
    _convert(record, ("is_live",), lambda value: int(_is_true(value)))
    if record.get("hostname") == "%{ip}":  # Logstash's, for an event without an address
        del record["hostname"]


def _correct_meanings(record: dict[str, Any], at: dt.datetime) -> None:
    if at < PLAYERS_SAY_LIVE and record.get("is_live") is not None:
        record["is_live_inferred"] = True
    if record.get("huid") == "None":
        record["huid"] = None
    # All viewers share an omitted session, so its values belong to whoever came first.
    shared = record.get("session_id") == OMITTED
    for name in ("session_id", "huid"):
        if name in record and (shared or record[name] == OMITTED):
            record[name] = None
    if shared or record.get("ip") == OMITTED:
        for name in ("ip", "hostname", "geoip"):
            record.pop(name, None)
    if shared:
        record.pop("useragent", None)
        record.pop("ua", None)


def _convert(values: dict[str, Any], names: tuple[str, ...], convert: Callable[[Any], Any]) -> None:
    for name in names:
        if values.get(name) is not None:
            values[name] = convert(values[name])


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else text(value)


def _is_true(value: Any) -> bool:
    """Read a boolean as Elasticsearch 2 did: whatever is not false is true."""
    return str(value).lower() not in _FALSE
