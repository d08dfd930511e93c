"""`python -m benchmarks.curve`: how time and memory grow with rows, workers and a slow database.

Celery workers harvest the newest rows of a real MariaDB into a queue that only counts. For each number of rows, of
workers and each delay of the source, it measures the time, the CPU time of the workers and the peak memory of one, and
checks that each row arrived once.
"""

import argparse
import dataclasses
import itertools
import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from matplotlib.figure import Figure

from benchmarks import stand_ins, whole
from benchmarks.site import END, PASSWORD, ROWS_PER_SECOND, USER, ZONE, Site, last, site
from benchmarks.usage import peak_memory
from devservers import databases
from devservers.stack import ROOT, Child
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval
from uaharvest.opencast.client import Opencast

PAGE, PICTURE = ROOT / "docs" / "speed.md", ROOT / "docs" / "speed.png"
FIRST_ID = 10_000_000_000  # ids that the simulator, which says where episodes are, does not have
SESSIONS = 5_000
WINDOW = 21_600  # seconds, the longest; ten million rows are less than the fifty runs that the history holds
PATIENCE = 7_200  # seconds
TOLERATED = 0.10  # of the time per row
_SESSIONS = f"""
INSERT INTO oc_user_session SELECT CONCAT('node0', seq), CONCAT('200.70.', seq DIV 250, '.', seq MOD 250),
 CONCAT('Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/', 90 + seq MOD 30, '.0'), seq
FROM seq_1_to_{SESSIONS}"""  # noqa: S608 - no input
_ACTIONS = f"""
INSERT INTO oc_user_action SELECT {FIRST_ID} + seq, seq MOD 7200, seq MOD 7200, ELT(1 + seq MOD :episodes, {{mpids}}),
 CONCAT('node0', 1 + seq MOD {SESSIONS}), :end - INTERVAL (1 + FLOOR((seq - 1) / {ROWS_PER_SECOND})) SECOND, 0,
 'HEARTBEAT', 1
FROM seq_{{first}}_to_{{last}}"""  # noqa: S608 - no input
INSERTED_AT_ONCE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """A measurement: `delay` in milliseconds, `seconds` of wall clock, `cpu` in seconds, `memory` in MB."""

    rows: int
    workers: int
    delay: int
    seconds: float
    cpu: float | None
    memory: float | None


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curve", description=__doc__)
    parser.add_argument("--rows", type=_numbers, default=[100_000, 1_000_000], help="default: 100000,1000000")
    parser.add_argument("--workers", type=_numbers, default=[1, 2, 4], help="default: 1,2,4")
    parser.add_argument("--delays", type=_numbers, default=[0, 50], help="of a statement, ms; default: 0,50")
    parser.add_argument("--docs", action="store_true", help="write table and plot into docs/")
    parser.add_argument("--quick", action="store_true", help="few rows, to see that it works; writes nothing")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(rows=[1_000, 2_000], workers=[1], delays=[10], docs=False)
    if package := databases.missing("mariadb"):
        sys.exit(f"This needs Debian's {package}, which is not installed.")
    print(f"{machine()}\n")
    points = []
    try:
        for point in measure(options.rows, options.workers, options.delays):
            print(line(point), flush=True)
            points.append(point)
    except HarvestError as error:
        sys.exit(str(error))
    print(f"\n{verdict(points)}")
    if options.docs:
        _write(points)


