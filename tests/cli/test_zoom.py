"""`run zoom` and `enqueue zoom` as a person uses them: real servers, a simulated account, a worker."""

import json
import os
import subprocess
import sys
import urllib.parse
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from click.testing import CliRunner

from devservers import stack
from tests.fakes import beat_is_heard
from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.keys import LISTS_HELD
from uaharvest.runs.local import PLANNED, LocalHints
from uaharvest.sinks.sqlite import SqliteStore
from uaharvest.streams.specs.zoom import quota as zoom_quota
from uaharvest.zoom.quota import Label

# By the account's clock; the day is the real one, for Zoom's window of six months ends there.
NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
TODAY, YESTERDAY, BEFORE = (f"{NOW - timedelta(days=back):%F}" for back in range(3))
MEETINGS = 30


class Workers:
    """What Celery would say."""

    def queues(self):
        return {}

    def alive(self, wait=None):
        return {}

    def hints(self, stream="useractions"):
        pytest.fail("nothing is to be enqueued")


class Site:
    """A simulated account, and what the command line makes of it."""

    def __init__(self, zoom, environment, documents, monkeypatch):
        self.url = zoom.url
        self.environment = environment
        self.store = SqliteStore(documents)
        self._patch = monkeypatch
        beat_is_heard(settings.load(environment))
        self.simulator("reset-requests", {})
        self.simulator("faults", method="DELETE")

    def simulator(self, path, body=None, method=None, **query):
        answer = requests.request(
            method or ("GET" if body is None else "POST"),
            f"{self.url}/_sim/{path}?{urllib.parse.urlencode(query)}",
            json=body,
            timeout=60,
        )
        assert answer.ok, answer.text
        return answer.json()

    def truth(self, day=YESTERDAY, to=None):
        return self.simulator("truth", **{"from": day, "to": to or day, "sessions": 1})

    def calls(self):
        return self.simulator("requests")

    def manage(self, *arguments, **changes):
        """Run a command in this process."""
        for name, value in {**self.environment, **changes}.items():
            self._patch.setenv(name, value)
        settings.current.cache_clear()
        return CliRunner().invoke(cli, arguments, obj=Context(Workers))

    def python(self, *arguments, **changes):
        """Run Python in a process of its own."""
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **self.environment, "PYTHONPATH": str(stack.ROOT), **changes},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def documents(self, pattern):
        return list(self.store.select(pattern))

    def status(self):
        return json.loads(self.manage("status", "--json").stdout)["streams"]["zoom"]


@pytest.fixture(scope="module")
def zoom():
    options = ["--days", "2", "--date", YESTERDAY, "--meetings", str(MEETINGS), "--now", f"{NOW:%FT%TZ}"]
    # Each test has used up nothing, as far as its own Redis knows.
    options += ["--limit", "heavy+resource-intensive=10000/s"]
    with stack.zoom_simulator(*options) as server:
        yield server


@pytest.fixture
def empty_redis(redis, valkey_url):
    return valkey_url


@pytest.fixture
def site(zoom, empty_redis, bucket, tmp_path, monkeypatch):
    documents = tmp_path / "documents.db"
    yield Site(
        zoom,
        {
            "ZOOM_ACCOUNT_ID": "account",
            "ZOOM_KEY": "key",
            "ZOOM_SECRET": "secret",
            "ZOOM_API_URL": f"{zoom.url}/v2/",
            "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
            "ZOOM_PLAN": "business",
            "REDIS_URL": empty_redis,
            "S3_HARVEST_TS_BUCKET": bucket,
            "DOCUMENTS_URL": f"sqlite:///{documents}",
            "OPENCAST_TIMEZONE": "UTC",
            # The account's clock may be ahead of the real one.
            "HARVEST_MAX_SKEW_SECONDS": "86400",
        },
        documents,
        monkeypatch,
    )
    settings.current.cache_clear()


