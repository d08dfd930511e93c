"""Useractions from the database: a real MariaDB and a real PostgreSQL, with the tables as Opencast makes them."""

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import requests
import sqlalchemy as sa

from devservers import databases, stack
from tests.answers.tcp import HOST, TcpProxy
from uaharvest.errors import BadInputError, BlockedError, RetryableError, SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.actions import read_action
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.source import TooMany
from uaharvest.opencast.sql import ASKED, PAGES, RETRIES, SqlSource, _as_reported, _TableRow, connect

NEW_YORK = ZoneInfo("America/New_York")
UTC_ZONE = ZoneInfo("UTC")
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def span(start, end):
    return Interval(at(start), at(end))


class Turns:
    """Counts the turns that were asked for."""

    def __init__(self):
        self.waits = []

    def turn(self, wait):
        self.waits.append(wait)


class EngageHost:
    """An Opencast that tells rows as it was told to, or refuses."""

    base_url = "http://engage.example.edu/"

    def __init__(self):
        self.rows = {}
        self.error = None
        self.down = None
        self.broken = set()
        self.asked = []

    def now(self):
        if self.down:
            raise self.down
        return NOON

    def action(self, row_id):
        self.asked.append(row_id)
        if self.error or row_id in self.broken:
            raise self.error or SourceError("500 at this row")
        return self.rows.get(row_id)


@pytest.fixture
def opencast():
    return EngageHost()


@pytest.fixture
def source_of(database, opencast):
    """Make a source in a zone; its connections end with the test."""
    with contextlib.ExitStack() as engines:

        def make(zone=UTC_ZONE, url=database.url, pauses=None, turns=None):
            engine = connect(url)
            engines.callback(engine.dispose)
            pause = pauses.append if pauses is not None else (lambda _: pytest.fail("nothing to wait for"))
            return SqlSource(engine, zone, turns or Turns(), opencast, pause=pause)

        yield make


@pytest.fixture
def source(source_of, tables):
    return source_of()


def row(row_id, created, **others):
    """A row as `actions.json` tells it; `created` is a wall time."""
    return {
        "id": row_id,
        "created": created.replace(tzinfo=None).isoformat(),
        "mediapackageId": "mp",
        "sessionId": {"sessionId": "one", "userId": "ben", "userIp": "10.0.0.1", "userAgent": "Firefox"},
        "inpoint": 1,
        "outpoint": 2,
        "length": 1,
        "type": "HEARTBEAT",
        "isPlaying": True,
        **others,
    }


def add(tables, *created):
    databases.insert(tables, [row(number, instant) for number, instant in enumerate(created, 1)])


def ids(page):
    return [action.id for action in page.actions]


@contextlib.contextmanager
def statements(source):
    """Collect what is asked of the database meanwhile."""
    seen = []

    def note(connection, cursor, statement, *_):
        seen.append(" ".join(statement.split()))

    sa.event.listen(source._engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(source._engine, "before_cursor_execute", note)


# The same records


@pytest.mark.parametrize("profile", ["oc7", "oc16"])
def test_records_are_field_for_field_those_of_rest(source_of, tables, profile):
    until = "2026-11-20T16:00:00Z"
    with stack.opencast_simulator(
        "--profile", profile, "--auth", "open", "--rows", "600", "--until", until
    ) as server:
        page = requests.get(f"{server.url}/usertracking/actions.json", params={"limit": 9999}, timeout=60).json()
        databases.insert(tables, page["actions"]["action"])
        client = Opencast(server.url)
        source = source_of(NEW_YORK)
        source._opencast = client
        end = datetime.fromisoformat(until) + timedelta(seconds=1)
        found = source.fetch(Interval(end - timedelta(hours=2), end), 1000)
        client._upstream.session.close()
    told = sorted(map(read_action, page["actions"]["action"]), key=lambda action: (action.created, action.id))
    assert found.actions == told
    assert [action.created.isoformat() for action in found.actions] == [each.created.isoformat() for each in told]
    assert len(told) == 600
    assert not found.unreadable


def test_what_is_null_is_absent(source, tables):
    databases.insert(tables, [row(1, at(0))])
    with tables.begin() as connection:
        connection.exec_driver_sql("UPDATE oc_user_action SET inpoint = NULL, type = NULL, playing = NULL")
        connection.exec_driver_sql("UPDATE oc_user_session SET user_id = NULL, user_ip = '', user_agent = NULL")
    (action,) = source.fetch(span(0, 1), 10).actions
    assert (action.inpoint, action.type, action.user, action.ip, action.agent) == (None,) * 5
    assert (action.is_playing, action.is_live, action.session) == (False, None, "one")


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (b"\x01", (True, None)),
        (b"\x00", (False, None)),
        (1, (True, None)),
        (2, (True, True)),
        (None, (False, None)),
    ],
)
def test_playing_may_be_a_bit_a_number_or_a_boolean(stored, read):
    kept = _TableRow(1, datetime(2026, 3, 3), "mp", 0, 0, 0, "PLAY", stored, "s", None, None, None)
    action = read_action(_as_reported(kept, UTC_ZONE))
    assert (action.is_playing, action.is_live) == read


