"""Parses Redis URLs once, so that redis-py (the ledger) and kombu (Celery's broker) connect in the same way.

Each library has its own URL syntax. kombu does not verify the certificate of a `rediss://` server and does not
support `unix://`; redis-py does not support `sentinel://` and treats a non-numeric database as 0. So both get
equivalent arguments from here instead of the URL.
"""

import dataclasses
import os
import re
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import quote

import redis
import redis.sentinel
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from uaharvest.urls import Url, bracketed, encoded, host_port, split

EXPECTED = "a URL that starts with redis://, rediss://, unix:// or sentinel://"
SENTINEL = "sentinel://[user:password@]host:26379[,host:26379...][/database]?master_name=NAME"
_PORT = 6379
_SENTINEL_PORT = 26379
_SENTINEL_SECONDS = 3  # a sentinel answers from memory, and each of them may hang
_SOCKETS = ("unix", "redis+socket")  # redis-py's scheme and kombu's
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", *_FILES)
_MASTER = ("master_name", "sentinel_username", "sentinel_password", "ssl", *_TLS)
Answer = TypeVar("Answer")

# Known errors: redis-py's exceptions, or how the server's message begins; what the error means; the advice.
_Kinds = tuple[type[redis.RedisError], ...]
_KNOWN: tuple[tuple[_Kinds, tuple[str, ...], str, str], ...] = (
    (
        (redis.AuthenticationError,),
        ("WRONGPASS", "NOAUTH"),
        "refuses the login",
        "Check the user and password in REDIS_URL.",
    ),
    (
        (redis.exceptions.NoPermissionError,),
        ("NOPERM", "ACL failure"),
        "does not permit a command that uaharvest needs",
        "Grant it to the user in REDIS_URL with ACL SETUSER.",
    ),
    (
        (redis.ReadOnlyError, redis.exceptions.MasterDownError),
        ("READONLY", "MASTERDOWN"),
        "takes no writes, because it is a replica",
        "REDIS_URL must name the primary, or the sentinels that know it.",
    ),
    (
        (redis.OutOfMemoryError,),
        ("OOM",),
        "takes no writes, because it is full",
        "Give it more memory (maxmemory).",
    ),
    (
        (),
        ("MISCONF",),
        "takes no writes, because it cannot save its data",
        "Its log says why. Often its disk is full.",
    ),
    (
        (redis.BusyLoadingError,),
        ("LOADING",),
        "has started and is not ready yet",
        "Wait until it has loaded its data.",
    ),
    (
        (),
        ("BUSY ",),
        "is busy with a script",
        "Wait until the script ends; its log says which one it is.",
    ),
    (
        (redis.exceptions.AskError, redis.exceptions.ClusterError),
        ("MOVED", "ASK", "CLUSTERDOWN"),
        "belongs to a cluster",
        "REDIS_URL must name a Redis without cluster mode.",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """Celery's `broker_url` and `broker_use_ssl`, and some of its `broker_transport_options`."""

    url: str = dataclasses.field(repr=False)
    use_ssl: dict[str, Any] | None
    transport_options: dict[str, Any] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The location of a Redis server and how to log in; `repr` and `place` show no secrets.

    Attributes:
        hosts: Host and port of the server, or of each sentinel if `master_name` is set.
        socket: Path of a Unix socket, used instead of hosts.
        db: Number of the database.
        user, password: The login for the server.
        tls: redis-py's arguments for a TLS connection; None means no TLS.
        master_name: The sentinels' name for the server; empty means no sentinels.
        sentinel_user, sentinel_password: The login for the sentinels.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    db: int = 0
    user: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)
    tls: dict[str, Any] | None = None
    master_name: str = ""
    sentinel_user: str | None = dataclasses.field(default=None, repr=False)
    sentinel_password: str | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def parse(cls, value: str) -> "RedisUrl":
        """Parse a URL; raise ValueError, whose text says what was expected but quotes no part of the URL."""
        if value.lower().startswith("sentinel://"):
            return _sentinels(value)
        parts = split(value, EXPECTED)
        if parts.scheme in _SOCKETS:
            return _unix_socket(parts)
        if parts.scheme not in {"redis", "rediss"}:
            raise ValueError(EXPECTED)
        hosts = (host_port(parts.authority or "localhost", EXPECTED, _PORT),)
        tls = parts.scheme == "rediss"
        if not tls and any(name in parts.query for name in _TLS):
            raise ValueError("rediss:// where a parameter ssl_... is given")
        _only(parts, "db", *(_TLS if tls else ()))
        return cls(hosts=hosts, tls=_tls(parts.query) if tls else None, **_login(parts), db=_database(parts))

    @property
    def place(self) -> str:
        """The server's location, for error messages."""
        if self.socket:
            return self.socket
        hosts = ", ".join(f"{bracketed(host)}:{port}" for host, port in self.hosts)
        return f"sentinel {hosts}, master {self.master_name}" if self.master_name else hosts

    def failure(self, error: redis.RedisError) -> str:
        """Return a line about an error: which server, what is wrong with it and what to do."""
        what, advice = _explained(error)
        return f"Redis at {self.place} {what}. {advice}"

    def client(self, **options: Any) -> "redis.Redis":
        """Return a client, which is not connected yet.

        Args:
            options: redis-py's options for each connection.
        """
        login: dict[str, Any] = {"username": self.user, "password": self.password, "db": self.db}
        # Send neither name nor version of redis-py: 8.1 reads its version from a file for each connection, which takes
        # 4 ms, and tells Redis in two requests.
        options = {"driver_info": None, **options}
        if self.socket:
            tcp = {"socket_keepalive"}  # not available on a Unix socket
            kept: dict[str, Any] = {name: value for name, value in options.items() if name not in tcp}
            return redis.Redis(unix_socket_path=self.socket, **login, **kept)
        tls: dict[str, Any] = {"ssl": True, **self.tls} if self.tls is not None else {}
        if not self.master_name:
            host, port = self.hosts[0]
            return redis.Redis(host, port, **login, **tls, **options)
        connected = self._sentinel_options(options)
        sentinels = _Sentinels(self.hosts, sentinel_kwargs=connected)  # type: ignore[no-untyped-call]
        found = sentinels.master_for(self.master_name, **login, **tls, **options)  # type: ignore[no-untyped-call]
        return cast("redis.Redis", found)

    def broker(self, options: dict[str, Any]) -> BrokerOptions:
        """Return Celery's broker settings.

        Args:
            options: The caller's transport options; the connections to sentinels use some of them too.
        """
        login = ""
        if self.user or self.password:
            login = f"{encoded(self.user or '')}:{encoded(self.password or '')}@"
        if self.socket:
            # kombu accepts no port here, and passes only the path and the database to its connection.
            url = f"redis+socket://{login}{quote(self.socket)}?virtual_host={self.db}"
            return BrokerOptions(url=url, use_ssl=None, transport_options={})
        scheme = "sentinel" if self.master_name else "redis"
        if self.tls is not None and not self.master_name:
            scheme = "rediss"
        url = ";".join(f"{scheme}://{login}{bracketed(host)}:{port}/{self.db}" for host, port in self.hosts)
        more = {}
        if self.master_name:
            more = {"master_name": self.master_name, "sentinel_kwargs": self._sentinel_options(options)}
        return BrokerOptions(url=url, use_ssl=self.tls, transport_options=more)

    def _sentinel_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return redis-py's arguments for the connections to the sentinels."""
        sockets = {name: value for name, value in options.items() if name.startswith("socket_")}
        sockets |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _SENTINEL_SECONDS)
        tls = {"ssl": True, **self.tls} if self.tls is not None else {}
        # Try the next sentinel at once: by default redis-py 8.1 tries a dead one four times, for up to 7 s.
        once = {"retry": Retry(NoBackoff(), 0)}
        return {"username": self.sentinel_user, "password": self.sentinel_password, **once, **sockets, **tls}


