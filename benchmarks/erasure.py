"""`python -m benchmarks.erasure`: erases a person with 100,000 useractions among ten million in SQLite.

With `--store elasticsearch-9.1.0` or `opensearch-3.8.0`, it does so there, among a million.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import boto3

from devservers import cluster, stack
from uaharvest import index_templates, settings
from uaharvest.documents.document import Document
from uaharvest.errors import HarvestError
from uaharvest.person.eraser import Person
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.connection import connect
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.sinks.documents import DocumentKey
from uaharvest.sinks.sqlite import SqliteStore

SQLITE = "sqlite"
ROWS, ROWS_IN_A_CLUSTER, OF_THE_PERSON = 10_000_000, 1_000_000, 100_000
DAYS = 200
LOGIN = "zq-planted-login"
SECONDS, DELETIONS = 60, 1.2  # the goals
_LOGIN, _NUMBER = "<login>", 424242


def body(number: int, login: str) -> dict[str, object]:
    """Return a document as the indexer makes it."""
    return {
        "@timestamp": "2026-11-17T10:00:00.000Z",
        "action_id": number,
        "timestamp": "2026-11-17T10:00:00+00:00",
        "mpid": f"0f1e2d3c-aaaa-bbbb-cccc-{number % 500:012}",
        "session_id": f"node0{number % 9973}abcdefgh",
        "huid": login,
        "action": {"type": "HEARTBEAT", "inpoint": 60, "outpoint": 90, "length": 30, "is_playing": True},
        "ip": "203.0.113.77",
        "geoip": {"ip": "203.0.113.77", "country_iso_code": "US", "city_name": "Boston"},
        "is_live": 0,
        "episode": {"title": "Introduction to Something", "course": "10101", "series": "20270110101"},
        "ua": {"name": "Chrome", "version": "126.0", "os": "Android", "os_name": "Android", "device": "Phone"},
    }


def fill(path: Path, rows: int, of_the_person: int) -> None:
    """Write documents past the store, which would take as long as a harvest."""
    SqliteStore(path).indices()
    before, _, after = json.dumps(body(_NUMBER, _LOGIN), separators=(",", ":")).partition(_LOGIN)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # the store switches it on again
        connection.execute(
            """
            WITH RECURSIVE row (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < :rows)
            INSERT INTO documents
            SELECT printf('useractions-2026.%02d.%02d', n / :day / 28 + 1, n / :day % 28 + 1), printf('%09d', n), 1,
                :before || iif(n % :every = 0, :login, 'login-' || (n % 5003)) || :after
            FROM row
            """,
            {
                "rows": rows,
                "day": -(-rows // DAYS),
                "every": rows // of_the_person,
                "login": LOGIN,
                "before": before,
                "after": after,
            },
        )
        connection.commit()


def documents(rows: int, of_the_person: int) -> Iterator[Document]:
    """Yield documents for a cluster."""
    every, day = rows // of_the_person, -(-rows // DAYS)
    for n in range(rows):
        at = n // day
        index = f"useractions-2026.{at // 28 + 1:02}.{at % 28 + 1:02}"
        yield Document(index, f"{n:09}", body(n, LOGIN if n % every == 0 else f"login-{n % 5003}"))


@dataclasses.dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure took.

    Attributes:
        seconds: Of the clock.
        cpu: Of this process, which is all of it with SQLite.
        deletions: Documents that the store was told to delete.
        removed: Those of the person.
        left: All documents that are left.
    """

    seconds: float
    cpu: float
    deletions: int
    removed: int
    left: int


def erase(chosen: Settings) -> Erased:
    """Erase the person at a site, as `person erase` does."""
    person = Person(chosen, [LOGIN])
    store = person.documents._store  # noqa: SLF001 - to count
    delete = store.delete
    asked: list[DocumentKey] = []

    def counted(keys: Iterable[DocumentKey]) -> Iterator[int]:
        listed = list(keys)
        asked.extend(listed)
        return delete(listed)

    store.delete = counted  # type: ignore[method-assign]
    began, used = time.monotonic(), _cpu()
    receipt = person.erase(person.look())
    seconds, cpu = time.monotonic() - began, _cpu() - used
    if receipt["left"]:
        raise HarvestError(f"not all is erased: {receipt['left']}")
    removed = receipt["stores"]["useractions"]
    if removed["before"] != removed["removed"] or removed["after"]:
        raise HarvestError(f"the receipt says {removed}")
    return Erased(seconds, cpu, len(asked), removed["removed"], sum(store.indices().values()))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def _site(name: str, folder: Path, rows: int) -> Iterator[Mapping[str, str]]:
    with contextlib.ExitStack() as servers:
        environment = {
            **stack.aws_variables(servers.enter_context(stack.ministack())),
            "REDIS_URL": servers.enter_context(stack.valkey()).url,
            "S3_HARVEST_TS_BUCKET": "bench",
            "OPENCAST_TIMEZONE": "UTC",
            "PRIVACY_TOMBSTONE_KEY": "a-secret-of-sixteen-or-more",
        }
        os.environ.update(environment)
        boto3.client("s3").create_bucket(Bucket="bench")
        if name == SQLITE:
            path = folder / "documents.db"
            fill(path, rows, OF_THE_PERSON)
            yield environment | {"DOCUMENTS_URL": f"sqlite:///{path}"}
            return
        url = servers.enter_context(cluster.serve(*cluster.parse(name), optimised=True, heap="1g")).url
        client = connect(settings.load({"ES_HOST": url}))
        index_templates.load(client)
        for _ in ClusterStore(client).write(documents(rows, OF_THE_PERSON)):
            pass
        yield environment | {"ES_HOST": url}


def main() -> None:
    """Measure and print; exit with 1 if something fails, or if anything of the person is left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.erasure", description=__doc__)
    parser.add_argument(
        "--store", default=SQLITE, help="sqlite, or a server: elasticsearch-9.1.0, opensearch-3.8.0"
    )
    parser.add_argument("--rows", type=int, help="of all people")
    options = parser.parse_args()
    rows = options.rows or (ROWS if options.store == SQLITE else ROWS_IN_A_CLUSTER)
    try:
        # Not in /tmp, which may be in memory.
        with (
            tempfile.TemporaryDirectory(dir=stack.ROOT / ".cache") as folder,
            _site(options.store, Path(folder), rows) as environment,
        ):
            found = erase(settings.load(environment))
    except HarvestError as error:
        sys.exit(str(error))
    if found.left != rows - found.removed:
        sys.exit(f"{found.left:,} documents are left of {rows:,}, less {found.removed:,}: others are missing")
    share = found.deletions / found.removed
    met = found.cpu < SECONDS and share <= DELETIONS
    print(
        f"{options.store}: {found.removed:,} of {rows:,} erased in {found.seconds:.1f} s, {found.cpu:.1f} s of CPU time"
        f" (goal {SECONDS}); {share:.2f} x the least deletions (goal {DELETIONS}): {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
