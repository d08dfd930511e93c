"""`run`: harvest in this process; `enqueue`: let the workers do it."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import click

from uaharvest import assembly
from uaharvest import settings as settings_
from uaharvest.cli.context import END, START, Context, combined, utc
from uaharvest.cli.progress import shown
from uaharvest.errors import BadInputError, BusyError, Exit
from uaharvest.opencast.actions import told_omitted
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.ledger import Run
from uaharvest.runs.local import LocalHints, drive, raise_if_blocked
from uaharvest.runs.watch import LiveWatch, RunWatch, Snapshot, Watch, windows_of
from uaharvest.runs.windows import Interval, duration, whole_second
from uaharvest.settings import Settings
from uaharvest.streams.useractions import Useractions

POLL = 0.25  # seconds between two looks at the ledger
# By field of the settings: the option, what was given, and what reads it.
Given = Mapping[str, tuple[str, str | int | None, Callable[[Any], Any]]]
# Options of `run` that `enqueue` refuses, by their names, and the settings that say it to the workers.
Connections = Mapping[tuple[str, str], str]
# What blocked the stream before may be mended: the slice that tries it has this long to take the reason away.
HEALING = 5.0

CONNECTIONS: Connections = {
    ("-H", "--engage-host"): "MATTERHORN_ENGAGE_HOST",
    ("-u", "--user"): "MATTERHORN_REST_USER",
    ("-p", "--password"): "MATTERHORN_REST_PASS",
    ("-o", "--output"): "SQS_QUEUE_NAME",
    ("-q", "--queue-name"): "SQS_QUEUE_NAME",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked for on the command line; None is what was not said."""

    start: datetime | None
    end: datetime | None
    interval: int | None
    batch_size: int | None
    wait: int | None
    no_update_last_ts: bool
    disable_start_end_span_check: bool

    def options(self, settings: Settings) -> Options:
        """Return the options of the runs that are opened."""
        usual = Options.of(settings)
        return Options(
            batch_size=self.batch_size or usual.batch_size,
            wait=usual.wait if self.wait is None else self.wait,
            interval=self.interval or usual.interval,
            check_span=usual.check_span and not self.disable_start_end_span_check,
        )


window_options = combined(
    click.option("-s", "--start", type=START, help="Begin here; default: the watermark."),
    click.option("-e", "--end", type=END, help="End before this; default: now."),
    click.option(
        "-w",
        "--wait",
        type=click.IntRange(min=0),
        help="Least seconds between two requests for actions, of all workers together.",
    ),
    click.option("-b", "--batch-size", type=click.IntRange(min=1), help="Most actions per request."),
    click.option(
        "-i",
        "--interval",
        type=click.IntRange(min=1),
        help="Where no watermark exists, begin this many minutes ago.",
    ),
    click.option("--no-update-last-ts", is_flag=True, help="Leave the watermark where it is."),
    click.option(
        "--disable-start-end-span-check",
        is_flag=True,
        help="Harvest a span longer than MAX_START_END_SPAN too.",
    ),
    click.option("-f", "--follow", is_flag=True, help="Show the progress."),
)


@click.group()
def run() -> None:
    """Harvest in this process, with Redis as ledger; workers may help."""


@run.command("useractions")
@window_options
@click.option("-H", "--engage-host", help="Opencast's engage host; default: MATTERHORN_ENGAGE_HOST.")
@click.option("-u", "--user", help="Its REST user; default: MATTERHORN_REST_USER.")
@click.option("-p", "--password", help="That user's password; default, and safer: MATTERHORN_REST_PASS.")
@click.option("-o", "--output", help='Where to send the records: "-" prints them as JSON lines.')
@click.option("-q", "--queue-name", help='SQS queue; default: SQS_QUEUE_NAME; "-" is as --output -.')
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
    **asked: Any,
) -> None:
    """Harvest useractions, by default from the watermark to now.

    TIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone. With --output - the records are
    printed, the watermark stays, and --interval N means exactly the last N minutes.
    """
    if output not in {None, "-"}:
        raise BadInputError(f"--output: '{output}' cannot be used. Expected \"-\".")
    configured = context.settings
    given: Given = {
        "engage_url": ("--engage-host", engage_host, settings_.base_url),
        "opencast_user": ("--user", user, settings_.text),
        "opencast_password": ("--password", password, settings_.text),
        "queue": ("--queue-name", "-" if output == "-" else queue_name, settings_.queue_name),
        "wait": ("--wait", asked["wait"], int),
    }
    settings = with_options(configured, given)
    private = settings.queue == assembly.STDOUT or goes_elsewhere(configured, settings, "engage_url", "queue")
    if settings.engage_url != configured.engage_url:
        settings = dataclasses.replace(settings, database_url=None)  # it is the other Opencast's
    hints = LocalHints()
    engine = assembly.useractions(settings, hints)
    wanted = Asked(**asked)
    options = wanted.options(settings)
    opened = _open(engine, wanted, options, private=private)
    work_to_the_end(engine, hints, opened, options, follow=follow)


