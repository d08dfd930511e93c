"""Readers of settings: each turns the text of a variable into its value, or says what was expected.

Every reader raises ValueError, whose text goes after "Expected". It never quotes the value, which may be secret.
"""

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from uaharvest import urls
from uaharvest.redis_url import EXPECTED as REDIS_EXPECTED
from uaharvest.redis_url import RedisUrl

# Control characters, and the surrogates that Python puts in place of bytes that are not UTF-8. Either makes
# libraries raise errors that quote the whole value.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def text(value: str) -> str:
    """Return the value unchanged."""
    return value


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """Return a reader of values that match a pattern as a whole."""

    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(expected)
        return value

    return read


def separated(pattern: str, expected: str) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of words that each match a pattern, separated by commas."""

    def read(value: str) -> tuple[str, ...]:
        words = tuple(filter(None, (word.strip() for word in value.split(","))))
        if not all(re.fullmatch(pattern, word) for word in words):
            raise ValueError(expected)
        return words

    return read


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a reader of integers from `low` to `high`."""
    expected = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"

    def read(value: str) -> int:
        if re.fullmatch(r"\d{10,}", value):  # more than 31 years in seconds, beyond what dates can hold
            raise ValueError(f"{expected}, of at most 9 digits" if high is None else expected)
        if not re.fullmatch(r"\d{1,9}", value) or int(value) < low or (high is not None and int(value) > high):
            raise ValueError(expected)
        return int(value)

    return read


def flag(value: str) -> bool:
    """Read true/false, yes/no, on/off, 1/0."""
    if value.lower() in _YES | _NO:
        return value.lower() in _YES
    raise ValueError("true or false")


def one_of(*words: str) -> Callable[[str], str]:
    """Return a reader of one of `words`."""

    def read(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}" if len(words) > 1 else f"{words[0]}, or nothing")
        return value.lower()

    return read


def time_of_day(value: str) -> timedelta:
    """Read HH:MM as the time since midnight."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII):
        raise ValueError("a time of day such as 04:00")
    hours, minutes = value.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def zone(value: str) -> ZoneInfo:
    """Read the name of a zone in the IANA time zone database."""
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone such as America/New_York") from None


def base_url(value: str) -> str:
    """Read a host as a base URL; without a scheme it means http, as in the old tool."""
    expected = "a host such as engage.example.edu, or an http(s) URL without user, password and query"
    whole_url = value if "://" in value else f"http://{value}"
    try:
        parts = urls.split(whole_url, expected)
        urls.host_port(parts.authority, expected, 80)
    except ValueError as error:
        raise ValueError(str(error) if "@" in value else expected) from None
    if parts.scheme not in {"http", "https"} or "@" in value or "?" in value:
        raise ValueError(expected)
    _, _, path = whole_url.partition("://")[2].partition("/")
    return f"{parts.scheme}://{parts.authority}/{path.strip('/')}{'/' if path.strip('/') else ''}"


def api_url(value: str) -> str:
    """Read an http(s) URL; the scheme is required, because secrets are sent to it."""
    if "://" not in value:
        raise ValueError("an http(s) URL, with https:// before the host")
    return base_url(value).rstrip("/") + "/" * value.endswith("/")


def header(value: str) -> tuple[str, str]:
    """Read an HTTP header, `Name: value`."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: *[!-~]([ -~]*[!-~])?", value):
        raise ValueError("the name and value of a header, such as X-Api-Key: 1234")
    name, _, content = value.partition(":")
    return name, content.strip()


def cluster_url(value: str) -> str:
    """Read `host`, `host:port` or an http(s) URL as a base URL; default: http, port 9200, as in the old tool."""
    try:
        parts = urlsplit(base_url(value))
    except ValueError:
        expected = "host, host:port or an http(s) URL; user and password go in ES_USER, ES_PASSWORD"
        raise ValueError(f"{expected}, where a / is not written %2F" if "@" in value else expected) from None
    if "://" not in value and not parts.port:
        parts = parts._replace(netloc=f"{parts.netloc}:9200")
    return urlunsplit(parts)