# Ranges, order and pages


def test_the_clock_is_the_databases_whatever_its_zone(source):
    assert abs(source.now() - datetime.now(UTC)) < timedelta(seconds=3)
    assert (source.now().tzinfo, source.now().microsecond) == (UTC, 0)


def test_a_slice_holds_its_start_and_not_its_end_and_each_row_once(source, tables):
    kind = "DATETIME(3)" if tables.dialect.name == "mysql" else "TIMESTAMP(3)"
    databases.create_tables(tables, created=kind)
    add(tables, at(-0.001), at(0), at(9), at(9.999), at(10), at(10.001))
    assert ids(source.fetch(span(0, 10), 99)) == [2, 3, 4]
    assert source.total(at(0), at(10)) == 4
    assert source.total(at(10), at(10)) == 1
    tiles = [row_id for slice_ in span(-5, 15).cut(20) for row_id in ids(source.fetch(slice_, 99))]
    assert tiles == [1, 2, 3, 4, 5, 6]


def test_a_page_is_one_statement_and_goes_on_where_the_last_one_ended(source, tables):
    instants = [at(1), *[at(5)] * 9, at(7), at(10)]
    # Stored in another order than that of their ids, as several nodes store them.
    databases.insert(tables, [row(number, instants[number - 1]) for number in range(12, 0, -1)])
    source.fetch(span(0, 1), 4)
    with statements(source) as seen:
        page = source.fetch(span(0, 10), 4)
    assert ids(page) == list(range(1, 12))
    counts, pages = [[one for one in seen if ("count(" in one.lower()) is counted] for counted in (True, False)]
    assert (len(counts), len(pages)) == (1, 3)
    assert all(one.startswith("SELECT") and "OFFSET" not in one for one in seen)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_statement_is_one_round_trip(source, tables):
    source.total(at(0), at(10))  # finds the tables
    with source._engine.connect() as connection:
        ((_, before),) = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'").all()
    for _ in range(10):
        source.total(at(0), at(10))
    with source._engine.connect() as connection:
        ((_, after),) = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'").all()
    assert int(after) - int(before) == 11  # the last one asks for the number


def test_rows_that_appear_while_pages_are_read_move_no_other(source, tables):
    add(tables, *map(at, range(0, 20, 2)))
    pages = []

    def insert_behind(connection, cursor, statement, *_):
        if "LIMIT" in statement:
            pages.append(statement)
            databases.insert(tables, [row(100 + len(pages), at(1)), row(200 + len(pages), at(17))])

    sa.event.listen(source._engine, "before_cursor_execute", insert_behind)
    found = ids(source.fetch(span(0, 20), 5))
    assert len(pages) > 2
    assert [number for number in found if number < 100] == list(range(1, 11))
    assert len(found) == len(set(found))


def test_many_more_rows_than_asked_for_are_said_unless_they_cannot_be_divided(source, tables):
    add(tables, *[at(5)] * (PAGES * 2 + 1))
    assert source.fetch(span(0, 10), 2) == TooMany(PAGES * 2 + 1)
    assert len(ids(source.fetch(span(5, 6), 2))) == PAGES * 2 + 1
    assert len(ids(source.fetch(span(0, 10), 3))) == PAGES * 2 + 1


def test_every_statement_waits_for_its_turn(source_of, tables):
    turns = Turns()
    source = source_of(turns=turns)
    add(tables, *[at(5)] * 3)
    source.total(at(0), at(9), wait=2)
    source.fetch(span(5, 6), 2, wait=4)
    assert turns.waits == [2, 2, 4, 4]


