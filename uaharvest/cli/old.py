"""Says what a command of dce-user-analytics is called now."""

import click

from uaharvest.errors import BadInputError

# Commands of `harvest.py` that are subcommands of `run` now. `manage.py` takes them without `run` too, so that a cron
# entry needs no change but the program's name.
COMMANDS = ("useractions", "load-episodes", "zoom")


@click.command("harvest", hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def harvest(arguments: tuple[str, ...]) -> None:  # noqa: ARG001 - they may hold a password, and are not repeated
    """Say what has become of `harvest.py`."""
    raise BadInputError(
        "harvest.py was the program of dce-user-analytics. Its commands are commands of manage.py, with the same"
        " options: useractions, load_episodes, zoom, setup load_index_templates. See docs/migration.md."
    )
