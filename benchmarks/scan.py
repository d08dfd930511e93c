"""`python -m benchmarks.scan`: compares the way from Elasticsearch to viewings with a bare scan.

The stream's derivation reads the useractions of each recording and makes their documents, which are not written. A bare
client scans the same useractions in a point in time, as many to a page, the same fields, and does nothing with them.
Both run alternately in this process, with the same server.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import elasticsearch.helpers
from elasticsearch import Elasticsearch

from benchmarks.bulk import bare
from benchmarks.records import DAY, record
from devservers import cluster
from uaharvest import index_templates
from uaharvest.documents import indexed
from uaharvest.documents.indices import useractions_of
from uaharvest.errors import HarvestError
from uaharvest.readers import cluster_url
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.connection import connect
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.streams.viewings import VIEWERS, Recordings, StoredUseractions
from uaharvest.viewing.recording import FIELDS

GOAL = 0.8  # of the bare scan
PAGE = 5_000
INDEX = f"useractions-{DAY}"
EACH, BEATS = 250, 100  # viewers of each recording, useractions of each
RECORDINGS, FEW_RECORDINGS = 20, 1


def fill(client: Elasticsearch, recordings: int) -> None:
    """Index the useractions: runs of heartbeats, with all that real documents have."""

    def actions() -> Iterator[dict[str, Any]]:
        for number in range(recordings * EACH * BEATS):
            recording, viewer, beat = number // (EACH * BEATS), number // BEATS % EACH, number % BEATS
            row = record(number) | {
                "mpid": _mpid(recording),
                "timestamp": f"2026-11-20T{10 + beat // 120}:{beat // 2 % 60:02}:{beat % 2 * 30:02}+00:00",
                "session_id": f"node{viewer}",
                "huid": f"{viewer:08}",
                "action": {"type": "HEARTBEAT", "inpoint": 30 * beat, "outpoint": 30 * beat, "length": 0}
                | {"is_playing": True},
            }
            document = indexed.document(row, lambda _: None, None)
            yield {"_index": document.index, "_id": document.id, "_source": document.body}

    for _ in elasticsearch.helpers.streaming_bulk(client, actions(), chunk_size=2_000):
        pass
    client.indices.forcemerge(index=INDEX, max_num_segments=1)
    client.indices.refresh(index=INDEX)


def scan(client: Elasticsearch) -> int:
    """Scan all useractions; return their number."""
    found = 0
    pit = client.open_point_in_time(index="useractions-*", keep_alive="5m")["id"]
    after: dict[str, Any] = {}
    while hits := client.search(
        pit={"id": pit, "keep_alive": "5m"},
        size=PAGE,
        source={"includes": list(FIELDS)},
        sort=[{"_shard_doc": "asc"}],
        track_total_hits=False,
        **after,
    )["hits"]["hits"]:
        found += len(hits)
        after = {"search_after": hits[-1]["sort"]}
    client.close_point_in_time(id=pit)
    return found


def derive(settings: Settings, recordings: int) -> int:
    """Make the documents of all recordings; return the number of viewers."""
    store = ClusterStore(connect(settings))
    derivation = Recordings([StoredUseractions(store, useractions_of(None, None))], store, settings)
    counts: Counter[str] = Counter()
    for number in range(recordings):
        for _ in derivation.documents(_mpid(number), [], counts):
            pass
    return counts[VIEWERS]


def _mpid(recording: int) -> str:
    return f"bd6a996d-4a32-440d-a5f4-{recording:012}"


def _took(way: Callable[[], int], expected: int) -> tuple[float, float]:
    """Return the seconds and this process's CPU seconds."""
    began, used = time.perf_counter(), time.process_time()
    found = way()
    took = time.perf_counter() - began, time.process_time() - used
    if found != expected:
        raise HarvestError(f"{found:,} of {expected:,} were found")
    return took


def compare(url: str, recordings: int, repetitions: int) -> None:
    """Measure both ways and print the table."""
    settings = Settings(es_url=cluster_url(url))
    index_templates.load(connect(settings))
    client, _ = bare(url)
    fill(client, recordings)
    total = recordings * EACH * BEATS
    ways = ((lambda: scan(client), total), (lambda: derive(settings, recordings), recordings * EACH))
    if repetitions > 1:  # the first warms up the JVM
        for way in ways:
            _took(*way)
    took = [[_took(*way) for way in ways] for _ in range(repetitions)]
    rates = [statistics.median(total / one[way][0] for one in took) for way in range(2)]
    costs = [statistics.median(1e6 * one[way][1] / total for one in took) for way in range(2)]
    share = rates[1] / rates[0]
    print(f"\n{total:,} useractions of {recordings} recordings in Elasticsearch, read by one thread:\n")
    print("| bare scan | to viewings | of the scan | CPU µs each, scan / viewings | goal |\n|---|---|---|---|---|")
    print(
        f"| {rates[0]:,.0f}/s | {rates[1]:,.0f}/s | {share:.2f} | {costs[0]:.1f} / {costs[1]:.1f} |"
        f" {GOAL} {'met' if share >= GOAL else 'MISSED'} |"
    )
    client.close()


def main() -> None:
    """Measure and print; exit with 1 if something does not start or is not found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few useractions, to see that it works")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--url", help="a running Elasticsearch, empty, to use in place of one that is started")
    options = parser.parse_args()
    size = (FEW_RECORDINGS, 1) if options.quick else (RECORDINGS, options.repetitions)
    try:
        if options.url:
            compare(options.url, *size)
            return
        with cluster.serve(*cluster.parse("elasticsearch-9.1.0"), optimised=True, heap="1g") as server:
            compare(server.url, *size)
    except HarvestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
