"""Every setting with its variable, type, default and meaning; read once from the environment and `.env`."""

import dataclasses
import difflib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import tzlocal

from uaharvest import dotenv as dotenv_
from uaharvest import plain
from uaharvest.errors import BadInputError
from uaharvest.readers import (
    api_url,
    base_url,
    broker_url,
    cluster_url,
    command,
    database_url,
    event_types,
    flag,
    flower_login,
    header,
    index_part,
    key,
    loggly_tags,
    loggly_token,
    names,
    nothing,
    one_of,
    proxy_url,
    pseudonym_keys,
    queue_name,
    redis_url,
    sqlite_url,
    sse,
    text,
    time_of_day,
    tombstone_key,
    webhook_url,
    whole,
    writable,
    zone,
)

log = logging.getLogger(__name__)

HIDDEN = "(set)"
STDOUT = "-"  # in place of a queue's name: records are printed
# Most seconds between two requests. A wait slows down every worker of the stream; a longer one is a mistake.
MAX_WAIT = 60
# A name this similar to one of our variables (1 is equal), and at most this many characters longer or shorter, is
# taken for a misspelling of it.
ALIKE = 0.85
ALIKE_LENGTH = 2
# Names with these prefixes are almost certainly ours, so a lower similarity is enough for a warning.
OURS = ("EPISODES_", "HARVEST_", "MATTERHORN_", "OPENCAST_")
HARDLY_ALIKE = 0.65
# boto3 sends these in headers. If they are not ASCII, its error quotes the whole header.
_ASCII_SECRETS = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    }
)
# boto3 reads these from the environment only. Its other secrets are temporary, or have files of their own.
_AWS_IN_FILES = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
# Secret files longer than this are a mistake, bytes.
_LONGEST_SECRET = 65_536
# Names the file to read in place of `.env`.
ENV_FILE = "UAHARVEST_ENV_FILE"
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
# Variables that libraries read from the environment: values from `.env` are copied there.
_PASSED_ON = frozenset({*_PROXIES, "NO_PROXY"})
# Seconds between two queue drains triggered by beat (INDEXER).
INDEX_EVERY = 60.0


def shown(value: str, *, secret: bool) -> str:
    """Return an invalid value as an error message may show it: hidden if it may contain a password."""
    # An @, or a word in place of a URL's port, means user and password, whole or cut short.
    if secret or "@" in value or re.search(r"://[^/\[]*:[^/0-9\]]", value):
        return HIDDEN
    return f"'{plain.one_line(value)}'"


