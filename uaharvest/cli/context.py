"""The context object of all commands, and how errors and instants are shown."""

import dataclasses
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from uaharvest import plain
from uaharvest.access_log import AccessLog
from uaharvest.errors import BadInputError

if TYPE_CHECKING:  # `--help` needs neither, and they take time to import
    from uaharvest.cli.workers import CeleryWorkers
    from uaharvest.settings import Settings


class CommandError(click.ClickException):
    """An error as one line and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)  # type: ignore[misc] # click declares it for the class but reads it here

    def show(self, file: Any = None) -> None:
        """Print the line, with foreign control characters escaped."""
        click.echo(plain.lines(self.message), file=file or sys.stderr)


@dataclasses.dataclass(slots=True)
class Context:
    """The context object of all commands.

    Attributes:
        workers: Loads the Celery functions.
        debug: Show stack traces.
    """

    workers: "Callable[[], CeleryWorkers]"
    debug: bool = False
    _settings: "Settings | None" = None

    @property
    def log_level(self) -> str:
        """Return the lowest level that is shown; the commands print the rest themselves."""
        return "debug" if self.debug else "warning"

    @property
    def settings(self) -> "Settings":
        """Return the settings, read at first use, when logging is configured too: `--help` needs neither."""
        if self._settings is None:
            from uaharvest import logs  # noqa: PLC0415
            from uaharvest import settings as settings_  # noqa: PLC0415

            try:
                self._settings = settings_.current()
            except BadInputError as error:  # one line for each invalid setting
                raise CommandError(str(error), error.exit_code) from None
            logs.configure(self.log_level, self._settings)
        return self._settings

    def note_access(self, command: str, **scope: str) -> None:
        """Record that a command is about to show personal data; raises as `AccessLog.note` does."""
        AccessLog(self.settings.access_log).note(command, **scope)


def utc(instant: datetime) -> str:
    """Return an instant as shown in tables and messages."""
    return f"{instant:%Y-%m-%d %H:%M:%S}"
