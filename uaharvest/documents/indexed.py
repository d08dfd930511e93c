"""A message of the queue as the documents that Logstash made of it."""

import datetime as dt
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import ua_parser

from uaharvest.documents.indices import index_name
from uaharvest.errors import PoisonError
from uaharvest.settings import Settings
from uaharvest.sinks.documents import Document

Locate = Callable[[str], Mapping[str, Any] | None]

HIGHEST = 2**63 - 1  # Elasticsearch's long
DEEPEST = 20  # levels of objects, as deep as Elasticsearch maps (index.mapping.depth.limit)
# Objects and lists of a usual record, and some: a body that has no more of them for each record is not deep.
USUAL_BRACKETS = 6
AGENTS = 10_000  # remembered user agents: one that is new costs 2 ms
# Opencast cuts an agent at 255; the parser's regular expressions are slow on very long ones.
LONGEST_AGENT = 1000

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def records(body: str) -> list[Any]:
    """Return the records of a message: one JSON object, or an array of them.

    What is in the array may be anything; `document` looks at it.

    Raises:
        PoisonError: The body is neither.
    """
    try:
        content = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except ValueError as error:
        raise PoisonError(f"the message is no JSON: {_position(error)}") from None
    except RecursionError:
        raise PoisonError("the message is nested too deep") from None
    found = [content] if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise PoisonError(f"the message is neither an object nor an array but a {type(content).__name__}")
    if body.count("{") + body.count("[") > USUAL_BRACKETS * (len(found) + 1) and _is_deep(content):
        raise PoisonError(f"the message is nested deeper than {DEEPEST} levels")
    # A lone surrogate can be said in JSON (Opencast hands them on) and not in the UTF-8 that a store wants; in
    # Elasticsearch one would refuse a whole bulk.
    return without_surrogates(found) if _ESCAPED_SURROGATE.search(body) else found


def document(record: Any, locate: Locate, settings: Settings) -> Document:
    """Return the document of one record; `record` itself becomes its body.

    Args:
        record: One of `records`.
        locate: Gives the `geoip` fields of an address, None where they are not known.
        settings: For the name of the index.

    Raises:
        PoisonError: It is no object, or its id or time cannot be used.
    """
    if not isinstance(record, dict):
        raise PoisonError(f"the record is no object but a {type(record).__name__}")
    id_ = record.get("action_id")
    if type(id_) is not int or abs(id_) > HIGHEST:
        raise PoisonError("the record has no action_id that is a whole number")
    at = _instant(record.get("timestamp"))
    del record["timestamp"]
    record["@timestamp"] = f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    agent = record.pop("useragent", None)
    if isinstance(agent, str) and agent:
        record["ua"] = user_agent(agent[:LONGEST_AGENT])
    address = record.get("ip")
    if isinstance(address, str):
        record["hostname"] = address
        place = locate(address)
        if place:
            record["geoip"] = place
    return Document(
        index_name("useractions", at.date(), settings), str(id_), record, _version(record.get("action"))
    )


@functools.lru_cache(AGENTS)
def user_agent(text: str) -> Mapping[str, str]:
    """Return what logstash-filter-useragent 2.0 (Logstash 2.4) made of a user agent; not to be changed."""
    parsed = ua_parser.parse(text).with_defaults()
    browser, system = parsed.user_agent, parsed.os
    version = ".".join(part for part in (system.major, system.minor, system.patch, system.patch_minor) if part)
    known = {
        "name": browser.family,
        "major": browser.major,
        "minor": browser.minor,
        "patch": browser.patch,
        "build": browser.patch_minor,
        "os": f"{system.family} {version}".rstrip(),
        "os_name": system.family,
        "os_major": system.major,
        "os_minor": system.minor,
        "device": parsed.device.family,
    }
    return {name: value for name, value in known.items() if value is not None}


def _instant(value: Any) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(value)
        if at.tzinfo is not None:
            return at.astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PoisonError("the record has no timestamp that is ISO 8601 with a zone")


def _version(action: Any) -> int | None:
    """Return how far a FOOTPRINT goes: Opencast lengthens it in place, so the same id comes again, longer."""
    if not isinstance(action, dict) or action.get("type") != "FOOTPRINT":
        return None
    reach = action.get("outpoint")
    if type(reach) is not int:
        reach = action.get("length")
    return min(max(reach, 0), HIGHEST) if type(reach) is int else 0


def _refuse(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError("a number is too big")
    return number


def _position(error: ValueError) -> str:
    # JSONDecodeError's text holds no part of the document; that of int() does.
    return str(error) if isinstance(error, json.JSONDecodeError) else "a number or constant in it cannot be used"


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST + 1):  # the array of the message is a level of its own
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def without_surrogates(content: Any) -> Any:
    """Return JSON's values with U+FFFD for each lone surrogate, pairs joined."""
    text = (
        json.dumps(content, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )
    return json.loads(text)
