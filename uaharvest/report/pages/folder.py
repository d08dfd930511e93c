"""Writes the pages of a report, and the CSV files beside them, as a whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from uaharvest import unfinished
from uaharvest.errors import BadInputError
from uaharvest.report.pages.model import ReportPages

MARK = ".uaharvest-report"
"""Names a folder that a later report may replace."""

ASSETS = ("report.css", "report.js", "d3.min.js", "plot.umd.min.js", "LICENSES.txt")
_HERE = Path(__file__).parent


def check(folder: Path) -> None:
    """Raise BadInputError unless a report can be written to the folder: it is new, empty, or a report."""
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"--output: {folder} is a file. Expected a folder.")
    if not folder.absolute().parent.is_dir():
        raise BadInputError(f"--output: {folder.absolute().parent} does not exist.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise BadInputError(
            f"--output: {folder} has files that do not belong to a report. Expected a new or an empty folder."
        )


def write(site: ReportPages, folder: Path, more: Mapping[str, str]) -> int:
    """Write a report, readable by this user only, in place of an earlier one; return the number of files.

    Args:
        site: What the pages show.
        folder: Where; see `check`.
        more: The text of further files, by name.
    """
    files = {**pages(site), **more}
    with unfinished.folder(folder.absolute().parent) as work:
        new = work / "new"
        new.mkdir(mode=0o700)
        for name, text in files.items():
            _write(new / name, text.encode())
        (new / "assets").mkdir(mode=0o700)
        for name in ASSETS:
            _write(new / "assets" / name, (_HERE / "assets" / name).read_bytes())
        _write(new / MARK, b"")
        old = work / "old"
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    return len(files)


def pages(site: ReportPages) -> dict[str, str]:
    """Return the text of all pages and CSV files, by name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = {}
    for name in ("index", "unmatched", "definitions"):
        files[f"{name}.html"] = environment.get_template(f"{name}.html").render(site=site)
    template = environment.get_template("lecture.html")
    for number, page in enumerate(site.lectures):
        before = site.lectures[number - 1].file if number else None
        after = site.lectures[number + 1].file if number + 1 < len(site.lectures) else None
        files[page.file] = template.render(site=site, page=page, before=before, after=after)
    tables = [site.attendance, site.chart.table, site.unmatched, site.tallies]
    tables += [table for page in site.lectures for table in page.all_tables]
    # Excel takes a file for UTF-8 only if it begins with a mark.
    return files | {f"{table.name}.csv": f"\ufeff{table.csv()}" for table in tables}


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
