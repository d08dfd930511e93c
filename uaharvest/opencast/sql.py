"""Useractions straight from Opencast's database, for sites that allow it (OPENCAST_DATABASE_URL).

What REST cannot do: exact ranges of time, an order, and so keyset paging on (created, id). Each page is one statement
in a read-only transaction of its own. The rows are brought into the form in which `actions.json` gives them and read
by the same code, so that records do not tell where they came from.

`created` holds the wall time of Opencast's JVM without a zone: DATETIME in MariaDB, TIMESTAMP WITHOUT TIME ZONE in
PostgreSQL (in MariaDB's TIMESTAMP, which is shown in the zone of the session, too: so the session's zone is left as
it is). No row says which zone that is, so for each offset that OPENCAST_TIMEZONE gives to rows Opencast itself is
asked once how it tells one of them.
"""

import functools
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from uaharvest.errors import BadInputError, BlockedError, HarvestError, PoisonError, SourceError
from uaharvest.opencast.actions import UserAction, read_action
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.source import FURTHEST, Page, TooMany, wrong_zone
from uaharvest.opencast.times import told_as, wall_from
from uaharvest.runs.windows import Interval, duration, whole_second

SETTING = "OPENCAST_DATABASE_URL"
DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "postgresql": "postgresql+psycopg"}
# Up to Opencast 4 tables are called mh_…; Matterhorn 1.x has no table of sessions.
PREFIXES = ("oc", "mh")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
ATTEMPTS = 4
FIRST_PAUSE = 0.5  # seconds, doubled from one attempt to the next, give or take a half
RECYCLE_SECONDS = 1800  # firewalls and servers drop connections that are idle for hours
# A slice of more pages than this is divided; one or two more are read on, for no row of them is read in vain.
PAGES = 4
# Clocks of Opencast and of its database may differ by so much.
AHEAD = timedelta(minutes=5)
MOMENT = timedelta(microseconds=1)

# What a person must mend. MariaDB: its numbers for a refused log-in, host, database, table, column and authentication.
# PostgreSQL: classes of SQLSTATE for the same.
_REFUSED_NUMBERS = {1044, 1045, 1049, 1054, 1130, 1142, 1143, 1146, 1227, 1251, 1275, 1698, 2059}
_REFUSED_CLASSES = ("28", "3D", "3F", "42")
# A statement that took too long: PostgreSQL, MariaDB, MySQL.
_CANCELED = "57014"
_TIMED_OUT = {1969, 3024}
# Where it refuses a connection, libpq gives no SQLSTATE, only the text.
_REFUSED_TEXT = re.compile(
    r'authentication failed|no pg_hba\.conf entry|(database|role) ".*" does not exist|permission denied'
)

log = structlog.get_logger()


class Told(Protocol):
    """What is asked of Opencast itself: a client of the engage host."""

    base_url: str

    def action(self, row_id: int) -> dict[str, Any] | None:
        """Return the useraction with this id as Opencast tells it, None if there is none."""
        ...


class _Row(NamedTuple):
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
    """The statements for one pair of tables."""

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
        # MariaDB makes a range of the index of `created >= after`, and none of a comparison of pairs.
        self.next_page = page.where(created >= after, created < end, sa.or_(created > after, row_id > after_id))
        self.last = rows.where(inside).order_by(created.desc(), row_id.desc()).limit(1)
        self.newest = sa.select(sa.func.max(created))


