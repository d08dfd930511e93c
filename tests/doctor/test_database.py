"""A real MariaDB and PostgreSQL, of which one thing is wrong."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from devservers import databases
from tests.opencast.test_sql import row
from uaharvest.doctor import clocks
from uaharvest.doctor import database as checks
from uaharvest.doctor.opencast import CLOCK


@pytest.fixture
def settings(database, tables, settings_of):
    """A site that reads this database, in which somebody watches now."""
    now = datetime.now(ZoneInfo("America/Bogota")) - timedelta(minutes=5)
    databases.insert(tables, [row(10**9, now)])
    return settings_of(OPENCAST_DATABASE_URL=database.url)


def test_a_healthy_database_needs_no_change(look, settings):
    findings = look(settings, "database.tables", "database.index", "database.replica")
    wrong = [one for name in findings for one in findings[name] if one.status in {"warn", "fail"}]
    assert wrong == []
    assert findings["database.index"][0].found == "oc_user_action.created has an index"
    assert any(one.found == "1 useraction in the last hour" for one in findings["database.tables"])


@pytest.mark.parametrize("table", ["oc_user_action", "oc_user_session"])
def test_an_account_without_select_on_a_table_is_told_what_to_grant(told, settings_of, database, tables, table):
    administrator = databases.administrator(database)
    other = next(name for name in ("oc_user_action", "oc_user_session") if name != table)
    account = "reader@'127.0.0.1'" if tables.dialect.name == "mysql" else "reader"
    word = "IDENTIFIED BY" if tables.dialect.name == "mysql" else "PASSWORD"
    with administrator.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE USER {account} {word} 'top-secret'")
        try:
            connection.exec_driver_sql(f"GRANT SELECT ON {other} TO {account}")
            url = sa.make_url(database.url).set(username="reader", password="top-secret")
            settings = settings_of(OPENCAST_DATABASE_URL=url.render_as_string(hide_password=False))
            [(status, found, remedy)] = told(settings, "database.tables")
        finally:
            if tables.dialect.name != "mysql":
                connection.exec_driver_sql(f"DROP OWNED BY {account}")
            connection.exec_driver_sql(f"DROP USER {account}")
    assert status == "fail"
    assert "reader" in found
    assert "SELECT" in remedy
    assert "top-secret" not in found + remedy


def test_a_table_without_index_is_told_with_the_statement(told, settings, tables):
    mysql = tables.dialect.name == "mysql"
    with tables.begin() as connection:
        on = " ON oc_user_action" if mysql else ""
        connection.exec_driver_sql(f"DROP INDEX IX_oc_user_action_created{on}")
    [(status, found, remedy)] = told(settings, "database.index")
    assert (status, "oc_user_action.created has no index" in found) == ("fail", True)
    assert "CREATE INDEX" in remedy


@pytest.mark.parametrize(
    ("delay", "status"),
    [(None, "ok"), (5.0, "ok"), (2000.0, "warn"), (4000.0, "fail"), ("it stands still", "fail")],
)
def test_a_replica_that_lags_further_behind_than_the_overlap_fails(delay, status):
    assert checks.judge_delay(delay, 3600).status == status


def test_the_clock_of_a_database_is_in_utc(look, settings):
    findings = look(settings, "clocks", "database.tables", "redis.answers")
    assert [str(one.status) for one in findings["clocks"]] == ["ok"]
    assert checks.CLOCK in findings["clocks"][0].found


@pytest.mark.parametrize(("behind", "lost"), [(3700, True), (3500, False), (-3700, False)])
def test_rows_of_an_opencast_further_behind_its_database_than_the_overlap_are_said_to_be_lost(
    settings_of, behind, lost
):
    ahead = {"this host": 0.0, CLOCK: 1.0 - behind, checks.CLOCK: 1.0}
    settings = settings_of(HARVEST_OVERLAP_SECONDS="3600")
    failed = [one.found for one in clocks.judge(ahead, settings) if "are lost" in one.found]
    line = "Opencast's clock is 1 h 1 min behind that of its database: its rows come later than HARVEST_OVERLAP_SECONDS"
    assert failed == ([f"{line} (3600) and are lost"] if lost else [])
