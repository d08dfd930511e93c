"""`python -m benchmarks.stock`: requests, rows and bytes that a harvest costs a stock Opencast.

It measures a tick, the loss of Redis, and a day. "Rows read" are those that MariaDB reads, as the simulator counts
them (tests/simulators/opencast/test_costs.py compares that with a real one).

The stream, engine and ledger are the real ones, with a real Valkey and the simulator. Rows are counted and
discarded instead of sent, because only the load on Opencast is measured.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import boto3
import requests
import structlog

from benchmarks.site import BUCKET, PASSWORD, USER, ZONE
from devservers import stack
from devservers.stack import Child
from uaharvest import assembly
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.stock import DaySource
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.engine import Engine
from uaharvest.runs.local import LocalHints
from uaharvest.runs.policy import Policy
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing, Receipt
from uaharvest.streams.stock import StockUseractions

MIDNIGHT = datetime(2026, 5, 6, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
BEFORE_MIDNIGHT = timedelta(minutes=30)  # the part of the day left for the ticks
TICKS = 5
EVERY = 120  # seconds
DAYS = 6  # days covered by the table's rows
QUIET, BUSY = 20_000, 1_000_000  # rows in the table
NEW = 700  # new rows per tick in the busy table
ASKED = 60  # clock requests before each tick
LATE = 9  # rows that appear ten minutes late


class Counted:
    """A sink that accepts and counts everything."""

    def __init__(self) -> None:
        """Start at zero."""
        self.ids: collections.Counter[int | str] = collections.Counter()

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Receipt[Outgoing]]:
        """Confirm all records."""
        taken = list(records)
        self.ids.update(row.id for row in taken)
        yield Receipt(taken)


class NoEpisodes:
    """Knows no episodes, because their look-ups are not measured."""

    def get_many(self, mpids: Iterable[str]) -> dict[str, str]:
        """Return an empty episode for each id."""
        return dict.fromkeys(mpids, "{}")

    def answers(self) -> bool:
        """Return that it answers."""
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a harvest."""

    what: str
    requests: int
    rows: int
    read: int
    size: int
    new: int
    sent: int
    seconds: float

    def __str__(self) -> str:
        ratio = f"{self.rows / self.new:.2f}" if self.new else "-"
        return (
            f"| {self.what} | {self.requests:,} | {self.rows:,} | {self.read:,} | {self.size / 1e6:,.2f} "
            f"| {self.new:,} | {self.sent:,} | {ratio} | {self.seconds:.1f} |"
        )


