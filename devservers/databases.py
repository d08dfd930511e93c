"""Opencast's database without containers: an unprivileged MariaDB or PostgreSQL from Debian's packages.

Each has the useraction tables as Opencast creates them, an account `opencast` with all privileges and a read-only
account `harvester`. Both have the password `PASSWORD`, which is not secret: the servers listen on 127.0.0.1.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from devservers import stack
from devservers.stack import HOST, Child

PASSWORD = "opencast@home"  # noqa: S105 - for a server that lives as long as a test; needs escaping in URLs
KINDS = {"mariadb": "mariadb-server", "postgresql": "postgresql"}
INSERT_AT_ONCE = 2_000

# The servers refuse to run as root. The directory above is the child's own, with its log.
_UNPRIVILEGED = """
drop=
if [ "$(id -u)" = 0 ]; then
  chown nobody: .. .
  drop="setpriv --reuid=nobody --regid=nogroup --clear-groups"
fi
exec $drop /bin/sh -ec "$SCRIPT"
"""

_MARIADB = """
if [ ! -d mysql ]; then
  # Without asynchronous I/O, of which the kernel gives only so much to all servers together.
  install() { # without datefudge, with which it may hang
    LD_PRELOAD= mariadb-install-db --no-defaults --datadir="$PWD" --skip-test-db --innodb-use-native-aio=OFF \\
      --auth-root-authentication-method=normal
  }
  # On a busy machine it has failed without any cause of its own.
  install || { find . -mindepth 1 -delete; install; }
  cat > ../init.sql <<END
CREATE DATABASE opencast CHARACTER SET utf8mb4;
CREATE USER opencast@'%' IDENTIFIED BY '$PASSWORD';
CREATE USER harvester@'%' IDENTIFIED BY '$PASSWORD';
GRANT ALL ON opencast.* TO opencast@'%';
GRANT CREATE USER ON *.* TO opencast@'%';
GRANT SELECT ON opencast.* TO harvester@'%';
END
  set -- --init-file="$PWD/../init.sql"
fi
exec mariadbd --no-defaults --datadir="$PWD" --bind-address=127.0.0.1 --port="$PORT" --socket="$PWD/../sock" \\
  --pid-file="$PWD/../pid" --skip-log-bin --skip-name-resolve --innodb-buffer-pool-size=128M \\
  --innodb-flush-log-at-trx-commit=2 --innodb-flush-method=nosync --innodb-use-native-aio=OFF "$@"
"""

_POSTGRESQL = """
if [ ! -f PG_VERSION ]; then
  printf %s "$PASSWORD" > ../password
  initdb -D . -U opencast --pwfile=../password -A scram-sha-256 -E UTF8 --locale=C --no-sync
  postgres --single -D . postgres <<END
CREATE DATABASE opencast;
CREATE ROLE harvester LOGIN PASSWORD '$PASSWORD';
GRANT pg_read_all_data TO harvester;
END
fi
exec postgres -D . -h 127.0.0.1 -p "$PORT" -k '' -c fsync=off -c shared_buffers=128MB
"""

# As in Opencast's own scripts up to version 9 (MariaDB), and as EclipseLink has created them in PostgreSQL since.
_TABLES = """
CREATE TABLE {prefix}_user_session (
  session_id VARCHAR(50) NOT NULL PRIMARY KEY, user_ip VARCHAR(255), user_agent VARCHAR(255), user_id VARCHAR(255));
CREATE TABLE {prefix}_user_action (
  id BIGINT NOT NULL PRIMARY KEY, inpoint INTEGER, outpoint INTEGER, mediapackage VARCHAR(128),
  session_id VARCHAR(50) NOT NULL REFERENCES {prefix}_user_session (session_id),
  created {created}, length INTEGER, type VARCHAR(128), playing {playing});
CREATE INDEX IX_{prefix}_user_action_created ON {prefix}_user_action (created);
CREATE INDEX IX_{prefix}_user_action_inpoint ON {prefix}_user_action (inpoint);
CREATE INDEX IX_{prefix}_user_action_outpoint ON {prefix}_user_action (outpoint);
CREATE INDEX IX_{prefix}_user_action_mediapackage_id ON {prefix}_user_action (mediapackage);
CREATE INDEX IX_{prefix}_user_action_type ON {prefix}_user_action (type)
"""


def programs() -> str:
    """Return a PATH that includes Debian's servers."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return os.pathsep.join([*map(str, newest[-1:]), os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/bin"])


def missing(kind: str) -> str | None:
    """Return the Debian package that is missing for `kind`; None if it is installed."""
    program = "mariadb-install-db" if kind == "mariadb" else "initdb"
    return None if shutil.which(program, path=programs()) else KINDS[kind]