def machine() -> str:
    """Return on what machine this was measured."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def measure(rows: Sequence[int], workers: Sequence[int], delays: Sequence[int]) -> Iterator[Point]:
    """Yield a point for each combination, the slow source last.

    Raises:
        HarvestError: A server does not start, or not everything has arrived.
    """
    with site(60) as running, databases.database("mariadb") as database:
        _fill(database, running, max(rows))
        for delay, count, number in itertools.product(delays, rows, workers):
            with stand_ins.relay(database.port or 0, delay / 1000) as relay:
                url = database.url.replace(f":{database.port}/", f":{relay.port}/") if delay else database.url
                stretch = _stretch(count).seconds
                environment = running.environment(
                    OPENCAST_DATABASE_URL=url,
                    # The last run must end with the rows: it would wait for empty slices after them.
                    HARVEST_MAX_WINDOW=math.ceil(stretch / math.ceil(stretch / WINDOW)),
                    SQS_EVENTS_PER_MESSAGE=50,
                )
                yield _point(running, environment, Point(count, number, delay, 0, None, None))


def _point(running: Site, environment: dict[str, str], point: Point) -> Point:
    with whole.workers(point.workers, environment) as crew:
        harvest = whole.Harvest(running, crew, environment, patience=PATIENCE)
        harvest.measure(_stretch(1_000))  # warms up
        running.empty_queue()
        measured = harvest.measure(_stretch(point.rows))
        memory = [peak for worker in crew if (peak := peak_memory(worker)) is not None]
    newest = range(FIRST_ID + 1, FIRST_ID + 1 + point.rows)
    running.require_ids(newest, "the curve")
    return dataclasses.replace(point, seconds=measured.seconds, cpu=measured.cpu, memory=max(memory, default=None))


def _stretch(rows: int) -> Interval:
    return last(int(rows / ROWS_PER_SECOND))


def _fill(database: Child, running: Site, rows: int) -> None:
    """Store rows up to END, the newest with the lowest ids: so those of any stretch are known."""
    opencast = Opencast(running.opencast.url, USER, PASSWORD)
    zone = ZoneInfo(ZONE)
    page = opencast.actions((END - timedelta(minutes=1)).astimezone(zone), END.astimezone(zone), 1_000)
    mpids = sorted({action.mpid for action in page.actions if action.mpid})
    writer = databases.engine(database)
    databases.create_tables(writer)
    names = ", ".join(f"'{mpid}'" for mpid in mpids)
    parameters = {"episodes": len(mpids), "end": END.astimezone(zone).replace(tzinfo=None)}
    with writer.connect() as connection:
        connection.execute(sa.text(_SESSIONS))
        for first in range(1, rows + 1, INSERTED_AT_ONCE):
            text = _ACTIONS.format(mpids=names, first=first, last=min(rows, first + INSERTED_AT_ONCE - 1))
            connection.execute(sa.text(text), parameters)
            connection.commit()
    writer.dispose()


def line(point: Point) -> str:
    """Return a point as a line of the table."""
    cpu = "-" if point.cpu is None else f"{point.cpu / point.rows * 1e6:.1f}"
    memory = "-" if point.memory is None else f"{point.memory:.0f}"
    return (
        f"| {point.delay} | {point.rows:,} | {point.workers} | {point.seconds:,.1f} | "
        f"{point.rows / point.seconds:,.0f} | {cpu} | {memory} |"
    )


HEAD = (
    "| delay at the source, ms | rows | workers | s | rows/s | CPU of the workers, µs a row | peak memory, MB |\n"
    "|---:|---:|---:|---:|---:|---:|---:|"
)


def verdict(points: Sequence[Point]) -> str:
    """Return how far time per row and memory differ between the fewest and the most rows, and what workers gain."""
    said = []
    series = itertools.groupby(
        sorted(points, key=lambda one: (one.delay, one.workers, one.rows)), lambda one: (one.delay, one.workers)
    )
    alone: dict[int, float] = {}
    for (delay, workers), group in series:
        fewest, *_, most = [*group] * 2
        per_row = [one.seconds / one.rows for one in (fewest, most)]
        alone.setdefault(delay, per_row[1] * workers)
        change = per_row[1] / per_row[0] - 1
        memory = "-" if fewest.memory is None or most.memory is None else f"{most.memory - fewest.memory:+.0f} MB"
        said.append(
            f"- {delay} ms, {workers} {'worker' if workers == 1 else 'workers'}: {change:+.0%} time a row and {memory}"
            f" from {fewest.rows:,} to {most.rows:,} rows; {alone[delay] / per_row[1]:.1f} times as fast as one"
            f" worker{'' if change <= TOLERATED else '; **not linear within 10 %**'}"
        )
    return "\n".join(said)


def plot(points: Sequence[Point], path: Path) -> None:
    """Write a picture: seconds and memory by rows, with a line for each number of workers and each delay."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for (delay, workers), group in itertools.groupby(
        sorted(points, key=lambda one: (one.delay, one.workers, one.rows)),
        lambda one: (one.delay, one.workers),
    ):
        series = list(group)
        rows = [one.rows for one in series]
        style = {"marker": "o", "linestyle": "--" if delay else "-", "color": f"C{workers}"}
        time.plot(rows, [one.seconds for one in series], label=f"workers {workers}, {delay} ms", **style)
        memory.plot(rows, [one.memory or 0 for one in series], **style)
    for axes, what in ((time, "seconds"), (memory, "MB, peak of a worker")):
        axes.set(xscale="log", xlabel="rows", ylabel=what)
        axes.grid(visible=True, alpha=0.3)
    time.set_yscale("log")
    memory.set_ylim(bottom=0, top=1.25 * max(one.memory or 1 for one in points))
    figure.legend(fontsize="small", loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _write(points: Sequence[Point]) -> None:
    table = "\n".join([HEAD, *map(line, points)])
    made = f"<!-- curve -->\n{machine()}:\n\n{table}\n\n{verdict(points)}\n<!-- /curve -->"
    text = PAGE.read_text()
    PAGE.write_text(re.sub(r"<!-- curve -->.*<!-- /curve -->", lambda _: made, text, flags=re.DOTALL))
    plot(points, PICTURE)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
