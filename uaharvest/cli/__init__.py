"""The command line: parses arguments, calls the library and reports the result."""

import errno
import importlib
import io
import keyword
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uaharvest import __version__, plain
from uaharvest.cli import old, output
from uaharvest.cli.context import CommandError, Context
from uaharvest.errors import Exit, HarvestError

if TYPE_CHECKING:
    from uaharvest.cli.workers import CeleryWorkers

# Each command with its module and the first sentence of its help. The module is imported when the command is used:
# importing all of them takes longer than most commands do.
COMMANDS = {
    "run": ("run", "Harvest in this process; workers may help."),
    "enqueue": ("run", "Let the workers harvest."),
    "status": ("status", "Show the state of every stream, queue and worker."),
    "doctor": ("doctor", "Check every setting and service, and say what to change."),
    "metrics": ("metrics", "Serve metrics for Prometheus."),
    "watermark": ("watermark", "Show or move the instant up to which a stream is delivered."),
    "dead-letters": ("dead_letters", "List, show, replay or drop what could not be delivered."),
    "documents": ("documents", "Inspect the document store (DOCUMENTS_URL, else ES_HOST)."),
    "export": ("export", "Export documents as CSV, xAPI statements or Parquet."),
    "audit": ("audit", "Compare what the source has of closed days with the documents."),
    "person": ("person", "Find, export or erase what is stored about one person."),
    "retention": ("retention", "Delete what is older than RETENTION_..._DAYS, as workers do each day."),
    "report": ("report", "Report on a course, from the documents in the store (DOCUMENTS_URL, else ES_HOST)."),
    "import": ("import_", "Bring over useractions from files."),
    "backfill": ("backfill", "Harvest history beside the live stream; docs/backfill.md explains it."),
    "setup": ("setup", "Prepare what must exist before the first document."),
    "dev": ("dev", "Run servers on this machine to try uaharvest on."),
}


class Root(click.Group):
    """Loads commands, and turns every error into one line that says what failed, where, and what to do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without those of the old tool."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands for `--help`, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx) if name in COMMANDS])

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


def _failure(context: Context, error: Exception) -> CommandError:
    if isinstance(error, HarvestError):
        return CommandError(plain.one_line(error), error.exit_code)
    import redis  # noqa: PLC0415 - `--help` has no use for it, and it takes time to import

    if isinstance(error, redis.RedisError):
        from uaharvest.redis_url import RedisUrl  # noqa: PLC0415

        return CommandError(plain.one_line(RedisUrl.parse(context.settings.redis_url).failure(error)), Exit.ERROR)
    if type(error).__module__.partition(".")[0] == "kombu":
        said = str(error).partition(" : ")[0].rstrip(".")
        line = f"Celery's broker: {said}. Check CELERY_BROKER_URL, or REDIS_URL without it."
        return CommandError(plain.one_line(line), Exit.ERROR)
    if isinstance(error, OSError) and error.strerror:
        if error.errno in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            output.write_no_more()  # if stdout's disk is full, Python's flush at exit would fail again
        where_file = f"{error.filename}: " if error.filename else ""
        return CommandError(f"{where_file}{error.strerror} (`manage.py --debug ...` shows where)", Exit.ERROR)
    # The exception's text may contain personal data or a password.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    line = f"unexpected {type(error).__name__} at {place} (`manage.py --debug ...` shows what and where)"
    return CommandError(line, Exit.ERROR)


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
    from uaharvest import logs  # noqa: PLC0415 - as above

    context.debug = debug
    logs.configure(context.log_level)


cli.add_command(old.harvest)
cli.add_command(old.harvest, "harvest.py")


def _load(name: str) -> click.Command:
    function = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
    command: click.Command = getattr(importlib.import_module(f"{__name__}.{COMMANDS[name][0]}"), function)
    return command


def main(workers: "Callable[[], CeleryWorkers]") -> None:
    """Run the command line.

    Args:
        workers: Loads the Celery functions; called only by commands that need them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed
            # With LANG=C or PYTHONIOENCODING=ascii, an unencodable character must not end the program.
            stream.reconfigure(errors="backslashreplace")
    cli.main(obj=Context(workers))