def millis(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def keys(documents):
    """What tells sessions apart, as the account knows them: by meeting."""
    return Counter(
        (one["meeting"], one.get("participant_uuid", ""), one["user_id"] or "", millis(one["join_time"]))
        for one in documents
    )


def expected(truth):
    return {(one["uuid"], *key) for one in truth["meetings"] for key in one["sessions"]}


def assert_harvested(site, truth):
    """Assert that every meeting and session is there, once, and right."""
    meetings = {one["uuid"]: one for one in site.documents("meetings*")}
    assert meetings.keys() == {one["uuid"] for one in truth["meetings"]}
    sessions = keys(site.documents("sessions*"))
    assert set(sessions) == expected(truth)
    assert set(sessions.values()) == {1}
    for one in truth["meetings"]:
        document = meetings[one["uuid"]]
        assert document["host"].get("host_id") == one["host_id"]
        assert document["host"]["email"] == one["email"]
        # Guests of one name are one; who only waited is none.
        few, most = one["distinguishable"]  # Zoom shows no more
        assert few <= document["unique_participants"] <= most
        assert 0 <= document["peak_participants"] <= document["unique_participants"]
        if not one["defective"]:
            assert millis(document["start_time"]) // 1000 == one["start_ms"] // 1000
            seconds = (one["end_ms"] - one["start_ms"]) // 1000
            assert abs(document["duration"] - seconds) <= 1


def test_yesterdays_meetings_are_indexed_with_the_least_calls_and_the_watermark_moves(site):
    truth = site.truth()
    done = site.manage("run", "zoom", "--follow")
    assert done.exit_code == 0, done.stderr
    assert_harvested(site, truth)
    assert f"zoom: {YESTERDAY} (UTC), 1 day\n" in done.stderr
    assert f"done. {MEETINGS} sent. {truth['distinct']:,} sessions." in done.stderr
    assert f"The watermark is {TODAY} 00:00:00 UTC." in done.stderr
    endpoints = site.calls()["endpoints"]
    assert {name: endpoints[name] for name in truth["least_calls"]} == truth["least_calls"]
    again = site.manage("run", "zoom")
    assert again.exit_code == 0
    assert "nothing to do yet" in again.stderr
    assert site.calls()["endpoints"]["participants"] == truth["least_calls"]["participants"]


@pytest.mark.parametrize("arguments", [("--date", BEFORE), ("--from", BEFORE, "--to", BEFORE)])
def test_a_day_can_be_asked_for_and_the_watermark_stays(site, arguments):
    done = site.manage("run", "zoom", *arguments)
    assert done.exit_code == 0, done.stderr
    assert_harvested(site, site.truth(BEFORE))
    assert "The watermark stays at unset." in done.stderr


def test_what_is_over_of_today_can_be_asked_for(site):
    today = {one["uuid"] for one in site.truth(TODAY)["meetings"] if one["state"] == "past"}
    done = site.manage("run", "zoom", "--date", TODAY)
    assert done.exit_code == 0, done.stderr
    assert {one["uuid"] for one in site.documents("meetings*")} == today


def test_before_its_hour_a_day_is_not_the_workers_yet(site, monkeypatch):
    class Deaf(Workers):
        def hints(self, stream="useractions"):
            return LocalHints()

    monkeypatch.setattr(f"{__name__}.Workers", Deaf)
    done = site.manage("enqueue", "zoom", ZOOM_AT="12:30")
    assert done.exit_code == 0, done.stderr
    assert f"all days before {YESTERDAY} (UTC) are harvested" in done.stderr
    assert site.status()["open_runs"] == []
    site.manage("enqueue", "zoom", ZOOM_AT="11:30")
    assert site.status()["open_runs"][0]["slices"]["planned"] == MEETINGS


@pytest.fixture
def held(site, monkeypatch):
    """The lists of yesterday are being read by another worker, until `run` waits for it."""
    chosen = settings.load(site.environment)
    client = assembly.redis_client(chosen)
    key = LISTS_HELD(assembly.place(chosen, "zoom"), "live", YESTERDAY, YESTERDAY)
    client.set(key, "another")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        client.delete(key)

    monkeypatch.setattr("uaharvest.runs.local.time", SimpleNamespace(sleep=sleep))
    yield slept
    client.close()


def test_lists_that_a_worker_reads_already_are_waited_for(site, held):
    done = site.manage("run", "zoom")
    assert done.exit_code == 0, done.stderr
    assert held[0] == PLANNED
    assert_harvested(site, site.truth())


def test_a_harvest_that_a_worker_has_begun_already_is_enqueued_all_the_same(site, held, monkeypatch):
    monkeypatch.setattr(Workers, "hints", lambda *_: LocalHints())
    done = site.manage("enqueue", "zoom")
    assert done.exit_code == 0, done.stderr
    assert "the workers have it" in done.stderr


def test_a_range_is_both_days_included(site):
    done = site.manage("run", "zoom", "--from", BEFORE)
    assert done.exit_code == 0, done.stderr
    assert f"{BEFORE} to {YESTERDAY} (UTC), 2 days" in done.stderr
    assert_harvested(site, site.truth(BEFORE, YESTERDAY))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--date", "2026-13-01"), "--date: '2026-13-01' is not a date"),
        (("--date", "20261101"), "--date: '20261101' is not a date"),
        (("--date", "2026-1-1"), "--date: '2026-1-1' is not a date"),
        (("--date", BEFORE, "--from", BEFORE), "Expected one day, or a range"),
        (("--to", BEFORE), "--to is given without --from"),
        (("--from", YESTERDAY, "--to", BEFORE), f"--from {YESTERDAY} is after --to {BEFORE}"),
        (("--date", f"{NOW + timedelta(days=1):%F}"), "has not begun yet"),
        (("--date", f"{NOW - timedelta(days=400):%F}"), "six months"),
    ],
)
def test_days_that_cannot_be_are_told(site, arguments, told):
    done = site.manage("run", "zoom", *arguments)
    assert (done.exit_code, site.documents("*")) == (2, [])
    assert told in done.stderr


