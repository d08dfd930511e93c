"""Checks of Opencast's database, if useractions are read from there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from uaharvest.doctor.findings import Finding, fail, ok, skipped, warn
from uaharvest.doctor.opencast import DAY, HOUR, judge_actions, judge_number
from uaharvest.doctor.site import Site
from uaharvest.intervals import Interval, duration
from uaharvest.opencast.source import TooMany
from uaharvest.opencast.throttle import Throttle

if TYPE_CHECKING:
    import sqlalchemy as sa

    from uaharvest.opencast.sql import SqlSource

CLOCK = "Opencast's database"
_ROWS = 50
_COLUMN = "created"


def tables(site: Site) -> Iterator[Finding]:
    """Log in, find the tables and read both of them; a column or a grant that is missing fails here."""
    with _source(site) as (engine, source):
        with site.timed(CLOCK) as note:
            note(now := source.now())
        page = source.fetch(Interval(now - HOUR, now), _ROWS)
        yield ok(f"user '{engine.url.username}' may read useractions and sessions at {engine.url.host}")
        if isinstance(page, TooMany):
            yield judge_number(page.total, "in the last hour", any_before=True)
            return
        recent = len(page.actions) + len(page.unreadable)
        before = recent or source.total(now - DAY, now)
        yield judge_number(recent, "in the last hour", any_before=bool(before))
        yield from judge_actions(page.actions, site.settings, str(engine.url.host))


def index(site: Site) -> Iterator[Finding]:
    """Look for an index on the column that every statement selects by."""
    import sqlalchemy as sa  # noqa: PLC0415 - most sites do not need it

    from uaharvest.opencast.sql import PREFIXES  # noqa: PLC0415

    with _source(site) as (engine, _):
        inspector = sa.inspect(engine)
        names = [f"{prefix}_user_action" for prefix in PREFIXES]
        table = next(name for name in names if inspector.has_table(name))  # `tables` found it
        indexed = any(one["column_names"][:1] == [_COLUMN] for one in inspector.get_indexes(table))
    if indexed:
        yield ok(f"{table}.{_COLUMN} has an index")
        return
    yield fail(
        f"{table}.{_COLUMN} has no index: each statement reads the whole table",
        f"Opencast's own scripts make one: CREATE INDEX IX_{table}_{_COLUMN} ON {table} ({_COLUMN});",
    )


def replica(site: Site) -> Iterator[Finding]:
    """Look how far a replica is behind: rows that arrive later than the overlap are lost."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - most sites do not need it

    try:
        with _source(site) as (engine, _), engine.connect() as connection:
            state = _mysql_delay(connection) if engine.dialect.name == "mysql" else _postgresql_delay(connection)
    except DBAPIError:
        yield skipped("whether it is a replica cannot be seen (MariaDB: REPLICA MONITOR)")
        return
    yield judge_delay(state, site.settings.overlap)


def judge_delay(delay: float | str | None, overlap: int) -> Finding:
    """Return the finding for a replica's delay.

    Args:
        delay: Seconds; None for a primary; a word for a replica that does not replicate.
        overlap: Seconds before the watermark that are looked at again.
    """
    if delay is None:
        return ok("not a replica")
    if isinstance(delay, str):
        return fail(f"a replica that does not replicate ({delay})", "Start replication, or name the primary.")
    found = f"a replica, {duration(delay)} behind"
    if delay > overlap:
        return fail(
            f"{found}: rows come later than HARVEST_OVERLAP_SECONDS ({overlap}) and are lost",
            "Find out why it lags, or raise HARVEST_OVERLAP_SECONDS.",
        )
    if delay > overlap / 2:
        return warn(f"{found}, of {overlap} s that HARVEST_OVERLAP_SECONDS allows", "Find out why it lags.")
    return ok(found)


def _mysql_delay(connection: "sa.Connection") -> float | str | None:
    rows = connection.exec_driver_sql("SHOW REPLICA STATUS").mappings().all()
    if not rows:
        return None
    for name in ("Seconds_Behind_Master", "Seconds_Behind_Source"):
        if rows[0].get(name) is not None:
            return float(rows[0][name])
    return "its threads do not run"


def _postgresql_delay(connection: "sa.Connection") -> float | str | None:
    # If the primary writes nothing, the last replayed transaction grows old although nothing is missing.
    [row] = connection.exec_driver_sql(
        "SELECT pg_is_in_recovery(), CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0"
        " ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END"
    )
    if not row[0]:
        return None
    return "it has replayed nothing" if row[1] is None else float(row[1])


def _source(site: Site) -> "AbstractContextManager[tuple[sa.Engine, SqlSource]]":
    from uaharvest.opencast.sql import opened  # noqa: PLC0415 - SQLAlchemy takes 0.2 s to import

    throttle = Throttle(site.redis, site.opencast.base_url)
    return opened(site.settings.database_url or "", site.settings.opencast_zone, throttle, site.opencast)
