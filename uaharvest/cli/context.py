"""The context object of all commands, and how errors and instants are shown."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import click

from uaharvest import logs, plain, status
from uaharvest import settings as settings_
from uaharvest.access_log import AccessLog
from uaharvest.errors import BadInputError
from uaharvest.settings import Settings

if TYPE_CHECKING:  # the engine takes time to import
    from uaharvest.runs.engine import Hints


class Failure(click.ClickException):
    """An error as one line and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)  # type: ignore[misc] # click declares it for the class but reads it here

    def show(self, file: Any = None) -> None:
        """Print the line, with foreign control characters escaped."""
        click.echo(plain.lines(self.message), file=file or sys.stderr)


class Workers(status.Workers, Protocol):
    """The Celery functions that commands use."""

    def hints(self, stream: str = "useractions") -> "Hints":
        """Return a stream's hints, which are sent to the workers."""
        ...

    def backfill_hints(self, stream: str, to: str) -> "Hints":
        """Return the hints for the backfills of a stream to a destination."""
        ...

    def about(self, within: float = ...) -> Mapping[str, Mapping[str, Any]] | None:
        """Return what each responding worker says of itself; see `tasks.about`. None if workers cannot be queried."""
        ...

    def drain_index(self, indexers: int) -> None:
        """Let this many workers index until the queue is empty."""
        ...


@dataclasses.dataclass(slots=True)
class Context:
    """The context object of all commands.

    Attributes:
        workers: Loads the Celery functions.
        debug: Show stack traces.
    """

    workers: Callable[[], Workers]
    debug: bool = False
    _settings: Settings | None = None

    @property
    def log_level(self) -> str:
        """Return the lowest level that is shown; the commands themselves tell the rest."""
        return "debug" if self.debug else "warning"

    @property
    def settings(self) -> Settings:
        """Return the settings, which are read at first use, and choose how it is logged: `--help` works without."""
        if self._settings is None:
            try:
                self._settings = settings_.current()
            except BadInputError as error:  # one line for each invalid setting
                raise Failure(str(error), error.exit_code) from None
            logs.configure(self.log_level, self._settings)
        return self._settings

    def note_access(self, command: str, **scope: str) -> None:
        """Record that a command is about to show personal data; raises as `AccessLog.note` does."""
        AccessLog(self.settings.access_log).note(command, **scope)


def utc(instant: datetime) -> str:
    """Return an instant as shown in tables and messages."""
    return f"{instant:%Y-%m-%d %H:%M:%S}"
