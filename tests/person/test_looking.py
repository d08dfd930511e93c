"""What `person find` and `export` show, what `erase` refuses, and that it continues where it was stopped."""

import csv
import io
import json
import re
import zipfile

import pytest

from tests.person.site import IDS, Site
from tests.person.test_erasure import CLEAR, CREATED, environment, fill, letters, record, rows  # noqa: F401
from tests.privacy import planted
from uaharvest import settings, tombstones
from uaharvest.errors import RetryableError
from uaharvest.person import eraser
from uaharvest.person.documents import PersonDocuments
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.tombstones import Known


@pytest.fixture
def keys():
    return CLEAR


@pytest.fixture
def site(environment, monkeypatch, client):  # noqa: F811
    yield Site(environment, monkeypatch, client)
    settings.current.cache_clear()


def test_find_counts_by_store_and_shows_other_ids_of_these_documents(site):
    fill(site)
    said, _ = site.manage("person", "find", "--json", planted.EMAIL.upper())
    found = json.loads(said)
    assert found["stores"] == {"sessions": 2, "attendance": 1, "host of meetings": 1}
    linked = {(one["field"], one["id"]): one["documents"] for one in found["linked"]}
    assert linked["sessions participant_user_id", planted.ZOOM_ID] == 2
    assert linked["sessions user_name", f"name:{planted.NAME}"] == 2
    assert linked["meetings host.host_id", planted.ZOOM_ID] == 1
    text, _ = site.manage("person", "find", "-", stdin=f"{planted.LOGIN}\n\n")
    assert f"useractions session_id: {planted.SESSION} (5)" in text
    assert site.manage("person", "find", "nobody-of-this-name")[0] == "nothing is stored\n"


def test_names_count_only_if_they_are_asked_for(site):
    fill(site)
    assert json.loads(site.manage("person", "find", "--json", planted.NAME)[0])["stores"] == {}
    found = json.loads(site.manage("person", "find", "--json", f"name:{planted.NAME}")[0])
    assert found["stores"] == {"sessions": 2, "host of meetings": 1}


def test_an_export_holds_all_of_the_person_and_says_what_it_means(site, tmp_path):
    fill(site)
    letters(site)
    path = tmp_path / "person.zip"
    site.manage("person", "export", "--output", str(path), *IDS)
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name).decode() for name in archive.namelist()}
    documents = [json.loads(line) for line in whole["useractions.json"].splitlines()]
    assert [one["huid"] for one in documents] == [planted.LOGIN] * 5
    table = list(csv.DictReader(io.StringIO(whole["useractions.csv"])))
    assert [(row["huid"], row["action.type"]) for row in table] == [
        (one["huid"], one["action"]["type"]) for one in documents
    ]
    meanings = {
        (row["store"], row["field"]): row["holds"] for row in csv.DictReader(io.StringIO(whole["fields.csv"]))
    }
    assert meanings["useractions", "huid"] == "the viewer's login"
    assert meanings["host of meetings", "host.email"] == "the host"
    assert [key for key, holds in meanings.items() if not holds] == []
    assert len(whole["dead-letters.json"].splitlines()) == 6
    assert "somebody" not in "".join(whole.values()).lower()
    assert json.loads(whole["about.json"])["stores"]["sessions"] == 2
    _, words = site.manage("person", "export", "--output", str(path), *IDS, code=2)
    assert "exists" in words


def test_an_erasure_without_a_key_is_refused_and_changes_nothing(site, monkeypatch):
    fill(site)
    before = site.everything()
    del site.environment["PRIVACY_TOMBSTONE_KEY"]
    monkeypatch.delenv("PRIVACY_TOMBSTONE_KEY", raising=False)
    _, words = site.manage("person", "erase", "--yes", *IDS, code=2)
    assert words.startswith("not set: PRIVACY_TOMBSTONE_KEY")
    assert not re.search("|".join(IDS), words)
    assert site.everything() == before


