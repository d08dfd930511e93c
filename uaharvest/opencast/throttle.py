"""Limits the rate of requests for useractions (`--wait`) across all workers."""

import time
from collections.abc import Callable

import redis

from uaharvest import keys
from uaharvest.lua import script


class Throttle:
    """Spaces out the requests of all workers to one host."""

    def __init__(self, client: "redis.Redis", host: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Take a Redis client and the engage host's URL."""
        self._next = script(client, "throttle_next")
        self._key = keys.THROTTLE(host)
        self._pause = pause

    def turn(self, wait: float) -> None:
        """Wait until this worker may send a request; `wait` is the minimum interval in seconds, 0 for none."""
        if wait:
            self._pause(int(self._next(keys=[self._key], args=[int(wait * 1000)])) / 1000)
