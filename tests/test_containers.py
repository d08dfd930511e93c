"""The container files, as far as they can be checked without an engine."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from celery.bin.celery import celery

import celeryconfig
from devservers.elasticsearch import PRODUCT
from devservers.stack import ROOT
from uaharvest import __version__, settings

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
    asked = {name.removesuffix("_FILE") for name in re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)}
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


def test_the_image_is_labelled_and_tagged_with_the_version_of_uaharvest():
    [label] = re.findall(r"org\.opencontainers\.image\.version=(\S+)", (ROOT / "Dockerfile").read_text())
    tags = {service["image"] for service in SERVICES.values() if service["image"].startswith("uaharvest:")}
    assert label == __version__
    assert tags == {f"uaharvest:{__version__}"}


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


@pytest.mark.parametrize("name", [*OWN, "redis"])
def test_a_container_of_ours_cannot_change_itself_or_gain_rights(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OWN)
def test_a_secret_that_is_a_file_can_be_read(name):
    assert "./secrets:/run/secrets:ro" in SERVICES[name]["volumes"]


def test_documents_in_sqlite_have_a_volume_that_the_image_s_user_owns():
    assert "documents:/data" in SERVICES["worker"]["volumes"]
    instructions = [" ".join(line) for line in INSTRUCTIONS]
    assert "RUN install --directory --owner=10001 --group=10001 /data" in instructions
    workdirs = [line[1] for line in INSTRUCTIONS if line[0] == "WORKDIR"]
    assert workdirs[-1] == "/data"  # where sqlite:///documents.db is then


@pytest.mark.parametrize("name", ["worker", "beat"])
@pytest.mark.parametrize(("age", "healthy"), [(5, True), (90, False), (None, False)])
def test_a_heartbeat_is_healthy_while_it_is_young(tmp_path, name, age, healthy):
    service = SERVICES[name]
    kind, command = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert service["environment"]["HEARTBEAT_FILE"] in command
    file = tmp_path / "heartbeat"
    if age is not None:
        file.touch()
        os.utime(file, (time.time() - age, time.time() - age))
    command = command.replace("/tmp/heartbeat", str(file)).replace("$$", "$")
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode == 0) is healthy


@pytest.mark.parametrize("name", [*OWN, "redis"])
def test_no_health_check_starts_celery(name):
    check = " ".join(SERVICES[name]["healthcheck"]["test"])
    assert "celery" not in check
    assert "python" not in check


def test_the_lines_for_a_demo_are_a_whole_env_file(tmp_path):
    lines = re.findall(r"^#   ([A-Z0-9_]+=.*)", COMPOSE.partition("put these lines")[2], re.MULTILINE)
    dotenv = tmp_path / ".env"
    dotenv.write_text("\n".join(lines))
    loaded = settings.load({}, dotenv)
    loaded.require("engage_url", "opencast_user", "opencast_password", "bucket", "queue", "es_url")
    assert loaded.zoom_enabled
    assert loaded.episodes_enabled
    names = {line.partition("=")[0] for line in lines}
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE)) <= names
    assert {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= names


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
    assert SERVICES["elasticsearch"]["image"].rpartition(":")[2] in PRODUCT.versions


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


@pytest.mark.parametrize("file", ["docker-compose.yml", "devservers/docker-compose.yml"])
def test_a_compose_file_is_valid(file):
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_compose_itself_reads_the_file(tmp_path):
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / ".env").write_text("FLOWER_BASIC_AUTH=user:password\n")
    subprocess.run(["docker", "compose", "--profile", "demo", "config", "--quiet"], cwd=tmp_path, check=True)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_a_checkout_on_windows_has_the_same_line_ends(tmp_path):
    (tmp_path / "paths").write_text("manage.py\nexample.env\n.ci/run\nuaharvest/runs/ledger.py\n")
    checked_out = tmp_path / "out"
    subprocess.run(
        [
            "git",
            "-c",
            "core.autocrlf=true",
            "-c",
            "core.eol=crlf",
            "checkout-index",
            "--stdin",
            f"--prefix={checked_out}/",
        ],
        cwd=ROOT,
        input=(tmp_path / "paths").read_bytes(),
        check=True,
    )
    files = [path for path in checked_out.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert not [path for path in files if b"\r" in path.read_bytes()]