def test_the_index_on_created_serves_every_page(source, tables):
    rows = [row(number, at(number * 7 % 86_400)) for number in range(20_000)]
    databases.insert(tables, rows)
    with tables.connect() as connection:
        connection.exec_driver_sql(f"ANALYZE {'TABLE ' * (tables.dialect.name == 'mysql')}oc_user_action")
    source.total(at(0), at(1))
    bounds = {"first": at(100), "end": at(5000), "after": at(2000), "after_id": 9, "limit": 50}
    naive = {
        name: bound.replace(tzinfo=None) if name in {"first", "end", "after"} else bound
        for name, bound in bounds.items()
    }
    for statement in (source._statements.page, source._statements.next_page):
        compiled = statement.params(naive).compile(tables, compile_kwargs={"literal_binds": True})
        with tables.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN {compiled}".replace("%", "%%")).all()).lower()
        assert "ix_oc_user_action_created" in plan
        assert "filesort" not in plan
        assert "seq scan on oc_user_action" not in plan


# Zones


def test_rows_of_a_repeated_hour_are_told_as_of_its_second_pass_and_found_once(source_of, tables):
    source = source_of(NEW_YORK)
    walls = [datetime(2026, 11, 1, 0, 30) + timedelta(minutes=10 * n) for n in range(18)]
    add(tables, *walls)
    night = Interval(datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC))
    for parts in (1, 4, 7, 60):
        found = [action for slice_ in night.cut(parts) for action in source.fetch(slice_, 99).actions]
        assert [action.id for action in found] == list(range(1, 19))
    assert found[6].created.isoformat() == "2026-11-01T01:30:00-05:00"
    first_pass = Interval(datetime(2026, 11, 1, 5, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC))
    assert source.fetch(first_pass, 99).actions == []
    assert source.total(first_pass.start, first_pass.end - timedelta(seconds=1)) == 0
    assert source.total(night.start, night.end) == 18


def test_a_time_that_clocks_skipped_is_kept_apart_with_the_setting_that_may_be_wrong(source_of, tables):
    source = source_of(NEW_YORK)
    add(tables, datetime(2026, 3, 8, 1, 59, 59), datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 3, 0))
    night = Interval(datetime(2026, 3, 8, 6, tzinfo=UTC), datetime(2026, 3, 8, 8, tzinfo=UTC))
    page = source.fetch(night, 99)
    assert ids(page) == [1, 3]
    ((raw, reason),) = page.unreadable
    assert (raw["id"], raw["created"]) == (2, "2026-03-08T02:30:00")
    assert "no usable 'created'" in reason
    assert reason.endswith("see OPENCAST_TIMEZONE.")
    pieces = [source.fetch(slice_, 99) for slice_ in night.cut(120)]
    assert sum(len(piece.unreadable) for piece in pieces) == 1


def test_opencast_is_asked_once_for_each_offset_how_it_tells_a_row(source_of, tables, opencast):
    source = source_of(NEW_YORK)
    add(tables, datetime(2026, 10, 31, 12), datetime(2026, 10, 31, 13), datetime(2026, 11, 2, 12))
    opencast.rows = {1: row(1, at(0)) | {"created": "2026-10-31T12:00:00-04:00"}}
    for _ in range(2):
        source.fetch(Interval(datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)), 99)
    assert opencast.asked == [1, 3]


@pytest.mark.parametrize("ask", ["fetch", "check_zone_around"])
def test_a_wrong_zone_is_told_by_opencasts_own_answer(source, tables, opencast, ask):
    add(tables, at(5))
    opencast.rows = {1: row(1, at(0)) | {"created": "2026-03-03T12:00:05-05:00"}}
    message = r"OPENCAST_TIMEZONE is 'UTC', but times of Opencast .* are at -05:00. Try America/New_York."
    with pytest.raises(BlockedError, match=message):
        source.fetch(span(0, 9), 99) if ask == "fetch" else source.check_zone_around(at(3600), at(7200))


def test_a_database_of_another_site_is_told(source, tables, opencast):
    add(tables, at(5))
    opencast.rows = {1: row(1, at(0)) | {"created": "2026-03-03T11:00:05Z"}}
    with pytest.raises(
        BlockedError, match=r"Are they one site\? Check OPENCAST_DATABASE_URL and MATTERHORN_ENGAGE_HOST"
    ):
        source.fetch(span(0, 9), 99)


def test_without_usertracking_by_rest_rows_are_read_all_the_same(source, tables, opencast):
    add(tables, at(5))
    opencast.error = BlockedError("Opencast has nothing there (404).")
    assert ids(source.fetch(span(0, 9), 99)) == [1]


