import dataclasses
import os
import re
from pathlib import Path

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
    assert line.startswith("MATTERHORN_ENGAGE_HOST: (set) cannot be used. Expected a host")
    assert "%2F" in line
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
        "LOGGLY_TOKEN",
        "ALERT_COMMAND",
        "ALERT_WEBHOOK_URL",
        "FLOWER_BASIC_AUTH",
        "LRS_PASSWORD",
        "PRIVACY_PSEUDONYMS",
        "PRIVACY_TOMBSTONE_KEY",
    } == {field.metadata["variable"] for field in secret}
    loaded = dataclasses.replace(Settings(), **{field.name: SECRET for field in secret})
    assert SECRET not in repr(loaded)


@pytest.mark.parametrize("variable", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_an_error_shows_no_secret(variable):
    line = refusal(**{variable: f"http://:{SECRET}@host"})
    assert line.startswith(f"{variable}: (set) cannot be used. Expected a URL that starts with redis://")
    assert SECRET not in line


URLS = {
    "REDIS_URL": "sentinel://{}host:26379,other/0?master_name=m",
    "CELERY_BROKER_URL": "rediss://{}host:6379/0",
    "OPENCAST_DATABASE_URL": "mariadb://{}host/opencast",
    "ES_HOST": "https://{}host:9200",
    "MATTERHORN_ENGAGE_HOST": "{}host:8080",
    "MATTERHORN_ADMIN_HOST": "https://{}host/opencast",
    "ZOOM_API_URL": "https://{}host/v2",
    "ZOOM_TOKEN_URL": "https://{}host/oauth/token",
    "AWS_ENDPOINT_URL": "http://{}host:4566",
    "AWS_ENDPOINT_URL_S3": "http://{}host:4566",
    "HTTP_PROXY": "http://{}host:3128",
    "https_proxy": "{}host:3128",
    "ALL_PROXY": "http://{}host:3128",
}


@pytest.mark.parametrize("password", ["12/qzx", "12#qzx", "12?qzx", "qzx[kwj", "qzx]kwj", "qzx@kwj", "qz/kw@xj"])
@pytest.mark.parametrize("variable", URLS)
def test_a_raw_character_in_a_password_is_refused_and_no_part_of_it_is_shown(variable, password):
    line = refusal(**{variable: URLS[variable].format(f"me:{password}@")})
    assert line.startswith(f"{variable}: (set) cannot be used. Expected ")
    assert "%2F" in line
    assert not [part for part in re.findall(r"[a-z]{2,}", password) if part in line]


@pytest.mark.parametrize(
    ("variable", "url", "kept"),
    [
        ("OPENCAST_DATABASE_URL", "mariadb://me:a%2Fb%40c@host/db?ssl_ca=/a.pem", "mariadb://me:a%2Fb%40c@host/db?ssl_ca=/a.pem"),
        ("OPENCAST_DATABASE_URL", "postgresql://me:a:b$c@host:5432/db", "postgresql://me:a%3Ab%24c@host:5432/db"),
        ("OPENCAST_DATABASE_URL", "mysql://host/db", "mysql://host/db"),
    ],
)  # fmt: skip
def test_the_url_of_the_database_is_kept_with_its_password_encoded(variable, url, kept):
    assert load(**{variable: url}).database_url == kept


def test_proxies_may_have_a_password_and_no_scheme():
    load(HTTP_PROXY="http://me:a%2Fb@proxy:3128", https_proxy="proxy:3128", NO_PROXY="localhost,.example.edu")


@pytest.mark.parametrize("token", ["geheim\nx", "geh eim", "geheim\udcfc", "gehéim"])
@pytest.mark.parametrize(
    "variable", ["AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "ES_API_KEY"]
)
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(variable, token):
    line = refusal(**{variable: token})
    assert line.startswith(f"{variable}: (set) cannot be used. Expected ")
    assert "geh" not in line


@pytest.mark.parametrize(
    "variable", ["MATTERHORN_REST_PASS", "ZOOM_SECRET", "SQS_QUEUE_NAME", "S3_HARVEST_TS_BUCKET"]
)
@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\nb", "a\x9bb", "a\udcffb"])
def test_control_characters_are_refused_and_never_printed(variable, value):
    line = refusal(**{variable: value})
    assert line.isprintable()


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The process's environment, to be given back as it was; in a folder without a `.env`."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def test_aws_settings_and_proxies_of_the_environment_are_stripped_and_empty_ones_are_not_set(environment):
    environment.update(
        AWS_SESSION_TOKEN="token\n",
        AWS_SECRET_ACCESS_KEY=" secret\r\n",
        AWS_ACCESS_KEY_ID="key",
        AWS_PROFILE="",
        AWS_CA_BUNDLE=" ",
        AWS_ENDPOINT_URL="http://127.0.0.1:1 ",
        AWS_DEFAULT_REGION="eu-central-1",
        HTTPS_PROXY="",
        http_proxy="http://proxy:3128\n",
    )
    settings.load()
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "HTTPS_PROXY"):
        assert name not in environment
    assert environment["http_proxy"] == "http://proxy:3128"
    session = boto3.session.Session()  # with AWS_PROFILE="" it would raise
    credentials = session.get_credentials()
    assert (credentials.token, credentials.secret_key) == ("token", "secret")
    client = session.client("s3")  # with AWS_CA_BUNDLE="" it would find no certificate
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    client.close()


def test_proxies_of_the_file_reach_the_environment_as_with_docker_compose(environment, tmp_path):
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://proxy:3128\nNO_PROXY=localhost\nAWS_PROFILE=\n")
    environment.pop("HTTPS_PROXY", None)
    settings.load()
    assert (environment["HTTPS_PROXY"], environment["NO_PROXY"]) == ("http://proxy:3128", "localhost")
    assert "AWS_PROFILE" not in environment


def test_a_token_of_the_environment_with_a_line_break_is_named_and_not_printed(environment):
    environment["AWS_SESSION_TOKEN"] = "gehe\nim"
    with pytest.raises(BadInputError) as refused:
        settings.load()
    assert str(refused.value).startswith("AWS_SESSION_TOKEN: (set) cannot be used.")


@pytest.mark.parametrize("variable", ["CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_what_celery_would_read_past_the_settings_is_refused(variable):
    assert refusal(**{variable: "rediss://:geheim@host"}) == (
        f"{variable}: (set) cannot be used. Expected nothing: set CELERY_BROKER_URL."
    )


@pytest.mark.parametrize("value", ["61", "86400"])
def test_a_wait_that_would_hold_up_all_workers_is_refused(value):
    assert refusal(HARVEST_WAIT_SECONDS=value) == (
        f"HARVEST_WAIT_SECONDS: '{value}' cannot be used. Expected a whole number from 0 to 60."
    )


# Logs, alerts and Flower


def test_commands_tags_and_logins_are_read_as_lists():
    read = load(
        ALERT_COMMAND="mail -s 'a subject' operator@example.edu",
        LOGGLY_TAGS="site-a, test ,",
        FLOWER_BASIC_AUTH="ann:a:b,bob:c",
        ALERT_WEBHOOK_URL="https://hooks.example.com/services/T0/B0/xyz?key=1",
    )
    assert read.alert_command == ("mail", "-s", "a subject", "operator@example.edu")
    assert read.loggly_tags == ("site-a", "test")
    assert read.flower_login == ("ann:a:b", "bob:c")
    assert read.alert_webhook == "https://hooks.example.com/services/T0/B0/xyz?key=1"
    assert read.alerts_enabled
    assert not load().alerts_enabled


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ALERT_COMMAND", "mail 'qzx", "a program and its arguments"),
        ("ALERT_COMMAND", "'' qzx", "a program and its arguments"),
        ("ALERT_WEBHOOK_URL", "hooks.example.com/qzx", "an http"),
        ("ALERT_WEBHOOK_URL", "ftp://hooks.example.com/qzx", "an http"),
        ("ALERT_WEBHOOK_URL", "https://hooks.example.com/qzx é", "an http"),
        ("LOGGLY_TOKEN", "qzx/../x", "a customer token of Loggly"),
        ("FLOWER_BASIC_AUTH", "qzx", "user:password"),
        ("FLOWER_BASIC_AUTH", "ann:qzx,", "user:password"),
        ("LOGGLY_TAGS", "a tag", "tags of letters"),
        ("LOG_FORMAT", "xml", "one of console, json"),
    ],
)
def test_what_they_cannot_be_is_refused_and_a_secret_is_not_shown(variable, value, expected):
    line = refusal(**{variable: value})
    assert line.startswith(f"{variable}: ")
    assert f"Expected {expected}" in line
    assert "qzx" not in line


# Personal data


def test_keys_of_pseudonyms_are_read_the_newest_first():
    keys = load(PRIVACY_PSEUDONYMS="k2:a:secret-with-colons, k1:an-older-secret-key").privacy_pseudonyms
    assert keys == (("k2", "a:secret-with-colons"), ("k1", "an-older-secret-key"))
    assert load().privacy_pseudonyms == ()


@pytest.mark.parametrize(
    "keys",
    [
        "qzx-without-an-id-123",
        "K1:qzx-a-secret-of-sixteen",
        "k1:qzx",
        "k1:qzx a secret of sixteen",
        "k1:qzx-a-secret-of-sixteen,",
        "k1:qzx-a-secret-of-sixteen,k1:qzx-another-of-sixteen",
    ],
)
def test_other_keys_are_refused_and_not_shown(keys):
    line = refusal(PRIVACY_PSEUDONYMS=keys)
    assert line.startswith("PRIVACY_PSEUDONYMS: ")
    assert "Expected ID:SECRET, the newest key first" in line
    assert "qzx" not in line


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PRIVACY_ADDRESS", "some", "one of full, truncated, none"),
        ("PRIVACY_AGENT", "some", "one of full, family, none"),
        ("PRIVACY_TYPES", "A*B", "types of useractions"),
        ("S3_DEAD_LETTER_SSE", "aes", "AES256, aws:kms"),
    ],
)
def test_other_words_are_refused(variable, value, expected):
    line = refusal(**{variable: value})
    assert line.startswith(f"{variable}: ")
    assert f"Expected {expected}" in line


