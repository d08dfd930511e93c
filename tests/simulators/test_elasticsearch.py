import os
import subprocess
import sys

import pytest
from elasticsearch import Elasticsearch

from simulators import elasticsearch, stack
from simulators.elasticsearch import CannotFetchError


def test_without_maven_it_says_how_to_have_one(monkeypatch, tmp_path):
    monkeypatch.setattr(elasticsearch, "_cache", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotFetchError, match=r"apt-get install maven.*ES_TEST_URL"):
        elasticsearch.fetch("9.1.0")
    assert list(tmp_path.iterdir()) == []


def test_what_maven_cannot_download_is_told_and_leaves_nothing_behind(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    maven = tmp_path / "bin" / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(elasticsearch, "_cache", lambda: tmp_path / "cache")
    with pytest.raises(CannotFetchError, match=r"cannot download org.elasticsearch.*Could not transfer artifact"):
        elasticsearch.fetch("9.1.0")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "simulators.elasticsearch", "--version", "0.0.0"],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(stack.ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(said.splitlines()) == 1
    assert "Maven" in said


@pytest.mark.fault
def test_it_keeps_what_it_holds_over_a_kill_and_forgets_it_on_request(elasticsearch_version):
    with elasticsearch.elasticsearch(elasticsearch_version) as server:
        with Elasticsearch(server.url) as client:
            client.index(index="kept", id="1", document={})
            server.kill()
            server.start()
            assert client.options(max_retries=3).exists(index="kept", id="1")
            server.stop()
            server.forget()
            server.start()
            assert not client.options(max_retries=3).indices.exists(index="kept")
        assert server.running
    assert not server.directory.exists()
