import json

import pytest
from click.testing import CliRunner

from uaharvest import assembly, settings
from uaharvest.cli import cli
from uaharvest.cli.context import Context
from uaharvest.documents.document import Document
from uaharvest.errors import Exit
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.sinks.sqlite import SqliteStore

DAY = "useractions-2026.11.20"


@pytest.fixture
def manage(monkeypatch):
    """Runs a command with these settings; gives its exit code, stdout and stderr."""

    def manage(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.current.cache_clear()
        result = CliRunner().invoke(cli, arguments, obj=Context(lambda: pytest.fail("no worker is needed")))
        return result.exit_code, result.stdout, result.stderr

    yield manage
    settings.current.cache_clear()


@pytest.fixture
def small_site(tmp_path):
    """The settings of a site that keeps its documents in SQLite, and some documents."""
    path = tmp_path / "documents.db"
    documents = [Document(DAY, str(number), {"mpid": "ü"}) for number in range(3)]
    list(SqliteStore(path).write([*documents, Document("episodes", "m", {"title": "t"})]))
    return {"DOCUMENTS_URL": f"sqlite:///{path}"}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_list_counts_the_documents_of_each_index(manage, small_site):
    code, said, _ = manage("documents", "list", **small_site)
    assert code == Exit.DONE
    assert lines(said) == [{"index": "episodes", "documents": 1}, {"index": DAY, "documents": 3}]


def test_get_shows_one_document_and_says_if_there_is_none(manage, small_site):
    assert lines(manage("documents", "get", "episodes", "m", **small_site)[1]) == [{"title": "t"}]
    code, said, error = manage("documents", "get", "episodes", "x", **small_site)
    assert (code, said) == (Exit.USAGE, "")
    assert error.startswith("ID: episodes has no document 'x'.")


def test_export_prints_a_line_for_each_document_and_how_many_there_were(manage, small_site):
    code, said, error = manage("documents", "export", "useractions-*", **small_site)
    assert code == Exit.DONE
    assert lines(said) == [{"_index": DAY, "_id": str(number), "mpid": "ü"} for number in range(3)]
    assert error == "3 documents\n"
    assert manage("documents", "export", "meetings-*", **small_site)[1:] == ("", "0 documents\n")


def test_without_a_store_the_settings_are_named(manage):
    code, _, error = manage("documents", "list")
    assert code == Exit.USAGE
    assert "not set: ES_HOST" in error


@pytest.mark.parametrize("command", ["index-templates", "load-index-templates", "load_index_templates"])
def test_setup_says_what_became_of_each_template_under_either_name(manage, es, elasticsearch_url, command):
    code, said, _ = manage("setup", command, ES_HOST=elasticsearch_url)
    assert code == Exit.DONE
    assert said.splitlines() == [
        "uaharvest-shared: created (version 1)",
        "uaharvest-retention: created (version 1)",
        "uaharvest-useractions: created (version 3)",
        "uaharvest-episodes: created (version 1)",
        "uaharvest-meetings: created (version 4)",
        "uaharvest-sessions: created (version 3)",
        *(f"uaharvest-{family}: created (version 1)" for family in ("viewings", "recordings", "attendance")),
    ]
    assert "unchanged" in manage("setup", command, ES_HOST=elasticsearch_url)[1]


def test_setup_refuses_to_overwrite_a_newer_template(manage, templates, es, elasticsearch_url):
    es.indices.put_index_template(
        name="uaharvest-sessions", body={"index_patterns": ["sessions-*"], "version": 99}
    )
    code, said, error = manage("setup", "index-templates", ES_HOST=elasticsearch_url)
    assert (code, said) == (Exit.BLOCKED, "")
    assert "uaharvest-sessions in version 99" in error


def test_sqlite_needs_no_templates(manage, small_site):
    code, said, _ = manage("setup", "index-templates", **small_site)
    assert code == Exit.DONE
    assert "needs no index templates" in said


def test_documents_of_elasticsearch_are_read_by_the_same_commands(
    manage, templates, es, cluster, elasticsearch_url
):
    list(ClusterStore(cluster).write([Document(DAY, "1", {"mpid": "m"})]))
    es.indices.refresh(index=DAY)
    site = {"ES_HOST": elasticsearch_url}
    assert lines(manage("documents", "list", **site)[1]) == [{"index": DAY, "documents": 1}]
    assert lines(manage("documents", "get", DAY, "1", **site)[1]) == [{"mpid": "m"}]
    assert lines(manage("documents", "export", DAY, **site)[1]) == [{"_index": DAY, "_id": "1", "mpid": "m"}]


def test_documents_url_goes_before_es_host(small_site):
    read = settings.load({**small_site, "ES_HOST": "es.example.edu"})
    assert isinstance(assembly.document_store(read), SqliteStore)


# The access log


def test_a_line_is_written_before_documents_are_shown_and_holds_none_of_them(manage, small_site, tmp_path):
    path = tmp_path / "access.log"
    for command in (("get", "episodes", "m"), ("export", "episodes")):
        code, said, _ = manage("documents", *command, **small_site, ACCESS_LOG_FILE=str(path))
        assert code == Exit.DONE
        assert "title" in said
    first, second = lines(path.read_text())
    assert (first["command"], first["index"], first["id"]) == ("documents get", "episodes", "m")
    assert (second["command"], second["index"]) == ("documents export", "episodes")
    assert first.keys() == {"at", "user", "sudo_user", "host", "pid", "command", "index", "id"}
    assert first["user"]
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_is_shown_if_the_line_cannot_be_written(manage, small_site, tmp_path):
    code, said, error = manage(
        "documents", "export", "*", **small_site, ACCESS_LOG_FILE=str(tmp_path / "nowhere" / "log")
    )
    assert (code, said) == (Exit.BLOCKED, "")
    assert error.startswith("ACCESS_LOG_FILE: ")
    assert "No such file" in error


def test_commands_that_show_nobody_leave_no_line(manage, small_site, tmp_path):
    path = tmp_path / "access.log"
    assert manage("documents", "list", **small_site, ACCESS_LOG_FILE=str(path))[0] == Exit.DONE
    assert not path.exists()
