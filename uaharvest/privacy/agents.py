"""Browsers and systems, without the details that distinguish one machine from others of its kind."""

import functools
from collections.abc import Mapping
from typing import Any

from uaharvest.documents.indexed import LONGEST_AGENT, user_agent

REMEMBERED = 10_000


def family(agent: str) -> dict[str, str]:
    """Return the family of browser and system of a user agent, as the fields of a document's `ua`."""
    return family_of(user_agent(agent[:LONGEST_AGENT]))


def family_of(ua: Mapping[str, Any]) -> dict[str, str]:
    """Return the families in a document's `ua`: no versions, and no model of a device."""
    name, system = ua.get("name"), ua.get("os_name")
    known = {"name": name, "os": system, "os_name": system}
    return {field: value for field, value in known.items() if isinstance(value, str)}


@functools.lru_cache(REMEMBERED)
def without_versions(text: str) -> str | None:
    """Return a client or device as Zoom names it, such as "Web Browser Chrome 130", without words that have digits."""
    words = [word for word in text.split() if not any(map(str.isdigit, word))]
    return " ".join(words).strip(" +") or None
