"""`status`: show the state of the harvest, or follow one run."""

import json
import sys

import click

from uaharvest import assembly, plain
from uaharvest import status as status_
from uaharvest.broker import Broker
from uaharvest.cli import output, status_report
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError, BlockedError, RetryableError
from uaharvest.runs.ledger import EndedRun


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the same content.")
@click.option("--follow", metavar="RUN", help="Show the progress of an explicit run until it ends.")
@click.pass_obj
def status(context: Context, *, as_json: bool, follow: str | None) -> None:
    """Show the state of every stream, queue and worker.

    For monitoring, the exit code is 4 if a stream is stuck (3: its span is refused), 5 if there are dead letters,
    and 6 if an audit found gaps.
    """
    if follow:
        _follow(context, follow)
        return
    found = status_.status(context.settings, Broker(context.settings, context.workers))
    if as_json:
        output.show([(json.dumps(found, indent=2), None)])
    else:
        status_report.show(found)
    sys.exit(status_.exit_code(found))


def _follow(context: Context, prefix: str) -> None:
    # The engine and the progress bar take time to import, which `status` by itself does not need.
    from uaharvest.cli.outcome import follow_to_the_end  # noqa: PLC0415
    from uaharvest.runs.opened import Opened  # noqa: PLC0415
    from uaharvest.streams.opening import find  # noqa: PLC0415

    settings = context.settings
    run = find(settings, prefix)
    if run is None:
        raise BadInputError(
            f"--follow: no open or recently ended run has an id that begins with '{prefix}'. "
            "`manage.py status` lists the open ones. If Redis has lost its data, ask for the run again."
        )
    if isinstance(run, EndedRun):
        click.echo(plain.one_line(f"run {run.id[:8]}: {run.outcome}. {run.delivered:,} sent. {run.note}".rstrip()))
        return
    try:
        engine = assembly.engine(run.stream, settings, context.workers().hints(run.stream))
    except (RetryableError, BlockedError) as error:  # building the engine may query the source for its profile
        kind = BlockedError if isinstance(error, BlockedError) else RetryableError
        raise kind(f"run {run.id[:8]} is open, but cannot be followed until this is fixed: {error}") from None
    follow_to_the_end(Opened.explicit(engine, engine.usual_options, run))
