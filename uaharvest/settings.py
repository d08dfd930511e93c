"""Every setting: its variable, type, default and meaning, read once from the environment and `.env`."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import decouple
import tzlocal

from uaharvest.errors import BadInputError

HIDDEN = "(set)"


def shown(value: str, *, secret: bool) -> str:
    """Return a value that cannot be used as an error may show it: of a URL without user and password."""
    userinfo, at, rest = value.rpartition("@")
    return HIDDEN if secret else f"'{'...' if userinfo else ''}{at}{rest}'"


def text(value: str) -> str:
    """Take the value as it is."""
    return value


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`."""
    expected = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"

    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or int(value) < low or (high is not None and int(value) > high):
            raise ValueError(expected)
        return int(value)

    return read


def flag(value: str) -> bool:
    """Read true/false, yes/no, on/off, 1/0."""
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if value.lower() not in words:
        raise ValueError("true or false")
    return words[value.lower()]


def one_of(*words: str) -> Callable[[str], str]:
    """Return a reader of one of `words`."""

    def read(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value.lower()

    return read


def time_of_day(value: str) -> timedelta:
    """Read HH:MM as the time since midnight."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII):
        raise ValueError("a time of day such as 04:00")
    hours, minutes = value.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def zone(value: str) -> ZoneInfo:
    """Read a name of the IANA time zone database."""
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone such as America/New_York") from None


def base_url(value: str) -> str:
    """Read a host, with or without a scheme (none means http, as the old tool had it), as a base URL."""
    expected = "a host such as engage.example.edu, or an http(s) URL without user, password and query"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError(expected) from None
    if not usable or parts.username or parts.password or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(expected)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/", "", ""))


def api_url(value: str) -> str:
    """Read an http(s) URL; its scheme must be given, for secrets go there."""
    if "://" not in value:
        raise ValueError("an http(s) URL, with https:// before the host")
    return base_url(value).rstrip("/") + "/" * value.endswith("/")


def header(value: str) -> tuple[str, str]:
    """Read `Name: value` of an HTTP header."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: *[!-~]([ -~]*[!-~])?", value):
        raise ValueError("the name and value of a header, such as X-Api-Key: 1234")
    name, _, content = value.partition(":")
    return name, content.strip()


def elasticsearch_url(value: str) -> str:
    """Read host, host:port (http; port 9200, as the old tool had it) or an http(s) URL as a base URL."""
    try:
        parts = urlsplit(base_url(value))
    except ValueError:
        raise ValueError(
            "host, host:port or an http(s) URL; user and password stand in ES_USER, ES_PASSWORD"
        ) from None
    if "://" not in value and not parts.port:
        parts = parts._replace(netloc=f"{parts.netloc}:9200")
    return urlunsplit(parts)


def sqlite_url(value: str) -> str:
    """Read the URL of an SQLite file: `sqlite:///` and its path."""
    if not re.fullmatch(r"sqlite:///[^?#]*[^?#/]", value):
        raise ValueError("sqlite:/// and a path: sqlite:///documents.db, or sqlite:////srv/uaharvest/documents.db")
    return value


def queue_name(value: str) -> str:
    """Read the name of a standard SQS queue, or "-" for stdout."""
    if value.endswith(".fifo"):
        raise ValueError(
            "the name of a standard queue: FIFO queues take 300 calls a second and forget duplicates after"
            " 5 minutes; useractions carry ids, by which a repeat is removed"
        )
    if value != "-" and not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", value):
        raise ValueError('1 to 80 letters, digits, "-" or "_", or "-" alone for stdout')
    return value


