"""`dev`: servers on this machine to try uaharvest on. They come with a checkout, not with the package."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from uaharvest.cli import output
from uaharvest.cli.context import CommandError
from uaharvest.errors import BadInputError, Exit
from uaharvest.settings import ENV_FILE


def _options(command: Any) -> Any:
    command = click.option(
        "--documents",
        metavar="STORE",
        help="The document store: elasticsearch-VERSION, opensearch-VERSION or sqlite.  "
        "[default: the newest tested Elasticsearch]",
    )(command)
    return click.option(
        "--docker/--no-docker",
        default=None,
        help="Run containers.  [default: if Docker is here]",
        show_default=False,
    )(command)


@click.group()
def dev() -> None:
    """Run servers on this machine to try uaharvest on.

    They are Redis, a stand-in for SQS and S3, Elasticsearch or OpenSearch, and simulators of Opencast and Zoom. What
    is running is kept in .dev, and the settings for it in .env.dev, both in the current folder.
    """


@dev.command()
@_options
def up(*, documents: str | None, docker: bool | None) -> None:
    """Start the servers, if they are not running."""
    _show_next(_up(documents, docker=docker))


@dev.command()
@_options
def init(*, documents: str | None, docker: bool | None) -> None:
    """Start the servers and load the index templates."""
    keeper = _up(documents, docker=docker)
    done = subprocess.run(  # noqa: S603 - this program
        [sys.executable, sys.argv[0], "setup", "index-templates"],
        env={**os.environ, ENV_FILE: str(keeper.settings)},
        check=False,
    )
    if done.returncode:
        raise CommandError(
            "The servers are up, but the index templates were not loaded; see above.", done.returncode
        )
    _show_next(keeper)


@dev.command()
def down() -> None:
    """End the servers, and remove their data and settings."""
    click.echo("All of it is gone." if _keeper().stop() else "Nothing is running here.")


@dev.command()
def status() -> None:
    """Show the servers; exit with 1 unless all of them answer."""
    keeper = _keeper()
    state = keeper.state()
    if state is None:
        starting = keeper.running()
        raise CommandError(
            "The servers are being started." if starting else "Nothing is running here.", Exit.ERROR
        )
    if not _show(state):
        raise CommandError("Start again: manage.py dev down, then manage.py dev up.", Exit.ERROR)


@dev.command("install-kopf")
def install_kopf() -> None:
    """Say what to use in place of kopf."""
    click.echo(
        "kopf has been given up by its author, and ran in Elasticsearch 2 only.\n"
        "With Docker, `manage.py dev up` starts Kibana or OpenSearch Dashboards.\n"
        "Without: `manage.py documents list` and `manage.py documents export`."
    )


def _up(documents: str | None, *, docker: bool | None) -> Any:
    """Start the servers unless they run, and show them; return the keeper."""
    site, keeper = _module("devservers.site"), _keeper()
    if documents:
        site.check(documents)
    state = keeper.state()
    if state is None:
        if docker is None:
            docker = _module("devservers.compose").Engine.available()
        state = keeper.start(documents or site.DOCUMENTS, click.echo, docker=docker)
    elif documents not in {None, state.documents}:
        raise BadInputError(f"The servers run with {state.documents}. To change that, `manage.py dev down` first.")
    if not _show(state):
        raise CommandError("Start again: manage.py dev down, then manage.py dev up.", Exit.ERROR)
    return keeper


def _show(state: Any) -> bool:
    """Print all servers; tell whether they answer."""
    answers = {server.name: server.answers() for server in state.servers}
    rows: list[tuple[tuple[str, str], str | None]] = []
    for server in state.servers:
        if answers[server.name]:
            rows.append(((server.name, server.url), None))
        else:
            log = f"\nIts log: {server.log}" if server.log else ""
            rows.append(((server.name, f"{server.url} does not answer.{log}"), "red"))
    output.show(output.table(("server", "where"), rows, output.width()))
    return all(answers.values())


def _show_next(keeper: Any) -> None:
    click.echo(
        f"\nTheir settings are in {keeper.settings}. For each shell, once:\n"
        f"  export {ENV_FILE}={keeper.settings}\n"
        "Then, for example:\n"
        "  celery -A tasks worker --concurrency 2\n"
        "  celery -A tasks beat\n"
        "  python manage.py status\n"
        "  python manage.py dev down"
    )


def _keeper() -> Any:
    return _module("devservers.keeper").Keeper(Path())


def _module(name: str) -> Any:
    """Return a module of a checkout.

    Raises:
        CommandError: This is not a checkout, or the packages for development are not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in {"devservers", name}:
            reason = "`dev` works only in a checkout of uaharvest: python manage.py dev … in its folder."
        else:
            reason = (
                f"`dev` needs the package {error.name}: pip install -r requirements-dev.txt -c constraints.txt"
            )
        raise CommandError(reason, Exit.ERROR) from None
