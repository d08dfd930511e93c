"""The indexer against the real stores, while processes and servers die."""

import contextlib
import json
import os
import subprocess
import sys
import time

import boto3
import pytest
from opensearchpy import OpenSearch

from devservers import cluster as cluster_server
from devservers import stack
from tests import commands
from uaharvest import assembly, index_templates, settings
from uaharvest.errors import BlockedError, Exit, RetryableError
from uaharvest.sinks.cluster import connection

RECORDS = 20_000
PER_MESSAGE = 20
INDEX = "useractions-2026.11.20"


def record(number):
    return {
        "action_id": number,
        "timestamp": "2026-11-20T16:00:02+00:00",
        "mpid": "bd6a996d-4a32-440d-a5f4-649510a25b19",
        "huid": f"{number:08}",
        "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
        "action": {"type": "HEARTBEAT", "inpoint": number, "outpoint": number, "length": 0, "is_playing": True},
        "ip": "200.70.169.1",
        "is_live": 0,
        "episode": {"title": "Lecture 119", "duration": 7200000},
    }


def fill(queue_name, records=RECORDS):
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    messages = [
        json.dumps([record(n) for n in range(start, start + PER_MESSAGE)])
        for start in range(0, records, PER_MESSAGE)
    ]
    for start in range(0, len(messages), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(messages[start : start + 10])]
        assert not sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")


@pytest.fixture
def environment(queue_name, bucket, valkey_url, redis):
    """The settings of a site, without a document store."""
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "REDIS_URL": valkey_url,
        "HARVEST_LEASE_SECONDS": "3",
    }


