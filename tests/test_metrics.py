"""What a scrape says, and what it leaves out if something does not answer."""

import dataclasses
import shutil
import subprocess
import threading
from datetime import UTC, date, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import NoRegionError
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from devservers import stack
from tests.monitoring.reports import COUNTS, ROOT, healthy, samples, values
from uaharvest import assembly, aws, counters, metrics, status
from uaharvest import settings as settings_
from uaharvest.audit.day import Counts, DayAudit
from uaharvest.audit.results import Results
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import BlockedError
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.backfills import Backfill, utc_now
from uaharvest.runs.ledger import Run
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
WINDOW = Interval(START, START + timedelta(seconds=4))
STREAM = '{stream="useractions"}'


class Workers:
    """What Celery would say."""

    asked = 0

    def queues(self):
        self.asked += 1
        return {"control": 0, "useractions": 7}

    def alive(self, within=1.0):
        return {"b@two": ["control"], "a@one": ["control", "useractions"]}


@pytest.fixture
def settings(redis, valkey_url, bucket, queue_name):
    return Settings(redis_url=valkey_url, bucket=bucket, queue=queue_name, indexer=True)


def text(settings, workers=None):
    registry = CollectorRegistry()
    registry.register(metrics.HarvestCollector(settings, workers or Workers()))
    return generate_latest(registry).decode()


def scrape(settings, workers=None):
    return parsed(text(settings, workers))


def parsed(content):
    return {
        sample.name
        + "{"
        + ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
        + "}": value
        for family in text_string_to_metric_families(content)
        for sample in family.samples
        for value in [sample.value]
    }


def names(found):
    return {name.partition("{")[0] for name in found}


def open_run(settings, client, **changes):
    run = Run(
        id="run",
        stream="useractions",
        kind="live",
        requested=WINDOW,
        window=WINDOW,
        etag="etag",
        epoch="epoch",
        known_from=None,
        batch_size=100,
        wait=0,
        opened_at=datetime.now(UTC) - timedelta(minutes=5),
        **changes,
    )
    ledger = assembly.ledger(settings, client)
    ledger.open(run, [str(slice_) for slice_ in WINDOW.cut(4)])
    return ledger


def test_the_table_of_metrics_is_that_of_the_code(check_generated):
    check_generated(ROOT / "docs/monitoring.md", "tests/test_metrics.py", metrics.table())


def test_a_scrape_has_the_streams_slices_and_rows(settings, client):
    at = whole_second(datetime.now(UTC) - timedelta(minutes=5))
    assembly.watermarks(settings).create(first(at))
    ledger = open_run(settings, client)
    done, claimed, _, _ = map(str, WINDOW.cut(4))
    ledger.claim("run", done, "token")
    ledger.mark("run", ["known"], [(1.0, 1), (2.0, 2)], delivered=2)
    ledger.complete("run", done, found=5, dead=1, repeated=2)
    ledger.claim("run", claimed, "token")
    assembly.state(settings, client).tick(1)
    found = scrape(settings)
    assert 300 <= found[f"uaharvest_stream_lag_seconds{STREAM}"] < 400
    slices = {
        state: found[f'uaharvest_slices{{state="{state}",stream="useractions"}}'] for state in ("due", "claimed")
    }
    assert slices == {"due": 2, "claimed": 1}
    assert 300 <= found['uaharvest_open_run_age_seconds{kind="live",stream="useractions"}'] < 400
    assert found[f"uaharvest_records_delivered_total{STREAM}"] == 2
    assert found[f"uaharvest_records_repeated_total{STREAM}"] == 2
    assert found[f"uaharvest_dead_letters_written_total{STREAM}"] == 1
    assert found[f"uaharvest_dead_letters{STREAM}"] == 0
    assert 0 <= found[f"uaharvest_beat_tick_age_seconds{STREAM}"] < 100
    assert found['uaharvest_queue_messages{queue="useractions"}'] == 7
    assert found['uaharvest_queue_workers{queue="control"}'] == 2
    assert found['uaharvest_sqs_messages{state="waiting"}'] == 0
    assert found['uaharvest_scrape_error{part="redis"}'] == 0
    assert found["uaharvest_index_backlog_messages{}"] == 0


def test_counts_outlive_the_run_that_made_them(settings, client):
    ledger = open_run(settings, client)
    ledger.mark("run", ["known"], [(1.0, 1)], delivered=1)
    ledger.close(ledger.live(), "void")
    assert scrape(settings)[f"uaharvest_records_delivered_total{STREAM}"] == 1


