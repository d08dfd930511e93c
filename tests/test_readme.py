"""Every command of the README and of the other pages works as written, and what they say of the code is true of it."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from redis import Redis

from devservers import stack
from simulators import course as simulated
from tests import commands
from uaharvest import assembly, cli, settings
from uaharvest.cli.zoom import READY_AFTER
from uaharvest.documents.document import Document
from uaharvest.report.tables import written

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
COMMANDS = [
    (page, line.strip())
    for page, text in PAGES.items()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
INSTALL = (
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "pip install -r requirements.txt -c constraints.txt",
    "cp example.env .env",
    "chmod 600 .env",
    "scripts/venv",
)
ZOOM_ACCOUNT = ["--account-id", "account", "--client-id", "key", "--client-secret", "secret"]
# `manage.py ...` within a sentence or a table.
MENTIONED = sorted(
    {
        (page, match[1])
        for page, text in PAGES.items()
        for match in re.finditer(r"`(?:python )?(?:manage\.py|uaharvest) ([a-z-][^`]*)`", text)
    }
)


def beginning(*words):
    """The commands that begin so, each once."""
    return sorted({command for _, command in COMMANDS if command.startswith(words)})


MANAGE = "python manage.py "
SERVES = ["python manage.py metrics"]  # until it is stopped
MONITORING = beginning(".venv/bin/python -m monitoring")
MAKE = beginning("make ")
CELERY = beginning("celery ")
PYTEST = beginning(".venv/bin/python -m pytest ")
DATES = beginning("scripts/dates ")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with one worker: the environment in which the commands run, and its Redis."""
    # The last day of meetings that is due: yesterday, but not in the first minutes of a day.
    held = f"{datetime.now(UTC) - READY_AFTER - timedelta(days=1):%F}"
    with ExitStack() as children:
        valkey = children.enter_context(stack.valkey())
        aws = children.enter_context(stack.ministack())
        opencast = children.enter_context(stack.opencast_simulator("--rows", "300", "--span-seconds", "100"))
        zoom = children.enter_context(stack.zoom_simulator("--meetings", "5", "--date", held, *ZOOM_ACCOUNT))
        variables = {
            **stack.aws_variables(aws),
            "ZOOM_ACCOUNT_ID": "account",
            "ZOOM_KEY": "key",
            "ZOOM_SECRET": "secret",
            "ZOOM_API_URL": f"{zoom.url}/v2/",
            "ZOOM_TOKEN_URL": f"{zoom.url}/oauth/token",
            "MATTERHORN_ENGAGE_HOST": opencast.url,
            "MATTERHORN_ADMIN_HOST": opencast.url,
            "MATTERHORN_REST_USER": "admin",
            "MATTERHORN_REST_PASS": "opencast",
            "OPENCAST_TIMEZONE": "America/Bogota",
            "REDIS_URL": valkey.url,
            "S3_HARVEST_TS_BUCKET": "readme",
            "SQS_QUEUE_NAME": "readme",
            "HARVEST_LAG_SECONDS": "0",
            "PRIVACY_TOMBSTONE_KEY": "a-secret-for-the-examples",
            "RETENTION_USERACTIONS_DAYS": "4000",
            "FLOWER_BASIC_AUTH": "operator:choose-one",
            "DOCUMENTS_URL": f"sqlite:///{tmp_path_factory.mktemp('documents')}/documents.db",
        }
        # Examples name indices of one month, whenever this runs: all episodes were watched in it.
        with urllib.request.urlopen(f"{opencast.url}/_sim/episodes") as answer:
            episodes = json.load(answer)["episodes"]
        watched = [
            Document("useractions-2026.11.24", str(number), {"mpid": episode["id"]})
            for number, episode in enumerate(episodes)
        ]
        list(assembly.document_store(settings.load(variables)).write(watched))
        begin = ["watermark", "set", "--stream", "zoom", f"{held}T00:00:00Z"]
        done = commands.manage(*begin, environment={**os.environ, **variables})
        assert done.returncode == 0, done.stderr
        children.enter_context(stack.celery("worker", "-c", "1", environment=variables))
        client = children.enter_context(Redis.from_url(valkey.url, decode_responses=True))
        yield {**os.environ, **variables, "PYTHONPATH": str(ROOT)}, client


@pytest.fixture(scope="module")
def run_page(site, tmp_path_factory):
    """Run the `manage.py` commands of a page in its order, once; return what each printed and its exit code."""
    environment, client = site
    done = {}

    def tick():
        """Do as a beat would that finds nothing to do."""
        for stream in ("useractions", "episodes", "zoom"):
            assembly.state(settings.load(environment), client, stream=stream).tick(120)

    def run_page(page):
        if page not in done:
            tick()
            commands = [command for where, command in COMMANDS if where == page and command.startswith(MANAGE)]
            commands = [command for command in commands if command not in SERVES]
            done[page] = [(command, run(command)) for command in commands]
        return done[page]

    def run(command):
        arguments = shlex.split(command)[1:]
        own = course(folder) if arguments[1:3] == ["report", "course"] else {}
        return commands.manage(*arguments[1:], environment={**environment, **own}, cwd=folder)

    folder = tmp_path_factory.mktemp("operator")
    return run_page


