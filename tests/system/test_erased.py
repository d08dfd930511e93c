"""A person is erased at a site with real workers; nothing that these do later brings the person back."""

import json
import sqlite3
from collections import Counter
from datetime import timedelta

import pytest
import requests

from devservers import cluster, stack
from tests.privacy import planted
from tests.privacy.planted import found
from tests.system.test_planted import ACCOUNT, DAY, KEYS, PATIENCE, folders, import_file, meet, objects, watch
from uaharvest import assembly, index_templates
from uaharvest.dead_letters import DeadLetter
from uaharvest.privacy.site import choice
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection
from uaharvest.streams.viewings import Recordings, StoredUseractions

# One session at Zoom has nothing but a name.
IDS = (planted.LOGIN, planted.EMAIL, planted.ZOOM_ID, planted.SESSION, f"name:{planted.NAME}")
FAMILIES = ("useractions", "sessions", "meetings", "viewings", "recordings")


def stored(store, settle):
    """All documents by index and id."""
    settle()
    return {
        (one["_index"], one["_id"]): {name: value for name, value in one.items() if not name.startswith("_")}
        for family in FAMILIES
        for one in store.select(f"{family}*")
    }


def of_others(documents, needles):
    """Those that are not the person's; what is derived from all people changes."""
    return {
        key: fields
        for key, fields in documents.items()
        if key[0].partition("-")[0] in {"useractions", "sessions", "viewings"}
        and not found(json.dumps(fields), needles)
    }


@pytest.fixture(params=["sqlite", "cluster"])
def documents(request, tmp_path):
    """Settings of a document store, what returns all bytes that it has, and what lets searches find all of it."""
    if request.param == "sqlite":
        path = tmp_path / "store" / "documents.db"
        path.parent.mkdir()

        def read():
            with sqlite3.connect(path) as connection_:
                connection_.execute("VACUUM")
            connection_.close()
            return b"".join(one.read_bytes() for one in path.parent.iterdir())

        yield {"DOCUMENTS_URL": f"sqlite:///{path}"}, read, lambda: None
        return
    with cluster.serve(*request.getfixturevalue("elasticsearch_server")) as server:

        def read():
            for order in ("_refresh", "_forcemerge?max_num_segments=1", "_flush?force=true"):
                requests.post(f"{server.url}/{order}", timeout=120).raise_for_status()
            return b"".join(one.read_bytes() for one in (server.directory / "data").rglob("*") if one.is_file())

        index_templates.load(connection.connect(Settings(es_url=f"{server.url}/")))
        yield {"ES_HOST": server.url}, read, lambda: requests.post(f"{server.url}/_refresh", timeout=120)


@pytest.fixture
def site(start_site, documents):
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
                "HARVEST_EVERY_SECONDS": "2",
                "PRIVACY_PSEUDONYMS": KEYS,
                "INDEXER": "true",
                **documents[0],
            },
        )
        watch(site)
        yield site


@pytest.mark.fault
@pytest.mark.long
def test_nothing_that_workers_do_brings_an_erased_person_back(site, documents, tmp_path):
    worker, beat = site.add_worker(), site.add_beat(2)
    store = assembly.document_store(site.settings)
    person = choice(site.settings).pseudonyms
    needles = [*planted.IDENTITIES, *(one for id_ in planted.IDENTITIES for one in person.every(id_))]
    until = {"ticking": False, "patience": PATIENCE}
    start = site.end - timedelta(seconds=1_800)
    times = ("--start", f"{start:%FT%TZ}", "--end", f"{site.end + timedelta(minutes=5):%FT%TZ}")

    queue = assembly.sqs_sink(site.settings)

    def indexed():
        return not any(queue.depth()) and site.ledger.live() is None and not list(site.ledger.explicit())

    site.until(lambda: site.mark() and site.mark().at >= site.end, **until)
    site.until(lambda: list(store.select("sessions*")), **until)
    site.until(lambda: len(list(store.select("useractions*"))) >= 103, **until)
    site.until(indexed, **until)
    derive(site, store)
    before = stored(store, documents[2])
    assert [
        fields for key, fields in before.items() if key[0] == "viewings" and found(json.dumps(fields), needles)
    ]
    others = of_others(before, needles)
    assert len(before) > len(others) > 100
    assert found(documents[1](), needles)

    receipt = tmp_path / "receipt.json"
    done = site.manage("person", "erase", "--yes", "--receipt", receipt, *IDS)
    assert done.returncode == 0, done.stderr
    said = json.loads(receipt.read_text())
    assert said["left"] == []
    assert said["stores"]["useractions"]["removed"] >= 3
    after = stored(store, documents[2])
    assert of_others(after, needles) == others
    assert found(json.dumps([*after.values()]), needles) == []

    # A harvest of the same time, a backfill each way, Zoom's day, a replay, an import; a worker is killed meanwhile.
    old = import_file(tmp_path)
    site.dead_letters.put(DeadLetter.of_record("useractions", 1, "refused", {"raw": planted.action(1)}))
    requested = [
        site.manage("enqueue", "useractions", *times),
        site.manage(
            "backfill", "useractions", *times[:2], "--end", f"{site.end:%FT%TZ}", "--to", "documents", "-d"
        ),
        site.manage("enqueue", "zoom", "--date", f"{DAY}"),
    ]
    assert [one.returncode for one in requested] == [0, 0, 0], [one.stderr for one in requested]
    worker.kill()
    worker = site.add_worker()
    replayed = site.manage("dead-letters", "replay", "useractions/record-1")
    assert replayed.returncode == 0, replayed.stderr
    imported = site.manage("import", "useractions", old, "--to", "documents")
    assert "of people who were erased" in imported.stderr
    old.unlink()
    site.until(lambda: {one.state for one in backfills(site)} == {"done"}, **until)
    site.until(indexed, **until)
    site.until(lambda: zoom_is_done(site), **until)
    derive(site, store)
    for process in (beat, worker):
        process.kill()
    again = stored(store, documents[2])
    assert of_others(again, needles) == others
    assert again.keys() == after.keys()
    assert {key: one for key, one in again.items() if key[0].startswith("recordings")} == {
        key: one for key, one in after.items() if key[0].startswith("recordings")
    }
    assert found(json.dumps([*again.values()]), needles) == []
    assert found(documents[1](), needles) == []
    assert found(objects(site), needles) == []
    assert found(folders(*site.workers, beat), needles) == []
    assert found(f"{replayed.stdout}{replayed.stderr}{imported.stdout}{imported.stderr}", needles) == []


def derive(site, store):
    """Derive viewings as the stream does the day after."""
    recordings = Recordings([StoredUseractions(store, "useractions*")], store, site.settings)
    for mpid in {one.values[0] for one in store.groups("useractions*", ["mpid"])}:
        list(store.write(recordings.documents(mpid, [], Counter())))


def backfills(site):
    return list(assembly.backfills(site.settings, "useractions").read().values())


def zoom_is_done(site):
    ledger = assembly.ledger(site.settings, site.redis, stream="zoom")
    return ledger.live() is None and not list(ledger.explicit())
