"""One run: starts a site, breaks it, waits until it has recovered, and collects what came of it."""

import concurrent.futures
import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import redis

from chaos import leaks
from chaos.breaker import Breaker
from chaos.ledger import AppendOnlyFile, Ledger
from chaos.observer import Observer, dead_ids
from chaos.record import Record
from chaos.schedule import Scale, schedule
from chaos.site import LEASE, TICK, Site, document_ids, site
from chaos.verdict import Verdict, judge
from devservers.stack import ROOT
from uaharvest import assembly
from uaharvest.errors import HarvestError

STARTED_SECONDS = 60  # within which the first watermark must be there
SETTLED_SECONDS = 90  # within which all must be delivered and closed after the last fault
HISTORY_ROWS_PER_SECOND = 12
BACKFILL_SHARE = 0.7  # of the time of the faults, which the backfill takes
WELL = {0, 5, 6}  # exit codes of `status` that say: nothing stands still
FINE = "done"
PERIOD = 0.9 * TICK  # seconds between two ticks of one beat, at least
LOGS = ROOT / ".cache" / "chaos"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        seed: Its seed.
        verdict: What is wrong.
        record: What happened.
        kills, losses: How many faults of these kinds there were.
        seconds: How long it took.
    """

    seed: int
    verdict: Verdict
    record: Record
    kills: int
    losses: int
    seconds: float


class _Run:
    def __init__(self, running: Site, observer: Observer, say: Callable[[str], None]) -> None:
        self._site = running
        self._observer = observer
        self._say = say
        self._settings = running.settings
        self._marks = assembly.watermarks(running.settings)
        self._ledger = assembly.ledger(running.settings, running.redis)
        self.complaints: list[str] = []

    def prepare(self, rate: int) -> None:
        """Wait for the first watermark, and start the backfill of the history.

        Raises:
            HarvestError: One of them does not begin.
        """
        if not self.until(self._marks.read, STARTED_SECONDS):
            raise HarvestError(f"No watermark within {STARTED_SECONDS} s. {self._logs()}")
        start, end = self._site.history
        bounds = ("--start", f"{start:%FT%TZ}", "--end", f"{end:%FT%TZ}")
        done = self._site.manage("backfill", "useractions", *bounds, "--rate", str(rate), "--detach")
        if done.code:
            raise HarvestError(f"The backfill does not begin: {done.output[-500:]}")

    def recovered(self) -> tuple[int | None, float]:
        """Wait until the watermark moves; return how many ticks brought nothing until then, and how long it took.

        A tick brought something if slices were completed since the tick before. So the number, unlike the time, does
        not depend on how much there was to do and how busy the machine is. It is None if the watermark never moves.
        Two beats tick by turns: what comes less than a period after a tick belongs to it.
        """
        state, began, stored = (
            assembly.state(self._settings, self._site.redis),
            time.monotonic(),
            self._marks.read(),
        )
        tick, progress = state.ticked_at(), self._ledger.progress()
        idle = 0

        def moved() -> bool:
            nonlocal tick, progress, idle
            newest = state.ticked_at()
            if newest and (not tick or (newest - tick).total_seconds() >= PERIOD):
                idle += self._ledger.progress() == progress
                tick, progress = newest, self._ledger.progress()
            return self._marks.read() != stored

        found = self.until(moved, SETTLED_SECONDS)
        return (idle if found else None), time.monotonic() - began

    def settle(self) -> list[str]:
        """Wait until nothing is left to do; return what is stuck."""
        if not self.until(lambda: not self._undelivered(), SETTLED_SECONDS):
            self._say(f"          still missing: {sorted(self._undelivered())[:10]}")
        self.until(lambda: not self._open_backfills(), SETTLED_SECONDS)
        status = self._site.manage("status")
        if status.code not in WELL:
            self.complaints.append(f"status: exit code {status.code}: {status.output[-400:]}")
        for beat in self._site.beats.values():
            beat.stop()
        next_tick = time.monotonic() + TICK

        def closed() -> bool:
            nonlocal next_tick
            if time.monotonic() > next_tick:
                self._site.tick()
                next_tick = time.monotonic() + TICK
            return self._ledger.live() is None and not self._ledger.explicit()

        self.until(closed, SETTLED_SECONDS)
        stuck = [f"run {run.id} of {run.kind}, {run.outstanding} slices" for run in [self._ledger.live()] if run]
        stuck += [f"run {run_id}, which was asked for" for run_id in self._ledger.explicit()]
        return stuck + [f"backfill {one}" for one in self._open_backfills()]

    def finish(self) -> int:
        """Replay dead letters, index what waits, audit the history; return how many dead letters there were."""
        dead = assembly.dead_letters(self._settings).count("useractions")
        if dead:
            self._must("dead-letters", "replay", "--all")
        self.until(self._indexed, SETTLED_SECONDS)
        day = f"{self._site.history[0]:%F}"
        self._must("audit", "--start", day, "--end", day)
        return dead

    def source(self) -> set[int]:
        """Return the ids of all rows that must have been delivered."""
        stored = self._marks.read()
        live = self._site.truth(stored.mark.floor, stored.mark.at) if stored else set()
        return live | self._site.truth(*self._site.history)

    def leaked(self) -> list[str]:
        """Return the keys that should not be in Redis."""
        return [*leaks.unlisted_keys(self._site.redis), *leaks.keys_of_ended_runs(self._site.redis, set())]

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until `condition` holds; return whether it did in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return True
            except (redis.RedisError, HarvestError):
                pass
            time.sleep(0.1)
        return False

    def _undelivered(self) -> set[int]:
        missing = self.source() - {delivery.id for delivery in self._observer.deliveries}
        return missing - dead_ids(self._site) if missing else missing

    def _open_backfills(self) -> list[str]:
        stored = assembly.backfills(self._settings, "useractions").read()
        return [f"{one.id}: {one.state}" for one in stored.values() if one.state != FINE]

    def _indexed(self) -> bool:
        self._must("run", "index")
        return self.source() <= document_ids(self._settings)

    def _must(self, *arguments: str) -> None:
        done = self._site.manage(*arguments)
        if done.code:
            self.complaints.append(f"manage.py {' '.join(arguments)} ended with {done.code}: {done.output[-400:]}")

    def _logs(self) -> str:
        return " | ".join(worker.output[-500:] for worker in self._site.workers.values())


def _keep_logs(running: Site, folder: Path) -> None:
    """Copy the output of all workers and beats, from their first start on, to a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, child in {**running.workers, **running.beats}.items():
        shutil.copy(child.directory / "log", folder / f"{name}.log")


