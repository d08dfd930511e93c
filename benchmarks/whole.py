"""The whole pipeline: real Celery workers, from the message that triggers `advance` to the committed watermark."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.report import Measurement
from benchmarks.site import Site
from benchmarks.usage import Meter
from devservers import stack
from devservers.stack import Child
from uaharvest import assembly, keys, settings
from uaharvest.errors import HarvestError
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.ledger import EndedRun
from uaharvest.runs.watermark import first
from uaharvest.s3_object import ChangedError

PATIENCE = 300  # seconds
POLL = 0.05  # seconds


@contextlib.contextmanager
def workers(count: int, environment: Mapping[str, str]) -> Iterator[Sequence[Child]]:
    """Start workers with one process each, all at once; they end with the block."""

    def start(number: int) -> Child:
        return stack.celery("worker", "-c", "1", "-n", f"worker{number}@%h", environment=environment)

    with contextlib.ExitStack() as children, ThreadPoolExecutor(count) as starters:
        crew = [children.enter_context(worker) for worker in starters.map(start, range(count))]
        yield crew
        for worker in crew:
            worker.kill()  # they are idle by now, and stopping takes 2 s each


class Harvest:
    """Lets workers harvest stretches of the backlog, each as if it had never been harvested."""

    def __init__(
        self, site: Site, crew: Sequence[Child], environment: Mapping[str, str], *, patience: float = PATIENCE
    ) -> None:
        """Use `crew`, workers that were started with `environment`; a harvest may take `patience` seconds."""
        # Imported here, because tasks reads the settings on import: the environment must have the broker's URL by
        # then.
        from tasks.streams import TASKS  # noqa: PLC0415

        harvest = settings.load(environment)
        self._ask = TASKS["useractions"].advance.delay
        self._site = site
        self._patience = patience
        self._crew = {str(number): worker for number, worker in enumerate(crew)}
        self._redis = assembly.redis_client(harvest)
        self._state = assembly.state(harvest, self._redis)
        self._watermarks = assembly.watermarks(harvest)

    def measure(self, stretch: Interval) -> Measurement:
        """Harvest `stretch`, which ends where the backlog does, with an empty cache of episodes.

        Raises:
            HarvestError: The harvest is stuck or does not end.
        """
        for key in self._redis.scan_iter(f"{keys.PREFIX}episode:*"):
            self._redis.delete(key)
        while True:
            self._watermarks.delete()
            try:
                self._watermarks.create(first(stretch.start))
            except ChangedError:  # a task that the last crew left began anew in between
                continue
            break
        self._site.set_clock()
        before = {run.id for run in self._state.history()}
        crew, servers = Meter(self._crew), Meter(self._site.servers)
        began = time.monotonic()
        self._ask()
        end = whole_second(stretch.end)
        runs = self._wait(lambda run: run.end >= end, before)
        seconds = time.monotonic() - began
        used, beside = crew.read().values(), servers.read()
        # Opencast's clock is a little past the end: after one last small window, the workers are idle.
        self._wait(lambda run: run.end > end, before)
        cpu = None if None in used else sum(one for one in used if one is not None)
        return Measurement(sum(run.delivered for run in runs), seconds, cpu, beside)

    def _wait(self, is_last: Callable[[EndedRun], bool], before: set[str]) -> list[EndedRun]:
        """Wait for the last run to end; return all that have ended since `before`."""
        patience = time.monotonic() + self._patience
        while True:
            runs = [run for run in self._state.history() if run.id not in before]
            if any(is_last(run) and run.outcome == "done" for run in runs):
                return runs
            if blocked := self._state.blocked():
                raise HarvestError(f"the harvest stands still: {blocked.reason}")
            if time.monotonic() > patience:
                raise HarvestError(f"the harvest did not come to its end within {self._patience} s")
            time.sleep(POLL)