def test_an_opencast_that_is_down_is_an_outage_and_no_fault_of_the_slice(source, tables, opencast):
    add(tables, at(5))
    opencast.error = opencast.down = SourceError("Opencast is down.")
    with pytest.raises(RetryableError) as raised:
        source.fetch(span(0, 9), 99)
    assert not isinstance(raised.value, SourceError)
    opencast.error = None
    assert ids(source.fetch(span(0, 9), 99)) == [1]
    assert opencast.asked[-1] == 1  # it is asked again, not taken for checked


def test_a_row_at_which_opencast_fails_does_not_keep_the_zone_from_being_checked(source_of, tables, opencast):
    add(tables, at(5), at(6))
    opencast.broken = {1}
    opencast.rows = {2: {"id": 2, "created": at(6).astimezone(NEW_YORK).isoformat()}}
    with pytest.raises(BlockedError, match="OPENCAST_TIMEZONE is 'UTC'"):
        source_of().fetch(span(0, 9), 99)


def test_an_opencast_that_fails_at_every_row_tells_nothing(source, tables, opencast):
    add(tables, *map(at, range(5)))
    opencast.error = SourceError("500")
    assert len(ids(source.fetch(span(0, 9), 99))) == 5
    assert len(opencast.asked) == ASKED


def test_rows_of_the_future_show_a_wrong_zone_even_then(source, tables, opencast):
    opencast.error = BlockedError("404")
    add(tables, datetime.now(UTC) + timedelta(hours=5))
    with pytest.raises(
        BlockedError, match=r"OPENCAST_TIMEZONE is 'UTC'.* lie (5 h|5 h 1 s|4 h 59 min) in the future"
    ):
        source.check_zone_around(at(0), at(60))


def test_an_empty_table_says_nothing_of_the_zone(source):
    source.check_zone_around(at(0), at(60))
    assert source.fetch(span(0, 60), 9).actions == []


# Refusals and failures


def test_the_tables_of_opencast_4_and_older_are_found(source, tables):
    databases.create_tables(tables, "mh")
    databases.insert(tables, [row(7, at(1))], "mh")
    assert ids(source.fetch(span(0, 9), 99)) == [7]


def test_a_database_without_the_tables_is_told(source, tables):
    databases.drop_tables(tables)
    with pytest.raises(
        BlockedError, match="no table oc_user_action or mh_user_action that user 'harvester' may read"
    ):
        source.fetch(span(0, 9), 99)


def test_nothing_can_be_written(database, tables):
    engine = connect(database.url.replace("harvester:", "opencast:"))  # an account that may
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.only"), engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM oc_user_action")
    engine.dispose()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("harvester:guess-", "harvester:"), ("nobody:", "harvester:"), ("/elsewhere", "/opencast")],
)
def test_a_refusal_is_told_at_once_with_the_setting_and_without_the_password(
    database, source_of, tables, wrong, right
):
    source = source_of(url=wrong.join(database.url.rsplit(right, 1)))
    with pytest.raises(BlockedError, match="Check OPENCAST_DATABASE_URL") as refused:
        source.now()
    assert "guess" not in str(refused.value)
    assert databases.PASSWORD not in str(refused.value)
    assert databases.PASSWORD not in repr(source._engine)


def test_a_user_who_may_not_read_the_sessions_is_told(database, source_of, tables):
    source = source_of()
    source.total(at(0), at(1))
    with tables.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE oc_user_session RENAME TO elsewhere")
    with pytest.raises(BlockedError, match="user may SELECT from the tables of useractions and sessions"):
        source.fetch(span(0, 9), 99)
    with tables.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO oc_user_session")


def test_a_server_that_is_not_there_is_tried_again_after_growing_pauses(source_of, database):
    pauses = []
    source = source_of(url=database.url.replace(f":{database.port}/", f":{stack.free_port()}/"), pauses=pauses)
    with pytest.raises(
        SourceError, match=r"does not answer: .*Does it run, and is OPENCAST_DATABASE_URL right\?"
    ) as error:
        source.now()
    assert len(pauses) == RETRIES.attempts - 1
    assert pauses[0] < pauses[2]
    assert databases.PASSWORD not in str(error.value)


def test_a_statement_that_takes_too_long_is_given_up_and_not_asked_again(source_of, tables, monkeypatch):
    monkeypatch.setattr("uaharvest.opencast.sql.STATEMENT_SECONDS", 1)
    source = source_of()
    sleep = "SELECT SLEEP(20)" if tables.dialect.name == "mysql" else "SELECT pg_sleep(20)"
    with (
        statements(source) as seen,
        pytest.raises(SourceError, match=r"(?i)does not answer: .*(max_statement_time|timeout)"),
    ):
        source._ask(sa.text(sleep), {}, 0)
    assert seen.count(sleep) == 1


