"""Turns queue messages into the same documents that Logstash made from them."""

import datetime as dt
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from uaharvest.coerce import instant
from uaharvest.documents.document import Document
from uaharvest.documents.indices import index_name
from uaharvest.errors import PoisonError

Locate = Callable[[str], Mapping[str, Any] | None]

HIGHEST = 2**63 - 1  # Elasticsearch's long
DEEPEST = 20  # levels of nesting, Elasticsearch's default limit (index.mapping.depth.limit)
# Objects and lists in a usual record, plus some. A body with no more than this per record cannot be too deep.
USUAL_BRACKETS = 6
AGENTS = 10_000  # user agents to cache; parsing a new one takes 2 ms
# Opencast cuts off user agents at 255 characters. The parser's regular expressions are slow on very long ones.
LONGEST_AGENT = 1000

# Takes half of the CPU time of `json`.
_decode = msgspec.json.Decoder().decode
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def records(body: str) -> list[Any]:
    """Return the records of a message, which is a JSON object or an array of objects.

    Members of the array may be of any type; `document` checks them.

    Raises:
        PoisonError: The body is not usable JSON, is neither an object nor an array, or is nested too deeply.
    """
    try:
        content = _content(body)
    except ValueError as error:
        raise PoisonError(f"the message is not JSON: {_position(error)}") from None
    except RecursionError:
        raise PoisonError("the message is nested too deep") from None
    found = [content] if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise PoisonError(f"the message is neither an object nor an array but a {type(content).__name__}")
    if body.count("{") + body.count("[") > USUAL_BRACKETS * (len(found) + 1) and _is_deep(content):
        raise PoisonError(f"the message is nested deeper than {DEEPEST} levels")
    # JSON can contain lone surrogates (Opencast passes them on), but UTF-8 cannot. In Elasticsearch, one of them would
    # make a whole bulk request fail.
    return without_surrogates(found) if _ESCAPED_SURROGATE.search(body) else found


def document(record: Any, locate: Locate, infix: str | None, origin: Any = None) -> Document:
    """Return the document for a record. `record` itself is modified and becomes the body.

    Args:
        record: One of the `records` of a message.
        locate: Returns the `geoip` fields of an address, or None if they are unknown.
        infix: INDEX_INFIX, for the name of the index.
        origin: Returned with the document's receipt.

    Raises:
        PoisonError: The record is not an object, or its id or time is unusable.
    """
    if not isinstance(record, dict):
        raise PoisonError(f"the record is not an object but a {type(record).__name__}")
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
        index_name("useractions", at.date(), infix),
        str(id_),
        record,
        version(record.get("action")),
        origin=origin,
    )


@functools.lru_cache(AGENTS)
def user_agent(text: str) -> Mapping[str, str]:
    """Return the fields that logstash-filter-useragent 2.0 (Logstash 2.4) made of a user agent; do not change them."""
    import ua_parser  # noqa: PLC0415 - 40 ms, and most commands index nothing

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
    if (at := instant(value)) is None:
        raise PoisonError("the record has no timestamp that is ISO 8601 with a zone")
    return at


def version(action: Any) -> int | None:
    """Return a FOOTPRINT's end as its version: Opencast extends it in place, so its id comes again with a later end."""
    if not isinstance(action, dict) or action.get("type") != "FOOTPRINT":
        return None
    reach = action.get("outpoint")
    if type(reach) is not int:
        reach = action.get("length")
    return min(max(reach, 0), HIGHEST) if type(reach) is int else 0


def _content(body: str) -> Any:
    try:
        return _decode(body)
    except (ValueError, RecursionError):  # `json` also reads lone surrogates, and says where an error is
        return json.loads(body, parse_constant=_refuse, parse_float=_finite)


def _refuse(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError("a number is too big")
    return number


def _position(error: ValueError) -> str:
    # JSONDecodeError's message contains no part of the document, but that of int() does.
    return str(error) if isinstance(error, json.JSONDecodeError) else "a number or constant in it cannot be used"


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST + 1):  # plus one for the message's array
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
    """Return JSON content with lone surrogates replaced by U+FFFD and surrogate pairs joined."""
    text = (
        json.dumps(content, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )
    return json.loads(text)
