import io
import itertools
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.runs.watermark import (
    Watermark,
    WatermarkStore,
    advanced,
    first,
    legacy,
    moved_by_operator,
)
from uaharvest.s3_object import ChangedError

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD_TEXT = "20261124070000"  # noon in New York


@pytest.fixture
def s3(aws):
    return boto3.client("s3")


@pytest.fixture
def store(s3, bucket):
    return WatermarkStore(s3, bucket, "mark", NEW_YORK)


def put(store, content, key="mark"):
    return store._object._s3.put_object(Bucket=store._object._bucket, Key=key, Body=content)["ETag"]


def content(store, key="mark"):
    return store._object._s3.get_object(Bucket=store._object._bucket, Key=key)["Body"].read().decode()


def stubbed():
    """A store whose S3 says what a test tells it, and the pauses that the store made."""
    client = boto3.client("s3", region_name="us-east-1")
    pauses = []
    return Stubber(client), WatermarkStore(client, "bucket", "mark", NEW_YORK, pause=pauses.append), pauses


def body(text):
    data = text.encode()
    return {"Body": StreamingBody(io.BytesIO(data), len(data)), "ETag": '"new"', "LastModified": NOON}


# The rules


def test_the_object_has_exactly_these_fields():
    mark = Watermark(NOON, NOON - HOUR, "epoch", "run")
    assert json.loads(mark.to_json()) == {
        "watermark": "2026-11-24T12:00:00Z",
        "floor": "2026-11-24T11:00:00Z",
        "epoch": "epoch",
        "run": "run",
        "schema": 1,
    }
    assert Watermark.from_json(mark.to_json()) == mark


def test_times_are_kept_in_utc_and_cut_to_the_second():
    late = datetime(2026, 11, 24, 7, 0, 0, 999999, tzinfo=timezone(-5 * HOUR))
    assert first(late).at == NOON
    assert first(late).at.tzinfo is UTC


def test_a_time_without_zone_is_no_watermark():
    with pytest.raises(ValueError, match="zone"):
        first(datetime(2026, 11, 24))


def test_the_first_watermark_looks_for_nothing_before_itself():
    assert first(NOON).floor == NOON


def test_a_run_moves_the_watermark_and_keeps_floor_and_epoch():
    old = first(NOON)
    new = advanced(old, NOON + HOUR, "run")
    assert new == Watermark(NOON + HOUR, old.floor, old.epoch, "run")


def test_a_run_never_moves_the_watermark_backwards():
    with pytest.raises(HarvestError, match="back from 2026-11-24T12:00:00Z to 2026-11-24T11:00:00Z"):
        advanced(first(NOON), NOON - HOUR, "run")


@pytest.mark.parametrize(
    ("to", "floor"),
    [
        (NOON + HOUR, NOON + HOUR),
        (NOON, NOON - 2 * HOUR),
        (NOON - HOUR, NOON - 2 * HOUR),
        (NOON - 3 * HOUR, NOON - 3 * HOUR),
    ],
    ids=["forward", "same", "backward", "before the floor"],
)
def test_an_operator_skips_late_rows_forward_and_keeps_them_backward(to, floor):
    moved = moved_by_operator(Watermark(NOON, NOON - 2 * HOUR, "epoch", "run"), to)
    assert (moved.at, moved.floor) == (to, floor)


def test_each_operators_write_has_a_new_epoch_and_content_never_seen_before():
    old = first(NOON)
    assert len({mark.epoch for mark in (old, first(NOON), *(moved_by_operator(old, NOON) for _ in "ab"))}) == 4
    assert moved_by_operator(None, NOON).to_json() != first(NOON).to_json()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("20261124070000", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("20261101013000", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)),
        ("20260308023000", datetime(2026, 3, 8, 6, 30, tzinfo=UTC)),
    ],
    ids=["plain", "twice that night: the earlier", "never that night: the earlier reading"],
)
def test_the_old_tools_local_time_is_read_so_that_nothing_is_lost(text, utc):
    assert legacy(text, NEW_YORK) == utc


# The store


def test_a_missing_object_and_a_missing_bucket_are_absent(store, s3):
    assert store.read() is None
    assert WatermarkStore(s3, "no-such-bucket", "mark", NEW_YORK).read() is None


def test_what_was_created_is_read_with_its_etag(store):
    stored = store.create(first(NOON))
    assert store.read() == stored


def test_the_first_watermark_creates_the_bucket(s3):
    store = WatermarkStore(s3, "bucket-of-a-new-site", "mark", NEW_YORK)
    assert store.create(first(NOON)) == store.read()


