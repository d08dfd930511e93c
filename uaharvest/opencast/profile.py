"""Detects the profile of an Opencast: which parameters its actions.json supports."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import redis

from uaharvest import keys

if TYPE_CHECKING:  # `status` reads the stored profile and needs no client
    from uaharvest.opencast.client import Opencast

Profile = Literal["dce", "stock"]

# A time without any useractions.
NEVER = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time, as the server expects


def found_profile(client: "redis.Redis", opencast: "Opencast") -> Profile:
    """Return the profile of a server. It is detected once and then kept in Redis.

    It never expires, because all workers must use the same profile: slices depend on it. If an upgrade changes the
    profile, this is noticed because rows from outside the requested range come back.

    Raises:
        BlockedError, SourceError: Opencast does not answer the request.
    """
    key = keys.PROFILE(opencast.base_url)
    if not client.exists(key):
        client.set(key, ask(opencast), nx=True)
    return "dce" if client.get(key) == "dce" else "stock"


def kept_profile(client: "redis.Redis", base_url: str) -> str | None:
    """Return the stored profile of a server; None if it was not detected yet."""
    kept = client.get(keys.PROFILE(base_url))
    return str(kept) if kept else None


def ask(opencast: "Opencast") -> Profile:
    """Find out which parameters a server supports.

    Opencast ignores unknown parameters and answers 200, so for a range without rows a stock Opencast returns its whole
    table. An empty table proves nothing. The result is then `stock`, which works with every Opencast: Harvard DCE's
    supports `day` too.
    """
    if opencast.actions(NEVER, NEVER, 1).total:
        return "stock"
    return "dce" if opencast.any_actions().total else "stock"
