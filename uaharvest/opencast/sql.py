"""Reads useractions directly from Opencast's database, for sites that allow it (OPENCAST_DATABASE_URL).

Unlike REST, SQL offers exact time ranges and an order, and therefore keyset pagination on (created, id). Each page is
one statement in its own read-only transaction. Rows are converted to the form of `actions.json` and parsed by the same
code, so records do not depend on the source.

`created` holds the wall time of Opencast's JVM without a zone: DATETIME in MariaDB, TIMESTAMP WITHOUT TIME ZONE in
PostgreSQL. MariaDB's TIMESTAMP yields the same wall time in the session's default time zone, so that zone is left
unchanged. Rows do not name their zone. So for each UTC offset that OPENCAST_TIMEZONE gives to rows, one request to
Opencast's REST API checks the time of one such row.
"""

import contextlib
import dataclasses
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from uaharvest import counters
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    HarvestError,
    PoisonError,
    RetryableError,
    SourceError,
)
from uaharvest.intervals import Interval, duration, whole_second
from uaharvest.opencast.actions import read_action
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.source import FURTHEST, SlicePage, TooMany, wrong_zone
from uaharvest.opencast.throttle import Throttle
from uaharvest.opencast.times import reported_as, wall_from
from uaharvest.retries import Retries
from uaharvest.rows.useractions import UserAction

SETTING = "OPENCAST_DATABASE_URL"
DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "postgresql": "postgresql+psycopg"}
# Tables are named mh_… up to Opencast 4. Matterhorn 1.x has no session table.
PREFIXES = ("oc", "mh")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60.0
GRACE_SECONDS = 5  # lets the server's own time-out arrive before the connection is closed
RETRIES = Retries(attempts=4, first=0.5, jitter=(0.5, 1.5))
RECYCLE_SECONDS = 1800  # firewalls and servers drop connections that are idle for hours
# A slice with more pages than this is split. Otherwise it is read to the end, so no row is read in vain.
PAGES = 4
# An audit reads this many ids in one statement at most. A longer interval is halved, unless it is a second.
MOST_IDS = 100_000
MAX_ROWS = 2**62
IDS_AT_ONCE = 1000  # rows read by id in one statement
# Rows per UTC offset to look up in Opencast before giving up.
ASKED = 3
# Allowed difference between the clocks of Opencast and its database.
AHEAD = timedelta(minutes=5)
MOMENT = timedelta(microseconds=1)

# Errors that a person must fix: MariaDB and MySQL error numbers and PostgreSQL SQLSTATEs, the message, and the advice.
_REFUSALS: tuple[tuple[set[int | str], str, str], ...] = (
    (
        {1045, 1698, 1251, 1275, 2059, "28P01", "28000"},
        "refuses to log user '{user}' in",
        "Check {setting}: its user and password.",
    ),
    ({1129, 1130}, "lets nobody in from this host", "Let user '{user}' log in from here."),
    ({3118, 4151}, "has locked the account of user '{user}'", "Unlock it: ALTER USER … ACCOUNT UNLOCK."),
    ({1820, 1862}, "lets user '{user}' do nothing with an expired password", "Set a new one, and {setting}."),
    ({1044}, "does not let user '{user}' use this database", "Check {setting}, or grant it."),
    ({1049, "3D000"}, "is not there", "Check {setting}: it must name the database of Opencast."),
    (
        {1142, 1143, 1227, 1356, 1449, "42501"},
        "does not let user '{user}' read that",
        "Grant SELECT on the tables of useractions and sessions.",
    ),
    (
        {1146, 1054, "42P01", "42703", "3F000"},
        "lacks a table or column of Opencast's",
        (
            "Check that {setting} names its database, and that this user may SELECT from the tables of useractions"
            " and sessions."
        ),
    ),
)
_CLASSES = {"28": "28000", "3D": "3D000", "3F": "3F000", "42": "42P01"}
# When a connection is refused, libpq gives only the text, no SQLSTATE.
_TEXTS = (
    ("password authentication failed", "28P01"),
    ("no pg_hba.conf entry", 1130),
    ("is not permitted to log in", "28000"),
    ('role "', "28000"),
    ("permission denied", "42501"),
    ("does not exist", "3D000"),
)
FATAL = "FATAL:"  # libpq's text contains this, in every language, if the server itself refuses
# Temporary refusals: too many connections, starting up, shutting down, a lock held by others.
_BUSY = {1040, 1053, 1203, 1205, 1213, 1226, 1927, "40P01", "53300", "55P03", "57P01", "57P02", "57P03"}
_BUSY_TEXTS = ("too many", "connection slots", "starting up", "shutting down", "recovery", "not yet accepting")
# Errors that a person must fix, recognised by the driver's text: texts, message, advice.
_SAID = (
    (
        ("certificate verify failed", "CERTIFICATE_VERIFY_FAILED", "root certificate"),
        "has a certificate that is not trusted",
        "See {setting}.",
    ),
    (
        ("does not support SSL", "doesn't support it"),
        "cannot be reached with TLS",
        "Switch it on there, or take it out of {setting}.",
    ),
    (("insecure transport",), "takes connections with TLS only", "Ask for TLS in {setting}."),
    (("invalid connection option",), "cannot be connected to", "Check the parameters in {setting}."),
)
# Statement time-outs in PostgreSQL, MariaDB and MySQL.
_CANCELED = "57014"
_TIMED_OUT = {1969, 3024}

