"""`python -m benchmarks`: measures, checks that everything arrived, and prints the tables."""

import argparse
import dataclasses
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import floor, report, whole
from benchmarks.report import Case, Duration, Memory, Result
from benchmarks.site import ROWS_PER_SECOND, Site, last, site
from benchmarks.usage import peak_memory
from devservers.stack import ROOT
from uaharvest.errors import HarvestError

BATCH_SIZE = 1_000
BIG_BATCH = 10_000
# A window that yields one slice of almost BIG_BATCH rows; Opencast counts one second more.
BIG_WINDOW = int(BIG_BATCH / ROWS_PER_SECOND) - 2  # seconds
# The required share of each floor, with one event per message and with 50.
SINGLE = {"boto3": 1.2, "our own": 0.95}
PACKED = {"boto3": 0.55, "our own": 0.55}


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        window: Length of a window in seconds (HARVEST_MAX_WINDOW).
        cases: The cases to compare.
        repetitions: How often the floor, the whole pipeline and `status` are measured.
        big_windows: Number of windows of BIG_WINDOW for measuring memory.
    """

    window: int
    cases: Sequence[Case]
    repetitions: int
    big_windows: int

    @property
    def backlog(self) -> int:
        """Return the length of the backlog that this needs, in seconds."""
        return max(BIG_WINDOW * self.big_windows, self.window * max(case.windows for case in self.cases))


FULL = Scale(
    window=3600,
    cases=(Case(1, 1, 1, SINGLE), Case(2, 1, 2, SINGLE), Case(1, 50, 6, PACKED), Case(2, 50, 8, PACKED)),
    repetitions=2,
    big_windows=4,
)
QUICK = Scale(window=120, cases=(Case(2, 1, 2, SINGLE),), repetitions=1, big_windows=1)


def main() -> None:
    """Measure and print; exit with 1 if something does not start or not everything has arrived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it works; too little to judge by")
    scale = QUICK if parser.parse_args().quick else FULL
    print(
        f"{_machine()}\nUseractions from an Opencast simulator to an SQS stand-in on this machine, {BATCH_SIZE:,} "
        "to a request;\n"
        "the floor fetches the pages and sends the batches, nothing else: with boto3's client as it comes and with "
        "ours.",
        flush=True,
    )
    try:
        with site(scale.backlog) as running:
            results = [_compare(running, scale, case) for case in scale.cases]
            memory = _memory(running, scale)
            commands = {
                "status --json": _command(running, scale, "status", "--json"),
                "--help": _command(running, scale, "--help"),
            }
    except HarvestError as error:
        sys.exit(str(error))
    print(
        f"\n{report.speeds(results)}\n\n{report.shares(results)}\n\n{report.memory(memory)}\n{report.commands(commands)}"
    )
    print("Each time all useractions were in the queue at the end, each once.")
    if scale is QUICK:
        print("This was --quick: too little to judge by.")


def _machine() -> str:
    cores = os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return f"Python {platform.python_version()} · {platform.system()} {platform.machine()}, {cores} cores{load}"


def _compare(running: Site, scale: Scale, case: Case) -> Result:
    """Measure both floors and the whole pipeline alternately, so that all see the same noise."""
    stretch = last(scale.window * case.windows)
    ids = running.ids(stretch)
    slices = stretch.cut(-(-len(ids) // BATCH_SIZE))
    bodies = floor.bodies(running, stretch)
    jobs = {
        client: [
            floor.Job(
                running.opencast.url,
                slices[number :: case.workers],
                running.queue.url,
                bodies,
                case.packed,
                client,
            )
            for number in range(case.workers)
        ]
        for client in floor.CLIENTS
    }
    environment = running.environment(
        HARVEST_MAX_WINDOW=scale.window, SQS_EVENTS_PER_MESSAGE=case.packed, HARVEST_BATCH_SIZE=BATCH_SIZE
    )
    result = Result(case, {client: [] for client in jobs}, [])
    with whole.workers(case.workers, environment) as crew:
        harvest = whole.Harvest(running, crew, environment)
        harvest.measure(last(scale.window // 4))  # warms up these processes, as the floor's are
        running.empty_queue()
        for _ in range(scale.repetitions):
            for client, measured in result.floors.items():
                measured.append(floor.measure(jobs[client], running.servers))
                running.require_events(len(ids), f"floor with {client}, {case}")
            result.whole.append(harvest.measure(stretch))
            running.require_ids(ids, f"whole way, {case}")
    return result


def _memory(running: Site, scale: Scale) -> Memory:
    """Measure the peak memory of a worker whose every slice is one page of almost BIG_BATCH rows."""
    stretch = last(BIG_WINDOW * scale.big_windows)
    environment = running.environment(
        HARVEST_MAX_WINDOW=BIG_WINDOW, HARVEST_BATCH_SIZE=BIG_BATCH, SQS_EVENTS_PER_MESSAGE=50
    )
    with whole.workers(1, environment) as crew:
        whole.Harvest(running, crew, environment).measure(stretch)
        running.require_ids(running.ids(stretch), "with a batch size of 10,000")
        return Memory(BIG_BATCH, peak_memory(crew[0]))


def _command(running: Site, scale: Scale, *words: str) -> list[Duration]:
    """Measure a command of `manage.py` from its start to its end, while a worker runs."""
    environment = running.environment()
    measured = []
    with whole.workers(1, environment):
        for _ in range(scale.repetitions):
            began, used = time.monotonic(), _cpu_of_children()
            command = [sys.executable, "manage.py", *words]
            subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False, stdout=subprocess.DEVNULL)
            measured.append(Duration(time.monotonic() - began, _cpu_of_children() - used))
    return measured


def _cpu_of_children() -> float:
    """Return the seconds of CPU time that ended children have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