class SqlSource:
    """Asks Opencast's database for ranges of time; the counterpart of `source.ActionsSource`."""

    def __init__(
        self,
        engine: sa.Engine,
        zone: ZoneInfo,
        pace: Pace,
        opencast: Told,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take an engine that `connect` made, the zone of Opencast's JVM, the pace, and a client of the engage host."""
        self._engine = engine
        self._zone = zone
        self._pace = pace
        self._opencast = opencast
        self._pause = pause
        self._statements: _Statements | None = None
        self._checked: set[timedelta | None] = set()

    def now(self, *, wait: float = 0) -> datetime:
        """Return the database's clock, UTC, whole seconds.

        Raises:
            SourceError: The database does not answer.
            BlockedError: It refuses.
        """
        mysql = self._engine.dialect.name == "mysql"
        clock = "SELECT UTC_TIMESTAMP(6)" if mysql else "SELECT clock_timestamp() AT TIME ZONE 'UTC'"
        ((now,),) = self._ask(sa.text(clock), {}, wait)
        return whole_second(now.replace(tzinfo=UTC))

    def total(self, first: datetime, last: datetime, *, wait: float = 0) -> int:
        """Count the rows from `first` to `last`, both included, UTC.

        Raises:
            SourceError, BlockedError: As for `now`.
        """
        return self._count(wall_from(first, self._zone), wall_from(last + MOMENT, self._zone), wait)

    def check_zone_around(self, first: datetime, last: datetime, *, wait: float = 0) -> None:
        """Make sure that an empty range is not empty because the zone is wrong: look at a row near it, if any.

        Raises:
            BlockedError: The zone is wrong.
            SourceError: The database or Opencast does not answer.
        """
        ((newest,),) = self._ask(self._prepared(wait).newest, {}, wait)
        told = told_as(newest, self._zone) if newest else None
        now = self.now(wait=wait)
        if told and told > now + AHEAD:
            raise BlockedError(
                f"OPENCAST_TIMEZONE is '{self._zone.key}', but the newest useraction in {self._where} would then lie "
                f"{duration((told - now).total_seconds())} in the future. Set it to the zone of Opencast's JVM."
            )
        near = {
            "first": wall_from(first - FURTHEST, self._zone),
            "end": wall_from(last + FURTHEST, self._zone),
        }
        for row in self._ask(self._prepared(wait).last, near, wait):
            self._read([_Row._make(row)])

    def fetch(self, slice_: Interval, limit: int, *, wait: float = 0) -> Page | TooMany:
        """Return all rows of `slice_`, or say how many there are if they are many more than `limit`.

        Raises:
            SourceError: The database or Opencast does not answer.
            BlockedError: It refuses, or the zone is wrong.
        """
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

    def _page(self, statement: sa.Select[Any], parameters: Mapping[str, Any], wait: float) -> list[_Row]:
        return [_Row._make(row) for row in self._ask(statement, parameters, wait)]

    def _count(self, first: datetime, end: datetime, wait: float) -> int:
        ((count,),) = self._ask(self._prepared(wait).count, {"first": first, "end": end}, wait)
        return int(count)

    def _prepared(self, wait: float) -> _Statements:
        """Return the statements; which of the two names the tables have is found out once."""
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

    def _read(self, rows: Sequence[_Row]) -> Page:
        actions: list[UserAction] = []
        unreadable = []
        for row in rows:
            raw = _as_told(row, self._zone)
            try:
                action = read_action(raw)
            except PoisonError as error:
                skipped = " Clocks skipped that time: see OPENCAST_TIMEZONE."
                unreadable.append((raw, f"{error}{skipped}"))
                continue
            if action.created.utcoffset() not in self._checked:
                self._check_zone(action)
            actions.append(action)
        return Page(actions, unreadable)

    def _check_zone(self, action: UserAction) -> None:
        """Ask Opencast how it tells this row; where it does not tell, only rows of the future show a wrong zone."""
        try:
            raw = self._opencast.action(action.id)
        except BlockedError as error:  # usertracking may be switched off there: a reason to read the database
            log.warning("OPENCAST_TIMEZONE cannot be checked", reason=str(error))
            raw = None
        if raw is not None:
            told = read_action(raw).created
            if told.utcoffset() != action.created.utcoffset():
                raise BlockedError(wrong_zone(told, self._zone, self._opencast.base_url))
            if whole_second(told) != whole_second(action.created):
                raise BlockedError(
                    f"{self._where} has useraction {action.id} as of {action.created:%F %T%z}, but Opencast at "
                    f"{self._opencast.base_url} as of {told:%F %T%z}. Are they one site? Check {SETTING} and "
                    "MATTERHORN_ENGAGE_HOST."
                )
        self._checked.add(action.created.utcoffset())

    @property
    def _where(self) -> str:
        url = self._engine.url
        return f"Opencast's database '{url.database}' at {url.host}{f':{url.port}' if url.port else ''}"

    def _ask(self, statement: sa.Executable, parameters: Mapping[str, Any], wait: float) -> Sequence[sa.Row[Any]]:
        self._pace.turn(wait)
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._answer(statement, parameters)
            except SourceError as error:
                if _is_timeout(error.__cause__):  # has waited long enough
                    raise
                self._pause(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        return self._answer(statement, parameters)

    def _answer(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(statement, dict(parameters)).all()
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _failure(self, error: SQLAlchemyError) -> HarvestError:
        """Return what went wrong, in the server's own words; they hold neither password nor data."""
        original = error.orig if isinstance(error, DBAPIError) else error
        said = next(iter(str(original.args[-1] if original and original.args else error).strip().splitlines()), "")
        if _is_refusal(original):
            return BlockedError(
                f"{self._where} refuses user '{self._engine.url.username}': {said}. Check {SETTING}, and that this "
                "user may SELECT from the tables of useractions and sessions."
            )
        return SourceError(f"{self._where} does not answer: {said}. Does it run, and is {SETTING} right?")


def connect(url: str) -> sa.Engine:
    """Return an engine for Opencast's database; nothing is connected yet.

    Its connections are read-only, each statement is a transaction of its own, and none takes longer than
    STATEMENT_SECONDS.

    Raises:
        BadInputError: The URL cannot be used; it is not shown, for it has a password in it.
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
    timeouts = {"read_timeout": STATEMENT_SECONDS + 5, "write_timeout": STATEMENT_SECONDS} if mysql else {}
    engine = sa.create_engine(
        parsed,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={"connect_timeout": CONNECT_SECONDS, **timeouts},
    )

    def prepare(connection: Any, _: Any) -> None:
        if mysql:
            mariadb = "MariaDB" in connection.get_server_info()
            limit = ("max_statement_time", "") if mariadb else ("max_execution_time", "000")  # s, ms
            statements = (
                "SET SESSION TRANSACTION READ ONLY",
                f"SET SESSION {limit[0]} = {STATEMENT_SECONDS}{limit[1]}",
            )
        else:
            statements = (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                f"SET statement_timeout = {STATEMENT_SECONDS}000",
            )
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    sa.event.listen(engine, "connect", prepare)
    return engine


def _is_refusal(original: BaseException | None) -> bool:
    state = getattr(original, "sqlstate", None)
    if state:
        return str(state).startswith(_REFUSED_CLASSES)
    if original is None or not original.args:
        return False
    return original.args[0] in _REFUSED_NUMBERS or bool(_REFUSED_TEXT.search(str(original.args[0])))


def _is_timeout(cause: BaseException | None) -> bool:
    """Tell whether a statement was given up because it took longer than STATEMENT_SECONDS."""
    original = cause.orig if isinstance(cause, DBAPIError) else None
    if getattr(original, "sqlstate", None) == _CANCELED:
        return True
    return original is not None and bool(original.args) and original.args[0] in _TIMED_OUT


# Rows of the same second share their instant.
@functools.lru_cache(maxsize=4096)
def _created(wall: datetime, zone: ZoneInfo) -> str:
    return (told_as(wall, zone) or wall).isoformat()  # one that clocks skipped has no offset, and cannot be read


def _as_told(row: _Row, zone: ZoneInfo) -> dict[str, Any]:
    """Return a row as `actions.json` has it; what is null is absent there."""
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
        # A boolean, but for the 2 that Harvard's players write for live.
        "isPlaying": playing if playing == 2 else bool(playing),  # noqa: PLR2004 - said above
        "created": _created(row.created, zone),
    }
