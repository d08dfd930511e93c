"""What every command is given, and what its options have in common."""

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import click

from uaharvest import settings as settings_
from uaharvest import status
from uaharvest.errors import BadInputError
from uaharvest.runs.engine import Hints
from uaharvest.runs.windows import whole_second
from uaharvest.settings import Settings


class Workers(status.Workers, Protocol):
    """What is handed in of Celery."""

    def hints(self, stream: str = "useractions") -> Hints:
        """Return hints of a stream that are sent to the workers."""
        ...

    def drain_index(self, indexers: int) -> None:
        """Let so many workers index until the queue is empty."""
        ...


@dataclasses.dataclass(slots=True)
class Context:
    """What every command is given.

    Attributes:
        workers: Loads what is needed of Celery.
        debug: Show stack traces.
    """

    workers: Callable[[], Workers]
    debug: bool = False

    @property
    def settings(self) -> Settings:
        """Return the settings, read when they are needed: `--help` works without."""
        return settings_.current()


class Moment(click.ParamType[datetime]):
    """An instant: `YYYYMMDDHHmmss` in OPENCAST_TIMEZONE, as the old tool had it, or ISO 8601 with a zone."""

    name = "time"

    def __init__(self, fold: int) -> None:
        """Where clocks go back take the earlier (`fold` 0) or the later (1) of the two instants."""
        self._fold = fold

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the instant in UTC, whole seconds."""
        zone = ctx.obj.settings.opencast_zone if ctx else UTC
        try:
            if re.fullmatch(r"\d{14}", value):
                local = datetime.strptime(value, "%Y%m%d%H%M%S").replace(tzinfo=zone, fold=self._fold)
                return whole_second(local)
            instant = datetime.fromisoformat(value)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            name = _name(param) if param else "time"
            raise BadInputError(
                f"{name}: '{value}' is no date. Expected YYYYMMDDHHmmss (in {zone}) or ISO 8601 with a zone, "
                "such as 2026-11-01T05:00:00Z."
            )
        return whole_second(instant)


def _name(param: click.Parameter) -> str:
    """Return a parameter's name as a person wrote it, or as the usage shows it."""
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def combined(*options: Callable[[Callable[..., None]], Callable[..., None]]) -> Callable[..., Callable[..., None]]:
    """Return a decorator that adds these options to a command, in this order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


START = Moment(fold=0)
END = Moment(fold=1)


def utc(instant: datetime) -> str:
    """Return an instant as tables and lines show it."""
    return f"{instant:%Y-%m-%d %H:%M:%S}"
