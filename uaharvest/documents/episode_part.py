"""Builds the episode part of useraction messages from a search result."""

import datetime as dt
import re
from typing import Any

from uaharvest.coerce import many, members, text, whole


def episode_part(result: dict[str, Any]) -> dict[str, Any]:
    """Return the `episode` object of a queue message. Unknown values are absent.

    The two formats are recognised by their members: Opencast <= 15 has `dcTitle` and similar members beside the
    mediapackage, Opencast >= 16 has lists under `dc`. There `dc` takes precedence, because in the mediapackage Gson has
    turned every text of digits into a float.

    `duration` is in milliseconds, `start` in UTC. A series in Harvard DCE's format, YYYYTTCCCCC, is split into year,
    term and course number. For any other series these are null; without a series they are absent.
    """
    mediapackage, dc = members(result.get("mediapackage")), members(result.get("dc"))
    series = _first(dc.get("isPartOf"), mediapackage.get("series"))
    part = {
        "title": _first(dc.get("title"), mediapackage.get("title"), result.get("dcTitle")),
        "duration": _duration(mediapackage.get("duration"), result.get("dcExtent")),
        "start": _start(_first(mediapackage.get("start"), dc.get("created"), result.get("dcCreated"))),
        "course": _first(mediapackage.get("seriestitle")) if series else None,
        "series": series,
        "type": _first(dc.get("type"), result.get("dcType")),
        "description": _first(dc.get("description"), result.get("dcDescription")),
    }
    known: dict[str, Any] = {}
    for name, value in part.items():
        if value is not None:
            known[name] = value
        if name == "series" and series:
            known |= taken_apart(series)
    return known


def _first(*values: Any) -> str | None:
    """Return the first member of the first of `values` whose first member is a text."""
    return next((found for value in values for found in map(text, many(value)[:1]) if found), None)


def _duration(*values: Any) -> int | None:
    return next((found for found in map(whole, values) if found is not None), None)


def _start(value: str | None) -> str | None:
    """Return a UTC time to the second, or the value as received if it is not a time with a zone."""
    if value is None:
        return None
    try:
        start = dt.datetime.fromisoformat(value)
        utc = start.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return value
    return value if start.tzinfo is None else f"{utc.isoformat(timespec='seconds')}Z"


def taken_apart(series: str) -> dict[str, str | None]:
    """Return year, term and course number of a series in Harvard DCE's format; null for any other series."""
    match = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{5})", series)
    return dict(zip(("year", "term", "cdn"), match.groups() if match else (None, None, None), strict=True))
