"""One person is found, exported and erased in every store, and does not come back."""

import hashlib
import json

import pytest

from tests.fakes import at
from tests.person.site import IDS, Site, action
from tests.privacy import planted
from tests.privacy.planted import found
from uaharvest import settings
from uaharvest.privacy.pseudonyms import PseudonymKey, Pseudonyms

SECRET = "a secret of sixteen or more"
PSEUDONYMS = {"PRIVACY_PSEUDONYMS": f"k2:{SECRET.replace(' ', '-')},k1:an-older-secret-of-sixteen"}
CLEAR = {"PRIVACY_TOMBSTONE_KEY": SECRET.replace(" ", "-")}
CREATED = at(1).isoformat()


@pytest.fixture(params=[CLEAR, PSEUDONYMS], ids=["clear", "pseudonyms"])
def keys(request):
    return request.param


@pytest.fixture
def environment(queue_name, bucket, tmp_path, valkey_url, keys):
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "REDIS_URL": valkey_url,
        "OPENCAST_TIMEZONE": "UTC",
        "INDEXER": "true",
        "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:9",
        "OPENCAST_PROFILE": "dce",
        "ZOOM_HEADER": "X-Gateway: open",
        "ACCESS_LOG_FILE": str(tmp_path / "access.log"),
        **keys,
    }


@pytest.fixture
def site(environment, monkeypatch, client):
    yield Site(environment, monkeypatch, client)
    settings.current.cache_clear()


def rows():
    """Return rows of the person and of somebody else, in turn."""
    return [
        planted.action(number, created=CREATED) if number % 2 else action(number, created=CREATED)
        for number in range(1, 11)
    ]


def record(number, login):
    return {
        "action_id": number,
        "timestamp": CREATED,
        "mpid": "lecture",
        "huid": login,
        "session_id": f"s{number}",
    }


def fill(site):
    site.harvest_to_documents(*rows())
    site.zoom()
    site.derive()


def letters(site):
    """Write the dead letters of a site that protects nothing."""
    site.put("useractions", 100, {"raw": planted.action(100, created=CREATED)})
    site.put("useractions", 101, {"raw": action(101, created=CREATED)})
    site.put(
        "index", "both", {"body": json.dumps([record(102, planted.LOGIN), record(103, "somebody")])}, "message"
    )
    site.put("index", 104, {"record": record(104, planted.LOGIN)})
    site.put("index", 105, {"record": record(105, f"{planted.LOGIN}-of-another")})
    document = {"index": "meetings-2026.11.17", "id": "m", "update": True}
    site.put("zoom", 106, {"document": {**document, "body": {"uuid": "m", "host": {"host_id": planted.ZOOM_ID}}}})
    document["index"] = "sessions-2026.11.17"
    site.put("zoom", 107, {"document": {**document, "body": {"meeting": "m", "email": planted.EMAIL.upper()}}})
    site.put("import", 108, {"record": {"_id": "108", "_source": record(108, planted.LOGIN)}, "to": "documents"})


