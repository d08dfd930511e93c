"""`report`: who attended the lectures of a course, and what was watched, as static pages."""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from uaharvest import assembly, plain, readers
from uaharvest.cli.context import Context
from uaharvest.cli.options import Day
from uaharvest.errors import BadInputError
from uaharvest.privacy.site import known_as


class Zone(click.ParamType[ZoneInfo]):
    """A time zone."""

    name = "zone"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:  # noqa: ARG002
        """Return the zone."""
        try:
            return readers.zone(value)
        except ValueError as error:
            raise BadInputError(
                f"--timezone: '{plain.one_line(value)}' cannot be used. Expected {error}."
            ) from None


DAY = Day("in the course's zone")


@click.group()
def report() -> None:
    """Report on a course, from the documents in the store (DOCUMENTS_URL, else ES_HOST)."""


@report.command()
@click.argument("series")
@click.option(
    "--roster",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV file of the students: huid,email,first_name,last_name, and optionally registrant,preferred_name.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write to."
)
@click.option(
    "--zoom",
    "meeting_ids",
    multiple=True,
    metavar="MEETING_ID",
    help="A Zoom meeting of the course; may be repeated.",
)
@click.option(
    "--meetings",
    type=click.Path(path_type=Path),
    help="CSV file that says which meeting belongs to which recording; default: by their times, see DIR/meetings.csv.",
)
@click.option("--from", "first", type=DAY, help="First day of the lectures, in the course's zone.")
@click.option("--to", "last", type=DAY, help="Last day, inclusive.")
@click.option("--title", help="The course's title; default: the series.")
@click.option(
    "--threshold",
    type=click.IntRange(1, 100),
    help="Per cent from which on a student attended; default: REPORT_THRESHOLD.",
)
@click.option(
    "--attended",
    type=click.Choice(["either", "live", "recording"]),
    default="either",
    help="What counts as attending.",
)
@click.option("--timezone", type=Zone(), help="The course's time zone; default: OPENCAST_TIMEZONE.")
@click.option("--pseudonyms", is_flag=True, help="Leave names and ids out.")
@click.pass_obj
def course(
    context: Context,
    *,
    series: str,
    roster: Path,
    output: Path,
    meeting_ids: tuple[str, ...],
    meetings: Path | None,
    first: datetime | None,
    last: datetime | None,
    title: str | None,
    threshold: int | None,
    attended: str,
    timezone: ZoneInfo | None,
    pseudonyms: bool,
) -> None:
    """Show who attended the lectures of a course, live, by the recording, or in Zoom.

    DIR becomes a folder of web pages and CSV files that contain personal data; open DIR/index.html. docs/report.md
    says what counts.
    """
    # Templates take time to import.
    from uaharvest.report import lectures as lectures_  # noqa: PLC0415
    from uaharvest.report import roster as roster_  # noqa: PLC0415
    from uaharvest.report.course import Attending, Question  # noqa: PLC0415
    from uaharvest.report.course import course as joined  # noqa: PLC0415
    from uaharvest.report.pages import folder, model  # noqa: PLC0415
    from uaharvest.report.source import StoredDocuments  # noqa: PLC0415
    from uaharvest.report.tables import written  # noqa: PLC0415

    if first and last and first > last:
        raise BadInputError("--from: it is after --to. Expected an earlier day.")
    settings = context.settings
    zone = timezone or settings.opencast_zone
    folder.check(output)
    students = roster_.read(roster)
    context.note_access("report course", series=series)
    store = StoredDocuments(assembly.document_store(settings), settings.anonymous_users)
    documents = store.course(series, _numbers(meeting_ids))
    held = lectures_.meetings(documents.attendance)
    if meetings:
        links = lectures_.read(meetings, documents.recordings, held)
    else:
        links = lectures_.propose(documents.recordings, held)
    found = lectures_.lectures(documents, links, zone, (_date(first), _date(last)))
    if not found:
        raise BadInputError(
            f"SERIES: there are no lectures of '{plain.one_line(series)}' in the documents, or none on these days."
            " Expected the id of a series whose recordings were watched, or --zoom."
        )
    share = (threshold or settings.report_threshold) / 100
    whole = joined(
        Question(series, title or series, share, Attending(attended)),
        students,
        found,
        documents,
        known_as(settings),
    )
    site = model.site(whole, documents, model.Appearance(zone, settings.report_min_group, pseudonyms=pseudonyms))
    linked = written(lectures_.written(links, documents.recordings))
    folder.write(site, output, {"meetings.csv": f"\ufeff{linked}"})
    click.echo(
        f"{plain.counted(len(students), 'student')}, {plain.counted(len(found), 'lecture')}: {output / 'index.html'}"
    )
    for tally in whole.tallies:
        if tally.sessions:
            click.echo(
                f"{tally.source}: {tally.sessions:,} sessions, {tally.matched:,} matched, {tally.unmatched:,} not"
            )
    if unsure := [link for link in links if not link.mpid]:
        click.echo(
            f"{len(unsure):,} of {len(held):,} Zoom meetings belong to no recording and count as lectures of their own."
            f" If that is wrong, change {output / 'meetings.csv'} and give it to --meetings.",
            err=True,
        )


def _numbers(meeting_ids: tuple[str, ...]) -> list[str]:
    """Return the ids of meetings without the spaces and hyphens that Zoom shows them with."""
    numbers = [value.replace(" ", "").replace("-", "") for value in meeting_ids]
    for given, number in zip(meeting_ids, numbers, strict=True):
        if not (number.isascii() and number.isdigit()):
            raise BadInputError(
                f"--zoom: '{plain.one_line(given)}' is not a meeting id. Expected a number such as 912 3456 7890."
            )
    return numbers


def _date(at: datetime | None) -> date | None:
    return at.date() if at else None
