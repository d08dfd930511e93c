"""What a search result says about an episode, in the form that useractions carry."""

import datetime as dt
import re
from typing import Any

from uaharvest.opencast.foreign import many, members, text, whole


def episode_part(result: dict[str, Any]) -> dict[str, Any]:
    """Return the `episode` object of a queue message; what the source does not know is absent.

    The two shapes are told apart by what they hold: Opencast <= 15 has `dcTitle` and its like beside the
    mediapackage, Opencast >= 16 lists under `dc`. There `dc` goes first, for in the mediapackage Gson has
    made a float of each text of digits.

    `duration` is in milliseconds, `start` in UTC. A series in Harvard DCE's form, YYYYTTCCCCC, is taken apart
    into year, term and course number; any other has these as null, and without a series there are none.
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
            known |= _taken_apart(series)
    return known


def _first(*values: Any) -> str | None:
    """Return the first text of the first of `values` that has one."""
    return next((found for value in values for found in map(text, many(value)[:1]) if found), None)


def _duration(*values: Any) -> int | None:
    return next((found for found in map(whole, values) if found is not None), None)


def _start(value: str | None) -> str | None:
    """Return a time in UTC to the second; as it is received where no instant can be read from it."""
    if value is None:
        return None
    try:
        start = dt.datetime.fromisoformat(value)
        utc = start.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return value
    return value if start.tzinfo is None else f"{utc.isoformat(timespec='seconds')}Z"


def _taken_apart(series: str) -> dict[str, str | None]:
    match = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{5})", series)
    return dict(zip(("year", "term", "cdn"), match.groups() if match else (None, None, None), strict=True))
