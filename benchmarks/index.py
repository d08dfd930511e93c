"""`python -m benchmarks.index`: compares one indexer's speed with a floor that only receives, bulks and deletes.

Both drain the same records from the same queue into the same server, alternately, each in its own process.
The floor is a simple program without the indexer's duties: it sends each record unchanged (no time, agent or
address is parsed) through the client's own `streaming_bulk`, and deletes its message without checking.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
from opensearchpy import OpenSearch

from benchmarks.bulk import bare
from benchmarks.records import INDEX, record
from devservers import cluster, stack
from uaharvest import assembly, aws, index_templates, settings
from uaharvest.errors import HarvestError
from uaharvest.indexer import MOST_DOCUMENTS, THREADS
from uaharvest.sinks.cluster.connection import connect

GOAL = 0.9  # of the floor
QUEUE = "bench-index"
WARM = 1_000  # records


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """The number of records, and of records per message. Messages are few: ministack scans all at each request."""

    per_message: int
    records: int


def fill(case: Case) -> None:
    """Send the records of `case`."""
    records = [json.dumps(record(number), separators=(",", ":")) for number in range(case.records)]
    starts = range(0, case.records, case.per_message)
    groups = [records[start : start + case.per_message] for start in starts]
    bodies = [group[0] if case.per_message == 1 else f"[{','.join(group)}]" for group in groups]
    sqs = aws.sqs_client(THREADS)
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]

    def send(start: int) -> None:
        some = bodies[start : start + 10]
        sqs.send_message_batch(
            QueueUrl=url, Entries=[{"Id": str(place), "MessageBody": body} for place, body in enumerate(some)]
        )

    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(send, range(0, len(bodies), 10)))


def floor(es_url: str, threads: int) -> None:
    """Drain the queue with `threads` threads; bulks are as long as the indexer's."""
    sqs = aws.sqs_client(THREADS)
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    client, streaming_bulk = bare(es_url)

    def receive() -> list[Any]:
        return list(
            sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2).get("Messages", ())
        )

    def go_round() -> None:
        empty = False
        while not empty:
            handles: list[str] = []
            actions: list[dict[str, Any]] = []
            while len(actions) < MOST_DOCUMENTS and not empty:
                messages = receive()
                empty = not messages
                for message in messages:
                    handles.append(message["ReceiptHandle"])
                    actions += _actions(message["Body"])
            for _ in streaming_bulk(client, actions, chunk_size=MOST_DOCUMENTS):
                pass
            for start in range(0, len(handles), 10):
                some = handles[start : start + 10]
                entries: Any = [{"Id": str(place), "ReceiptHandle": handle} for place, handle in enumerate(some)]
                sqs.delete_message_batch(QueueUrl=url, Entries=entries)

    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        for future in [executor.submit(go_round) for _ in range(threads)]:
            future.result()
    client.close()


def _actions(body: str) -> Iterator[dict[str, Any]]:
    content = json.loads(body)
    for found in content if isinstance(content, list) else [content]:
        yield {"_index": INDEX, "_id": found["action_id"], **found}


def drain(_: str, __: int) -> None:
    """Drain the queue with the real indexer."""
    assembly.indexer(settings.load()).drain()


WAYS = {"floor": floor, "indexer": drain}


def work(way: str, es_url: str, threads: int) -> None:
    """Run as the draining process: drain once to warm up, as a worker is, then once on request; print the cost."""
    WAYS[way](es_url, threads)
    print("warm", flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), time.process_time()
    WAYS[way](es_url, threads)
    # Subtract the last receive, for which all threads wait for two seconds at the same time.
    print(json.dumps({"seconds": time.perf_counter() - began - 2, "cpu": time.process_time() - used}), flush=True)


