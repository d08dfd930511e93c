import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from uaharvest import assembly, keys, status
from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    HarvestError,
    RetryableError,
    SourceError,
    SpanRefusedError,
)
from uaharvest.indexer import Tally
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.backfills import Backfill, utc_now
from uaharvest.runs.ledger import Run
from uaharvest.runs.state import Clocks
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
SLICES = [str(slice_) for slice_ in Interval(START, START + timedelta(seconds=4)).cut(4)]


class Workers:
    """What Celery would say."""

    def queues(self):
        return {"control": 0, "useractions": 7}

    def alive(self, wait=None):
        return {"b@two": ["control"], "a@one": ["control", "useractions"]}


@pytest.fixture
def settings(redis, valkey_url, bucket, queue_name):
    return Settings(redis_url=valkey_url, bucket=bucket, queue=queue_name)


@pytest.fixture
def ledger(settings, client):
    return assembly.ledger(settings, client)


@pytest.fixture
def state(settings, client):
    """Of the useractions; beat is heard."""
    state = assembly.state(settings, client)
    state.tick(settings.every)
    return state


def report(settings):
    return status.status(settings, Workers())


def stream(settings):
    return report(settings)["streams"]["useractions"]


def run(**differences):
    asked = Interval(START, START + timedelta(seconds=4))
    fields = {"id": "run", "stream": "useractions", "kind": "live", "requested": asked, "window": asked}
    fields |= {"etag": "etag", "epoch": "epoch", "known_from": None, "batch_size": 100, "wait": 0}
    return Run(**{**fields, "opened_at": datetime.now(UTC), "expected": 40, **differences})


def test_a_site_that_has_just_begun_is_well_and_has_nothing(settings, state):
    whole = report(settings)
    assert 0 <= whole["streams"]["useractions"].pop("ticked_seconds_ago") < 60
    assert whole["streams"]["useractions"] == {
        "watermark": None,
        "lag_seconds": None,
        "overdue_seconds": None,
        "blocked": None,
        "failure": None,
        "open_runs": [],
        "last_runs": [],
        "dead_letters": 0,
        "s3_error": None,
        "lost": [],
    }
    assert (whole["sqs"]["queue"], whole["sqs"]["waiting"], whole["sqs"]["in_flight"]) == (settings.queue, 0, 0)
    assert whole["troubles"] == []
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


def test_beat_shows_by_its_last_tick(settings, state):
    assert 0 <= report(settings)["beat_ticked_seconds_ago"] < 60


@pytest.mark.parametrize(
    ("error", "exit_code"), [(SpanRefusedError, 3), (BlockedError, 4), (BadInputError, 4), (HarvestError, 4)]
)
def test_a_stream_that_stands_still_is_told_with_its_reason_and_exit_code(settings, state, error, exit_code):
    state.failed("opening", error("refused user 'harvester'"))
    assembly.dead_letters(settings).put(DeadLetter.of_record("useractions", 1, "too long", {}))
    whole = report(settings)
    assert whole["streams"]["useractions"]["blocked"]["reason"] == "refused user 'harvester'"
    assert status.exit_code(whole) == exit_code


def test_a_refused_span_does_not_hide_another_stream_that_stands_still(settings, state):
    settings = dataclasses.replace(settings, indexer=True)
    state.failed("opening", SpanRefusedError("the span is too long"))
    assembly.indexer_state(settings).state.failed("working", BadInputError("not set: ES_HOST"))
    assert status.exit_code(report(settings)) == 4


def test_dead_letters_are_counted_and_are_exit_code_5(settings, state):
    dead_letters = assembly.dead_letters(settings)
    for number in range(3):
        dead_letters.put(DeadLetter.of_record("useractions", number, "too long", {}))
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
    store._object._s3.put_object(Bucket=settings.bucket, Key=settings.watermark_key, Body=b"?")
    whole = report(settings)
    assert "watermark set" in whole["streams"]["useractions"]["blocked"]["reason"]
    assert status.exit_code(whole) == 4


def test_a_backfill_is_shown_until_it_ends_and_one_that_cannot_go_on_is_a_trouble(settings, client):
    stored = assembly.backfills(settings, "useractions")
    asked = Interval(START, START + timedelta(days=1))
    one = stored.add(Backfill.new(asked, to="queue", rate=5, now=utc_now(), expected=9))
    whole = report(settings)
    [shown] = whole["backfills"]
    assert (shown["stream"], shown["id"], shown["state"], shown["failure"]) == (
        "useractions",
        one.id,
        "running",
        None,
    )
    assert not [line for line in whole["troubles"] if "backfill" in line["line"]]
    state = assembly.state(settings, client, stream=assembly.backfills_of("useractions"))
    state.failed("working", BlockedError("Opencast denied access (403)."))
    whole = report(settings)
    [trouble] = [line for line in whole["troubles"] if "backfill" in line["line"]]
    assert trouble["line"].startswith("backfill of useractions fails (since ")
    assert trouble["exit_code"] == 4
    stored.change(one.id, lambda read: dataclasses.replace(read, state="stopped"))
    assert not [line for line in report(settings)["troubles"] if "backfill" in line["line"]]
    stored.drop(one.id)
    assert report(settings)["backfills"] == []


