"""The command line: parses arguments, calls the library and reports the result."""

import errno
import importlib
import io
import keyword
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import redis

from uaharvest import __version__, logs, plain
from uaharvest.cli import old, output
from uaharvest.cli.context import Context, Failure, Workers
from uaharvest.errors import Exit, HarvestError
from uaharvest.redis_url import RedisUrl

# Each command and its module, which is imported when the command is used: importing all of them takes longer than most
# commands do.
COMMANDS = {
    "run": "run",
    "enqueue": "run",
    "status": "status",
    "doctor": "doctor",
    "metrics": "metrics",
    "watermark": "watermark",
    "dead-letters": "dead_letters",
    "documents": "documents",
    "export": "export",
    "audit": "audit",
    "person": "person",
    "retention": "retention",
    "report": "report",
    "import": "import_",
    "backfill": "backfill",
    "setup": "setup",
    "dev": "dev",
}


class Root(click.Group):
    """Loads commands, and turns every error into one line that says what failed, where, and what to do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without those of the old tool."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name; None if there is none."""
        name = _either_spelling(cmd_name)
        if name in old.COMMANDS:
            from uaharvest.cli.run import run  # noqa: PLC0415 - see COMMANDS

            return run.get_command(ctx, name)
        if name in COMMANDS:
            return _load(name)
        if name not in self.commands:  # click suggests a similar name, but only one that it knows
            self.commands.update({known: _load(known) for known in COMMANDS})
        return super().get_command(ctx, name)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _usage(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _usage(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # the reader, such as `head`, has closed the pipe: not an error
            output.write_no_more()
            raise click.exceptions.Exit(Exit.ERROR) from None
        except Exception as error:
            if ctx.obj.debug:
                raise
            raise _failure(ctx.obj, error) from None


def _usage(error: click.UsageError) -> click.UsageError:
    """Return the usage error with its text, which quotes the input, escaped for the terminal."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its text is the help
        return error
    return click.UsageError(plain.one_line(error.format_message()), ctx=error.ctx)


def _failure(context: Context, error: Exception) -> Failure:
    if isinstance(error, HarvestError):
        return Failure(plain.one_line(error), error.exit_code)
    if isinstance(error, redis.RedisError):
        return Failure(plain.one_line(RedisUrl.parse(context.settings.redis_url).failure(error)), Exit.ERROR)
    if type(error).__module__.partition(".")[0] == "kombu":
        said = str(error).partition(" : ")[0].rstrip(".")
        line = f"Celery's broker: {said}. Check CELERY_BROKER_URL, or REDIS_URL without it."
        return Failure(plain.one_line(line), Exit.ERROR)
    if isinstance(error, OSError) and error.strerror:
        if error.errno in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            output.write_no_more()  # if stdout's disk is full, Python's flush at exit would fail again
        where_file = f"{error.filename}: " if error.filename else ""
        return Failure(f"{where_file}{error.strerror} (`manage.py --debug ...` shows where)", Exit.ERROR)
    # The exception's text may contain personal data or a password.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    line = f"unexpected {type(error).__name__} at {place} (`manage.py --debug ...` shows what and where)"
    return Failure(line, Exit.ERROR)


def _either_spelling(token: str) -> str:
    """Accept underscores: --engage_host means --engage-host, and dead_letters means dead-letters."""
    return token.replace("_", "-")


@click.group(
    cls=Root,
    context_settings={
        "token_normalize_func": _either_spelling,
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
)
@click.version_option(__version__, message="uaharvest %(version)s")
@click.option("--debug", is_flag=True, help="Show stack traces and all log messages.")
@click.pass_obj
def cli(context: Context, *, debug: bool) -> None:
    """Harvest Opencast and Zoom, and show the state of the harvest.

    Settings come from the environment and from .env; example.env lists them all. Exit codes: 0 done, 1 error,
    2 usage, 3 span refused, 4 blocked, 5 done with dead letters, 6 an audit found gaps.
    """
    context.debug = debug
    logs.configure(context.log_level)


cli.add_command(old.harvest)
cli.add_command(old.harvest, "harvest.py")


def _load(name: str) -> click.Command:
    function = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
    command: click.Command = getattr(importlib.import_module(f"{__name__}.{COMMANDS[name]}"), function)
    return command


def main(workers: Callable[[], Workers]) -> None:
    """Run the command line.

    Args:
        workers: Loads the Celery functions; called only by commands that need them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed
            # With LANG=C or PYTHONIOENCODING=ascii, an unencodable character must not end the program.
            stream.reconfigure(errors="backslashreplace")
    cli.main(obj=Context(workers))