def test_types_of_useractions_are_read_as_a_list():
    assert load(PRIVACY_TYPES="QUIZ, NOTE*").privacy_types == ("QUIZ", "NOTE*")


# Secrets in files of their own


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def test_every_secret_can_be_read_from_a_file(tmp_path):
    values = {
        "REDIS_URL": "redis://:open@localhost:6379/0",
        "CELERY_BROKER_URL": "redis://:open@localhost:6379/1",
        "OPENCAST_DATABASE_URL": "mariadb://harvester:open@localhost/opencast",
        "ES_API_KEY": "open",
        "ZOOM_HEADER": "X-Api-Key: open",
        "ALERT_WEBHOOK_URL": "https://hooks.example.com/open",
        "FLOWER_BASIC_AUTH": "ann:open",
        "LOGGLY_TOKEN": "open",
        "PRIVACY_PSEUDONYMS": "k1:an-open-secret-key",
        "PRIVACY_TOMBSTONE_KEY": "an-open-secret-key",
    }
    secrets = [field for field in dataclasses.fields(Settings) if field.metadata["secret"]]
    assert len(secrets) > 5
    for field in secrets:
        variable = field.metadata["variable"]
        (tmp_path / variable).write_text(f"{values.get(variable, SECRET)}\n")
    loaded = load(
        **{f"{field.metadata['variable']}_FILE": str(tmp_path / field.metadata["variable"]) for field in secrets}
    )
    for field in secrets:
        variable = field.metadata["variable"]
        assert getattr(loaded, field.name) == field.metadata["read"](values.get(variable, SECRET))


