"""`audit`: compare the documents of closed days with their source."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import date, datetime

import click

from uaharvest import assembly
from uaharvest.audit.auditor import Auditor
from uaharvest.audit.day import DayAudit
from uaharvest.audit.site import STREAMS, auditor
from uaharvest.cli import output
from uaharvest.cli.context import Context
from uaharvest.cli.options import Day
from uaharvest.errors import Exit
from uaharvest.settings import Settings
from uaharvest.streams.specs import useractions

COLUMNS = ("day (UTC)", "documents", "at the source", "indexed", "missing", "extra", "repeated", "dead letters")
# A cluster shows a document within a second, but an idle index only some time after it was searched.
SHOWN_WITHIN = 30.0  # seconds
LOOK_AGAIN = 1.0


@click.command()
@click.option("-s", "--start", type=Day(), help="First day (UTC); default: the same as --end.")
@click.option("-e", "--end", type=Day(), help="Last day, inclusive; default: the newest closed day.")
@click.option("--stream", type=click.Choice(STREAMS), default=useractions.SPEC.name, help="The stream to audit.")
@click.option("--repair", is_flag=True, help="Harvest exactly what is missing, then compare again.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each day.")
@click.pass_obj
def audit(
    context: Context, *, start: datetime | None, end: datetime | None, stream: str, repair: bool, as_json: bool
) -> None:
    """Compare what the source has of closed days with the documents.

    A day is closed when the harvest looks for no more late rows of it. The exit code is 6 if rows are missing.
    docs/audit.md explains the columns.
    """
    settings = context.settings
    compared = auditor(settings, stream)
    days = compared.closed(start and start.date(), end and end.date())
    own_index = stream == useractions.SPEC.name
    if repair and own_index and settings.indexer:
        assembly.indexer(settings).drain()  # what waits in the queue is not missing
    found = []
    for day in days:
        found.append(compared.audit(day, repair=repair))
        if as_json:
            click.echo(json.dumps(found[-1].entry()))
    if not as_json:
        _show(found)
    lacking = [one for one in found if one.missing]
    if repair and lacking:
        lacking = _repaired(settings, compared, lacking, indexes=own_index, as_json=as_json)
    elif lacking and own_index:
        _note_waiting(settings)
    if lacking:
        missing = sum(one.missing for one in lacking)
        click.echo(f"{missing:,} missing on {len(lacking)} of {len(days)} days.", err=True)
        sys.exit(Exit.GAPS)


def _repaired(
    settings: Settings, compared: Auditor, lacking: Iterable[DayAudit], *, indexes: bool, as_json: bool
) -> list[DayAudit]:
    """Say what was harvested, compare again, and return the days that still lack something."""
    lacking = list(lacking)
    sent = sum(one.sent for one in lacking)
    if indexes and not settings.indexer:
        click.echo(
            f"{sent:,} missing rows were sent to SQS queue {settings.queue}. Audit again when its reader has indexed"
            " them.",
            err=True,
        )
        return lacking
    click.echo(f"{sent:,} missing rows were harvested. Comparing again.", err=True)
    if indexes:
        assembly.indexer(settings).drain()
    again = list(_again(compared, [one.day for one in lacking]))
    if as_json:
        for one in again:
            click.echo(json.dumps(one.entry()))
    else:
        _show(again)
    return [one for one in again if one.missing]


def _again(compared: Auditor, days: Iterable[date]) -> Iterator[DayAudit]:
    """Audit days again, until a cluster shows the documents that it has just confirmed."""
    end = time.monotonic() + SHOWN_WITHIN
    for day in days:
        while (one := compared.audit(day, repair=False)).missing and time.monotonic() < end:
            time.sleep(LOOK_AGAIN)
        yield one


def _note_waiting(settings: Settings) -> None:
    waiting, in_flight = assembly.sqs_sink(settings).depth()
    if waiting + in_flight:
        click.echo(
            f"{waiting + in_flight:,} messages are in SQS queue {settings.queue}. Rows in them are not indexed yet, and"
            " count as missing.",
            err=True,
        )


def _show(found: Iterable[DayAudit]) -> None:
    rows = []
    for one in found:
        for family, counts in one.found.items():
            numbers = (
                *(counts.source, counts.indexed, counts.missing, counts.extra, counts.repeated),
                counts.dead_letters + counts.unreadable,
            )
            cells = (f"{one.day}", family, *(f"{number:,}" for number in numbers))
            rows.append((cells, "red" if counts.missing else None))
    output.show(output.table(COLUMNS, rows, output.width()))
