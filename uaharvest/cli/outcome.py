"""Prints what was opened, its progress and its result, in the same way for all streams."""

import sys

import click

from uaharvest import plain
from uaharvest.cli.context import utc
from uaharvest.cli.progress import shown
from uaharvest.errors import Exit
from uaharvest.intervals import Interval, duration
from uaharvest.runs.local import LocalHints, drive
from uaharvest.runs.opened import Opened, follow, hand_over
from uaharvest.runs.watch import Snapshot, windows_of
from uaharvest.streams import registry


def work_to_the_end(opened: Opened, hints: LocalHints, *, progress: bool) -> None:
    """Complete the opened run in this process and print the result."""
    with shown(wanted=progress) as show:
        end = drive(opened.engine, hints, opened.watch, run=opened.run, options=opened.options, show=show)
    _finish(opened, end)


def leave_to_workers(opened: Opened, *, progress: bool) -> None:
    """Leave the opened run to the workers."""
    unknown = hand_over(opened)
    if unknown is not None:
        # The run is already in the ledger, so repeating the command would send its rows twice.
        click.echo(
            f"{name_of(opened)} is open, but the workers were not notified: {unknown} They will take it"
            " at beat's next tick; do not ask for it again.",
            err=True,
        )
    if progress:
        follow_to_the_end(opened)
    else:
        click.echo(f"the workers have it. Watch: {_status_command(opened)}", err=True)


def follow_to_the_end(opened: Opened) -> None:
    """Show the workers' progress until the run ends."""

    def wonder() -> None:
        click.echo("nothing has moved for 30 s. Is a worker running? celery -A tasks worker", err=True)

    try:
        with shown(wanted=True, on_still=wonder) as show:
            end = follow(opened, show)
    except KeyboardInterrupt:
        click.echo(
            f"still running: the workers have it. Watch again: {_status_command(opened)}",
            err=True,
        )
        sys.exit(Exit.DONE)
    _finish(opened, end)


def name_of(opened: Opened) -> str:
    """Return the name for messages: an explicit run's id, or the stream of live runs."""
    return f"run {opened.run.id[:8]}" if opened.run else opened.engine.stream.name


def say_window(opened: Opened) -> None:
    """Print what will be harvested."""
    start, end, stream = opened.start, opened.end, opened.engine.stream
    if end <= start:
        click.echo(f"{name_of(opened)}: nothing to do yet, the watermark is {utc(start)} UTC", err=True)
        return
    length = duration((end - start).total_seconds())
    windows = windows_of(Interval(start, end), stream.longest_window)
    # A source that counts by day does not know the count for a part of a day.
    count = f", {opened.expected:,} {stream.name}" if opened.expected else ""
    click.echo(
        f"{name_of(opened)}: {utc(start)} to {utc(end)} UTC ({length}), {windows} window{'s' * (windows != 1)}{count}",
        err=True,
    )


def report_dead_letters(count: int) -> None:
    """If dead letters were written, print how many and exit with their exit code."""
    if count:
        dead_letters = f"{count} dead letter{'s' * (count != 1)}"
        click.echo(f"{dead_letters}, kept in S3 until replayed or dropped: manage.py dead-letters list", err=True)
        sys.exit(Exit.DEAD_LETTERS)


def _status_command(opened: Opened) -> str:
    return f"manage.py status{f' --follow {opened.run.id[:8]}' if opened.run else ''}"


def _finish(opened: Opened, end: Snapshot) -> None:
    """Print the result and exit with the matching exit code."""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(end.counts.items()))
    sent = f"{name_of(opened)}: done. {end.records:,} sent.{f' {counts}.' if counts else ''}"
    click.echo(plain.one_line(f"{sent}{_watermark(opened, end)}"), err=True)
    if remark := registry.spec_of(opened.engine.stream.name).remark(end.counts):
        click.echo(remark, err=True)
    report_dead_letters(end.dead)


def _watermark(opened: Opened, end: Snapshot) -> str:
    if opened.run is not None and opened.run.kind == "private":
        return " The watermark stays: source and destination are not the configured ones."
    if opened.engine.watermarks is None:
        return ""
    stored = opened.engine.store().read()
    at = f"{utc(stored.mark.at)} UTC" if stored else "unset"
    if opened.run is None:
        return f" The watermark is {at}."
    if opened.run.etag is not None:
        return f" The watermark: {at} ({end.note})."
    return f" The watermark stays at {at}."