def test_a_failure_is_counted_and_a_block_shows(settings, client):
    assembly.state(settings, client).failed("opening", BlockedError("refused user 'harvester'"))
    content = text(settings)
    found = parsed(content)
    assert found['uaharvest_failures_total{kind="blocked",stream="useractions"}'] == 1
    assert found[f"uaharvest_stream_blocked{STREAM}"] == 1
    assert found["uaharvest_status_exit_code{}"] == 4
    assert "harvester" not in content


def test_counts_of_upstreams_are_added_up_over_the_streams():
    report, counts = healthy(), dict(COUNTS)
    counted = metrics.Counted({"useractions": counts, "zoom": counts}, 0)
    found = values(metrics.samples(Settings(bucket="b"), report, counted, datetime.now(UTC)))
    name = "uaharvest_upstream_request_duration_seconds"
    assert found[f'{name}_count{{upstream="opencast"}}'] == 200
    assert found[f'{name}_sum{{upstream="opencast"}}'] == 40
    assert found[f'{name}_bucket{{le="0.25",upstream="opencast"}}'] == 180
    assert found[f'{name}_bucket{{le="1.0",upstream="opencast"}}'] == 200


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, 30_000 - 2 * 100),  # both labels count towards one cap
        ({"counted": 20_000}, 10_000),
        ({"counted": 40_000}, 0),
        ({"exhausted_until": "2026-11-21T00:00:00Z"}, 0),
    ],
)
def test_zooms_calls_that_are_left_are_those_of_all_apps_and_labels(changes, left):
    report = healthy()
    report["zoom_calls"]["Heavy"] |= changes
    found = {name: value for name, value in values(samples(report)).items() if "zoom" in name and "calls" in name}
    assert found == {'uaharvest_zoom_calls_remaining{cap="Heavy and Resource-intensive"}': left}


def test_backfills_that_have_not_ended_show_what_is_left_and_when_they_last_got_on(settings):
    now = utc_now()
    asked = Interval(START, START + timedelta(days=1))
    one = Backfill.new(asked, to="queue", rate=5, now=now - timedelta(hours=1), expected=1000)
    half = one.with_window(Interval(START, START + timedelta(hours=12)), rows=400, dead=0, now=now)
    stored = assembly.backfills(settings, "useractions")
    stored.add(half)
    found = scrape(settings)
    assert found['uaharvest_backfills{state="running",stream="useractions"}'] == 1
    assert found['uaharvest_backfills{state="stopped",stream="useractions"}'] == 0
    assert found[f"uaharvest_backfill_rows_left{STREAM}"] == 600
    assert found[f"uaharvest_backfill_rows_per_second{STREAM}"] == pytest.approx(400 / 3600, abs=0.05)
    assert 0 <= found[f"uaharvest_backfill_idle_seconds{STREAM}"] < 100
    assert found['uaharvest_stream_blocked{stream="backfill-useractions"}'] == 0
    stored.change(half.id, lambda read: dataclasses.replace(read, state="stopped"))
    found = scrape(settings)
    assert found['uaharvest_backfills{state="stopped",stream="useractions"}'] == 1
    assert "uaharvest_backfill_idle_seconds" not in names(found)


@pytest.mark.parametrize("audit_at", [None, timedelta(hours=6)])
def test_audits_show_what_is_missing_and_how_old_they_are_if_beat_starts_them(settings, client, audit_at):
    now = datetime.now(UTC) - timedelta(minutes=5)
    results = Results(client, assembly.place(settings, "useractions"))
    for day, missing in ((1, 3), (2, 0), (3, 4)):
        results.put(DayAudit("useractions", date(2026, 3, day), now, {"useractions": Counts(missing=missing)}))
    found = scrape(dataclasses.replace(settings, audit_at=audit_at))
    assert found[f"uaharvest_audit_missing_rows{STREAM}"] == 7
    age = found.get(f"uaharvest_audit_age_seconds{STREAM}")
    assert age is None if audit_at is None else 300 <= age < 400


def test_without_redis_only_what_the_others_know_is_said(settings, client):
    assembly.watermarks(settings).create(first(whole_second(datetime.now(UTC))))
    dead = dataclasses.replace(settings, redis_url=f"redis://127.0.0.1:{stack.free_port()}/0")
    found = scrape(dead)
    assert found['uaharvest_scrape_error{part="redis"}'] == 1
    assert names(found) == {
        "uaharvest_build_info",
        "uaharvest_status_exit_code",
        "uaharvest_beat_period_seconds",
        "uaharvest_scrape_error",
        "uaharvest_stream_lag_seconds",
        "uaharvest_stream_overdue_seconds",
        "uaharvest_dead_letters",
        "uaharvest_backfills",
        "uaharvest_queue_messages",
        "uaharvest_queue_workers",
        "uaharvest_sqs_messages",
        "uaharvest_index_backlog_messages",
        "uaharvest_scrape_duration_seconds",
    }