def test_backfills_that_cannot_be_read_are_a_trouble(settings, state):
    stored = assembly.backfills(settings, "useractions")._object
    stored._s3.put_object(Bucket=settings.bucket, Key=stored._key, Body=b"?")
    whole = report(settings)
    [trouble] = whole["troubles"]
    assert stored.uri in trouble["line"]
    assert trouble["exit_code"] == 4


# Green means moving


def troubles(settings):
    whole = report(settings)
    return [trouble["line"] for trouble in whole["troubles"]], status.exit_code(whole)


def put_off(ledger, *slices, run_id="run", waits=1):
    for slice_id in slices:
        claim = ledger.claim(run_id, slice_id, "token")
        ledger.release(run_id, claim, delay=60, attempts=0, waits=waits, reason="S3 is down")


def test_a_stream_all_of_whose_slices_are_put_off_stands_still(settings, state, ledger):
    ledger.open(run(), SLICES)
    put_off(ledger, *SLICES)
    assert troubles(settings) == (["useractions: all slices are put off: S3 is down"], 4)


def test_an_explicit_run_all_of_whose_slices_are_put_off_stands_still_too(settings, state, ledger):
    ledger.open(run(id="other", kind="explicit", etag=None), SLICES)
    put_off(ledger, *SLICES, run_id="other")
    assert troubles(settings)[1] == 4


def test_a_slice_that_is_put_off_while_others_go_on_is_a_note(settings, state, ledger):
    ledger.open(run(), SLICES)
    put_off(ledger, SLICES[0])
    state.failed("working", SourceError("no answer"))
    whole = report(settings)
    assert status.exit_code(whole) == 0
    assert "useractions: slices are put off, and will be retried: S3 is down" in whole["notes"]


def test_slices_that_fail_for_a_minute_while_none_succeeds_are_no_note_any_more(settings, state, ledger, client):
    ledger.open(run(), SLICES)
    state.failed("working", SourceError("no answer"))
    [text] = client.hvals(f"uaharvest:failed:{state.place}")
    old = json.loads(text)
    old["since"] -= 61_000
    client.hset(f"uaharvest:failed:{state.place}", "working", json.dumps(old))
    [line], code = troubles(settings)
    assert (line.startswith("useractions fails (since "), line.endswith("ago): no answer"), code) == (
        True,
        True,
        4,
    )


@pytest.mark.parametrize("place", ["opening", "working", "explicit"])
@pytest.mark.parametrize(
    "error", [RetryableError("down"), SourceError("down"), ValueError("x"), BlockedError("no")]
)
def test_the_last_failure_of_each_place_is_red(settings, state, place, error):
    state.failed(place, error)
    assert troubles(settings)[1] == 4


def test_of_two_failures_the_newest_is_shown_with_its_age_and_the_former_is_not(settings, state, client):
    state.failed("working", BlockedError("OPENCAST_TIMEZONE is 'UTC'"))
    [text] = client.hvals(f"uaharvest:failed:{state.place}")
    old = json.loads(text)
    client.hset(
        f"uaharvest:failed:{state.place}", "working", json.dumps(old | {"at": old["at"] - 5000, "since": 0})
    )
    state.failed("opening", SourceError("the host is down"))
    [line], _ = troubles(settings)
    assert "the host is down" in line
    assert re.search(r"seen \d+ s ago", line)


@pytest.mark.parametrize(("late", "code"), [(-60, 0), (60, 4)])
def test_useractions_may_lag_by_the_lag_three_ticks_and_a_window(settings, state, late, code):
    limit = 10 + 3 * 120 + 3600
    assert status.lag_limit(settings) == limit
    at = datetime.now(UTC) - timedelta(seconds=limit + late)
    assembly.watermarks(settings).create(first(whole_second(at)))
    lines, exit_code = troubles(settings)
    assert exit_code == code
    assert [line.partition(" behind")[0] for line in lines] == (["useractions lags 1 h 7 min"] if code else [])


def test_the_limit_of_the_lag_can_be_set(settings, state):
    assembly.watermarks(settings).create(first(whole_second(datetime.now(UTC) - timedelta(minutes=5))))
    assert troubles(dataclasses.replace(settings, max_lag=60))[1] == 4
    assert troubles(dataclasses.replace(settings, max_lag=3600))[1] == 0