def _setting(
    variable: str,
    read: Callable[[str], Any],
    meaning: str,
    *,
    default: Any = None,
    shown_default: str = "",
    secret: bool = False,
) -> Any:
    metadata = {
        "variable": variable,
        "read": read,
        "meaning": meaning,
        "shown_default": shown_default or ("" if default is None else str(default).lower()),
        "secret": secret,
    }
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, validated; no repr shows secrets. Times are in seconds unless the meaning says otherwise."""

    engage_url: str | None = _setting(
        "MATTERHORN_ENGAGE_HOST",
        base_url,
        "Opencast's engage (presentation) host; without a scheme, http is used.",
    )
    admin_url: str | None = _setting(
        "MATTERHORN_ADMIN_HOST", base_url, "Opencast's admin host; the episodes stream needs it."
    )
    opencast_user: str | None = _setting("MATTERHORN_REST_USER", text, "User of Opencast's REST interface.")
    opencast_password: str | None = _setting("MATTERHORN_REST_PASS", text, "Password of that user.", secret=True)
    opencast_auth: str = _setting(
        "OPENCAST_AUTH",
        one_of("digest", "basic"),
        "How that user logs in: digest (system and capture agent accounts only) or basic (any user, since Opencast 5).",
        default="digest",
    )
    database_url: str | None = _setting(
        "OPENCAST_DATABASE_URL",
        database_url,
        "Read useractions from Opencast's database instead: mariadb:// or postgresql://user:password@host/database.",
        secret=True,
    )
    opencast_zone: ZoneInfo = _setting(
        "OPENCAST_TIMEZONE",
        zone,
        "The Opencast server's time zone, used for local times in its responses; checked against the data.",
        shown_default="this machine's zone",
    )
    opencast_profile: str = _setting(
        "OPENCAST_PROFILE",
        one_of("auto", "stock", "dce"),
        "What the server's actions.json supports: stock (day only), dce (start, end; Harvard's fork), auto (detect).",
        default="auto",
    )
    default_interval: int = _setting(
        "DEFAULT_INTERVAL",
        whole(1),
        "Without a watermark, the harvest starts this many minutes ago.",
        default=2,
    )
    every: int = _setting("HARVEST_EVERY_SECONDS", whole(1), "How often beat triggers every stream.", default=120)
    lag: int = _setting(
        "HARVEST_LAG_SECONDS", whole(0), "How far behind the source's clock a window ends.", default=10
    )
    max_lag: int | None = _setting(
        "HARVEST_MAX_LAG_SECONDS",
        whole(1),
        "`status` exits with 4 if useractions lag further behind than this; unset: the lag, three ticks and a window.",
    )
    overlap: int = _setting(
        "HARVEST_OVERLAP_SECONDS",
        whole(0),
        "How far before the watermark to look for rows that appear late.",
        default=3600,
    )
    max_skew: int | None = _setting(
        "HARVEST_MAX_SKEW_SECONDS",
        whole(0),
        "Harvest nothing while the source's clock is further ahead of Redis's; unset: the lag and half the overlap.",
    )
    max_window: int = _setting(
        "HARVEST_MAX_WINDOW",
        whole(1),
        "Longest window of useractions for one run; with profile stock, it extends to the following midnight.",
        default=3600,
    )
    max_span: int | None = _setting(
        "MAX_START_END_SPAN",
        whole(1),
        "Refuse to harvest if the watermark is older than this; unset: never refuse.",
    )
    catch_up: bool = _setting(
        "HARVEST_CATCH_UP",
        flag,
        "Harvest spans longer than MAX_START_END_SPAN too, window by window.",
        default=False,
    )
    batch_size: int = _setting(
        "HARVEST_BATCH_SIZE", whole(1), "Maximum number of useractions per request (--batch-size).", default=1000
    )
    wait: int = _setting(
        "HARVEST_WAIT_SECONDS",
        whole(0, MAX_WAIT),
        "Minimum time between two requests for useractions or episodes, across all workers (--wait); at most 60.",
        default=0,
    )
    backfill_rate: int = _setting(
        "BACKFILL_ROWS_PER_SECOND",
        whole(1),
        "Most rows per second that the backfills of a stream read, all together (`backfill --rate`).",
        default=1000,
    )
    lease: int = _setting(
        "HARVEST_LEASE_SECONDS",
        whole(1),
        "If a worker dies, another gets its slice, or its messages, after this time.",
        default=60,
    )
    attempts: int = _setting(
        "HARVEST_ATTEMPTS", whole(1), "Number of attempts at a slice before it becomes a dead letter.", default=5
    )
    bucket: str | None = _setting(
        "S3_HARVEST_TS_BUCKET",
        text,
        "S3 bucket of the watermarks and dead letters; created if it does not exist.",
    )
    watermark_key: str = _setting(
        "S3_LAST_ACTION_TS_KEY", text, "S3 key of the useractions watermark.", default="last-action-timestamp"
    )
    episodes_key: str = _setting(
        "S3_EPISODES_KEY", text, "S3 key of the episodes watermark.", default="episodes-watermark"
    )
    episodes_at: timedelta = _setting(
        "EPISODES_AT",
        time_of_day,
        "When a day's episodes are indexed: at this time (UTC) on the next day, once its useractions are indexed.",
        default=timedelta(hours=4),
        shown_default="04:00",
    )
    episodes_workflow: str = _setting(
        "EPISODES_WORKFLOW",
        text,
        "The workflow definition that shows when an episode was live and when its recording became available.",
        default="DCE-archive-publish-external",
        shown_default="DCE-archive-publish-external",
    )
    episodes_capture: str = _setting(
        "EPISODES_CAPTURE_OPERATION",
        text,
        "The operation in it that lasts as long as the live lecture.",
        default="capture",
    )
    episodes_retract: str = _setting(
        "EPISODES_RETRACT_OPERATION",
        text,
        "The operation in it after which the recording is available.",
        default="retract-element",
    )
    zoom_watermark_key: str = _setting(
        "S3_ZOOM_KEY", text, "S3 key of the Zoom watermark.", default="zoom-watermark"
    )
    dead_letter_prefix: str = _setting(
        "S3_DEAD_LETTER_PREFIX", text, "Prefix of the dead letters in that bucket.", default="dead-letters/"
    )
    dead_letter_sse: str | None = _setting(
        "S3_DEAD_LETTER_SSE",
        sse,
        "Encrypt dead letters at rest: AES256, aws:kms, or aws:kms:KEY; unset: as the bucket does by default.",
    )
    queue: str | None = _setting(
        "SQS_QUEUE_NAME",
        queue_name,
        'SQS queue for the useractions; created if it does not exist; "-" prints them.',
    )
    events_per_message: int = _setting(
        "SQS_EVENTS_PER_MESSAGE",
        whole(1, 1000),
        "Useractions per SQS message; if more than 1, the message is a JSON array, which Logstash's json codec splits.",
        default=1,
    )
    episode_cache_expire: int = _setting(
        "EPISODE_CACHE_EXPIRE", whole(1), "How long an episode is cached.", default=900
    )
    redis_url: str = _setting(
        "REDIS_URL",
        redis_url,
        "Redis >= 6.2 or Valkey: ledger, known ids, caches, Zoom's token and quotas; redis, rediss, unix, sentinel.",
        default="redis://localhost:6379/0",
        secret=True,
    )
    broker_url: str = _setting(
        "CELERY_BROKER_URL",
        broker_url,
        "Celery's broker: a URL like REDIS_URL, or sqs://.",
        shown_default="REDIS_URL",
        secret=True,
    )
    index_infix: str | None = _setting(
        "INDEX_INFIX",
        index_part,
        "The site's part of index names: useractions-INFIX-YYYY.MM.DD; unset: useractions-YYYY.MM.DD.",
    )
    indexer: bool = _setting(
        "INDEXER",
        flag,
        "Index the messages in the SQS queue every minute, instead of Logstash.",
        default=False,
    )
    geolite: Path | None = _setting(
        "GEOLITE_PATH",
        Path,
        "A MaxMind City database (GeoLite2-City.mmdb), to locate useractions and Zoom sessions.",
    )
    documents_url: str | None = _setting(
        "DOCUMENTS_URL",
        sqlite_url,
        "sqlite:///path stores documents in an SQLite file, for a demo or a small site; unset: ES_HOST is used.",
    )
    es_url: str | None = _setting(
        "ES_HOST",
        cluster_url,
        "Elasticsearch 8 or 9, or OpenSearch 2.19 or 3: host, host:port (9200) or an http(s) URL.",
    )
    es_auth: str | None = _setting(
        "ES_AUTH",
        one_of("aws"),
        "aws: sign requests for Amazon OpenSearch Service, with the credentials of boto3; instead of ES_USER.",
    )
    es_api_key: str | None = _setting(
        "ES_API_KEY", key, "API key for Elasticsearch, encoded; instead of ES_USER.", secret=True
    )
    es_user: str | None = _setting("ES_USER", text, "User for ES_HOST.")
    es_password: str | None = _setting("ES_PASSWORD", text, "Password of that user.", secret=True)
    es_ca_file: str | None = _setting(
        "ES_CA_FILE",
        text,
        "CA certificates (PEM) to verify the certificate of ES_HOST with; unset: those of certifi.",
    )
    zoom_key: str | None = _setting(
        "ZOOM_KEY",
        text,
        "Client id of Zoom's Server-to-Server OAuth app; without ZOOM_ACCOUNT_ID, an API key.",
        secret=True,
    )
    zoom_secret: str | None = _setting(
        "ZOOM_SECRET", text, "Client secret of that app, or the API secret.", secret=True
    )
    zoom_account_id: str | None = _setting(
        "ZOOM_ACCOUNT_ID",
        text,
        "Account id of that app; unset: a JWT is signed with ZOOM_KEY and ZOOM_SECRET, for gateways that accept one.",
        secret=True,
    )
    zoom_header: tuple[str, str] | None = _setting(
        "ZOOM_HEADER",
        header,
        "`Name: value`, a header for each request, for a gateway in front of Zoom; alone or in addition to the login.",
        secret=True,
    )
    zoom_api_url: str = _setting(
        "ZOOM_API_URL",
        api_url,
        "URL of Zoom's API, or of a gateway, with the version.",
        default="https://api.zoom.us/v2/",
    )
    zoom_token_url: str = _setting(
        "ZOOM_TOKEN_URL",
        api_url,
        "Where to request a Server-to-Server OAuth token.",
        default="https://zoom.us/oauth/token",
    )
    zoom_plan: str = _setting(
        "ZOOM_PLAN",
        one_of("free", "pro", "business"),
        "The account's plan, which sets its calls per second, minute and day; for education: business.",
        default="pro",
    )
    zoom_quota_share: int = _setting(
        "ZOOM_QUOTA_SHARE",
        whole(1, 100),
        "Percentage of those calls to use at most; all apps of the account share them.",
        default=100,
    )
    zoom_at: timedelta = _setting(
        "ZOOM_AT",
        time_of_day,
        "When a day's meetings are harvested: at this time (UTC) on the next day.",
        default=timedelta(hours=5),
        shown_default="05:00",
    )
    zoom_lookback_days: int = _setting(
        "ZOOM_LOOKBACK_DAYS",
        whole(0, 28),
        "List this many earlier days again, to find meetings that had not ended or that Zoom shows late.",
        default=2,
    )
    viewings: bool = _setting(
        "VIEWINGS",
        flag,
        "Work out each day, from the documents, what each viewer watched of each recording.",
        default=False,
    )
    viewings_at: timedelta = _setting(
        "VIEWINGS_AT",
        time_of_day,
        "When a day's viewings are worked out: at this time (UTC) on the next day, once its useractions are indexed.",
        default=timedelta(hours=5, minutes=30),
        shown_default="05:30",
    )
    viewings_parquet: Path | None = _setting(
        "VIEWINGS_PARQUET",
        Path,
        "Folder of an `export parquet`: viewings are derived from its useractions too, such as those deleted here.",
    )
    viewings_key: str = _setting(
        "S3_VIEWINGS_KEY", text, "S3 key of the viewings watermark.", default="viewings-watermark"
    )
    anonymous_users: tuple[str, ...] = _setting(
        "ANONYMOUS_USERS",
        names,
        "User ids that stand for nobody, separated by commas: each of their sessions is a viewer of its own.",
        default=("anonymous", "public_user"),
        shown_default="anonymous,public_user",
    )
    attendance: bool = _setting(
        "ATTENDANCE",
        flag,
        "Work out each day, from the documents, who was in each Zoom meeting and for how long.",
        default=False,
    )
    attendance_at: timedelta = _setting(
        "ATTENDANCE_AT",
        time_of_day,
        "When a day's attendance is worked out: at this time (UTC) on the next day, once its meetings are harvested.",
        default=timedelta(hours=7),
        shown_default="07:00",
    )
    attendance_key: str = _setting(
        "S3_ATTENDANCE_KEY", text, "S3 key of the attendance watermark.", default="attendance-watermark"
    )
    derived_lookback_days: int = _setting(
        "DERIVED_LOOKBACK_DAYS",
        whole(0, 366),
        "Look at this many earlier days again, and repeat viewings and attendance whose documents have changed.",
        default=14,
    )
    privacy_pseudonyms: tuple[tuple[str, str], ...] = _setting(
        "PRIVACY_PSEUDONYMS",
        pseudonym_keys,
        "ID:SECRET: pseudonyms by this key replace logins, sessions, names and ids; older keys follow after commas.",
        default=(),
        shown_default="-",
        secret=True,
    )
    privacy_address: str = _setting(
        "PRIVACY_ADDRESS",
        one_of("full", "truncated", "none"),
        "What is stored of addresses once they are located: full, truncated (/24, /48), none.",
        default="full",
    )
    privacy_agent: str = _setting(
        "PRIVACY_AGENT",
        one_of("full", "family", "none"),
        "What is stored of browsers and devices: full, family (no versions, no models), none.",
        default="full",
    )
    privacy_types: tuple[str, ...] = _setting(
        "PRIVACY_TYPES",
        event_types,
        "With pseudonyms, also store these types besides those of Opencast's players; `SEARCH*`: in full.",
        default=(),
        shown_default="-",
    )
    privacy_tombstone_key: str | None = _setting(
        "PRIVACY_TOMBSTONE_KEY",
        tombstone_key,
        "Secret to recognise erased people if their data arrive again; unset: that of PRIVACY_PSEUDONYMS.",
        secret=True,
    )
    access_log: Path | None = _setting(
        "ACCESS_LOG_FILE",
        Path,
        "Commands that show personal data append a line of JSON to this file first: who, when, what; unset: none.",
    )
    audit_at: timedelta | None = _setting(
        "AUDIT_AT",
        time_of_day,
        "When the newest closed day is audited: at this time (UTC), such as 06:00; unset: never.",
    )
    retention_useractions: int | None = _setting(
        "RETENTION_USERACTIONS_DAYS",
        whole(1, 36500),
        "Useractions older than this many days are deleted, by whole days; unset: kept.",
    )
    retention_zoom: int | None = _setting(
        "RETENTION_ZOOM_DAYS", whole(1, 36500), "Likewise for meetings and their sessions; unset: kept."
    )
    retention_dead_letters: int | None = _setting(
        "RETENTION_DEAD_LETTERS_DAYS", whole(1, 36500), "Likewise for dead letters; unset: kept."
    )
    retention_derived: int | None = _setting(
        "RETENTION_DERIVED_DAYS",
        whole(1, 36500),
        "Likewise for viewings, recordings and attendance, by their `@timestamp`; unset: kept.",
    )
    retention_at: timedelta = _setting(
        "RETENTION_AT",
        time_of_day,
        "Daily time (UTC) at which old data are deleted, if any RETENTION_ setting is set.",
        default=timedelta(hours=3),
        shown_default="03:00",
    )
    lrs_url: str | None = _setting(
        "LRS_URL",
        api_url,
        "`export xapi --to lrs` sends statements there: the endpoint of an LRS, such as https://lrs.example.edu/xAPI.",
    )
    lrs_user: str | None = _setting("LRS_USER", text, "User, or key, of the LRS (basic authentication).")
    lrs_password: str | None = _setting("LRS_PASSWORD", text, "Password, or secret, of that user.", secret=True)
    report_threshold: int = _setting(
        "REPORT_THRESHOLD",
        whole(1, 100),
        "Reports: the percentage of a lecture or its recording that counts as attending it (--threshold).",
        default=50,
    )
    report_min_group: int = _setting(
        "REPORT_MIN_GROUP",
        whole(1, 1000),
        "Reports, episode-metrics: numbers of people are rounded down to multiples of this; fewer are not shown.",
        default=5,
    )
    metrics_host: str = _setting(
        "METRICS_HOST",
        text,
        "The address on which `manage.py metrics` listens; 0.0.0.0: all of this machine.",
        default="127.0.0.1",
    )
    metrics_port: int = _setting(
        "METRICS_PORT", whole(1, 65535), "The port on which `manage.py metrics` listens.", default=9754
    )
    heartbeat: Path | None = _setting(
        "HEARTBEAT_FILE",
        Path,
        "A worker or beat touches this file every few seconds, for health checks; unset: none.",
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        one_of("debug", "info", "warning", "error"),
        "Lowest level that is logged.",
        default="info",
    )
    log_format: str | None = _setting(
        "LOG_FORMAT",
        one_of("console", "json"),
        "How log lines look: console (for people) or json (one object a line).",
        shown_default="console on a terminal, else json",
    )
    loggly_token: str | None = _setting(
        "LOGGLY_TOKEN", loggly_token, "Customer token of Loggly: log lines are sent there too.", secret=True
    )
    loggly_tags: tuple[str, ...] = _setting(
        "LOGGLY_TAGS",
        loggly_tags,
        "Tags of the lines at Loggly besides `uaharvest`, separated by commas.",
        default=(),
        shown_default="-",
    )
    alert_command: tuple[str, ...] | None = _setting(
        "ALERT_COMMAND",
        command,
        "A command that gets each alert as one line of JSON on stdin; no shell runs it.",
        secret=True,
    )
    alert_webhook: str | None = _setting(
        "ALERT_WEBHOOK_URL", webhook_url, "An http(s) URL to which each alert is posted as JSON.", secret=True
    )
    flower_login: tuple[str, ...] | None = _setting(
        "FLOWER_BASIC_AUTH",
        flower_login,
        "user:password for Flower, which requires it; several are separated by commas.",
        secret=True,
    )

    def __post_init__(self) -> None:
        """Fill in the two defaults that depend on other settings."""
        if not self.opencast_zone:
            object.__setattr__(self, "opencast_zone", ZoneInfo(tzlocal.get_localzone_name() or "UTC"))
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)

    @property
    def episodes_enabled(self) -> bool:
        """Tell whether this site indexes episodes: everything they need is set."""
        return bool(self.admin_url and (self.documents_url or self.es_url))

    @property
    def zoom_enabled(self) -> bool:
        """Tell whether this site harvests Zoom: everything that needs is set."""
        login = (self.zoom_key and self.zoom_secret) or self.zoom_header
        return bool(login and (self.documents_url or self.es_url))

    @property
    def viewings_enabled(self) -> bool:
        """Tell whether this site works out viewings: that is switched on, and there is a document store."""
        return bool(self.viewings and (self.documents_url or self.es_url))

    @property
    def attendance_enabled(self) -> bool:
        """Tell whether this site works out attendance: that is switched on, and there is a document store."""
        return bool(self.attendance and (self.documents_url or self.es_url))

    @property
    def alerts_enabled(self) -> bool:
        """Tell whether alerts are sent: somebody is named who gets them."""
        return bool(self.alert_command or self.alert_webhook)

    @property
    def retention_enabled(self) -> bool:
        """Tell whether anything is deleted because it is old."""
        limits = (
            self.retention_useractions,
            self.retention_zoom,
            self.retention_dead_letters,
            self.retention_derived,
        )
        return any(limits)

    def require(self, *names: str) -> None:
        """Raise BadInputError if any of the fields `names` is not set; the text lists all that are missing."""
        variables = {field.name: field.metadata["variable"] for field in dataclasses.fields(self)}
        missing = [variables[name] for name in names if getattr(self, name) is None]
        if missing:
            raise BadInputError(
                f"not set: {', '.join(missing)}. Set them in the environment or in .env (example.env has all)."
            )


def load(environment: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Settings:
    """Read all settings; the environment overrides the `.env` file, and an empty value counts as not set.

    A secret may be in a file of its own: `NAME_FILE` is the file's path.

    boto3 and requests read AWS_* and proxies only from the environment, so those in `.env` are copied there
    without surrounding whitespace, and empty ones are removed.

    Args:
        environment: Replaces `os.environ` in tests.
        dotenv: The `.env` file; by default the one that UAHARVEST_ENV_FILE names, or that in the current directory.

    Raises:
        BadInputError: Some are invalid. The text names each one and what was expected, and never shows a secret.
    """
    given = os.environ if environment is None else environment
    path = dotenv or env_file(given)
    file, duplicates = dotenv_.read(path)
    errors = _misspelt_in_file(file, path)
    values: dict[str, Any] = {}
    passed_on: dict[str, str] = {}
    for variable, reader in {**_READERS, **_library_readers({*file, *given})}.items():
        secret = variable in _IN_FILES
        try:
            value, where = _written(variable, given, file, path)
        except ValueError as error:
            errors.append(str(error))
            continue
        passed_on[variable] = value
        try:
            values[variable] = reader(writable(value, secret=secret)) if value else None
        except ValueError as error:
            what = shown(value, secret=variable not in _READERS or secret)
            errors.append(f"{where}{variable}: {what} cannot be used. Expected {error}.")
    if errors:
        raise BadInputError("\n".join(errors))
    for variable, lines in duplicates.items():
        if variable in passed_on and not given.get(variable):
            numbers = ", ".join(map(str, lines))
            log.warning("%s sets %s in lines %s; the last one counts.", path, variable, numbers)
    for variable, meant, _ in misspelt(given):
        log.warning("The environment has %s, which nothing reads. Did you mean %s?", variable, meant)
    if environment is None:
        _pass_on({name: value for name, value in passed_on.items() if name not in _READERS})
    chosen = {field: values[variable] for variable, field in _FIELDS.items() if values.get(variable) is not None}
    return Settings(**chosen)


def env_file(environment: Mapping[str, str]) -> Path:
    """Return the path of the `.env` file, which may be missing; raise BadInputError if a named one is."""
    named = environment.get(ENV_FILE, "").strip()
    if named and not Path(named).exists():
        raise BadInputError(
            f"{ENV_FILE}: there is no file {plain.one_line(named)}. Expected one like example.env."
        )
    return Path(named or ".env")


def _written(
    variable: str, given: Mapping[str, str], file: Mapping[str, "dotenv_.Variable"], path: Path
) -> tuple[str, str]:
    """Return the value of a variable, and where it is written, as the beginning of an error message.

    Raises:
        ValueError: It is ambiguous, or the file that holds it cannot be used. The text is the whole message.
    """
    in_file = f"{variable}_FILE" if variable in _IN_FILES else ""
    value, named = (given.get(name, "").strip() for name in (variable, in_file))
    where = ""
    if not value and not named:
        for name in (variable, in_file):
            if name in file and file[name].refused:
                raise ValueError(f"{path}, line {file[name].line}: {name} {file[name].refused}.")
        value, named = (file[name].value.strip() if name in file else "" for name in (variable, in_file))
        where = f"{path}, line {file[variable if value else in_file].line}: " if value or named else ""
    if value and named:
        raise ValueError(f"{where}{variable} and {in_file} are both set. Expected one of them.")
    if named:
        shown_name = plain.one_line(named)
        return _secret(Path(named), f"{where}{in_file}: {shown_name}"), f"{where}{shown_name}: "
    return value, where


def _secret(path: Path, what: str) -> str:
    """Return the content of a secret's file; raise ValueError, whose text begins with `what`."""
    try:
        with path.open("rb") as opened:
            content = opened.read(_LONGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror}.") from None
    if len(content) > _LONGEST_SECRET:
        raise ValueError(f"{what} is longer than {_LONGEST_SECRET:,} bytes. Expected the secret alone.")
    try:
        value = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not UTF-8.") from None
    if not value:
        raise ValueError(f"{what} is empty. Expected the secret.")
    return value


