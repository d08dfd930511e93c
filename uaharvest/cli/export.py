"""`export`: write what was harvested for readers: CSV, xAPI, Parquet."""

import datetime as dt
import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uaharvest import assembly, aws
from uaharvest.cli.context import Context
from uaharvest.cli.options import END, START, Day, combined
from uaharvest.errors import BadInputError, HarvestError
from uaharvest.exporting import files, products, rollcall
from uaharvest.exporting.source import ChosenSeries, SiteDocuments
from uaharvest.exporting.tables import TABLES
from uaharvest.exporting.useractions import Grouped
from uaharvest.plain import counted
from uaharvest.readers import base_url
from uaharvest.settings import Settings

if TYPE_CHECKING:  # these take time to import
    from uaharvest.exporting.xapi.export import Export, Unit

_SHOWN = 5  # refused statements on one line


@click.group()
@click.pass_context
def export(context: click.Context) -> None:
    """Export documents as CSV, xAPI statements or Parquet. All of it is personal data. docs/export.md has more."""
    # SIGTERM ends an export as Ctrl-C does, so that no half file stays.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    context.call_on_close(lambda: signal.signal(signal.SIGTERM, former))


_output = click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), help="A file; default: stdout."
)
_series = click.option("--series", multiple=True, help="The recordings of this series; may be repeated.")
_recordings = combined(
    click.option("--year", help="Year of the term: the first four digits of YYYYTTCCCCC series."),
    click.option("--term", help="Term: the next two digits."),
    _series,
    _output,
)
_as_before = click.option("--as-before", is_flag=True, help="By the formula of the old tool, with its defects.")


@export.command()
@_recordings
@click.option("--live", is_flag=True, help="Presence at the live lectures.")
@_as_before
@click.option(
    "--chunk-interval",
    type=click.IntRange(1),
    default=300,
    help="With --as-before: seconds that a heartbeat counts.",
)
@click.pass_obj
def attendance(
    context: Context,
    *,
    year: str | None,
    term: str | None,
    series: Sequence[str],
    path: Path | None,
    live: bool,
    as_before: bool,
    chunk_interval: int,
) -> None:
    """How much of each recording each student saw, as CSV: mpid, huid, vod_attendance or live_attendance (percent)."""
    if live and as_before:
        raise BadInputError("--live: the old tool wrote nothing but the header. Leave out --as-before.")
    source = _source(context)
    episodes = source.episodes(_chosen(year, term, series))
    if as_before:
        with _useractions(source, episodes) as grouped:
            _write(path, products.ATTENDANCE, products.attendance_as_before(grouped, episodes, chunk_interval))
        return
    viewings = source.viewings(list(episodes))
    if live:
        _write(path, products.LIVE_ATTENDANCE, _in_order(products.live_attendance(viewings, episodes)))
    else:
        _write(path, products.ATTENDANCE, _in_order(products.attendance(viewings)))


@export.command("viewing-options")
@_recordings
@_as_before
@click.pass_obj
def viewing_options(
    context: Context,
    *,
    year: str | None,
    term: str | None,
    series: Sequence[str],
    path: Path | None,
    as_before: bool,
) -> None:
    """How often each student used which option, as CSV: mpid, huid, captions, playback_speed, view_mode."""
    source = _source(context)
    episodes = source.episodes(_chosen(year, term, series))
    if as_before:
        with _useractions(source, episodes) as grouped:
            _write(path, products.VIEWING_OPTIONS, products.viewing_options_as_before(grouped))
        return
    found = source.of_recordings("useractions", list(episodes), source.days("useractions"))
    _write(path, products.VIEWING_OPTIONS, products.viewing_options(found))


@export.command("episode-metrics")
@_recordings
@_as_before
@click.pass_obj
def episode_metrics(
    context: Context,
    *,
    year: str | None,
    term: str | None,
    series: Sequence[str],
    path: Path | None,
    as_before: bool,
) -> None:
    """The average share of each recording that was seen, and the number of its viewers, as CSV."""
    source = _source(context)
    episodes = source.episodes(_chosen(year, term, series))
    least = context.settings.report_min_group
    if as_before:
        with _useractions(source, episodes) as grouped:
            rows = products.episode_metrics_as_before(grouped, episodes, least)
            _write(path, products.EPISODE_METRICS, rows)
        return
    rows = products.episode_metrics(episodes, source.recordings(list(episodes)), least)
    _write(path, products.EPISODE_METRICS, rows)