def test_printed_documents_go_nowhere_else(site, client):
    truth = site.truth()
    done = site.manage("run", "zoom", "--destination", "stdout", S3_HARVEST_TS_BUCKET="")
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    sessions = [line for line in lines if line["_index"].startswith("sessions-")]
    assert set(keys(sessions)) == expected(truth)
    meetings = [line for line in lines if line["_index"] == f"meetings-{YESTERDAY.replace('-', '.')}"]
    assert Counter(line["_id"] for line in meetings) == {one["uuid"]: 2 for one in truth["meetings"]}
    assert site.documents("*") == []
    counted = list(client.scan_iter("uaharvest:zoom:sessions:*"))
    assert len(counted) == MEETINGS
    assert all(":stdout:" in key for key in counted)


def test_other_credentials_are_for_this_run_only(site):
    done = site.manage("run", "zoom", "--key", "key", "--secret", "wrong")
    assert done.exit_code == 4
    assert "Check ZOOM_KEY and ZOOM_SECRET" in done.stderr
    done = site.manage("run", "zoom", "--key", "key", "--secret", "secret", ZOOM_KEY="other", ZOOM_SECRET="other")
    assert done.exit_code == 0, done.stderr
    assert "The watermark stays" in done.stderr
    assert len(site.documents("meetings*")) == MEETINGS


@pytest.mark.parametrize("option", ["--es_host", "--es-host"])
def test_both_spellings_work(site, option):
    assert f"{option.replace('_', '-')}: 'a b' cannot be used" in site.manage("run", "zoom", option, "a b").stderr


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (("--key", "k"), "ZOOM_KEY"),
        (("--secret", "s"), "ZOOM_SECRET"),
        (("--es_host", "h"), "ES_HOST"),
        (("--destination", "stdout"), "run zoom"),
    ],
)
def test_what_is_for_this_process_cannot_be_enqueued(site, arguments, setting):
    done = site.manage("enqueue", "zoom", *arguments)
    assert done.exit_code == 2
    assert setting in done.stderr


def test_a_watermark_of_over_six_months_says_how_to_move_on(site):
    old = f"{NOW - timedelta(days=200):%F}T00:00:00Z"
    assert site.manage("watermark", "set", old, "--stream", "zoom").exit_code == 0
    done = site.manage("run", "zoom")
    assert done.exit_code == 4
    hint = done.stderr.partition("Move on: manage.py ")[2].split()
    assert hint[:4] == ["watermark", "set", "--stream", "zoom"]
    assert site.manage(*hint[:5]).exit_code == 0
    assert site.status()["watermark"] == hint[4]


def test_a_missing_setting_is_named(site):
    done = site.manage("run", "zoom", ZOOM_SECRET="")
    assert done.exit_code == 2
    assert "not set: ZOOM_SECRET" in done.stderr


def test_without_the_dashboard_the_same_sessions_are_there_with_less_in_them(site):
    with_dashboard = site.manage("run", "zoom", "--date", YESTERDAY)
    assert with_dashboard.exit_code == 0, with_dashboard.stderr
    before = {one["_id"]: one for one in site.documents("sessions*")}
    site.simulator("options", {"dashboard": False})
    try:
        other = f"{site.environment['DOCUMENTS_URL']}.report"
        without = site.manage("run", "zoom", "--date", YESTERDAY, DOCUMENTS_URL=other)
    finally:
        site.simulator("options", {"dashboard": True})
    assert without.exit_code == 0, without.stderr
    store = SqliteStore(Path(other.removeprefix("sqlite:///")))
    sessions = {one["_id"]: one for one in store.select("sessions*")}
    assert set(sessions) <= set(before)  # a site that gets a Dashboard has no session twice
    # Reports have no sessions of who was alone, and are asked for by host: not of one who has left the account.
    meetings = site.truth()["meetings"]
    reported = {one["uuid"] for one in meetings if one["type"] == "past" and one["kind"] != "former-host"}
    assert {one["meeting"] for one in sessions.values()} == reported
    assert {id_ for id_, one in before.items() if one["meeting"] in reported} == set(sessions)
    for id_, one in sessions.items():
        assert one.get("duration") == before[id_].get("duration")
        assert not {"ip_address", "device", "share_desktop"} & one.keys()