def test_a_source_whose_clock_is_behind_is_told_and_not_red(settings, state, client):
    clocks = Clocks(client, state.place)
    clocks.compare("the source of useractions", clocks.now() - timedelta(hours=3), clocks.now())
    assembly.watermarks(settings).create(first(whole_second(datetime.now(UTC) - timedelta(hours=3, minutes=1))))
    whole = report(settings)
    assert status.exit_code(whole) == 0
    assert (
        "the clock of the source of useractions is 3 h behind Redis's. Synchronize both with NTP."
        in whole["notes"]
    )


@pytest.mark.parametrize("ago", [60, 4200])
def test_a_source_whose_clock_stands_still_is_red(settings, state, client, ledger, ago):
    clocks = Clocks(client, state.place)
    clocks.compare("the source of useractions", clocks.now() - timedelta(hours=3), clocks.now())
    assembly.watermarks(settings).create(first(whole_second(datetime.now(UTC) - timedelta(hours=3, minutes=1))))
    ledger.open(run(), [])
    ledger.close(run(), "done")
    [text] = client.lrange(f"uaharvest:history:{state.place}", 0, -1)
    closed = f"{datetime.now(UTC) - timedelta(seconds=ago):%FT%TZ}"
    client.lset(f"uaharvest:history:{state.place}", 0, json.dumps(json.loads(text) | {"closed_at": closed}))
    lines, code = troubles(settings)
    late = ago > status.lag_limit(settings)
    assert (code, [line.partition(",")[0] for line in lines]) == (
        (4, ["useractions lags 3 h 1 min behind"]) if late else (0, [])
    )


def test_a_host_that_compared_its_clock_for_several_streams_is_shown_once_as_it_is_now(settings, state, client):
    now = state.now()
    for name, ahead in (("useractions", 5), ("index", 7)):
        place = assembly.place(settings, name)
        Clocks(client, place).compare("worker on here", now + timedelta(seconds=ahead), now)
        now += timedelta(seconds=1)
    shown = [clock for clock in report(settings)["clocks"] if clock["name"] == "worker on here"]
    assert [clock["seconds_ahead"] for clock in shown] == [7]


def test_every_status_of_a_process_shows_the_clock_of_s3(settings, state):
    for _ in range(2):
        assert "S3" in [clock["name"] for clock in report(settings)["clocks"]]


@pytest.mark.parametrize(("days", "code"), [(1, 0), (2, 4), (3, 4)])
@pytest.mark.parametrize("stream", ["episodes", "zoom"])
def test_of_streams_of_days_one_day_may_be_under_way_and_no_second_one_due(stream, days, code):
    settings = Settings(episodes_at=timedelta(hours=4), zoom_at=timedelta(hours=4))
    now = datetime(2026, 3, 6, 5, tzinfo=UTC)
    mark = datetime(2026, 3, 6, tzinfo=UTC) - timedelta(days=days)
    assert (status.overdue(settings, stream, mark, now) > timedelta()) is bool(code)


def test_a_beat_that_is_not_heard_is_red(settings, ledger, client):
    [line], code = troubles(settings)
    assert (code, "beat has not been heard yet. Start it: celery -A tasks beat" in line) == (4, True)
    ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000
    client.set(f"uaharvest:ticked:{ledger.place}", ago)
    [line], code = troubles(settings)
    assert (code, line.startswith("beat has not been heard for 1 h")) == (4, True)


def test_a_stream_whose_ticks_do_not_come_through_is_red_though_beat_is_heard(settings, state, tmp_path, client):
    documents = f"sqlite:///{tmp_path / 'x.db'}"
    settings = dataclasses.replace(settings, admin_url="http://admin.example.edu/", documents_url=documents)
    assert troubles(settings)[0] == [
        "episodes: beat has not triggered it yet. Restart beat if episodes was set up after beat started."
    ]
    ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000
    client.set(f"uaharvest:ticked:{assembly.place(settings, 'episodes')}", ago)
    [line], code = troubles(settings)
    assert (code, line.startswith("episodes: no tick has arrived for 1 h")) == (4, True)


def test_an_indexer_whose_drains_do_not_end_is_red(settings, state, client):
    settings = dataclasses.replace(settings, indexer=True)
    indexers = assembly.indexer_state(settings, client)
    indexers.state.tick(60)
    indexers.ended(Tally(), 1.0)
    assert troubles(settings)[1] == 0
    last = json.loads(client.hget(keys.INDEXER(indexers.state.place), "last")) | {
        "ended_at": "2026-01-01T00:00:00Z"
    }
    client.hset(keys.INDEXER(indexers.state.place), "last", json.dumps(last))
    [line], code = troubles(settings)
    assert (code, line.startswith("index: no drain has ended for ")) == (4, True)


