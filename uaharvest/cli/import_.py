"""`import`: bring over useractions from files that the old tool, elasticdump or `documents export` wrote."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import click

from uaharvest import assembly
from uaharvest.cli.context import Context
from uaharvest.cli.outcome import report_dead_letters
from uaharvest.errors import HarvestError
from uaharvest.importing.files import STDIN, File, opened
from uaharvest.importing.importer import Importer, Survey, survey
from uaharvest.importing.positions import RecordCounts

LINE_EVERY = 5.0  # seconds between progress lines


@click.group("import")
def import_() -> None:
    """Bring over useractions from files."""


@import_.command("useractions")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--to",
    type=click.Choice(assembly.DESTINATIONS),
    default=assembly.DESTINATIONS[0],
    help="Store them (DOCUMENTS_URL, else ES_HOST), or send them to SQS_QUEUE_NAME for the indexer or Logstash.",
)
@click.option("--dry-run", is_flag=True, help="Only read the files and count what they hold.")
@click.option("--again", is_flag=True, help="Import the files from their beginnings, whatever was done.")
@click.pass_obj
def import_useractions(context: Context, *, files: tuple[str, ...], to: str, dry_run: bool, again: bool) -> None:
    """Import useractions from each FILE: a path, s3://BUCKET/KEY, or - for stdin.

    A file has JSON lines: messages or output of the old tool, `documents export`, or elasticdump's from Elasticsearch
    2. It may be compressed with gzip or zstd. An import that was stopped continues where it was if you give the same
    command. Nothing that is stored becomes poorer. What cannot be read becomes a dead letter; the exit code is then 5.
    """
    for name in files:
        if name != STDIN:
            with opened(name):
                pass  # an error in the last one shows before the first is imported
    importer = None if dry_run else assembly.importer(context.settings, to)
    total = RecordCounts()
    with _stoppable() as stopped:
        for name in files:
            with opened(name) as file:
                if importer is None:
                    _survey(context, file, stopped)
                else:
                    total += _import(importer, file, stopped, again=again)
    report_dead_letters(total.dead)


def _import(importer: Importer, file: File, stopped: threading.Event, *, again: bool) -> RecordCounts:
    """Import a file and print the result; return the dead letters and so on of this time."""
    positions = importer.run(file, again=again)
    first = position = next(positions)
    if first.done:
        click.echo(
            f"{file.name}: imported before: {_words(first.counts)}. Use --again to import it again.", err=True
        )
        return RecordCounts()
    if first.at:
        click.echo(f"{file.name}: continues after {first.counts.read:,} records", err=True)
    show = _ImportProgress(file, first.counts.read)
    for position in positions:
        show(position.counts.read)
        if stopped.is_set() and not position.done:
            raise _stopped(file, position.counts.read)
    click.echo(f"{file.name}: {_words(position.counts)}, {show.rate(position.counts.read)}", err=True)
    return RecordCounts(dead=position.counts.dead - first.counts.dead)


def _survey(context: Context, file: File, stopped: threading.Event) -> None:
    """Print what a file holds."""
    show = _ImportProgress(file, 0)
    found = Survey()
    for found in survey(file, context.settings.opencast_zone):
        show(found.read)
        if stopped.is_set():
            raise _stopped(file, found.read)
    kinds = [f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()) if count]
    if found.unreadable:
        kinds.append(f"{found.unreadable:,} unreadable (the first {found.reason})")
    days = f" of {found.first:%F} to {found.last:%F} UTC" if found.first and found.last else ""
    click.echo(f"{file.name}: {found.read:,} records{days}{': ' if kinds else ''}{', '.join(kinds)}")


class _ImportProgress:
    """Prints a line every few seconds: records, rate and the share of the file."""

    def __init__(self, file: File, before: int) -> None:
        self._file = file
        self._before = before
        self._began = self._last = time.monotonic()

    def __call__(self, read: int) -> None:
        if time.monotonic() - self._last < LINE_EVERY:
            return
        self._last = time.monotonic()
        share = self._file.share
        part = "" if share is None else f", {share:.0%} of the file"
        click.echo(f"{self._file.name}: {read:,} records, {self.rate(read)}{part}", err=True)

    def rate(self, read: int) -> str:
        """Return the records per second of this time."""
        return f"{(read - self._before) / max(time.monotonic() - self._began, 0.1):,.0f}/s"


@contextlib.contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; a second one ends the process as usual."""
    event = threading.Event()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        event.set()
        restore()

    for number in former:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        restore()


def _stopped(file: File, read: int) -> HarvestError:
    return HarvestError(f"{file.name}: stopped after {read:,} records. The same command continues there.")


def _words(counts: RecordCounts) -> str:
    parts = {
        "completed": counts.completed,
        "no useractions": counts.skipped,
        "dead letters": counts.dead,
        "of people who were erased": counts.erased,
    }
    more = "".join(f", {count:,} {name}" for name, count in parts.items() if count)
    return f"{counts.read:,} read, {counts.imported:,} imported, {counts.present:,} already there{more}"
