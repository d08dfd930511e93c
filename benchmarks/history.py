"""`python -m benchmarks.history`: backfills history from a real MariaDB into a real Elasticsearch, through crashes.

Three workers run the backfill. At each quarter of the way one of them is killed with SIGKILL and replaced; at each
third, all data of Redis is deleted. At the end every row must be in the documents, and rows may have been written twice
only where a slice was cut off.

The floor writes documents of the same size into the same server with Elasticsearch's own client, in as many processes
as there are workers; it reads nothing and checks nothing.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import boto3
import redis
import requests
import sqlalchemy as sa

from benchmarks.bulk import bare
from benchmarks.records import record
from benchmarks.site import BUCKET, PASSWORD, USER, ZONE
from devservers import cluster, databases, stack
from devservers.stack import ROOT, Child
from uaharvest import assembly, settings
from uaharvest.documents import indexed
from uaharvest.errors import HarvestError
from uaharvest.sinks.cluster.bulk import BULK_DOCUMENTS
from uaharvest.sinks.cluster.connection import connect
from uaharvest.sinks.cluster.store import ClusterStore

WORKERS = 3
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
SESSIONS = 5_000
AT_ONCE = 250_000  # rows that one statement inserts
FLOOR_INDEX = "floor"
PATIENCE = 600  # seconds without progress

_SESSIONS = """
INSERT INTO oc_user_session (session_id, user_ip, user_agent, user_id)
SELECT CONCAT('node', LPAD(seq, 10, '0')), CONCAT('192.0.2.', seq % 250),
  CONCAT('Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/', 90 + seq % 30, '.0'), LPAD(seq, 8, '0')
FROM seq_0_to_{last}
"""
_ACTIONS = """
INSERT INTO oc_user_action (id, created, mediapackage, session_id, type, playing, inpoint, outpoint, length)
SELECT seq, TIMESTAMP '2025-01-01 00:00:00' + INTERVAL (seq * 86400 DIV {a_day}) SECOND,
  ELT(1 + seq % {recordings}, {ids}), CONCAT('node', LPAD(seq % {sessions}, 10, '0')),
  'HEARTBEAT', seq % 9 > 0, seq * 30 % 7200, seq * 30 % 7200, 0
FROM seq_{first}_to_{last}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rows: Rows of the history.
        a_day: How many of them lie on a day.
        batch: HARVEST_BATCH_SIZE.
        lease: HARVEST_LEASE_SECONDS.
        floor: Documents that each process of the floor writes.
    """

    rows: int
    a_day: int = 500_000
    batch: int = 10_000
    lease: int = 60
    floor: int = 60_000

    @property
    def end(self) -> datetime:
        """When the history ends."""
        return BEGIN + timedelta(seconds=self.rows * 86_400 // self.a_day + 1)


QUICK = Scale(rows=4_000, a_day=12_000, batch=250, lease=5, floor=1_000)


@dataclasses.dataclass(frozen=True, slots=True)
class Servers:
    """The servers of the measurement; `store` is Elasticsearch's URL."""

    valkey: Child
    aws: Child
    opencast: Child
    database: Child
    store: str

    def environment(self, scale: Scale) -> dict[str, str]:
        """Return the settings of a site that harvests from the database."""
        return {
            **stack.aws_variables(self.aws),
            "MATTERHORN_ENGAGE_HOST": self.opencast.url,
            "MATTERHORN_REST_USER": USER,
            "MATTERHORN_REST_PASS": PASSWORD,
            "OPENCAST_DATABASE_URL": self.database.url,
            "OPENCAST_TIMEZONE": "UTC",
            "REDIS_URL": self.valkey.url,
            "S3_HARVEST_TS_BUCKET": BUCKET,
            "SQS_QUEUE_NAME": "history",
            "ES_HOST": self.store,
            "HARVEST_BATCH_SIZE": str(scale.batch),
            "HARVEST_LEASE_SECONDS": str(scale.lease),
            "HARVEST_EVERY_SECONDS": "10",
            "INDEXER": "true",
            "UAHARVEST_ENV_FILE": os.devnull,
        }


@contextlib.contextmanager
def _servers(elasticsearch: str | None) -> Iterator[Servers]:
    options = {"rows": 10, "span-seconds": 60, "zone": ZONE, "user": USER, "password": PASSWORD}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with contextlib.ExitStack() as children:
        yield Servers(
            children.enter_context(stack.valkey()),
            children.enter_context(stack.ministack()),
            children.enter_context(stack.opencast_simulator(*words)),
            children.enter_context(databases.database("mariadb")),
            elasticsearch or children.enter_context(_elasticsearch()).url,
        )


def _elasticsearch() -> Child:
    product = cluster.products()["elasticsearch"]
    return cluster.serve(product, product.versions[0], heap="2g", optimised=True)


def _fill(servers: Servers, scale: Scale) -> None:
    """Store the rows, as many each second, of recordings that the simulator knows."""
    known = requests.get(f"{servers.opencast.url}/_sim/episodes", timeout=60).json()
    ids = [one["id"] for one in known["episodes"]][:200]
    writer = databases.engine(servers.database)
    databases.create_tables(writer)
    with writer.begin() as connection:
        connection.execute(sa.text(_SESSIONS.format(last=SESSIONS - 1)))
    for first in range(1, scale.rows + 1, AT_ONCE):
        values = {"recordings": len(ids), "ids": ", ".join(map(repr, ids)), "sessions": SESSIONS}
        last = min(first + AT_ONCE - 1, scale.rows)
        with writer.begin() as connection:
            connection.execute(sa.text(_ACTIONS.format(first=first, last=last, a_day=scale.a_day, **values)))
    writer.dispose()