def test_of_two_first_watermarks_one_stays(store):
    stored = store.create(first(NOON))
    with pytest.raises(ChangedError, match="another"):
        store.create(first(NOON))
    assert store.read() == stored


def test_a_watermark_is_replaced_only_by_who_has_read_it(store):
    old = store.create(first(NOON))
    new = store.replace(advanced(old.mark, NOON + HOUR, "run"), old.etag)
    assert store.read() == new
    with pytest.raises(ChangedError, match="another"):
        store.replace(advanced(old.mark, NOON + 2 * HOUR, "other run"), old.etag)
    assert store.read() == new


def test_a_run_that_commits_twice_has_committed(store):
    old = store.create(first(NOON))
    mark = advanced(old.mark, NOON + HOUR, "run")
    assert store.replace(mark, old.etag) == store.replace(mark, old.etag)


def test_a_first_write_whose_confirmation_was_lost_is_done(store):
    mark = first(NOON)
    assert store.create(mark) == store.create(mark)


def test_the_same_run_with_another_end_is_not_done(store):
    old = store.create(first(NOON))
    store.replace(advanced(old.mark, NOON + HOUR, "run"), old.etag)
    with pytest.raises(ChangedError):
        store.replace(advanced(old.mark, NOON + 2 * HOUR, "run"), old.etag)


def test_a_watermark_that_was_deleted_is_not_written_again_by_a_run(store):
    old = store.create(first(NOON))
    store.delete()
    with pytest.raises(ChangedError, match="deleted"):
        store.replace(advanced(old.mark, NOON + HOUR, "run"), old.etag)
    assert store.read() is None


@pytest.mark.parametrize(
    ("code", "status"), [("ConditionalRequestConflict", 409), ("SlowDown", 503)], ids=["conflict", "throttle"]
)
def test_a_collision_and_a_throttle_are_tried_again_after_a_pause(code, status):
    stub, store, pauses = stubbed()
    with stub:
        stub.add_client_error("put_object", code, http_status_code=status)
        stub.add_client_error("put_object", code, http_status_code=status)
        stub.add_response("put_object", {"ETag": '"new"'})
        assert store.replace(first(NOON), '"old"').etag == '"new"'
        stub.assert_no_pending_responses()
    assert len(pauses) == 2
    assert all(pauses)


def test_a_throttle_that_stays_is_retryable():
    stub, store, pauses = stubbed()
    with stub:
        for _ in range(5):
            stub.add_client_error("put_object", "SlowDown", http_status_code=503)
        with pytest.raises(RetryableError, match="SlowDown"):
            store.replace(first(NOON), '"old"')
    assert len(pauses) == 4


def test_an_s3_that_hangs_is_not_written_to_again_and_again(monkeypatch):
    """By then botocore has waited for most of a minute."""
    passing = itertools.count(0.0, 47.0)
    monkeypatch.setattr("uaharvest.retries.time", SimpleNamespace(monotonic=lambda: next(passing)))
    stub, store, pauses = stubbed()
    with stub:
        stub.add_client_error("put_object", "RequestTimeout", http_status_code=400)
        with pytest.raises(RetryableError, match="RequestTimeout"):
            store.replace(first(NOON), '"old"')
    assert pauses == []


def test_a_write_that_arrived_though_its_answer_was_a_failure_is_done():
    stub, store, _ = stubbed()
    mark = first(NOON)
    with stub:
        stub.add_client_error("put_object", "InternalError", http_status_code=500)
        stub.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
        stub.add_response("get_object", body(mark.to_json()))
        assert store.replace(mark, '"old"').etag == '"new"'


@pytest.mark.parametrize(
    ("operation", "call", "action"),
    [
        ("get_object", lambda store: store.read(), "s3:GetObject"),
        ("put_object", lambda store: store.create(first(NOON)), "s3:PutObject"),
        ("delete_object", lambda store: store.delete(), "s3:DeleteObject"),
    ],
    ids=["read", "create", "delete"],
)
def test_a_denial_names_the_permission_and_is_never_absence(operation, call, action):
    stub, store, _ = stubbed()
    stub.add_client_error(operation, "AccessDenied", http_status_code=403)
    with stub, pytest.raises(BlockedError, match=f"AccessDenied on {action} for s3://bucket/mark.*s3:ListBucket"):
        call(store)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"yesterday",
        b"[]",
        b"\xff\xfe",
        b"20261399000000",
        b'{"watermark": "2026-11-24T12:00:00Z"}',
        b'{"watermark":"2026-11-24T12:00:00","floor":"2026-11-24T12:00:00","epoch":"e","run":"r","schema":1}',
        b'{"watermark":"2026-11-24T12:00:00Z","floor":"2026-11-25T12:00:00Z","epoch":"e","run":"r","schema":1}',
        b'{"watermark":"2026-11-24T12:00:00Z","floor":"2026-11-24T12:00:00Z","epoch":"e","run":"r","schema":2}',
        b'{"watermark":"9999-12-31T23:59:59-14:00","floor":"2026-11-24T12:00:00Z","epoch":"e","run":"r","schema":1}',
        b"[" * 60_000,
    ],
)
def test_junk_is_blocked_names_the_object_and_is_mended_by_an_operator(store, bucket, junk):
    put(store, junk)
    with pytest.raises(BlockedError, match=f"s3://{bucket}/mark.*manage.py watermark set"):
        store.read()
    assert store.move(NOON).mark.at == NOON
    assert store.read().mark.at == NOON