@pytest.mark.parametrize("age", [90.0, None, NoRegionError()])
def test_the_age_of_the_oldest_message_is_cloudwatchs_and_asked_once(settings, monkeypatch, age):
    asked = []

    def oldest(queue):
        asked.append(queue)
        if isinstance(age, Exception):
            raise age
        return age

    monkeypatch.setattr(aws, "oldest_message_age", oldest)
    collector = metrics.HarvestCollector(settings, Workers())
    assert "uaharvest_sqs_oldest_message_seconds" not in {sample.metric for sample in collector._read()}
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName=settings.queue)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    for _ in range(2):
        found = {sample.metric: sample.value for sample in collector._read()}
        assert found.get("uaharvest_sqs_oldest_message_seconds") == (age if age == 90 else None)
    assert asked == [settings.queue]


def test_a_broker_that_hangs_costs_its_part_and_no_more(settings, monkeypatch):
    monkeypatch.setattr(status, "ANSWER_TIMEOUT", 2.0)
    over = threading.Event()

    class Hanging(Workers):
        def queues(self):
            over.wait()
            return {}

    found = scrape(settings, Hanging())
    over.set()
    assert found['uaharvest_scrape_error{part="broker"}'] == 1
    assert found['uaharvest_scrape_error{part="redis"}'] == 0
    assert not {"uaharvest_queue_messages", "uaharvest_queue_workers"} & names(found)
    assert f"uaharvest_records_delivered_total{STREAM}" in found


def test_scrapes_in_quick_succession_ask_once(settings, monkeypatch):
    monkeypatch.setattr(metrics, "FRESH", 60.0)
    workers = Workers()
    collector = metrics.HarvestCollector(settings, workers)
    assert list(collector.collect()) == list(collector.collect())
    asked = workers.asked
    collector = metrics.HarvestCollector(settings, workers)
    list(collector.collect())
    assert workers.asked == 2 * asked


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus is not installed")
def test_names_and_help_are_as_prometheus_wants_them(settings, client):
    open_run(settings, client)
    found = "".join(generate_latest(_Fixed(samples(healthy()))).decode())
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=found, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


class _Fixed:
    def __init__(self, found):
        self.collect = lambda: metrics.families(found)


def test_a_healthy_site_has_every_metric():
    of_a_scrape = {"uaharvest_scrape_duration_seconds", "uaharvest_sqs_oldest_message_seconds"}
    found = {sample.metric for sample in samples(healthy())} | of_a_scrape
    assert found == metrics.METRICS.keys()


def test_labels_are_few_and_known():
    labels = {label for description in metrics.METRICS.values() for label in description.labels}
    assert labels == {"version", "part", "stream", "state", "kind", "upstream", "cap", "queue", "clock"}


def test_a_port_that_is_taken_is_said_in_one_line(settings, monkeypatch):
    with stack.valkey() as other:
        monkeypatch.setenv("METRICS_PORT", str(other.port))
        monkeypatch.setenv("S3_HARVEST_TS_BUCKET", "bucket")
        settings_.current.cache_clear()
        done = CliRunner().invoke(cli, ["metrics"], obj=Context(Workers))
    settings_.current.cache_clear()
    assert done.exit_code == 2
    assert done.stderr == (
        f"METRICS_HOST, METRICS_PORT: cannot listen on 127.0.0.1:{other.port}: Address already in use."
        " Expected an address of this machine and a free port.\n"
    )


def test_the_indexer_counts_its_dead_letters_and_its_requests_but_no_rows(settings, client):
    shared = assembly.indexer_state(settings, client)
    with counters.taken():
        pass  # what other tests have counted
    counters.request("elasticsearch", 0.1, "busy")
    shared.count(indexed=3, dead=2)
    shared.hold({"useractions-2026.11.20": "read-only"})
    found = scrape(settings)
    assert found["uaharvest_documents_indexed_total{}"] == 3
    assert found['uaharvest_dead_letters_written_total{stream="index"}'] == 2
    assert found['uaharvest_upstream_failures_total{kind="busy",upstream="elasticsearch"}'] == 1
    assert found["uaharvest_index_blocked_indices{}"] == 1
    assert 'uaharvest_records_delivered_total{stream="index"}' not in found


def test_no_metric_is_about_people():
    words = {
        "viewer",
        "viewers",
        "participant",
        "participants",
        "person",
        "people",
        "student",
        "users",
        "sessions",
    }
    for name, (_, labels, _) in metrics.METRICS.items():
        assert not words & set(name.split("_")), name
        assert set(labels) <= {
            *("version", "part", "stream", "state", "kind", "upstream", "cap", "queue", "clock"),
        }, name
