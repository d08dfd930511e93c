"""Heartbeats: a health check looks at the age of a file, and `status` at what workers write to the broker.

So neither need start Celery. A worker's heartbeat comes from its event loop, so it stops if that hangs or waits for a
lost broker. Beat's comes from its scheduler. Both write every few seconds.
"""

import contextlib
from pathlib import Path
from typing import Any

from celery import signals
from celery.beat import PersistentScheduler

from uaharvest import settings
from uaharvest.broker import Heart
from uaharvest.errors import HarvestError

_heart = Heart(settings.current().broker_url)
_consumer: Any = None  # of this worker


class Scheduler(PersistentScheduler):  # type: ignore[misc] # celery is not typed
    """Beat's scheduler, which touches the heartbeat file whenever it has looked for what is due."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next look."""
        wait: float = super().tick(*args, **options)
        touch()
        return wait


@signals.heartbeat_sent.connect
def touch(**_: Any) -> None:
    """Touch the heartbeat file, if there is to be one."""
    file: Path | None = settings.current().heartbeat
    if file:
        file.touch()
    if _consumer is not None and _consumer.task_consumer:
        with contextlib.suppress(HarvestError):  # Celery itself notices, and connects again
            _heart.beat(_consumer.hostname, [queue.name for queue in _consumer.task_consumer.queues])


@signals.worker_ready.connect
def _started(sender: Any, **_: Any) -> None:
    global _consumer  # noqa: PLW0603 - Celery hands it out only here
    _consumer = sender
    touch()


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    with contextlib.suppress(HarvestError):
        _heart.stop()