def test_a_person_can_have_the_dashboard_asked_again_and_reports_took_nothing_away(site):
    site.manage("run", "zoom", "--date", YESTERDAY)
    before = {one["_id"]: one for one in site.documents("sessions*")}
    site.simulator("options", {"dashboard": False})
    try:
        done = site.manage("run", "zoom", "--date", YESTERDAY)
        assert done.exit_code == 0, done.stderr
        after = {one["_id"]: one for one in site.documents("sessions*")}
        assert after.keys() == before.keys()
        assert all(after[id_].items() >= one.items() for id_, one in before.items())  # and a registrant_id or two
    finally:
        site.simulator("options", {"dashboard": True})
    site.simulator("reset-requests", {})
    site.manage("run", "zoom", "--date", YESTERDAY)
    assert "participants" not in site.calls()["endpoints"]  # the reports were asked, for an hour
    site.simulator("reset-requests", {})
    done = site.manage("run", "zoom", "--date", YESTERDAY, "--dashboard")
    assert done.exit_code == 0, done.stderr
    assert "report-participants" not in site.calls()["endpoints"]
    assert_harvested(site, site.truth())


@pytest.mark.parametrize("kind", ["null-rows", "half-rows", "endless"])
@pytest.mark.parametrize(
    ("dashboard", "endpoint"), [(True, "meetings"), (True, "report-users"), (False, "report-users")]
)
def test_a_list_that_contradicts_itself_is_no_done(site, kind, dashboard, endpoint):
    site.simulator("options", {"dashboard": dashboard})
    try:
        site.simulator("faults", {"kind": kind, "endpoint": endpoint})
        done = site.manage("run", "zoom")
        assert (done.exit_code, site.status()["watermark"]) == (1, f"{YESTERDAY}T00:00:00Z")
        assert sum(site.calls()["endpoints"].values()) < 60
        site.simulator("faults", method="DELETE")
        done = site.manage("run", "zoom", "--dashboard")
        assert done.exit_code == 0, done.stderr
        assert site.status()["watermark"] == f"{TODAY}T00:00:00Z"
    finally:
        site.simulator("options", {"dashboard": True})


def test_a_meeting_of_which_half_the_participants_came_is_counted_and_completed_later(site):
    uuid = max(site.truth()["meetings"], key=lambda one: one["distinct"] if one["rows"] < 300 else 0)["uuid"]
    site.simulator("faults", {"kind": "half-rows", "endpoint": "participants", "uuid": uuid})
    done = site.manage("run", "zoom")
    assert (done.exit_code, "1 incomplete" in done.stderr) == (0, True)
    site.simulator("faults", method="DELETE")
    assert site.manage("watermark", "set", f"{YESTERDAY}T00:00:00Z", "--stream", "zoom").exit_code == 0
    assert site.manage("run", "zoom").exit_code == 0
    assert_harvested(site, site.truth())


def test_a_host_that_is_refused_is_replayed(site):
    site.simulator("options", {"dashboard": False})
    try:
        meetings = [one for one in site.truth()["meetings"] if one["host_id"] and one["type"] == "past"]
        host = meetings[0]["host_id"]
        site.simulator("faults", {"kind": "error", "code": 200, "endpoint": "report-user-meetings", "uuid": host})
        assert site.manage("run", "zoom", HARVEST_ATTEMPTS="1").exit_code == 5
        expected = {one["uuid"] for one in meetings}
        others = {one["uuid"] for one in meetings if one["host_id"] != host}
        assert {one["meeting"] for one in site.documents("sessions*")} == others
        site.simulator("faults", method="DELETE")
        replayed = site.manage("dead-letters", "replay", "--all")
        assert replayed.exit_code == 0, replayed.stderr
        assert {one["meeting"] for one in site.documents("sessions*")} == expected
    finally:
        site.simulator("options", {"dashboard": True})


def test_a_scope_that_is_missing_blocks_with_its_name(site):
    site.simulator("faults", {"kind": "error", "code": 4711, "endpoint": "meetings"})
    done = site.manage("run", "zoom")
    assert done.exit_code == 4
    assert "scope" in done.stderr
    assert site.status()["blocked"]["exit_code"] == 4


