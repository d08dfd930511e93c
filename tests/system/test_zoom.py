"""A day of Zoom, harvested by real workers that beat wakes, from a simulated account that fails; all is there once."""

import contextlib
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import requests

from devservers import stack
from uaharvest import assembly, settings
from uaharvest.runs.ledger import Ledger, SliceCounts
from uaharvest.runs.state import StreamState
from uaharvest.sinks.documents import DocumentStore
from uaharvest.streams.specs.zoom import quota as zoom_quota
from uaharvest.zoom.quota import Label

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)  # by the account's clock
TODAY, YESTERDAY = (f"{NOW - timedelta(days=back):%F}" for back in range(2))

# A fifth of all calls, in the ways that pass.
FAULTS = (
    {"kind": "status", "status": 500, "share": 0.04},
    {"kind": "status", "status": 502, "share": 0.04},
    {"kind": "drop", "share": 0.04},
    {"kind": "truncate", "share": 0.03},
    {"kind": "invalid-json", "share": 0.03},
    {"kind": "error", "status": 200, "code": 300, "share": 0.01, "endpoint": "participants"},
    {"kind": "page-token", "share": 0.05, "endpoint": "participants"},
)


class Account:
    """A simulated account."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, body=None):
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{self.url}/_sim/{path}", json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def forget_faults(self):
        requests.delete(f"{self.url}/_sim/faults", timeout=30).raise_for_status()

    def truth(self):
        return self.ask(f"truth?from={YESTERDAY}&sessions=1")

    def calls(self):
        return self.ask("requests")


class Site:
    """Workers, beat, and what they write."""

    def __init__(self, environment):
        self.environment = environment
        self.settings = settings.load(environment)
        self.redis = assembly.redis_client(self.settings)
        self.ledger: Ledger = assembly.ledger(self.settings, self.redis, stream="zoom")
        self.state: StreamState = assembly.state(self.settings, self.redis, stream="zoom")
        self.store: DocumentStore = assembly.document_store(self.settings)

    @contextlib.contextmanager
    def at_work(self, workers, processes):
        """So many workers of so many processes, and beat."""
        with contextlib.ExitStack() as children:
            options = ("-c", str(processes), "-Q", "zoom", "--without-gossip", "--without-mingle")
            started = []
            for number in range(workers):
                worker = stack.celery("worker", "-n", f"worker{number}@%h", *options, environment=self.environment)
                children.enter_context(worker)
                children.callback(worker.kill)
                started.append(worker)
            children.enter_context(stack.celery("beat", "-s", "schedule", environment=self.environment))
            children.enter_context(stack.supervised(*started))
            yield started

    def delivered(self):
        run = self.ledger.live()
        return run.delivered if run else 0

    def done(self):
        return bool(self.state.history())

    def parked(self):
        """Tell whether all that is left waits, and nobody works."""
        run = self.ledger.live()
        return run is not None and self.ledger.slices(run.id) == SliceCounts(
            due=0, claimed=0, put_off=run.outstanding
        )

    def last(self):
        return self.state.history()[0]

    def sessions(self):
        return Counter(
            (one["meeting"], one.get("participant_uuid", ""), one["user_id"] or "", millis(one["join_time"]))
            for one in self.store.select("sessions*")
        )

    def meetings(self):
        return Counter(one["uuid"] for one in self.store.select("meetings*"))


def millis(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def until(is_so, what, seconds):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@contextlib.contextmanager
def account(meetings, *options, faults=()):
    """A simulated account with so many meetings yesterday."""
    usual = ("--people", "300", "--meetings", str(meetings), "--date", YESTERDAY, "--now", f"{NOW:%FT%TZ}")
    orders = [word for fault in faults for word in ("--fault", json.dumps(fault))]
    with stack.zoom_simulator(*usual, *options, *orders) as server:
        yield Account(server.url)


@pytest.fixture
def environment(redis, valkey_url, bucket):
    """The settings of a site, without account and document store."""
    return {
        "ZOOM_ACCOUNT_ID": "account",
        "ZOOM_KEY": "key",
        "ZOOM_SECRET": "secret",
        "ZOOM_PLAN": "business",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "OPENCAST_TIMEZONE": "UTC",
        # The account's clock may be ahead of the real one.
        "HARVEST_MAX_SKEW_SECONDS": "86400",
        "HARVEST_EVERY_SECONDS": "2",
        "HARVEST_LEASE_SECONDS": "6",
    }


def of(environment, zoom):
    return {**environment, "ZOOM_API_URL": f"{zoom.url}/v2/", "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token"}


def assert_all_is_there_once(site, zoom, capsys, seconds):
    truth, calls = zoom.truth(), zoom.calls()
    kinds = Counter(one["kind"] for one in truth["meetings"])
    made, least = sum(calls["endpoints"].values()), sum(truth["least_calls"].values())
    heavy = calls["labels"]["Heavy"]
    with capsys.disabled():
        floor = truth["least_calls"]["participants"] / heavy["limit"] * heavy["seconds"]
        print(  # noqa: T201 - the figures are worth reading
            f"\n{truth['count']:,} meetings, {truth['distinct']:,} sessions in {seconds:.0f} s (the quota's floor:"
            f" {floor:.0f} s); {made:,} calls, {least:,} at least; peak {heavy['peak']} of {heavy['limit']} a"
            f" {heavy['seconds']:g} s; answers {calls['statuses']}; {len(kinds)} kinds"
        )
    assert site.meetings() == {one["uuid"]: 1 for one in truth["meetings"]}
    expected = {(one["uuid"], *key) for one in truth["meetings"] for key in one["sessions"]}
    found = site.sessions()
    assert found.keys() == expected
    assert set(found.values()) == {1}
    # No call was more than the account has, as the account counts them.
    assert {label: one["refused"] for label, one in calls["labels"].items()} == dict.fromkeys(calls["labels"], 0)
    assert all(one["peak"] <= one["limit"] for one in calls["labels"].values())
    assert assembly.watermarks(site.settings, "zoom").read().mark.at == NOW.replace(hour=0)
    assert not list(assembly.dead_letters(site.settings).names())
    return kinds


def harvest(site, zoom, *, workers, processes, kill_at, seconds):
    """Let the workers harvest, and kill one of them at each of these shares of all meetings; return the seconds."""
    count = zoom.truth()["count"]
    began = time.monotonic()
    with site.at_work(workers, processes) as started:
        for number, share in enumerate(kill_at):
            until(lambda share=share: site.delivered() >= share * count, f"{share:.0%} was not harvested", seconds)
            started[number % workers].kill()
        until(site.done, f"not done: {site.ledger.live()}", seconds)
    return time.monotonic() - began


def test_a_day_of_a_hundred_meetings_with_faults_and_a_killed_worker(environment, tmp_path, capsys):
    environment["DOCUMENTS_URL"] = f"sqlite:///{tmp_path / 'documents.db'}"
    with account(100, faults=FAULTS) as zoom:
        site = Site(of(environment, zoom))
        took = harvest(site, zoom, workers=2, processes=2, kill_at=(0.2,), seconds=90)
        assert_all_is_there_once(site, zoom, capsys, took)
        assert site.last().delivered >= 100


REFUSALS = [
    {"kind": "status", "status": 403},  # a web page of a WAF
    {"kind": "status", "status": 404},  # a proxy that takes no %2F
    {"kind": "foreign", "status": 400},  # {"message"} without a code of Zoom's
    {"kind": "error", "code": 200},  # as an account without a Dashboard
    {"kind": "error", "code": 4711},
]


def test_meetings_that_are_refused_alone_are_dead_letters_and_hold_back_nothing(environment, tmp_path):
    environment |= {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}", "HARVEST_ATTEMPTS": "2"}
    with account(14) as zoom:
        site = Site(of(environment, zoom))
        meetings = zoom.truth()["meetings"]
        refused = [one["uuid"] for one in meetings if one["type"] == "past"][: len(REFUSALS)]
        for uuid, fault in zip(refused, REFUSALS, strict=True):
            zoom.ask("faults", {**fault, "endpoint": "participants", "uuid": uuid})
        with site.at_work(1, 2):
            until(site.done, f"not done: {site.ledger.live()}", 120)
        dead_letters = assembly.dead_letters(site.settings)
        dead = {
            letter.payload["uuid"]: letter.reason for letter in map(dead_letters.get, dead_letters.names("zoom"))
        }
        assert dead.keys() == set(refused)
        assert all("answers for others" in reason for reason in dead.values())
        harvested = {uuid for uuid, *_ in site.sessions()}
        assert harvested == {one["uuid"] for one in meetings} - set(refused)
        assert assembly.watermarks(site.settings, "zoom").read().mark.at == NOW.replace(hour=0)
        assert site.last().dead_letters == len(refused)
        assert assembly.state(site.settings, stream="zoom").blocked() is None
        calls = zoom.calls()
        # Others were asked once in a while, and the reports never.
        assert "report-participants" not in calls["endpoints"]
        assert calls["endpoints"]["participants"] <= 14 + 4 * len(refused) + 12


@pytest.mark.parametrize("fault", [REFUSALS[0], REFUSALS[2], REFUSALS[4]])
def test_what_is_refused_of_all_meetings_blocks_and_heals(environment, tmp_path, fault):
    environment |= {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}", "HARVEST_ATTEMPTS": "2"}
    with account(6) as zoom:
        site = Site(of(environment, zoom))
        zoom.ask("faults", {**fault, "endpoint": "participants"})
        with site.at_work(1, 2):
            until(assembly.state(site.settings, stream="zoom").blocked, "not blocked", 60)
            zoom.forget_faults()
            until(site.done, f"not done: {site.ledger.live()}", 120)
        assert assembly.state(site.settings, stream="zoom").blocked() is None
        assert sum(site.sessions().values()) == zoom.truth()["distinct"]
        assert not list(assembly.dead_letters(site.settings).names())


def test_hosts_that_are_refused_alone_are_dead_letters_and_hold_back_no_other(environment, tmp_path):
    environment |= {"DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}", "ZOOM_PLAN": "pro"}
    environment["HARVEST_ATTEMPTS"] = "2"
    with account(24, "--people", "8", "--plan", "pro", "--limit", "heavy=40/s") as zoom:
        site = Site(of(environment, zoom))
        meetings = [one for one in zoom.truth()["meetings"] if one["host_id"] and one["type"] == "past"]
        refused = sorted({one["host_id"] for one in meetings})[:3]
        faults = [
            {"kind": "error", "code": 200},
            {"kind": "status", "status": 403},
            {"kind": "error", "code": 300},
        ]
        for host, fault in zip(refused, faults, strict=True):
            zoom.ask("faults", {**fault, "endpoint": "report-user-meetings", "uuid": host})
        with site.at_work(1, 2):
            until(site.done, f"not done: {site.ledger.live()}", 120)
        dead_letters = assembly.dead_letters(site.settings)
        assert sorted(dead_letters.get(name).payload["host"] for name in dead_letters.names("zoom")) == refused
        assert {uuid for uuid, *_ in site.sessions()} == {
            one["uuid"] for one in meetings if one["host_id"] not in refused
        }
        assert assembly.watermarks(site.settings, "zoom").read().mark.at == NOW.replace(hour=0)


@pytest.mark.long
@pytest.mark.fault
def test_a_day_of_two_thousand_meetings_with_faults_and_killed_workers(
    environment, templates, elasticsearch_url, capsys
):
    environment["ES_HOST"] = elasticsearch_url
    with account(2000, faults=FAULTS) as zoom:
        site = Site(of(environment, zoom))
        took = harvest(site, zoom, workers=2, processes=4, kill_at=(0.2, 0.5, 0.8), seconds=400)
        site.store._client.indices.refresh(index="_all")
        kinds = assert_all_is_there_once(site, zoom, capsys, took)
    assert {
        "alone",
        "long",
        "large",
        "slash",
        "double-slash",
        "slash-alone",
        "guests",
        "breakouts",
    } <= kinds.keys()


@pytest.mark.fault
def test_a_days_quota_that_is_used_up_parks_the_run_and_it_resumes(environment, tmp_path, redis):
    environment["DOCUMENTS_URL"] = f"sqlite:///{tmp_path / 'documents.db'}"
    with account(40, "--limit", "heavy=60/day") as zoom:
        site = Site(of(environment, zoom))
        zoom.ask("consume", {"label": "Heavy", "calls": 40})  # as another app of the account does
        with site.at_work(1, 2):
            until(site.parked, "not parked", 30)
            calls = zoom.calls()["labels"]["Heavy"]
            assert calls["refused_by_day"] <= 2  # each process may have been under way
            usage = zoom_quota(site.settings, site.redis).usage()[Label.HEAVY]
            assert usage.exhausted_until - datetime.now(UTC) > timedelta(hours=11)  # it is noon there
            midnight_comes(zoom, redis)
            until(site.done, f"not resumed: {site.ledger.live()}", 30)
        assert zoom.calls()["labels"]["Heavy"]["refused_by_day"] == calls["refused_by_day"]
        assert set(site.meetings()) == {one["uuid"] for one in zoom.truth()["meetings"]}
        assert sum(site.sessions().values()) == zoom.truth()["distinct"]


def midnight_comes(zoom, redis):
    """Let a day's calls be there again, at the account and here, and what waits for them be due."""
    zoom.ask("options", {"limit": ["heavy=60000/day"]})
    for pattern in ("uaharvest:zoom:*:used:*", "uaharvest:zoom:*:spent:*"):
        for key in redis.scan_iter(pattern):
            redis.delete(key)
    for key in redis.scan_iter("uaharvest:run:*:due"):
        redis.zadd(key, dict.fromkeys(redis.zrange(key, 0, -1), 0))