def index_part(value: str) -> str:
    """Read what may stand in an index's name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", value):
        raise ValueError('lower-case letters, digits, "-", "_" and ".", a letter or digit first')
    return value


def url(*schemes: str) -> Callable[[str], str]:
    """Return a reader of URLs with one of `schemes`."""

    def read(value: str) -> str:
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return read


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
    """All settings, validated; secrets are in no repr. Times are seconds unless the meaning says more."""

    engage_url: str | None = _setting(
        "MATTERHORN_ENGAGE_HOST",
        base_url,
        "The engage (presentation) host of Opencast; without a scheme http.",
    )
    admin_url: str | None = _setting(
        "MATTERHORN_ADMIN_HOST", base_url, "The admin host of Opencast, for the episodes stream."
    )
    opencast_user: str | None = _setting("MATTERHORN_REST_USER", text, "User for Opencast's REST interface.")
    opencast_password: str | None = _setting("MATTERHORN_REST_PASS", text, "Password of that user.", secret=True)
    opencast_auth: str = _setting(
        "OPENCAST_AUTH",
        one_of("digest", "basic"),
        "How that user logs in: digest (system and capture agent accounts only) or basic (every user, Opencast 5 on).",
        default="digest",
    )
    database_url: str | None = _setting(
        "OPENCAST_DATABASE_URL",
        url("mysql", "mariadb", "postgresql"),
        "Read useractions from Opencast's database instead: mariadb:// or postgresql://user:password@host/database.",
        secret=True,
    )
    opencast_zone: ZoneInfo = _setting(
        "OPENCAST_TIMEZONE",
        zone,
        "The time zone of the Opencast server, of the local times in its answers; checked against the data.",
        shown_default="this machine's zone",
    )
    opencast_profile: str = _setting(
        "OPENCAST_PROFILE",
        one_of("auto", "stock", "dce"),
        "What actions.json of the server knows: stock (day only), dce (start and end; Harvard's fork), auto (asks).",
        default="auto",
    )
    default_interval: int = _setting(
        "DEFAULT_INTERVAL",
        whole(1),
        "Where no watermark exists, the harvest starts this many minutes ago.",
        default=2,
    )
    every: int = _setting(
        "HARVEST_EVERY_SECONDS", whole(1), "How often beat asks every stream for what there is to do.", default=120
    )
    lag: int = _setting(
        "HARVEST_LAG_SECONDS", whole(0), "How far behind the source's clock a window ends.", default=10
    )
    overlap: int = _setting(
        "HARVEST_OVERLAP_SECONDS",
        whole(0),
        "How far before the watermark rows that appear late are still looked for.",
        default=3600,
    )
    max_window: int = _setting(
        "HARVEST_MAX_WINDOW",
        whole(1),
        "The longest window of useractions that one run harvests; profile stock: up to the midnight after it.",
        default=3600,
    )
    max_span: int | None = _setting(
        "MAX_START_END_SPAN",
        whole(1),
        "Refuse to harvest when the watermark lies further back than this; unset: never refuse.",
    )
    catch_up: bool = _setting(
        "HARVEST_CATCH_UP",
        flag,
        "Harvest a longer span than MAX_START_END_SPAN too, window by window.",
        default=False,
    )
    batch_size: int = _setting(
        "HARVEST_BATCH_SIZE", whole(1), "Most actions per request (--batch-size).", default=1000
    )
    wait: int = _setting(
        "HARVEST_WAIT_SECONDS",
        whole(0),
        "Least time between two requests for actions, or two episodes, kept by all workers together (--wait).",
        default=0,
    )
    lease: int = _setting(
        "HARVEST_LEASE_SECONDS",
        whole(1),
        "After this time the slice, or the messages, of a worker that died are given to another.",
        default=60,
    )
    attempts: int = _setting(
        "HARVEST_ATTEMPTS", whole(1), "Attempts at one slice before it becomes a dead letter.", default=5
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
        "S3_EPISODES_KEY", text, "S3 key of the watermark of the episodes.", default="episodes-watermark"
    )
    episodes_at: timedelta = _setting(
        "EPISODES_AT",
        time_of_day,
        "When the episodes of a day are indexed: at this time (UTC) of the next day, by which all of it is indexed.",
        default=timedelta(hours=4),
        shown_default="04:00",
    )
    episodes_workflow: str = _setting(
        "EPISODES_WORKFLOW",
        text,
        "The workflow definition that tells when an episode was live and when its recording came.",
        default="DCE-archive-publish-external",
        shown_default="DCE-archive-publish-external",
    )
    episodes_capture: str = _setting(
        "EPISODES_CAPTURE_OPERATION",
        text,
        "Its operation that lasts as long as the live lecture.",
        default="capture",
    )
    episodes_retract: str = _setting(
        "EPISODES_RETRACT_OPERATION",
        text,
        "Its operation at whose end the recording is available.",
        default="retract-element",
    )
    zoom_watermark_key: str = _setting(
        "S3_ZOOM_KEY", text, "S3 key of the watermark of the Zoom meetings.", default="zoom-watermark"
    )
    dead_letter_prefix: str = _setting(
        "S3_DEAD_LETTER_PREFIX", text, "Where in that bucket dead letters are kept.", default="dead-letters/"
    )
    queue: str | None = _setting(
        "SQS_QUEUE_NAME",
        queue_name,
        'SQS queue of the useractions, created if it does not exist; "-": stdout.',
    )
    events_per_message: int = _setting(
        "SQS_EVENTS_PER_MESSAGE",
        whole(1, 1000),
        "Useractions per SQS message; more than 1: as a JSON array, which Logstash's json codec splits.",
        default=1,
    )
    episode_cache_expire: int = _setting(
        "EPISODE_CACHE_EXPIRE", whole(1), "How long an episode is cached.", default=900
    )
    redis_url: str = _setting(
        "REDIS_URL",
        url("redis", "rediss", "unix"),
        "Redis >= 6.2 or Valkey: run ledger, known ids, episode cache, Zoom's token and quotas.",
        default="redis://localhost:6379/0",
        secret=True,
    )
    broker_url: str = _setting(
        "CELERY_BROKER_URL",
        url("redis", "rediss", "sentinel", "sqs"),
        "Celery's broker.",
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
        "Index what is in the SQS queue, every minute, in place of Logstash.",
        default=False,
    )
    geolite: Path | None = _setting(
        "GEOLITE_PATH",
        Path,
        "A MaxMind City database (GeoLite2-City.mmdb): where useractions and Zoom sessions come from.",
    )
    documents_url: str | None = _setting(
        "DOCUMENTS_URL",
        sqlite_url,
        "sqlite:///path: keep documents in this SQLite file, for a demo or a small site; unset: in ES_HOST.",
    )
    es_url: str | None = _setting(
        "ES_HOST", elasticsearch_url, "Elasticsearch 8 or 9: host, host:port (9200) or an http(s) URL."
    )
    es_api_key: str | None = _setting(
        "ES_API_KEY", text, "API key for Elasticsearch, encoded; in place of ES_USER.", secret=True
    )
    es_user: str | None = _setting("ES_USER", text, "User for Elasticsearch.")
    es_password: str | None = _setting("ES_PASSWORD", text, "Password of that user.", secret=True)
    es_ca_file: str | None = _setting(
        "ES_CA_FILE", text, "Certificates (PEM) that Elasticsearch's is checked with; unset: those of certifi."
    )
    zoom_key: str | None = _setting(
        "ZOOM_KEY",
        text,
        "Client id of Zoom's Server-to-Server OAuth app; without ZOOM_ACCOUNT_ID an API key.",
        secret=True,
    )
    zoom_secret: str | None = _setting(
        "ZOOM_SECRET", text, "Client secret of that app; or API secret.", secret=True
    )
    zoom_account_id: str | None = _setting(
        "ZOOM_ACCOUNT_ID",
        text,
        "Account id of that app; unset: a JWT is signed with ZOOM_KEY and ZOOM_SECRET, for gateways that take it.",
        secret=True,
    )
    zoom_header: tuple[str, str] | None = _setting(
        "ZOOM_HEADER",
        header,
        "`Name: value`, sent with each request: what a gateway before Zoom wants, alone or besides the login.",
        secret=True,
    )
    zoom_api_url: str = _setting(
        "ZOOM_API_URL",
        api_url,
        "Zoom's API, or a gateway's URL in its place, with the version.",
        default="https://api.zoom.us/v2/",
    )
    zoom_token_url: str = _setting(
        "ZOOM_TOKEN_URL",
        api_url,
        "Where a Server-to-Server OAuth token is had.",
        default="https://zoom.us/oauth/token",
    )
    zoom_plan: str = _setting(
        "ZOOM_PLAN",
        one_of("free", "pro", "business"),
        "The account's plan, which says how many calls a second, minute and day it has; education: business.",
        default="pro",
    )
    zoom_quota_share: int = _setting(
        "ZOOM_QUOTA_SHARE",
        whole(1, 100),
        "Most per cent of those calls that are used: all apps of the account share them.",
        default=100,
    )
    zoom_at: timedelta = _setting(
        "ZOOM_AT",
        time_of_day,
        "When the meetings of a day are harvested: at this time (UTC) of the next day.",
        default=timedelta(hours=5),
        shown_default="05:00",
    )
    zoom_lookback_days: int = _setting(
        "ZOOM_LOOKBACK_DAYS",
        whole(0, 28),
        "So many days before it are listed again: for meetings that had not ended, and what Zoom shows late.",
        default=2,
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        one_of("debug", "info", "warning", "error"),
        "Least level that is logged.",
        default="info",
    )

    def __post_init__(self) -> None:
        """Fill in the two defaults that depend on something else."""
        if not self.opencast_zone:
            object.__setattr__(self, "opencast_zone", _local_zone())
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)

    @property
    def episodes(self) -> bool:
        """Tell whether this site indexes episodes: what they need is set."""
        return bool(self.admin_url and (self.documents_url or self.es_url))

    @property
    def zoom(self) -> bool:
        """Tell whether this site harvests Zoom: what that needs is set."""
        login = (self.zoom_key and self.zoom_secret) or self.zoom_header
        return bool(login and (self.documents_url or self.es_url))

    def require(self, *names: str) -> None:
        """Raise BadInputError that names every one of the fields `names` that is not set."""
        variables = {field.name: field.metadata["variable"] for field in dataclasses.fields(self)}
        missing = [variables[name] for name in names if getattr(self, name) is None]
        if missing:
            raise BadInputError(
                f"not set: {', '.join(missing)}. They belong into the environment or into .env (example.env has all)."
            )


def load(environment: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Settings:
    """Read all settings, the environment before the `.env` file; an empty value counts as not set.

    boto3 reads AWS_* from the environment only, so those that stand in `.env` are put there.

    Args:
        environment: In place of `os.environ`, for tests.
        dotenv: The `.env` file; by default the one in the current folder.

    Raises:
        BadInputError: Names each variable that cannot be used and what was expected; never shows a secret.
    """
    path = dotenv or Path(".env")
    file: Mapping[str, str] = decouple.RepositoryEnv(str(path)).data if path.is_file() else {}
    if environment is None:
        environment = os.environ
        for name, value in file.items():
            if name.startswith("AWS_") and not os.environ.get(name):
                os.environ[name] = value
    values, errors = {}, []
    for field in dataclasses.fields(Settings):
        variable = field.metadata["variable"]
        value = (environment.get(variable) or file.get(variable) or "").strip()
        if not value:
            continue
        try:
            values[field.name] = field.metadata["read"](value)
        except ValueError as error:
            what = shown(value, secret=field.metadata["secret"])
            errors.append(f"{variable}: {what} cannot be used. Expected {error}.")
    if errors:
        raise BadInputError("\n".join(errors))
    return Settings(**values)


@functools.cache
def current() -> Settings:
    """Return the settings of this process, read once; raises as `load` does."""
    return load()


def table() -> str:
    """Return the settings as a Markdown table: the README's, which a test compares with this."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(Settings):
        shown = field.metadata["shown_default"]
        rows.append(f"| `{field.metadata['variable']}` | {shown or '-'} | {field.metadata['meaning']} |")
    return "\n".join(rows)


def _local_zone() -> ZoneInfo:
    return ZoneInfo(tzlocal.get_localzone_name() or "UTC")
