"""The whole way: real Celery workers, from the message that asks for `advance` to the committed watermark."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.report import Measurement
from benchmarks.site import Site
from benchmarks.usage import Meter
from simulators import stack
from simulators.stack import Child
from uaharvest import assembly, settings
from uaharvest.errors import HarvestError
from uaharvest.runs.watermark import first
from uaharvest.runs.windows import Interval

PATIENCE = 300  # seconds
POLL = 0.05  # seconds


@contextlib.contextmanager
def workers(count: int, environment: Mapping[str, str]) -> Iterator[Sequence[Child]]:
    """Start workers with one process each, at once; they end with the block."""

    def start(number: int) -> Child:
        return stack.celery("worker", "-c", "1", "-n", f"worker{number}@%h", environment=environment)

    with contextlib.ExitStack() as children, ThreadPoolExecutor(count) as starters:
        crew = [children.enter_context(worker) for worker in starters.map(start, range(count))]
        yield crew
        for worker in crew:
            worker.kill()  # they have nothing in hand by now, and to ask them takes 2 s each


class Harvest:
    """Lets workers harvest stretches of the backlog, each as if nobody had ever harvested it."""

    def __init__(self, site: Site, crew: Sequence[Child], environment: Mapping[str, str]) -> None:
        """Take `crew`, workers that were started with `environment`."""
        # Here, because tasks reads the settings as it is imported: the broker's URL must be in the environment by then.
        from tasks.useractions import advance  # noqa: PLC0415

        harvest = settings.load(environment)
        self._ask = advance.delay
        self._site = site
        self._crew = {str(number): worker for number, worker in enumerate(crew)}
        self._ledger = assembly.ledger(harvest)
        self._watermarks = assembly.watermarks(harvest)

    def measure(self, stretch: Interval) -> Measurement:
        """Harvest `stretch`, which ends where the backlog does, with an empty cache of episodes.

        Raises:
            HarvestError: The harvest stands still, or does not come to an end.
        """
        for key in self._ledger.redis.scan_iter("uaharvest:episode:*"):
            self._ledger.redis.delete(key)
        self._watermarks.delete()
        self._watermarks.create(first(stretch.start))
        self._site.set_clock()
        before = {run["id"] for run in self._ledger.history()}
        crew, servers = Meter(self._crew), Meter(self._site.servers)
        began = time.monotonic()
        self._ask()
        end = f"{stretch.end:%FT%TZ}"
        runs = self._wait(lambda run: run["end"] >= end, before)
        seconds = time.monotonic() - began
        used, beside = crew.read().values(), servers.read()
        # Opencast's clock stands a little after the end: there is a last small window, then the workers rest.
        self._wait(lambda run: run["end"] > end, before)
        cpu = None if None in used else sum(one for one in used if one is not None)
        return Measurement(sum(run["delivered"] for run in runs), seconds, cpu, beside)

    def _wait(self, is_last: Callable[[Mapping[str, Any]], bool], before: set[str]) -> list[dict[str, Any]]:
        """Wait for the end of a run; return all that have ended since `before`."""
        patience = time.monotonic() + PATIENCE
        while True:
            runs = [run for run in self._ledger.history() if run["id"] not in before]
            if any(is_last(run) and run["outcome"] == "done" for run in runs):
                return runs
            if blocked := self._ledger.blocked():
                raise HarvestError(f"the harvest stands still: {blocked['reason']}")
            if time.monotonic() > patience:
                raise HarvestError(f"the harvest did not come to its end within {PATIENCE} s")
            time.sleep(POLL)