def test_a_secret_file_may_be_named_in_the_env_file(dotenv, secret_file):
    assert load(dotenv(f"ES_PASSWORD_FILE={secret_file}")).es_password == SECRET


def test_a_secret_in_the_environment_goes_before_a_file_that_the_env_file_names(dotenv, secret_file):
    assert load(dotenv(f"ES_PASSWORD_FILE={secret_file}"), ES_PASSWORD="other").es_password == "other"


def test_a_secret_file_in_the_environment_goes_before_a_secret_in_the_env_file(dotenv, secret_file):
    assert load(dotenv("ES_PASSWORD=other"), ES_PASSWORD_FILE=str(secret_file)).es_password == SECRET


def test_a_secret_that_is_set_twice_is_refused(dotenv, secret_file):
    said = refusal(ES_PASSWORD="other", ES_PASSWORD_FILE=str(secret_file))
    assert said == "ES_PASSWORD and ES_PASSWORD_FILE are both set. Expected one of them."
    with pytest.raises(BadInputError, match="line 1: ES_PASSWORD and ES_PASSWORD_FILE are both set"):
        load(dotenv("ES_PASSWORD=other", f"ES_PASSWORD_FILE={secret_file}"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * 70_000, "is longer than 65,536 bytes"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named_with_its_variable(tmp_path, content, expected):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    assert refusal(ES_PASSWORD_FILE=str(path)).startswith(f"ES_PASSWORD_FILE: {path} {expected}")


def test_a_folder_in_place_of_a_secret_file_is_refused_with_its_line(dotenv, tmp_path):
    path = dotenv("", f"ES_PASSWORD_FILE={tmp_path}")
    with pytest.raises(
        BadInputError, match=re.escape(f"{path}, line 2: ES_PASSWORD_FILE: {tmp_path} cannot be read")
    ):
        load(path)


def test_the_content_of_a_secret_file_is_checked_and_never_shown(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"two\n{SECRET}\n")
    said = refusal(ES_PASSWORD_FILE=str(path))
    assert said.startswith(f"{path}: ES_PASSWORD: (set) cannot be used")
    assert SECRET not in said


def test_boto3_gets_a_key_that_is_in_a_file(monkeypatch, tmp_path):
    path = tmp_path / "secret"
    path.write_text("wJalrXUtnFEMI\n")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(path))
    settings.load()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "wJalrXUtnFEMI"
    settings.load()  # as a child process does


def test_no_file_is_read_for_what_is_no_secret(secret_file):
    assert load(SQS_QUEUE_NAME_FILE=str(secret_file)).queue is None


# Which .env


def test_a_variable_names_the_file_that_is_read_in_place_of_env(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SQS_QUEUE_NAME=usual\n")
    (tmp_path / "other").write_text("HARVEST_LAG_SECONDS=7\n")
    assert load().queue == "usual"
    loaded = load(UAHARVEST_ENV_FILE="other")
    assert (loaded.queue, loaded.lag) == (None, 7)


def test_a_named_env_file_must_exist():
    assert refusal(UAHARVEST_ENV_FILE="nowhere") == (
        "UAHARVEST_ENV_FILE: there is no file nowhere. Expected one like example.env."
    )


def test_the_page_of_settings_names_each_secret_that_may_be_in_a_file():
    page = (Path(settings.__file__).parent.parent / "docs" / "settings.md").read_text()
    section = page.partition("## Secrets in files")[2].partition("\n## ")[0]
    secrets = [field.metadata["variable"] for field in dataclasses.fields(Settings) if field.metadata["secret"]]
    assert [name for name in secrets if f"`{name}`" not in section] == []
