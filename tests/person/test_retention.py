"""What is too old is deleted by whole days, and what is still written is kept."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from uaharvest import assembly, retention, settings, status, tombstones
from uaharvest.cli import status_report
from uaharvest.dead_letters import DeadLetter
from uaharvest.documents.document import Document
from uaharvest.errors import BusyError, RetryableError
from uaharvest.intervals import Interval
from uaharvest.runs import watermark
from uaharvest.runs.backfills import Backfill
from uaharvest.runs.ledger import Run
from uaharvest.sinks.sqlite import SqliteStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def environment(queue_name, bucket, tmp_path, valkey_url):
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "REDIS_URL": valkey_url,
        "OPENCAST_TIMEZONE": "UTC",
        "RETENTION_USERACTIONS_DAYS": "10",
        "RETENTION_ZOOM_DAYS": "20",
        "RETENTION_DERIVED_DAYS": "5",
        "RETENTION_DEAD_LETTERS_DAYS": "3",
        "ZOOM_HEADER": "X-Gateway: open",
    }


class Site:
    def __init__(self, environment, client):
        self.settings = settings.load(environment)
        self.client = client
        self.store = assembly.document_store(self.settings)
        self.dead_letters = assembly.dead_letters(self.settings)
        self.now = NOW

    def fill(self):
        """Write two documents a day for 30 days, of each family, and a few dead letters."""
        documents = []
        for number in range(30):
            at = NOW - number * DAY
            for family in ("useractions", "meetings", "sessions"):
                documents += [Document(f"{family}-{at:%Y.%m.%d}", f"{number}-{n}", {}) for n in (1, 2)]
            for family in ("viewings", "recordings", "attendance"):
                documents.append(Document(family, f"{number}", {"@timestamp": at.isoformat()}))
            if 1 < number < 6:
                letter = DeadLetter(f"zoom/record-{number}", "zoom", "record", "refused", at, {})
                self.dead_letters.put(letter)
        documents.append(Document("useractions-another-2001.01.01", "1", {}))
        documents.append(Document("episodes", "1", {"@timestamp": "2001-01-01T00:00:00+00:00"}))
        for _ in self.store.write(documents):
            pass

    @property
    def retention(self):
        return retention.Retention(self.settings, self.client, lambda: self.now)

    def days(self, family):
        names = [name for name in self.store.indices() if name.startswith(f"{family}-20")]
        return len(names), min(names)[-10:]

    def open_run(self, stream, day):
        window = Interval(day, day + DAY)
        run = Run(
            id=f"run-{stream}",
            stream=stream,
            kind="explicit",
            requested=window,
            window=window,
            etag=None,
            epoch="",
            known_from=None,
            batch_size=100,
            wait=0,
            opened_at=NOW,
        )
        assembly.ledger(self.settings, self.client, stream=stream).open(run, ["slice"])
        return run


@pytest.fixture
def site(environment, client):
    site = Site(environment, client)
    site.fill()
    yield site
    settings.current.cache_clear()


def midnight(days):
    return NOW.replace(hour=0) - days * DAY


def test_what_is_older_goes_by_whole_days_and_nothing_else(site):
    planned = list(site.retention.plan(site.retention.limits()))
    assert site.days("useractions") == (30, "2026.10.22")
    assert list(site.retention.run()) == planned
    assert site.days("useractions") == (11, "2026.11.10")
    assert site.days("meetings") == site.days("sessions") == (21, "2026.10.31")
    counts = site.store.indices()
    assert [counts[name] for name in ("viewings", "recordings", "attendance")] == [6, 6, 6]
    assert sorted(site.dead_letters.names()) == ["zoom/record-2", "zoom/record-3"]
    assert counts["useractions-another-2001.01.01"] == counts["episodes"] == 1
    last = site.retention.last()
    assert last["removed"] == {"useractions": 38, "zoom": 36, "derived": 72, "dead letters": 2}
    assert (last["done"], last["kept"]) == (True, [])
    assert list(site.retention.run()) == []


def test_it_is_due_once_a_day_from_its_time_on(site):
    site.now = NOW.replace(hour=2)
    assert not site.retention.is_due()
    site.now = NOW.replace(hour=3)
    assert site.retention.is_due()
    list(site.retention.run())
    assert not site.retention.is_due()
    site.now += DAY
    assert site.retention.is_due()


def test_what_an_open_run_still_writes_is_kept_until_it_ends(site):
    run = site.open_run("useractions", midnight(15))
    parts = [part.name for part in site.retention.run()]
    assert site.days("useractions") == (16, "2026.11.05")
    assert site.days("meetings") == (21, "2026.10.31")
    assert "useractions-2026.11.04" in parts
    assert site.retention.last()["kept"] == [
        "useractions: kept from 2026-11-05 on, because a run of useractions is open"
    ]
    assembly.ledger(site.settings, site.client).forget(run.id)
    list(site.retention.run())
    assert site.days("useractions") == (11, "2026.11.10")


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_what_a_backfill_still_writes_is_kept_until_it_ends(site, state):
    backfills = assembly.backfills(site.settings, "zoom")
    new = backfills.add(Backfill.new(Interval(midnight(25), midnight(24)), to="documents", rate=1, now=NOW))
    backfills.change(new.id, lambda one: _in_state(one, state))
    list(site.retention.run())
    assert site.days("sessions") == (26, "2026.10.26")
    assert site.days("useractions") == (11, "2026.11.10")
    backfills.change(new.id, lambda one: _in_state(one, "done"))
    list(site.retention.run())
    assert site.days("sessions") == (21, "2026.10.31")


def _in_state(backfill, state):
    return dataclasses.replace(backfill, state=state)


def test_days_in_which_late_rows_are_still_looked_for_are_kept(site):
    mark = watermark.first(midnight(12) + timedelta(hours=1))
    assembly.watermarks(site.settings).create(mark)
    list(site.retention.run())
    assert site.days("useractions") == (
        13 + (site.settings.overlap > 3600),
        f"{mark.at - timedelta(seconds=site.settings.overlap):%Y.%m.%d}",
    )


def test_it_goes_on_where_it_was_stopped(site, monkeypatch):
    drop = SqliteStore.drop
    left = [3]

    def stops(self, index):
        if not left[0]:
            raise RetryableError("the disk is full")
        left[0] -= 1
        drop(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "drop", stops)
        with pytest.raises(RetryableError):
            list(site.retention.run())
    assert site.days("useractions") == (27, "2026.10.25")
    assert (site.retention.last()["done"], site.retention.is_due()) == (False, True)
    assert len(list(site.retention.run(seconds=-1))) == 0
    list(site.retention.run())
    assert site.retention.last()["removed"]["useractions"] == 38


def test_only_one_process_deletes(site):
    first = site.retention.run()
    next(first)
    with pytest.raises(BusyError):
        next(site.retention.run())
    first.close()
    assert len(list(site.retention.run())) > 1


class Nobody:
    """Workers that cannot be asked."""

    def queues(self):
        return {}

    def alive(self, wait=None):
        return None


def test_status_shows_what_was_deleted_what_was_kept_and_unfinished_erasures(site):
    site.open_run("useractions", midnight(15))
    list(site.retention.run())
    stone = tombstones.Tombstone("key", ["0123456789abcdef0123"], NOW)
    tombstones.tombstones(site.settings).put(stone)
    found = status.status(site.settings, Nobody())
    assert found["retention"]["last"]["removed"]["zoom"] == 36
    assert found["erasures"]["open"] == [{"tombstone": "0123456789abcdef", "since": "2026-11-20T12:00:00Z"}]
    assert any("erasure 0123456789abcdef" in trouble["line"] for trouble in found["troubles"])
    lines = "\n".join(status_report._lines(found))
    assert "retention 28 of useractions · 36 of zoom" in lines
    assert "useractions: kept from 2026-11-05 on, because a run of useractions is open" in lines
    assert "erasures  1 people" in lines
    tombstones.tombstones(site.settings).put(dataclasses.replace(stone, done=NOW))
    assert status.status(site.settings, Nobody())["erasures"] == {"people": 1, "open": [], "error": None}