log = structlog.get_logger()


class _TableRow(NamedTuple):
    id: int
    created: datetime
    mediapackage: str | None
    inpoint: int | None
    outpoint: int | None
    length: int | None
    type: str | None
    playing: Any
    session_id: str | None
    user_id: str | None
    user_ip: str | None
    user_agent: str | None


class _Statements:
    """The SQL statements for one pair of tables (actions and sessions)."""

    def __init__(self, prefix: str) -> None:
        own = ("id", "created", "mediapackage", "inpoint", "outpoint", "length", "type", "playing")
        action = sa.table(f"{prefix}_user_action", *map(sa.column, (*own, "session_id")))
        session = sa.table(
            f"{prefix}_user_session", *map(sa.column, ("session_id", "user_id", "user_ip", "user_agent"))
        )
        created, row_id = action.c.created, action.c.id
        first, end, after = (sa.bindparam(name, type_=sa.DateTime) for name in ("first", "end", "after"))
        limit, after_id = (sa.bindparam(name, type_=sa.BigInteger) for name in ("limit", "after_id"))
        inside = sa.and_(created >= first, created < end)
        rows = sa.select(*(action.c[name] for name in own), *session.c).select_from(
            action.outerjoin(session, action.c.session_id == session.c.session_id)
        )
        page = rows.order_by(created, row_id).limit(limit)
        self.count = sa.select(sa.func.count()).select_from(action).where(inside)
        self.page = page.where(inside)
        # MariaDB uses an index range for `created >= after`, but not for a row comparison (created, id) > (…).
        self.next_page = page.where(created >= after, created < end, sa.or_(created > after, row_id > after_id))
        self.ids = sa.select(row_id).where(inside).limit(limit)
        self.by_id = rows.where(inside, row_id.in_(sa.bindparam("ids", expanding=True)))
        self.last = rows.where(inside).order_by(created.desc(), row_id.desc()).limit(1)
        self.newest = sa.select(sa.func.max(created))
        self.any = rows.with_only_columns(row_id).limit(1)


