"""What it costs to erase a person with 10⁵ events: time, and deletions."""

import json
import resource
import sqlite3

import pytest

from tests.person.site import Site
from uaharvest import settings
from uaharvest.sinks.sqlite import SqliteStore

ROWS, OF_THE_PERSON, DAYS = 1_000_000, 100_000, 200
LOGIN = "zq-planted-login"
SECONDS = 20  # of CPU: ten times as many rows take 60, because each look reads all of them
PER_ROW = "<login>"


def body(number, login):
    """Return a document as the indexer makes it."""
    return json.dumps(
        {
            "@timestamp": "2026-11-17T10:00:00.000Z",
            "action_id": number,
            "timestamp": "2026-11-17T10:00:00+00:00",
            "mpid": f"0f1e2d3c-aaaa-bbbb-cccc-{number % 500:012}",
            "session_id": f"node0{number % 9973}abcdefgh",
            "huid": login,
            "action": {"type": "HEARTBEAT", "inpoint": 60, "outpoint": 90, "length": 30, "is_playing": True},
            "ip": "203.0.113.77",
            "geoip": {"ip": "203.0.113.77", "country_iso_code": "US", "city_name": "Boston"},
            "is_live": 0,
            "episode": {"title": "Introduction to Something", "course": "10101", "series": "20270110101"},
            "ua": {"name": "Chrome", "version": "126.0", "os": "Android", "os_name": "Android", "device": "Phone"},
        },
        separators=(",", ":"),
    )


def fill(path, rows, of_the_person):
    """Write the documents past the store, which would take as long as a harvest."""
    SqliteStore(path).indices()
    every = rows // of_the_person
    template = body(1, PER_ROW).partition(PER_ROW)
    per_day = rows // DAYS
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO documents VALUES (?, ?, 1, ?)",
            (
                (
                    f"useractions-2026.{number // per_day // 28 + 1:02}.{number // per_day % 28 + 1:02}",
                    f"{number:09}",
                    f"{template[0]}{LOGIN if number % every == 0 else f'login-{number % 5003}'}{template[2]}",
                )
                for number in range(rows)
            ),
        )
    connection.close()


@pytest.mark.fault
@pytest.mark.long
def test_a_person_with_many_events_is_erased_in_a_minute_with_no_deletion_too_many(  # noqa: PLR0917 - fixtures
    queue_name, bucket, tmp_path, valkey_url, client, monkeypatch, record_property
):
    path = tmp_path / "documents.db"
    fill(path, ROWS, OF_THE_PERSON)
    environment = {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{path}",
        "REDIS_URL": valkey_url,
        "OPENCAST_TIMEZONE": "UTC",
        "INDEXER": "true",
        "PRIVACY_TOMBSTONE_KEY": "a-secret-of-sixteen-or-more",
    }
    asked = []
    delete = SqliteStore.delete

    def counted(self, keys):
        keys = list(keys)
        asked.extend(keys)
        return delete(self, keys)

    monkeypatch.setattr(SqliteStore, "delete", counted)
    site = Site(environment, monkeypatch, client)
    before = resource.getrusage(resource.RUSAGE_SELF)
    receipt = json.loads(site.manage("person", "erase", "--yes", LOGIN)[0])
    after = resource.getrusage(resource.RUSAGE_SELF)
    settings.current.cache_clear()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record_property("seconds", spent)
    assert receipt["stores"]["useractions"] == {"before": OF_THE_PERSON, "removed": OF_THE_PERSON, "after": 0}
    assert len([key for key in asked if key[0].startswith("useractions")]) <= 1.2 * OF_THE_PERSON
    assert sum(site.store.indices().values()) == ROWS - OF_THE_PERSON
    assert spent < SECONDS