def _sentinels(value: str) -> RedisUrl:
    """Parse `sentinel://a:26379,b:26379/0?...`, or kombu's form `sentinel://a:26379;sentinel://b:26379`."""
    read = [split(part, SENTINEL) for part in value.split(";")]
    query: dict[str, str] = {}
    hosts = tuple(
        host_port(host, SENTINEL, _SENTINEL_PORT) for parts in read for host in parts.authority.split(",")
    )
    for parts in read:
        if parts.scheme != "sentinel":
            raise ValueError(SENTINEL)
        _only(parts, "db", *_MASTER)
        if any(query.get(name, given) != given for name, given in parts.query.items()):
            raise ValueError(f"{SENTINEL}, with each parameter once")
        query |= parts.query
    logins = [_login(parts) for parts in read if parts.userinfo]
    databases = {_database(parts) for parts in read if parts.path.strip("/") or "db" in parts.query}
    if any(login != logins[0] for login in logins) or len(databases) > 1:
        raise ValueError("the same user, password and database for every sentinel:// (they are those of Redis)")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", query.get("master_name", "")):
        raise ValueError(f"{SENTINEL}; master_name is what `sentinel monitor NAME ...` calls the server")
    encrypted = query.get("ssl", "").lower() in {"true", "1", "yes"} or any(name in query for name in _TLS)
    if query.get("ssl", "true").lower() not in {"true", "1", "yes"} and encrypted:
        raise ValueError("ssl=true where a parameter ssl_... is given")
    return RedisUrl(
        hosts=hosts,
        tls=_tls(query) if encrypted else None,
        **(logins[0] if logins else {}),
        db=databases.pop() if databases else 0,
        master_name=query["master_name"],
        sentinel_user=query.get("sentinel_username") or None,
        sentinel_password=query.get("sentinel_password") or None,
    )


