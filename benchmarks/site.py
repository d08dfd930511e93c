"""What both measurements share: servers, a backlog of useractions, and the check of what arrived."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import boto3
import requests

from benchmarks import stand_ins
from devservers import stack
from devservers.stack import Child
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.settings import Settings

USER, PASSWORD = "bench", "bench-only"
BUCKET = "bench"
ZONE = "America/New_York"
END = datetime(2026, 5, 6, 16, tzinfo=UTC)  # end of the backlog; any instant would do
ROWS_PER_SECOND = 12.5  # a million a day
LAG = 10  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """The running servers and how to reach them."""

    valkey: Child
    aws: Child
    queue: Child
    opencast: Child

    @property
    def servers(self) -> Mapping[str, Child]:
        """Return the servers besides the harvester, by the names shown in the report."""
        return {"SQS stand-in": self.queue, "Opencast simulator": self.opencast, "Valkey": self.valkey}

    def environment(self, **more: object) -> dict[str, str]:
        """Return the settings of a harvester, with those in `more`."""
        return {
            **stack.aws_variables(self.aws),
            "AWS_ENDPOINT_URL_SQS": self.queue.url,
            "MATTERHORN_ENGAGE_HOST": self.opencast.url,
            "MATTERHORN_REST_USER": USER,
            "MATTERHORN_REST_PASS": PASSWORD,
            "OPENCAST_TIMEZONE": ZONE,
            "REDIS_URL": self.valkey.url,
            "S3_HARVEST_TS_BUCKET": BUCKET,
            "SQS_QUEUE_NAME": "bench",
            "HARVEST_LAG_SECONDS": str(LAG),
            **{name: str(value) for name, value in more.items()},
        }

    def set_clock(self) -> None:
        """Set Opencast's clock to 2 s after the instant at which a harvest reaches the end of the backlog."""
        wanted = END + timedelta(seconds=LAG + 2)
        offset = wanted.timestamp() - time.time()
        requests.post(f"{self.opencast.url}/_sim/clock", json={"offset_seconds": offset}, timeout=60)

    def ids(self, stretch: Interval) -> list[int]:
        """Return the ids of Opencast's useractions in `stretch`."""
        bounds = {"start": int(stretch.start.timestamp()), "end": int(stretch.end.timestamp())}
        answer = requests.get(f"{self.opencast.url}/_sim/truth", params=bounds, timeout=60)
        return list(answer.json()["ids"])

    def empty_queue(self) -> tuple[int, int]:
        """Forget all events in the queue; return how many there were, and the sum of their ids."""
        counted = requests.get(self.queue.url, timeout=60).json()
        return counted["count"], counted["sum"]

    def require_events(self, count: int, what: str) -> None:
        """Check that the queue holds `count` events, and forget them.

        Raises:
            HarvestError: It holds more or fewer.
        """
        arrived, _ = self.empty_queue()
        if arrived != count:
            raise HarvestError(f"{what}: of {count:,} events {arrived:,} arrived")

    def require_ids(self, ids: Sequence[int], what: str) -> None:
        """Check by number and sum that the queue holds the events with `ids`, each once; forget them.

        Raises:
            HarvestError: It does not.
        """
        arrived = self.empty_queue()
        if arrived != (len(ids), sum(ids)):
            raise HarvestError(
                f"{what}: of {len(ids):,} useractions, {arrived[0]:,} events arrived, and the sum of their ids is "
                f"{arrived[1]:,} instead of {sum(ids):,}. This is a defect: please report it."
            )


def last(seconds: int) -> Interval:
    """Return the last `seconds` of the backlog."""
    return Interval(END - timedelta(seconds=seconds), END)


@contextlib.contextmanager
def site(backlog: int) -> Iterator[Site]:
    """Start the servers, with a backlog of that many seconds; everything ends with the block.

    This process's own environment then points to them and to nothing else.

    Raises:
        HarvestError: A server does not start.
    """
    # The user's own settings must not affect the benchmark.
    variables = {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    for name in list(os.environ):
        if name in variables or name.startswith(("AWS_", "CELERY_")):
            del os.environ[name]
    options = {
        "rows": int(backlog * ROWS_PER_SECOND),
        "span-seconds": backlog,
        "until": END.isoformat(),
        "zone": ZONE,
        "user": USER,
        "password": PASSWORD,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with contextlib.ExitStack() as children:
        running = Site(
            children.enter_context(stack.valkey()),
            children.enter_context(stack.ministack()),
            children.enter_context(stand_ins.counting_queue()),
            children.enter_context(stack.opencast_simulator(*words)),
        )
        os.environ.update(running.environment())
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield running
