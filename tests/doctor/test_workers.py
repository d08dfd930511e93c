"""What workers and beat say of themselves; the real ones are asked in `test_processes`."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.doctor.conftest import Workers
from uaharvest import assembly
from uaharvest.doctor import workers as checks
from uaharvest.doctor.fingerprint import SECRETS, differing, fingerprint
from uaharvest.runs.state import Clock, Clocks
from uaharvest.settings import Settings

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


@pytest.fixture
def workers(settings_of):
    return Workers(settings_of())


def test_no_worker_is_one_failure_with_the_command_that_starts_one(told, settings_of, workers):
    workers.facts = {}
    [(status, found, remedy)] = told(settings_of(), "workers", workers=workers)
    assert (status, found) == ("fail", "no worker answers")
    assert "celery -A tasks worker" in remedy


def test_a_queue_without_a_worker_is_named_with_its_tasks(told, settings_of, workers):
    workers.facts["a@one"]["queues"].remove("zoom")
    workers.waiting["zoom"] = 24
    [(status, found, remedy)] = told(settings_of(), "workers", workers=workers)
    assert (status, found) == ("fail", "queue 'zoom' has 24 tasks and no worker")
    assert remedy == "Start one: celery -A tasks worker -Q zoom"


def test_a_queue_that_this_site_does_not_use_needs_no_worker(told, settings_of, workers):
    workers.facts["a@one"]["queues"] = ["control", "useractions", "backfill"]
    settings = settings_of(ZOOM_KEY=None, ZOOM_SECRET=None, MATTERHORN_ADMIN_HOST=None, INDEXER=None)
    lines = told(settings, "workers", workers=workers)
    assert [found for _, found, _ in lines if "queue" in found] == []


def test_a_site_whose_workers_take_no_backfills_is_warned_but_fails_only_once_one_waits(
    told, settings_of, workers
):
    workers.facts["a@one"]["queues"].remove("backfill")
    [line] = [line for line in told(settings_of(), "workers", workers=workers) if "backfill" in line[1]]
    assert line[:2] == ("warn", "queue 'backfill' has no worker, so no backfill would begin")
    assert line[2] == "Start one: celery -A tasks worker -Q backfill"
    workers.waiting["backfill"] = 1
    [line] = [line for line in told(settings_of(), "workers", workers=workers) if "backfill" in line[1]]
    assert line[:2] == ("fail", "queue 'backfill' has 1 task and no worker")


def test_a_worker_that_answered_too_late_is_asked_again(told, settings_of, workers):
    facts, asked = workers.facts, []

    def about(within=1.0):
        asked.append(within)
        return facts if len(asked) > 1 else {}

    workers.about = about
    assert told(settings_of(), "workers", workers=workers) == []
    assert len(asked) == 2


def test_a_worker_of_another_version_is_named(told, settings_of, workers):
    workers.facts["b@two"] = {**workers.facts["a@one"], "version": "0.0.1"}
    workers.facts["c@old"] = {"error": "KeyError('about')"}
    [(status, found, remedy)] = told(settings_of(), "workers", workers=workers)
    assert (status, "b@two (0.0.1), c@old (an older version)" in found) == ("warn", True)
    assert "restart" in remedy


def test_a_worker_with_other_settings_is_named_with_the_names_of_those(told, settings_of, workers):
    other = settings_of(HARVEST_LAG_SECONDS="20", MATTERHORN_REST_PASS="another", LOG_LEVEL="debug")
    while fingerprint(other)[SECRETS] == fingerprint(settings_of())[SECRETS]:  # one of 256 differs in nothing
        other = settings_of(HARVEST_LAG_SECONDS="20", MATTERHORN_REST_PASS=f"{other.opencast_password}x")
    workers.facts["b@two"] = {**workers.facts["a@one"], "settings": fingerprint(other)}
    [(status, found, remedy)] = told(settings_of(), "workers", workers=workers)
    assert status == "fail"
    assert found == (
        "b@two has other settings than this command: HARVEST_LAG_SECONDS, a secret (password, key or URL)"
    )
    assert "restart" in remedy


def test_workers_behind_sqs_cannot_be_asked(told, settings_of, workers):
    workers.about = lambda within=1.0: None
    assert [status for status, _, _ in told(settings_of(), "workers", workers=workers)] == ["skipped"]


# Fingerprints


def test_a_fingerprint_confirms_no_guess_at_a_secret():
    secrets = {fingerprint(Settings(opencast_password=f"guess {number}"))[SECRETS] for number in range(2000)}
    assert secrets <= {f"{byte:02x}" for byte in range(256)}
    whole = fingerprint(
        Settings(opencast_password="top-secret", zoom_secret="top-secret", engage_url="http://host/")
    )
    assert not {"MATTERHORN_REST_PASS", "ZOOM_SECRET", "REDIS_URL"} & whole.keys()
    assert "host" not in str(whole.values())


def test_a_fingerprint_differs_by_each_setting_and_not_by_what_belongs_to_a_host():
    mine = fingerprint(Settings())
    assert differing(mine, fingerprint(Settings(lag=11))) == ["HARVEST_LAG_SECONDS"]
    assert differing(mine, fingerprint(Settings(log_level="debug", es_ca_file="/a.pem"))) == []


# Beat


def test_a_beat_that_was_never_heard_fails(told, settings_of, client):
    client.delete(*client.keys("uaharvest:ticked:*"))
    [(status, found, remedy)] = told(settings_of(), "beat")
    assert (status, found) == ("fail", "beat has not been heard yet")
    assert "celery -A tasks beat" in remedy


def test_a_beat_that_fell_silent_fails_with_how_long_ago_it_was():
    ticked = {"useractions": NOW - timedelta(minutes=30), "zoom": NOW - timedelta(minutes=40)}
    [finding] = checks.judge_ticks(ticked, NOW, Settings())
    assert (finding.status, "for 30 min" in finding.found) == ("fail", True)


def test_a_stream_whose_ticks_are_missing_is_a_warning():
    ticked = {"useractions": NOW, "zoom": None, "episodes": NOW - timedelta(hours=1)}
    findings = [*checks.judge_ticks(ticked, NOW, Settings())]
    assert [(str(one.status), one.found) for one in findings] == [
        ("ok", "ticked 0 s ago"),
        ("warn", "has not triggered zoom yet"),
        ("warn", "no tick of episodes for 1 h"),
    ]


def test_two_beats_are_a_warning_that_names_both(told, settings_of, client):
    clocks = Clocks(client, assembly.place(settings_of(), "useractions"))
    clocks.compare("beat on a, pid 7", clocks.now(), clocks.now())
    assert told(settings_of(), "beat") == []
    clocks.compare("beat on b, pid 9", clocks.now(), clocks.now())
    [(status, found, remedy)] = told(settings_of(), "beat")
    assert (status, "a, pid 7; b, pid 9" in found) == ("warn", True)
    assert "Stop all but one" in remedy


def test_a_beat_that_was_stopped_long_ago_does_not_count():
    beats = [
        Clock(name="beat on a", ahead=0.0, at=NOW),
        Clock(name="beat on b", ahead=0.0, at=NOW - timedelta(hours=1)),
    ]
    [finding] = checks.judge_beats(beats, NOW, Settings())
    assert finding.found == "one, on a"