@contextlib.contextmanager
def indexing(environment):
    """A process that drains the queue."""
    with subprocess.Popen(
        [sys.executable, str(stack.ROOT / "manage.py"), "run", "index"],
        env={**os.environ, **environment, "PYTHONPATH": str(stack.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(is_so, what, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def rejections(url):
    """How many bulks the server has answered with 429."""
    with OpenSearch(url, timeout=60) as client:
        [node] = client.nodes.stats(metric="indexing_pressure")["nodes"].values()
    total = node["indexing_pressure"]["memory"]["total"]
    return total["coordinating_rejections"] + total["primary_rejections"]


def go_on(environment, worst):
    """Drain until the queue is empty: what a dead indexer held comes back when its lease ends."""
    sqs = assembly.sqs_sink(settings.load(environment))
    for _ in range(20):
        with indexing(environment) as another:
            output, _ = another.communicate(timeout=120)
            assert another.returncode <= worst, output
        if sqs.depth() == (0, 0):
            return
    pytest.fail(f"the queue does not get empty: {sqs.depth()}; {output}")


def two_indexers_of_which_one_dies(environment, written):
    """Drain with two processes, kill one while it holds messages, and go on until the queue is empty."""
    fill(environment["SQS_QUEUE_NAME"])
    with indexing(environment) as doomed, indexing(environment) as survivor:
        until(lambda: written() >= RECORDS // 4, "a quarter was not indexed")
        doomed.kill()
        doomed.wait()
        assert written() < RECORDS, "it was killed too late to matter"
        output, _ = survivor.communicate(timeout=120)
        assert survivor.returncode == 0, output
    go_on(environment, Exit.DONE)


@pytest.mark.fault
def test_an_indexer_that_is_killed_loses_nothing_with_sqlite(environment, tmp_path):
    environment["DOCUMENTS_URL"] = f"sqlite:///{tmp_path / 'documents.db'}"
    store = assembly.document_store(settings.load(environment))
    two_indexers_of_which_one_dies(environment, lambda: store.indices().get(INDEX, 0))
    stored = [document["action_id"] for document in store.select("useractions-*")]
    assert sorted(stored) == list(range(RECORDS))


@pytest.mark.long
@pytest.mark.fault
def test_an_indexer_that_is_killed_loses_nothing_with_elasticsearch(environment, es, templates, elasticsearch_url):
    environment["ES_HOST"] = elasticsearch_url
    store = assembly.document_store(settings.load(environment))
    two_indexers_of_which_one_dies(environment, lambda: store.indices().get(INDEX, 0))
    es.indices.refresh(index="useractions-*")
    stored = [document["action_id"] for document in store.select("useractions-*")]
    assert sorted(stored) == list(range(RECORDS))


@pytest.mark.long
@pytest.mark.fault
def test_an_elasticsearch_that_is_full_and_then_killed_loses_nothing(environment, elasticsearch_server):
    # So little memory for bulks that a second one at the same time is refused with 429.
    little = {"indexing_pressure.memory.limit": "1mb"}
    with contextlib.closing(cluster_server.serve(*elasticsearch_server, settings=little)) as server:
        environment["ES_HOST"] = server.url
        site = settings.load(environment)
        store = assembly.document_store(site)
        index_templates.load(connection.connect(site))
        fill(environment["SQS_QUEUE_NAME"])
        with indexing(environment) as first:
            until(lambda: store.indices().get(INDEX, 0) >= RECORDS // 10, "nothing was indexed")
            assert rejections(server.url) > 0, "it was never full"
            server.kill()
            with pytest.raises(RetryableError):
                store.indices()
            server.start()
            first.communicate(timeout=120)
        go_on(environment, Exit.ERROR)
        with OpenSearch(server.url, timeout=60) as client:
            client.indices.refresh(index="useractions-*")
        assert sorted(document["action_id"] for document in store.select("useractions-*")) == list(range(RECORDS))
    assert list(assembly.dead_letters(site).names("index")) == []


def indexer(environment, elasticsearch_url):
    return assembly.indexer(settings.load({**environment, "ES_HOST": elasticsearch_url}))


def send(environment, *bodies):
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=environment["SQS_QUEUE_NAME"])["QueueUrl"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))


def test_a_conflict_with_the_mapping_becomes_a_dead_letter(environment, es, templates, elasticsearch_url):
    send(environment, [record(1), {**record(2), "episode": "Lecture of 60002627"}, record(3)])
    tally = indexer(environment, elasticsearch_url).drain()
    assert (tally.indexed, tally.dead) == (2, 1)
    letter = assembly.dead_letters(settings.load(environment)).get("index/record-2")
    assert "episode" in letter.reason
    assert "60002627" not in letter.reason


def test_without_templates_nothing_is_indexed_and_nothing_is_deleted(environment, cluster, elasticsearch_url):
    send(environment, record(1))
    with pytest.raises(BlockedError, match="index-templates"):
        indexer(environment, elasticsearch_url).drain()
    site = settings.load({**environment, "ES_HOST": elasticsearch_url})
    assert assembly.sqs_sink(site).depth() == (1, 0)
    assert "index-templates" in assembly.indexer_state(site).state.blocked().reason
    index_templates.load(cluster)
    assert indexer(environment, elasticsearch_url).drain().indexed == 1
    assert assembly.indexer_state(site).state.blocked() is None


def manage(environment, *arguments):
    """Run a command in a process of its own."""
    return commands.manage(*arguments, environment=environment)


def test_one_closed_index_holds_back_no_other_is_shown_and_heals(environment, es, templates, elasticsearch_url):
    environment["ES_HOST"] = elasticsearch_url
    site = settings.load(environment)
    closed = "useractions-2026.10.01"
    es.indices.create(index=closed)
    es.indices.close(index=closed)
    send(environment, [record(1), record(2)], {**record(3), "timestamp": "2026-10-01T16:00:02+00:00"}, record(4))
    for _ in range(2):
        done = manage(environment, "run", "index")
        assert done.returncode == Exit.BLOCKED, done.stderr
        assert f"for {closed}: index_closed_exception: closed. Open it: POST /{closed}/_open" in done.stderr
        assert assembly.sqs_sink(site).depth() == (1, 0)
    status = manage(environment, "status")
    assert status.returncode == Exit.BLOCKED
    assert f"POST /{closed}/_open" in status.stdout
    es.indices.refresh(index=INDEX)
    assert es.count(index=INDEX)["count"] == 3
    es.indices.open(index=closed)
    done = manage(environment, "run", "index")
    assert (done.returncode, "1 indexed" in done.stderr) == (Exit.DONE, True), done.stderr
    assert json.loads(manage(environment, "status", "--json").stdout)["index"]["blocked"] is None
    assert list(assembly.dead_letters(site).names()) == []


def test_a_longer_footprint_stays_in_elasticsearch_when_a_shorter_one_comes_late(
    environment, es, templates, elasticsearch_url
):
    longer, shorter = (
        {**record(1), "action": {"type": "FOOTPRINT", "outpoint": n, "length": n}} for n in (60, 30)
    )
    for body in (longer, shorter):
        send(environment, body)
        assert indexer(environment, elasticsearch_url).drain().indexed == 1
    assert es.get(index=INDEX, id="1")["_source"]["action"]["outpoint"] == 60
