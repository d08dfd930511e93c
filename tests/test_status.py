import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from uaharvest import assembly, status
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import BadInputError, BlockedError, HarvestError, SpanRefusedError
from uaharvest.runs.ledger import Run
from uaharvest.runs.watermark import first
from uaharvest.runs.windows import Interval, whole_second
from uaharvest.settings import Settings

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
SLICES = [str(slice_) for slice_ in Interval(START, START + timedelta(seconds=4)).cut(4)]


class Workers:
    """What Celery would say."""

    def queues(self):
        return {"control": 0, "useractions": 7}

    def alive(self):
        return {"b@two": ["control"], "a@one": ["control", "useractions"]}


@pytest.fixture
def settings(redis, valkey_url, bucket, queue_name):
    return Settings(redis_url=valkey_url, bucket=bucket, queue=queue_name)


@pytest.fixture
def ledger(settings):
    ledger = assembly.ledger(settings)
    yield ledger
    ledger.redis.close()


def report(settings):
    return status.status(settings, Workers())


def stream(settings):
    return report(settings)["streams"]["useractions"]


def run(**differences):
    asked = Interval(START, START + timedelta(seconds=4))
    fields = {"id": "run", "stream": "useractions", "kind": "live", "asked": asked, "window": asked}
    fields |= {"etag": "etag", "epoch": "epoch", "known_from": None, "batch_size": 100, "wait": 0}
    return Run(**{**fields, "opened_at": datetime.now(UTC), "expected": 40, **differences})


def test_a_site_that_has_not_begun_is_well_and_has_nothing(settings):
    whole = report(settings)
    assert whole["streams"]["useractions"] == {
        "watermark": None,
        "lag_seconds": None,
        "blocked": None,
        "open_runs": [],
        "last_runs": [],
        "dead_letters": 0,
        "s3_error": None,
    }
    assert whole["beat_ticked_seconds_ago"] is None
    assert whole["sqs"] == {"queue": settings.queue, "waiting": 0, "in_flight": 0}
    assert status.exit_code(whole) == 0


def test_queues_and_workers_are_those_of_celery_by_name(settings):
    whole = report(settings)
    assert whole["queues"] == {"control": 0, "useractions": 7}
    assert list(whole["workers"]) == ["a@one", "b@two"]


def test_the_lag_is_the_age_of_the_watermark(settings):
    at = whole_second(datetime.now(UTC) - timedelta(minutes=5))
    assembly.watermarks(settings).create(first(at))
    shown = stream(settings)
    assert shown["watermark"] == f"{at:%FT%TZ}"
    assert 300 <= shown["lag_seconds"] < 360


def test_an_open_run_shows_what_its_slices_wait_for(settings, ledger):
    ledger.open(run(), SLICES)
    done, put_off, claimed, _ = SLICES
    ledger.claim("run", done, "token")
    ledger.mark("run", ["known"], [(1.0, 1), (2.0, 2)], delivered=2)
    ledger.complete("run", done, found=2)
    ledger.release("run", ledger.claim("run", put_off, "token"), delay=60, attempts=0, waits=1, reason="down")
    ledger.claim("run", claimed, "token")
    [shown] = stream(settings)["open_runs"]
    assert shown["slices"] == {"planned": 4, "done": 1, "due": 1, "claimed": 1, "put_off": 1}
    assert (shown["kind"], shown["expected"], shown["delivered"]) == ("live", 40, 2)
    assert (shown["start"], shown["end"]) == ("2026-03-03T12:00:00Z", "2026-03-03T12:00:04Z")


def test_explicit_runs_are_shown_beside_the_live_one(settings, ledger):
    ledger.open(run(), SLICES)
    ledger.open(run(id="other", kind="explicit", etag=None), SLICES)
    assert [shown["kind"] for shown in stream(settings)["open_runs"]] == ["live", "explicit"]


def test_the_last_five_runs_are_shown_newest_first(settings, ledger):
    for number in range(7):
        opened = run(id=f"run {number}")
        ledger.open(opened, [])
        ledger.close(opened, "done")
    assert [ended["id"] for ended in stream(settings)["last_runs"]] == [
        f"run {number}" for number in (6, 5, 4, 3, 2)
    ]


def test_beat_shows_by_its_last_tick(settings, ledger):
    ledger.tick()
    assert 0 <= report(settings)["beat_ticked_seconds_ago"] < 60


@pytest.mark.parametrize(
    ("error", "exit_code"), [(SpanRefusedError, 3), (BlockedError, 4), (BadInputError, 4), (HarvestError, 4)]
)
def test_a_stream_that_stands_still_is_told_with_its_reason_and_exit_code(settings, ledger, error, exit_code):
    ledger.block("opening", "refused user 'harvester'", error.exit_code)
    assembly.dead_letters(settings).put(DeadLetter.of_record("useractions", 1, "too long", {}))
    whole = report(settings)
    assert whole["streams"]["useractions"]["blocked"]["reason"] == "refused user 'harvester'"
    assert status.exit_code(whole) == exit_code


def test_a_refused_span_does_not_hide_another_stream_that_stands_still(settings, ledger):
    settings = dataclasses.replace(settings, indexer=True)
    ledger.block("opening", "the span is too long", SpanRefusedError.exit_code)
    assembly.board(settings).block(BadInputError("not set: ES_HOST"))
    assert status.exit_code(report(settings)) == 4


def test_dead_letters_are_counted_and_are_exit_code_5(settings):
    letters = assembly.dead_letters(settings)
    for number in range(3):
        letters.put(DeadLetter.of_record("useractions", number, "too long", {}))
    whole = report(settings)
    assert whole["streams"]["useractions"]["dead_letters"] == 3
    assert status.exit_code(whole) == 5


def test_a_queue_that_is_not_there_is_told_in_its_place(settings):
    shown = report(dataclasses.replace(settings, queue="nowhere"))["sqs"]
    assert shown["queue"] == "nowhere"
    assert "nowhere" in shown["error"]


@pytest.mark.parametrize("queue", [None, "-"])
def test_without_a_queue_there_is_no_depth(settings, queue):
    assert report(dataclasses.replace(settings, queue=queue))["sqs"] is None


def test_a_watermark_that_is_none_is_a_stream_that_stands_still(settings):
    store = assembly.watermarks(settings)
    store._s3.put_object(Bucket=settings.bucket, Key=settings.watermark_key, Body=b"?")
    whole = report(settings)
    assert "watermark set" in whole["streams"]["useractions"]["blocked"]["reason"]
    assert status.exit_code(whole) == 4
