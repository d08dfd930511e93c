import dataclasses
import os

import boto3
import pytest

from uaharvest import settings
from uaharvest.errors import BadInputError, Exit
from uaharvest.settings import Settings

SECRET = "open sesame"
OLD_NAMES = {
    "MATTERHORN_REST_USER": ("opencast_user", "harvester"),
    "MATTERHORN_REST_PASS": ("opencast_password", SECRET),
    "MATTERHORN_ENGAGE_HOST": ("engage_url", "http://engage.example.edu/"),
    "MATTERHORN_ADMIN_HOST": ("admin_url", "http://admin.example.edu/"),
    "DEFAULT_INTERVAL": ("default_interval", 2),
    "S3_HARVEST_TS_BUCKET": ("bucket", "bucket"),
    "S3_LAST_ACTION_TS_KEY": ("watermark_key", "last-action-timestamp"),
    "SQS_QUEUE_NAME": ("queue", "my-harvest-action-queue"),
    "ES_HOST": ("es_url", "http://localhost:9200/"),
    "EPISODE_CACHE_EXPIRE": ("episode_cache_expire", 1800),
    "MAX_START_END_SPAN": ("max_span", 3600),
    "ZOOM_KEY": ("zoom_key", "key"),
    "ZOOM_SECRET": ("zoom_secret", SECRET),
}


def load(dotenv=None, **environment):
    return settings.load(environment, dotenv)


def refusal(**environment):
    with pytest.raises(BadInputError) as refused:
        load(**environment)
    assert refused.value.exit_code == Exit.USAGE
    return str(refused.value)


@pytest.fixture
def dotenv(tmp_path):
    path = tmp_path / ".env"

    def write(*lines):
        path.write_text("\n".join(lines))
        return path

    return write


# Where they come from


def test_the_environment_goes_before_the_file(dotenv):
    path = dotenv("SQS_QUEUE_NAME=from-file", "HARVEST_LAG_SECONDS=5")
    loaded = load(path, SQS_QUEUE_NAME="from-environment")
    assert (loaded.queue, loaded.lag) == ("from-environment", 5)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_is_none(dotenv, empty):
    assert load(SQS_QUEUE_NAME=empty, HARVEST_LAG_SECONDS=empty).queue is None
    assert load(HARVEST_LAG_SECONDS=empty).lag == 10
    assert load(dotenv("HARVEST_LAG_SECONDS=5"), HARVEST_LAG_SECONDS="").lag == 5


def test_the_file_is_that_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("SQS_QUEUE_NAME=here")
    monkeypatch.chdir(tmp_path)
    assert settings.load({}).queue == "here"


def test_aws_settings_of_the_file_reach_boto3_unless_the_environment_has_them(dotenv, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "")  # as compose passes what is not set
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "to be removed again")
        monkeypatch.delenv(name)
    path = dotenv(
        "AWS_ACCESS_KEY_ID=of-file",
        "AWS_SECRET_ACCESS_KEY=secret-of-file",
        "AWS_DEFAULT_REGION=eu-central-1",
        "AWS_ENDPOINT_URL=http://127.0.0.1:1",
    )
    settings.load(dotenv=path)
    session = boto3.session.Session()
    credentials = session.get_credentials()
    assert (credentials.access_key, credentials.secret_key) == ("of-environment", "secret-of-file")
    assert session.region_name == "eu-central-1"
    client = session.client("sqs")
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    client.close()


def test_settings_read_for_a_test_leave_the_environment_alone(dotenv, monkeypatch):
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    load(dotenv("AWS_PROFILE=other"))
    assert "AWS_PROFILE" not in os.environ


@pytest.mark.parametrize(("variable", "field", "value"), [(name, *rest) for name, rest in OLD_NAMES.items()])
def test_every_setting_of_the_old_tool_keeps_its_name(variable, field, value):
    text = str(value).removeprefix("http://").removesuffix("/")
    assert getattr(load(**{variable: text}), field) == value


# What they may be


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("engage.example.edu", "http://engage.example.edu/"),
        ("engage.example.edu:8080", "http://engage.example.edu:8080/"),
        ("10.0.0.1", "http://10.0.0.1/"),
        ("https://engage.example.edu", "https://engage.example.edu/"),
        ("https://example.edu/opencast/", "https://example.edu/opencast/"),
    ],
)
def test_a_host_may_have_a_scheme(given, url):
    assert load(MATTERHORN_ENGAGE_HOST=given).engage_url == url


@pytest.mark.parametrize(
    "given", ["ftp://host", "http://", "host:port", "host:0", "http://host?x", "a host", "http://[::1"]
)
def test_what_is_no_host_is_refused(given):
    line = refusal(MATTERHORN_ENGAGE_HOST=given)
    assert line.startswith(f"MATTERHORN_ENGAGE_HOST: '{given}' cannot be used. Expected a host such as engage.")


@pytest.mark.parametrize(
    "given", ["http://me:open sesame@host", "me:open sesame@host", "http://me:open sesame/@host"]
)
def test_a_password_within_a_host_is_refused_and_not_shown(given):
    line = refusal(MATTERHORN_ENGAGE_HOST=given)
    assert "'...@host' cannot be used" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("10.0.0.5", "http://10.0.0.5:9200/"),
        ("localhost:9201", "http://localhost:9201/"),
        ("es.example.edu/es", "http://es.example.edu:9200/es/"),
        ("https://es.example.edu", "https://es.example.edu/"),
        ("http://[::1]:9200", "http://[::1]:9200/"),
    ],
)
def test_es_host_is_a_host_with_or_without_port_or_a_url(value, url):
    assert load(ES_HOST=value).es_url == url


