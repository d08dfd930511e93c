"""The demo's site: Valkey, SQS and S3, Opencast, Zoom, two workers, beat and Flower, as children of this process.

Documents are kept in SQLite here, in Elasticsearch in production.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from simulators import stack
from simulators.stack import Child

ROWS = 42_000
SPAN = 3 * 3600  # seconds
ROWS_PER_SECOND = 8
EVENTS_PER_MESSAGE = 50
TICK = 5  # seconds between two harvests; 120 in production
USER, PASSWORD = "harvester", "demo-only"
ACCOUNT, PLAN = "demo", "business"
MEETINGS = 120
# All of its meetings have ended by now, also one of 26 hours.
MEETINGS_DAY = (datetime.now(UTC) - timedelta(days=3)).date()
BUCKET, QUEUE = "demo-harvest", "demo-user-actions"
FLOWER_PORT = 5555
FLOWER_LOGIN = "demo:demo"


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What runs.

    Attributes:
        environment: The settings of uaharvest, as they would stand in `.env`.
    """

    valkey: Child
    aws: Child
    opencast: Child
    zoom: Child
    flower: Child
    environment: Mapping[str, str]


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Start all but beat; everything ends with the block.

    Raises:
        HarvestError: A server does not come up.
    """
    with contextlib.ExitStack() as children:
        valkey = children.enter_context(stack.valkey(appendonly=True))
        aws = children.enter_context(stack.ministack())
        opencast = children.enter_context(stack.opencast_simulator(*_opencast()))
        zoom = children.enter_context(stack.zoom_simulator(*_zoom()))
        environment = {
            **stack.aws_variables(aws),
            "MATTERHORN_ENGAGE_HOST": opencast.url,
            "MATTERHORN_ADMIN_HOST": opencast.url,
            "MATTERHORN_REST_USER": USER,
            "MATTERHORN_REST_PASS": PASSWORD,
            "OPENCAST_TIMEZONE": "America/New_York",
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": BUCKET,
            "SQS_QUEUE_NAME": QUEUE,
            "SQS_EVENTS_PER_MESSAGE": str(EVENTS_PER_MESSAGE),
            "DEFAULT_INTERVAL": str(SPAN // 60),
            "HARVEST_EVERY_SECONDS": str(TICK),
            "HARVEST_LAG_SECONDS": "3",
            "ZOOM_ACCOUNT_ID": ACCOUNT,
            "ZOOM_KEY": USER,
            "ZOOM_SECRET": PASSWORD,
            "ZOOM_PLAN": PLAN,
            "ZOOM_API_URL": f"{zoom.url}/v2/",
            "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
            "INDEXER": "true",
            "DOCUMENTS_URL": f"sqlite:///{valkey.directory / 'documents.db'}",
        }
        # Settings of whoever runs the demo must not reach it.
        for name in ("CELERY_BROKER_URL", "MAX_START_END_SPAN", "INDEX_INFIX", "GEOLITE_PATH", "ZOOM_HEADER"):
            os.environ.pop(name, None)
        for number in (1, 2):
            worker = stack.celery("worker", "-c", "1", "-n", f"worker{number}@%h", environment=environment)
            children.enter_context(worker)
        flower = children.enter_context(_flower(environment))
        yield Site(valkey, aws, opencast, zoom, flower, environment)


def beat(environment: Mapping[str, str]) -> Child:
    """Start beat, which asks for a harvest every few seconds."""
    return stack.celery("beat", "-s", "schedule", environment=environment)


def _opencast() -> list[str]:
    options = {
        "rows": ROWS,
        "span-seconds": SPAN,
        "live-rate": ROWS_PER_SECOND,
        "user": USER,
        "password": PASSWORD,
        "zone": "America/New_York",
    }
    return _arguments(options)


def _zoom() -> list[str]:
    return _arguments(
        {
            "meetings": MEETINGS,
            "date": MEETINGS_DAY,
            "plan": PLAN,
            "account-id": ACCOUNT,
            "client-id": USER,
            "client-secret": PASSWORD,
        }
    )


def _arguments(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _flower(environment: Mapping[str, str]) -> Child:
    """Start Flower on its usual port, or on a free one if that is taken."""
    try:
        return _flower_on(FLOWER_PORT, environment)
    except stack.PortInUseError:
        return _flower_on(stack.free_port(), environment)


def _flower_on(port: int, environment: Mapping[str, str]) -> Child:
    options = [f"--address={stack.HOST}", f"--port={port}", f"--basic-auth={FLOWER_LOGIN}"]
    return stack.celery("flower", *options, environment=environment, port=port)
