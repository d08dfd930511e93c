"""A person who occurs nowhere else goes through real processes; no byte of any store or log names them."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
import requests

from devservers import cluster, stack
from tests.privacy import planted
from tests.privacy.planted import found
from uaharvest import assembly, index_templates
from uaharvest.privacy.site import protection
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection

DAY = (datetime.now(UTC) - timedelta(days=1)).date()
PATIENCE = 300  # seconds that a busy machine may take
ACCOUNT = ("--account-id", "account", "--client-id", "key", "--client-secret", "word-of-zoom")
KEYS = "k2:a-secret-of-sixteen-or-more,k1:an-older-secret-of-sixteen"
ROWS = 3  # of the planted person
PLACES = planted.EVERYTHING


def meet(zoom):
    """Let the planted person be at a meeting, twice with details and once with nothing but a name."""
    one = {
        "id": planted.ZOOM_ID,
        "participant_user_id": planted.ZOOM_ID,
        "registrant_id": planted.ZOOM_ID,
        "user_name": planted.NAME,
        "email": planted.EMAIL,
        "ip_address": planted.ADDRESS,
        "leave_reason": f"{planted.NAME} left the meeting.",
    }
    named = {"user_name": planted.NAME, "user_id": "", "participant_uuid": ""}
    members = {"start": f"{DAY}T10:00:00Z", "people": 3, "sessions": [one, {**one, "user_id": "5"}, named]}
    requests.post(f"{zoom.url}/_sim/meetings", json=members, timeout=30).raise_for_status()


def watch(site):
    """Let the planted person watch; the episode of one row cannot be looked up."""
    at = site.end.timestamp() - 60
    row = {
        "user": planted.LOGIN,
        "session": planted.SESSION,
        "ip": f"{planted.ADDRESS}, {planted.PROXY}",
        "agent": planted.AGENT,
    }
    types = ("PLAY", f"SEARCH-{planted.TERM}", "FOOTPRINT")
    rows = [{**row, "created": at + number, "type": type_} for number, type_ in enumerate(types)]
    refused = {**row, "created": at + 10, "type": "PLAY", "mediapackage": "refused"}
    site.simulate("faults", {"path": "search", "kind": "status", "status": 403, "id": "refused"})
    site.simulate("rows", {"rows": [*rows, refused]})


def disturb(site):
    """Put messages into the queue that become dead letters of the indexer: one that is no JSON, one without an id."""
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=site.environment["SQS_QUEUE_NAME"])["QueueUrl"]
    record = {"huid": planted.LOGIN, "ip": planted.ADDRESS, "timestamp": "2026-11-17T10:00:00+00:00"}
    for body in (json.dumps(record)[:-1], json.dumps(record)):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    sqs.close()


def objects(site):
    """Everything in the bucket."""
    s3 = boto3.client("s3")
    bucket = site.environment["S3_HARVEST_TS_BUCKET"]
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    whole = b"\n".join(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed)
    s3.close()
    return whole


def dump(site):
    """The file of Redis, uncompressed."""
    site.redis.config_set("rdbcompression", "no")
    site.redis.save()
    return b"".join(
        path.read_bytes() for path in Path(site.redis.config_get("dir")["dir"]).rglob("*") if path.is_file()
    )


def harvest(start_site, store_settings):
    """Harvest everything, through a killed worker; return the site and what its processes and commands have said."""
    with stack.zoom_simulator("--meetings", "2", "--date", f"{DAY}", *ACCOUNT) as zoom:
        meet(zoom)
        site = start_site(
            rows=100,
            workers=0,
            settings={
                "ZOOM_ACCOUNT_ID": "account",
                "ZOOM_KEY": "key",
                "ZOOM_SECRET": "word-of-zoom",
                "ZOOM_API_URL": f"{zoom.url}/v2/",
                "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
                "ZOOM_AT": "00:00",
                "LOG_LEVEL": "debug",
                "HARVEST_EVERY_SECONDS": "2",
                "HARVEST_ATTEMPTS": "2",
                "PRIVACY_PSEUDONYMS": KEYS,
                "PRIVACY_ADDRESS": "truncated",
                "PRIVACY_AGENT": "family",
                **store_settings,
            },
        )
        watch(site)
        worker = site.add_worker()
        beat = site.add_beat(2)
        store = assembly.document_store(site.settings)
        site.until(lambda: site.mark() and site.mark().at >= site.end, ticking=False, patience=PATIENCE)
        disturb(site)
        site.kill_pool_process(worker)
        site.until(
            lambda: (
                any(letter.startswith("index/") for letter in site.dead_letters.names())
                or (site.manage("--debug", "run", "index") and None)
            ),
            ticking=False,
            patience=PATIENCE,
        )
        site.until(lambda: list(store.select("sessions*")), ticking=False, patience=PATIENCE)
        said = [site.manage("--debug", *words) for words in (("status",), ("status", "--json"), ("run", "index"))]
        said.append(site.manage("--debug", "dead-letters", "list"))
        beat.kill()
        worker.kill()
    return site, [worker.output, beat.output, *(f"{one.stdout}{one.stderr}" for one in said)]


def of_person(store, site):
    """The planted person's documents, found by their pseudonyms."""
    person = protection(site.settings).id
    actions = [one for one in store.select("useractions*") if one.get("huid") == person(planted.LOGIN)]
    sessions = [one for one in store.select("sessions*") if one.get("email") == person(planted.EMAIL)]
    return actions, sessions


