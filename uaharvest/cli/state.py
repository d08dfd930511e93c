"""`status` and `watermark`: how the harvest stands, and how a person moves it."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from uaharvest import assembly
from uaharvest import status as status_
from uaharvest.cli.context import START, Context, utc
from uaharvest.cli.harvest import Opened, follow_to_the_end
from uaharvest.errors import BadInputError, BlockedError, RetryableError
from uaharvest.indexer import STREAM
from uaharvest.opencast.actions import told_omitted
from uaharvest.runs.windows import duration
from uaharvest.streams.episodes import Episodes
from uaharvest.streams.useractions import Useractions
from uaharvest.streams.zoom import Meetings

WIDE = 200


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the same content.")
@click.option("--follow", metavar="RUN", help="Show the progress of an explicit run until it ends.")
@click.pass_obj
def status(context: Context, *, as_json: bool, follow: str | None) -> None:
    """Show how every stream, queue and worker stands.

    Exits with 4 if a stream stands still (3: a span is refused), with 5 if there are dead letters: fit for a monitor.
    """
    if follow:
        _follow(context, follow)
        return
    report = status_.status(context.settings, context.workers())
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    sys.exit(status_.exit_code(report))


@click.group()
def watermark() -> None:
    """Show or move the instant up to which a stream is delivered."""


stream_option = click.option(
    "--stream",
    type=click.Choice([Useractions.name, Episodes.name, Meetings.name]),
    default=Useractions.name,
    help="Whose watermark.",
)
FIRST_BEGIN = {
    Useractions.name: "DEFAULT_INTERVAL minutes before it",
    Episodes.name: "with the day before it",
    Meetings.name: "with the day before it",
}


@watermark.command()
@stream_option
@click.pass_obj
def show(context: Context, *, stream: str) -> None:
    """Show the watermark."""
    stored = assembly.watermarks(context.settings, stream).read()
    where = f"s3://{context.settings.bucket}/{assembly.watermark_key(context.settings, stream)}"
    if stored is None:
        click.echo(f"{stream}: none at {where}. The next run begins {FIRST_BEGIN[stream]}.")
        return
    mark = stored.mark
    lag = duration((datetime.now(UTC) - mark.at).total_seconds())
    click.echo(f"{stream}: {utc(mark.at)} UTC ({lag} ago), at {where}")
    if stream == Episodes.name:
        return
    click.echo(f"late rows are looked for from {utc(mark.floor)} UTC on; epoch {mark.epoch}")


@watermark.command("set")
@click.argument("time", type=START)
@stream_option
@click.pass_obj
def set_(context: Context, *, time: datetime, stream: str) -> None:
    """Move the watermark to TIME: YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone.

    Everything after it is harvested, and sent again where it was sent before; of episodes and of zoom, whole days
    (UTC). Moved forward, what lies between is not harvested. A run that is open becomes void.
    """
    if time > datetime.now(UTC):
        raise BadInputError(f"TIME: {utc(time)} UTC lies in the future. Expected an instant before now.")
    stored = assembly.watermarks(context.settings, stream).move(time)
    click.echo(f"{stream}: the watermark is {utc(stored.mark.at)} UTC now; what comes after it is sent again.")


@watermark.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@stream_option
@click.pass_obj
def reset(context: Context, *, yes: bool, stream: str) -> None:
    """Delete the watermark: the next run begins DEFAULT_INTERVAL minutes before then, or with the day before then."""
    if not yes:
        click.confirm("What lies between the watermark and then will not be harvested. Delete it?", abort=True)
    assembly.watermarks(context.settings, stream).delete()
    click.echo(f"{stream}: the watermark is deleted; the next run begins {FIRST_BEGIN[stream]}.")


def _follow(context: Context, prefix: str) -> None:
    settings = context.settings
    ledgers = [assembly.ledger(settings, stream=stream) for stream in assembly.streams(settings)]
    found = [(ledger, run_id) for ledger in ledgers for run_id in ledger.asked() if run_id.startswith(prefix)]
    run = found[0][0].run(found[0][1]) if len(found) == 1 else None
    if run is None:
        entries = (entry for ledger in ledgers for entry in ledger.history())
        ended = next((entry for entry in entries if entry["id"].startswith(prefix)), None)
        if ended is None:
            raise BadInputError(
                f"--follow: no run begins with '{prefix}', neither an open one nor one of the last that ended. "
                "`manage.py status` lists the open ones. If Redis has lost its data: ask for it again."
            )
        click.echo(
            f"run {ended['id'][:8]}: {ended['outcome']}. {ended['delivered']:,} sent. {ended['note']}".rstrip()
        )
        return
    try:
        engine = assembly.engine(run.stream, settings, context.workers().hints(run.stream))
    except (RetryableError, BlockedError) as error:  # Opencast may have to be asked for its profile first
        kind = BlockedError if isinstance(error, BlockedError) else RetryableError
        raise kind(f"run {run.id[:8]} is open, but cannot be followed while this is so: {error}") from None
    follow_to_the_end(engine, Opened.explicit(engine, run))


def _print(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE  # a log or a pipe has no edge
    console.print(_table(report))
    index = {STREAM: report["index"] | {"open_runs": [], "last_runs": []}} if report["index"] else {}
    for name, stream in {**report["streams"], **index}.items():
        for line in _troubles(name, stream):
            console.print(line, style="red")
        last: dict[str, Any] = next((run for run in stream["last_runs"] if run["delivered"]), {})
        if omitted := told_omitted(last.get("counts", {})):
            console.print(f"{name}: {omitted}", style="yellow")
    queues = " · ".join(f"{name} {depth}" for name, depth in report["queues"].items())
    ago = report["beat_ticked_seconds_ago"]
    beat = "beat has not ticked yet" if ago is None else f"beat ticked {duration(ago)} ago"
    console.print(f"\nqueues    {queues}        workers {_workers(report['workers'])} · {beat}")
    opencast = report["opencast"]
    if opencast["profile"]:
        how = "as it answers" if opencast["found_by"] == "asking" else f"by {opencast['found_by']}"
        console.print(f"Opencast  {opencast['host']}: profile {opencast['profile']}, {how}")
    sqs = report["sqs"]
    if sqs and "error" in sqs:
        console.print(f"SQS       {sqs['error']}")
    elif sqs:
        console.print(f"SQS       {sqs['queue']}: {sqs['waiting']:,} waiting, {sqs['in_flight']:,} in flight")
    if report["index"]:
        last = report["index"]["last_drain"]
        outcome = f"last drain: {last['error'] or _drained(last)}" if last else "no drain has ended yet"
        console.print(f"index     {report['index']['indexed']:,} indexed · {outcome}")
    if report["zoom_calls"]:
        used = [f"{label} {_used(calls)}" for label, calls in report["zoom_calls"].items() if _is_told(calls)]
        console.print(f"Zoom      calls today: {' · '.join(used) or 'none'}")


def _workers(alive: dict[str, list[str]] | None) -> str:
    if alive is None:
        return "cannot be asked over SQS"
    hosts = {name.partition("@")[2] for name in alive}
    return f"{len(alive)} ({len(hosts)} host{'s' * (len(hosts) != 1)})" if hosts else "0"


def _table(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("stream", "watermark (UTC)", "lag", "open run", "last run", "dead letters"):
        table.add_column(column, no_wrap=True)
    for name, stream in report["streams"].items():
        table.add_row(
            name,
            stream["watermark"].replace("T", " ").rstrip("Z") if stream["watermark"] else "none yet",
            duration(stream["lag_seconds"]) if stream["lag_seconds"] is not None else "-",
            "\n".join(_open_run(run) for run in stream["open_runs"]) or "-",
            _last_run(stream["last_runs"]),
            "?" if stream["dead_letters"] is None else str(stream["dead_letters"]),
            style="red" if stream["blocked"] or stream["dead_letters"] else None,
        )
    return table


def _troubles(name: str, stream: dict[str, Any]) -> Iterator[str]:
    if stream["blocked"]:
        since = f" (since {stream['blocked']['since']})" if stream["blocked"]["since"] else ""
        yield f"{name} is blocked{since}: {stream['blocked']['reason']}"
    for run in stream["open_runs"]:
        if run["slices"]["put_off"]:
            yield f"{name}: slices are put off, and come again by themselves: {run['trouble']}"
    if stream["s3_error"]:
        yield f"{name}: {stream['s3_error']}"
    if stream["dead_letters"]:
        yield f"{name}: dead letters wait: manage.py dead-letters list"


def _is_told(calls: dict[str, Any]) -> bool:
    return bool(calls["calls"] or calls["exhausted_until"])


def _used(calls: dict[str, Any]) -> str:
    until = calls["exhausted_until"]
    spent = f" (used up until {until.replace('T', ' ').rstrip('Z')} UTC)" if until else ""
    return f"{calls['calls']:,}{spent}"


def _drained(last: dict[str, Any]) -> str:
    return (
        f"{last['indexed']:,} in {last['seconds']} s, ended {last['ended_at'].replace('T', ' ').rstrip('Z')} UTC"
    )


def _open_run(run: dict[str, Any]) -> str:
    slices = run["slices"]
    name = "" if run["kind"] == "live" else f"{run['id'][:8]}: "
    waiting = f", {slices['put_off']} put off" if slices["put_off"] else ""
    return (
        f"{name}slices {slices['done']}/{slices['planned']} done, {slices['claimed']} claimed, "
        f"{slices['due']} due{waiting}"
    )


def _last_run(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "-"
    last = runs[0]
    outcome = "" if last["outcome"] == "done" else f" ({last['outcome']})"
    counts = "".join(f", {count:,} {name.replace('_', ' ')}" for name, count in sorted(last["counts"].items()))
    return f"{last['delivered']:,} records{counts}, {last['seconds']} s{outcome}"
