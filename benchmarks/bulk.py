"""`python -m benchmarks.bulk`: compares the document store's bulks with those of each product's own client.

Both write the same documents to the same server, alternately, in bulks of the same length: the store with its checks
(templates, times, each item of the answer), the client with its helper `streaming_bulk` and nothing else.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import elasticsearch
import elasticsearch.helpers
import opensearchpy
import opensearchpy.helpers

from benchmarks.records import DAY, INDEX, record
from devservers import cluster
from uaharvest import index_templates
from uaharvest.documents import indexed
from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.readers import cluster_url
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.bulk import BULK_DOCUMENTS
from uaharvest.sinks.cluster.connection import connect
from uaharvest.sinks.cluster.products import OPENSEARCH
from uaharvest.sinks.cluster.store import ClusterStore

GOAL = 0.9  # of the bare client


def bare(url: str) -> tuple[Any, Callable[..., Iterable[Any]]]:
    """Return the own client of the product at `url`, and its helper for bulks."""
    if connect(Settings(es_url=cluster_url(url))).product() is OPENSEARCH:
        return opensearchpy.OpenSearch(url, timeout=60, maxsize=4), opensearchpy.helpers.streaming_bulk
    client = elasticsearch.Elasticsearch(url, request_timeout=60, connections_per_node=4)
    return client, elasticsearch.helpers.streaming_bulk


def _documents(count: int) -> list[Document]:
    return [indexed.document(record(number), lambda _: None, None) for number in range(count)]


def _by_client(url: str, documents: list[Document]) -> None:
    client, streaming_bulk = bare(url)
    actions = ({"_index": one.index, "_id": one.id, "_source": one.body} for one in documents)
    for _ in streaming_bulk(client, actions, chunk_size=BULK_DOCUMENTS):
        pass
    client.close()


def _by_store(url: str, documents: list[Document]) -> None:
    written = ClusterStore(connect(Settings(es_url=cluster_url(url)))).write(documents)
    if sum(len(receipt.confirmed) for receipt in written) != len(documents):
        raise HarvestError("not all documents were confirmed")


def _measure(
    way: Callable[[str, list[Document]], None], url: str, documents: list[Document]
) -> tuple[float, float]:
    """Return documents per second and CPU microseconds per document, into an index that is empty at first."""
    with opensearchpy.OpenSearch(url, timeout=60) as client:
        client.indices.delete(index=INDEX, ignore=404)
        client.indices.create(index=INDEX)
        began, used = time.perf_counter(), time.process_time()
        way(url, documents)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        client.indices.refresh(index=INDEX)
        arrived = client.count(index=INDEX)["count"]
    if arrived != len(documents):
        raise HarvestError(f"{arrived:,} of {len(documents):,} documents arrived")
    return len(documents) / seconds, cpu / len(documents) * 1e6


def _row(name: str, url: str, count: int, repetitions: int) -> str:
    index_templates.load(connect(Settings(es_url=cluster_url(url))))
    documents = _documents(count)
    ways = (_by_client, _by_store)
    if repetitions > 1:  # the first warms up the JVM
        for way in ways:
            _measure(way, url, documents)
    found = [[_measure(way, url, documents) for way in ways] for _ in range(repetitions)]
    rates = [statistics.median(pair[way][0] for pair in found) for way in range(2)]
    costs = [statistics.median(pair[way][1] for pair in found) for way in range(2)]
    share = rates[1] / rates[0]
    return (
        f"| {name} | {rates[0]:,.0f}/s | {rates[1]:,.0f}/s | {share:.2f} | {costs[0]:.0f} / {costs[1]:.0f} |"
        f" {GOAL} {'met' if share >= GOAL else 'MISSED'} |"
    )


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    known = [f"{one.name}-{version}" for one in cluster.products().values() for version in one.versions]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few documents, to see that it works")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--server", action="append", help=f"which to start; default: {', '.join(known)}")
    parser.add_argument("--url", help="a running server to use in place of those that are started")
    options = parser.parse_args()
    size = (1_000, 1) if options.quick else (20_000, options.repetitions)
    print(f"\nUseractions of {DAY}, written by one thread in bulks of {BULK_DOCUMENTS:,}:\n")
    print("| server | bare client | document store | of the client | CPU µs/document, client / store | goal |")
    print("|---|---|---|---|---|---|")
    try:
        if options.url:
            print(_row(options.url, options.url, *size), flush=True)
            return
        for name in options.server or known:
            with cluster.serve(*cluster.parse(name), optimised=True) as server:
                print(_row(server.name, server.url, *size), flush=True)
    except HarvestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
