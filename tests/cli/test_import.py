"""`import useractions` as a person uses it, with a real store, S3 and SQS."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time

import boto3
import pytest
from backports import zstd
from click.testing import CliRunner

from devservers import stack
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import Exit
from uaharvest.importing import importer
from uaharvest.sinks import Receipt
from uaharvest.sinks.sqlite import SqliteStore

DAY = "useractions-2019.03.20"


def message(number, **changes):
    return {
        "action_id": number,
        "timestamp": "2019-03-20T16:00:02+00:00",
        "mpid": "m",
        "huid": "h",
        "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:65.0) Gecko/20100101 Firefox/65.0",
        "ip": "192.0.2.1",
        "is_live": 0,
        "action": {"type": "HEARTBEAT", "inpoint": number, "outpoint": number, "length": 0, "is_playing": True},
        "episode": {"title": "Lecture"},
        **changes,
    }


def lines(*records):
    return b"".join(
        record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n" for record in records
    )


class Site:
    def __init__(self, environment, monkeypatch, folder):
        self.environment = environment
        self.settings = settings.load(environment)
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)
        self.folder = folder
        self._patch = monkeypatch

    def file(self, name, *records):
        (self.folder / name).write_bytes(lines(*records))
        return str(self.folder / name)

    def manage(self, *arguments, **changes):
        for name, value in {**self.environment, **changes}.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        result = CliRunner().invoke(cli, arguments, obj=Context(lambda: pytest.fail("no worker is needed")))
        return result.exit_code, result.stdout, result.stderr

    def imported(self, *arguments, code=Exit.DONE, **changes):
        """Import and return what was said, without the rates."""
        exit_code, said, errors = self.manage("import", "useractions", *arguments, **changes)
        assert (exit_code, said) == (code, ""), errors
        return [line.rpartition(", ")[0] if line.endswith("/s") else line for line in errors.splitlines()]

    def messages(self):
        """Return the records in the queue, and empty it."""
        sqs = boto3.client("sqs")
        url = sqs.get_queue_url(QueueName=self.environment["SQS_QUEUE_NAME"])["QueueUrl"]
        found = []
        while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for one in received:
                body = json.loads(one["Body"])
                found += body if isinstance(body, list) else [body]
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return found


@pytest.fixture
def environment(queue_name, bucket, tmp_path):
    return {
        "SQS_QUEUE_NAME": f"{queue_name}-import",  # made by the first message, with our retention
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "OPENCAST_TIMEZONE": "America/New_York",
    }


@pytest.fixture
def site(environment, monkeypatch, tmp_path):
    yield Site(environment, monkeypatch, tmp_path)
    settings.current.cache_clear()


def test_files_are_imported_and_counted(site):
    one = site.file("one.jsonl", message(1), [message(2), message(3)], message(1))
    two = site.file("two.jsonl", message(3), {"_index": "episodes", "_id": "m", "_source": {}})
    assert site.imported(one, two) == [
        f"{one}: 4 read, 3 imported, 1 already there",
        f"{two}: 2 read, 0 imported, 1 already there, 1 no useractions",
    ]
    assert site.store.indices() == {DAY: 3}
    assert site.store.get(DAY, "1")["ua"]["name"] == "Firefox"


def test_a_file_that_is_done_is_not_imported_again_unless_asked(site):
    name = site.file("old.jsonl", message(1))
    site.imported(name)
    assert site.imported(name) == [
        f"{name}: imported before: 1 read, 1 imported, 0 already there. Use --again to import it again."
    ]
    assert site.imported(name, "--again") == [f"{name}: 1 read, 0 imported, 1 already there"]
    assert site.imported(name)[0].startswith(f"{name}: imported before: 1 read, 0 imported")


def test_a_file_that_has_changed_is_refused_by_its_name(site):
    name = site.file("old.jsonl", message(1))
    site.imported(name)
    site.file("old.jsonl", message(1), message(2))
    [said] = site.imported(name, code=Exit.USAGE)
    assert said.startswith(f"{name}: it has changed since it was imported (")
    assert "--again to import all of it" in said
    assert site.imported(name, "--again") == [f"{name}: 2 read, 1 imported, 1 already there"]


def test_what_is_there_is_completed_but_not_made_poorer(site):
    rich = {**message(1), "@timestamp": "2019-03-20T16:00:02.000Z", "geoip": {"city_name": "Boston"}}
    del rich["timestamp"], rich["useragent"]
    dump = {"_index": "useractions-old-2019.03.20", "_type": "event", "_id": "1", "_source": rich}
    site.imported(site.file("poor.jsonl", message(1, episode={}), message(2)))
    name = site.file("rich.jsonl", dump)
    assert site.imported(name) == [f"{name}: 1 read, 0 imported, 0 already there, 1 completed"]
    stored = site.store.get(DAY, "1")
    assert (stored["episode"], stored["geoip"]) == ({"title": "Lecture"}, {"city_name": "Boston"})
    assert stored["ua"]["name"] == "Firefox"
    site.imported(site.file("poor again.jsonl", message(1, episode={}, mpid="another")))
    assert site.store.get(DAY, "1") == stored


def test_an_export_is_imported_as_it_was(site, tmp_path):
    site.imported(site.file("old.jsonl", *(message(number) for number in range(300)), message(-1, ip="ü")))
    _, exported, _ = site.manage("documents", "export", "*")
    (tmp_path / "export.zst").write_bytes(zstd.compress(exported.encode()))
    copy = {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'copy.db'}"}
    assert site.imported(str(tmp_path / "export.zst"), **copy) == [
        f"{tmp_path / 'export.zst'}: 301 read, 301 imported, 0 already there"
    ]
    _, again, _ = site.manage("documents", "export", "*", **copy)
    assert [*map(json.loads, again.splitlines())] == [*map(json.loads, exported.splitlines())]


def test_an_object_in_s3_is_imported(site, bucket):
    boto3.client("s3").put_object(Bucket=bucket, Key="old.gz", Body=gzip.compress(lines(message(1))))
    name = f"s3://{bucket}/old.gz"
    assert site.imported(name) == [f"{name}: 1 read, 1 imported, 0 already there"]
    boto3.client("s3").put_object(Bucket=bucket, Key="old.gz", Body=gzip.compress(lines(message(2))))
    assert "it has changed since it was imported" in site.imported(name, code=Exit.USAGE)[0]


def test_what_cannot_be_read_becomes_a_dead_letter_that_can_be_replayed(site):
    name = site.file("old.jsonl", message(1), b"n\xff\n", {**message(2), "timestamp": "never"}, message(3))
    assert site.imported(name, code=Exit.DEAD_LETTERS) == [
        f"{name}: 4 read, 2 imported, 0 already there, 2 dead letters",
        "2 dead letters, kept in S3 until replayed or dropped: manage.py dead-letters list",
    ]
    dead_letters = {
        letter.kind: letter for letter in map(site.dead_letters.get, site.dead_letters.names("import"))
    }
    assert dead_letters["message"].payload == {"body": "n\\xff", "to": "documents", "file": name}
    assert dead_letters["record"].payload["record"]["action_id"] == 2
    assert dead_letters["record"].reason.startswith("at byte ")
    code, _, errors = site.manage("dead-letters", "replay", "--all")
    assert code == Exit.DEAD_LETTERS
    assert errors.count("not replayed") == 2


def test_what_the_store_refuses_becomes_a_dead_letter_and_replaying_it_stores_it(site, monkeypatch):
    name = site.file("old.jsonl", message(1), message(2))
    refusing(monkeypatch, "2")
    assert "1 imported, 0 already there, 1 dead letters" in site.imported(name, code=Exit.DEAD_LETTERS)[0]
    monkeypatch.undo()
    assert site.manage("dead-letters", "replay", "--all")[0] == Exit.DONE
    assert site.store.indices() == {DAY: 2}
    assert not list(site.dead_letters.names())


def refusing(monkeypatch, id_):
    """Let the store refuse a document, as a cluster does."""
    write = SqliteStore.write

    def refuse(self, documents):
        documents = list(documents)
        yield from write(self, [one for one in documents if one.id != id_])
        yield Receipt(refused=[(one, "400: no") for one in documents if one.id == id_])

    monkeypatch.setattr(SqliteStore, "write", refuse)


def test_too_many_bad_lines_stop_before_anything_of_them_is_done(site):
    name = site.file("other.txt", *[b"nonsense\n"] * 4, message(1))
    [said] = site.imported(name, code=Exit.USAGE)
    assert said.startswith(f"{name}: 4 of 5 records cannot be read, such as the one at byte 0: the message is no")
    assert site.store.indices() == {}
    assert not list(site.dead_letters.names())


def test_a_few_bad_lines_at_the_end_are_judged_with_the_whole_file(site, monkeypatch):
    monkeypatch.setattr(importer, "BATCH_RECORDS", 100)
    name = site.file("old.jsonl", *map(message, range(100)), *[b"nonsense\n", b"bad\n", b"evil\n", b"x\n"])
    assert "104 read, 100 imported" in site.imported(name, code=Exit.DEAD_LETTERS)[0]


def test_a_dry_run_counts_by_kind_and_touches_nothing(site):
    dump = {**message(1), "created": "2014-09-01T12:46:18-04:00"}
    del dump["timestamp"]
    document = {"_id": "3", "_source": {"@timestamp": "2016-01-01T00:00:00Z"}}
    name = site.file("old.jsonl", dump, message(2), document, {"_index": "episodes", "_id": "m"}, b"nonsense\n")
    code, said, errors = site.manage("import", "useractions", "--dry-run", name)
    assert (code, errors) == (Exit.DONE, "")
    assert said == (
        f"{name}: 5 records of 2014-09-01 to 2019-03-20 UTC: 1 documents, 1 documents that are not useractions,"
        " 1 older messages with 'created', 1 queue messages, 1 unreadable (the first at byte"
        f" {(site.folder / 'old.jsonl').stat().st_size - 9:,}: the message is not JSON: Expecting value: line 1 column"
        " 1 (char 0))\n"
    )
    assert not (site.folder / "documents.db").exists()
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=site.environment["S3_HARVEST_TS_BUCKET"])


def test_with_to_queue_the_indexer_makes_the_same_documents(site):
    document = {"@timestamp": "2016-01-01T00:00:00.500Z", "action_id": 3, "geoip": {"city_name": "Boston"}}
    name = site.file("old.jsonl", message(1), {"_id": "3", "_source": document})
    assert site.imported(name, "--to", "queue") == [f"{name}: 2 read, 2 imported, 0 already there"]
    found = {record["action_id"]: record for record in site.messages()}
    assert found == {
        1: message(1),
        3: {"action_id": 3, "timestamp": "2016-01-01T00:00:00+00:00", "geoip": {"city_name": "Boston"}},
    }
    # Each destination has a position of its own.
    assert site.imported(name) == [f"{name}: 2 read, 2 imported, 0 already there"]


def test_a_mistake_in_the_last_file_shows_before_the_first_is_imported(site):
    name = site.file("old.jsonl", message(1))
    [said] = site.imported(name, "missing", code=Exit.USAGE)
    assert said.startswith("missing: No such file or directory. Expected a file of JSON lines")
    assert site.store.indices() == {}


def test_what_is_not_set_is_named(site):
    name = site.file("old.jsonl", message(1))
    assert "S3_HARVEST_TS_BUCKET" in site.imported(name, code=Exit.USAGE, S3_HARVEST_TS_BUCKET="")[0]
    assert "SQS_QUEUE_NAME" in site.imported(name, "--to", "queue", code=Exit.USAGE, SQS_QUEUE_NAME="-")[0]


def test_two_imports_of_one_file_do_not_overtake_each_other(site, monkeypatch):
    monkeypatch.setattr(importer, "BATCH_RECORDS", 10)
    name = site.file("old.jsonl", *map(message, range(30)))
    deliver = importer.ToDocuments.deliver

    def overtaken(self, items):
        monkeypatch.setattr(importer.ToDocuments, "deliver", deliver)
        site.imported(name)
        return deliver(self, items)

    monkeypatch.setattr(importer.ToDocuments, "deliver", overtaken)
    assert f"{name}: another process imports it too" in site.imported(name, code=Exit.ERROR)[-1]
    assert site.store.indices() == {DAY: 30}


def test_a_stopped_import_continues_where_it_was(site, monkeypatch):
    monkeypatch.setattr(importer, "BATCH_RECORDS", 10)
    name = site.file("old.jsonl", *map(message, range(30)))
    deliver = importer.ToQueue.deliver

    def stopping(self, items):
        os.kill(os.getpid(), signal.SIGINT)
        return deliver(self, items)

    monkeypatch.setattr(importer.ToQueue, "deliver", stopping)
    said = site.imported(name, "--to", "queue", code=Exit.ERROR)
    assert said == [f"{name}: stopped after 10 records. The same command continues there."]
    monkeypatch.setattr(importer.ToQueue, "deliver", deliver)
    assert site.imported(name, "--to", "queue") == [
        f"{name}: continues after 10 records",
        f"{name}: 30 read, 30 imported, 0 already there",
    ]
    assert sorted(record["action_id"] for record in site.messages()) == list(range(30))


def command(*arguments):
    return [sys.executable, str(stack.ROOT / "manage.py"), "import", "useractions", *arguments]


def test_stdin_is_read_to_its_end(site):
    done = subprocess.run(
        command("-"),
        env={**os.environ, **site.environment},
        input=gzip.compress(lines(message(1), message(2))),
        capture_output=True,
        check=False,
    )
    assert done.returncode == Exit.DONE, done.stderr
    assert done.stderr.startswith(b"-: 2 read, 2 imported, 0 already there, ")
    assert site.store.indices() == {DAY: 2}


@pytest.mark.fault
def test_an_import_that_is_killed_twice_loses_nothing_and_repeats_nothing(site):
    count, kills = 12_000, 2
    path = site.folder / "old.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*map(message, range(count)))))
    environment = {**os.environ, **site.environment}
    stored = 0
    for _ in range(kills):
        process = subprocess.Popen(command(str(path)), env=environment, stderr=subprocess.DEVNULL)
        wanted = stored + importer.BATCH_RECORDS + 100  # so at least one batch is confirmed, and another is not
        while stored < wanted:
            assert process.poll() is None
            time.sleep(0.02)  # between two looks
            stored = site.store.indices().get(DAY, 0)
        process.kill()
        process.wait()
    done = subprocess.run(command(str(path)), env=environment, capture_output=True, check=False)
    assert done.returncode == Exit.DONE, done.stderr
    assert site.store.indices() == {DAY: count}
    first, *_, last = done.stderr.decode().splitlines()
    assert "continues after" in first
    # A killed process repeats a batch at most, which is found there already.
    numbers = re.findall(r"([\d,]+) (?:read|imported|already)", last)
    read, new, present = (int(number.replace(",", "")) for number in numbers)
    assert (read, new + present) == (count, count)
    assert present <= kills * importer.BATCH_RECORDS
