"""Opencast's database as the source of useractions: every way in which a MariaDB and a PostgreSQL can fail."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from requests import certs

from devservers import databases
from tests.answers.site import SteppedSite, opencast_environment, verdict
from tests.answers.tcp import HOST, TcpProxy
from uaharvest import assembly, settings
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second
from uaharvest.opencast import sql

TICKS = 5  # more than a slice has attempts
SECRET = databases.PASSWORD


@dataclasses.dataclass(frozen=True)
class DatabaseFault:
    """What becomes of faults of one kind.

    Attributes:
        title: For the table in docs/.
        verdict: As the failure policy has it.
        says: What the line in `status` has after the place of the database, for each of the two.
        advice: What it has further on.
    """

    title: str
    verdict: str
    says: tuple[str, ...]
    advice: str

    @property
    def shown(self):
        """The parts of the line, for the table in docs/."""
        parts = " or ".join(f"`{says.rstrip(': ')}`" for says in self.says)
        return f"{parts}; `{self.advice}`" if self.advice else parts


KINDS = {
    "unreachable": DatabaseFault(
        "cannot be reached",
        "put off",
        ("does not answer: ",),
        "Does it run, and is OPENCAST_DATABASE_URL right?",
    ),
    "killed": DatabaseFault(
        "ends the connection", "put off", ("does not answer: ", "is busy, starting or stopping: "), ""
    ),
    "slow": DatabaseFault("takes too long", "put off", ("does not answer: ", "is busy"), ""),
    "locked": DatabaseFault("is locked", "put off", ("is busy",), ""),
    "full": DatabaseFault("has too many connections", "put off", ("is busy",), ""),
    "login": DatabaseFault(
        "refuses the login",
        "blocked",
        ("refuses to log user 'harvester' in: ", "has locked the account of user 'harvester': "),
        "OPENCAST_DATABASE_URL",
    ),
    "permission": DatabaseFault(
        "does not permit SELECT",
        "blocked",
        ("does not let user 'harvester' read that: ", "has no table"),
        "SELECT",
    ),
    "elsewhere": DatabaseFault(
        "has no such database",
        "blocked",
        ("is not there: ", "does not let user 'harvester' use this database: "),
        "Check OPENCAST_DATABASE_URL",
    ),
    "lacks": DatabaseFault(
        "lacks a table", "blocked", ("lacks a table or column", "has no table"), "OPENCAST_DATABASE_URL"
    ),
    "TLS": DatabaseFault("has no TLS", "blocked", ("cannot be reached with TLS: ",), "OPENCAST_DATABASE_URL"),
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A way in which a database fails.

    Attributes:
        name: For people.
        kind: Of KINDS.
        during: Lets it last for a while.
        slow: Costs seconds at each tick.
    """

    name: str
    kind: str
    during: Callable[["Server"], contextlib.AbstractContextManager]
    slow: bool = False


class Server:
    """A real database behind a proxy, a client of its administrator that goes around it, and a site that reads it."""

    def __init__(self, child, proxy, site):
        self.proxy = proxy
        self.site = site
        self.mysql = child.url.startswith("mariadb")
        self.engine = databases.administrator(child)

    def do(self, statements):
        """Execute the statements for this kind of database, which a semicolon divides."""
        with self.engine.begin() as connection:
            for statement in statements["mariadb" if self.mysql else "postgresql"].split(";"):
                connection.exec_driver_sql(statement)


def at_the_proxy(how):
    return lambda server: server.proxy.failing(how)


def commanded(do, undo):
    """Change something at the real server; who is connected must connect again."""

    @contextlib.contextmanager
    def during(server):
        server.do(do)
        server.proxy.drop()
        try:
            yield
        finally:
            server.do(undo)
            server.proxy.drop()

    return during


def configured(old, new):
    """Let workers have another OPENCAST_DATABASE_URL, and then the right one again."""

    @contextlib.contextmanager
    def during(server):
        right = server.site.environment["OPENCAST_DATABASE_URL"]
        tls = f"ssl_ca={certs.where()}" if server.mysql else "sslmode=require"
        server.site.restart(new.format(tls=tls).join(right.rsplit(old, 1)))
        try:
            yield
        finally:
            server.site.restart(right)

    return during


@contextlib.contextmanager
def locked(server):
    """Hold a lock of the table, as to alter it does."""
    lock = "LOCK TABLES oc_user_action WRITE" if server.mysql else "LOCK TABLE oc_user_action"
    with server.engine.connect() as connection:
        connection.exec_driver_sql(lock)
        try:
            yield
        finally:
            connection.exec_driver_sql("UNLOCK TABLES" if server.mysql else "ROLLBACK")


