"""`python -m benchmarks.stock`: what a stock Opencast costs: requests, rows and bytes, for a tick, a lost Redis, a day.

The stream, engine and ledger are the real ones, with a real Valkey and the simulator; rows are counted and thrown away
where they would be sent, for what is measured is what Opencast has to give.
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
from simulators import stack
from simulators.stack import Child
from uaharvest import assembly
from uaharvest.errors import HarvestError
from uaharvest.opencast.client import Opencast
from uaharvest.opencast.pace import Pace
from uaharvest.opencast.stock import DaySource
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.local import LocalHints
from uaharvest.runs.watermark import first
from uaharvest.runs.windows import Interval
from uaharvest.settings import Settings
from uaharvest.sinks import Delivery, Outgoing
from uaharvest.streams.stock import StockUseractions

MIDNIGHT = datetime(2026, 5, 6, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
BEFORE_MIDNIGHT = timedelta(minutes=30)  # so much of the day is left for the ticks
TICKS = 5
EVERY = 120  # seconds
QUIET, BUSY = 20_000, 500_000


class Counted:
    """A sink that takes everything and counts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.ids: collections.Counter[int | str] = collections.Counter()

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Delivery]:
        """Confirm all records."""
        taken = list(records)
        self.ids.update(row.id for row in taken)
        yield Delivery(taken)


class NoEpisodes:
    """Knows of no episode: their look-ups are not what is measured."""

    def get_many(self, mpids: Iterable[str]) -> dict[str, str]:
        """Return an empty episode for each."""
        return dict.fromkeys(mpids, "{}")

    def answers(self) -> bool:
        """Tell that it answers."""
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a harvest cost."""

    what: str
    requests: int
    rows: int
    size: int
    new: int
    sent: int
    seconds: float

    def __str__(self) -> str:
        ratio = f"{self.rows / self.new:.2f}" if self.new else "-"
        return (
            f"| {self.what} | {self.requests:,} | {self.rows:,} | {self.size / 1e6:,.2f} | {self.new:,} "
            f"| {self.sent:,} | {ratio} | {self.seconds:.1f} |"
        )


HEAD = (
    "| | requests | rows transferred | MB | new rows | sent | rows per new row | s |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


class Bench:
    """A harvester beside a simulator whose clock and rows it sets."""

    def __init__(self, valkey: Child, opencast: Child) -> None:
        """Put the parts together."""
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
        letters = assembly.dead_letters(self.settings)
        self.engine = Engine(
            StockUseractions(
                DaySource(client, self.settings.opencast_zone, Pace(self.redis, client.base_url)),
                NoEpisodes(),  # type: ignore[arg-type]
                self.sink,
                letters,
                self.settings,
            ),
            ledger=assembly.ledger(self.settings, self.redis),
            watermarks=assembly.watermarks(self.settings),
            letters=letters,
            hints=self.hints,
            settings=self.settings,
            destination="benchmark stock",
        )

    def set_clock(self, now: datetime) -> None:
        """Set Opencast's clock."""
        self._ask("clock", {"offset_seconds": now.timestamp() - time.time()})

    def add_rows(self, count: int, end: datetime) -> None:
        """Let rows appear that were made over the last EVERY seconds before `end`."""
        rows = [{"created": end.timestamp() - EVERY + EVERY * number / count} for number in range(count)]
        self._ask("rows", {"rows": rows})

    def measured(self, what: str, new: int, harvest: Interval | None = None) -> Cost:
        """Harvest what is new, or `harvest`, to the end; return what it cost."""
        self._ask("reset-requests", {})
        before, start = self.sink.ids.total(), time.monotonic()
        if harvest is None:
            while self._step():
                pass
        else:
            run = self.engine.ask(harvest, Options.of(self.settings), may_move=False)
            self.engine.advance_asked(run.id)
            self._work()
            self.engine.advance_asked(run.id)
        seconds = time.monotonic() - start
        log = requests.get(f"{self._opencast.url}/_sim/requests", timeout=60).json()["actions_log"]
        return Cost(
            what,
            len(log),
            sum(asked["rows"] for asked in log),
            sum(asked["bytes"] for asked in log),
            new,
            self.sink.ids.total() - before,
            seconds,
        )

    def known_bytes(self) -> int:
        """Return the memory that the known ids take in Redis."""
        keys = self.redis.scan_iter("uaharvest:known:*", count=1000)
        return sum(int(self.redis.memory_usage(key) or 0) for key in keys)

    def _step(self) -> bool:
        """Take one live run to its end; tell whether there was one to open."""
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
        "--quick", action="store_true", help="ticks of a day of 20,000 rows: too little to judge by"
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
    """Print the table for a day of so many rows; `history` takes two minutes more, in which a minute's end is awaited.

    Raises:
        HarvestError: A server does not come up, or a row is lost.
    """
    now = MIDNIGHT + timedelta(days=1) - BEFORE_MIDNIGHT
    span = (now - MIDNIGHT).total_seconds()
    words = ["--profile", "stock", "--order", order, "--zone", ZONE, "--user", USER, "--password", PASSWORD]
    words += ["--rows", str(rows), "--span-seconds", str(span), "--until", now.isoformat()]
    new = round(rows / span * EVERY)
    with contextlib.ExitStack() as children:
        aws = children.enter_context(stack.ministack())
        os.environ.update(stack.aws_variables(aws))
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        valkey = children.enter_context(stack.valkey())
        bench = Bench(valkey, children.enter_context(stack.opencast_simulator(*words)))
        bench.set_clock(now)
        print(f"A day of {rows:,} rows, order {order}, batches of {bench.settings.batch_size:,}.\n\n{HEAD}")
        bench.engine.store().create(first(now - timedelta(seconds=EVERY + bench.settings.lag)))
        print(bench.measured("the first tick, or the one after a loss of Redis", rows), flush=True)
        for number in range(TICKS):
            now += timedelta(seconds=EVERY)
            bench.add_rows(new, now)
            bench.set_clock(now)
            print(bench.measured(f"tick {number + 1}, two minutes later", new), flush=True)
        size, total = bench.known_bytes(), rows + TICKS * new
        if history:
            measure_history(bench, total)
        print(
            f"\nKnown ids of the day in Redis: {size:,} bytes for {total:,} ids, {size / total:.2f} bytes an id."
        )


def measure_history(bench: Bench, total: int) -> None:
    """Print what the day costs afterwards.

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
