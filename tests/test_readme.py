"""Every command of the README works as written, and its table of settings is the settings object's."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from simulators import stack
from uaharvest import settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
MANAGE = [line for line in COMMANDS if line.startswith("python manage.py")]
MAKE = [line for line in COMMANDS if line.startswith("make ")]
CELERY = [line for line in COMMANDS if line.startswith("celery ")]
INSTALL = ["pip install -r requirements.txt -c constraints.txt", "cp example.env .env"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A site with one worker, and the environment in which the commands run."""
    with ExitStack() as children:
        valkey = children.enter_context(stack.valkey())
        aws = children.enter_context(stack.ministack())
        opencast = children.enter_context(stack.opencast_simulator("--rows", "300", "--span-seconds", "100"))
        zoom = children.enter_context(stack.zoom_simulator("--meetings", "5"))
        variables = {
            **stack.aws_variables(aws),
            "MATTERHORN_ENGAGE_HOST": opencast.url,
            "MATTERHORN_ADMIN_HOST": opencast.url,
            "MATTERHORN_REST_USER": "admin",
            "MATTERHORN_REST_PASS": "opencast",
            "OPENCAST_TIMEZONE": "America/New_York",
            "ZOOM_ACCOUNT_ID": "account",
            "ZOOM_KEY": "key",
            "ZOOM_SECRET": "secret",
            "ZOOM_API_URL": f"{zoom.url}/v2/",
            "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": "readme",
            "SQS_QUEUE_NAME": "readme",
            "HARVEST_LAG_SECONDS": "0",
            "DOCUMENTS_URL": f"sqlite:///{tmp_path_factory.mktemp('documents')}/documents.db",
        }
        children.enter_context(stack.celery("worker", "-c", "1", environment=variables))
        yield {**os.environ, **variables, "PYTHONPATH": str(ROOT)}


def test_the_table_of_settings_is_made_from_the_settings():
    between = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert between is not None
    assert between[1] == settings.table()


def test_no_command_of_the_readme_is_of_a_kind_that_is_not_tested_here():
    assert set(COMMANDS) == {*MANAGE, *MAKE, *CELERY, *INSTALL}


def test_example_env_names_every_setting_and_can_be_read_as_it_is():
    text = (ROOT / "example.env").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", text, re.MULTILINE))
    assert {line.split("`")[1] for line in settings.table().splitlines()[2:]} <= named
    read = settings.load({}, ROOT / "example.env")
    read.require("engage_url", "queue", "bucket")


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_target(command):
    assert subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=True).stdout


def test_manage_py_commands_work_in_the_order_of_the_readme(environment, tmp_path):
    for command in MANAGE:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, str(ROOT / arguments[0]), *arguments[1:]],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout + done.stderr, f"{command} said nothing"


@pytest.mark.parametrize("command", CELERY)
def test_celery_commands_start(command, environment):
    arguments = shlex.split(command)[3:]
    if arguments[0] == "flower":
        arguments.append(f"--port={stack.free_port()}")
    with stack.celery(*arguments, environment=environment) as process:
        assert process.running


def test_the_files_that_an_installation_needs_are_there():
    for name in ("requirements.txt", "constraints.txt", "example.env"):
        assert (ROOT / name).is_file()
    assert shutil.which("make")