@contextlib.contextmanager
def too_slow(server):
    """Give statements less time, all of which they spend on waiting for the lock."""
    url = server.site.environment["OPENCAST_DATABASE_URL"]
    with pytest.MonkeyPatch.context() as patch, locked(server):
        patch.setattr(sql, "STATEMENT_SECONDS", 0.1)
        server.site.restart(url)
        yield
    server.site.restart(url)


@contextlib.contextmanager
def impatient_for_locks(server):
    """Hold the lock, at a server that waits for it no longer than it must."""
    with contextlib.ExitStack() as undo:
        if server.mysql:
            server.do({"mariadb": "SET GLOBAL lock_wait_timeout = 0"})
            undo.callback(server.do, {"mariadb": "SET GLOBAL lock_wait_timeout = DEFAULT"})
        else:
            server.do({"postgresql": "ALTER ROLE harvester SET lock_timeout = 50"})
            undo.callback(server.do, {"postgresql": "ALTER ROLE harvester RESET lock_timeout"})
        server.proxy.drop()
        undo.callback(server.proxy.drop)
        undo.enter_context(locked(server))
        yield


@contextlib.contextmanager
def killed(server):
    """Let each query wait for a lock, and kill its connection while it waits."""
    over = threading.Event()
    find = (
        "SELECT id FROM information_schema.processlist WHERE user = 'harvester' AND command = 'Query'"
        if server.mysql
        else "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'harvester' AND state = 'active'"
    )

    def kill():
        alone = server.engine.execution_options(isolation_level="AUTOCOMMIT")  # each statement sees what is new
        with alone.connect() as connection:
            while not over.wait(0.02):
                for (number,) in connection.exec_driver_sql(find).all():
                    if server.mysql:
                        with contextlib.suppress(sa.exc.DBAPIError):  # it has gone by itself
                            connection.exec_driver_sql(f"KILL {number}")

    killer = threading.Thread(target=kill)
    with locked(server):
        killer.start()
        try:
            yield
        finally:
            over.set()
            killer.join()


@contextlib.contextmanager
def too_many(server):
    one = {"mariadb": "ALTER USER harvester WITH MAX_USER_CONNECTIONS 1"}
    any_ = {"mariadb": "ALTER USER harvester WITH MAX_USER_CONNECTIONS 0"}
    one["postgresql"] = "ALTER ROLE harvester CONNECTION LIMIT 0"
    any_["postgresql"] = "ALTER ROLE harvester CONNECTION LIMIT -1"
    other = sql.connect(server.site.environment["OPENCAST_DATABASE_URL"])
    server.site.forget_connections()
    server.do(one)
    try:
        with other.connect() if server.mysql else contextlib.nullcontext():
            yield
    finally:
        other.dispose()
        server.do(any_)


FAULTS = (
    Fault("the connection is refused", "unreachable", at_the_proxy("refuse")),
    Fault("the connection is reset", "unreachable", at_the_proxy("reset")),
    Fault("half of an answer, then a reset", "unreachable", at_the_proxy("half")),
    Fault("no answer at all", "unreachable", at_the_proxy("silent"), slow=True),
    Fault("the connection is killed during a query", "killed", killed),
    Fault("a statement takes too long", "slow", too_slow),
    Fault("a lock is not given in time", "locked", impatient_for_locks),
    Fault("too many connections", "full", too_many),
    Fault(
        "another password",
        "login",
        commanded(
            {
                "mariadb": "ALTER USER harvester IDENTIFIED BY 'changed'",
                "postgresql": "ALTER ROLE harvester PASSWORD 'changed'",
            },
            {
                "mariadb": f"ALTER USER harvester IDENTIFIED BY '{SECRET}'",
                "postgresql": f"ALTER ROLE harvester PASSWORD '{SECRET}'",
            },
        ),
    ),
    Fault(
        "a locked account",
        "login",
        commanded(
            {
                "mariadb": "ALTER USER harvester ACCOUNT LOCK",
                "postgresql": "ALTER ROLE harvester NOLOGIN",
            },
            {
                "mariadb": "ALTER USER harvester ACCOUNT UNLOCK",
                "postgresql": "ALTER ROLE harvester LOGIN",
            },
        ),
    ),
    Fault(
        "no SELECT on a table",
        "permission",
        commanded(
            {
                "mariadb": "REVOKE SELECT ON opencast.* FROM harvester; GRANT SELECT ON oc_user_session TO harvester",
                "postgresql": "REVOKE pg_read_all_data FROM harvester",
            },
            {
                "mariadb": "REVOKE SELECT ON oc_user_session FROM harvester; GRANT SELECT ON opencast.* TO harvester",
                "postgresql": "GRANT pg_read_all_data TO harvester",
            },
        ),
    ),
    Fault("no such database", "elsewhere", configured("/opencast", "/elsewhere")),
    Fault(
        "no such table",
        "lacks",
        commanded(
            dict.fromkeys(databases.KINDS, "ALTER TABLE oc_user_action RENAME TO elsewhere"),
            dict.fromkeys(databases.KINDS, "ALTER TABLE elsewhere RENAME TO oc_user_action"),
        ),
    ),
    Fault("TLS is asked for, and not offered", "TLS", configured("/opencast", "/opencast?{tls}")),
)
MOMENTS = {"before a run is opened": "opening", "before a slice is fetched": "working"}


