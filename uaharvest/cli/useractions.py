"""`run useractions`, `enqueue useractions`: send what viewers did to the queue."""

import dataclasses
from typing import Any

import click

from uaharvest import readers
from uaharvest.cli.context import Context
from uaharvest.cli.options import Connections, Given, goes_elsewhere, refusing, with_options
from uaharvest.cli.outcome import leave_to_workers, say_window, work_to_the_end
from uaharvest.cli.windows import Wanted, window_options
from uaharvest.errors import BadInputError
from uaharvest.runs.local import LocalHints
from uaharvest.settings import STDOUT
from uaharvest.streams.engines.useractions import useractions_engine
from uaharvest.streams.opening import open_run
from uaharvest.streams.specs.useractions import SPEC

CONNECTIONS: Connections = {
    ("-H", "--engage-host"): "MATTERHORN_ENGAGE_HOST",
    ("-u", "--user"): "MATTERHORN_REST_USER",
    ("-p", "--password"): "MATTERHORN_REST_PASS",
    ("-o", "--output"): "SQS_QUEUE_NAME",
    ("-q", "--queue-name"): "SQS_QUEUE_NAME",
}


@click.command(SPEC.name)
@window_options
@click.option("-H", "--engage-host", help="Opencast's engage host; default: MATTERHORN_ENGAGE_HOST.")
@click.option("-u", "--user", help="REST user; default: MATTERHORN_REST_USER.")
@click.option("-p", "--password", help="Password of that user; default, and safer: MATTERHORN_REST_PASS.")
@click.option("-o", "--output", help='Where to send the records; "-" prints them as JSON lines.')
@click.option("-q", "--queue-name", help='SQS queue; default: SQS_QUEUE_NAME; "-" means --output -.')
@click.pass_obj
def run_useractions(
    context: Context,
    /,
    *,
    engage_host: str | None,
    user: str | None,
    password: str | None,
    output: str | None,
    queue_name: str | None,
    follow: bool,
    **window: Any,
) -> None:
    """Harvest useractions, by default from the watermark to now.

    TIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone. --output - prints the
    records and does not move the watermark; --interval N then means exactly the last N minutes.
    """
    if output not in {None, "-"}:
        raise BadInputError(f"--output: '{output}' cannot be used. Expected \"-\".")
    configured, wanted = context.settings, Wanted(**window)
    given = {
        "engage_url": Given("--engage-host", engage_host, readers.base_url),
        "opencast_user": Given("--user", user),
        "opencast_password": Given("--password", password, secret=True),
        "queue": Given("--queue-name", "-" if output == "-" else queue_name, readers.queue_name),
    }
    settings = wanted.settings(with_options(configured, given))
    private = settings.queue == STDOUT or goes_elsewhere(configured, settings, "engage_url", "queue")
    if settings.engage_url != configured.engage_url:
        settings = dataclasses.replace(settings, database_url=None)  # it belongs to the configured Opencast
    hints = LocalHints()
    engine = useractions_engine(settings, hints, site=configured)
    options = wanted.options(engine.usual_options)
    opened = open_run(engine, wanted.window(exactly=settings.queue == STDOUT), options, private=private)
    say_window(opened)
    work_to_the_end(opened, hints, progress=follow)


@click.command(SPEC.name)
@window_options
@refusing(CONNECTIONS, SPEC.name)
@click.pass_obj
def enqueue_useractions(context: Context, /, *, follow: bool, **window: Any) -> None:
    """Let the workers harvest useractions, by default from the watermark to now.

    TIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone. Workers use their own
    connections and credentials; `run useractions` accepts them as options.
    """
    wanted = Wanted(**window)
    settings = wanted.settings(context.settings)
    if settings.queue == STDOUT:
        raise BadInputError('SQS_QUEUE_NAME is "-": workers have no terminal to print to. Use `run useractions`.')
    engine = useractions_engine(settings, context.workers().hints(SPEC.name))
    opened = open_run(engine, wanted.window(), wanted.options(engine.usual_options))
    say_window(opened)
    leave_to_workers(opened, progress=follow)
