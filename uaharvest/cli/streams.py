"""`run NAME`, `enqueue NAME` for a stream without its own options."""

from typing import Any

import click

from uaharvest.cli.context import Context
from uaharvest.cli.outcome import leave_to_workers, say_window, work_to_the_end
from uaharvest.cli.windows import Wanted, window_options
from uaharvest.runs.engine import Engine
from uaharvest.runs.local import LocalHints
from uaharvest.runs.opened import Opened
from uaharvest.streams.opening import open_run
from uaharvest.streams.spec import StreamSpec

TIMES = "TIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone."


def run_command(spec: StreamSpec) -> click.Command:
    """Return `run NAME`."""

    @click.command(spec.name, help=f"Harvest {spec.name}, by default from the watermark to now.\n\n{TIMES}")
    @window_options
    @click.pass_obj
    def run(context: Context, /, *, follow: bool, **given: Any) -> None:
        wanted, hints = Wanted(**given), LocalHints()
        engine = spec.build(wanted.settings(context.settings), hints)
        work_to_the_end(_open(engine, wanted), hints, progress=follow)

    return run


def enqueue_command(spec: StreamSpec) -> click.Command:
    """Return `enqueue NAME`."""

    @click.command(
        spec.name,
        help=f"Let the workers harvest {spec.name}, by default from the watermark to now.\n\n{TIMES}",
    )
    @window_options
    @click.pass_obj
    def enqueue(context: Context, /, *, follow: bool, **given: Any) -> None:
        wanted = Wanted(**given)
        engine = spec.build(wanted.settings(context.settings), context.workers().hints(spec.name))
        leave_to_workers(_open(engine, wanted), progress=follow)

    return enqueue


def _open(engine: Engine, wanted: Wanted) -> Opened:
    opened = open_run(engine, wanted.window(), wanted.options(engine.usual_options))
    say_window(opened)
    return opened