def _cases():
    """One fault of each kind is tried always, at one moment after the other; the rest is left to `make test-faults`."""
    firsts = {fault.kind: fault.name for fault in reversed(FAULTS) if not fault.slow}
    always = {name: list(MOMENTS)[number % 2] for number, name in enumerate(firsts.values())}
    return [
        pytest.param(
            moment,
            fault,
            id=f"{moment} - {fault.name}",
            marks=() if always.get(fault.name) == moment else (pytest.mark.fault, pytest.mark.long),
        )
        for moment in MOMENTS
        for fault in FAULTS
    ]


CASES = _cases()


class DatabaseSite(SteppedSite):
    """A site that reads its useractions from a database."""

    def restart(self, url):
        """Start the workers again with another OPENCAST_DATABASE_URL."""
        self.forget_connections()
        self.environment["OPENCAST_DATABASE_URL"] = url
        self.settings = settings.load(self.environment)
        if self.engine is not None:
            self.engine = assembly.engine(self.stream, self.settings, self.hints)

    def forget_connections(self):
        if self.engine is not None:
            self.engine.stream._source._engine.dispose()


@pytest.fixture
def server(*, database, tables, opencast_actions, opencast_proxy, aws_proxy, aws, client, valkey_url, bucket,
           queue_name, monkeypatch):  # fmt: skip
    monkeypatch.setattr(sql, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(sql, "STATEMENT_SECONDS", 1)
    monkeypatch.setattr(sql, "GRACE_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_proxy.url)
    databases.insert(tables, opencast_actions)
    tables.dispose()
    with TcpProxy(database.port) as proxy:
        environment = opencast_environment(opencast_proxy.url) | {
            "S3_HARVEST_TS_BUCKET": bucket,
            "SQS_QUEUE_NAME": queue_name,
            "OPENCAST_DATABASE_URL": database.url.replace(f":{database.port}/", f":{proxy.port}/"),
            "HARVEST_ATTEMPTS": "2",
            "REDIS_URL": valkey_url,
            "DIRECT_AWS": aws,
        }
        site = DatabaseSite("useractions", environment, client, monkeypatch)
        server = Server(database, proxy, site)
        yield server
        site.forget_connections()
        server.engine.dispose()


@pytest.mark.parametrize(("moment", "fault"), CASES)
def test_a_database_that_fails_is_named_and_loses_nothing(server, rows, moment, fault):
    site, kind = server.site, KINDS[fault.kind]
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=1))
    with contextlib.ExitStack() as lasting:
        site.at[MOMENTS[moment]] = lambda: lasting.enter_context(fault.during(server))
        for _ in range(2 if fault.slow else TICKS):
            site.tick()
        assert not site.at
        report, code = site.report()
    found = verdict(report, site.dead_letters())
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert (found, len(lines)) == (kind.verdict, 1), lines
    assert "Opencast's database 'opencast' at" in lines[0].replace("elsewhere", "opencast")
    assert any(f" at {HOST}:{server.proxy.port} {says}" in lines[0] for says in kind.says), lines
    assert kind.advice in lines[0], lines
    assert code == Exit.BLOCKED
    assert not any(secret in line for line in lines for secret in (SECRET, "opencast%40home", "changed"))
    assert site.heals(now - timedelta(seconds=1))
    assert set(site.received()) == set(rows)
    assert site.dead_letters() == []
    assert site.report()[1] == 0
