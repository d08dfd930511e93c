"""`python -m benchmarks.index`: how fast one indexer is, beside a floor that only receives, bulks and deletes.

Both drain the same records from the same queue into the same Elasticsearch, in processes of their own, in turn.
The floor is what a person would write without any of the indexer's duties: the record goes as it is (no time, agent
or address is looked at), through the client's own `streaming_bulk`, and its message is deleted without a second look.
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
from elasticsearch import Elasticsearch
from elasticsearch.helpers import streaming_bulk

from simulators import stack
from simulators.elasticsearch import VERSIONS, elasticsearch
from uaharvest import assembly, aws, index_templates, settings
from uaharvest.errors import HarvestError
from uaharvest.indexer import MOST_DOCUMENTS, THREADS

GOAL = 0.8  # of the floor
QUEUE = "bench-index"
DAY = "2026.11.20"
WARM = 1_000  # records
INDEX = f"useractions-{DAY}"
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/{}.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.6099.71",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Records in the queue, and how many to a message; few messages, for ministack looks at each in every request."""

    per_message: int
    records: int


def record(number: int) -> dict[str, Any]:
    """Return a record such as the harvester sends, of one of 61 browsers and 5,000 addresses."""
    return {
        "action_id": number,
        "timestamp": f"2026-11-20T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}+00:00",
        "mpid": f"bd6a996d-4a32-440d-a5f4-{number % 200:012}",
        "session_id": f"node0{number % 5000:09}",
        "huid": f"{number % 5000:08}",
        "useragent": AGENTS[number % 3].format(90 + number % 30),
        "action": {"type": "HEARTBEAT", "inpoint": number % 7200, "outpoint": number % 7200, "length": 0}
        | {"is_playing": True},
        "ip": f"200.70.{number % 5000 // 250}.{number % 250}",
        "is_live": 0,
        "episode": {
            "title": f"Lecture {number % 200}",
            "duration": 7200000,
            "start": "2026-11-18T16:00:00Z",
            "course": "Course 38",
            "series": "20260210038",
            "year": "2026",
            "term": "02",
            "cdn": "10038",
            "type": "S02",
            "description": f"About {number % 200}",
        },
    }


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
    """Drain the queue with so many threads, each with bulks as long as the indexer's."""
    sqs = aws.sqs_client(THREADS)
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    client = Elasticsearch(es_url, request_timeout=60, connections_per_node=THREADS)

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
    """Drain the queue with the indexer as it is."""
    assembly.indexer(settings.load()).drain()


WAYS = {"floor": floor, "indexer": drain}


def work(way: str, es_url: str, threads: int) -> None:
    """Be the process that drains: once to get warm, as a worker is, and once when told to; print what that took."""
    WAYS[way](es_url, threads)
    print("warm", flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), time.process_time()
    WAYS[way](es_url, threads)
    # The last receive of all threads waits for two seconds, at the same time.
    print(json.dumps({"seconds": time.perf_counter() - began - 2, "cpu": time.process_time() - used}), flush=True)


def measure(way: str, threads: int, case: Case, client: Elasticsearch, es_url: str) -> tuple[float, float]:
    """Return records per second and CPU microseconds per record of one drain; check that all has arrived."""
    client.options(ignore_status=404).indices.delete(index=INDEX)
    client.indices.create(index=INDEX)
    fill(dataclasses.replace(case, records=min(WARM, case.records)))  # the same ids: nothing is counted twice
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
    """Measure and print; exit with 1 if something does not come up or not all has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records, to see that it works")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--elasticsearch", help="a server to use in place of one that is started")
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.elasticsearch, options.threads)
        return
    cases = [Case(50, 5_000)] if options.quick else [Case(1, 2_000), Case(50, 50_000)]
    try:
        _compare(cases, 1 if options.quick else options.repetitions, options.elasticsearch)
    except HarvestError as error:
        sys.exit(str(error))


def _compare(cases: list[Case], repetitions: int, es_url: str | None) -> None:
    with stack.ministack() as aws_server, stack.valkey() as valkey:
        server = None if es_url else elasticsearch(VERSIONS[-1], optimised=True)
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
            with Elasticsearch(url, request_timeout=60) as client:
                index_templates.load(client)
                _table(cases, repetitions, client, url)
        finally:
            if server:
                server.close()


def _table(cases: list[Case], repetitions: int, client: Elasticsearch, url: str) -> None:
    version = next(iter(client.nodes.info()["nodes"].values()))["version"]
    print(f"\nThe indexer, records from SQS to Elasticsearch {version}, both on this machine:\n")
    print(
        "| events per message | floor, 1 thread | floor, 4 threads | indexer | of the better floor | CPU µs/record, "
        "floor / indexer | goal |"
    )
    print("|---|---|---|---|---|---|---|")
    contestants = (("floor", 1), ("floor", THREADS), ("indexer", THREADS))
    if repetitions > 1:  # the first makes the servers and their JVM warm
        for contestant in contestants:
            measure(*contestant, dataclasses.replace(cases[-1], records=cases[-1].records // 4), client, url)
    for case in cases:
        found: dict[tuple[str, int], list[tuple[float, float]]] = {contestant: [] for contestant in contestants}
        for _ in range(repetitions):
            for contestant in contestants:  # in turn, so that what else the machine does falls on all
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