class Deaf(Workers):
    """Workers of which one answers when it is asked again, and longer."""

    def __init__(self, *answers):
        self.answers = [*answers]

    def alive(self, wait=None):
        return self.answers.pop(0)


def test_a_queue_that_has_work_and_no_worker_is_red(settings, state):
    heard = {"a@one": ["control"]}
    whole = status.status(settings, Deaf(heard, heard))
    assert [trouble["line"] for trouble in whole["troubles"]] == [
        "queue useractions has 7 messages and no worker. Start one: celery -A tasks worker -Q useractions"
    ]
    assert status.exit_code(whole) == 4


def test_workers_that_are_slow_to_answer_are_asked_a_second_time(settings, state):
    whole = status.status(settings, Deaf({}, {"a@one": ["control", "useractions"]}))
    assert (whole["troubles"], list(whole["workers"])) == ([], ["a@one"])


def test_a_redis_that_evicts_is_noted(settings, state, client):
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        whole = report(settings)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert any("Set maxmemory-policy to noeviction" in note for note in whole["notes"])
    assert whole["troubles"] == []


def test_workers_that_cannot_be_asked_are_no_missing_ones(settings, state):
    assert status.exit_code(status.status(settings, Deaf(None))) == 0


def test_a_redis_that_takes_no_writes_is_red_and_the_rest_is_shown(settings, state, client):
    client.config_set("maxmemory", "1")
    try:
        lines, code = troubles(settings)
    finally:
        client.config_set("maxmemory", "0")
    assert code == 4
    [line] = lines
    place = settings.redis_url.removeprefix("redis://").partition("/")[0]
    assert line.startswith(f"Redis at {place} takes no writes, because it is full: ")


def test_what_redis_holds_and_cannot_be_read_hides_nothing_else(settings, state, client):
    client.set(f"uaharvest:explicit:{state.place}", "a string, and no set")
    client.hset(f"uaharvest:clocks:{state.place}", "worker", "{")
    state.failed("opening", SourceError("no answer"))
    lines, code = troubles(settings)
    assert code == 4
    assert [line.partition(" about ")[2].partition(" cannot")[0] for line in lines[:2]] == [
        "useractions's runs",
        "clocks",
    ]
    assert lines[2].startswith("useractions cannot open a run")
    client.flushall()


def test_an_s3_that_does_not_answer_is_red(settings, state, monkeypatch):
    def read(_):
        raise RetryableError("s3://bucket/key cannot be reached")

    monkeypatch.setattr("uaharvest.runs.watermark.WatermarkStore.read", read)
    assert troubles(settings) == (["useractions: s3://bucket/key cannot be reached"], 4)


def test_letters_that_could_not_be_counted_are_not_taken_for_none(settings, state, monkeypatch):
    def count(*_):
        raise RetryableError("s3://bucket cannot be listed")

    monkeypatch.setattr("uaharvest.dead_letters.DeadLetters.count", count)
    assert troubles(settings) == (["useractions: s3://bucket cannot be listed"], 4)


def test_a_queue_that_is_gone_is_red_where_something_was_sent_to_it(settings, state, client):
    settings = dataclasses.replace(settings, queue="nowhere")
    ledger = assembly.ledger(settings, client)
    assembly.state(settings, client).tick(settings.every)
    assert troubles(settings)[1] == 0
    opened = run()
    ledger.open(opened, [])
    ledger.close(dataclasses.replace(opened, delivered=3), "done")
    [line], code = troubles(settings)
    assert ("nowhere" in line, code) == (True, 4)


def test_a_queue_that_is_not_there_is_no_trouble_after_a_run_that_only_printed(settings, state, client):
    settings = dataclasses.replace(settings, queue="nowhere")
    ledger = assembly.ledger(settings, client)
    assembly.state(settings, client).tick(settings.every)
    printed = dataclasses.replace(run(), kind="private")
    ledger.open(printed, [])
    ledger.close(dataclasses.replace(printed, delivered=3), "done")
    assert troubles(settings) == ([], 0)


def test_it_says_in_a_line_what_is_stored_of_people(settings, state):
    assert report(settings)["privacy"]["words"].startswith("off: ")
    on = dataclasses.replace(settings, privacy_pseudonyms=(("k1", "top-secret-of-sixteen"),))
    privacy = report(on)["privacy"]
    assert privacy == {
        "pseudonyms": ["k1"],
        "address": "full",
        "agent": "full",
        "words": "pseudonyms by key k1 · addresses full · browsers full",
    }
