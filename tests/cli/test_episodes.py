"""`run episodes` and `enqueue episodes` as a person uses them: real servers, a simulator, a worker."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import requests
from click.testing import CliRunner

from devservers import stack
from tests.fakes import beat_is_heard
from uaharvest import settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.runs.local import LocalHints
from uaharvest.sinks.sqlite import SqliteStore

NOW = datetime(2025, 3, 5, 12, tzinfo=UTC)  # by the clock of Opencast
YESTERDAY = NOW - timedelta(days=1)
INDEX = f"useractions-{YESTERDAY:%Y.%m.%d}"


class Workers:
    """What Celery would say."""

    def queues(self):
        return {}

    def alive(self, wait=None):
        return {}

    def hints(self, stream="useractions"):
        pytest.fail("nothing is to be enqueued")


class Site:
    """Useractions of yesterday in an SQLite file, and what the command line makes of them."""

    def __init__(self, environment, documents, monkeypatch):
        self.environment = environment
        self.store = SqliteStore(documents)
        self._patch = monkeypatch
        beat_is_heard(settings.load(environment))
        with urllib.request.urlopen(f"{environment['MATTERHORN_ENGAGE_HOST']}/_sim/episodes") as answer:
            self.episodes = json.load(answer)["episodes"]

    def watched(self, episodes, index=INDEX):
        events = [Document(index, f"{n}", {"mpid": episode["id"]}) for n, episode in enumerate(episodes)]
        list(self.store.write(events))

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
            timeout=60,
            check=False,
        )

    def indexed(self, index="episodes"):
        return {document["_id"] for document in self.store.select(index)}

    def status(self):
        return json.loads(self.manage("status", "--json").stdout)["streams"]["episodes"]


@pytest.fixture(scope="module")
def opencast():
    with stack.opencast_simulator("--rows", "10", "--episodes", "45") as server:
        offset = (NOW - datetime.now(UTC)).total_seconds()
        requests.post(f"{server.url}/_sim/clock", json={"offset_seconds": offset}, timeout=60).raise_for_status()
        yield server


@pytest.fixture
def empty_redis(redis, valkey_url):
    return valkey_url


@pytest.fixture
def site(opencast, empty_redis, bucket, tmp_path, monkeypatch):
    documents = tmp_path / "documents.db"
    yield Site(
        {
            "MATTERHORN_ENGAGE_HOST": opencast.url,
            "MATTERHORN_ADMIN_HOST": opencast.url,
            "MATTERHORN_REST_USER": "admin",
            "MATTERHORN_REST_PASS": "opencast",
            "OPENCAST_TIMEZONE": "America/Bogota",
            "REDIS_URL": empty_redis,
            "S3_HARVEST_TS_BUCKET": bucket,
            "DOCUMENTS_URL": f"sqlite:///{documents}",
            "HARVEST_OVERLAP_SECONDS": "0",
            # The host's clock may be ahead of the real one.
            "HARVEST_MAX_SKEW_SECONDS": "86400",
        },
        documents,
        monkeypatch,
    )
    settings.current.cache_clear()


def shown(episodes):
    return {episode["id"] for episode in episodes if episode["state"] != "gone"}


def test_yesterdays_episodes_are_indexed_and_the_watermark_moves_to_today(site):
    site.watched(site.episodes)
    done = site.manage("run", "episodes")
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == shown(site.episodes)
    assert f"1 window, {len(site.episodes)} episodes" in done.stderr
    assert f"done. {len(shown(site.episodes))} sent. 1 gone, " in done.stderr
    assert f"The watermark is {NOW:%Y-%m-%d} 00:00:00 UTC" in done.stderr
    again = site.manage("run", "episodes")
    assert again.exit_code == 0
    assert "nothing to do yet" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [("load_episodes", "--source_index_pattern"), ("load-episodes", "--source-index-pattern"), ("episodes", "-s")],
)
def test_the_old_name_and_both_spellings_work(site, arguments):
    name, option = arguments
    site.watched(site.episodes[:3], "useractions-2017.10.01")
    site.watched(site.episodes[3:6], "useractions-2017.10.02")
    site.watched(site.episodes[6:9], "useractions-2017.11.01")
    done = site.manage("run", name, option, "useractions*-2017.10.*")
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == shown(site.episodes[:6])
    assert "The watermark stays" in done.stderr


@pytest.mark.parametrize("command", ["run", "enqueue"])
def test_a_mistyped_pattern_is_an_error_that_names_it(site, monkeypatch, command):
    class Deaf(Workers):
        def hints(self, stream="useractions"):
            return LocalHints()

    monkeypatch.setattr(f"{__name__}.Workers", Deaf)
    site.watched(site.episodes[:3], "useractions-2017.10.01")
    done = site.manage(command, "episodes", "-s", "useractions-2018.*")
    assert done.exit_code == 2
    assert "no index matches 'useractions-2018.*'" in done.stderr
    assert site.status()["open_runs"] == []


def test_a_day_without_an_index_is_not_closed_and_history_that_comes_later_has_its_episodes(site):
    rows = [{"created": (YESTERDAY + timedelta(minutes=n)).timestamp()} for n in range(3)]
    url = f"{site.environment['MATTERHORN_ENGAGE_HOST']}/_sim/rows"
    site.watched(site.episodes[10:12], f"useractions-{YESTERDAY - timedelta(days=1):%Y.%m.%d}")
    requests.post(url, json={"rows": rows}, timeout=60).raise_for_status()
    done = site.manage("run", "episodes", OPENCAST_PROFILE="dce")
    assert done.exit_code == 4, done.stderr
    assert "but Opencast has 3 useractions of that day" in done.stderr
    assert site.manage("status").exit_code == 4
    assert site.indexed() == set()
    site.watched(site.episodes[:5])
    done = site.manage("run", "episodes", OPENCAST_PROFILE="dce")
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == shown(site.episodes[:5])
    assert site.manage("status").exit_code == 0


def test_one_episode_is_indexed_by_its_id_with_its_progress_shown(site):
    wanted = site.episodes[3]["id"]
    done = site.manage("run", "episodes", "--mpid", wanted, "--wait", "1", "--follow")
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == {wanted}
    assert "records 1" in done.stderr


def test_without_a_bucket_chosen_episodes_are_indexed_all_the_same(site):
    wanted = site.episodes[3]["id"]
    done = site.manage("run", "episodes", "--mpid", wanted, S3_HARVEST_TS_BUCKET="")
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == {wanted}


def test_an_episode_that_is_not_there_is_told(site):
    done = site.manage("run", "episodes", "--mpid", "nothing")
    assert done.exit_code == 0
    assert "done. 0 sent. 1 gone." in done.stderr


def test_another_index_leaves_the_watermark_alone(site):
    site.watched(site.episodes[:5])
    done = site.manage("run", "episodes", "--target-index", "episodes-new")
    assert done.exit_code == 0, done.stderr
    assert site.indexed("episodes-new") == shown(site.episodes[:5])
    assert "The watermark stays" in done.stderr
    assert site.status()["watermark"] is None


def test_hosts_and_login_can_be_given(site, opencast):
    wanted = site.episodes[3]["id"]
    away = {
        "MATTERHORN_ENGAGE_HOST": "http://127.0.0.1:1",
        "MATTERHORN_ADMIN_HOST": "http://127.0.0.1:1",
        "MATTERHORN_REST_USER": "",
        "MATTERHORN_REST_PASS": "",
    }
    options = ("-A", opencast.url, "-E", opencast.url, "-u", "admin", "-p", "opencast")
    done = site.manage("run", "episodes", "--mpid", wanted, *options, **away)
    assert done.exit_code == 0, done.stderr
    assert site.indexed() == {wanted}


def test_elasticsearch_on_the_command_line_is_asked_in_place_of_the_configured_store(site, monkeypatch):
    def no_episodes(given, *_, **__):
        raise HarvestError(f"{given.documents_url} {given.es_url}")

    monkeypatch.setattr("uaharvest.cli.episodes.episodes_engine", no_episodes)
    assert site.manage("run", "episodes", "--es_host", "es:9201").stderr == "None http://es:9201/\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "episodes", "--mpid", "a", "-s", "b"), "Expected one of them"),
        (("run", "episodes", "--mpid", ""), "is empty"),
        (("enqueue", "episodes", "--admin_host", "a"), "--admin-host: messages never contain connections"),
        (("enqueue", "episodes", "-E", "a"), "MATTERHORN_ENGAGE_HOST"),
        (("enqueue", "episodes", "-u", "a"), "MATTERHORN_REST_USER"),
        (("enqueue", "episodes", "-p", "geheim"), "MATTERHORN_REST_PASS"),
        (("enqueue", "load_episodes", "-e", "a"), "`manage.py run episodes` accepts this option"),
        (("enqueue", "episodes", "-t", "a"), "INDEX_INFIX"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(site, arguments, message):
    done = site.manage(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "geheim" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_not_set_is_named(site):
    done = site.manage("run", "episodes", MATTERHORN_ADMIN_HOST="")
    assert done.exit_code == 2
    assert "not set: MATTERHORN_ADMIN_HOST" in done.stderr


def test_the_engage_node_in_place_of_the_admin_node_is_told(site, opencast):
    done = site.manage("run", "episodes", MATTERHORN_ADMIN_HOST=f"{opencast.url}/nowhere")
    assert done.exit_code == 4
    assert "MATTERHORN_ADMIN_HOST is the admin node" in done.stderr
    assert site.manage("status").exit_code == 0  # it was this command's trouble, not yet the stream's


def test_status_and_watermark_tell_of_the_stream(site):
    site.watched(site.episodes)
    site.manage("run", "episodes")
    stream = site.status()
    assert stream["watermark"] == f"{NOW:%Y-%m-%d}T00:00:00Z"
    assert stream["last_runs"][0]["counts"]["gone"] == 1
    table = site.manage("status").stdout
    assert "episodes" in table
    assert "1 gone" in table
    assert (
        f"episodes: {NOW:%Y-%m-%d} 00:00:00 UTC" in site.manage("watermark", "show", "--stream", "episodes").stdout
    )
    set_back = site.manage("watermark", "set", f"{YESTERDAY:%Y-%m-%d}T12:00:00Z", "--stream", "episodes")
    assert set_back.exit_code == 0
    again = site.manage("run", "episodes")
    assert f"{len(shown(site.episodes))} sent" in again.stderr
    assert site.manage("watermark", "reset", "--yes", "--stream", "episodes").exit_code == 0
    assert site.status()["watermark"] is None


def test_without_what_they_need_status_knows_no_episodes(site):
    done = site.manage("status", "--json", MATTERHORN_ADMIN_HOST="")
    assert list(json.loads(done.stdout)["streams"]) == ["useractions"]


def test_the_workers_do_what_was_enqueued(site):
    site.watched(site.episodes[:20])
    site.watched(site.episodes[20:40], "useractions-2017.10.01")
    with ExitStack() as children:
        options = ("-c", "1", "-Q", "episodes,control", "--without-gossip", "--without-mingle")
        worker = children.enter_context(stack.celery("worker", *options, environment=site.environment))
        children.callback(worker.kill)
        manage = str(stack.ROOT / "manage.py")
        live = site.python(manage, "enqueue", "episodes", "--follow")
        assert live.returncode == 0, live.stderr + worker.output
        assert site.indexed() == shown(site.episodes[:20])
        assert site.status()["watermark"] == f"{NOW:%Y-%m-%d}T00:00:00Z"
        chosen = site.python(manage, "enqueue", "load_episodes", "-s", "useractions-2017.*", "--follow")
        assert chosen.returncode == 0, chosen.stderr + worker.output
        assert site.indexed() == shown(site.episodes[:40])
        assert "Task episodes.fetch" in worker.output


def test_before_its_hour_a_day_is_not_the_workers_yet(site, monkeypatch):
    class Deaf(Workers):
        def hints(self, stream="useractions"):
            return LocalHints()

    monkeypatch.setattr(f"{__name__}.Workers", Deaf)
    site.watched(site.episodes[:5])
    for follow in ([], ["--follow"]):  # what nobody may work at yet is waited for neither
        done = site.manage("enqueue", "episodes", *follow, EPISODES_AT="12:30")
        assert done.exit_code == 0, done.stderr
        assert "nothing to do yet" in done.stderr
        assert site.status()["open_runs"] == []
    site.manage("enqueue", "episodes", EPISODES_AT="11:30")
    assert site.status()["open_runs"][0]["expected"] == 5


def test_beat_asks_for_episodes_where_what_they_need_is_set(site):
    def schedule(**changes):
        script = "import celeryconfig, json; print(json.dumps(celeryconfig.beat_schedule))"
        return json.loads(site.python("-c", script, **changes).stdout)

    assert schedule()["episodes"]["task"] == "episodes.advance"
    assert "episodes" not in schedule(MATTERHORN_ADMIN_HOST="")
    assert "episodes" not in schedule(DOCUMENTS_URL="")
