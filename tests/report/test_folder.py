import csv
import errno
import hashlib
import io
import re
import stat
from datetime import UTC
from pathlib import Path

import pytest

from uaharvest.errors import BadInputError
from uaharvest.report import lectures
from uaharvest.report.course import Attending, Question, course
from uaharvest.report.groups import Hidden
from uaharvest.report.pages import folder, model
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments


def files(path):
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_the_same_documents_give_the_same_bytes(report, make, tmp_path):
    again = make(tmp_path / "again")
    assert files(again.folder) == files(report.folder)


def test_the_pages_name_nothing_outside_of_the_folder(report):
    names = files(report.folder).keys()
    pages = list(report.folder.glob("*.html"))
    assert len(pages) == 3 + 5
    for page in pages:
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            file, _, anchor = target.partition("#")
            assert not file or file in names, f"{page.name}: {target}"
            if anchor and file:
                assert f'id="{anchor}"' in (report.folder / file).read_text(), f"{page.name}: {target}"
        [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self' 'sha256-")
        assert "unsafe" not in policy
        assert not re.search(r"<style|<script(?! defer src=)|\son\w+=|style=|javascript:", text)


def test_the_libraries_are_those_that_were_published(report):
    assets = report.folder / "assets"
    sums = re.findall(r"dist/(\S+)\n  sha256 (\w{64})", (assets / "LICENSES.txt").read_text())
    assert {name for name, _ in sums} == {path.name for path in assets.glob("*.min.js")}
    for name, digest in sums:
        assert hashlib.sha256((assets / name).read_bytes()).hexdigest() == digest


def test_text_of_documents_and_options_is_shown_as_text(report):
    assert "<h1>Linguistics &lt;1&gt;</h1>" in (report.folder / "index.html").read_text()
    assert b"Linguistics <1>" not in (report.folder / "index.html").read_bytes()


def test_only_this_user_may_read_a_report(report):
    for path in (report.folder, *report.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_report_replaces_a_report_and_nothing_else(make, tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    folder.check(path)
    make(path, lectures=3)
    (path / "lecture-09.html").touch()
    make(path, lectures=2)
    assert not (path / "lecture-03.html").exists()
    assert not (path / "lecture-09.html").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out"]
    folder.check(path)
    (path / folder.MARK).unlink()
    with pytest.raises(BadInputError, match="has files that do not belong to a report"):
        folder.check(path)
    with pytest.raises(BadInputError, match="is a file"):
        folder.check(path / "index.html")
    with pytest.raises(BadInputError, match="does not exist"):
        folder.check(tmp_path / "a" / "b")


def test_a_report_that_cannot_be_written_leaves_the_one_before(report, make, tmp_path, monkeypatch):
    path = tmp_path / "out"
    before = files(make(path, lectures=2).folder)
    monkeypatch.setattr(folder, "ASSETS", ("missing.js",))
    with pytest.raises(FileNotFoundError):
        make(path, lectures=3)
    assert files(path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_report_that_cannot_be_moved_to_its_place_leaves_the_one_before(make, tmp_path, monkeypatch):
    path = tmp_path / "out"
    before = files(make(path, lectures=2).folder)
    rename = Path.rename

    def fail(source, target):
        if source.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        make(path, lectures=3)
    assert files(path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_every_table_stands_beside_the_page_as_csv(report):
    for page in report.folder.glob("*.html"):
        text = page.read_text()
        for name in re.findall(r'<table id="([^"]+)"', text):
            csv_name = "attendance" if name == "roster" else name
            assert f'href="{csv_name}.csv"' in text, f"{page.name}: {name}"
    for path in report.folder.glob("*.csv"):
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
        assert len({len(row) for row in rows}) == 1, path.name


def test_with_pseudonyms_no_name_id_or_address_is_in_any_file(make, tmp_path):
    made = make(tmp_path / "out", pseudonyms=True)
    text = b"\n".join(content for name, content in files(made.folder).items() if name.endswith((".html", ".csv")))
    for student in made.course.students:
        assert student.huid.encode() not in text
        assert not re.search(rf"\b{re.escape(student.last_name)}\b".encode(), text)
        assert student.emails[0].encode() not in text.lower()
    for one in made.course.unmatched:
        if one.who != "visitors":
            assert one.who.encode() not in text
    assert len({row.name for row in made.site.rows}) == 80
    assert b"Student 01" in text


def test_pseudonyms_follow_neither_the_roster_nor_an_earlier_report(make, tmp_path):
    orders = [
        [row.name for row in make(tmp_path / f"{n}", lectures=1, pseudonyms=True).site.rows] for n in range(2)
    ]
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])
    same = [make(tmp_path / f"s{n}", lectures=1, pseudonyms=True, seed=1).site.rows[0].name for n in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize("least", [2, 5, 12])
@pytest.mark.parametrize("students", [8, 25, 60])
def test_no_number_of_viewers_gives_a_small_group_away(make, tmp_path, least, students):
    """Students are listed one by one. From what else is shown, nobody can tell that a few people did something."""
    made = make(tmp_path / "out", lectures=4, students=students, least=least)
    for place, page in enumerate(made.site.lectures):
        viewers = len(made.course.viewers[place])
        [shown] = [figure for figure in page.figures if figure.term == "others"]
        assert shown.value == (f"<{least}" if 0 < viewers < least else str(viewers // least * least))
        tables = [*(chart.table for chart in page.charts if chart.kind != "seen"), *page.tables]
        for table in tables:
            counts = [n for n, column in enumerate(table.columns) if column.kind == "count"]
            cells = [row[n] for row in table.rows for n in counts]
            assert not [cell for cell in cells if not isinstance(cell, Hidden) and cell % least]
        along = [chart.table for chart in page.charts if chart.kind == "along"]
        for _, _, seen, views, again in along[0].rows if along else ():
            assert not isinstance(seen, Hidden) or (isinstance(views, Hidden) and isinstance(again, Hidden))


def test_a_lecture_that_few_watched_shows_no_curves(make, tmp_path):
    made = make(tmp_path / "out", lectures=2, students=3, least=40)
    for page in made.site.lectures:
        assert [chart.kind for chart in page.charts] == ["seen"]
        assert "Fewer than 40 people watched in Opencast" in page.notes[0]


def test_documents_that_know_little_make_a_report_too(tmp_path):
    times = {"start": "2026-02-02T15:00:00+00:00", "end": "2026-02-02T16:00:00+00:00"}
    documents = CourseDocuments(
        [{"mpid": "a", "viewer": "11", "huid": "11"}, {"mpid": "b", "viewer": "session:1", "live_s": 5.0}],
        [{"mpid": "a"}, {"mpid": "b", "title": "\u2028<script>", "duration_s": 0, "views": [1], "retention": [1]}],
        [{"uuid": "m", "person": "participant:1", **times}, {"uuid": "n", "person": "name:x", "user_name": "x"}],
    )
    links = lectures.propose(documents.recordings, lectures.meetings(documents.attendance))
    found = lectures.lectures(documents, links, UTC)
    whole = course(Question("s", "S", 0.5, Attending.EITHER), [Student("11")], found, documents)
    for least in (1, 5):
        folder.write(model.site(whole, documents, model.Appearance(UTC, least)), tmp_path / "out", {})
        pages = {path.name: path.read_text() for path in (tmp_path / "out").glob("lecture-*.html")}
        assert "This lecture has no recording in Opencast." in pages["lecture-01.html"]
        assert "at an unknown time" in pages["lecture-02.html"]
        assert "&lt;script&gt;" in pages["lecture-03.html"] + pages["lecture-02.html"]
        assert "<script>" not in "".join(pages.values())