def measure(way: str, threads: int, case: Case, client: OpenSearch, es_url: str) -> tuple[float, float]:
    """Return one drain's records per second and CPU microseconds per record; check that everything arrived."""
    client.indices.delete(index=INDEX, ignore=404)
    client.indices.create(index=INDEX)
    fill(dataclasses.replace(case, records=min(WARM, case.records)))  # the same ids, so nothing is counted twice
    command = [sys.executable, "-m", "benchmarks.index", "--work", way, "--elasticsearch", es_url]
    with subprocess.Popen(
        [*command, "--threads", str(threads)],
        cwd=stack.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None or process.stdout.readline() != "warm\n":
            raise HarvestError(f"{way} failed")
        fill(case)
        output, _ = process.communicate("\n")
    client.indices.refresh(index=INDEX)
    arrived = client.count(index=INDEX)["count"]
    if arrived != case.records:
        raise HarvestError(f"{way}: {arrived:,} of {case.records:,} records arrived")
    found: Mapping[str, float] = json.loads(output)
    return case.records / found["seconds"], found["cpu"] / case.records * 1e6


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records, to see that it works")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--server", default="elasticsearch-9.1.0", help="which to start (default: %(default)s)")
    parser.add_argument("--elasticsearch", help="the URL of a running one to use in its place")
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.elasticsearch, options.threads)
        return
    cases = [Case(50, 5_000)] if options.quick else [Case(1, 2_000), Case(50, 50_000)]
    try:
        _compare(cases, 1 if options.quick else options.repetitions, options.elasticsearch, options.server)
    except HarvestError as error:
        sys.exit(str(error))


def _compare(cases: list[Case], repetitions: int, es_url: str | None, name: str) -> None:
    with stack.ministack() as aws_server, stack.valkey() as valkey:
        server = None if es_url else cluster.serve(*cluster.parse(name), optimised=True)
        url = es_url or (server.url if server else "")
        try:
            os.environ |= {
                **stack.aws_variables(aws_server),
                "REDIS_URL": valkey.url,
                "SQS_QUEUE_NAME": QUEUE,
                "S3_HARVEST_TS_BUCKET": "bench",
                "ES_HOST": url,
            }
            boto3.client("sqs").create_queue(QueueName=QUEUE)
            index_templates.load(connect(settings.load()))
            with OpenSearch(url, timeout=60) as client:
                _table(cases, repetitions, client, url)
        finally:
            if server:
                server.close()


def _table(cases: list[Case], repetitions: int, client: OpenSearch, url: str) -> None:
    version = next(iter(client.nodes.info()["nodes"].values()))["version"]
    product = connect(settings.load()).product().name
    print(f"\nThe indexer, records from SQS to {product} {version}, both on this machine:\n")
    print(
        "| events per message | floor, 1 thread | floor, 4 threads | indexer | of the better floor | CPU µs/record, "
        "floor / indexer | goal |"
    )
    print("|---|---|---|---|---|---|---|")
    contestants = (("floor", 1), ("floor", THREADS), ("indexer", THREADS))
    if repetitions > 1:  # the first warms up the servers and the JVM
        for contestant in contestants:
            measure(*contestant, dataclasses.replace(cases[-1], records=cases[-1].records // 4), client, url)
    for case in cases:
        found: dict[tuple[str, int], list[tuple[float, float]]] = {contestant: [] for contestant in contestants}
        for _ in range(repetitions):
            for contestant in contestants:  # alternately, so that other load on the machine affects all
                found[contestant].append(measure(*contestant, case, client, url))
        rates = [statistics.median(rate for rate, _ in found[contestant]) for contestant in contestants]
        costs = [statistics.median(cost for _, cost in found[contestant]) for contestant in contestants]
        best = max(rates[:2])
        share = rates[2] / best
        print(
            f"| {case.per_message} | {rates[0]:,.0f}/s | {rates[1]:,.0f}/s | {rates[2]:,.0f}/s | {share:.2f} |"
            f" {costs[rates.index(best)]:.0f} / {costs[2]:.0f} | {GOAL} {'met' if share >= GOAL else 'MISSED'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
