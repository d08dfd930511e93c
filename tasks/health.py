"""Heartbeat files: a health check looks at their age, and need not start Celery once a minute.

A worker's heartbeat comes from its event loop, so it stops if that hangs or waits for a lost broker. Beat's comes from
its scheduler. Both write every few seconds.
"""

from pathlib import Path
from typing import Any

from celery import signals
from celery.beat import PersistentScheduler

from uaharvest import settings


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
