import csv

import pytest
from click.testing import CliRunner

from simulators import course as simulated
from uaharvest import settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.documents.document import Document
from uaharvest.errors import Exit
from uaharvest.report.tables import written
from uaharvest.sinks.sqlite import SqliteStore

SERIES = "20260210038"


@pytest.fixture(scope="module")
def truth():
    return simulated.course(lectures=3, students=30)


@pytest.fixture(scope="module")
def documents_url(tmp_path_factory, truth):
    """A document store that has this course, another one, and useractions of one lecture."""
    path = tmp_path_factory.mktemp("store") / "documents.db"
    documents = []
    for index in ("viewings", "recordings", "attendance"):
        documents += [Document(index, f"{n}", fields) for n, fields in enumerate(getattr(truth, index))]
    documents.append(Document("recordings", "x", {**truth.recordings[0], "mpid": "x", "series": "another"}))
    mpid = truth.recordings[0]["mpid"]
    for n, viewer in enumerate(truth.whereabouts[mpid]):
        user = viewer if not viewer.startswith("session:") else "anonymous"
        fields = {"mpid": mpid, "huid": user, "session_id": viewer.removeprefix("session:")}
        documents.append(Document("useractions-2026.01.26", f"{n}", {**fields, "ua": {"os_name": "iOS"}}))
    list(SqliteStore(path).write(documents))
    return f"sqlite:///{path}"


@pytest.fixture
def roster(tmp_path, truth):
    path = tmp_path / "roster.csv"
    path.write_text(written([["huid", "email", "first_name", "last_name", "registrant"], *truth.roster]))
    return path


@pytest.fixture
def report(monkeypatch, documents_url, roster, tmp_path):
    """Runs `report course`; gives its exit code, stdout and stderr."""

    def report(*arguments, series=SERIES, **variables):
        usual = {"DOCUMENTS_URL": documents_url, "OPENCAST_TIMEZONE": "America/New_York"}
        for name, value in {**usual, **variables}.items():
            monkeypatch.setenv(name, value)
        settings.current.cache_clear()
        given = [
            "report",
            "course",
            series,
            "--roster",
            str(roster),
            "--output",
            str(tmp_path / "out"),
            *arguments,
        ]
        result = CliRunner().invoke(cli, given, obj=Context(lambda: pytest.fail("no worker is needed")))
        return result.exit_code, result.stdout, result.stderr

    yield report
    settings.current.cache_clear()


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_course_becomes_a_folder_of_pages(report, tmp_path, truth):
    code, said, error = report("--zoom", "912 3456 7890", "--title", "Linguistics")
    sessions = sum(one["sessions"] for one in truth.attendance)
    assert (code, error) == (Exit.DONE, "")
    [first, opencast, zoom] = said.splitlines()
    assert first == f"30 students, 3 lectures: {tmp_path / 'out' / 'index.html'}"
    assert opencast.startswith(f"Opencast: {len(truth.viewings):,} sessions, ")
    assert zoom.startswith(f"Zoom: {sessions:,} sessions, ")
    out = tmp_path / "out"
    assert "<h1>Linguistics</h1>" in (out / "index.html").read_text()
    assert [row["mpid"] for row in rows(out / "meetings.csv")] == [one["mpid"] for one in truth.recordings]
    assert [row["lecture"] for row in rows(out / "lectures.csv")] == [one["title"] for one in truth.recordings]
    assert rows(out / "lecture-01-devices.csv")[0]["device"] == "iOS"
    assert not (out / "lecture-02-devices.csv").exists()


def test_without_zoom_meetings_only_opencast_counts(report, tmp_path, truth):
    assert "Zoom" not in report()[1]
    assert {row["zoom_min"] for row in rows(tmp_path / "out" / "lecture-01-students.csv")} == {"0.0"}


def test_the_threshold_is_the_settings_or_the_options(report, tmp_path):
    def present(*arguments, **variables):
        assert report(*arguments, **variables)[0] == Exit.DONE
        return [int(row["present"]) for row in rows(tmp_path / "out" / "lectures.csv")]

    usual = present()
    assert present("--threshold", "50", REPORT_THRESHOLD="100") == usual
    stricter = present()
    assert sum(stricter) < sum(usual)
    assert present("--attended", "live", "--threshold", "1") != present(
        "--attended", "recording", "--threshold", "1"
    )


def test_the_proposed_meetings_can_be_changed(report, tmp_path):
    report("--zoom", "91234567890")
    path = tmp_path / "out" / "meetings.csv"
    changed = rows(path)
    changed[0]["mpid"], changed[1]["mpid"] = "", "-"
    path.write_text(written([changed[0].keys(), *(row.values() for row in changed)]))
    code, said, error = report("--zoom", "91234567890", "--meetings", str(path))
    assert code == Exit.DONE
    assert "30 students, 4 lectures" in said
    assert "1 of 3 Zoom meetings belong to no recording and count as lectures of their own." in error
    assert [row["why"] for row in rows(path)] == ["by the file"] * 3
    assert [row["mpid"] for row in rows(path)] == ["", "'-", changed[2]["mpid"]]


def test_days_choose_lectures(report, tmp_path):
    assert "30 students, 1 lecture:" in report("--from", "2026-01-27", "--to", "2026-01-28")[1]
    assert "30 students, 2 lectures:" in report("--to", "2026-01-28")[1]
    assert "30 students, 1 lecture:" in report("--to", "2026-01-28", "--timezone", "Asia/Tokyo")[1]


def test_small_groups_and_names_are_left_out(report, tmp_path, truth):
    assert report("--pseudonyms", REPORT_MIN_GROUP="1000")[0] == Exit.DONE
    text = "".join(path.read_text() for path in (tmp_path / "out").glob("*.[ch]*"))
    assert "Fewer than 1000 people watched in Opencast" in text
    assert not [one for one in truth.people if one.huid in text or f"{one.last}, {one.first}" in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--zoom", "course"], "--zoom: 'course' is not a meeting id. Expected a number such as 912 3456 7890."),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "--from: it is after --to. Expected an earlier day."),
        (["--from", "soon"], "--from: 'soon' is not a date. Expected YYYY-mm-dd (in the course's zone), such as"),
        (["--timezone", "Boston"], "--timezone: 'Boston' cannot be used. Expected a time zone such as"),
        (["--threshold", "0"], "Invalid value for '--threshold': 0 is not in the range 1<=x<=100."),
        (
            ["--from", "2027-01-01"],
            f"SERIES: there are no lectures of '{SERIES}' in the documents, or none on these",
        ),
        (["--roster", "missing.csv"], "--roster: missing.csv: No such file or directory"),
        (["--meetings", "missing.csv"], "--meetings: missing.csv: No such file or directory"),
        (["--output", "/dev/null"], "--output: /dev/null is a file. Expected a folder."),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(report, tmp_path, arguments, said):
    code, printed, error = report(*arguments)
    assert (code, printed) == (Exit.USAGE, "")
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_series_without_documents_is_no_course(report, tmp_path):
    code, _, error = report(series="20269999999")
    assert code == Exit.USAGE
    assert "Expected the id of a series whose recordings were watched, or --zoom." in error
