"""The demo's site: the servers of `manage.py dev`, with two workers, beat and Flower, as children of this process.

Documents are stored in SQLite here, but in Elasticsearch in production.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping

from devservers import site as servers
from devservers import stack
from devservers.site import Site
from devservers.stack import Child
from uaharvest.settings import ENV_FILE

FLOWER_PORT = 5555
FOREIGN = (
    "CELERY_BROKER_URL",
    "MAX_START_END_SPAN",
    "INDEX_INFIX",
    "GEOLITE_PATH",
    "ZOOM_HEADER",
    "REPORT_THRESHOLD",
)
DERIVED = {"VIEWINGS": "true", "ATTENDANCE": "true"}


@contextlib.contextmanager
def site() -> Iterator[tuple[Site, Child]]:
    """Start the servers, two workers and Flower, which is the second value; all of it ends with the block.

    Raises:
        HarvestError: A server does not start.
    """
    with contextlib.ExitStack() as children:
        running = children.enter_context(servers.started(servers.SQLITE, None, lambda _: None))
        running = dataclasses.replace(running, environment={**running.environment, **DERIVED})
        # The user's own settings must not affect the demo.
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ[ENV_FILE] = os.devnull
        for number in (1, 2):
            worker = stack.celery("worker", "-c", "1", "-n", f"worker{number}@%h", environment=running.environment)
            children.enter_context(worker)
        yield running, children.enter_context(_flower(running.environment))


def beat(environment: Mapping[str, str]) -> Child:
    """Start beat, which triggers a harvest every few seconds."""
    return stack.celery("beat", "-s", "schedule", environment=environment)


def _flower(environment: Mapping[str, str]) -> Child:
    """Start Flower on its usual port, or on a free one if that is taken."""
    try:
        return _flower_on(FLOWER_PORT, environment)
    except stack.PortInUseError:
        return _flower_on(stack.free_port(), environment)


def _flower_on(port: int, environment: Mapping[str, str]) -> Child:
    options = [f"--address={stack.HOST}", f"--port={port}"]
    return stack.celery("flower", *options, environment=environment, port=port)
