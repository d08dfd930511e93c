"""`audit` on a whole site: gaps of every kind are found, none is false, and a repair sends nothing else."""

import dataclasses
import json
import random
from datetime import UTC, datetime

import pytest

from devservers import databases, stack
from tests.audit.site import DAY, INDEX, ROWS, WATERMARK, Site, day_of
from uaharvest import settings
from uaharvest.audit.day import Counts
from uaharvest.cli.audit import COLUMNS
from uaharvest.dead_letters import DeadLetter
from uaharvest.documents.document import Document
from uaharvest.errors import Exit
from uaharvest.opencast.actions import read_action

MISSING = 1_000  # of the gaps that are planted
GAPS = 200
NOTHING = dataclasses.asdict(Counts())


@pytest.fixture
def servers(queue_name, bucket, valkey_url, redis):
    return {"SQS_QUEUE_NAME": queue_name, "S3_HARVEST_TS_BUCKET": bucket, "REDIS_URL": valkey_url}


@pytest.fixture
def environment(servers, tmp_path):
    return {**servers, "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}"}


@pytest.fixture
def simulator():
    with stack.opencast_simulator(*ROWS) as server:
        yield server


@pytest.fixture
def whole_site(simulator, monkeypatch):
    """Return a function that makes a site with the profile `dce` whose documents are whole."""

    def make(environment):
        made = Site(
            {**environment, "MATTERHORN_ENGAGE_HOST": simulator.url, "OPENCAST_PROFILE": "dce"},
            monkeypatch,
            simulator,
        )
        made.pass_day()
        made.index(made.rows())
        return made

    yield make
    settings.current.cache_clear()


@pytest.fixture
def site(whole_site, environment):
    return whole_site(environment)


def counts(**others):
    return {"useractions": NOTHING | others}


def ids_of_day(site):
    return sorted(row["id"] for row in site.rows() if day_of(row) == DAY)


def test_a_whole_day_has_no_gaps(site):
    day = len(ids_of_day(site))
    assert 1_000 < day < 1_600  # the rows around it lie on other days
    assert site.audit() == (Exit.DONE, [counts(source=day, indexed=day)], "")


def test_1000_gaps_of_every_kind_are_found_repaired_and_not_found_again_in_sqlite(site):
    find_and_repair_gaps(site, refresh=lambda: None)


@pytest.mark.fault
def test_1000_gaps_of_every_kind_are_found_repaired_and_not_found_again_in_a_cluster(
    whole_site, servers, templates, es, elasticsearch_url
):
    site = whole_site({**servers, "ES_HOST": elasticsearch_url})
    find_and_repair_gaps(site, refresh=lambda: es.indices.refresh(index=INDEX))


def find_and_repair_gaps(site, refresh):
    """Plant gaps of every kind, find exactly them, repair what is missing, and find nothing more."""
    ids = ids_of_day(site)
    accounted, inserted = 8, 5
    gaps = random.Random(14).sample(ids, MISSING + accounted - inserted)
    late = site.sim("rows", {"rows": [{"created": epoch(f"{DAY}T{hour:02}:30:00")} for hour in range(3)]})["ids"]
    edges = site.sim("rows", {"rows": [{"created": epoch(f"{DAY}T{at}")} for at in ("00:00:00", "23:59:59")]})
    for row_id in gaps[:5]:
        site.dead_letters.put(DeadLetter.of_record("useractions", row_id, "refused", {"raw": {"id": row_id}}))
    body = f'[{{"action_id": {gaps[5]}}}, {{"action_id": {gaps[6]}}}, 7]'
    site.dead_letters.put(DeadLetter.of_message("index", "m", "refused", {"body": body}))
    site.dead_letters.put(DeadLetter.of_record("index", None, "refused", {"record": {"action_id": gaps[7]}}))
    present = next(row_id for row_id in ids if row_id not in gaps)
    site.dead_letters.put(DeadLetter.of_record("useractions", present, "refused", {"raw": {"id": present}}))
    # Elasticsearch remembers deleted documents for a minute, and would not take them again: they were never there.
    site.store.drop(INDEX)
    site.index(row for row in site.rows() if row["id"] not in {*gaps, *late, *edges["ids"]})
    gone = {"@timestamp": f"{DAY}T10:00:00.000Z"}
    list(site.store.write([Document(INDEX, name, gone) for name in ("999999999", "not a number")]))
    refresh()
    rows, missing = len(ids) + inserted, MISSING
    found = {"source": rows, "extra": 2, "repeated": 1, "dead_letters": accounted}
    indexed = len(ids) - len(gaps) + 2

    code, [once], said = site.audit()
    assert (code, once) == (Exit.GAPS, counts(**found, indexed=indexed, missing=missing))
    assert said == f"{missing:,} missing on 1 of 1 days.\n"
    assert site.in_queue() == 0

    kept = site.store.get(INDEX, str(present))
    code, [first, second], said = site.audit("--repair")
    assert code == Exit.DONE, said
    assert f"{missing:,} missing rows were harvested. Comparing again.\n" in said
    assert first == counts(**found, indexed=indexed, missing=missing, sent=missing)
    assert second == counts(**found, indexed=indexed + missing)
    assert {str(row_id) for row_id in [*late, *edges["ids"], *gaps[8:]]} <= site.documents()
    assert not {str(row_id) for row_id in gaps[:8]} & site.documents()
    assert site.store.get(INDEX, str(present)) == kept
    assert site.audit() == (Exit.DONE, [second], "")


