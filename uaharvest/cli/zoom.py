"""`run zoom`, `enqueue zoom`: past meetings and their participants' sessions, into the document store."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from uaharvest import assembly
from uaharvest import settings as settings_
from uaharvest.cli.context import Context, combined
from uaharvest.cli.harvest import (
    Connections,
    Opened,
    goes_elsewhere,
    hand_over,
    refusing,
    with_options,
    work_to_the_end,
)
from uaharvest.errors import BadInputError
from uaharvest.runs.days import DAY, midnight
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.local import LocalHints
from uaharvest.runs.watch import windows_of
from uaharvest.runs.windows import Interval, whole_second
from uaharvest.streams.zoom import Meetings

# A person waits for the next minute's calls; for the next day's the workers do.
PATIENCE = 90.0
# Zoom: give it a minute or two. What comes later is found by the look back.
READY_AFTER = timedelta(minutes=5)


class Day(click.ParamType[datetime]):
    """A day as `YYYY-mm-dd`, UTC; its beginning."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ARG002
        """Return the beginning of the day."""
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
                return datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            pass
        name = max(param.opts, key=len) if param else "date"
        raise BadInputError(f"{name}: '{value}' is no date. Expected YYYY-mm-dd (UTC), such as 2026-11-23.")


shared_options = combined(
    click.option(
        "--date", type=Day(), help="This day (UTC); default: those from the watermark up to yesterday (UTC)."
    ),
    click.option("--from", "first", type=Day(), help="From this day on."),
    click.option("--to", "last", type=Day(), help="Up to and with this day; default: yesterday."),
    click.option("-f", "--follow", is_flag=True, help="Show the progress."),
)

CONNECTIONS: Connections = {
    ("-e", "--es-host"): "DOCUMENTS_URL, ES_HOST",
    ("-k", "--key"): "ZOOM_KEY",
    ("-s", "--secret"): "ZOOM_SECRET",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Days:
    """The days that a person asked for; None is what was not said."""

    date: datetime | None
    first: datetime | None
    last: datetime | None

    def interval(self, now: datetime, *, otherwise: bool) -> Interval | None:
        """Return them; None if none were asked for.

        Args:
            now: UTC.
            otherwise: Yesterday, where none were asked for.

        Raises:
            BadInputError: They do not go together, or have not begun.
        """
        if self.date is not None and (self.first or self.last):
            raise BadInputError("--date and --from or --to are given. Expected one day, or a range.")
        if self.last is not None and self.first is None:
            raise BadInputError("--to is given without --from. Expected both, or --date.")
        yesterday = midnight(now) - DAY
        first = self.date or self.first or (yesterday if otherwise else None)
        if first is None:
            return None
        last = self.date or self.last or yesterday
        if last < first:
            raise BadInputError(f"--from {first:%F} is after --to {last:%F}.")
        if last > now:
            raise BadInputError(f"{last:%F} has not begun yet (UTC). Expected days up to today.")
        return Interval(first, last + DAY)


@click.command("zoom")
@shared_options
@click.option(
    "--destination",
    type=click.Choice(["index", "stdout"]),
    default="index",
    help="Index documents, or print them.",
)
@click.option("-e", "--es-host", help="Elasticsearch host:port; default: DOCUMENTS_URL, else ES_HOST.")
@click.option("-k", "--key", help="Zoom's client id (API key); default: ZOOM_KEY.")
@click.option("-s", "--secret", help="Zoom's client secret (API secret); default, and safer: ZOOM_SECRET.")
@click.pass_obj
def run_zoom(
    context: Context,
    /,
    *,
    date: datetime | None,
    first: datetime | None,
    last: datetime | None,
    destination: str,
    es_host: str | None,
    key: str | None,
    secret: str | None,
    follow: bool,
) -> None:
    """Index past Zoom meetings and their participants' sessions; by default day by day (UTC) up to yesterday.

    With --date or --from, another destination or other credentials than the configured ones the watermark stays, and
    the day is yesterday where none is given. Printed, a meeting comes twice: as listed, and with what its sessions
    tell.
    """
    configured = context.settings
    given = {
        "es_url": ("--es-host", es_host, settings_.elasticsearch_url),
        "zoom_key": ("--key", key, settings_.text),
        "zoom_secret": ("--secret", secret, settings_.text),
    }
    settings = with_options(configured, given)
    if es_host is not None:
        settings = dataclasses.replace(settings, documents_url=None)
    private = destination == "stdout" or goes_elsewhere(
        configured, settings, "es_url", "documents_url", "zoom_key", "zoom_secret"
    )
    hints = LocalHints()
    engine = assembly.meetings(
        settings, hints, stdout=destination == "stdout", ready_after=READY_AFTER, patience=PATIENCE
    )
    options = Options.of(engine.settings)
    opened = _open(engine, options, Days(date, first, last), private=private, ready_after=READY_AFTER)
    work_to_the_end(engine, hints, opened, options, follow=follow)


@click.command("zoom")
@shared_options
@click.option("--destination", type=click.Choice(["index", "stdout"]), default="index", hidden=True)
@refusing(CONNECTIONS, Meetings.name)
@click.pass_obj
def enqueue_zoom(
    context: Context,
    /,
    *,
    date: datetime | None,
    first: datetime | None,
    last: datetime | None,
    destination: str,
    follow: bool,
) -> None:
    """Let the workers index past Zoom meetings and their participants' sessions, by default up to yesterday (UTC).

    Yesterday is theirs from ZOOM_AT on; before, ask for it with --date. Connections and credentials are the workers'
    own; `run zoom` takes them as options.
    """
    if destination == "stdout":
        raise BadInputError("--destination: workers have no terminal to print to. Use `run zoom`.")
    hints = context.workers().hints(Meetings.name)
    # Of several days the workers open all but the first, and not before ZOOM_AT.
    engine = assembly.meetings(context.settings, hints, patience=PATIENCE)
    options = Options.of(engine.settings)
    ready_after = context.settings.zoom_at
    opened = _open(engine, options, Days(date, first, last), private=False, ready_after=ready_after)
    hand_over(engine, opened, options, follow=follow)


def _open(engine: Engine, options: Options, days: Days, *, private: bool, ready_after: timedelta) -> Opened:
    """Open an explicit run of the days that were asked for, else look at the way from the watermark on."""
    now = whole_second(engine.stream.now())
    asked = days.interval(now, otherwise=private)
    if asked is None:
        stored = engine.store().read()
        since = midnight(stored.mark.at if stored else engine.stream.begin(now, options.interval))
        until = midnight(now - ready_after)
        opened = Opened.live(engine, since, until, 0)
        _say("zoom", since, until)
        return opened
    run = engine.ask(asked, options, may_move=False, private=private)
    _say(f"run {run.id[:8]}", asked.start, asked.end)
    return Opened.explicit(engine, run)


def _say(what: str, start: datetime, end: datetime) -> None:
    """Say which days will be harvested; how many meetings they have is known when their lists are read."""
    if end <= start:
        click.echo(f"{what}: nothing to do yet, all days before {start:%F} (UTC) are harvested", err=True)
        return
    days = windows_of(Interval(start, end), int(DAY.total_seconds()))
    to = f" to {end - DAY:%F}" if days > 1 else ""
    click.echo(f"{what}: {start:%F}{to} (UTC), {days} day{'s' * (days != 1)}", err=True)