@export.command("rollcall")
@_recordings
@click.option("--banner", help="URL of the folder of Banner's __get_course_people.php.")
@click.option(
    "--roster",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A CSV file with the columns series and huid, and any others of this product.",
)
@click.pass_obj
def export_rollcall(
    context: Context,
    *,
    year: str | None,
    term: str | None,
    series: Sequence[str],
    path: Path | None,
    banner: str | None,
    roster: Path | None,
) -> None:
    """Who takes part in the courses, as CSV: series, huid, status, first_name, mi, last_name, reg_level."""
    if (banner is None) == (roster is None):
        raise BadInputError("--banner, --roster: Expected one of them.")
    chosen = _chosen(year, term, series)
    people: Iterable[Mapping[str, Any]]
    if roster is not None:
        people = list(rollcall.people_of(roster, chosen.__contains__))  # an error comes before the header
    else:
        source = _source(context)
        known = {str(episode["series"]) for episode in source.episodes(chosen).values()}
        people = rollcall.Banner(banner or "").people(sorted(known | chosen.series))
    _write(path, rollcall.COLUMNS, people)


@export.command()
@click.option("-s", "--start", type=START, help="The earliest time of a statement; default: all.")
@click.option("-e", "--end", type=END, help="Its end, exclusive; default: the last midnight (UTC).")
@_series
@_output
@click.option(
    "--to",
    type=click.Choice(["file", "lrs"]),
    default="file",
    help="Write JSON lines, or send the statements to LRS_URL in batches.",
)
@click.option("--again", is_flag=True, help="With --to lrs: send all, whatever was sent before.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9,
    help="The share of a recording that completes it.",
)
@click.option(
    "--home-page",
    help="URL of the system whose accounts the viewers have; default: MATTERHORN_ENGAGE_HOST. Ids are derived from it.",
)
@click.pass_obj
def xapi(
    context: Context,
    *,
    start: dt.datetime | None,
    end: dt.datetime | None,
    series: Sequence[str],
    path: Path | None,
    to: str,
    again: bool,
    threshold: float,
    home_page: str | None,
) -> None:
    """Export xAPI statements: what viewers played (Video Profile), and who was in Zoom meetings (virtual classroom).

    Statements have ids that are derived from useractions, so a repeated export adds nothing to an LRS. With --to lrs,
    an export that was stopped goes on where it was if you give the same command.
    """
    from uaharvest.exporting.xapi.export import Export  # noqa: PLC0415 - takes time to import
    from uaharvest.exporting.xapi.video import Video  # noqa: PLC0415
    from uaharvest.exporting.xapi.vocabulary import Origin  # noqa: PLC0415

    settings = context.settings
    if to == "lrs" and path is not None:
        raise BadInputError("--output: statements are sent to the LRS. Leave it out, or --to lrs.")
    until = end or dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if start is not None and start >= until:
        raise BadInputError(f"--start: {start:%F %T} is not before the end, {until:%F %T} UTC.")
    home = _home(settings, home_page)
    chosen = ChosenSeries(frozenset(series)) if series else None
    video = Video(Origin(home), threshold)
    made = Export(_source(context), video, start=start, end=until, chosen=chosen)
    if to == "file":
        _write_lines(path, made.units())
    else:
        what = f"{start} {until} {','.join(sorted(series))} {threshold} of {home}"
        _send(settings, made, what, again=again)
    _say_left_out(made)


@export.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("-s", "--start", type=Day(), help="First day (UTC); default: the first that there is.")
@click.option("-e", "--end", type=Day(), help="Last day, inclusive; default: the last that there is.")
@click.option("--table", "names", type=click.Choice(sorted(TABLES)), multiple=True, help="Only this table.")
@click.pass_obj
def parquet(
    context: Context, *, folder: Path, start: dt.datetime | None, end: dt.datetime | None, names: Sequence[str]
) -> None:
    """Write useractions, viewings and Zoom sessions to FOLDER as Parquet files, one for each day.

    A day that is written again is replaced. Viewings are always written as a whole, because a viewer who comes back
    moves to another day.
    """
    from uaharvest.exporting.parquet import Parquet  # noqa: PLC0415 - DuckDB takes time to import

    source = _source(context)
    writer = Parquet(folder)
    for name in names or TABLES:
        files_, rows = 0, 0
        for _, count in writer.write(source, TABLES[name], start and start.date(), end and end.date()):
            files_, rows = files_ + bool(count), rows + count
        click.echo(f"{name}: {counted(files_, 'file')}, {counted(rows, 'row')}", err=True)


