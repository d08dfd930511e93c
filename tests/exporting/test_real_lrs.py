"""`export xapi --to lrs` with a real LRS: Ralph, which keeps its statements in the test Elasticsearch."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest
import requests

from devservers import elasticsearch, ralph, stack
from devservers.proxy import Proxy, Reply
from tests.commands import manage
from tests.exporting import site
from uaharvest.errors import Exit
from uaharvest.exporting.xapi import lrs as sender
from uaharvest.sinks.sqlite import SqliteStore

pytestmark = [pytest.mark.fault, pytest.mark.elasticsearch]  # it installs Ralph, which takes time
LECTURES = [f"lecture {number}" for number in range(4)]
USER, PASSWORD = "uaharvest", "a-word-for-tests"


@pytest.fixture(scope="module")
def server(elasticsearch_server, elasticsearch_url):
    if elasticsearch_server[0] is not elasticsearch.PRODUCT:
        pytest.skip("Ralph speaks to Elasticsearch only")
    index = f"statements-{uuid.uuid4().hex}"
    try:
        ralph.install()
    except ralph.CannotInstallError as error:
        if os.environ.get("ES_REQUIRED"):
            raise
        pytest.skip(str(error))
    with ralph.serve(elasticsearch_url, index, USER, PASSWORD) as server:
        yield server.url, f"{elasticsearch_url}/{index}"
    requests.delete(f"{elasticsearch_url}/{index}", timeout=30)


@pytest.fixture
def kept(server):
    """Returns the ids of all statements that the LRS keeps, as often as it has them; it begins with none."""
    _, index = server
    requests.delete(index, timeout=30)
    requests.put(index, timeout=30).raise_for_status()  # without it, Ralph answers 500

    def kept():
        requests.post(f"{index}/_refresh", timeout=30).raise_for_status()
        found = requests.post(f"{index}/_search", json={"size": 10_000, "_source": ["id"]}, timeout=30)
        return sorted(hit["_source"]["id"] for hit in found.json()["hits"]["hits"])

    return kept


@pytest.fixture
def environment(server, bucket, tmp_path):
    _, documents = site.watched(3, ["heartbeats", "events+heartbeats"], each=8, recordings=LECTURES)
    meeting = site.session("s1", "2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z")
    list(SqliteStore(tmp_path / "documents.db").write([*documents, *map(site.episode, LECTURES), meeting]))
    return {
        "DOCUMENTS_URL": f"sqlite:///{tmp_path}/documents.db",
        "MATTERHORN_ENGAGE_HOST": site.HOME,
        "S3_HARVEST_TS_BUCKET": bucket,
        "LRS_URL": server[0],
        "LRS_USER": USER,
        "LRS_PASSWORD": PASSWORD,
    }


@pytest.fixture
def expected(environment):
    """The ids of all statements."""
    lines = manage("export", "xapi", environment=environment).stdout.splitlines()
    ids = sorted(json.loads(line)["id"] for line in lines)
    assert len(ids) == len(set(ids)) > 4 * sender.BATCH
    return ids


SEND = ("export", "xapi", "--to", "lrs")


def test_ralph_keeps_each_statement_once_and_a_repeat_adds_nothing(environment, expected, kept, server):
    for _ in range(2):
        done = manage(*SEND, environment=environment)
        assert (done.returncode, done.stderr) == (Exit.DONE, f"{len(expected):,} statements sent\n")
        assert kept() == expected


def test_an_export_that_is_killed_half_way_is_resumed(environment, expected, kept, server):
    posts, reached, killed = [], threading.Event(), threading.Event()

    def stop_at_the_third(call):
        posts.append(call)
        if len(posts) < 3:
            return None
        reached.set()
        killed.wait(120)
        return Reply(breaks="reset")

    with Proxy(server[0].removesuffix("/xAPI")) as proxy:
        proxy.rule = stop_at_the_third
        cut = {**environment, "LRS_URL": f"{proxy.url}/xAPI"}
        with subprocess.Popen(
            [sys.executable, str(stack.ROOT / "manage.py"), *SEND], env=os.environ | cut
        ) as process:
            assert reached.wait(120)
            process.send_signal(signal.SIGKILL)
        killed.set()
        proxy.pass_all()
        half = kept()
        assert 0 < len(half) < len(expected)
        done = manage(*SEND, environment=cut)
    assert done.returncode == Exit.DONE, done.stderr
    assert kept() == expected
    assert done.stderr.startswith("continues after recording ")
    sent = int(done.stderr.splitlines()[-1].split()[0].replace(",", ""))
    assert len(expected) - len(half) <= sent < len(expected)


@pytest.mark.parametrize("wrong", [{"LRS_PASSWORD": "another"}, {"LRS_USER": "another"}])
def test_wrong_credentials_are_one_clear_line(environment, kept, wrong):
    done = manage(*SEND, environment={**environment, **wrong})
    assert done.returncode == Exit.BLOCKED
    assert done.stderr.splitlines() == [
        f"LRS at {environment['LRS_URL']}/statements denied access (401). Check LRS_USER and LRS_PASSWORD."
    ]
    assert kept() == []
