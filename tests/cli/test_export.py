"""`export` as a person uses it, on a small site."""

import json
import os
import signal

import pytest
import responses
from click.testing import CliRunner

from tests.exporting import site
from tests.fakes import FakeS3
from uaharvest import aws, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.errors import Exit
from uaharvest.exporting.xapi import lrs as sender
from uaharvest.sinks.sqlite import SqliteStore

T0 = site.MONDAY.timestamp()
TERM = ["--year", "2026", "--term", "03"]
LRS = "https://lrs.example.edu/xAPI"
SPAN = ["--start", "2026-11-23T00:00Z", "--end", "2026-11-24T00:00Z"]


@pytest.fixture
def manage(monkeypatch, tmp_path):
    """Runs a command on a site with these documents; gives its exit code, stdout and stderr."""
    documents = [
        *(site.useraction(number, T0 + 30 * number, "HEARTBEAT", 30 * number) for number in range(1, 11)),
        site.useraction(20, T0 + 400, "paella:caption:enabled;de", 40),
        site.useraction(21, T0 + 30, "HEARTBEAT", 30, mpid="other", episode={"series": "20250110001"}),
        *(site.episode(), site.episode("other", series="20250110001", year="2025", term="01")),
        *(site.viewing(), site.recording()),
        site.session("s1", "2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z"),
    ]
    list(SqliteStore(tmp_path / "documents.db").write(documents))
    monkeypatch.setenv("DOCUMENTS_URL", f"sqlite:///{tmp_path}/documents.db")
    monkeypatch.setenv("MATTERHORN_ENGAGE_HOST", site.HOME)
    monkeypatch.delenv("S3_HARVEST_TS_BUCKET", raising=False)

    def manage(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.current.cache_clear()
        command = ["export", *map(str, arguments)]
        result = CliRunner().invoke(cli, command, obj=Context(lambda: pytest.fail("no worker is needed")))
        return result.exit_code, result.stdout, result.stderr

    yield manage
    settings.current.cache_clear()


@pytest.mark.parametrize("chosen", [TERM, ["--series", site.SERIES], [*TERM, "--series", "another"]])
def test_the_products_of_a_term_or_series_are_csv_on_stdout(manage, chosen):
    assert manage("attendance", *chosen) == (
        *(Exit.DONE, "mpid,huid,vod_attendance\nlecture,12345678,50\n", "1 row\n"),
    )
    assert manage("attendance", "--live", *chosen)[1] == "mpid,huid,live_attendance\n"
    assert manage("viewing-options", *chosen)[1].splitlines()[1:] == ["lecture,12345678,1,0,0"]
    assert manage("episode-metrics", *chosen, REPORT_MIN_GROUP="1")[1].splitlines()[1:] == [
        f"lecture,Lecture 1,3000000,2026-11-23T12:00:00+00:00,L01,Course 2,{site.SERIES},50.0,3"
    ]


def test_the_old_formulas_are_kept(manage):
    assert manage("attendance", *TERM, "--as-before")[1].splitlines()[1:] == ["lecture,12345678,20"]
    assert manage("attendance", *TERM, "--as-before", "--chunk-interval", 60)[1].splitlines()[1:] == [
        "lecture,12345678,12"
    ]
    assert manage("viewing-options", *TERM, "--as-before")[1].splitlines()[1:] == ["lecture,12345678,1,0,0"]
    assert manage("episode-metrics", *TERM, "--as-before")[1].splitlines()[1].endswith(f"{site.SERIES},,")
    exact = manage("episode-metrics", *TERM, "--as-before", REPORT_MIN_GROUP="1")
    assert exact[1].splitlines()[1].endswith(",20.0,1")


def test_the_old_spellings_are_taken(manage):
    assert manage("viewing_options", *TERM)[0] == Exit.DONE
    assert manage("attendance", *TERM, "--as_before", "--chunk_interval", "300")[0] == Exit.DONE


def test_a_product_goes_to_a_file_as_a_whole(manage, tmp_path):
    path = tmp_path / "attendance.2026-03.csv"
    assert manage("attendance", *TERM, "--output", path)[:2] == (Exit.DONE, "")
    assert path.read_text().startswith("mpid,huid,vod_attendance\n")
    code, _, error = manage("attendance", *TERM, "--output", tmp_path / "none" / "x.csv")
    assert code == Exit.USAGE
    assert "none/x.csv: No such file or directory" in error


def test_rollcall_takes_a_roster(manage, tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text(f"series,huid,status,last_name\n{site.SERIES},12345678,Registered,=Müller\nanother,1,x,x\n")
    assert manage("rollcall", *TERM, "--roster", roster)[1] == (
        f"series,huid,status,first_name,mi,last_name,reg_level\n{site.SERIES},12345678,Registered,,,'=Müller,\n"
    )


def test_rollcall_without_a_readable_roster_prints_nothing(manage, tmp_path):
    code, said, error = manage("rollcall", *TERM, "--roster", tmp_path / "none.csv")
    assert (code, said) == (Exit.USAGE, "")
    assert "none.csv: No such file" in error


def test_rollcall_asks_banner_for_the_series_of_the_term(manage):
    with responses.RequestsMock() as mock:
        mock.get(
            "https://banner.example.edu/__get_course_people.php", json={"people": {"s": [{"huid": "12345678"}]}}
        )
        code, said, _ = manage("rollcall", *TERM, "--banner", "https://banner.example.edu/")
    assert code == Exit.DONE
    assert said.splitlines()[1:] == [f"{site.SERIES},12345678,,,,,"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_stopped_leaves_nothing_half_done(manage, tmp_path, monkeypatch, request, stop):
    def stopped(self, index, where=None):
        yield {"mpid": "lecture", "@timestamp": site.iso(T0)}
        os.kill(os.getpid(), stop)
        yield {}

    monkeypatch.setattr(SqliteStore, "select", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    handler = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "research"
    assert manage("parquet", folder)[0] == Exit.ERROR
    assert manage("xapi", *SPAN, "--output", tmp_path / "x.jsonl")[0] == Exit.ERROR
    assert [path.name for path in folder.rglob("*")] == ["useractions"]
    assert not list(tmp_path.glob("*x.jsonl*"))
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["attendance"], "--year, --term, --series: Expected a year and a term"),
        (["attendance", "--year", "2026"], "--year and --term go together"),
        (["attendance", "--year", "26", "--term", "03"], "--year: Expected four digits"),
        (["attendance", "--year", "2026", "--term", "3"], "--term: Expected two digits"),
        (["attendance", *TERM, "--live", "--as-before"], "--live: the old tool wrote nothing but the header"),
        (["rollcall", *TERM], "--banner, --roster: Expected one of them"),
        (["rollcall", *TERM, "--banner", "x", "--roster", "y"], "--banner, --roster: Expected one of them"),
        (["xapi", "--start", "2026-11-24T00:00Z", "--end", "2026-11-24T00:00Z"], "is not before the end"),
        (["xapi", "--to", "lrs", "--output", "x"], "--output: statements are sent to the LRS"),
        (["xapi", "--home-page", "user:pass@x"], "--home-page: Expected"),
        (["xapi", "--series", "none"], "--series: no recording of these series"),
        (["xapi", "--to", "lrs"], "not set: LRS_URL"),
    ],
)
def test_bad_input_is_named(manage, arguments, text):
    code, said, error = manage(*arguments)
    assert (code, said) == (Exit.USAGE, "")
    assert text in error


def test_statements_are_json_lines_of_recordings_and_meetings(manage, tmp_path):
    code, said, error = manage("xapi", *SPAN)
    assert code == Exit.DONE
    verbs = [json.loads(line)["verb"]["display"]["en-US"] for line in said.splitlines()]
    assert sorted(verbs) == sorted(
        [
            *("initialized", "played", "paused", "interacted", "terminated"),
            *("joined", "left"),
            *("initialized", "played", "paused", "terminated"),
        ]
    )
    assert error == "11 statements\n"
    path = tmp_path / "statements.jsonl"
    manage("xapi", *SPAN, "--output", path)
    assert path.read_text() == said


def test_a_series_has_no_meetings_and_another_home_page_has_other_ids(manage):
    said = manage("xapi", "--series", site.SERIES, "--end", "2026-11-24T00:00Z")[1]
    assert len(said.splitlines()) == 5
    other = manage("xapi", "--series", site.SERIES, *SPAN, "--home-page", "https://other.example.edu")[1]
    assert len(other.splitlines()) == 5
    assert not {json.loads(line)["id"] for line in said.splitlines()} & {
        json.loads(line)["id"] for line in other.splitlines()
    }


@pytest.fixture
def lrs(monkeypatch):
    """An LRS, and an S3 for the position; what it got, and what it refuses."""
    got, refused = [], set()

    def take(request):
        sent = [one["id"] for one in json.loads(request.body)]
        if "down" in refused:
            return 401, {}, ""
        if refused.intersection(sent):
            return 400, {}, ""
        got.extend(sent)
        return 200, {}, json.dumps(sent)

    s3 = FakeS3()
    monkeypatch.setattr(aws, "s3_client", lambda: s3)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.add_callback(responses.POST, f"{LRS}/statements", take)
        yield got, refused, s3


SITE = {"LRS_URL": LRS, "LRS_USER": "u", "LRS_PASSWORD": "secret", "S3_HARVEST_TS_BUCKET": "bucket"}


def test_statements_are_sent_to_the_lrs(manage, lrs):
    got, _, s3 = lrs
    assert manage("xapi", *SPAN, "--to", "lrs", **SITE) == (Exit.DONE, "", "11 statements sent\n")
    assert len(set(got)) == 11
    assert s3.objects == {}


def test_a_refused_statement_is_reported_and_the_others_are_sent(manage, lrs):
    got, refused, _ = lrs
    refused.add(json.loads(manage("xapi", *SPAN)[1].splitlines()[2])["id"])
    code, _, error = manage("xapi", *SPAN, "--to", "lrs", **SITE)
    assert code == Exit.ERROR
    assert f"The LRS refuses 1 statement; all others are sent: {next(iter(refused))} (400)." in error
    assert len(got) == 10


def test_an_export_that_was_stopped_goes_on_with_the_same_command(manage, lrs, monkeypatch):
    got, refused, s3 = lrs
    monkeypatch.setattr(sender, "BATCH", 3)
    first = []

    def send(self, statements):
        if len(first) == 2:  # after one recording
            refused.add("down")
        first.append(statements)
        return original(self, statements)

    original = sender.Lrs.send
    monkeypatch.setattr(sender.Lrs, "send", send)
    code, _, error = manage("xapi", *SPAN, "--to", "lrs", **SITE)
    assert code == Exit.BLOCKED
    assert "secret" not in error
    assert len(s3.objects) == 1
    refused.clear()
    monkeypatch.setattr(sender.Lrs, "send", original)
    code, _, error = manage("xapi", *SPAN, "--to", "lrs", **SITE)
    assert code == Exit.DONE
    assert error == "continues after recording lecture\n6 statements sent\n"
    assert len(got) == len(set(got)) == 11
    assert s3.objects == {}


def test_again_sends_all(manage, lrs):
    got, _, _ = lrs
    manage("xapi", *SPAN, "--to", "lrs", **SITE)
    assert manage("xapi", *SPAN, "--to", "lrs", "--again", **SITE)[2] == "11 statements sent\n"
    assert (len(got), len(set(got))) == (22, 11)


def test_parquet_writes_all_tables_or_some(manage, tmp_path):
    folder = tmp_path / "research"
    code, _, error = manage("parquet", folder)
    assert code == Exit.DONE
    assert error == ("useractions: 1 file, 12 rows\nviewings: 1 file, 1 row\nsessions: 1 file, 1 row\n")
    assert len(list(folder.rglob("*.parquet"))) == 3
    some = tmp_path / "some"
    manage("parquet", some, "--table", "sessions", "--start", "2026-11-24")
    assert [path.name for path in some.iterdir()] == ["sessions"]
    assert list(some.rglob("*.parquet")) == []