def _write(url: str, process: int, rows: int) -> int:
    """Write documents as the floor does; return how many a second."""
    first = process * rows
    documents = [indexed.document(record(number), lambda _: None, None) for number in range(first, first + rows)]
    actions = ({"_index": FLOOR_INDEX, "_id": one.id, "_source": one.body} for one in documents)
    client, streaming_bulk = bare(url)
    began = time.monotonic()
    written = sum(1 for _ in streaming_bulk(client, actions, chunk_size=BULK_DOCUMENTS))
    client.close()
    return int(written / (time.monotonic() - began))


def _floor(servers: Servers, rows: int) -> int:
    """Return documents per second that Elasticsearch's own client writes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        rate = sum(pool.map(_write, [servers.store] * WORKERS, range(WORKERS), [rows] * WORKERS))
    requests.delete(f"{servers.store}/{FLOOR_INDEX}", timeout=60)
    return rate


def _manage(environment: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HarvestError(f"manage.py {' '.join(words)}: {done.stderr}")
    print(done.stdout + done.stderr, end="", flush=True)


class _Crew:
    """Beat, and the workers, each of one process, which can be killed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._started = 0
        self.workers = [self._start() for _ in range(WORKERS)]
        self._beat = stack.celery("beat", environment=environment)

    def _start(self) -> Child:
        self._started += 1
        words = ("worker", "-c", "1", "-n", f"worker{self._started}@%h")
        return stack.celery(*words, environment=self._environment)

    def kill_one(self) -> None:
        self.workers.pop(0).close()
        self.workers.append(self._start())

    def close(self) -> None:
        for one in (self._beat, *self.workers):
            one.close()


def _run(servers: Servers, scale: Scale, events: list[tuple[float, str]]) -> tuple[float, int]:
    """Backfill all rows; return the seconds, and how many rows may have been written twice."""
    environment = servers.environment(scale)
    harvest = settings.load(environment)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    boto3.client("sqs").create_queue(QueueName="history")
    _manage(environment, "setup", "index-templates")
    _manage(environment, "watermark", "set", f"{scale.end:%FT%TZ}")
    crew = _Crew(environment)
    cut_off = 0
    try:
        began = time.monotonic()
        span = ("--start", f"{BEGIN:%FT%TZ}", "--end", f"{scale.end:%FT%TZ}")
        _manage(environment, "backfill", "useractions", *span, "--rate", "999999", "--to", "documents", "--detach")
        [one] = assembly.backfills(harvest, "useractions").read().values()
        seen, since = 0, time.monotonic()
        while one.state != "done":
            time.sleep(1)
            one = assembly.backfills(harvest, "useractions").read()[one.id]
            if one.rows > seen:
                seen, since = one.rows, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                raise HarvestError(f"no progress for {PATIENCE} s at {one.rows:,} rows")
            while events and one.share >= events[0][0]:
                _, event = events.pop(0)
                print(f"{one.share:.0%}, {one.rows:,} rows: {event}", flush=True)
                if event == "a worker is killed":
                    crew.kill_one()
                    cut_off += 1
                else:
                    redis.Redis.from_url(servers.valkey.url).flushall()
                    cut_off += WORKERS
        seconds = time.monotonic() - began
    finally:
        crew.close()
    return seconds, cut_off * scale.batch


def _check(servers: Servers, scale: Scale, allowed: int) -> int:
    """Return how many rows were written twice.

    Raises:
        HarvestError: A row is missing, or more were repeated than were cut off.
    """
    requests.post(f"{servers.store}/useractions-*/_refresh", timeout=600)
    store = ClusterStore(connect(settings.load(servers.environment(scale))))
    rows = scale.rows
    there = bytearray(rows + 1)
    for index in store.indices():
        if index.startswith("useractions-"):
            for number in (one["_id"] for one in store.select(index, fields=())):
                there[int(number)] += 1
    if (lacking := there[1:].count(0)) or sum(there) != rows:
        raise HarvestError(f"{lacking:,} of {rows:,} rows are missing. This is a defect: please report it.")
    answer = requests.get(f"{servers.store}/useractions-*/_stats/indexing", timeout=60).json()
    repeats = int(answer["_all"]["primaries"]["indexing"]["index_total"]) - rows
    if repeats > allowed:
        raise HarvestError(f"{repeats:,} rows were written twice; {allowed:,} at most were cut off")
    return repeats


def main() -> None:
    """Measure and print; exit with 1 if something does not start or a row is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--calm", action="store_true", help="kill nothing")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK.rows:,} rows, of short slices")
    parser.add_argument("--elasticsearch", help="URL of an empty Elasticsearch to use instead of starting one")
    options = parser.parse_args()
    scale = QUICK if options.quick else Scale(options.rows)
    kills = [(share, "a worker is killed") for share in (0.25, 0.5, 0.75)]
    losses = [(share, "Redis loses its data") for share in (0.33, 0.66)]
    events = [] if options.calm else sorted(kills + losses)
    try:
        with _servers(options.elasticsearch) as servers:
            os.environ.update(servers.environment(scale))
            began = time.monotonic()
            _fill(servers, scale)
            print(f"{scale.rows:,} rows in MariaDB after {time.monotonic() - began:,.0f} s", flush=True)
            floor = _floor(servers, scale.floor)
            print(f"floor: {floor:,} documents/s", flush=True)
            seconds, allowed = _run(servers, scale, events)
            repeats = _check(servers, scale, allowed)
    except HarvestError as error:
        sys.exit(str(error))
    rate = scale.rows / seconds
    print(
        f"{scale.rows:,} rows in {seconds:,.0f} s: {rate:,.0f}/s, {rate / floor:.2f} of the floor; each is there,"
        f" {repeats:,} were written twice ({allowed:,} allowed)"
    )


if __name__ == "__main__":
    main()