def test_a_server_whose_table_is_locked_does_not_answer(source_of, tables, monkeypatch):
    """Else the engine takes the lock for the fault of one slice, and gives that one up."""
    monkeypatch.setattr("uaharvest.opencast.sql.STATEMENT_SECONDS", 1)
    source = source_of()
    source.now()
    mysql = tables.dialect.name == "mysql"
    with tables.connect() as connection:
        connection.exec_driver_sql("LOCK TABLES oc_user_action WRITE" if mysql else "LOCK TABLE oc_user_action")
        try:
            with pytest.raises(SourceError):
                source.now()
        finally:
            connection.exec_driver_sql("UNLOCK TABLES" if mysql else "ROLLBACK")
    source.now()


def test_a_server_that_hangs_is_given_up_after_the_time_of_one_statement(source_of, database, tables, monkeypatch):
    monkeypatch.setattr("uaharvest.opencast.sql.STATEMENT_SECONDS", 1)
    monkeypatch.setattr("uaharvest.opencast.sql.GRACE_SECONDS", 0)
    with TcpProxy(database.port) as proxy:
        source = source_of(url=database.url.replace(f":{database.port}/", f":{proxy.port}/"))
        source.now()
        with proxy.failing("silent"), pytest.raises(SourceError, match=f"{HOST}:{proxy.port} does not answer"):
            source.now()
        assert proxy.met == 1
        assert source.now()


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [("mariadb", "nonsense=1"), ("mariadb", "ssl_ca=/nowhere"), ("postgresql", "nonsense=1")],
)
def test_a_parameter_that_the_driver_does_not_take_is_named(kind, parameter):
    engine = connect(f"{kind}://harvester:hidden@127.0.0.1:1/opencast?{parameter}")
    source = SqlSource(engine, UTC_ZONE, Turns(), EngageHost(), pause=lambda _: pytest.fail("nothing to wait for"))
    with pytest.raises(BlockedError, match="OPENCAST_DATABASE_URL") as refused:
        source.now()
    assert "Does it run" not in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.fault
def test_a_server_that_was_killed_is_found_again(source_of, database, tables):
    add(tables, at(5))
    source = source_of(pauses=[])
    assert ids(source.fetch(span(0, 9), 99)) == [1]
    tables.dispose()
    database.kill()
    with pytest.raises(SourceError):
        source.now()
    database.start()
    assert ids(source.fetch(span(0, 9), 99)) == [1]


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://u:hidden@h/d", "sqlite:///hidden", "mariadb://u:hidden@h:x/d"]
)
def test_an_address_that_cannot_be_used_is_not_shown(url):
    with pytest.raises(BadInputError, match=r"OPENCAST_DATABASE_URL: \(set\) cannot be used") as refused:
        connect(url)
    assert "hidden" not in str(refused.value)


# What a server says, and what that is called


@contextlib.contextmanager
def changed(tables, do, undo):
    with tables.begin() as connection:
        connection.exec_driver_sql(do)
    try:
        yield
    finally:
        with tables.begin() as connection:
            connection.exec_driver_sql(undo)


ACCOUNTS = {
    "mysql": [
        (
            "ALTER USER harvester ACCOUNT LOCK",
            "ALTER USER harvester ACCOUNT UNLOCK",
            "has locked the account of user 'harvester'",
        ),
        (
            "ALTER USER harvester PASSWORD EXPIRE",
            "ALTER USER harvester IDENTIFIED BY '{password}'",
            "an expired password",
        ),
        (
            "ALTER TABLE oc_user_session RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO oc_user_session",
            "lacks a table or column",
        ),
    ],
    "postgresql": [
        ("ALTER ROLE harvester NOLOGIN", "ALTER ROLE harvester LOGIN", "refuses to log user 'harvester' in"),
        (
            "ALTER TABLE oc_user_session RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO oc_user_session",
            "lacks a table or column",
        ),
        (
            "REVOKE pg_read_all_data FROM harvester",
            "GRANT pg_read_all_data TO harvester",
            "does not let user 'harvester' read that",
        ),
    ],
}