@pytest.mark.parametrize("id_", ["anonymous", " ", "name:"])
def test_nobody_cannot_be_erased(site, id_):
    _, words = site.manage("person", "erase", "--yes", id_, code=2)
    assert "expected a login" in words


def test_a_dry_run_changes_nothing(site):
    fill(site)
    before = site.store.indices()
    _, words = site.manage("person", "erase", "--dry-run", *IDS)
    assert "useractions: 5" in words
    assert site.store.indices() == before
    assert tombstones.tombstones(site.settings).all() == []


def test_an_erasure_that_was_stopped_is_shown_and_continues(site, monkeypatch):
    fill(site)
    delete = SqliteStore.delete

    def stops(self, keys):
        yield from delete(self, list(keys)[:2])
        raise RetryableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "delete", stops)
        site.manage("person", "erase", "--yes", *IDS, code=1)
    [open_] = tombstones.tombstones(site.settings).all()
    assert open_.done is None
    receipt = json.loads(site.manage("person", "erase", "--yes", *IDS)[0])
    assert receipt["left"] == []
    assert receipt["tombstone"] == open_.id
    assert receipt["stores"]["useractions"]["before"] == 5
    assert all(counts["after"] == 0 for counts in receipt["stores"].values())
    [done] = tombstones.tombstones(site.settings).all()
    assert done.done is not None


def test_rows_that_come_meanwhile_are_deleted_by_another_look(site, monkeypatch):
    site.harvest_to_documents(*rows())
    monkeypatch.setattr(eraser.Person, "_busy", lambda self: "useractions is being harvested")
    waits = []

    def late(seconds):
        waits.append(seconds)
        sink = eraser.assembly.records_to_documents(site.settings)
        monkeypatch.setattr(tombstones, "erased", lambda _: tombstones.NO_ONE)
        site.harvest(sink, planted.action(1, created=CREATED))

    person = eraser.Person(site.settings, [planted.LOGIN])
    receipt = person.erase(person.look(), pause=late)
    assert len(waits) == 1
    assert receipt["stores"]["useractions"] == {"before": 5, "removed": 6, "after": 0}


def test_what_cannot_be_read_is_left_to_a_person(site):
    site.put("index", "text", {"body": f"half a message of {planted.LOGIN}"}, "message")
    site.put("zoom", "slice", {"host": planted.ZOOM_ID, "from": "2026-11-17", "to": "2026-11-17"})
    said, words = site.manage("person", "erase", "--yes", *IDS, code=1)
    assert [line.partition(":")[0] for line in json.loads(said)["left"]] == [
        "dead letter index/message-text",
        "dead letter zoom/record-slice",
    ]
    assert "not all is erased" in words
    [stone] = tombstones.tombstones(site.settings).all()
    assert stone.done is None


def test_without_the_key_of_a_tombstone_nothing_is_delivered(site):
    site.manage("person", "erase", "--yes", *IDS)
    site.settings = settings.load(
        {**site.environment, "PRIVACY_TOMBSTONE_KEY": "", "PRIVACY_PSEUDONYMS": f"k9:{'s' * 20}"}
    )
    with pytest.raises(Exception, match="people were erased with the key PRIVACY_TOMBSTONE_KEY"):
        site.harvest_to_documents(*rows())


def test_a_process_sees_a_new_tombstone_within_seconds(site):
    now = [0.0]
    known = Known(tombstones.tombstones(site.settings), lambda: now[0])
    first = known()
    assert first == {}
    site.manage("person", "erase", "--yes", *IDS)
    now[0] += tombstones.SEEN_WITHIN - 1
    assert known() is first
    now[0] += 1
    assert len(known()["PRIVACY_TOMBSTONE_KEY"]) == len(IDS)


def test_ids_of_another_site_are_not_touched(site):
    fill(site)
    assert list(PersonDocuments(site.store, "another", [planted.LOGIN]).found()) == []