@click.group()
def enqueue() -> None:
    """Give a harvest to the workers."""


def refusing(connections: Connections, stream: str) -> Callable[..., Callable[..., None]]:
    """Return a decorator that adds options which `enqueue` does not take: each says why, and what it stands for."""
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
                f"{max(option.opts, key=len)}: connections and credentials are never put into a message; the "
                f"workers take them from their own settings ({setting}). `manage.py run {stream}` takes it."
            )

    return refuse


@enqueue.command("useractions")
@window_options
@refusing(CONNECTIONS, Useractions.name)
@click.pass_obj
def enqueue_useractions(context: Context, /, *, follow: bool, **asked: Any) -> None:
    """Open a harvest of useractions and let the workers do it, by default from the watermark to now.

    TIMES are YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone. Connections and credentials are the
    workers' own; `run useractions` takes them as options.
    """
    settings = with_options(context.settings, {"wait": ("--wait", asked["wait"], int)})
    if settings.queue == assembly.STDOUT:
        raise BadInputError('SQS_QUEUE_NAME is "-": workers have no terminal to print to. Use `run useractions`.')
    engine = assembly.useractions(settings, context.workers().hints())
    wanted = Asked(**asked)
    options = wanted.options(settings)
    opened = _open(engine, wanted, options, private=False)
    hand_over(engine, opened, options, follow=follow)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was opened: an explicit run, or the live ones up to an instant."""

    watch: Watch
    run: Run | None = None

    @classmethod
    def explicit(cls, engine: Engine, run: Run) -> "Opened":
        """Look at one run."""
        return cls(watch=RunWatch(engine.ledger, run, engine.stream.longest_window), run=run)

    @classmethod
    def live(cls, engine: Engine, since: datetime, until: datetime, expected: int) -> "Opened":
        """Look at the way of the watermark from `since` to `until`, on which the source has `expected` rows."""
        longest = engine.stream.longest_window
        watch = LiveWatch(
            engine.ledger, engine.store(), since=since, until=until, expected=expected, max_window=longest
        )
        return cls(watch=watch)


def work_to_the_end(engine: Engine, hints: LocalHints, opened: Opened, options: Options, *, follow: bool) -> None:
    """Do in this process what was opened, and say what came of it."""
    with shown(wanted=follow) as show:
        end = drive(engine, hints, opened.watch, run=opened.run, options=options, show=show)
    _finish(engine, opened, end)


def hand_over(engine: Engine, opened: Opened, options: Options, *, follow: bool) -> None:
    """Let the workers do what was opened."""
    with contextlib.suppress(BusyError):  # then a worker has it
        if opened.run is None:
            engine.advance(options)
        else:
            engine.advance_asked(opened.run.id)
    if not follow:
        again = f" --follow {opened.run.id[:8]}" if opened.run else ""
        click.echo(f"the workers have it. Watch: manage.py status{again}", err=True)
        return
    follow_to_the_end(engine, opened)


def follow_to_the_end(engine: Engine, opened: Opened) -> None:
    """Show the progress of what the workers do until it ends."""

    def wonder() -> None:
        click.echo("nothing has moved for 30 s. Is a worker running? celery -A tasks worker", err=True)

    try:
        with shown(wanted=True, on_still=wonder) as show:
            fine = time.monotonic()
            while not (snapshot := opened.watch.poll()).ended:
                show(snapshot)
                # That no live window can be opened is nothing to an explicit run.
                blocked = engine.ledger.blocked("working" if opened.run else None)
                if not blocked:
                    fine = time.monotonic()
                elif time.monotonic() - fine > HEALING:
                    raise_if_blocked(blocked)
                time.sleep(POLL)
            show(snapshot)
    except KeyboardInterrupt:
        again = f" --follow {opened.run.id[:8]}" if opened.run else ""
        click.echo(f"still running: the workers have it. Watch again: manage.py status{again}", err=True)
        sys.exit(Exit.DONE)
    _finish(engine, opened, snapshot)


def _open(engine: Engine, asked: Asked, options: Options, *, private: bool) -> Opened:
    """Open an explicit run if one was asked for, else look at the way from the watermark to now."""
    settings = engine.settings
    stored = engine.watermarks.read() if engine.watermarks and not (private and asked.start) else None
    now = whole_second(engine.stream.now())
    minutes_ago = now - timedelta(minutes=options.interval)
    if asked.start is None and asked.end is None and not private and not asked.no_update_last_ts:
        since = stored.mark.at if stored else minutes_ago
        until = now - timedelta(seconds=settings.lag)
        expected = engine.stream.count(Interval(since, until), wait=options.wait) if since < until else 0
        opened = Opened.live(engine, since, until, expected)
        say_window(engine, None, since, until, expected)
        return opened
    exactly = settings.queue == assembly.STDOUT and asked.interval is not None
    start = asked.start or (minutes_ago if exactly or stored is None else stored.mark.at)
    end = asked.end or now
    if end <= start:
        raise BadInputError(f"--end {utc(end)} UTC is not after --start {utc(start)} UTC.")
    run = engine.ask(
        Interval(start, end), options, may_move=not (private or asked.no_update_last_ts), private=private
    )
    say_window(engine, run, run.asked.start, run.asked.end, run.expected)
    return Opened.explicit(engine, run)


def say_window(engine: Engine, run: Run | None, start: datetime, end: datetime, expected: int) -> None:
    """Say what will be harvested, by an explicit run or by the live ones."""
    stream = engine.stream.name
    what = f"run {run.id[:8]}" if run else stream
    if end <= start:
        click.echo(f"{what}: nothing to do yet, the watermark is {utc(start)} UTC", err=True)
        return
    length = duration((end - start).total_seconds())
    windows = windows_of(Interval(start, end), engine.stream.longest_window)
    # Where Opencast tells only days, it cannot tell how many there are in less than one.
    count = f", {expected:,} {stream}" if expected else ""
    click.echo(
        f"{what}: {utc(start)} to {utc(end)} UTC ({length}), {windows} window{'s' * (windows != 1)}{count}",
        err=True,
    )


def _finish(engine: Engine, opened: Opened, end: Snapshot) -> None:
    """Say what came of it, and exit by it."""
    what = f"run {opened.run.id[:8]}" if opened.run else engine.stream.name
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(end.counts.items()))
    click.echo(
        f"{what}: done. {end.records:,} sent.{f' {counts}.' if counts else ''}{_watermark(engine, opened, end)}",
        err=True,
    )
    if omitted := told_omitted(end.counts):
        click.echo(omitted, err=True)
    tell_dead(end.dead)


def tell_dead(count: int) -> None:
    """Say how many dead letters were written, and exit by it; go on if there are none."""
    if count:
        letters = f"{count} dead letter{'s' * (count != 1)}"
        click.echo(f"{letters}, kept in S3 until replayed or dropped: manage.py dead-letters list", err=True)
        sys.exit(Exit.DEAD_LETTERS)


def _watermark(engine: Engine, opened: Opened, end: Snapshot) -> str:
    if opened.run is not None and opened.run.kind == "private":
        return " The watermark stays: source and destination are not the configured ones."
    if engine.watermarks is None:
        return ""
    stored = engine.store().read()
    at = f"{utc(stored.mark.at)} UTC" if stored else "unset"
    if opened.run is None:
        return f" The watermark is {at}."
    if opened.run.etag is not None:
        return f" The watermark: {at} ({end.note})."
    return f" The watermark stays at {at}."


def goes_elsewhere(configured: Settings, settings: Settings, *fields: str) -> bool:
    """Tell whether a run goes elsewhere than the configured, or comes from elsewhere, by these fields.

    Then it says nothing about the watermark, and no worker may take part.
    """
    return any(getattr(configured, field) not in {None, getattr(settings, field)} for field in fields)


def with_options(configured: Settings, given: Given) -> Settings:
    """Return the settings with what was given on the command line: by field, option, value and reader."""
    changes = {}
    for field, (option, value, read) in given.items():
        if value is None:
            continue
        try:
            changes[field] = read(value)
        except ValueError as error:
            what = settings_.shown(str(value), secret=option == "--password")
            raise BadInputError(f"{option}: {what} cannot be used. Expected {error}.") from None
    return dataclasses.replace(configured, **changes)