def _library_readers(names: set[str]) -> dict[str, Callable[[str], Any]]:
    """Return readers for those of `names` that libraries read."""
    readers: dict[str, Callable[[str], Any]] = {}
    for name in sorted({*names, *_AWS_IN_FILES}):
        if name.removesuffix("_FILE") in _AWS_IN_FILES - {name}:
            continue  # read in place of the other
        if name.startswith("AWS_ENDPOINT_URL"):
            readers[name] = api_url
        elif name in _ASCII_SECRETS:
            readers[name] = key
        elif name.startswith("AWS_"):
            readers[name] = text
        elif name in {"CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"}:
            readers[name] = nothing
        elif name.upper() in _PASSED_ON:
            readers[name] = proxy_url if name.upper() in _PROXIES else text
    return readers


def _pass_on(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if name in _AWS_IN_FILES:  # a child process would find both
            os.environ.pop(f"{name}_FILE", None)
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def misspelt(names: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each unknown name that resembles one of our variables, that variable, and whether it is certain."""
    for name in sorted(names):
        upper = name.upper()
        if name in _READERS or name.removesuffix("_FILE") in _IN_FILES or name.startswith("AWS_"):
            continue
        cutoff = HARDLY_ALIKE if upper.startswith(OURS) else ALIKE
        for meant in difflib.get_close_matches(upper, _READERS, n=1, cutoff=cutoff):
            close = difflib.SequenceMatcher(None, upper, meant).ratio() >= ALIKE
            sure = close and abs(len(meant) - len(name)) <= ALIKE_LENGTH
            if sure or (upper.startswith(OURS) and not upper.startswith(f"{meant}_")):
                yield name, meant, sure


def _misspelt_in_file(file: Mapping[str, "dotenv_.Variable"], path: Path) -> list[str]:
    """Return a line for each certainly misspelt name, since the file is ours alone; warn about the others."""
    errors = []
    for name, meant, sure in misspelt(file):
        line = f"{path}, line {file[name].line}: nothing reads {name}. Did you mean {meant}?"
        if sure:
            errors.append(f"{line} If not, remove the line.")
        else:
            log.warning("%s", line)
    return errors


_FIELDS = {field.metadata["variable"]: field.name for field in dataclasses.fields(Settings)}
_READERS: dict[str, Callable[[str], Any]] = {
    field.metadata["variable"]: field.metadata["read"] for field in dataclasses.fields(Settings)
}
# Each of these secrets may be in a file, which NAME_FILE names.
_IN_FILES = _AWS_IN_FILES | {
    field.metadata["variable"] for field in dataclasses.fields(Settings) if field.metadata["secret"]
}


@functools.cache
def current() -> Settings:
    """Return the settings of this process, read once; raises as `load` does."""
    return load()


def table() -> str:
    """Return the settings as a Markdown table; a test compares it with the one in docs/settings.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(Settings):
        shown = field.metadata["shown_default"]
        rows.append(f"| `{field.metadata['variable']}` | {shown or '-'} | {field.metadata['meaning']} |")
    return "\n".join(rows)
