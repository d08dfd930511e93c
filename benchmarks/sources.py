"""`python -m benchmarks.sources`: reads 200,000 useractions by `start`/`end`, by `day` and from the database.

It measures from the request to normalised rows, in one process; nothing is sent. The simulator's responses are
ready made: a real Opencast adds a count, a query per session and JAXB to each page; the database is a real one.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from benchmarks.site import PASSWORD, USER, ZONE
from devservers import databases, stack
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.opencast.actions import raw_action
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.source import ActionsSource, RangeSource, SlicePage
from uaharvest.opencast.sql import SqlSource, connect
from uaharvest.opencast.stock import DaySource
from uaharvest.opencast.throttle import Throttle

# All useractions are in one local day, none near midnight.
END = datetime(2026, 5, 6, 23, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
SPAN = timedelta(hours=20)
BATCHES = (1_000, 10_000)
SPARE = 0.8  # slices are cut to hold this share of a batch, as the stream does


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """How fast rows were read."""

    what: str
    requests: int
    rows: int
    seconds: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.requests:,} | {self.rows / self.seconds:,.0f} | "
            f"{self.cpu / self.rows * 1e6:.0f} |"
        )


class Anytime(Throttle):
    """Counts requests without waiting."""

    def __init__(self) -> None:
        """Start at zero."""
        self.turns = 0

    def turn(self, wait: float) -> None:  # noqa: ARG002 - Throttle has it
        """Count."""
        self.turns += 1


def main() -> None:
    """Measure and print; exit with 1 if something does not start or rows are missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sources", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="less, to see that it works")
    rows = parser.parse_args().rows
    print(f"{os.cpu_count()} processors; {rows:,} useractions of a day\n")
    print("| source | requests or statements | rows/s | CPU of the harvester, µs a row |\n|---|---|---|---|")
    try:
        with contextlib.ExitStack() as servers:
            for speed in _speeds(rows, servers):
                print(speed, flush=True)
                _require_all(speed, rows)
    except HarvestError as error:
        sys.exit(str(error))


def _require_all(speed: Speed, rows: int) -> None:
    if speed.rows != rows:
        raise HarvestError(f"{speed.what}: {speed.rows:,} of {rows:,} rows came.")


def _speeds(rows: int, servers: contextlib.ExitStack) -> Iterator[Speed]:
    zone, client = ZoneInfo(ZONE), _opencast("dce", rows, servers)
    for batch in BATCHES:
        throttle = Anytime()
        ranges = ActionsSource(client, zone, throttle)
        yield _measured(f"REST `start`/`end`, {batch:,} a request", throttle, _by_ranges(ranges, rows, batch))
    client = _opencast("stock", rows, servers)
    day = END.astimezone(zone).date()
    throttle = Anytime()
    days = DaySource(client, zone, throttle)
    yield _measured("REST `day`, all in one request", throttle, lambda: len(days.all(day).actions))
    told = [raw_action(action) for action in client.actions_of_day(day, rows).actions]
    for kind in sorted(databases.KINDS):
        if package := databases.missing(kind):
            print(f"| {kind} | not measured: Debian's {package} is not installed | | |")
            continue
        server = servers.enter_context(databases.database(kind))
        _fill(databases.engine(server), told)
        for batch in BATCHES:
            throttle = Anytime()
            engine = connect(server.url)
            servers.callback(engine.dispose)
            source = SqlSource(engine, zone, throttle, client)
            yield _measured(f"{kind}, {batch:,} a statement", throttle, _by_ranges(source, rows, batch))


def _opencast(profile: str, rows: int, servers: contextlib.ExitStack) -> Opencast:
    data = ("--rows", str(rows), "--until", END.isoformat(), "--span-seconds", str(SPAN.total_seconds()))
    login = ("--user", USER, "--password", PASSWORD)
    arguments = ("--profile", profile, "--zone", ZONE, "--order", "mariadb", *data, *login)
    return Opencast(servers.enter_context(stack.opencast_simulator(*arguments)).url, USER, PASSWORD)


def _fill(writer: sa.Engine, told: Sequence[dict[str, object]]) -> None:
    databases.create_tables(writer)
    databases.insert(writer, told)
    writer.dispose()


def _by_ranges(source: RangeSource, rows: int, batch: int) -> Callable[[], int]:
    def read() -> int:
        found = 0
        for slice_ in Interval(END - SPAN, END + timedelta(seconds=1)).cut(-(-rows // int(batch * SPARE))):
            page = source.fetch(slice_, batch)
            found += len(page.actions) if isinstance(page, SlicePage) else 0
        return found

    return read


def _measured(what: str, throttle: Anytime, read: Callable[[], int]) -> Speed:
    begin, cpu = time.perf_counter(), time.process_time()
    rows = read()
    return Speed(what, throttle.turns, rows, time.perf_counter() - begin, time.process_time() - cpu)


if __name__ == "__main__":
    main()
