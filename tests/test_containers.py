"""The container files, as far as they can be checked without an engine."""

import fnmatch
import re
import shutil
import subprocess

import pytest
import yaml
from celery.bin.celery import celery

import celeryconfig
from simulators.elasticsearch import VERSIONS
from simulators.stack import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
INSTRUCTIONS = [
    line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if re.match(r"[A-Z]+ ", line)
]
OWN = [name for name, service in SERVICES.items() if "build" in service]


def sources():
    return [source for word, *paths in INSTRUCTIONS if word == "COPY" for source in paths[:-1]]


def has_compose():
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    )


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


@pytest.mark.parametrize("name", OWN)
def test_a_service_of_ours_calls_a_celery_command_that_exists_with_options_that_exist(name):
    program, app_option, app, subcommand, *arguments = SERVICES[name]["command"]
    assert (program, app_option, app) == ("celery", "-A", "tasks")
    command = celery.commands[subcommand]
    if subcommand != "flower":  # which parses its options itself
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("-")} <= known


@pytest.mark.parametrize("name", ["opencast", "zoom"])
def test_the_simulator_that_compose_runs_exists(name):
    module = SERVICES[name]["command"][2]
    assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()


def test_every_variable_that_compose_asks_for_stands_in_example_env():
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE))
    offered = set(re.findall(r"^#? ?(\w+)=", (ROOT / "example.env").read_text(), re.MULTILINE))
    assert asked
    assert asked <= offered


@pytest.mark.parametrize(
    "image", [service["image"] for service in SERVICES.values()] + [line[1] for line in INSTRUCTIONS[:1]]
)
def test_images_are_pinned_to_a_version(image):
    assert re.fullmatch(r"[\w/]+:\d+\.\d+[\w.-]*", image)


def test_the_stand_in_for_aws_is_the_version_that_the_tests_use():
    version = SERVICES["ministack"]["image"].rpartition(":")[2]
    assert f"ministack=={version} " in (ROOT / "requirements-dev.txt").read_text()


def test_redis_forgets_nothing():
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_a_worker_is_started_again_and_has_time_to_end_softly():
    worker = SERVICES["worker"]
    assert worker["restart"] == "unless-stopped"
    assert worker["environment"]["REMAP_SIGTERM"] == "SIGQUIT"
    assert seconds(worker["stop_grace_period"]) > celeryconfig.worker_soft_shutdown_timeout


def test_ports_are_open_to_this_host_only_and_flower_asks_for_a_password():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")


def test_what_only_a_demo_needs_does_not_run_in_production():
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]} == {
        "ministack",
        "elasticsearch",
        "opencast",
        "zoom",
    }


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_useractions_are_indexed_unless_a_site_says_otherwise(name):
    assert SERVICES[name]["environment"]["INDEXER"] == "${INDEXER:-true}"


def test_elasticsearch_is_a_version_that_the_tests_use():
    assert SERVICES["elasticsearch"]["image"].rpartition(":")[2] in VERSIONS


def test_what_the_image_copies_exists_and_is_not_ignored():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert all((ROOT / source).exists() for source in sources())
    assert {f"!{source}" for source in sources()} == {rule for rule in rules if rule.startswith("!")}


def test_the_image_holds_no_secret_and_no_development_package():
    assert not fnmatch.filter(sources(), "*env*")
    assert "requirements-dev.txt" not in sources()


def test_the_image_does_not_run_as_root():
    user = [line[1] for line in INSTRUCTIONS if line[0] == "USER"][-1]
    assert int(user.split(":")[0]) > 0


def test_manage_py_can_be_called_by_its_name():
    manage = ROOT / "manage.py"
    assert manage.stat().st_mode & 0o111
    assert manage.read_text().startswith("#!/usr/bin/env python")


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_compose_itself_reads_the_file(tmp_path):
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / ".env").write_text("FLOWER_BASIC_AUTH=user:password\n")
    subprocess.run(["docker", "compose", "--profile", "demo", "config", "--quiet"], cwd=tmp_path, check=True)
