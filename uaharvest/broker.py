"""Reads queues and workers from a broker that is a Redis, without Celery, which takes time to import.

Each worker writes its name and its queues to the broker every few seconds while it listens there. So readers
need not query the workers and wait for their answers.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import redis

from uaharvest import keys
from uaharvest.errors import RetryableError
from uaharvest.redis_url import RedisUrl
from uaharvest.settings import Settings
from uaharvest.streams import registry

SQS = "sqs://"
# One queue per stream, so that a slow Zoom does not delay useractions and workers can be dedicated to a stream.
QUEUES = (*(spec.queue for spec in registry.specs()), "index", "backfill", "control")
# Seconds between two heartbeats of a worker, and after the last one until the worker counts as dead.
EVERY = 4.0
SILENT = 15.0
_TIMEOUT = 3  # seconds to connect, and for an answer


class Workers(Protocol):
    """What is known of Celery's queues and workers."""

    def queues(self) -> Mapping[str, int]:
        """Return how many messages wait in each queue."""
        ...

    def alive(self, wait: float | None = None) -> Mapping[str, list[str]] | None:
        """Return each worker's queues, by its name; None if that cannot be known.

        Args:
            wait: Ask the workers, and wait for answers for this many seconds. None: as long as it usually takes.
        """
        ...


class ReportingWorkers(Workers, Protocol):
    """Workers that also report about themselves."""

    def about(self, within: float = ...) -> Mapping[str, Mapping[str, Any]] | None:
        """Return what each responding worker reports (`tasks.about`); None if workers cannot be queried."""
        ...


class Broker:
    """The workers as their broker knows them."""

    def __init__(self, settings: Settings, load_celery: Callable[[], Workers]) -> None:
        """Read the broker of `settings`; `load_celery` loads the functions for other brokers than Redis."""
        self._url = settings.broker_url
        self._load_celery = load_celery

    def queues(self) -> Mapping[str, int]:
        """Return how many messages wait in each queue."""
        if self._url.startswith(SQS):
            return self._load_celery().queues()
        with _connected(self._url) as client, client.pipeline(transaction=False) as pipeline:
            for name in QUEUES:
                pipeline.llen(keys.CELERY(name))
            return dict(zip(QUEUES, pipeline.execute(), strict=True))

    def alive(self, wait: float | None = None) -> Mapping[str, list[str]] | None:
        """Return each worker's queues, by its name; None if that cannot be known.

        Args:
            wait: Ask the workers, and wait for answers for this many seconds: some may have an older version, which
                writes no heartbeats. None: read their heartbeats.
        """
        if wait is not None or self._url.startswith(SQS):
            return self._load_celery().alive(wait)
        with _connected(self._url) as client:
            now = _now(client)  # it may go back, as if workers were heard in the future
            found: Any = client.zrangebyscore(keys.WORKERS(), now - SILENT, now + SILENT)
        beats = [json.loads(text) for text in found]
        return {beat["name"]: beat["queues"] for beat in beats}


class Heart:
    """Writes the heartbeats of a worker to its broker."""

    def __init__(self, url: str) -> None:
        """Write to the broker at `url`."""
        self._url = url
        self._next = 0.0
        self._last: str | None = None

    def beat(self, name: str, queues: Sequence[str]) -> None:
        """Write a heartbeat, unless the last one was just before."""
        if time.monotonic() < self._next or self._url.startswith(SQS):
            return
        self._next = time.monotonic() + EVERY
        former, self._last = self._last, json.dumps({"name": name, "queues": sorted(queues)})
        with _connected(self._url) as client:
            now = _now(client)
            with client.pipeline(transaction=False) as pipeline:
                # Nobody else removes those that were killed, nor the last one.
                pipeline.zremrangebyscore(keys.WORKERS(), "-inf", now - SILENT)
                pipeline.zremrangebyscore(keys.WORKERS(), now + SILENT, "+inf")
                if former not in {None, self._last}:
                    pipeline.zrem(keys.WORKERS(), former)
                pipeline.zadd(keys.WORKERS(), {self._last: now})
                pipeline.expire(keys.WORKERS(), int(SILENT))
                pipeline.execute()

    def stop(self) -> None:
        """Remove the heartbeat, if there is one: the worker takes no more messages."""
        if self._last is None:
            return
        self._next = float("inf")
        with _connected(self._url) as client:
            client.zrem(keys.WORKERS(), self._last)


@contextmanager
def _connected(url: str) -> "Iterator[redis.Redis]":
    parsed = RedisUrl.parse(url)
    options = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "decode_responses": True}
    try:
        with closing(parsed.client(**options)) as client:
            yield client
    except redis.RedisError as error:
        said = parsed.failure(error).replace("REDIS_URL", "CELERY_BROKER_URL, or REDIS_URL without it")
        raise RetryableError(f"Celery's broker: {said}") from None


def _now(client: "redis.Redis") -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
