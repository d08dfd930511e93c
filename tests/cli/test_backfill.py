"""`backfill` as a person uses it; workers, S3 and Opencast are fakes."""

import json
from types import SimpleNamespace

import pytest
import redis
from click.testing import CliRunner

from tests.fakes import at
from tests.runs.test_backfiller import History
from uaharvest import settings as settings_
from uaharvest.cli import backfill as backfill_
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import Exit, RetryableError

HOUR_AGO, NOON = "2026-03-03T11:00:00Z", "2026-03-03T12:00:00Z"
SPAN = ("--start", HOUR_AGO, "--end", NOON)


@pytest.fixture
def site(client, valkey_url, monkeypatch):
    history = History(client)
    settings = {"REDIS_URL": valkey_url, "S3_HARVEST_TS_BUCKET": "bucket", "SQS_QUEUE_NAME": "queue"}
    for name, value in (settings | {"MATTERHORN_ENGAGE_HOST": "engage.example.edu"}).items():
        monkeypatch.setenv(name, value)
    settings_.current.cache_clear()
    monkeypatch.setattr(backfill_.assembly, "backfills", lambda settings, stream: history.stored)
    monkeypatch.setattr(backfill_.assembly, "streams", lambda settings: ["useractions"])
    monkeypatch.setattr(backfill_, "backfiller", lambda stream, settings, hints, to: history.made)
    monkeypatch.setattr(backfill_.time, "sleep", lambda seconds: history.work(most=1))
    workers = SimpleNamespace(backfill_hints=lambda stream, to: history.mailbox)

    def run(*arguments):
        return CliRunner().invoke(cli, ["backfill", *arguments], obj=Context(lambda: workers))

    yield SimpleNamespace(run=run, history=history)
    settings_.current.cache_clear()


def test_a_dry_run_counts_and_starts_nothing(site):
    site.history.world.opencast.add(*map(at, range(-3000, -1000, 100)))
    done = site.run("useractions", *SPAN, "--rate", "10", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "1 window of a day at most, 20 useractions, at 10 rows/s about 2 s" in done.stdout
    assert site.history.stored.read() == {}
    assert "no backfills" in site.run("list").stderr


def test_a_backfill_is_shown_to_its_end(site):
    ids = site.history.world.opencast.add(*map(at, range(-3000, -1000, 100)))
    done = site.run("useractions", *SPAN, "--rate", "1000000")
    assert done.exit_code == 0, done.output
    assert "done, 100.0% done, 20 rows. The watermark stays." in done.stderr
    assert site.history.sent == ids
    [one] = map(json.loads, site.run("list", "--json").stdout.splitlines())
    assert (one["state"], one["rows"], one["rate"], one["share"]) == ("done", 20, 1_000_000, 1.0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RetryableError("S3 does not answer."), "S3 does not answer. Looking again"),
        (redis.ConnectionError("gone"), "Redis at 127.0.0.1:"),
    ],
)
def test_who_follows_a_backfill_goes_on_after_an_outage_that_workers_survive(site, monkeypatch, error, said):
    ids = site.history.world.opencast.add(*map(at, range(-3000, -1000, 100)))
    looks = iter([error, error])

    def failures(*_):
        if (failed := next(looks, None)) is not None:
            raise failed
        return []

    monkeypatch.setattr(backfill_, "LINE_EVERY", 0.0)
    monkeypatch.setattr(backfill_, "_failures", failures)
    done = site.run("useractions", *SPAN, "--rate", "1000000")
    assert done.exit_code == 0, done.output
    assert done.stderr.count(said) == 1
    assert "the backfill is not stopped" in done.stderr
    assert site.history.sent == ids


def test_ctrl_c_stops_it_and_resume_goes_on_until_then_the_span_is_taken(site, monkeypatch):
    ids = site.history.world.opencast.add(*map(at, range(-3000, -1000, 100)))

    def interrupted(seconds):
        site.history.work(most=3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backfill_.time, "sleep", interrupted)
        done = site.run("useractions", *SPAN)
    [one] = site.history.stored.read().values()
    assert (done.exit_code, one.state) == (Exit.ERROR, "stopped")
    assert f"manage.py backfill resume {one.id}" in done.stderr
    refused = site.run("useractions", *SPAN)
    assert refused.exit_code == Exit.USAGE
    assert "overlaps" in refused.stderr
    shown = site.run("status", one.id[:5])
    assert "stopped" in shown.stdout
    resumed = site.run("resume", one.id, "--rate", "77", "--follow")
    assert resumed.exit_code == 0, resumed.output
    assert sorted(site.history.world.sink.arrived) == ids
    assert site.history.of(one).rate == 77


def test_a_broker_that_is_down_is_reported_but_the_backfill_is_stored_for_the_next_tick(site):
    def down(run_id):
        raise RetryableError("Celery's broker takes no messages.")

    site.history.mailbox.advance = down
    done = site.run("useractions", *SPAN, "--detach")
    assert done.exit_code == 0
    assert "will begin at beat's next tick: Celery's broker takes no messages" in done.stderr
    assert [one.state for one in site.history.stored.read().values()] == ["running"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("useractions", "--start", NOON, "--end", HOUR_AGO),
            "--end 2026-03-03 11:00:00 UTC is not after --start",
        ),
        (
            ("useractions", "--start", HOUR_AGO, "--end", "2026-03-04"),
            "is after the watermark, 2026-03-03 12:00:00",
        ),
        (("useractions", "--start", "yesterday", "--end", NOON), "--start: 'yesterday' is not a date"),
        (("useractions", *SPAN, "--rate", "0"), "--rate"),
        (("zoom", "--start", HOUR_AGO, "--end", "2026-03-04"), "Expected 2026-03-03 or 2026-03-04."),
        (("stop", "abc"), "no backfill has an id that begins with 'abc'"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_was_expected(site, arguments, said):
    done = site.run(*arguments)
    assert done.exit_code == Exit.USAGE
    assert said in done.stderr
    assert site.history.stored.read() == {}


def test_only_a_backfill_that_does_not_run_can_be_dropped(site):
    site.run("useractions", *SPAN, "--detach")
    [one] = site.history.stored.read()
    refused = site.run("drop", one)
    assert (refused.exit_code, f"Stop it first: manage.py backfill stop {one}" in refused.stderr) == (2, True)
    assert site.run("stop", one).exit_code == 0
    assert site.run("drop", one).exit_code == 0
    assert site.history.stored.read() == {}
