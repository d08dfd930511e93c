"""`manage.py dev` on this machine: real servers that stay, and a stub in place of Docker."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from redis import Redis

from devservers import compose
from devservers.keeper import Keeper
from devservers.stack import ROOT
from uaharvest import settings

PATIENCE = 120
DOCKER = """#!/bin/sh
printf '%s\\n' "VERSION=$VERSION $*" >> "$DOCKER_LOG"
case "$*" in *" up "*) echo 'no space left on device' >&2; exit "${DOCKER_FAILS:-0}";; esac
"""


class Folder:
    """A folder in which a developer runs `manage.py dev`."""

    def __init__(self, path, **environment):
        self.path = path
        self.keeper = Keeper(path)
        self.environment = {**os.environ, **environment}

    def begin(self, *arguments):
        return subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "dev", *arguments],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dev(self, *arguments, status=0):
        process = self.begin(*arguments)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, said
        return said

    def keeper_pid(self):
        return int((self.path / ".dev" / "lock").read_text())

    def settings(self):
        return settings.load({}, self.path / ".env.dev")


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    yield made
    made.keeper.stop()


@pytest.fixture
def with_docker(tmp_path):
    """A folder, and a `docker` that does nothing but write down what it is asked to do."""
    programs = tmp_path / "bin"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    log = tmp_path / "docker.log"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    made = Folder(tmp_path, PATH=path, DOCKER_LOG=str(log))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        patch.setenv("DOCKER_LOG", str(log))
        yield made, lambda: log.read_text().splitlines()
        made.keeper.stop()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def ping(url):
    with Redis.from_url(url) as client:
        return client.ping()


def nothing_answers(state):
    return not any(server.answers() for server in state.servers)


@pytest.mark.fault
@pytest.mark.long
def test_servers_stay_until_they_are_told_to_end(folder):
    assert "export UAHARVEST_ENV_FILE=.env.dev" in folder.dev("up", "--documents", "sqlite", "--no-docker")
    state = folder.keeper.state()
    assert [server.name.split(",")[0] for server in state.servers] == [
        "Valkey",
        "SQS and S3 stand-in",
        "Opencast simulator",
        "Zoom simulator",
    ]
    assert (folder.path / ".env.dev").stat().st_mode & 0o777 == 0o600
    found = folder.settings()
    assert ping(found.redis_url)
    pid = folder.keeper_pid()

    # A second `up` changes nothing.
    folder.dev("up")
    assert folder.keeper_pid() == pid
    assert folder.settings() == found
    said = folder.dev("up", "--documents", "elasticsearch-9.1.0", status=2)
    assert "The servers run with sqlite" in said

    # A server that dies comes back where it was.
    with Redis.from_url(found.redis_url) as client:
        before = client.info()["process_id"]
        os.kill(before, signal.SIGKILL)
    until(state.servers[0].answers)
    until(lambda: "Valkey" in folder.dev("status"))
    with Redis.from_url(found.redis_url) as client:
        assert client.info()["process_id"] != before

    assert "All of it is gone" in folder.dev("down")
    assert nothing_answers(state)
    assert list(folder.path.iterdir()) == []
    assert "Nothing is running" in folder.dev("status", status=1)
    assert "Nothing is running" in folder.dev("down")


def test_an_unknown_store_is_refused_before_anything_starts(folder):
    said = folder.dev("up", "--documents", "solr-9.0.0", status=2)
    assert "'solr-9.0.0' is no document store" in said
    assert list(folder.path.iterdir()) == []


def test_install_kopf_says_what_took_its_place(folder):
    assert "Kibana" in folder.dev("install_kopf")


@pytest.mark.fault
@pytest.mark.long
def test_servers_end_with_a_keeper_that_is_killed_and_start_again(folder):
    folder.dev("up", "--documents", "sqlite", "--no-docker")
    state = folder.keeper.state()
    os.kill(folder.keeper_pid(), signal.SIGKILL)
    until(lambda: nothing_answers(state))
    assert "Nothing is running" in folder.dev("status", status=1)
    folder.dev("up", "--documents", "sqlite", "--no-docker")
    folder.dev("status")
    os.kill(folder.keeper_pid(), signal.SIGKILL)
    until(lambda: not folder.keeper.running())
    folder.dev("down")
    assert list(folder.path.iterdir()) == []


@pytest.mark.fault
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_up_that_is_broken_off_leaves_nothing_running(folder, by):
    process = folder.begin("up", "--documents", "sqlite", "--no-docker")
    until(lambda: "simulators" in process.stdout.readline())
    until(folder.keeper.running)
    os.kill(process.pid, by)
    process.communicate(timeout=PATIENCE)
    if by == signal.SIGINT and process.returncode:  # 0: it was done before the signal came
        until(lambda: not folder.keeper.running())
    else:
        until(lambda: not folder.keeper.running() or folder.keeper.state())
    folder.dev("down")
    assert list(folder.path.iterdir()) == []


@pytest.mark.fault
@pytest.mark.long
def test_of_two_that_start_at_once_one_is_refused_and_the_other_works(folder):
    both = [folder.begin("up", "--documents", "sqlite", "--no-docker") for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 1]), said
    assert sum("at work here" in lines for lines in said) == sum(process.returncode for process in both)
    folder.dev("status")


# With Docker


@pytest.mark.fault
@pytest.mark.long
def test_containers_are_started_and_removed_with_compose(with_docker):
    folder, asked = with_docker
    # The stub starts nothing, so Redis and the others do not answer.
    said = folder.dev("up", "--documents", "opensearch-3.8.0", status=1)
    assert "Kibana" not in said
    assert "OpenSearch Dashboards" in said
    state = folder.keeper.state()
    assert state.docker
    [up] = [line for line in asked() if " up " in line]
    project = re.search(r"--project-name (\S+)", up)[1]
    assert up == (
        f"VERSION=3.8.0 compose --project-name {project} --file {compose.FILE}"
        " --profile opensearch up --detach --wait"
    )
    assert folder.settings().es_url.startswith("http://127.0.0.1:")
    folder.dev("down")
    assert asked()[-1].endswith("--profile elasticsearch --profile opensearch down --volumes --remove-orphans")
    assert not (folder.path / ".dev").exists()


@pytest.mark.fault
@pytest.mark.long
def test_containers_that_do_not_start_are_removed_and_the_reason_is_shown(with_docker):
    folder, asked = with_docker
    folder.environment["DOCKER_FAILS"] = "1"
    assert "no space left on device" in folder.dev("up", status=1)
    assert " down --volumes" in asked()[-1]
    assert not folder.keeper.running()


@pytest.mark.fault
@pytest.mark.long
def test_containers_of_a_keeper_that_was_killed_are_removed_by_down(with_docker):
    folder, asked = with_docker
    folder.dev("up", "--documents", "sqlite", status=1)
    os.kill(folder.keeper_pid(), signal.SIGKILL)
    until(lambda: not folder.keeper.running())
    assert not [line for line in asked() if " down " in line]
    folder.dev("down")
    assert " down --volumes" in asked()[-1]


def test_the_containers_are_open_to_this_host_only_and_of_the_versions_that_are_tested():
    services = yaml.safe_load(compose.FILE.read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("127.0.0.1:${") for port in ports)
    version = services["aws"]["image"].rpartition(":")[2]
    assert f"ministack=={version} " in (ROOT / "requirements-dev.txt").read_text()
    assert set(compose.DASHBOARDS) == {
        service["profiles"][0] for service in services.values() if "profiles" in service
    }
