"""The observer notes what SQS confirmed, and finds a watermark that is ahead of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from chaos import observer as observer_
from chaos.observer import Observer
from devservers.proxy import Call, Reply
from uaharvest.runs.watermark import Stored, Watermark

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Source:
    """An Opencast with a row every second; its ids count from 1."""

    def __init__(self, rows):
        self.rows = {number: START + timedelta(seconds=number) for number in range(1, rows + 1)}

    def truth(self, start, end):
        return {number for number, created in self.rows.items() if start <= created < end}


@pytest.fixture
def watching(monkeypatch):
    monkeypatch.setattr(observer_, "dead_ids", lambda site: site.dead)
    monkeypatch.setattr(observer_, "LOOK_EVERY", 0.0)
    return Observer()


@pytest.fixture
def site():
    source = Source(rows=4)
    source.dead = set()
    return source


def call(method, path, body, target=""):
    authorization = "AWS4-HMAC-SHA256 Credential=worker2/20261124/us-east-1/sqs/aws4_request"
    return Call(method, path, {}, {"x-amz-target": f"AmazonSQS.{target}", "authorization": authorization}, body)


def sends(watching, *ids, failed=(), reply=None):
    record = {"timestamp": "2026-11-24T12:00:01+00:00", "action": {"outpoint": 30}}
    entries = [{"Id": str(one), "MessageBody": json.dumps([{"action_id": one, **record}])} for one in ids]
    answer = {"Successful": [{"Id": str(one)} for one in ids if one not in failed]}
    body = json.dumps({"Entries": entries}).encode()
    watching.called(call("POST", "/", body, "SendMessageBatch"), 200, json.dumps(answer).encode(), reply)


def mark(seconds):
    return Watermark(at=START + timedelta(seconds=seconds), floor=START, epoch="e", run="r")


def writes(watching, seconds, status=200):
    watching.called(
        call("PUT", "/bucket/last-action-timestamp", mark(seconds).to_json().encode()), status, b"", None
    )


def ahead(watching, site, read=lambda: None):
    watching.look(site, read)
    return [list(one.ids) for one in watching.ahead]


def test_a_watermark_after_confirmed_rows_is_not_ahead(watching, site):
    sends(watching, 1, 2)
    writes(watching, 3)
    assert ahead(watching, site) == []
    created, reach = START.timestamp() + 1, 30
    assert [(one.id, one.by, one.told, one.created, one.reach) for one in watching.deliveries] == [
        (1, "worker2", True, created, reach),
        (2, "worker2", True, created, reach),
    ]
    assert watching.marks == 1


def test_a_watermark_before_the_confirmation_is_ahead_even_if_it_follows_at_once(watching, site):
    sends(watching, 1)
    writes(watching, 3)
    sends(watching, 2)
    assert ahead(watching, site) == [[2]]


def test_a_watermark_that_is_written_with_one_slice_outstanding_is_ahead_by_the_rows_of_that_slice(watching, site):
    site.rows = Source(rows=300).rows
    done = [row for row in site.rows if not 100 <= row < 200]
    sends(watching, *done)
    writes(watching, 301)
    sends(watching, *range(100, 200))  # a moment later
    assert ahead(watching, site) == [list(range(100, 200))]


def test_a_record_that_sqs_refused_is_not_confirmed(watching, site):
    sends(watching, 1, 2, failed=(2,))
    writes(watching, 3)
    assert ahead(watching, site) == [[2]]


def test_a_watermark_that_s3_refused_counts_for_nothing(watching, site):
    writes(watching, 3, status=412)
    assert ahead(watching, site) == []
    assert watching.marks == 0


def test_a_watermark_that_somebody_else_wrote_is_seen_in_s3(watching, site):
    assert ahead(watching, site, lambda: Stored(mark(3), "etag")) == [[1, 2]]
    assert ahead(watching, site, lambda: Stored(mark(3), "etag")) == [[1, 2]]  # once
    assert (watching.marks, watching.seen) == (0, 2)


def test_rows_that_appear_late_or_are_dead_letters_hold_no_watermark_back(watching, site):
    watching.late.add(1)
    site.dead.add(2)
    watching.late_spans.append((START + timedelta(seconds=3), START + timedelta(seconds=9), {4}))
    writes(watching, 4)
    assert ahead(watching, site) == []
    writes(watching, 5)
    assert ahead(watching, site) == [[4]]


def test_an_answer_that_was_not_passed_on_is_noted(watching, site):
    sends(watching, 1, reply=Reply(breaks="half"))
    assert [one.told for one in watching.deliveries] == [False]


def test_who_listens_hears_of_batches_and_watermarks_and_who_sent_them(watching):
    heard = []
    watching.heard = lambda *what: heard.append(what)
    assert not watching.drops(call("POST", "/", b"", "ReceiveMessage"))
    watching.drops(call("POST", "/", b"", "SendMessageBatch"))
    sends(watching, 1)
    writes(watching, 3)
    assert heard == [(what, "worker2") for what in ("before sending", "sending", "committing")]


@pytest.mark.parametrize("sprung", [True, False])
def test_a_batch_of_a_worker_that_was_killed_before_it_does_not_reach_sqs(watching, sprung):
    watching.heard = lambda *_: sprung
    assert watching.drops(call("POST", "/", b"", "SendMessageBatch")) == sprung