def _unix_socket(parts: Url) -> RedisUrl:
    _only(parts, "db", "virtual_host")
    if parts.authority or len(parts.path) < 2:  # noqa: PLR2004 - a slash and a name
        raise ValueError("unix:// and an absolute path: unix:///run/redis/redis.sock?db=0")
    numbers = {_number(parts.query[name]) for name in ("db", "virtual_host") if name in parts.query}
    if len(numbers) > 1:
        raise ValueError("one database: ?db=0")
    return RedisUrl(socket=parts.path, **_login(parts), db=numbers.pop() if numbers else 0)


def _login(parts: Url) -> dict[str, Any]:
    return {"user": parts.user, "password": parts.password}


def _only(parts: Url, *known: str) -> None:
    """Refuse parameters that neither library, or only one of them, would accept."""
    unknown = sorted(parts.query.keys() - set(known))
    if unknown:
        # Quote only the name, and only if it cannot be part of a password: an unencoded & begins a parameter.
        hidden = any("password" in name for name in parts.query)
        name = unknown[0]
        named = name if name.replace("_", "").isalpha() and len(name) <= 40 and not hidden else "..."  # noqa: PLR2004
        raise ValueError(f"no parameter '{named}': {parts.scheme}:// takes {', '.join(known)}")


def _database(parts: Url) -> int:
    """Return the number of the database, from the path or from `db`."""
    named = [text for text in (parts.path.strip("/"), parts.query.get("db", "")) if text]
    numbers = {_number(text) for text in named}
    if len(numbers) > 1:
        raise ValueError("one database, as /0 or ?db=0")
    return numbers.pop() if numbers else 0


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5:  # noqa: PLR2004 - servers have 16
        raise ValueError("the number of a database, such as /0")
    return int(text)