def database(kind: str, *, zone: str = "UTC", port: int | None = None) -> Child:
    """Start a `mariadb` or `postgresql` with an empty database `opencast`.

    Args:
        kind: The kind of server.
        zone: The time zone of the server's host.
        port: The port; by default a free one.

    Raises:
        HarvestError: The server does not start.
    """
    script = _MARIADB if kind == "mariadb" else _POSTGRESQL

    def build(port: int) -> Child:
        return Child(
            kind,
            ["/bin/sh", "-ec", _UNPRIVILEGED],
            stack.says(r"ready (for|to accept) connections"),
            environment={
                "SCRIPT": script,
                "PATH": programs(),
                "PASSWORD": PASSWORD,
                "PORT": str(port),
                "TZ": zone,
                "LC_ALL": "C",
            },
            port=port,
            url=f"{kind}://harvester:{PASSWORD.replace('@', '%40')}@{HOST}:{port}/opencast",
            deadline=240,  # on a busy machine the tables alone take a minute
        )

    return stack.on_port(build, port)


def engine(server: Child) -> sa.Engine:
    """Return an engine for the account with all privileges on the database."""
    scheme, _, rest = server.url.partition("://harvester:")
    driver = {"mariadb": "mysql+pymysql", "postgresql": "postgresql+psycopg"}[scheme]
    return sa.create_engine(f"{driver}://opencast:{rest}", pool_size=1)


def administrator(server: Child) -> sa.Engine:
    """Return an engine for the account that may also change accounts, grants and server settings."""
    mysql = server.url.startswith("mariadb")
    url = sa.URL.create(
        "mysql+pymysql" if mysql else "postgresql+psycopg",
        username="root" if mysql else "opencast",
        password=None if mysql else PASSWORD,
        host=HOST,
        port=server.port,
        database="opencast",
    )
    return sa.create_engine(url, poolclass=sa.NullPool)


def create_tables(writer: sa.Engine, prefix: str = "oc", created: str = "") -> None:
    """Create empty tables, named as since Opencast 5 (`oc`) or before (`mh`).

    Args:
        writer: An engine whose account may create tables.
        prefix: The prefix of the names.
        created: The type of the column `created`, instead of the usual one.
    """
    mysql = writer.dialect.name == "mysql"
    types = {
        "created": created or ("DATETIME" if mysql else "TIMESTAMP"),
        "playing": "TINYINT(1) DEFAULT 0" if mysql else "BOOLEAN DEFAULT FALSE",
    }
    drop_tables(writer)
    with writer.begin() as connection:
        for statement in _TABLES.format(prefix=prefix, **types).split(";"):
            connection.exec_driver_sql(statement)


def drop_tables(writer: sa.Engine) -> None:
    """Drop all tables that `create_tables` may have created."""
    with writer.begin() as connection:
        for name in ("oc_user_action", "oc_user_session", "mh_user_action", "mh_user_session"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


def insert(writer: sa.Engine, actions: Iterable[Mapping[str, Any]], prefix: str = "oc") -> None:
    """Store rows in the form of `actions.json`; `created` keeps its wall-clock time."""
    sessions: dict[str, dict[str, Any]] = {}
    rows = []
    for action in actions:
        session = {name: str(value) for name, value in action["sessionId"].items()}
        key = session["sessionId"]
        sessions[key] = {
            "session_id": key,
            "user_ip": session.get("userIp"),
            "user_agent": session.get("userAgent"),
            "user_id": session.get("userId"),
        }
        rows.append(
            {
                "id": action["id"],
                "inpoint": action["inpoint"],
                "outpoint": action["outpoint"],
                "mediapackage": str(action["mediapackageId"]),
                "session_id": key,
                "created": datetime.fromisoformat(action["created"]).replace(tzinfo=None),
                "length": action["length"],
                "type": str(action["type"]),
                "playing": bool(action["isPlaying"]),
            }
        )
    table = sa.table(f"{prefix}_user_session", sa.column("session_id"))
    with writer.begin() as connection:
        known = {str(key) for (key,) in connection.execute(sa.select(table.c.session_id))}
        _store(connection, f"{prefix}_user_session", [row for key, row in sessions.items() if key not in known])
        _store(connection, f"{prefix}_user_action", rows)


def _store(connection: sa.Connection, name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        table = sa.table(name, *map(sa.column, rows[0]))
        for start in range(0, len(rows), INSERT_AT_ONCE):
            connection.execute(sa.insert(table), rows[start : start + INSERT_AT_ONCE])