def run(seed: int, scale: Scale, documents: str, say: Callable[[str], None]) -> Outcome:
    """Run a seed.

    Args:
        seed: Chooses the faults.
        scale: How many there are.
        documents: As in `devservers.site.started`.
        say: Called with a line for each fault.

    Raises:
        HarvestError: A server does not start.
    """
    began = time.monotonic()
    faults = schedule(seed, scale)
    observer = Observer()
    rows = int(scale.seconds * HISTORY_ROWS_PER_SECOND)
    with contextlib.ExitStack() as resources:
        running = resources.enter_context(site(documents, rows, observer, say))
        this = _Run(running, observer, say)
        threads = resources.enter_context(concurrent.futures.ThreadPoolExecutor(2))
        watching = threads.submit(observer.run, running)
        ledger = Ledger(AppendOnlyFile(running.valkey.directory / "data"), lambda: observer.now)
        following = threads.submit(ledger.follow)
        try:
            this.prepare(max(1, round(HISTORY_ROWS_PER_SECOND / BACKFILL_SHARE)))
            breaker = Breaker(running, observer, ledger, faults, say)
            breaker.run()
            ticks, recovery = this.recovered()
            breaker.say("the watermark moves")
            stuck = this.settle()
            dead = this.finish()
            breaker.say("all is looked at")
        finally:
            observer.stop()
            ledger.stop()
        watching.result()
        following.result()
        source = this.source()
        record = Record(
            source=frozenset(source),
            late=frozenset(observer.late_ids(running)),
            indexed=document_ids(running.settings),
            deliveries=tuple(observer.deliveries),
            faults=(*breaker.happened, *observer.pauses),
            known=ledger.known,
            taken=ledger.taken(),
            ahead=tuple(observer.ahead),
            marks=observer.marks,
            seen=observer.seen,
            stuck=stuck,
            leaked=this.leaked(),
            complaints=(*breaker.complaints, *this.complaints),
            ticks=ticks,
            recovery=recovery,
            dead_letters=dead,
        )
        _keep_logs(running, LOGS / f"seed-{seed}")
    verdict = judge(record, lease=LEASE)
    return Outcome(seed, verdict, record, breaker.kills, breaker.losses, time.monotonic() - began)