def _tls(query: dict[str, str]) -> dict[str, Any]:
    """Return redis-py's arguments for TLS; kombu passes the same ones on to redis-py.

    Without `ssl_cert_reqs` the certificate is verified; kombu's own default is not to.
    """
    level = query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if level not in _CERT_REQS:
        raise ValueError("ssl_cert_reqs=required, optional or none")
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in {"true", "1", "yes", "false", "0", "no"}:
        raise ValueError("ssl_check_hostname=true or false")
    for name in _FILES:
        if name in query and not os.access(query[name], os.R_OK):
            raise ValueError(f"{name}=/path/of/a/file that can be read")
    return {
        "ssl_cert_reqs": _CERT_REQS[level],
        "ssl_check_hostname": level != "none" and check in {"true", "1", "yes"},
        **{name: query[name] for name in _FILES if name in query},
    }


def is_of_the_server(error: BaseException) -> bool:
    """Tell whether an error concerns the whole server rather than the contents of one key."""
    lost = (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse)
    return isinstance(error, redis.RedisError) and (isinstance(error, lost) or _known(error) is not None)


def _explained(error: redis.RedisError) -> tuple[str, str]:
    """Return what is wrong with a server, in its own words, and what to do about it."""
    said = str(error).partition(", with args")[0].strip().rstrip(".")  # redis-py quotes an unknown command in full
    if isinstance(error, redis.InvalidResponse):  # its text quotes the foreign response
        return "answers, but not as Redis does", "Check REDIS_URL: host, port, and rediss:// if it expects TLS."
    known = _known(error)
    if known is not None:
        return f"{known[0]}: {said}", known[1]
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return f"does not answer: {said}", "The certificate's authority goes into ssl_ca_certs of REDIS_URL."
        return f"does not answer: {said}", "Does it run, and is REDIS_URL right?"
    return f"fails: {said}", "Check REDIS_URL."


def _known(error: redis.RedisError) -> tuple[str, str] | None:
    for kinds, signs, what, advice in _KNOWN:
        if isinstance(error, kinds) or str(error).startswith(signs):
            return what, advice
    return None


class BoundedRetry(Retry):
    """Retries for a limited time.

    redis-py 8.1 limits only the number of attempts, and nests its retries: of a command, of the connection and of the
    health check. At a server that hangs, each attempt takes a whole time-out.

    Args:
        within: No further attempt begins after this many seconds.
    """

    def __init__(self, within: float) -> None:
        super().__init__(ExponentialBackoff(cap=1.0, base=0.1), -1)  # -1: any number
        self._within = within

    def call_with_retry(
        self,
        do: Callable[[], Answer],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 - redis-py's
    ) -> Answer:
        """Return what `do` returns; raise its last error once the time is up."""
        end = time.monotonic() + self._within

        def failed(error: Exception, count: int) -> None:
            fail(*((error, count) if with_failure_count else (error,)))  # closes the connection
            if time.monotonic() >= end:
                raise error

        return super().call_with_retry(do, failed, is_retryable, with_failure_count=True)


class _Sentinels(redis.sentinel.Sentinel):
    """Explains briefly why no master was found; redis-py 8.1 adds a kilobyte of arguments per sentinel."""

    def discover_master(self, service_name: str) -> Any:
        """Return host and port of the master; raise MasterNotFoundError if there is none."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.sentinel.MasterNotFoundError as error:
            said, _, hosts = str(error).partition(" : ")
            nodes = ", ".join(
                "{host}:{port}".format_map(node.connection_pool.connection_kwargs) for node in self.sentinels
            )
            why = f" ({self._reason()})" if hosts else ""
            raise redis.sentinel.MasterNotFoundError(f"{said} at {nodes}{why}") from None

    def _reason(self) -> str:
        """Return why the first sentinel does not answer; redis-py says only "network:ConnectionError"."""
        try:
            self.sentinels[0].ping()
        except redis.RedisError as error:
            return str(error).rstrip(".")
        return "not all of them answer"