HEAD = (
    "| | requests | rows transferred | rows read | MB | new rows | sent | rows per new row | s |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


class Bench:
    """A harvester beside a simulator whose clock and rows it sets."""

    def __init__(self, valkey: Child, opencast: Child) -> None:
        """Assemble the parts."""
        self._opencast = opencast
        self.settings = Settings(
            engage_url=f"{opencast.url}/",
            opencast_zone=ZoneInfo(ZONE),
            bucket=BUCKET,
            redis_url=valkey.url,
            max_window=3600,
        )
        self.redis = assembly.redis_client(self.settings)
        self.sink = Counted()
        self.hints = LocalHints()
        client = Opencast(self.settings.engage_url or "", USER, PASSWORD)
        dead_letters = assembly.dead_letters(self.settings)
        self._source = DaySource(client, self.settings.opencast_zone, Throttle(self.redis, client.base_url))
        self.engine = Engine(
            StockUseractions(
                self._source,
                NoEpisodes(),  # type: ignore[arg-type]
                self.sink,
                dead_letters,
                self.settings,
            ),
            client=self.redis,
            ledger=assembly.ledger(self.settings, self.redis),
            watermarks=assembly.watermarks(self.settings),
            dead_letters=dead_letters,
            hints=self.hints,
            settings=self.settings,
            policy=Policy.of(self.settings),
            destination="benchmark stock",
        )

    def set_clock(self, now: datetime) -> None:
        """Set Opencast's clock, and make it known as precisely as to a worker that has run for some time."""
        self._ask("clock", {"offset_seconds": now.timestamp() - time.time()})
        for _ in range(ASKED):
            self._source.now()
            time.sleep(0.037)

    def add_rows(self, count: int, end: datetime) -> None:
        """Add rows created during the EVERY seconds before `end`."""
        self.add_at([end.timestamp() - EVERY + EVERY * number / count for number in range(count)])

    def add_at(self, instants: Iterable[float]) -> None:
        """Add rows created at these instants (epoch seconds)."""
        self._ask("rows", {"rows": [{"created": instant} for instant in instants]})

    def measured(self, what: str, new: int, harvest: Interval | None = None) -> Cost:
        """Harvest what is new, or the interval `harvest`, to the end; return the cost."""
        self._ask("reset-requests", {})
        before, start = self.sink.ids.total(), time.monotonic()
        if harvest is None:
            while self._step():
                pass
        else:
            run = self.engine.ask(harvest, self.engine.usual_options, may_move=False)
            self.engine.advance_explicit(run.id)
            self._work()
            self.engine.advance_explicit(run.id)
        seconds = time.monotonic() - start
        log = requests.get(f"{self._opencast.url}/_sim/requests", timeout=60).json()["actions_log"]
        return Cost(
            what,
            len(log),
            sum(asked["rows"] for asked in log),
            sum(asked["read"] for asked in log),
            sum(asked["bytes"] for asked in log),
            new,
            self.sink.ids.total() - before,
            seconds,
        )

    def known_bytes(self) -> int:
        """Return the memory that known ids use in Redis."""
        keys = self.redis.scan_iter("uaharvest:known:*", count=1000)
        return sum(int(self.redis.memory_usage(key) or 0) for key in keys)

    def _step(self) -> bool:
        """Complete one live run; tell whether there was one to open."""
        before = self.engine.store().read()
        self.engine.advance()
        self._work()
        self.engine.advance()
        return before != self.engine.store().read() and bool(self.hints.waiting)

    def _work(self) -> None:
        while self.hints.waiting:
            self.engine.work(*self.hints.waiting.popleft())

    def _ask(self, control: str, body: dict[str, object]) -> None:
        requests.post(f"{self._opencast.url}/_sim/{control}", json=body, timeout=300).raise_for_status()


def main() -> None:
    """Measure and print; exit with 1 if a row is lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stock", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="ticks of a table of 20,000 rows: too little to judge by"
    )
    parser.add_argument("--order", default="mariadb", help="physical order of the simulator's rows")
    asked = parser.parse_args()
    rows = QUIET if asked.quick else BUSY
    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    try:
        measure(rows, asked.order, history=not asked.quick)
    except HarvestError as error:
        sys.exit(str(error))


def measure(rows: int, order: str, *, history: bool) -> None:
    """Print the table for a day of `rows` rows; `history` adds two minutes, because it waits for a minute to end.

    Raises:
        HarvestError: A server does not start, or a row is lost.
    """
    now = MIDNIGHT + timedelta(days=1) - BEFORE_MIDNIGHT
    span = (now - MIDNIGHT).total_seconds()
    table = span + (DAYS - 1) * 86_400 if rows == BUSY else span
    words = ["--profile", "stock", "--order", order, "--zone", ZONE, "--user", USER, "--password", PASSWORD]
    words += ["--rows", str(rows), "--span-seconds", str(table), "--until", now.isoformat()]
    of_day = round(rows * span / table)
    new = NEW if rows == BUSY else round(of_day / span * EVERY)
    with contextlib.ExitStack() as children:
        aws = children.enter_context(stack.ministack())
        os.environ.update(stack.aws_variables(aws))
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        valkey = children.enter_context(stack.valkey())
        bench = Bench(valkey, children.enter_context(stack.opencast_simulator(*words)))
        bench.set_clock(now)
        size = bench.settings.batch_size
        print(f"A table of {rows:,} rows, {of_day:,} of the day, order {order}, batches of {size:,}.\n\n{HEAD}")
        bench.engine.store().create(first(now - timedelta(seconds=EVERY + bench.settings.lag)))
        print(bench.measured("the first tick, or the one after a loss of Redis", of_day), flush=True)
        for number in range(TICKS):
            now += timedelta(seconds=EVERY)
            bench.add_rows(new, now)
            bench.set_clock(now)
            print(bench.measured(f"tick {number + 1}, two minutes later", new), flush=True)
        now += timedelta(seconds=EVERY)
        bench.set_clock(now)
        print(bench.measured("a quiet tick, nothing is new", 0), flush=True)
        now += timedelta(seconds=EVERY)
        bench.set_clock(now)
        bench.add_at([now.timestamp() - 600 + number for number in range(LATE)])
        print(bench.measured("a tick with late rows only", LATE), flush=True)
        known, total = bench.known_bytes(), of_day + TICKS * new + LATE
        if history:
            measure_history(bench, total)
        print(
            f"\nKnown ids of the day in Redis: {known:,} bytes for {total:,} ids, {known / total:.2f} bytes an id."
        )


def measure_history(bench: Bench, total: int) -> None:
    """Print what harvesting the day afterwards costs.

    Raises:
        HarvestError: A row is lost.
    """
    day = Interval(MIDNIGHT, MIDNIGHT + timedelta(days=1))
    bench.set_clock(day.end + timedelta(hours=12))
    bench.redis.flushall()
    bench.sink.ids.clear()
    print(bench.measured("the whole day, as history", total, day), flush=True)
    lost = total - len(bench.sink.ids)
    if lost:
        raise HarvestError(f"{lost:,} rows are lost. This is a defect: please report it.")
    bench.redis.flushall()
    bench.engine.store().move(MIDNIGHT)
    print(bench.measured("the same day, live: a day's outage", total), flush=True)


if __name__ == "__main__":
    main()