def test_an_operator_moves_what_is_there_and_what_is_not(store):
    created = store.move(NOON)
    assert store.read() == created
    moved = store.move(NOON - HOUR)
    assert store.read() == moved
    assert moved.mark.epoch != created.mark.epoch


# The old tool


@pytest.mark.parametrize("text", [OLD_TEXT, f"{OLD_TEXT}\n"])
def test_the_old_form_is_replaced_when_it_is_read(store, text):
    etag = put(store, text)
    stored = store.read()
    assert (stored.mark.at, stored.mark.floor) == (NOON, NOON)
    assert store.read() == stored
    marker = json.loads(content(store, "mark.replaced"))
    assert (marker["text"], marker["etag"]) == (OLD_TEXT, etag)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", marker["written"])


def test_a_replacement_that_was_cut_short_goes_on(store, monkeypatch):
    put(store, OLD_TEXT)

    def die(mark, etag):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            store.read()
    assert content(store) == OLD_TEXT
    assert store.read().mark.at == NOON


def test_an_old_cron_that_still_writes_is_noticed(store, bucket):
    put(store, OLD_TEXT)
    store.read()
    put(store, "20261124080000")
    with pytest.raises(
        BlockedError, match=f"cron.*s3://{bucket}/mark: stop it.*watermark set.*2026-11-24T13:00:00Z"
    ):
        store.read()
    assert content(store) == "20261124080000"


def test_an_old_cron_that_writes_the_same_text_again_in_a_quiet_hour_is_noticed(store):
    put(store, OLD_TEXT)
    store.read()
    marker = json.loads(content(store, "mark.replaced"))
    put(store, json.dumps({**marker, "written": "2026-11-24T07:00:00Z"}), "mark.replaced")
    put(store, OLD_TEXT)
    with pytest.raises(BlockedError, match="old harvester"):
        store.read()


@pytest.mark.parametrize(
    "reset", [lambda store: store.delete(), lambda store: store.move(NOON)], ids=["delete", "set"]
)
def test_an_old_cron_is_noticed_after_an_operators_reset_too(store, reset):
    put(store, OLD_TEXT)
    store.read()
    reset(store)
    put(store, "20261124080000")
    with pytest.raises(BlockedError, match="old harvester"):
        store.read()


def test_an_old_cron_is_noticed_when_the_operators_write_was_the_first_of_the_new_tool(store):
    put(store, OLD_TEXT)
    store.move(NOON - HOUR)
    assert store.read().mark.at == NOON - HOUR
    put(store, "20261124080000")
    with pytest.raises(BlockedError, match="old harvester"):
        store.read()


def test_setting_the_watermark_ends_the_complaint_about_an_old_cron(store):
    put(store, OLD_TEXT)
    store.read()
    put(store, "20261124080000")
    store.move(NOON + HOUR)
    assert store.read().mark.at == NOON + HOUR


def test_two_workers_that_read_the_old_form_at_once_agree(store, monkeypatch):
    put(store, OLD_TEXT)
    other = WatermarkStore(store._object._s3, store._object._bucket, "mark", NEW_YORK)
    replace = store.replace

    def overtaken(mark, etag):
        other.read()
        return replace(mark, etag)

    monkeypatch.setattr(store, "replace", overtaken)
    assert store.read() == other.read()


def test_an_old_form_deleted_while_it_is_replaced_is_reported(store, monkeypatch):
    put(store, OLD_TEXT)
    replace = store.replace

    def deleted(mark, etag):
        store.delete()
        return replace(mark, etag)

    monkeypatch.setattr(store, "replace", deleted)
    with pytest.raises(ChangedError, match="deleted"):
        store.read()


def test_a_marker_that_is_junk_is_named(store):
    put(store, OLD_TEXT)
    put(store, "junk", "mark.replaced")
    with pytest.raises(BlockedError, match=r"mark\.replaced"):
        store.read()