def queue_name(value: str) -> str:
    """Read the name of a standard SQS queue, or "-" for stdout."""
    if value.endswith(".fifo"):
        raise ValueError(
            "the name of a standard queue: FIFO queues take 300 calls a second and forget duplicates after"
            " 5 minutes; useractions have ids, so repeats are removed anyway"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", value):
        raise ValueError('1 to 80 letters, digits, "-" or "_", or "-" alone for stdout')
    return value


def redis_url(value: str) -> str:
    """Check a Redis URL and return it unchanged; RedisUrl interprets it for both the ledger and Celery."""
    RedisUrl.parse(value)
    return value


def broker_url(value: str) -> str:
    """Read a Redis URL or `sqs://`; without credentials in it, `sqs://` uses boto3's own."""
    if value.startswith("sqs://"):
        urls.split(value, "sqs:// or sqs://key:secret@")
        return value
    try:
        return redis_url(value)
    except ValueError as error:
        raise ValueError(str(error).replace(REDIS_EXPECTED, f"{REDIS_EXPECTED} or sqs://")) from None


def database_url(value: str) -> str:
    """Read the URL of Opencast's database; return it with user and password percent-encoded where needed."""
    expected = "mysql://, mariadb:// or postgresql://user:password@host/database"
    parts = urls.split(value, expected)
    if parts.scheme not in {"mysql", "mariadb", "postgresql"}:
        raise ValueError(f"a URL that starts with mysql:// or mariadb:// or postgresql://: {expected}")
    if parts.authority:
        urls.host_port(parts.authority, expected, 1)
    _, _, rest = value.partition("://")
    return f"{parts.scheme}://{parts.userinfo}{rest.rpartition('@')[2]}"


def command(value: str) -> tuple[str, ...]:
    """Read a command as words, quoted as in a shell; no shell runs it."""
    expected = "a program and its arguments, quoted as in a shell"
    try:
        words = tuple(shlex.split(value))
    except ValueError:  # its text may quote the value
        raise ValueError(expected) from None
    if not words or not words[0]:
        raise ValueError(expected)
    return words


def webhook_url(value: str) -> str:
    """Read an http(s) URL that may contain a token anywhere."""
    expected = "an http(s) URL, in ASCII"
    parts = urls.split(value, expected)
    if parts.scheme not in {"http", "https"} or not value.isascii():
        raise ValueError(expected)
    urls.host_port(parts.authority, expected, 80)
    return value


def flower_login(value: str) -> tuple[str, ...]:
    """Read the logins of Flower, `user:password`, separated by commas."""
    logins = tuple(value.split(","))
    if not all(re.fullmatch(r"[^:]+:.+", login) for login in logins):
        raise ValueError("user:password; more than one separated by commas")
    return logins


def pseudonym_keys(value: str) -> tuple[tuple[str, str], ...]:
    """Read keys of pseudonyms, `id:secret`, separated by commas, the newest first."""
    expected = (
        "ID:SECRET, the newest key first, others after commas. An ID has 1 to 16 small letters or digits, and a SECRET"
        " at least 16 characters without spaces and commas"
    )
    keys = tuple(tuple(part.strip().partition(":")[::2]) for part in value.split(","))
    if not all(re.fullmatch(r"[a-z0-9]{1,16}", id_) and re.fullmatch(r"[^\s,]{16,}", key) for id_, key in keys):
        raise ValueError(expected)
    if len({id_ for id_, _ in keys}) < len(keys):
        raise ValueError(f"{expected}; each ID once")
    return tuple((id_, key) for id_, key in keys)


def nothing(_: str) -> None:
    """Refuse a variable that Celery would read directly, so that its URL would bypass our checks."""
    raise ValueError("nothing: set CELERY_BROKER_URL")


def proxy_url(value: str) -> str:
    """Read a proxy's URL, with or without a scheme; requests and botocore read it from the environment."""
    expected = "http://[user:password@]host:port"
    parts = urls.split(value if "://" in value else f"http://{value}", expected)
    urls.host_port(parts.authority, expected, 80)
    return value


def writable(value: str, *, secret: bool = False) -> str:
    """Return the value if it has no control characters and, unless it is a secret, no invisible ones either.

    With a zero-width space in it, the watermark's key would name a different object.

    Raises:
        ValueError: It has some; the text quotes no part of the value.
    """
    if _CONTROL.search(value):
        raise ValueError("one line of UTF-8 without control characters")
    if not secret and not value.isprintable():
        raise ValueError("no invisible characters")
    return value


# What is sent in a header. A library's error would quote a value with line breaks.
key = matching(r"[!-~]+", "ASCII without spaces")
sqlite_url = matching(
    r"sqlite:///[^?#]*[^?#/]",
    "sqlite:/// and a path: sqlite:///documents.db, or sqlite:////srv/uaharvest/documents.db",
)
index_part = matching(
    r"[a-z0-9][a-z0-9_.-]{0,99}", 'lower-case letters, digits, "-", "_" and ".", a letter or digit first'
)
loggly_token = matching(r"[A-Za-z0-9-]+", "a customer token of Loggly: letters, digits and -")
# How S3 encrypts an object.
sse = matching(r"AES256|aws:kms(:[!-~]+)?", "AES256, aws:kms, or aws:kms: and the id or ARN of a key")
# The key of the digests of those who were erased.
tombstone_key = matching(r"\S{16,}", "at least 16 characters without spaces")
names = separated(r"(?s:.*)", "names")
loggly_tags = separated(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 'tags of letters, digits, ".", "_" and "-", separated by commas'
)
event_types = separated(
    r"[^*]{1,128}\*?", "types of useractions, separated by commas; a * at the end allows what follows"
)