def require_unseen(site, said):
    """Search everything but the document store."""
    places = {"S3": objects(site), "Redis": dump(site), **{f"output {n}": text for n, text in enumerate(said)}}
    for place, content in places.items():
        assert content, place
        assert found(content, PLACES) == [], place
    kinds = {name.partition("-")[0] for name in site.dead_letters.names()}
    assert kinds >= {"useractions/record", "index/message", "index/record"}


@pytest.mark.fault
def test_sqlite_s3_redis_and_logs_hold_nothing_of_the_planted_person(start_site, tmp_path):
    settings = {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}", "INDEXER": "true"}
    site, said = harvest(start_site, settings)
    actions, sessions = of_person(assembly.document_store(site.settings), site)
    assert (len(actions), len(sessions)) == (ROWS, 2)
    assert {one["action"]["type"] for one in actions} == {"PLAY", "SEARCH", "FOOTPRINT"}
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert actions[0]["huid"].encode() in files  # the search finds what is there
    assert found(files, PLACES) == []
    require_unseen(site, said)


@pytest.mark.fault
@pytest.mark.long
def test_elasticsearch_holds_nothing_of_the_planted_person(start_site, elasticsearch_server, tmp_path):
    with cluster.serve(*elasticsearch_server) as server:
        settings = {"ES_HOST": server.url, "INDEXER": "true"}
        index_templates.load(connection.connect(Settings(es_url=f"{server.url}/")))
        site, said = harvest(start_site, settings)
        store = assembly.document_store(site.settings)
        requests.post(f"{server.url}/_refresh", timeout=60).raise_for_status()
        actions, sessions = of_person(store, site)
        assert (len(actions), len(sessions)) == (ROWS, 2)
        text = json.dumps([list(store.select(f"{family}*")) for family in ("useractions", "sessions", "meetings")])
        assert actions[0]["huid"] in text
        assert found(text, PLACES) == []
        for order in ("_forcemerge?max_num_segments=1", "_flush?force=true"):
            requests.post(f"{server.url}/{order}", timeout=120).raise_for_status()
        folder = subprocess.run(
            ["find", str(server.directory), "-type", "f"], check=True, capture_output=True, text=True
        ).stdout.split()
        files = [Path(name) for name in folder if "/data/" in name]
        assert len(files) > 10
        assert [path for path in files if found(path.read_bytes(), PLACES)] == []
        require_unseen(site, said)
