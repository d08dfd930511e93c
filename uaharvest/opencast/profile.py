"""Which Opencast this is: what its actions.json can be asked for, found out by asking."""

from datetime import datetime
from typing import Literal

import redis

from uaharvest.opencast.client import Opencast
from uaharvest.runs.ledger import PREFIX

Profile = Literal["dce", "stock"]

# No row was ever made then.
NEVER = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time, as the server takes it


def found_profile(client: "redis.Redis", opencast: Opencast) -> Profile:
    """Return the profile of a server, asked for once and kept in Redis.

    It is kept without limit of time: all workers must agree on it, for their slices differ. A server that is another
    one after an upgrade is noticed at its rows, which then come from outside the range that was asked for.

    Raises:
        BlockedError, SourceError: Opencast cannot be asked.
    """
    key = _key(opencast.base_url)
    if not client.exists(key):
        client.set(key, ask(opencast), nx=True)
    return "dce" if client.get(key) == "dce" else "stock"


def kept_profile(client: "redis.Redis", base_url: str) -> str | None:
    """Return what was found out about a server before; None if it was not asked yet."""
    kept = client.get(_key(base_url))
    return str(kept) if kept else None


def ask(opencast: Opencast) -> Profile:
    """Ask a server what it understands.

    Parameters that it does not know are ignored, with 200: a stock Opencast gives its whole table for a range in
    which nothing can be. An empty table tells nothing; then `stock`, which is right for every Opencast: Harvard
    DCE's knows `day` too.
    """
    if opencast.actions(NEVER, NEVER, 1).total:
        return "stock"
    return "dce" if opencast.any_actions().total else "stock"


def _key(base_url: str) -> str:
    return f"{PREFIX}profile:{base_url}"