def test_a_password_in_es_host_is_refused_and_not_shown():
    with pytest.raises(BadInputError, match=r"ES_HOST: .*ES_USER, ES_PASSWORD") as caught:
        load(ES_HOST="https://u:geheim@es.example.edu")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("value", ["sqlite:///documents.db", "sqlite:////srv/uaharvest/documents.db"])
def test_documents_url_is_the_path_of_an_sqlite_file(value):
    assert load(DOCUMENTS_URL=value).documents_url == value


@pytest.mark.parametrize(
    "value", ["sqlite:///", "sqlite://x.db", "postgresql://db/x", "documents.db", "sqlite:///x/"]
)
def test_documents_url_of_another_kind_is_refused(value):
    with pytest.raises(BadInputError, match=r"DOCUMENTS_URL: .*sqlite:/// and a path"):
        load(DOCUMENTS_URL=value)


def test_a_fifo_queue_is_refused_with_the_reason():
    line = refusal(SQS_QUEUE_NAME="actions.fifo")
    assert "Expected the name of a standard queue: FIFO queues take 300 calls a second" in line


def test_a_dash_means_stdout():
    assert load(SQS_QUEUE_NAME="-").queue == "-"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HARVEST_LAG_SECONDS", "-1", "a whole number, 0 or more"),
        ("HARVEST_LAG_SECONDS", "soon", "a whole number, 0 or more"),
        ("HARVEST_LAG_SECONDS", "1.5", "a whole number, 0 or more"),
        ("HARVEST_LEASE_SECONDS", "0", "a whole number, 1 or more"),
        ("SQS_EVENTS_PER_MESSAGE", "1001", "a whole number from 1 to 1000"),
        ("HARVEST_CATCH_UP", "perhaps", "true or false"),
        ("OPENCAST_TIMEZONE", "Mars/Olympus", "a time zone such as America/New_York"),
        ("OPENCAST_TIMEZONE", "../etc/passwd", "a time zone such as America/New_York"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("SQS_QUEUE_NAME", "a/b", '1 to 80 letters, digits, "-" or "_", or "-" alone for stdout'),
    ],
)
def test_a_refusal_names_the_variable_the_value_and_what_was_expected(variable, value, expected):
    assert refusal(**{variable: value}) == f"{variable}: '{value}' cannot be used. Expected {expected}."


def test_all_that_is_wrong_is_told_at_once():
    lines = refusal(HARVEST_LAG_SECONDS="x", DEFAULT_INTERVAL="y", LOG_LEVEL="z").splitlines()
    assert {line.partition(":")[0] for line in lines} == {"HARVEST_LAG_SECONDS", "DEFAULT_INTERVAL", "LOG_LEVEL"}


def test_what_a_command_needs_and_lacks_is_named_by_variable():
    with pytest.raises(BadInputError, match=r"not set: MATTERHORN_ENGAGE_HOST, SQS_QUEUE_NAME\. .*\.env"):
        load(S3_HARVEST_TS_BUCKET="bucket").require("engage_url", "queue", "bucket")
    load(SQS_QUEUE_NAME="queue").require("queue")


@pytest.mark.parametrize("value", ["X-Api-Key", "X Api: 1", "X-Api-Key: a\nb", ": x", "X-Api-Key:"])
def test_a_zoom_header_that_is_none_is_refused_and_not_shown(value):
    with pytest.raises(BadInputError, match=r"ZOOM_HEADER: \(set\)"):
        load(ZOOM_HEADER=value)


def test_zooms_url_without_a_scheme_is_refused():
    with pytest.raises(BadInputError, match="ZOOM_API_URL"):
        load(ZOOM_API_URL="api.zoom.us/v2")


# Defaults


def test_the_broker_is_redis_unless_said():
    assert load(REDIS_URL="redis://host/1").broker_url == "redis://host/1"
    assert load(REDIS_URL="redis://host/1", CELERY_BROKER_URL="sqs://").broker_url == "sqs://"


def test_the_zone_is_this_machines_unless_said(monkeypatch):
    monkeypatch.setattr("tzlocal.get_localzone_name", lambda: "Asia/Tokyo")
    assert load().opencast_zone.key == "Asia/Tokyo"
    assert load(OPENCAST_TIMEZONE="Europe/Zurich").opencast_zone.key == "Europe/Zurich"


# Secrets


def test_no_repr_shows_a_secret():
    secret = [field for field in dataclasses.fields(Settings) if field.metadata["secret"]]
    assert {
        "MATTERHORN_REST_PASS",
        "OPENCAST_DATABASE_URL",
        "REDIS_URL",
        "CELERY_BROKER_URL",
        "ES_API_KEY",
        "ES_PASSWORD",
        "ZOOM_KEY",
        "ZOOM_SECRET",
        "ZOOM_ACCOUNT_ID",
        "ZOOM_HEADER",
    } == {field.metadata["variable"] for field in secret}
    loaded = dataclasses.replace(Settings(), **{field.name: SECRET for field in secret})
    assert SECRET not in repr(loaded)


@pytest.mark.parametrize("variable", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_an_error_shows_no_secret(variable):
    line = refusal(**{variable: f"http://:{SECRET}@host"})
    assert line.startswith(f"{variable}: (set) cannot be used. Expected a URL that starts with redis://")
    assert SECRET not in line
