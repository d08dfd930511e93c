"""The settings themselves: what nothing reads, what clashes, which files are missing."""

import pytest


@pytest.mark.parametrize(
    ("changes", "status", "named"),
    [
        ({"S3_HARVEST_TS_BUCKET": None}, "fail", "S3_HARVEST_TS_BUCKET"),
        ({"SQS_QUEUE_NAME": None, "INDEXER": None}, "fail", "SQS_QUEUE_NAME"),
        ({"MATTERHORN_ENGAGE_HOST": None}, "fail", "MATTERHORN_ENGAGE_HOST"),
        ({"MATTERHORN_REST_PASS": None}, "fail", "MATTERHORN_REST_USER is set without MATTERHORN_REST_PASS"),
        ({"ES_PASSWORD": "top-secret"}, "fail", "ES_PASSWORD is set without ES_USER"),
        ({"ZOOM_SECRET": None}, "fail", "ZOOM_KEY is set without ZOOM_SECRET"),
        ({"ES_API_KEY": "a", "ES_USER": "b", "ES_PASSWORD": "top-secret"}, "fail", "ES_API_KEY and ES_USER"),
        ({"ZOOM_HEADER": "Authorization: top-secret"}, "fail", "ZOOM_HEADER"),
        ({"SQS_QUEUE_NAME": "-"}, "fail", "INDEXER"),
        ({"LRS_URL": "http://127.0.0.1:1/xAPI", "LRS_USER": "a"}, "fail", "LRS_USER is set without LRS_PASSWORD"),
        ({"LRS_USER": "a", "LRS_PASSWORD": "top-secret"}, "warn", "LRS_URL"),
        ({"ALERT_COMMAND": "no-such-program --page"}, "fail", "'no-such-program'"),
        ({"ES_CA_FILE": "/nowhere.pem"}, "fail", "ES_CA_FILE"),
        ({"GEOLITE_PATH": "/nowhere.mmdb"}, "fail", "GEOLITE_PATH"),
        ({"ES_HOST": "localhost"}, "warn", "ES_HOST has no effect"),
        (
            {"OPENCAST_DATABASE_URL": "mariadb://a:top-secret@h/o", "OPENCAST_PROFILE": "dce"},
            "warn",
            "OPENCAST_PROFILE",
        ),
        ({"MAX_START_END_SPAN": "60", "HARVEST_CATCH_UP": "true"}, "warn", "MAX_START_END_SPAN"),
    ],
)
def test_settings_that_clash_are_named(told, settings_of, changes, status, named):
    [(found_status, found, remedy)] = told(settings_of(**changes), "settings.clashes")
    assert found_status == status
    assert named in found
    assert remedy
    assert "top-secret" not in found + remedy


def test_what_needs_a_document_store_says_so(told, settings_of):
    lines = told(settings_of(DOCUMENTS_URL=None), "settings.clashes")
    assert [found.split()[0] for _, found, _ in lines] == ["INDEXER", "MATTERHORN_ADMIN_HOST", "ZOOM_KEY"]
    assert all("ES_HOST" in remedy for _, _, remedy in lines)


def test_a_misspelt_variable_of_the_environment_is_named_with_the_right_one(told, settings_of, monkeypatch):
    monkeypatch.setenv("HARVEST_OVERLAP_SECOND", "60")
    [(status, found, remedy)] = told(settings_of(), "settings.values")
    assert (status, found) == ("warn", "nothing reads HARVEST_OVERLAP_SECOND")
    assert "HARVEST_OVERLAP_SECONDS" in remedy


def test_settings_are_counted_by_where_they_come_from(look, settings_of, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "info")
    (tmp_path / ".env").write_text("SQS_QUEUE_NAME=q\nLOG_LEVEL=debug\nZOOM_AT=05:00\n")
    (tmp_path / ".env").chmod(0o600)
    [finding] = look(settings_of(), "settings.values")["settings.values"]
    assert finding.found == "3 read, 2 from .env"


def test_a_file_elsewhere_is_looked_at_too(look, settings_of, tmp_path, monkeypatch):
    (tmp_path / ".env.dev").write_text("SQS_QUEUE_NAME=q\n")
    (tmp_path / ".env.dev").chmod(0o644)
    monkeypatch.setenv("UAHARVEST_ENV_FILE", str(tmp_path / ".env.dev"))
    read, open_ = look(settings_of(), "settings.values")["settings.values"]
    assert read.found == f"1 read, 1 from {tmp_path}/.env.dev"
    assert open_.remedy == f"chmod 600 {tmp_path}/.env.dev"


def test_a_file_that_all_may_read_or_that_sets_a_variable_twice_is_told(told, settings_of, tmp_path):
    (tmp_path / ".env").write_text("ZOOM_AT=05:00\nZOOM_AT=06:00\n")
    (tmp_path / ".env").chmod(0o644)
    lines = told(settings_of(), "settings.values")
    assert [(status, found.partition(";")[0]) for status, found, _ in lines] == [
        ("warn", ".env sets ZOOM_AT in lines 1, 2"),
        ("warn", ".env can be read by every user of this machine"),
    ]
    assert lines[1][2] == "chmod 600 .env"


def test_what_is_stored_of_people_is_said(look, told, settings_of, tmp_path):
    [chosen, log] = look(settings_of(), "settings.privacy")["settings.privacy"]
    assert chosen.found.startswith("off: ")
    assert log.found.startswith("no ACCESS_LOG_FILE")
    keys = {"PRIVACY_PSEUDONYMS": "k2:top-secret-of-sixteen,k1:top-secret-of-sixteen"}
    on = settings_of(**keys, PRIVACY_ADDRESS="truncated", ACCESS_LOG_FILE=str(tmp_path / "log"))
    [chosen, log] = look(on, "settings.privacy")["settings.privacy"]
    assert chosen.found == "pseudonyms by key k2 (older: k1) · addresses truncated · browsers full"
    assert (str(log.status), log.found) == ("ok", f"who looks at documents is recorded in {tmp_path}/log")
    [(status, found, _)] = told(settings_of(PRIVACY_TYPES="QUIZ"), "settings.privacy")
    assert (status, found) == ("warn", "PRIVACY_TYPES has no effect without PRIVACY_PSEUDONYMS")
    [(status, found, _)] = told(settings_of(ACCESS_LOG_FILE="/nowhere/log"), "settings.privacy")
    assert (status, found.partition(" cannot")[0]) == ("fail", "ACCESS_LOG_FILE: /nowhere/log")
