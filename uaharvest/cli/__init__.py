"""The command line: parses, calls the library, and says what came of it."""

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import click
import redis

from uaharvest import logs
from uaharvest.cli import documents, episodes, harvest, index, letters, state, zoom
from uaharvest.cli.context import Context, Workers
from uaharvest.errors import Exit, HarvestError


class Failure(click.ClickException):
    """An error as one line and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)  # type: ignore[misc] # click declares it for the class, and reads it here

    def show(self, file: Any = None) -> None:
        """Print the line as it is."""
        click.echo(self.message, file=file or sys.stderr)


class Root(click.Group):
    """Turns what goes wrong into one line that says what, where and what to do."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.obj.debug:
                raise
            raise _failure(ctx.obj, error) from None


def _failure(context: Context, error: Exception) -> Failure:
    if isinstance(error, HarvestError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, redis.RedisError):
        # Without its password.
        where = urlsplit(context.settings.redis_url)
        place = f"{where.hostname or ''}{f':{where.port}' if where.port else where.path}"
        return Failure(f"Redis at {place}: {error} Check REDIS_URL.", Exit.ERROR)
    line = f"unexpected {type(error).__name__}: {error} (`manage.py --debug ...` shows where)"
    return Failure(line, Exit.ERROR)


def _either_spelling(token: str) -> str:
    """Let --engage_host be --engage-host, and dead_letters dead-letters."""
    return token.replace("_", "-")


@click.group(
    cls=Root,
    context_settings={
        "token_normalize_func": _either_spelling,
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
)
@click.option("--debug", is_flag=True, help="Show stack traces and everything that is logged.")
@click.pass_obj
def cli(context: Context, *, debug: bool) -> None:
    """Harvest what happened in Opencast, and see how the harvest stands.

    Settings come from the environment and from .env; example.env has all of them. Exit codes: 0 done, 1 error,
    2 usage, 3 span refused, 4 blocked, 5 done with dead letters.
    """
    context.debug = debug
    logs.configure("debug" if debug else "warning")


for part in (episodes.run_episodes, zoom.run_zoom, index.run_index):
    harvest.run.add_command(part)
harvest.run.add_command(episodes.run_episodes, "load-episodes")  # the old tool's name; also with underscores
for part in (episodes.enqueue_episodes, zoom.enqueue_zoom, index.enqueue_index):
    harvest.enqueue.add_command(part)
harvest.enqueue.add_command(episodes.enqueue_episodes, "load-episodes")
for command in (
    harvest.run,
    harvest.enqueue,
    state.status,
    state.watermark,
    letters.dead_letters,
    documents.documents,
    documents.setup,
):
    cli.add_command(command)


def main(workers: Callable[[], Workers]) -> None:
    """Run the command line.

    Args:
        workers: Loads what the commands need of Celery; called only by those that do.
    """
    cli.main(obj=Context(workers))
