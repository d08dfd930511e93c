"""What the options of several commands share: types, connections, and how they change the settings."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from uaharvest import plain, readers
from uaharvest import settings as settings_
from uaharvest.errors import BadInputError
from uaharvest.intervals import whole_second
from uaharvest.settings import Settings

# Options of `run` that `enqueue` refuses, by name, each with the setting that workers use instead.
Connections = Mapping[tuple[str, str], str]


class Moment(click.ParamType[datetime]):
    """An instant: `YYYYMMDDHHmmss` in OPENCAST_TIMEZONE, as in the old tool, or ISO 8601 with a zone."""

    name = "time"

    def __init__(self, fold: int) -> None:
        """Take the earlier (`fold` 0) or the later (1) instant for times repeated when clocks go back."""
        self._fold = fold

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the instant in UTC, in whole seconds."""
        zone = ctx.obj.settings.opencast_zone if ctx else UTC
        try:
            if re.fullmatch(r"\d{14}", value):
                local = datetime.strptime(value, "%Y%m%d%H%M%S").replace(tzinfo=zone, fold=self._fold)
                return whole_second(local)
            instant = datetime.fromisoformat(value)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            raise _no_date(
                value,
                param,
                f"YYYYMMDDHHmmss (in {zone}) or ISO 8601 with a zone, such as 2026-11-01T05:00:00Z",
                otherwise="time",
            )
        return whole_second(instant)


class Day(click.ParamType[datetime]):
    """A day as `YYYY-mm-dd`; converted to its beginning in UTC."""

    name = "date"

    def __init__(self, zone: str = "UTC") -> None:
        """Say in errors that days are those of this zone."""
        self._zone = zone

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ARG002
        """Return the beginning of the day."""
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
                return datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            pass
        raise _no_date(value, param, f"YYYY-mm-dd ({self._zone}), such as 2026-11-23", otherwise="date")


START = Moment(fold=0)
END = Moment(fold=1)


def _no_date(value: str, param: click.Parameter | None, expected: str, *, otherwise: str) -> BadInputError:
    """Return the error for an invalid date; `otherwise` is its name if there is no parameter."""
    name = _name(param) if param else otherwise
    return BadInputError(f"{name}: '{plain.one_line(value)}' is not a date. Expected {expected}.")


def _name(param: click.Parameter) -> str:
    """Return a parameter's name as typed, or as shown in the usage."""
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def combined(*options: Callable[[Callable[..., None]], Callable[..., None]]) -> Callable[..., Callable[..., None]]:
    """Return a decorator that adds these options to a command, in this order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


follow_option = click.option("-f", "--follow", is_flag=True, help="Show the progress.")


def refusing(connections: Connections, stream: str) -> Callable[..., Callable[..., None]]:
    """Return a decorator that adds options refused by `enqueue`; their errors say why and which setting to use."""
    return combined(
        *(
            click.option(*names, hidden=True, callback=_refused(setting, stream), expose_value=False)
            for names, setting in connections.items()
        )
    )


def _refused(setting: str, stream: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def refuse(_: click.Context, option: click.Parameter, value: Any) -> None:
        if value is not None:
            raise BadInputError(
                f"{_name(option)}: messages never contain connections and credentials, so "
                f"workers use their own settings ({setting}). `manage.py run {stream}` accepts this option."
            )

    return refuse


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """An option that overrides a setting.

    Attributes:
        option: The option's name.
        value: The given value; None if there is none.
        read: Parses the value.
        secret: Whether the value must never be shown.
    """

    option: str
    value: str | int | None
    read: Callable[[Any], Any] = readers.text
    secret: bool = False


def with_options(configured: Settings, given: Mapping[str, Given]) -> Settings:
    """Return the settings with the fields replaced that were given on the command line."""
    changes = {}
    for field, one in given.items():
        if one.value is None:
            continue
        try:
            changes[field] = one.read(readers.writable(one.value) if isinstance(one.value, str) else one.value)
        except ValueError as error:
            what = settings_.shown(str(one.value), secret=one.secret)
            raise BadInputError(f"{one.option}: {what} cannot be used. Expected {error}.") from None
    if "es_url" in changes:
        changes["documents_url"] = None  # it would take precedence
    return dataclasses.replace(configured, **changes)


def goes_elsewhere(configured: Settings, settings: Settings, *fields: str) -> bool:
    """Tell whether a run's source or destination, given by these fields, differs from the configured one.

    Such a run must not move the watermark, and no worker may take part in it.
    """
    return any(getattr(configured, field) not in {None, getattr(settings, field)} for field in fields)