def course(folder):
    """Write the roster of a course and its documents into a folder; return the settings that lead to these."""
    truth = simulated.course(lectures=1, students=5)
    roster = [["huid", "email", "first_name", "last_name", "registrant"], *truth.roster]
    (folder / "roster.csv").write_text(written(roster))
    variables = {"DOCUMENTS_URL": f"sqlite:///{folder}/course.db"}
    documents = [
        Document(index, str(number), fields)
        for index in ("viewings", "recordings", "attendance")
        for number, fields in enumerate(getattr(truth, index))
    ]
    list(assembly.document_store(settings.load(variables)).write(documents))
    return variables


# The commands


def test_no_command_is_of_a_kind_that_is_not_tested_here():
    manage = beginning(MANAGE)
    assert {command for _, command in COMMANDS} == {
        *manage,
        *MAKE,
        *CELERY,
        *PYTEST,
        *DATES,
        *MONITORING,
        *INSTALL,
    }


@pytest.mark.parametrize("page", sorted({page for page, command in COMMANDS if command.startswith(MANAGE)}))
def test_manage_py_commands_work_in_the_order_of_the_page(page, run_page):
    for command, done in run_page(page):
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout + done.stderr, f"{command} said nothing"


@pytest.mark.parametrize(("page", "mentioned"), MENTIONED)
def test_a_command_that_a_sentence_mentions_exists_with_its_options(page, mentioned):
    command, known = cli.cli, {"--help", "-h"}
    known |= {name for option in command.params for name in option.opts}
    for word in mentioned.split():
        if word.startswith("-"):
            assert word in known
        elif isinstance(command, click.Group) and word != "…":
            found = command.get_command(None, word.replace("_", "-"))
            assert found, f"{page}: no command '{word}'"
            command = found
            known |= {name for option in command.params for name in option.opts}


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_target(command):
    arguments = shlex.split(command)
    assert subprocess.run([*arguments, "--dry-run"], cwd=ROOT, capture_output=True, check=True).stdout


@pytest.mark.parametrize("command", CELERY)
def test_celery_commands_start(command, site):
    environment, _ = site
    arguments = shlex.split(command)[3:]
    if arguments[0] == "flower":
        arguments.append(f"--port={stack.free_port()}")
    with stack.celery(*arguments, environment=environment) as process:
        assert process.running


@pytest.mark.parametrize("command", SERVES)
def test_commands_that_serve_say_where(command, site):
    environment, _ = site
    port = stack.free_port()
    with stack.Child(
        command,
        [sys.executable, str(ROOT / "manage.py"), *shlex.split(command)[2:]],
        stack.says(rf"on http://127.0.0.1:{port}/metrics"),
        environment={**environment, "METRICS_PORT": str(port)},
    ) as process:
        assert process.start().running


@pytest.mark.parametrize("command", PYTEST)
def test_pytest_finds_tests(command):
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, *arguments, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr  # 5: there are none


@pytest.mark.parametrize("command", DATES)
def test_the_script_for_other_dates_runs(command):
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) > 40


def test_the_files_that_an_installation_needs_are_there():
    for name in ("requirements.txt", "constraints.txt", "example.env"):
        assert (ROOT / name).is_file()
    assert os.access(ROOT / "scripts" / "venv", os.X_OK)
    assert shutil.which("make")


def test_make_help_lists_all_targets():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert targets == set(phony.split()) == {line.split()[1] for line in listed.splitlines()}


# What the pages say


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/README.md"]))
    assert {f"docs/{name}" for name in linked} | {"docs/README.md"} == {
        page for page in PAGES if page.startswith("docs/")
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page):
    folder = (ROOT / page).parent
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        path = (folder / target).resolve() if target else ROOT / page
        assert path.is_file(), target
        if anchor:
            assert anchor in anchors(path.read_text()), f"{target}#{anchor}"


def anchors(text):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_settings_is_made_from_the_settings():
    between = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", PAGES["docs/settings.md"], re.DOTALL)
    assert between is not None
    assert between[1] == settings.table()


def test_example_env_names_every_setting_and_can_be_read_as_it_is():
    text = (ROOT / "example.env").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", text, re.MULTILINE))
    assert {line.split("`")[1] for line in settings.table().splitlines()[2:]} <= named
    read = settings.load({}, ROOT / "example.env")
    read.require("engage_url", "queue", "bucket")


def test_every_function_that_the_architecture_names_exists():
    names = {
        name
        for cell in re.findall(r"`([a-z_]+(?:\.\w+)+)`", PAGES["docs/architecture.md"])
        if not (name := cell).endswith((".py", ".md"))
    }
    assert len(names) > 25
    assert not [name for name in sorted(names) if not exists(name)]


def exists(name):
    parts = (name if name.startswith("tasks.") else f"uaharvest.{name}").split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def fields(document, prefix=""):
    """The names of a document's fields, with those inside of them."""
    for name, value in document.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from fields(value, f"{prefix}{name}.")


def test_the_documents_of_the_readme_have_the_fields_that_documents_have(run_page, site):
    run_page("docs/operations.md")
    environment, _ = site
    exported = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "documents", "export", "*"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    real = {}
    for line in exported.splitlines():
        document = json.loads(line)
        real.setdefault(document["_index"].partition("-")[0], set()).update(fields(document))
    blocks = re.findall(r"^```json\n(.*?)^```", PAGES["README.md"], re.DOTALL | re.MULTILINE)
    shown = [json.loads(block) for block in blocks]
    derived = {"viewings", "recordings", "attendance"}  # docs/viewings.md has them
    assert {document["_index"].partition("-")[0] for document in shown} == real.keys() - derived
    for document in shown:
        assert set(fields(document)) <= real[document["_index"].partition("-")[0]]
    assert max(len(block.splitlines()) for block in blocks) <= 5
