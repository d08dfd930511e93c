"""The rules: what a useraction is evidence of. docs/viewing.md states them with an example and the error of each."""

from enum import IntEnum

HEARTBEAT_S = 30.0
"""Players send a HEARTBEAT this often, first this long after the page was loaded. Seconds."""

LOST_S = 3 * HEARTBEAT_S
"""Up to two heartbeats in a row may get lost. Without any for longer, the page was closed or asleep. Seconds."""

FASTEST = 3.0
"""The highest speed that a player offers, seconds of the recording per second."""

SLOWEST = 0.5
"""The lowest speed that a player offers."""

ROUNDING_S = 1.0
"""Players and source cut positions and times to whole seconds, so a difference may be off by this much."""

SPEED_TOLERANCE = 0.1
"""How much two gaps between heartbeats may differ in speed and still count as the same speed, as a share."""

SITTING_S = 30 * 60.0
"""A break of more than this ends a sitting. Seconds."""


class Evidence(IntEnum):
    """What a viewing was derived from, the most exact last."""

    LIVE = 0  # presence; no position
    HEARTBEAT = 1
    EVENTS = 2  # PLAY, PAUSE, SEEK, with or without heartbeats
    FOOTPRINT = 3
