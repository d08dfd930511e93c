"""`backfill`: harvest history beside the live stream, bounded in its rate, and continued where it was stopped."""

import dataclasses
import functools
import json
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click
import redis

from uaharvest import assembly, plain
from uaharvest.cli import output
from uaharvest.cli.context import Context, utc
from uaharvest.cli.options import END, START, Day, Moment, combined
from uaharvest.cli.outcome import report_dead_letters
from uaharvest.cli.progress import LINE_EVERY, STILL
from uaharvest.errors import BadInputError, HarvestError, RetryableError
from uaharvest.intervals import Interval, duration
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.backfills import Backfill, utc_now
from uaharvest.runs.days import DAY_SECONDS
from uaharvest.runs.state import StreamState
from uaharvest.runs.watch import windows_of
from uaharvest.settings import STDOUT, Settings
from uaharvest.streams import registry
from uaharvest.streams.backfill import QUEUE, backfiller, count, destinations, require_days
from uaharvest.streams.spec import StreamSpec

POLL = 1.0  # seconds between two looks at a backfill
COLUMNS = ("backfill", "stream", "span (UTC)", "to", "state", "done", "rows", "rows/s", "time left")

rate_option = click.option(
    "--rate", type=click.IntRange(1, 999_999_999), help="Most rows per second; default: BACKFILL_ROWS_PER_SECOND."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")


class Bound(click.ParamType[datetime]):
    """An instant as `Moment` reads it, or a day (UTC), which stands for its midnight."""

    name = "time"

    def __init__(self, moment: Moment) -> None:
        """Read instants as `moment` does."""
        self._moment = moment

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the instant in UTC."""
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return Day().convert(value, param, ctx)
        return self._moment.convert(value, param, ctx)


@click.group()
def backfill() -> None:
    """Harvest history beside the live stream; docs/backfill.md explains it.

    Workers that consume the queue `backfill` do the work. The watermark stays where it is.
    """


def _command(spec: StreamSpec) -> click.Command:
    """Return the command that backfills a stream."""
    to = destinations(spec)
    options = combined(
        click.option("-s", "--start", type=Bound(START), required=True, help="Start time, or a day (UTC)."),
        click.option("-e", "--end", type=Bound(END), required=True, help="End time or day, exclusive."),
        rate_option,
        click.option(
            "--to",
            type=click.Choice(to),
            default=to[0],
            hidden=len(to) == 1,
            help="Send them to SQS_QUEUE_NAME as the live stream does, or store the same documents at once.",
        ),
        click.option("--dry-run", is_flag=True, help="Only count what would be harvested."),
        click.option("-d", "--detach", is_flag=True, help="Do not show the progress."),
    )
    function = functools.partial(_start, spec)
    return click.command(
        spec.name,
        help=f"Harvest {spec.name} from --start to --end.\n\nTIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, ISO 8601"
        " with a zone, or a day (UTC). The progress is shown until the end. Ctrl-C stops the backfill; `backfill"
        " resume` continues it.",
    )(options(click.pass_obj(function)))


def _start(
    spec: StreamSpec,
    context: Context,
    /,
    *,
    start: datetime,
    end: datetime,
    rate: int | None,
    to: str,
    dry_run: bool,
    detach: bool,
) -> None:
    settings = context.settings
    settings.require("bucket")
    if end <= start:
        raise BadInputError(f"--end {utc(end)} UTC is not after --start {utc(start)} UTC.")
    requested = Interval(start, end)
    require_days(spec, requested)
    if to == QUEUE and settings.queue == STDOUT:
        raise BadInputError('SQS_QUEUE_NAME is "-": workers have no terminal to print to.')
    rate = rate or settings.backfill_rate
    made = backfiller(spec.name, settings, context.workers().backfill_hints(spec.name, to), to)
    made.check(requested)
    expected = count(made, requested)
    click.echo(_window(spec.name, requested, expected, rate), err=not dry_run)
    if dry_run:
        return
    new = made.start(requested, rate=rate, expected=expected)
    _hand_over(context, spec.name, new)
    if detach:
        click.echo(f"backfill {new.id} is started. Watch: manage.py backfill status {new.id} --follow", err=True)
    else:
        _follow(settings, spec.name, new)


for _spec in registry.specs():
    backfill.add_command(_command(_spec), _spec.name)


@backfill.command("list")
@json_option
@click.pass_obj
def list_(context: Context, *, as_json: bool) -> None:
    """List the backfills: those that have not ended, and the last that have."""
    found = _all(context.settings)
    if as_json:
        for stream, one in found:
            click.echo(json.dumps({"stream": stream, **one.report()}))
    elif found:
        _show(found)
    if not found:
        click.echo("no backfills", err=True)


@backfill.command()
@click.argument("backfill_id", metavar="ID")
@json_option
@click.option("-f", "--follow", is_flag=True, help="Show the progress until it ends; Ctrl-C stops the backfill.")
@click.pass_obj
def status(context: Context, *, backfill_id: str, as_json: bool, follow: bool) -> None:
    """Show a backfill: what is done, its rate and the time left. Of ID, the first characters are enough."""
    stream, one = _find(context.settings, backfill_id)
    if as_json:
        click.echo(json.dumps({"stream": stream, **one.report()}))
        return
    _show([(stream, one)])
    for reason in _failures(context.settings, stream) if one.state == "running" else ():
        click.echo(plain.one_line(f"{stream}: {reason}"), err=True)
    if follow and one.state == "running":
        _follow(context.settings, stream, one)


@backfill.command()
@click.argument("backfill_id", metavar="ID")
@click.pass_obj
def stop(context: Context, *, backfill_id: str) -> None:
    """Stop a backfill. Slices that workers have begun are still delivered; `backfill resume` continues it."""
    stream, one = _find(context.settings, backfill_id)
    _require(one, "running", "stopped")
    stopped = _stop(context.settings, stream, one)
    click.echo(f"{_words(stopped)}. Continue: manage.py backfill resume {one.id}")


@backfill.command()
@click.argument("backfill_id", metavar="ID")
@rate_option
@click.option("-f", "--follow", is_flag=True, help="Show the progress until it ends; Ctrl-C stops the backfill.")
@click.pass_obj
def resume(context: Context, *, backfill_id: str, rate: int | None, follow: bool) -> None:
    """Continue a backfill, also on another host or with a Redis that has lost its data."""
    stream, one = _find(context.settings, backfill_id)
    _require(one, "running", "stopped")

    def resumed(stored: Backfill) -> Backfill:
        now = utc_now()
        began = {} if stored.state == "running" else {"began_at": now, "rows_before": stored.rows}
        return dataclasses.replace(
            stored,
            state="running",
            rate=rate or stored.rate,
            saved_at=now,
            **began,  # type: ignore[arg-type]
        )

    changed = assembly.backfills(context.settings, stream).change(one.id, resumed) or one
    _hand_over(context, stream, changed)
    click.echo(f"{_words(changed)}. Watch: manage.py backfill status {one.id} --follow", err=follow)
    if follow:
        _follow(context.settings, stream, changed)


@backfill.command()
@click.argument("backfill_id", metavar="ID")
@click.pass_obj
def drop(context: Context, *, backfill_id: str) -> None:
    """Forget a backfill that was stopped or is done, so that its span can be harvested by another."""
    stream, one = _find(context.settings, backfill_id)
    _require(one, "stopped", "done")
    assembly.backfills(context.settings, stream).drop(one.id)
    click.echo(f"backfill {one.id} is dropped. What it has harvested stays.")


def _all(settings: Settings) -> list[tuple[str, Backfill]]:
    return [
        (stream, one)
        for stream in assembly.streams(settings)
        for one in assembly.backfills(settings, stream).read().values()
    ]


def _find(settings: Settings, prefix: str) -> tuple[str, Backfill]:
    found = [(stream, one) for stream, one in _all(settings) if one.id.startswith(prefix)]
    if len(found) != 1:
        number = "more than one backfill has" if found else "no backfill has"
        raise BadInputError(
            f"ID: {number} an id that begins with '{plain.one_line(prefix)}'. `manage.py backfill list` lists them."
        )
    return found[0]


def _require(one: Backfill, *states: str) -> None:
    if one.state not in states:
        advice = f"Stop it first: manage.py backfill stop {one.id}" if one.state == "running" else ""
        raise BadInputError(
            f"backfill {one.id} is {one.state}. Expected one that is {' or '.join(states)}. {advice}".rstrip()
        )


def _stop(settings: Settings, stream: str, one: Backfill) -> Backfill:
    def stopped(stored: Backfill) -> Backfill:
        return dataclasses.replace(stored, state="stopped") if stored.state == "running" else stored

    return assembly.backfills(settings, stream).change(one.id, stopped) or one


def _hand_over(context: Context, stream: str, one: Backfill) -> None:
    """Ask the workers to go on at once."""
    try:
        context.workers().backfill_hints(stream, one.to).advance(one.run_id)
    except (RetryableError, redis.RedisError) as error:
        # It is stored, so beat's next tick begins it.
        click.echo(plain.one_line(f"backfill {one.id} will begin at beat's next tick: {error}"), err=True)


def _follow(settings: Settings, stream: str, one: Backfill) -> None:
    """Show the progress until the end; stop the backfill at Ctrl-C."""
    stored = assembly.backfills(settings, stream)
    show = _BackfillProgress(settings, stream, one)
    try:
        while one.state == "running":
            time.sleep(POLL)
            try:
                one = stored.read().get(one.id) or dataclasses.replace(one, state="stopped")
                show(one)
            except (RetryableError, redis.RedisError) as error:  # workers go on meanwhile, or later
                show.cannot_look(error)
    except KeyboardInterrupt:
        one = _stop(settings, stream, one)
    if one.state != "done":
        raise HarvestError(f"{_words(one)}. Continue: manage.py backfill resume {one.id}")
    click.echo(f"{_words(one)}. The watermark stays.", err=True)
    report_dead_letters(one.dead)


class _BackfillProgress:
    """Prints a line every few seconds, and what keeps the workers from going on."""

    def __init__(self, settings: Settings, stream: str, one: Backfill) -> None:
        self._settings = settings
        self._stream = stream
        self._before, self._done = one.rows, one.share
        self._began = self._moved = time.monotonic()
        self._printed = 0.0
        self._reported: set[str] = set()

    def __call__(self, one: Backfill) -> None:
        """Show the backfill as it is now."""
        now = time.monotonic()
        if one.share != self._done:
            self._done, self._moved = one.share, now
        if one.state != "done" and now - self._printed < LINE_EVERY:
            return
        self._printed = now
        rate = (one.rows - self._before) / max(now - self._began, 0.1)
        left = _left(one, rate)
        click.echo(f"{_words(one)}, {rate:,.0f}/s{f', about {duration(left)} left' if left else ''}", err=True)
        reasons = _failures(self._settings, self._stream)
        if now - self._moved > STILL and not reasons:
            reasons = [
                f"nothing has moved for {STILL:.0f} s. Is a worker running? celery -A tasks worker -Q backfill"
            ]
        self._report(reasons)

    def cannot_look(self, error: Exception) -> None:
        """Say once why the progress cannot be seen."""
        if isinstance(error, redis.RedisError):
            error = RetryableError(RedisUrl.parse(self._settings.redis_url).failure(error))
        self._report([f"{error} Looking again every {POLL:.0f} s; the backfill is not stopped."])

    def _report(self, reasons: list[str]) -> None:
        for reason in reasons:
            if reason not in self._reported:
                click.echo(plain.one_line(reason), err=True)
        self._reported = set(reasons)


def _left(one: Backfill, rate: float) -> float | None:
    """Return the seconds left at `rate`; None if that is not known."""
    return one.seconds_left(rate) if one.state == "running" else None


def _failures(settings: Settings, stream: str) -> list[str]:
    """Return what keeps the workers from going on with the backfills of a stream."""
    state: StreamState = assembly.state(settings, stream=assembly.backfills_of(stream))
    return [failure.reason for failure in state.failures()]


def _window(stream: str, interval: Interval, expected: int, rate: int) -> str:
    windows = windows_of(interval, DAY_SECONDS)
    counted = f", {expected:,} {stream}, at {rate:,} rows/s about {duration(expected / rate)}" if expected else ""
    return (
        f"{stream}: {utc(interval.start)} to {utc(interval.end)} UTC, {plain.counted(windows, 'window')} of a day"
        f" at most{counted}"
    )


def _words(one: Backfill) -> str:
    of = f" of about {one.expected:,}" if one.expected and one.state != "done" else ""
    dead = f", {one.dead:,} dead letters" if one.dead else ""
    return f"backfill {one.id}: {one.state}, {one.share:.1%} done, {one.rows:,}{of} rows{dead}"


def _show(found: Iterable[tuple[str, Backfill]]) -> None:
    rows = []
    for stream, one in found:
        left = _left(one, one.rows_per_second)
        cells = (
            one.id,
            stream,
            f"{utc(one.requested.start)} to {utc(one.requested.end)}",
            one.to,
            one.state,
            f"{one.share:.1%}",
            f"{one.rows:,}{f' of about {one.expected:,}' if one.expected else ''}",
            f"{one.rows_per_second:,.0f} (most {one.rate:,})",
            duration(left) if left else "-",
        )
        rows.append((cells, "red" if one.dead else None))
    output.show(output.table(COLUMNS, rows, output.width()))
