"""`run zoom`, `enqueue zoom`: index past meetings and participants' sessions into the document store."""

from datetime import datetime, timedelta

import click

from uaharvest import readers
from uaharvest.cli.context import Context
from uaharvest.cli.options import (
    Connections,
    Day,
    Given,
    combined,
    follow_option,
    goes_elsewhere,
    refusing,
    with_options,
)
from uaharvest.cli.outcome import leave_to_workers, name_of, work_to_the_end
from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval
from uaharvest.runs.days import DAY
from uaharvest.runs.engine import Engine
from uaharvest.runs.local import LocalHints
from uaharvest.runs.opened import Opened
from uaharvest.runs.watch import windows_of
from uaharvest.streams.engines.zoom import zoom_engine
from uaharvest.streams.opening import DayRange, open_run
from uaharvest.streams.specs.zoom import SPEC

# Seconds that a command waits for quota: long enough for the next minute's calls. Workers wait for the next day's.
QUOTA_WAIT = 90.0
# Zoom needs a minute or two to list an ended meeting. The look-back finds meetings that appear later.
READY_AFTER = timedelta(minutes=5)
SECOND = timedelta(seconds=1)

shared_options = combined(
    click.option(
        "--date", type=Day(), help="Only this day (UTC); default: the days from the watermark to yesterday (UTC)."
    ),
    click.option("--from", "first", type=Day(), help="First day (UTC)."),
    click.option("--to", "last", type=Day(), help="Last day (UTC), included; default: yesterday."),
    click.option(
        "--dashboard", is_flag=True, help="Try the Dashboard again, even if Zoom said that the account has none."
    ),
    follow_option,
)

CONNECTIONS: Connections = {
    ("-e", "--es-host"): "DOCUMENTS_URL, ES_HOST",
    ("-k", "--key"): "ZOOM_KEY",
    ("-s", "--secret"): "ZOOM_SECRET",
}


@click.command(SPEC.name)
@shared_options
@click.option(
    "--destination",
    type=click.Choice(["index", "stdout"]),
    default="index",
    help="Index documents, or print them.",
)
@click.option(
    "-e", "--es-host", help="Elasticsearch or OpenSearch, host:port; default: DOCUMENTS_URL, else ES_HOST."
)
@click.option("-k", "--key", help="Zoom's client id (API key); default: ZOOM_KEY.")
@click.option("-s", "--secret", help="Zoom's client secret (API secret); default, and safer: ZOOM_SECRET.")
@click.pass_obj
def run_zoom(
    context: Context,
    /,
    *,
    dashboard: bool,
    destination: str,
    es_host: str | None,
    key: str | None,
    secret: str | None,
    follow: bool,
    **days: datetime | None,
) -> None:
    """Index past Zoom meetings and their participants' sessions; by default day by day (UTC) up to yesterday.

    The watermark does not move with --date or --from, nor with a destination or credentials other than the configured
    ones; the default is then yesterday. --destination stdout prints each meeting twice: as listed, and with the
    attendance computed from its sessions.
    """
    configured, chosen = context.settings, _days(**days)
    given = {
        "es_url": Given("--es-host", es_host, readers.cluster_url),
        "zoom_key": Given("--key", key, secret=True),
        "zoom_secret": Given("--secret", secret, secret=True),
    }
    settings = with_options(configured, given)
    private = destination == "stdout" or goes_elsewhere(
        configured, settings, "es_url", "documents_url", "zoom_key", "zoom_secret"
    )
    hints = LocalHints()
    engine = zoom_engine(
        settings,
        hints,
        stdout=destination == "stdout",
        ready_after=READY_AFTER,
        patience=QUOTA_WAIT,
        dashboard=dashboard,
        site=configured,
    )
    opened = _open(engine, chosen, private=private, ready_after=READY_AFTER)
    work_to_the_end(opened, hints, progress=follow)


@click.command(SPEC.name)
@shared_options
@click.option("--destination", type=click.Choice(["index", "stdout"]), default="index", hidden=True)
@refusing(CONNECTIONS, SPEC.name)
@click.pass_obj
def enqueue_zoom(
    context: Context,
    /,
    *,
    dashboard: bool,
    destination: str,
    follow: bool,
    **days: datetime | None,
) -> None:
    """Let the workers index past Zoom meetings and their participants' sessions, by default up to yesterday (UTC).

    Workers take yesterday from ZOOM_AT on; for an earlier start use --date. Workers use their own connections and
    credentials; `run zoom` accepts them as options.
    """
    if destination == "stdout":
        raise BadInputError("--destination: workers have no terminal to print to. Use `run zoom`.")
    chosen = _days(**days)
    hints = context.workers().hints(SPEC.name)
    # The first day is opened here; workers open the following ones, and not before ZOOM_AT.
    engine = zoom_engine(context.settings, hints, patience=QUOTA_WAIT, dashboard=dashboard)
    leave_to_workers(_open(engine, chosen), progress=follow)


def _days(*, date: datetime | None, first: datetime | None, last: datetime | None) -> DayRange:
    """Return the days given by the options."""
    if date is not None and (first or last):
        raise BadInputError("--date is given with --from or --to. Expected one day, or a range.")
    if last is not None and first is None:
        raise BadInputError("--to is given without --from. Expected both, or --date.")
    return DayRange(first=date or first, last=date or last)


def _open(
    engine: Engine, chosen: DayRange, *, private: bool = False, ready_after: timedelta | None = None
) -> Opened:
    """Open the requested days and print them; the number of meetings is unknown until their lists are read."""
    opened = open_run(engine, chosen, engine.usual_options, private=private, ready_after=ready_after)
    start, end = opened.start, opened.end
    if end <= start:
        line = f"nothing to do yet, all days before {start:%F} (UTC) are harvested"
    else:
        days = windows_of(Interval(start, end), int(DAY.total_seconds()))
        to = f" to {end - SECOND:%F}" if days > 1 else ""
        line = f"{start:%F}{to} (UTC), {days} day{'s' * (days != 1)}"
    click.echo(f"{name_of(opened)}: {line}", err=True)
    return opened
