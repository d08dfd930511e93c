import os
import subprocess
import sys

import pytest
from opensearchpy import OpenSearch

from devservers import cluster, elasticsearch, opensearch, stack
from devservers.cluster import CannotFetchError
from uaharvest.errors import BadInputError


def test_without_maven_it_says_how_to_have_one(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "_cache", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotFetchError, match=r"apt-get install maven.*ES_TEST_URL"):
        cluster.fetch(elasticsearch.PRODUCT, "9.1.0")
    assert list(tmp_path.iterdir()) == []


def test_what_maven_cannot_download_is_told_and_leaves_nothing_behind(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    maven = tmp_path / "bin" / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(cluster, "_cache", lambda: tmp_path / "cache")
    with pytest.raises(CannotFetchError, match=r"cannot download org.elasticsearch.*Could not transfer artifact"):
        cluster.fetch(elasticsearch.PRODUCT, "9.1.0")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "devservers.cluster", "opensearch-0.0.0"],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(stack.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(said.splitlines()) == 1
    assert "Maven" in said


@pytest.mark.long
@pytest.mark.fault
def test_it_keeps_what_it_holds_over_a_kill_and_forgets_it_on_request(elasticsearch_server):
    with cluster.serve(*elasticsearch_server) as server:
        with OpenSearch(server.url, retry_on_timeout=True, max_retries=3) as client:
            client.index(index="kept", id="1", body={})
            server.kill()
            server.start()
            assert client.exists(index="kept", id="1")
            server.stop()
            server.forget()
            server.start()
            assert not client.indices.exists(index="kept")
        assert server.running
    assert not server.directory.exists()


def test_a_version_alone_is_elasticsearchs():
    assert cluster.parse("8.19.0") == (elasticsearch.PRODUCT, "8.19.0")
    assert cluster.parse("elasticsearch-9.1.0") == (elasticsearch.PRODUCT, "9.1.0")
    assert cluster.parse("opensearch-3.8.0") == (opensearch.PRODUCT, "3.8.0")


@pytest.mark.parametrize("text", ["solr-9", "opensearch-", ""])
def test_another_server_is_refused(text):
    with pytest.raises(BadInputError, match="Expected elasticsearch-VERSION or opensearch-VERSION"):
        cluster.parse(text)
