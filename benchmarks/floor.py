"""The floor: a bare program that fetches the pages and sends the batches, and does nothing else.

It has no ledger, looks up no episodes and builds no records: the bodies are built in advance. It uses requests and
json with their defaults, and in turn two SQS clients: that of boto3 with its defaults, and the harvester's own, which
needs about 0.7 of its CPU time (`uaharvest.sqs_requests` says why).
"""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import boto3
import requests
from botocore.config import Config
from requests.auth import HTTPDigestAuth

from benchmarks.report import Measurement
from benchmarks.site import PASSWORD, USER, ZONE, Site
from benchmarks.usage import Meter
from devservers.stack import Child
from uaharvest import aws
from uaharvest.assembly import SENDERS
from uaharvest.documents.useraction import record
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.opencast.cache import fetch_from
from uaharvest.opencast.client import ACTIONS, Opencast
from uaharvest.sinks.sqs import REQUEST_ENTRIES

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

MOST_ROWS = 1_100  # in a page, with some to spare

CLIENTS: Mapping[str, Callable[[], "SQSClient"]] = {
    "boto3": lambda: boto3.client("sqs", config=Config(max_pool_connections=SENDERS)),
    "our own": lambda: aws.sqs_client(SENDERS),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """The work of one process.

    Attributes:
        opencast: Opencast's base URL.
        slices: The slices, each of one page.
        queue: URL of the queue.
        bodies: Records to send instead of ones built from the rows; at least as many as a page has rows.
        events_per_message: With 1, a message is a record; with more, an array of that many.
        client: Which SQS client to use, of CLIENTS.
    """

    opencast: str
    slices: Sequence[Interval]
    queue: str
    bodies: Sequence[str]
    events_per_message: int
    client: str = "boto3"


def bodies(site: Site, stretch: Interval) -> list[str]:
    """Return records for the first useractions of `stretch`, a few more than a page has."""
    opencast = Opencast(site.opencast.url, USER, PASSWORD)
    first, last = (instant.astimezone(ZoneInfo(ZONE)) for instant in (stretch.start, stretch.end))
    actions = opencast.actions(first, last, MOST_ROWS).actions
    fetch = functools.cache(fetch_from(opencast))
    return [record(action, json.dumps(fetch(action.mpid or ""), separators=(",", ":"))) for action in actions]


def measure(jobs: Sequence[Job], servers: Mapping[str, Child]) -> Measurement:
    """Run a process for each of `jobs`; measure from when all are ready until all are done.

    Raises:
        HarvestError: A process died.
    """
    with contextlib.ExitStack() as processes:
        pipes = [processes.enter_context(_started(job)) for job in jobs]
        try:
            for pipe in pipes:
                pipe.recv()
            meter = Meter(servers)
            began = time.monotonic()
            for pipe in pipes:
                pipe.send("go")
            results = [pipe.recv() for pipe in pipes]
        except EOFError:
            raise HarvestError("a process of the floor died; what it said stands above") from None
        seconds = time.monotonic() - began
        used = meter.read()
    return Measurement(sum(events for events, _ in results), seconds, sum(cpu for _, cpu in results), used)


@contextlib.contextmanager
def _started(job: Job) -> Iterator[Connection]:
    """Start a process that waits for a start message; yield the pipe to it."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share this process's open files
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_process, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the death of the process raises EOFError here
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def _process(job: Job, pipe: Connection) -> None:
    session = requests.Session()
    session.auth = HTTPDigestAuth(USER, PASSWORD)
    session.headers["X-Requested-Auth"] = "Digest"  # without it, Opencast sends its login form
    sqs = CLIENTS[job.client]()

    def send(bodies: Sequence[str]) -> None:
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        sqs.send_message_batch(QueueUrl=job.queue, Entries=entries)  # type: ignore[arg-type]

    with ThreadPoolExecutor(SENDERS) as senders:
        pipe.send("ready")
        pipe.recv()
        before = _cpu()
        events = 0
        for slice_ in job.slices:
            rows = _page(session, job, slice_)
            for _ in senders.map(send, _batches(job, len(rows))):
                pass
            events += len(rows)
        pipe.send((events, _cpu() - before))


def _page(session: requests.Session, job: Job, slice_: Interval) -> list[object]:
    # Opencast includes the last second; there are no fractions of seconds here.
    first, last = _wall_time(slice_.start), _wall_time(slice_.end - timedelta(seconds=1))
    params: dict[str, str | int] = {"start": first, "end": last, "limit": len(job.bodies)}
    answer = json.loads(session.get(f"{job.opencast}/{ACTIONS}", params=params, timeout=60).content)
    return list(answer["actions"]["action"])


def _batches(job: Job, rows: int) -> Iterator[Sequence[str]]:
    bodies = job.bodies[:rows]
    if job.events_per_message > 1:
        bodies = [f"[{','.join(chunk)}]" for chunk in _cut(bodies, job.events_per_message)]
    yield from _cut(bodies, REQUEST_ENTRIES)


def _cut(bodies: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(bodies), size):
        yield bodies[start : start + size]


def _wall_time(instant: datetime) -> str:
    return f"{instant.astimezone(ZoneInfo(ZONE)):%Y%m%d%H%M%S}"


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
