"""The remote control command `about`: what a worker reports about itself."""

from typing import Any

from celery.worker.control import inspect_command

from uaharvest import __version__, settings
from uaharvest.doctor.fingerprint import fingerprint


@inspect_command()
def about(state: Any) -> dict[str, Any]:
    """Return the version, digests of the settings, and the queues that this worker consumes."""
    consumer = state.consumer.task_consumer
    return {
        "version": __version__,
        "settings": fingerprint(settings.current()),
        "queues": [queue.name for queue in consumer.queues] if consumer else [],
    }
