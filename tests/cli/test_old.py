"""The commands of dce-user-analytics, as a person or a cron entry still types them."""

import click
import pytest
from click.testing import CliRunner

from uaharvest.cli import COMMANDS, cli, run
from uaharvest.cli.context import Context
from uaharvest.errors import Exit


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
    names = {line.split()[0] for line in commands if line.strip() and not line.startswith("   ")}
    assert names == set(COMMANDS)
    assert set(run.run.commands) >= {"useractions", "episodes", "zoom", "index"}


def test_help_shows_the_first_sentence_of_the_help_of_each_command():
    for name, (_, summary) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command.get_short_help_str(limit=1000) == summary


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