def test_after_an_erasure_nothing_names_the_person_and_nothing_brings_them_back(site, keys, tmp_path):
    fill(site)
    if keys is CLEAR:
        letters(site)
        needles = planted.IDENTITIES
    else:
        person = Pseudonyms([PseudonymKey(*key) for key in site.settings.privacy_pseudonyms])
        needles = [*planted.IDENTITIES, *(one for id_ in planted.IDENTITIES for one in person.every(id_))]
    assert found(site.everything(), needles)
    before = site.store.indices()
    day = "useractions-" + CREATED[:10].replace("-", ".")
    assert (before[day], before["sessions-2026.11.17"]) == (10, 4)
    said, _ = site.manage("person", "erase", "--yes", *IDS)
    receipt = json.loads(said)
    assert receipt["left"] == []
    assert receipt["stores"]["useractions"] == {"before": 5, "removed": 5, "after": 0}
    assert receipt["stores"]["sessions"] == {"before": 2, "removed": 2, "after": 0}
    assert receipt["stores"]["host of meetings"] == {"before": 1, "removed": 1, "after": 0}
    text = json.dumps(
        {key: receipt[key] for key in receipt if key != "sha256"}, sort_keys=True, separators=(",", ":")
    )
    assert receipt["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    after = site.store.indices()
    assert after == {
        **before,
        day: 5,
        "sessions-2026.11.17": 2,
        "viewings": 2,
        "recordings": 2,
        "attendance": 1,
    }
    recordings = {one["_id"]: one for one in site.store.select("recordings")}
    assert {mpid: (one["viewers"], one["anonymous"]) for mpid, one in recordings.items()} == {
        "lecture": (1, 0),
        "another": (1, 0),
    }
    assert recordings["lecture"]["title"] == "About lecture"
    assert recordings["lecture"]["views"] == recordings["another"]["views"]
    assert "recordings" not in receipt["stores"]
    assert receipt["recomputed"]["recordings"] == "figures of 2 computed again from the other viewings"
    kept = {one["uuid"]: one for one in site.store.select("meetings-*")}
    assert "host_id" not in kept["uuid=="].get("host", {})
    assert kept["uuid=="]["topic"] == "…'s Zoom Meeting"
    assert [(one["unique_participants"], one["erased_sessions"]) for one in kept.values()] == [(1, 1), (1, 1)]
    assert kept["other=="]["topic"] == "Seminar"

    def check():
        left = found(site.everything(), needles)
        return left if keys is not CLEAR else [one for one in left if one != planted.LOGIN]

    if keys is CLEAR:  # somebody else's login begins with theirs
        assert site.everything().count(planted.LOGIN.encode()) == site.everything().count(b"-of-another")
        assert sorted(site.dead_letters.names()) == [
            "index/message-both",
            "index/record-105",
            "useractions/record-101",
            "zoom/record-106",
        ]
    assert check() == []
    # The next harvest, a backfill, a replay, the queue and an import.
    reporter = site.harvest_to_documents(*rows())
    assert reporter.counts["erased"] == 5
    assert len(reporter.dead) == 5  # known, so that no run looks for them again
    site.harvest_to_queue(*rows())
    site.index()
    old = tmp_path / "old.jsonl"
    old.write_text("".join(f"{json.dumps(record(n, planted.LOGIN))}\n" for n in (1, 201)))
    _, words = site.manage("import", "useractions", str(old))
    assert "2 of people who were erased" in words
    old.unlink()
    site.zoom()
    assert site.store.indices() == after
    assert {one["uuid"]: one for one in site.store.select("meetings-*")} == kept
    assert check() == []
    if keys is CLEAR:
        letters(site)
        site.manage("dead-letters", "replay", "useractions/record-100", "index/record-104", "index/message-both")
        site.manage("dead-letters", "replay", "zoom/record-106", "zoom/record-107", "import/record-108")
        site.dead_letters.drop("index/record-105")
        assert check() == []
        assert {one["_id"] for one in site.store.select(day, fields=())} & {"100", "102", "103", "104", "108"} == {
            "103"
        }
    assert planted.LOGIN.encode() not in (tmp_path / "access.log").read_bytes()
    assert receipt["tombstone"] in (tmp_path / "access.log").read_text()


def test_nobody_is_erased_without_the_receipt_that_was_asked_for(site, keys, tmp_path):
    fill(site)
    before = site.store.indices()
    nowhere = str(tmp_path / "none" / "receipt.json")
    _, said = site.manage("person", "erase", "--yes", "--receipt", nowhere, *IDS, code=2)
    assert "receipt.json: No such file" in said
    assert site.store.indices() == before
    path = tmp_path / "receipt.json"
    site.manage("person", "erase", "--yes", "--receipt", str(path), *IDS)
    assert json.loads(path.read_text())["left"] == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_messages_that_wait_in_the_queue_are_left_out_when_they_are_indexed(site, keys):
    site.harvest_to_queue(*rows())
    said, words = site.manage("person", "erase", "--yes", *IDS)
    assert "messages of all people wait" in words
    assert json.loads(said)["queue"]["waiting"] > 0
    tally = site.index()
    assert (tally.indexed, tally.erased) == (5, 5)