class SqlSource:
    """Reads time ranges from Opencast's database; the counterpart of `source.ActionsSource`.

    Every method raises SourceError if the database does not answer, and BlockedError if it refuses or the time zone is
    wrong.
    """

    def __init__(
        self,
        engine: sa.Engine,
        zone: ZoneInfo,
        throttle: Throttle,
        opencast: Opencast,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take an engine from `connect`, Opencast's time zone, the throttle, and a client of the engage host."""
        self._engine = engine
        self._zone = zone
        self._throttle = throttle
        self._opencast = opencast
        self._pause = pause
        self._statements: _Statements | None = None
        self._checked: set[timedelta | None] = set()

    def now(self, *, wait: float = 0) -> datetime:
        """Return the database's clock, UTC, in whole seconds. Also checks that the tables can be read."""
        mysql = self._engine.dialect.name == "mysql"
        clock = "SELECT UTC_TIMESTAMP(6)" if mysql else "SELECT clock_timestamp() AT TIME ZONE 'UTC'"
        # The engine calls this to find out whether a failure concerns one slice or all. Locked tables fail all slices.
        table = self._prepared(wait).any.scalar_subquery()
        [row] = self._ask(sa.select(sa.text(f"({clock})"), table), {}, wait)
        now: datetime = row[0]
        return whole_second(now.replace(tzinfo=UTC))

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both included, UTC."""
        return self._count(wall_from(first, self._zone), wall_from(last + MOMENT, self._zone), wait)

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Check that an empty range is not just the result of a wrong time zone, using a row nearby if there is one."""
        ((newest,),) = self._ask(self._prepared(wait).newest, {}, wait)
        reported = reported_as(newest, self._zone) if newest else None
        now = self.now(wait=wait)
        if reported and reported > now + AHEAD:
            raise BlockedError(
                f"OPENCAST_TIMEZONE is '{self._zone.key}', but the newest useraction in {self._where} would then lie "
                f"{duration((reported - now).total_seconds())} in the future. Set it to the zone of Opencast's JVM."
            )
        near = {
            "first": wall_from(first - FURTHEST, self._zone),
            "end": wall_from(last + FURTHEST, self._zone),
        }
        for row in self._ask(self._prepared(wait).last, near, wait):
            self._read([_TableRow._make(row)])

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> SlicePage | TooMany:
        """Return all rows of `slice_`; if there are more than PAGES times `limit`, only their number."""
        first, end = wall_from(slice_.start, self._zone), wall_from(slice_.end, self._zone)
        statements = self._prepared(wait)
        rows = self._page(statements.page, {"first": first, "end": end, "limit": limit}, wait)
        if len(rows) == limit and slice_.seconds > 1:
            total = self._count(first, end, wait)
            if total > PAGES * limit:
                return TooMany(total)
        page = rows
        while len(page) == limit:
            after = {"after": page[-1].created, "after_id": page[-1].id, "end": end, "limit": limit}
            page = self._page(statements.next_page, after, wait)
            rows += page
        return self._read(rows)

    def ids(self, interval: Interval, *, wait: float = 0) -> Iterator[Sequence[int]]:
        """Yield the ids of all rows in `interval`, readable or not, in groups of at most MOST_IDS.

        No other column is read, so the index on `created` is all that MariaDB reads.
        """
        first, end = wall_from(interval.start, self._zone), wall_from(interval.end, self._zone)
        limit = MOST_IDS if interval.seconds > 1 else MAX_ROWS
        parameters = {"first": first, "end": end, "limit": limit}
        found = [row_id for (row_id,) in self._ask(self._prepared(wait).ids, parameters, wait)]
        if len(found) < limit:
            yield found
            return
        for half in interval.cut(2):
            yield from self.ids(half, wait=wait)

    def rows(self, interval: Interval, ids: Collection[int], *, wait: float = 0) -> Iterator[SlicePage]:
        """Yield the rows of `interval` that have these ids, in pages."""
        first, end = wall_from(interval.start, self._zone), wall_from(interval.end, self._zone)
        ordered = sorted(ids)
        for begin in range(0, len(ordered), IDS_AT_ONCE):
            parameters = {"first": first, "end": end, "ids": ordered[begin : begin + IDS_AT_ONCE]}
            yield self._read(self._page(self._prepared(wait).by_id, parameters, wait))

    def _page(self, statement: sa.Select[Any], parameters: Mapping[str, Any], wait: float) -> list[_TableRow]:
        return [_TableRow._make(row) for row in self._ask(statement, parameters, wait)]

    def _count(self, first: datetime, end: datetime, wait: float) -> int:
        ((count,),) = self._ask(self._prepared(wait).count, {"first": first, "end": end}, wait)
        return int(count)

    def _prepared(self, wait: float) -> _Statements:
        """Return the statements. The first call finds out which prefix the tables have."""
        if self._statements is None:
            names = [f"{prefix}_user_action" for prefix in PREFIXES]
            tables = sa.table(
                "tables", sa.column("table_name"), sa.column("table_schema"), schema="information_schema"
            )
            mysql = self._engine.dialect.name == "mysql"
            schema = sa.func.database() if mysql else sa.any_(sa.func.current_schemas(False))  # noqa: FBT003 - SQL's
            visible = sa.select(tables.c.table_name).where(
                tables.c.table_schema == schema, tables.c.table_name.in_(names)
            )
            found = {name for (name,) in self._ask(visible, {}, wait)}
            prefix = next((prefix for prefix, name in zip(PREFIXES, names, strict=True) if name in found), None)
            if prefix is None:
                raise BlockedError(
                    f"{self._where} has no table {' or '.join(names)} that user '{self._engine.url.username}' may "
                    f"read. Check {SETTING}, and grant SELECT on it and on the table of sessions."
                )
            self._statements = _Statements(prefix)
        return self._statements

    def _read(self, rows: Sequence[_TableRow]) -> SlicePage:
        actions: list[UserAction] = []
        unreadable = []
        for row in rows:
            raw = _as_reported(row, self._zone)
            try:
                action = read_action(raw)
            except PoisonError as error:
                skipped = " Clocks skipped that time: see OPENCAST_TIMEZONE."
                unreadable.append((raw, f"{error}{skipped}"))
                continue
            actions.append(action)
        for offset in dict.fromkeys(action.created.utcoffset() for action in actions):
            if offset in self._checked:
                continue
            some = [action for action in actions if action.created.utcoffset() == offset]
            self._check_zone(some[:ASKED])
            self._checked.add(offset)
        return SlicePage(actions, unreadable)

    def _check_zone(self, actions: Sequence[UserAction]) -> None:
        """Compare the time of one of these rows with what Opencast's REST API gives for it.

        If Opencast returns none of the rows, a wrong time zone shows only by rows in the future.

        Raises:
            BlockedError: The time zone is wrong, or the database belongs to another site.
            RetryableError: Opencast does not answer. This counts as an outage even though the database answers.
        """
        failed: SourceError | None = None
        for action in actions:
            try:
                raw = self._opencast.action(action.id)
                reported = read_action(raw).created if raw is not None else None
            except BlockedError as error:  # usertracking may be off, which is a reason to read the database
                log.warning("OPENCAST_TIMEZONE cannot be checked", reason=str(error))
                return
            except PoisonError:
                continue
            except SourceError as error:  # may concern only this row
                failed = error
                continue
            if reported is not None:
                self._compare(action, reported)
            return
        if failed is None:
            return
        try:
            self._opencast.now()
        except (SourceError, BlockedError) as error:
            raise RetryableError(str(error)) from error
        log.warning("OPENCAST_TIMEZONE cannot be checked", reason=str(failed))

    def _compare(self, action: UserAction, reported: datetime) -> None:
        if reported.utcoffset() != action.created.utcoffset():
            raise BlockedError(wrong_zone(reported, self._zone, self._opencast.base_url))
        if whole_second(reported) != whole_second(action.created):
            raise BlockedError(
                f"{self._where} has useraction {action.id} as of {action.created:%F %T%z}, but Opencast at "
                f"{self._opencast.base_url} as of {reported:%F %T%z}. Are they one site? Check {SETTING} and "
                "MATTERHORN_ENGAGE_HOST."
            )

    @property
    def _where(self) -> str:
        url = self._engine.url
        return f"Opencast's database '{url.database}' at {url.host}{f':{url.port}' if url.port else ''}"

    def _ask(self, statement: sa.Executable, parameters: Mapping[str, Any], wait: float) -> Sequence[sa.Row[Any]]:
        self._throttle.turn(wait)
        retries = dataclasses.replace(RETRIES, within=STATEMENT_SECONDS)
        return retries.call(lambda: self._answer(statement, parameters), pause=self._pause, again=_may_pass)

    def _answer(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Sequence[sa.Row[Any]]:
        began = time.monotonic()
        try:
            with self._connection() as connection, _given_up(connection.connection.driver_connection):
                rows = connection.execute(statement, dict(parameters)).all()
        except SQLAlchemyError as error:
            failure = self._failure(error)
            fault: counters.Fault = "refused" if isinstance(failure, BlockedError) else "unreachable"
            counters.request("database", time.monotonic() - began, fault)
            raise failure from error
        counters.request("database", time.monotonic() - began)
        return rows

    def _connection(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except (
            TypeError,
            ValueError,
            OSError,
        ) as error:  # raised by PyMySQL for a file or parameter named in the URL
            raise BlockedError(
                f"{self._where} cannot be connected to: {error}. Check the parameters in {SETTING}."
            ) from error

    def _failure(self, error: SQLAlchemyError) -> HarvestError:
        """Return the error to raise, with the server's own words. These contain neither the password nor data."""
        original = error.orig if isinstance(error, DBAPIError) else error
        said = next(iter(str(original.args[-1] if original and original.args else error).strip().splitlines()), "")
        for signs, what, advice in _SAID:
            if any(sign in said for sign in signs):
                return BlockedError(f"{self._where} {what}: {said}. {advice.format(setting=SETTING)}")
        code = _code(original, said)
        for codes, what, advice in _REFUSALS:
            if code in codes:
                names = {"user": self._engine.url.username, "setting": SETTING}
                setting = "" if "{setting}" in advice else f" See {SETTING}."
                return BlockedError(
                    f"{self._where} {what.format(**names)}: {said}. {advice.format(**names)}{setting}"
                )
        if code in _BUSY:
            return SourceError(f"{self._where} is busy, starting or stopping: {said}.")
        if code == FATAL:
            return BlockedError(f"{self._where} refuses the connection: {said}. Check {SETTING}.")
        return SourceError(f"{self._where} does not answer: {said}. Does it run, and is {SETTING} right?")


@contextlib.contextmanager
def opened(
    url: str, zone: ZoneInfo, throttle: Throttle, opencast: Opencast
) -> Iterator[tuple[sa.Engine, SqlSource]]:
    """Connect to a database for a while; see `SqlSource`."""
    engine = connect(url)
    try:
        yield engine, SqlSource(engine, zone, throttle, opencast)
    finally:
        engine.dispose()


def connect(url: str) -> sa.Engine:
    """Return an engine for Opencast's database, without connecting.

    Its connections are read-only. Each statement is its own transaction and takes at most STATEMENT_SECONDS.

    Raises:
        BadInputError: The URL is unusable. The message does not show it, because it contains a password.
    """
    try:
        parsed = sa.make_url(url)
        parsed = parsed.set(drivername=DRIVERS[parsed.drivername])
    except (ArgumentError, KeyError, ValueError):
        raise BadInputError(
            f"{SETTING}: (set) cannot be used. Expected mysql://, mariadb:// or postgresql://user:password@host/database"
            ", with %40 for an @ in the password."
        ) from None
    mysql = parsed.drivername == DRIVERS["mysql"]
    timeouts = (
        {"read_timeout": STATEMENT_SECONDS + GRACE_SECONDS, "write_timeout": STATEMENT_SECONDS} if mysql else {}
    )
    engine = sa.create_engine(
        parsed,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,  # a round trip after each statement
        pool_size=1,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={"connect_timeout": CONNECT_SECONDS, **timeouts},
    )

    milliseconds = int(STATEMENT_SECONDS * 1000)

    def prepare(connection: Any, _: Any) -> None:
        if mysql:
            mariadb = "MariaDB" in connection.get_server_info()
            limit = (
                f"max_statement_time = {STATEMENT_SECONDS}" if mariadb else f"max_execution_time = {milliseconds}"
            )
            statements = ("SET SESSION TRANSACTION READ ONLY", f"SET SESSION {limit}")
        else:
            statements = (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                f"SET statement_timeout = {milliseconds}",
            )
        with _given_up(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    sa.event.listen(engine, "connect", prepare)
    return engine


@contextlib.contextmanager
def _given_up(connection: Any) -> Iterator[None]:
    """Close the connection if the server hangs. Psycopg has no time-out for answers; PyMySQL has `read_timeout`."""
    number = getattr(connection, "fileno", None)
    if number is None:
        yield
        return
    own = socket.socket(fileno=os.dup(number()))  # the original descriptor's number may be reused meanwhile

    def end() -> None:
        with contextlib.suppress(OSError):  # already closed
            own.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(STATEMENT_SECONDS + GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        own.close()


def _code(original: BaseException | None, said: str) -> int | str | None:
    """Return MariaDB's error number or PostgreSQL's SQLSTATE; None if the error did not come from a server."""
    number = original.args[0] if original is not None and original.args else None
    if isinstance(number, int):
        return number
    state = getattr(original, "sqlstate", None)
    known = {code for codes, _, _ in _REFUSALS for code in codes} | _BUSY
    if state:
        return state if state in known else _CLASSES.get(str(state)[:2], str(state))
    if FATAL not in said:
        return None
    if any(text in said for text in _BUSY_TEXTS):
        return "57P03"
    return next((code for text, code in _TEXTS if text in said), FATAL)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, SourceError) and not _is_timeout(error.__cause__)


def _is_timeout(cause: BaseException | None) -> bool:
    """Tell whether the server cancelled a statement because it took longer than STATEMENT_SECONDS."""
    original = cause.orig if isinstance(cause, DBAPIError) else None
    if getattr(original, "sqlstate", None) == _CANCELED:
        return True
    return original is not None and bool(original.args) and original.args[0] in _TIMED_OUT


# Cached, because many rows share the same second.
@functools.lru_cache(maxsize=4096)
def _created(wall: datetime, zone: ZoneInfo) -> str:
    return (reported_as(wall, zone) or wall).isoformat()  # skipped times get no offset; `read_action` refuses them


def _as_reported(row: _TableRow, zone: ZoneInfo) -> dict[str, Any]:
    """Return a row in the form of `actions.json`, where null values are absent."""
    playing = row.playing
    if isinstance(playing, bytes):  # BIT(1)
        playing = int.from_bytes(playing, "big")
    session = {
        "sessionId": row.session_id,
        "userId": row.user_id,
        "userIp": row.user_ip,
        "userAgent": row.user_agent,
    }
    return {
        "id": row.id,
        "mediapackageId": row.mediapackage,
        "sessionId": session,
        "inpoint": row.inpoint,
        "outpoint": row.outpoint,
        "length": row.length,
        "type": row.type,
        # A boolean, except for 2, which Harvard's players write for a live stream.
        "isPlaying": playing if playing == 2 else bool(playing),  # noqa: PLR2004 - explained above
        "created": _created(row.created, zone),
    }
