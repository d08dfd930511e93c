"""What a page costs the database: the simulator's count of rows against a real MariaDB's Handler_read_*."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from devservers import databases
from tests.simulators.opencast.conftest import Simulator

ROWS, DAY_ROWS = 30_000, 5_000  # a sixth of the table, as of a site with a week behind it
BEFORE, DAY = datetime(2026, 11, 10), datetime(2026, 11, 19)
DAYTIME = 78_000  # seconds of a day in which its rows are

PAGES = [
    (1, 0),
    (100, 0),
    (1_000, 2_500),
    (700, DAY_ROWS - 700),
    (1_000, DAY_ROWS - 10),
    (10_000, 0),
    (1_000, 7_000),
]


@pytest.fixture(scope="module")
def simulator():
    simulator = Simulator("--profile", "oc16", "--order", "mariadb", "--rows", 0, "--zone", "UTC")
    times = [BEFORE + timedelta(seconds=n * 20) for n in range(ROWS - DAY_ROWS)]
    times += [DAY + timedelta(seconds=60 + n * DAYTIME / DAY_ROWS) for n in range(DAY_ROWS)]
    rows = [
        {
            "created": (at - datetime(1970, 1, 1)).total_seconds() // 1,
            "id": number,
            "session": f"session{number // 9}",
        }
        for number, at in enumerate(times, 1)
    ]
    for start in range(0, len(rows), 5_000):
        simulator.add(*rows[start : start + 5_000])
    yield simulator
    simulator.process.terminate()
    simulator.process.wait()
    simulator.process.stdout.close()
    simulator.session.close()


@pytest.fixture(scope="module")
def mariadb(simulator):
    package = databases.missing("mariadb")
    if package:
        pytest.skip(f"no real MariaDB to test with: Debian's {package} is not installed")
    with databases.database("mariadb") as server:
        writer = databases.engine(server)
        databases.create_tables(writer)
        databases.insert(writer, simulator.actions())
        with writer.begin() as connection:
            connection.exec_driver_sql("ANALYZE TABLE oc_user_action")
        yield writer
        writer.dispose()


def read_by_mariadb(writer, limit, offset, day=DAY):
    """Ask as Opencast 16 does through EclipseLink; return how many rows MariaDB read."""
    with writer.connect() as connection:
        before = handler_reads(connection)
        where = sa.text("(:begin <= created) AND (created <= :end)").bindparams(
            begin=day + timedelta(seconds=12.345), end=day + timedelta(hours=23, minutes=59, seconds=12.345)
        )
        columns = "id, created, inpoint, length, mediapackage, outpoint, playing, type, session_id"
        table = sa.table("oc_user_action")
        connection.execute(sa.select(sa.text("COUNT(id)")).select_from(table).where(where)).all()
        page = sa.select(sa.text(columns)).select_from(table).where(where)
        rows = connection.execute(page.suffix_with(f"LIMIT {offset}, {limit}")).all()
        for session in {row.session_id for row in rows}:
            one = sa.text("SELECT * FROM oc_user_session WHERE session_id = :session")
            connection.execute(one, {"session": session}).all()
        return handler_reads(connection) - before


def handler_reads(connection):
    status = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    # SHOW STATUS is a table that is read, too.
    return sum(
        int(number) for name, number in status if name not in ("Handler_read_rnd_deleted", "Handler_read_rnd")
    )


@pytest.mark.fault
@pytest.mark.long
@pytest.mark.parametrize(("limit", "offset"), PAGES)
def test_a_page_costs_what_it_costs_mariadb(simulator, mariadb, limit, offset):
    simulator.page(day=f"{DAY:%Y%m%d}", limit=limit, offset=offset)
    told = simulator.control("GET", "requests")["actions_log"][-1]["read"]
    idle = read_idle(mariadb)
    assert told == pytest.approx(read_by_mariadb(mariadb, limit, offset) - idle, rel=0.02, abs=10)


def read_idle(writer):
    """Return what looking at the counters itself reads."""
    with writer.connect() as connection:
        return -handler_reads(connection) + handler_reads(connection)