@pytest.mark.parametrize("case", range(3))
def test_what_a_person_must_change_is_called_by_its_name(source_of, tables, case):
    do, undo, says = ACCOUNTS[tables.dialect.name][case]
    connected, fresh = source_of(), source_of()
    connected.total(at(0), at(1))
    source = fresh if "ALTER USER" in do or "ALTER ROLE" in do else connected
    with changed(tables, do, undo.format(password=databases.PASSWORD)), pytest.raises(BlockedError) as blocked:
        source.fetch(span(0, 9), 99)
    said = str(blocked.value)
    assert says in said
    assert "Does it run" not in said
    assert "OPENCAST_DATABASE_URL" in said
    if "lacks" in says:
        assert "harvester" not in said.replace("'opencast'", "")
    source_of().total(at(0), at(1))


class RefusedError(Exception):
    """What a driver raises."""

    def __init__(self, *args, sqlstate=None):
        super().__init__(*args)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (RefusedError(1045, "Access denied"), BlockedError, "refuses to log user"),
        (RefusedError(1044, "Access denied"), BlockedError, "use this database"),
        (RefusedError(1049, "Unknown database"), BlockedError, "is not there"),
        (RefusedError(1142, "SELECT command denied"), BlockedError, "read that"),
        (RefusedError(1146, "no such table"), BlockedError, "lacks a table"),
        (RefusedError(3118, "locked"), BlockedError, "has locked"),
        (RefusedError(4151, "locked"), BlockedError, "has locked"),
        (RefusedError(1820, "change it"), BlockedError, "expired password"),
        (RefusedError(1862, "expired"), BlockedError, "expired password"),
        (RefusedError(1130, "Host"), BlockedError, "from this host"),
        (RefusedError(1129, "Host is blocked because of many connection errors"), BlockedError, "from this host"),
        (RefusedError(3159, "Connections using insecure transport are prohibited"), BlockedError, "with TLS only"),
        (RefusedError(1356, "View references invalid table(s)"), BlockedError, "read that"),
        (RefusedError(2026, "SSL is required but the server doesn't support it"), BlockedError, "with TLS"),
        (RefusedError("server does not support SSL, but SSL was required"), BlockedError, "with TLS"),
        (RefusedError(1205, "Lock wait timeout exceeded"), SourceError, "is busy"),
        (RefusedError(1213, "Deadlock found"), SourceError, "is busy"),
        (RefusedError("x", sqlstate="55P03"), SourceError, "is busy"),
        (RefusedError("x", sqlstate="40P01"), SourceError, "is busy"),
        (RefusedError(1040, "Too many connections"), SourceError, "is busy"),
        (RefusedError(2003, "Can't connect"), SourceError, "does not answer"),
        (RefusedError(2003, "CERTIFICATE_VERIFY_FAILED"), BlockedError, "certificate"),
        (RefusedError("x", sqlstate="28P01"), BlockedError, "refuses to log user"),
        (RefusedError("x", sqlstate="42P01"), BlockedError, "lacks a table"),
        (RefusedError("x", sqlstate="42883"), BlockedError, "lacks a table"),
        (RefusedError("x", sqlstate="42501"), BlockedError, "read that"),
        (RefusedError("x", sqlstate="3D000"), BlockedError, "is not there"),
        (RefusedError("x", sqlstate="53300"), SourceError, "is busy"),
        (RefusedError("x", sqlstate="57P03"), SourceError, "is busy"),
        (RefusedError("x", sqlstate="XX000"), SourceError, "does not answer"),
        (RefusedError('connection failed: FATAL:  database "d" does not exist'), BlockedError, "is not there"),
        (RefusedError('FATAL:  role "h" does not exist'), BlockedError, "refuses to log user"),
        (
            RefusedError('FATAL:  no pg_hba.conf entry for host "::1", user "h", no encryption'),
            BlockedError,
            "from this host",
        ),
        (RefusedError("FATAL:  the database system is starting up"), SourceError, "is busy"),
        (RefusedError("FATAL:  sorry, too many clients already"), SourceError, "is busy"),
        (
            RefusedError("FATAL:  Passwort-Authentifizierung fehlgeschlagen"),
            BlockedError,
            "refuses the connection",
        ),
        (RefusedError("connection refused"), SourceError, "does not answer"),
    ],
)
def test_each_code_has_a_line_of_its_own(error, kind, says):
    source = SqlSource(connect("mariadb://harvester:hidden@db/opencast"), UTC_ZONE, Turns(), EngageHost())
    failure = source._failure(sa.exc.OperationalError("SELECT", {}, error))
    assert type(failure) is kind
    assert says in str(failure)
    assert "hidden" not in str(failure)