def _source(context: Context) -> SiteDocuments:
    """Return the documents, and record that somebody looks at them."""
    context.note_access(click.get_current_context().command_path.partition(" ")[2])
    return SiteDocuments(
        assembly.document_store(context.settings), context.settings.index_infix, context.settings.anonymous_users
    )


def _chosen(year: str | None, term: str | None, series: Sequence[str]) -> ChosenSeries:
    if (year is None) != (term is None):
        raise BadInputError("--year and --term go together; one of them is not given.")
    if year is None and not series:
        raise BadInputError(
            "--year, --term, --series: Expected a year and a term, such as --year 2026 --term 03, or series."
        )
    if year is not None and not (len(year) == 4 and year.isdecimal()):  # noqa: PLR2004
        raise BadInputError("--year: Expected four digits, such as 2026.")
    if term is not None and not (len(term) == 2 and term.isdecimal()):  # noqa: PLR2004
        raise BadInputError("--term: Expected two digits, such as 03.")
    return ChosenSeries(frozenset(series), year, term)


def _useractions(source: SiteDocuments, mpids: Iterable[str]) -> Grouped:
    """Return all useractions of these recordings, whose viewers are the users that the old tools saw."""
    grouped = Grouped("huid")
    grouped.add(source.of_recordings("useractions", list(mpids), source.days("useractions")))
    return grouped


def _in_order(rows: Iterable[products.CsvRow]) -> list[products.CsvRow]:
    """Sort rows, which are small, by recording and student: stores return documents in any order."""
    return sorted(rows, key=lambda row: (str(row["mpid"]), str(row["huid"])))


def _write(path: Path | None, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with files.output(path) as opened:
        count = files.write_csv(opened, columns, rows)
    click.echo(counted(count, "row"), err=True)


def _write_lines(path: Path | None, units: "Iterable[Unit]") -> None:
    count = 0
    with files.output(path) as opened:
        for unit in units:
            for statement in unit.statements:
                opened.write(json.dumps(statement, separators=(",", ":")))
                opened.write("\n")
                count += 1
    click.echo(counted(count, "statement"), err=True)


def _send(settings: Settings, made: "Export", what: str, *, again: bool) -> None:
    from uaharvest.exporting.xapi.lrs import Lrs, StatementCounts, deliver  # noqa: PLC0415 - takes time to import
    from uaharvest.exporting.xapi.positions import ExportPosition  # noqa: PLC0415

    lrs = Lrs(settings)
    position = None
    if settings.bucket:
        position = ExportPosition(aws.s3_client(), settings.bucket, f"{what} to {settings.lrs_url}")
    after = position.read() if position else None
    if after is not None and again:
        after = None
    if after is not None:
        click.echo(f"continues after {after}", err=True)
    total = StatementCounts()
    for sent in deliver(made.units(after), lrs, position):
        total += sent
    if position:
        position.finish()
    different = f", {counted(total.different, 'other')} kept there as before" if total.different else ""
    click.echo(f"{counted(total.taken, 'statement')} sent{different}", err=True)
    if total.refused:
        shown = ", ".join(f"{id_} ({status})" for id_, status in total.refused[:_SHOWN])
        refused = counted(len(total.refused), "statement")
        raise HarvestError(f"The LRS refuses {refused}; all others are sent: {shown}.")


def _say_left_out(made: "Export") -> None:
    left_out = made.left_out
    if left_out.unknown_duration:
        recordings = counted(left_out.unknown_duration, "recording")
        click.echo(f"{recordings} left out, because their duration is not known", err=True)
    if left_out.unusable:
        useractions = counted(left_out.unusable, "useraction")
        click.echo(f"{useractions} left out: no id, time, recording or viewer", err=True)


def _home(settings: Settings, given: str | None) -> str:
    if given is None:
        settings.require("engage_url")
        return settings.engage_url or ""
    try:
        return base_url(given)
    except ValueError as error:
        raise BadInputError(f"--home-page: Expected {error}.") from None