def test_without_an_indexer_a_repair_sends_each_missing_row_once_and_says_what_is_left_to_do(site):
    gaps = ids_of_day(site)[::40]
    site.forget(gaps)
    code, [found], said = site.audit("--repair", INDEXER="false", EVENTS_PER_SQS_MESSAGE="1")
    assert code == Exit.GAPS
    assert found["useractions"]["sent"] == found["useractions"]["missing"] == len(gaps)
    assert "Audit again when its reader has indexed them" in said
    assert site.in_queue() == len(gaps)  # a message holds one row
    code, _, said = site.audit(INDEXER="false")
    assert code == Exit.GAPS
    assert f"{len(gaps)} messages are in SQS queue" in said


def test_what_waits_in_the_queue_is_indexed_before_a_repair_and_not_sent_again(site):
    gaps = ids_of_day(site)[:3]
    site.forget(gaps)
    site.audit("--repair", INDEXER="false")
    code, [found], _ = site.audit("--repair")
    assert (code, found["useractions"]["sent"], found["useractions"]["missing"]) == (Exit.DONE, 0, 0)


def test_rows_in_the_interval_of_a_dead_letter_are_not_missing(site):
    rows = [row for row in site.rows() if day_of(row) == DAY]
    hour = [row["id"] for row in rows if read_action(row).created.astimezone(UTC).hour == 7]
    site.forget(hour)
    payload = {"start": f"{DAY}T07:00:00Z", "end": f"{DAY}T08:00:00Z"}
    site.dead_letters.put(DeadLetter.of_slice("useractions", "one", "it fails", payload))
    found = counts(source=len(rows), indexed=len(rows) - len(hour), dead_letters=len(hour))
    assert site.audit() == (Exit.DONE, [found], "")


def test_people_read_a_table_and_status_shows_the_result_until_it_is_repaired(site):
    site.forget(ids_of_day(site)[:2])
    done = site.manage("audit")
    assert done.exit_code == Exit.GAPS
    head, line = done.stdout.splitlines()
    assert head.split() == [word for name in COLUMNS for word in name.split()]
    assert line.split()[:2] == [DAY, "useractions"]
    assert line.split()[4:] == ["2", "0", "0", "0"]
    site.manage("audit", "--repair")
    assert site.audit()[0] == Exit.DONE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--start", "2026-11-21", "--end", "2026-11-21"], "2026-11-21 is not closed yet"),
        (["--start", "2026-11-21"], "2026-11-21 is not closed yet"),
        (["--start", "2999-01-01", "--end", "2999-01-01"], "Expected days up to 2026-11-20"),
        (["--start", "2026-11-20", "--end", "2026-11-19"], "--start 2026-11-20 is after --end 2026-11-19"),
        (["--start", "yesterday"], "--start: 'yesterday' is not a date"),
        (["--stream", "episodes"], "episodes"),
    ],
)
def test_what_cannot_be_audited_is_refused(environment, monkeypatch, options, said):
    made = Site(
        {**environment, "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:9", "OPENCAST_PROFILE": "dce"}, monkeypatch
    )
    made.pass_day()
    done = made.manage("audit", *options)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert said in done.stderr
    settings.current.cache_clear()


def test_without_a_watermark_no_day_is_closed(environment, monkeypatch):
    made = Site(
        {**environment, "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:9", "OPENCAST_PROFILE": "dce"}, monkeypatch
    )
    done = made.manage("audit")
    assert done.exit_code == Exit.USAGE
    assert "no watermark yet" in done.stderr
    settings.current.cache_clear()


def test_a_day_within_the_overlap_is_not_closed(environment, monkeypatch):
    made = Site(
        {**environment, "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:9", "OPENCAST_PROFILE": "dce"}, monkeypatch
    )
    made.pass_day(at=datetime(2026, 11, 21, 0, 59, 59, tzinfo=UTC))
    assert "Expected days up to 2026-11-19" in made.audit()[2]
    settings.current.cache_clear()


def test_the_database_gives_the_same_result(environment, simulator, database, tables, monkeypatch):
    made = Site(
        {**environment, "MATTERHORN_ENGAGE_HOST": simulator.url, "OPENCAST_DATABASE_URL": database.url},
        monkeypatch,
        simulator,
    )
    made.pass_day(at=WATERMARK)
    rows = made.rows()
    databases.insert(tables, rows)
    made.index(rows)
    ids = ids_of_day(made)
    gaps = random.Random(14).sample(ids, GAPS)
    made.forget(gaps)
    done = made.process("audit", "--json", "--repair")
    assert done.returncode == Exit.DONE, done.stderr
    first, second = (json.loads(line)["found"] for line in done.stdout.splitlines())
    assert first == counts(source=len(ids), indexed=len(ids) - GAPS, missing=GAPS, sent=GAPS)
    assert second == counts(source=len(ids), indexed=len(ids))


def epoch(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
