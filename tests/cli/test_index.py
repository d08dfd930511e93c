"""The indexer as a person uses it: `run index`, `enqueue index`, `status`, `dead-letters replay`, and a worker."""

import json
import os
import subprocess
import sys
import time

import boto3
import pytest
from click.testing import CliRunner

from devservers import stack
from tests import commands
from tests.fakes import beat_is_heard
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import Exit

INDEX = "useractions-2026.11.20"


def record(number):
    return {"action_id": number, "timestamp": "2026-11-20T16:00:02+00:00"}


class Workers:
    """What Celery would say."""

    def __init__(self):
        self.asked = []

    def queues(self):
        return {}

    def alive(self, wait=None):
        return {}

    def drain_index(self, indexers):
        self.asked.append(indexers)


class Site:
    def __init__(self, environment, monkeypatch):
        self.environment = environment
        self.settings = settings.load(environment)
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)
        self.workers = Workers()
        self._patch = monkeypatch
        beat_is_heard(self.settings)

    def send(self, *bodies):
        sqs = boto3.client("sqs")
        url = sqs.get_queue_url(QueueName=self.environment["SQS_QUEUE_NAME"])["QueueUrl"]
        for body in bodies:
            sqs.send_message(QueueUrl=url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def manage(self, *arguments, **changes):
        for name, value in {**self.environment, **changes}.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, arguments, obj=Context(lambda: self.workers))

    def status(self):
        return json.loads(self.manage("status", "--json").stdout)["index"]


@pytest.fixture
def environment(queue_name, bucket, valkey_url, redis, tmp_path):
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "REDIS_URL": valkey_url,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
    }


@pytest.fixture
def site(environment, monkeypatch):
    monkeypatch.setattr("uaharvest.sinks.receiver.WAIT", 0)  # of one server an empty answer is an empty queue
    yield Site(environment, monkeypatch)
    settings.current.cache_clear()


def test_run_index_drains_the_queue_and_says_how_many(site):
    site.send(record(1), [record(2), record(3)])
    result = site.manage("run", "index")
    assert result.exit_code == Exit.DONE, result.stderr
    assert result.stderr.startswith("index: done. 3 indexed, ")
    assert site.store.indices() == {INDEX: 3}


def test_what_becomes_a_dead_letter_shows_in_the_exit_code_and_in_status(site):
    site.send(record(1), "no JSON")
    result = site.manage("run", "index")
    assert result.exit_code == Exit.DEAD_LETTERS
    assert "1 dead letter, kept in S3" in result.stderr
    state = site.status()
    assert (state["indexed"], state["dead"], state["dead_letters"]) == (1, 1, 1)
    assert state["last_drain"]["indexed"] == 1
    status = site.manage("status")
    assert status.exit_code == Exit.DEAD_LETTERS
    assert "index: dead letters wait" in status.stdout
    assert "1 indexed · last drain: 1 in" in status.stdout


def test_what_blocks_it_stands_in_status_until_it_is_mended(site, tmp_path):
    site.send(record(1))
    folder = tmp_path / "not-there"
    site.environment["DOCUMENTS_URL"] = f"sqlite:///{folder / 'x.db'}"
    assert site.manage("run", "index").exit_code == Exit.BLOCKED
    status = site.manage("status")
    assert status.exit_code == Exit.BLOCKED
    assert "index is blocked" in status.stdout
    assert "Check DOCUMENTS_URL" in status.stdout
    folder.mkdir()
    assert site.manage("run", "index").exit_code == Exit.DONE
    assert site.manage("status").exit_code == Exit.DONE


def test_a_dead_letter_is_indexed_by_replay_and_one_that_still_cannot_be_read_stays(site):
    site.dead_letters.put(DeadLetter.of_record("index", 7, "the store was ill", {"record": record(7)}))
    site.dead_letters.put(DeadLetter.of_message("index", "m", "no JSON", {"body": "no JSON"}))
    result = site.manage("dead-letters", "replay", "--all")
    assert result.exit_code == Exit.DEAD_LETTERS
    assert "index/record-7: 1 sent" in result.stdout
    assert "index/message-m: not replayed" in result.stderr
    assert list(site.dead_letters.names()) == ["index/message-m"]
    assert site.store.indices() == {INDEX: 1}


def test_enqueue_index_asks_for_as_many_workers_as_it_is_told(site):
    assert site.manage("enqueue", "index", "--indexers", "3").exit_code == Exit.DONE
    assert site.workers.asked == [3]


@pytest.mark.parametrize("command", ["run", "enqueue"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"SQS_QUEUE_NAME": ""}, "not set: SQS_QUEUE_NAME"),
        ({"SQS_QUEUE_NAME": "-"}, 'SQS_QUEUE_NAME is "-"'),
        ({"DOCUMENTS_URL": ""}, "ES_HOST"),
    ],
)
def test_without_a_queue_or_a_document_store_nobody_is_asked_to_index(site, command, changes, told):
    result = site.manage(command, "index", **changes)
    assert result.exit_code == Exit.USAGE
    assert told in result.stderr
    assert site.workers.asked == []


def test_a_site_with_logstash_sees_nothing_of_the_indexer(site):
    assert site.status() is None
    assert "\nindex " not in site.manage("status").stdout


def test_a_worker_does_what_enqueue_asks_for(site):
    site.send(record(1), record(2))
    with stack.celery("worker", "-c", "1", "-Q", "index", "-l", "info", environment=site.environment) as worker:
        assert commands.manage("enqueue", "index", environment=site.environment).returncode == 0
        end = time.monotonic() + 30
        while site.store.indices() != {INDEX: 2}:
            assert time.monotonic() < end, worker.output
            time.sleep(0.1)


@pytest.mark.parametrize(("wanted", "entries"), [("true", ["index.drain"]), ("false", [])])
def test_beat_asks_for_it_where_it_is_wanted_only(site, wanted, entries):
    code = "import celeryconfig; print(*(e['task'] for e in celeryconfig.beat_schedule.values()))"
    environment = {**os.environ, **site.environment, "INDEXER": wanted, "PYTHONPATH": str(stack.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert [task for task in done.stdout.split() if task.startswith("index.")] == entries
