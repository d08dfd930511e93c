"""The least time between two requests for actions (`--wait`), kept by all workers together."""

import time
from collections.abc import Callable

import redis

from uaharvest.runs.ledger import PREFIX

# Hands out instants that lie at least `wait` apart, by Redis's clock. KEYS: place. ARGV: wait (ms).
# Returns how long to wait for the one handed out, ms.
_NEXT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
redis.call('SET', KEYS[1], turn + ARGV[1], 'PX', turn + ARGV[1] - now + 1000)
return turn - now
"""


class Pace:
    """Hands out turns at one host."""

    def __init__(self, client: "redis.Redis", host: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Use `client`; `host` is the engage host's URL."""
        self._next = client.register_script(_NEXT)
        self._key = f"{PREFIX}pace:{host}"
        self._pause = pause

    def turn(self, wait: float) -> None:
        """Return when it is this worker's turn; `wait` in seconds, 0 is at once."""
        if wait:
            self._pause(int(self._next(keys=[self._key], args=[int(wait * 1000)])) / 1000)
