"""`pip install .` leaves a console script that works from any folder, with everything it needs inside the wheel."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from redis import Redis

from devservers import stack
from uaharvest import __version__
from uaharvest.documents.indices import FAMILIES

PIP = ["--disable-pip-version-check", "--no-deps", "--no-index", "--quiet"]
TEMPLATES_FOLDER = stack.ROOT / "index_templates"
TEMPLATES = sorted(TEMPLATES_FOLDER.rglob("*.json"))


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory):
    """The programs of a virtual environment into which the wheel is installed.

    The packages that it depends on are those of this environment, which a path file lends to the other.
    """
    folder = tmp_path_factory.mktemp("installed")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(stack.ROOT))
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    pip("install", str(wheel), interpreter=programs / "python")
    lent = [path for path in sys.path if path.endswith("site-packages")]
    [site_packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    (site_packages / "dependencies.pth").write_text("\n".join(lent))
    return programs


def pip(command, *arguments, interpreter=None):
    chosen = ["--python", str(interpreter)] if interpreter else []
    done = subprocess.run(
        [sys.executable, "-m", "pip", *chosen, command, *PIP, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def run(bin_folder, tmp_path):
    """Run a program in an empty folder, without a trace of the checkout in its environment."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *arguments, **environment):
        return subprocess.run(
            [bin_folder / program, *arguments],
            env=kept | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_the_build_backend_is_the_one_that_is_installed_here():
    requirements = (stack.ROOT / "requirements-dev.txt").read_text()
    [requires] = re.findall(r"^requires = (\[.*\])", (stack.ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for pin in json.loads(requires):
        assert f"\n{pin} " in requirements


def test_the_script_tells_its_version(run):
    done = run("uaharvest", "--version")
    assert (done.returncode, done.stdout) == (0, f"uaharvest {__version__}\n")


def test_nothing_is_read_from_the_checkout(run):
    script = (
        "import celeryconfig, manage, tasks, uaharvest\nfor module in (celeryconfig, manage, tasks, uaharvest):\n"
    )
    done = run("python", "-c", f"{script}    print(module.__file__)")
    assert done.returncode == 0, done.stderr
    found = [Path(line) for line in done.stdout.splitlines()]
    assert len(found) == 4
    assert not [path for path in found if path.is_relative_to(stack.ROOT)]


def test_the_index_templates_are_in_the_package(run):
    done = run(
        "python",
        "-c",
        "import json; from uaharvest.index_templates import FOLDER\n"
        "print(json.dumps({str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob('*.json')}))",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        str(path.relative_to(TEMPLATES_FOLDER)): path.read_text() for path in TEMPLATES
    }
    assert len(TEMPLATES) == len(FAMILIES) + 6  # two component templates; policies and roles of two servers


def test_the_script_finds_celerys_settings_and_tasks(run):
    with stack.valkey() as valkey, stack.ministack() as aws:
        site = {
            **stack.aws_variables(aws),
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": "installed",
            "SQS_QUEUE_NAME": "installed",
            "DOCUMENTS_URL": "sqlite:///documents.db",
        }
        done = run("uaharvest", "enqueue", "index", **site)
        assert done.returncode == 0, done.stderr
        with Redis.from_url(valkey.url, decode_responses=True) as client:
            [message] = client.lrange("uaharvest:celery:index", 0, -1)
    assert json.loads(message)["headers"]["task"] == "index.drain"


def test_celery_finds_the_tasks_without_the_checkout(run):
    done = run("python", "-m", "celery", "-A", "tasks", "report", REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert "task_default_queue: 'control'" in done.stdout


def test_the_servers_for_development_come_with_a_checkout_only(bin_folder, tmp_path):
    done = subprocess.run(
        [str(bin_folder / "uaharvest"), "dev", "up"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "works only in a checkout" in done.stderr
    assert not list(tmp_path.iterdir())
