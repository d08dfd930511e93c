"""Reads from one row what the streams of useractions need."""

import functools
from datetime import datetime

from uaharvest.rows.useractions import UserAction
from uaharvest.runs.footprints import TYPE, Seen

# Cached because rows of the same second share their instant.
_seconds = functools.lru_cache(maxsize=4096)(datetime.timestamp)


def seconds_of(action: UserAction) -> float:
    """Return the event time, seconds UTC."""
    return _seconds(action.created)


def reach_of(action: UserAction) -> int | None:
    """Return how far a FOOTPRINT goes; the indexer uses the same value as the document's version."""
    return action.outpoint if action.outpoint is not None else action.length


def seen_of(action: UserAction, session: str | None) -> Seen:
    """Return what footprints need to know of a row other than a heartbeat: heartbeats do not end a footprint.

    Args:
        action: The row.
        session: Its session, or the session's pseudonym.
    """
    reach = reach_of(action) if action.type == TYPE else None
    return Seen(action.id, seconds_of(action), session, reach)
