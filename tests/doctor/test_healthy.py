"""A healthy site, and the whole report of one where everything is down."""

import re

import boto3
import pytest
from redis import Redis

from devservers import stack
from uaharvest import assembly, keys
from uaharvest.dead_letters import DeadLetter
from uaharvest.doctor.checks import CHECKS
from uaharvest.errors import SpanRefusedError

DOWN = f"127.0.0.1:{stack.free_port()}"


def test_a_healthy_site_needs_no_change(look, settings_of):
    findings = look(settings_of())
    assert list(findings) == [check.name for check in CHECKS]
    wrong = [
        (name, one)
        for name, all_ in findings.items()
        for one in all_
        if one.status in {"warn", "fail"} or one.remedy
    ]
    assert wrong == []
    unused = {name for name, all_ in findings.items() if any(one.status == "skipped" for one in all_)}
    elsewhere = {name for name in findings if name.startswith(("database.", "documents.", "lrs."))}
    elsewhere -= {"documents.sqlite"}
    assert unused == elsewhere
    assert all(one.unused for name in unused for one in findings[name])


def test_nothing_stays_behind_where_it_looked(look, settings_of, bucket, queue_name, client):
    look(settings_of(), "s3.objects", "sqs.receive", "sqs.send", "redis.writable")
    assert boto3.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"]
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []
    assert client.ttl(keys.PROBE()) <= 1


def test_quick_makes_no_call_that_writes_or_spends(look, settings_of, zoom):
    findings = look(settings_of(), quick=True)
    left_out = {name for name, [one, *_] in findings.items() if one.found == "left out by --quick"}
    assert left_out >= {"s3.objects", "zoom.plan", "opencast.profile", "opencast.newest", "dead letters"}
    assert findings["redis.eviction"][0].status == "ok"


@pytest.fixture
def other(redis):
    """A second Redis, for the broker."""
    with stack.valkey() as server, Redis.from_url(server.url) as client:
        yield server.url, client


def test_what_depends_on_a_redis_that_is_down_is_skipped_with_the_reason(look, settings_of):
    findings = look(settings_of(REDIS_URL=f"redis://:top-secret@{DOWN}/0"))
    [down] = findings["redis.answers"]
    assert (down.status, DOWN in down.found) == ("fail", True)
    assert "REDIS_URL" in down.remedy
    for name in ("redis.memory", "redis.permissions", "beat", "zoom.token", "opencast.newest"):
        assert [(one.status, one.found) for one in findings[name]] == [
            ("skipped", "not looked at, because redis.answers failed")
        ]
    assert findings["s3.objects"][0].status == "ok"
    assert "top-secret" not in str(findings)


def test_a_broker_that_is_not_the_ledgers_redis_is_named(look, told, settings_of, other):
    url, client = other
    settings = settings_of(CELERY_BROKER_URL=url)
    assert "not the ledger's" in look(settings, "broker.place")["broker.place"][0].found
    client.config_set("maxmemory-policy", "allkeys-lru")
    [(status, found, remedy)] = told(settings, "broker.place")
    assert (status, "allkeys-lru" in found, "noeviction" in remedy) == ("warn", True, True)


def test_a_broker_that_is_down_is_told_with_its_setting(told, settings_of):
    [(status, found, remedy)] = told(
        settings_of(CELERY_BROKER_URL=f"redis://:top-secret@{DOWN}/0"), "broker.place"
    )
    assert (status, DOWN in found) == ("fail", True)
    assert "CELERY_BROKER_URL" in remedy
    assert "top-secret" not in found + remedy


def test_a_stream_that_stands_still_is_a_warning_only_if_nothing_else_explains_it(look, settings_of):
    settings = settings_of()
    with assembly.redis_client(settings) as client:
        state = assembly.state(settings, client)
        state.failed("opening", SpanRefusedError("refused: 3 h. Harvest it with HARVEST_CATCH_UP=true."))
    [finding] = look(settings)["harvest"]
    assert (finding.status, finding.remedy) == ("warn", "Harvest it with HARVEST_CATCH_UP=true.")
    assert re.fullmatch(r"useractions is blocked \(since .*\): refused: 3 h", finding.found)
    [finding] = look(settings_of(MATTERHORN_REST_PASS="wrong"))["harvest"]
    assert (finding.status, finding.found) == ("skipped", "not looked at, because opencast.engage failed")


def test_dead_letters_are_counted_by_stream(told, settings_of):
    settings = settings_of()
    assembly.dead_letters(settings).put(DeadLetter.of_record("zoom", 1, "why", {}))
    [(status, found, remedy)] = told(settings, "dead letters")
    assert (status, found) == ("warn", "1 of zoom")
    assert "manage.py dead-letters list" in remedy
