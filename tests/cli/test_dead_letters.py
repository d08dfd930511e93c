"""`dead-letters` beside objects that are none, and what may be replayed into which index."""

import json

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from uaharvest import assembly, aws, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import Exit
from uaharvest.replay import OUTAGE

INDEX = "useractions-2026.11.20"
FOREIGN = {
    "index/record-0.json": b"{",
    "index/record-zero.json": b"",
    "index/record-1": b"no ending",
    "notes.txt": b"notes",
    "unknown/record-1.json": json.dumps(
        {"stream": "unknown", "kind": "record", "reason": "", "at": "2026-11-20", "payload": {}, "schema": 2}
    ).encode(),
}
NAMES = ["index/record-0", "index/record-1", "index/record-zero", "notes.txt", "unknown/record-1"]


class Site:
    def __init__(self, environment, patch):
        self.environment = environment
        self.settings = settings.load(environment)
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)
        self._patch = patch

    def index_letter(self, number):
        record = {"action_id": number, "timestamp": "2026-11-20T16:00:02+00:00"}
        self.dead_letters.put(DeadLetter.of_record("index", number, "the store was ill", {"record": record}))

    def manage(self, *arguments, **changes):
        for name, value in {**self.environment, **changes}.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, ["dead-letters", *arguments], obj=Context(lambda: None))


@pytest.fixture
def environment(queue_name, bucket, valkey_url, redis, tmp_path):
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "REDIS_URL": valkey_url,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "MATTERHORN_ENGAGE_HOST": "engage.example.edu",
        "ZOOM_ACCOUNT_ID": "a",
        "ZOOM_KEY": "k",
        "ZOOM_SECRET": "s",
    }


@pytest.fixture
def site(environment, monkeypatch):
    yield Site(environment, monkeypatch)
    settings.current.cache_clear()


@pytest.fixture
def foreign(site, bucket):
    """Objects among the dead letters that are none, one of them with a key that we may not use."""
    for key, content in FOREIGN.items():
        aws.s3_client().put_object(Bucket=bucket, Key=f"dead-letters/{key}", Body=content)
    site.index_letter(7)
    site.index_letter(8)


def test_what_cannot_be_read_is_listed_with_its_key_beside_the_others(site, foreign, bucket):
    listed = site.manage("list")
    assert listed.exit_code == Exit.DEAD_LETTERS
    lines = listed.stdout.splitlines()
    assert sorted(line.split("  ")[0] for line in lines) == sorted([*NAMES, "index/record-7", "index/record-8"])
    assert sum("unreadable" in line for line in lines) == len(NAMES)
    for key in FOREIGN:
        assert f"s3://{bucket}/dead-letters/{key} is not a dead letter" in listed.stdout
    found = [json.loads(line) for line in site.manage("list", "--json").stdout.splitlines()]
    assert sorted(one["name"] for one in found if one["kind"] is None) == NAMES


def test_without_such_objects_the_list_is_whole(site):
    site.index_letter(7)
    assert site.manage("list").exit_code == Exit.DONE


def test_what_cannot_be_read_stays_and_all_others_are_replayed(site, foreign):
    replayed = site.manage("replay", "--all")
    assert replayed.exit_code == Exit.DEAD_LETTERS
    assert replayed.stdout == "index/record-7: 1 sent\nindex/record-8: 1 sent\n"
    assert replayed.stderr.count("not replayed: ") == len(NAMES)
    assert site.store.indices() == {INDEX: 2}
    assert sorted(site.dead_letters.names()) == NAMES


def test_what_cannot_be_read_is_dropped_by_name_only(site, foreign):
    dropped = site.manage("drop", "--all", "--yes")
    assert dropped.exit_code == Exit.DEAD_LETTERS
    assert dropped.stdout == "index/record-7: dropped\nindex/record-8: dropped\n"
    assert sorted(site.dead_letters.names()) == NAMES
    assert site.manage("drop", "--yes", *NAMES).exit_code == Exit.DONE
    assert list(site.dead_letters.names()) == []
    assert site.manage("drop", "--yes", "notes.txt").exit_code == Exit.USAGE


def test_a_name_that_does_not_exist_stops_all_before_anything_is_sent(site):
    site.index_letter(7)
    assert site.manage("replay", "index/record-7", "index/record-9").exit_code == Exit.USAGE
    assert site.store.indices() == {}


def test_objects_that_s3_does_not_give_out_hold_back_no_other_and_an_outage_ends_it(site, foreign, monkeypatch):
    get, failing, refusal = aws.s3_client().get_object, {"index/record-7.json"}, []

    def answer(**arguments):
        if any(arguments["Key"].endswith(key) for key in failing):
            code, status = refusal
            details = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(details, "GetObject")
        return get(**arguments)

    monkeypatch.setattr(aws.s3_client(), "get_object", answer)
    for refusal[:] in (("AccessDenied", 403), ("SlowDown", 503)):
        listed = site.manage("list")
        assert listed.exit_code == Exit.DEAD_LETTERS
        assert "index/record-8  20" in listed.stdout
        assert refusal[0] in listed.stdout
    failing.add("")
    outage = site.manage("list")
    assert outage.exit_code == Exit.ERROR
    assert outage.stdout.count("\n") < OUTAGE


@pytest.mark.parametrize("payload", [{}, {"record": None}, {"record": {"action_id": 9}}, {"body": 7}])
def test_a_payload_of_another_form_stays_and_holds_back_no_other(site, payload):
    for kind in (DeadLetter.of_record, DeadLetter.of_slice):
        site.dead_letters.put(kind("useractions", "1", "r", payload))
    site.dead_letters.put(DeadLetter.of_record("index", "6", "r", payload))
    site.dead_letters.put(DeadLetter.of_record("unknown", "6", "r", payload))
    site.dead_letters.put(DeadLetter.of_slice("zoom", "6", "r", payload))
    site.index_letter(7)
    replayed = site.manage("replay", "--all")
    assert replayed.exit_code == Exit.DEAD_LETTERS
    assert replayed.stdout == "index/record-7: 1 sent\n"
    assert len(list(site.dead_letters.names())) == 5
    assert "this version knows no stream 'unknown'" in replayed.stderr


@pytest.mark.parametrize(
    "index",
    [
        "secrets",
        "meetings",
        "meetings-other-2026.11.20",
        ".security",
        "useractions-2026.11.20,secrets",
        "episodes-x",
        7,
    ],
)
def test_a_letter_writes_into_no_index_but_this_sites(site, index):
    document = {"index": index, "id": "m", "update": True, "body": {"topic": "t"}}
    site.dead_letters.put(DeadLetter.of_record("zoom", "m", "r", {"document": document}))
    site.dead_letters.put(
        DeadLetter.of_record("zoom", "n", "r", {"document": {**document, "index": "meetings-stack-2026.11.20"}})
    )
    replayed = site.manage("replay", "--all", INDEX_INFIX="stack")
    assert replayed.exit_code == Exit.DEAD_LETTERS
    assert replayed.stdout == "zoom/record-n: 1 sent\n"
    assert "zoom/record-m: not replayed" in replayed.stderr
    assert site.store.indices() == {"meetings-stack-2026.11.20": 1}
