"""The commands of dce-user-analytics, as a person or a cron entry still types them."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from devservers import stack
from uaharvest.cli import COMMANDS, cli, run
from uaharvest.cli.context import Context
from uaharvest.errors import Exit

# What commands import only if they need it: the clients of the sources, and the parts of the engine.
HEAVY = ("pyhorn", "uaharvest.runs.coordinator", "uaharvest.zoom.client", "sqlalchemy", "elasticsearch")


def invoke(*arguments):
    return CliRunner().invoke(cli, [*arguments], obj=Context(lambda: None))


@pytest.mark.parametrize("name", ["useractions", "load_episodes", "load-episodes", "zoom"])
def test_the_old_tools_commands_are_those_of_run_with_the_same_options(name):
    options = [line for line in invoke(name, "--help").stdout.splitlines() if line.startswith("  -")]
    assert options
    assert options == [
        line for line in invoke("run", name, "--help").stdout.splitlines() if line.startswith("  -")
    ]


def test_help_shows_the_new_commands_only():
    commands = invoke("--help").stdout.partition("Commands:")[2].split("\n")
    names = {line.split()[0] for line in commands if line.strip()}
    assert names == set(COMMANDS)
    assert set(run.run.commands) >= {"useractions", "episodes", "zoom", "index"}


@pytest.mark.parametrize("program", ["harvest", "harvest.py"])
@pytest.mark.parametrize("arguments", [(), ("--help",), ("useractions", "-p", "secret")])
def test_who_types_harvest_py_reads_what_to_type_instead(program, arguments):
    done = invoke(program, *arguments)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert "useractions, load_episodes, zoom, setup load_index_templates" in done.stderr
    assert "docs/migration.md" in done.stderr
    assert "secret" not in done.stderr


def test_a_command_that_does_not_exist_is_an_error_that_names_a_similar_one():
    done = invoke("statsu")
    assert done.exit_code == Exit.USAGE
    assert "'statsu'" in done.stderr
    assert "'status'" in done.stderr


def test_status_imports_neither_engine_nor_clients():
    code = f"import sys, uaharvest.status, tasks.workers; print({{*{HEAVY}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=stack.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