def test_status_and_watermark_tell_of_the_stream(site):
    site.manage("run", "zoom")
    stream = site.status()
    assert stream["watermark"] == f"{TODAY}T00:00:00Z"
    assert stream["last_runs"][0]["counts"]["sessions"] == site.truth()["distinct"]
    assert f"{MEETINGS} records, " in site.manage("status").stdout
    assert f"zoom: {TODAY} 00:00:00 UTC" in site.manage("watermark", "show", "--stream", "zoom").stdout
    assert site.manage("watermark", "set", f"{BEFORE}T12:00:00Z", "--stream", "zoom").exit_code == 0
    again = site.manage("run", "zoom")
    assert f"{2 * MEETINGS} sent" in again.stderr
    assert site.manage("watermark", "reset", "--yes", "--stream", "zoom").exit_code == 0
    assert site.status()["watermark"] is None


def test_status_tells_how_many_calls_were_made_and_that_the_days_are_used_up(site):
    site.manage("run", "zoom")
    heavy = site.calls()["labels"]["Heavy"]["calls"]
    assert f"calls today: Heavy {heavy} · Resource-intensive 2\n" in site.manage("status").stdout
    configured = settings.load(site.environment)
    quota = zoom_quota(configured, assembly.redis_client(configured))
    quota.refused(Label.HEAVY, {"X-RateLimit-Type": "Daily-limit", "Retry-After": "2099-01-01T00:00:00Z"}, "")
    told = json.loads(site.manage("status", "--json").stdout)["zoom_calls"]
    assert told["Heavy"]["exhausted_until"] == told["Resource-intensive"]["exhausted_until"]
    assert (
        f"Heavy {heavy} (used up until {datetime.now(UTC) + timedelta(days=1):%F} 00:0"
        in site.manage("status").stdout
    )


def test_without_what_it_needs_status_knows_no_zoom(site):
    done = site.manage("status", "--json", ZOOM_SECRET="")
    assert list(json.loads(done.stdout)["streams"]) == ["useractions"]


def test_a_dead_letter_is_replayed(site):
    uuid = site.truth()["meetings"][0]["uuid"]
    site.simulator("faults", {"kind": "error", "code": 1010, "endpoint": "participants", "uuid": uuid})
    done = site.manage("run", "zoom", HARVEST_ATTEMPTS="1")
    assert done.exit_code == 5
    assert uuid not in {one["meeting"] for one in site.documents("sessions*")}
    assert site.status()["dead_letters"] == 1
    assert site.manage("dead-letters", "replay", "--all").exit_code == 5  # it is not mended yet
    site.simulator("faults", method="DELETE")
    replayed = site.manage("dead-letters", "replay", "--all")
    assert replayed.exit_code == 0, replayed.stderr
    assert_harvested(site, site.truth())
    assert site.status()["dead_letters"] == 0


def test_the_workers_do_what_was_enqueued(site):
    with ExitStack() as children:
        options = ("-c", "2", "-Q", "zoom", "--without-gossip", "--without-mingle")
        worker = children.enter_context(stack.celery("worker", *options, environment=site.environment))
        children.callback(worker.kill)
        manage = str(stack.ROOT / "manage.py")
        live = site.python(manage, "enqueue", "zoom", "--follow")
        assert live.returncode == 0, live.stderr + worker.output
        assert_harvested(site, site.truth())
        assert site.status()["watermark"] == f"{TODAY}T00:00:00Z"
        chosen = site.python(manage, "enqueue", "zoom", "--date", BEFORE, "--follow")
        assert chosen.returncode == 0, chosen.stderr + worker.output
        assert_harvested(site, site.truth(BEFORE, YESTERDAY))
        assert "Task zoom.fetch_meeting" in worker.output


def test_beat_asks_for_meetings_where_what_they_need_is_set(site):
    def schedule(**changes):
        script = "import celeryconfig, json; print(json.dumps(celeryconfig.beat_schedule))"
        return json.loads(site.python("-c", script, **changes).stdout)

    assert schedule()["zoom"]["task"] == "zoom.advance"
    assert "zoom" not in schedule(ZOOM_KEY="")
    assert "zoom" in schedule(ZOOM_KEY="", ZOOM_HEADER="X-Api-Key: 1")
    assert "zoom" not in schedule(DOCUMENTS_URL="")


def test_the_status_has_the_names_of_the_assembly():
    assert assembly.watermark_key(settings.Settings(), "zoom") == "zoom-watermark"
