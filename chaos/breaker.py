"""Does the faults of a schedule to a site, and notes when each happened."""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import redis
import requests

from chaos import site as sites
from chaos.ledger import Ledger
from chaos.observer import Observer
from chaos.record import Happened
from chaos.schedule import REDIS, TRAP_SECONDS, Fault
from chaos.site import INDEX_SECONDS, LAG, Site
from devservers.answers import ANSWERS
from devservers.proxy import Call, Reply
from devservers.stack import Child

READY_SECONDS = 60  # within which all processes must run again
POOL_CHILD_PERCENT = 40  # of the kills of a worker hit its pool process alone
YOUNGEST, OLDEST = LAG + 2.0, 50.0  # age of rows that appear late, seconds
FARTHEST = 6.0  # seconds that the source's clock may be off
AUDITED = {0, 1, 4, 6}  # exit codes of an audit while everything breaks: well, a service is down, blocked, gaps


class _Trap:
    """A fault that waits for its moment."""

    def __init__(self, fault: Fault, number: int) -> None:
        self.fault = fault
        self.number = number
        self.sprung = threading.Event()
        self.done = threading.Event()


class Breaker:
    """Breaks one site.

    Attributes:
        happened: What happened so far.
        complaints: What commands said that should not have.
        kills: How many processes were killed.
        losses: How often Redis lost data.
    """

    def __init__(
        self,
        site: Site,
        observer: Observer,
        ledger: Ledger,
        faults: Sequence[Fault],
        say: Callable[[str], None],
    ) -> None:
        self._site = site
        self._observer = observer
        self._ledger = ledger
        self._faults = faults
        self._say = say
        self._folder = site.valkey.directory / "snapshots"
        self._lock = threading.Lock()
        self._redis_lock = threading.Lock()
        self._traps: list[_Trap] = []
        self._offset = self._began = 0.0
        self._snapshots: dict[int, float] = {}
        self.complaints: list[str] = []
        self.happened: list[Happened] = []
        self.kills = self.losses = 0
        observer.heard = self._heard

    def say(self, line: str) -> None:
        """Print a line with the time since the first fault could happen, as in the schedule."""
        self._say(f"{self._observer.now - self._began:6.1f} s  {line}")

    def run(self) -> None:
        """Do all faults; return when the last is over and all processes run again."""
        self._began = began = self._observer.now
        over = threading.Event()
        threads = [threading.Thread(target=self._index, args=[over])]
        threads[0].start()
        for at, act in self._timeline():
            time.sleep(max(0.0, began + at - self._observer.now))
            thread = threading.Thread(target=self._guarded, args=[act])
            thread.start()
            threads.append(thread)
        over.set()
        for thread in threads:
            thread.join()
        self._recover()
        self.say("no more faults, and all processes run")

    def _index(self, over: threading.Event) -> None:
        while not over.wait(INDEX_SECONDS / 2):
            self._site.index()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (requests.RequestException, redis.RedisError) as error:  # what is broken already breaks no further
            self.say(f"(a fault met another that lasts: {type(error).__name__})")

    def _timeline(self) -> Sequence[tuple[float, Callable[[], None]]]:
        """Return what is to be done and when, in order."""
        timeline: list[tuple[float, Callable[[], None]]] = []
        for number, fault in enumerate(self._faults):
            timeline.append((fault.at, functools.partial(self._begin, fault, number)))
            if fault.kind == "roll back":
                timeline.append((fault.at - fault.seconds, functools.partial(self._snapshot, number)))
        return sorted(timeline, key=lambda entry: entry[0])

    def _begin(self, fault: Fault, number: int) -> None:
        if fault.moment:
            trap = _Trap(fault, number)
            with self._lock:
                self._traps.append(trap)
            if trap.sprung.wait(TRAP_SECONDS):
                trap.done.wait(READY_SECONDS)
                return
            with self._lock:
                if trap not in self._traps:
                    return
                self._traps.remove(trap)
        self._act(fault, number, fault.target)

    def _heard(self, moment: str, by: str) -> bool:
        """Spring a trap for this moment, while the call that is under way waits; return whether there was one."""
        with self._lock:
            found = [trap for trap in self._traps if trap.fault.moment == moment]
            found = [trap for trap in found if trap.fault.target == REDIS or by in self._site.workers][:1]
            for trap in found:
                self._traps.remove(trap)
        for trap in found:
            trap.sprung.set()
            target = REDIS if trap.fault.target == REDIS else by
            self._act(trap.fault, trap.number, target)
            trap.done.set()
        return bool(found)

    def _act(self, fault: Fault, number: int, target: str) -> None:
        begin = self._observer.now
        self.say(fault.words.replace(fault.target, target, 1))
        back_to = 0.0
        match fault.kind:
            case "kill":
                self._kill(target, fault.dice)
            case "terminate":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._site.child(target).pid, signal.SIGTERM)
            case "stop":
                group = sites.freeze(self._site.child(target))
                time.sleep(fault.seconds)
                sites.thaw(group)
            case "restart" | "lose" | "roll back":
                back_to = self._restart(fault.kind, number)
            case "disconnect":
                with contextlib.suppress(redis.RedisError):
                    self._site.redis.client_kill_filter(_type="normal", skipme=True)
            case "answer":
                self._answer(fault)
            case "step":
                self._step(fault.seconds)
            case "insert" | "grow" | "delete":
                getattr(self, f"_{fault.kind}")(Random(fault.dice), fault.amount)
            case "audit":
                self._audit()
        with self._lock:
            self.happened.append(Happened(fault.kind, target, begin, self._observer.now, back_to))

    def _kill(self, target: str, dice: int) -> None:
        child = self._site.child(target)
        children = sites.pool_children(child) if dice < POOL_CHILD_PERCENT and target in self._site.workers else []
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not children:
            child.kill()
        self.kills += 1

    def _snapshot(self, number: int) -> None:
        with self._redis_lock:
            sites.snapshot(self._site.valkey, self._folder / str(number))
            self._snapshots[number] = self._observer.now

    def _restart(self, kind: str, number: int) -> float:
        """Kill Redis and start it again; return when the snapshot was made that it goes back to, if it does."""
        valkey = self._site.valkey
        with self._redis_lock:
            valkey.kill()
            self._ledger.catch_up()  # so that what is lost was noted before, and nothing else was
            if kind == "lose":
                valkey.forget()
            elif kind == "roll back":
                sites.restore(valkey, self._folder / str(number))
            valkey.start()
        self.kills += kind == "restart"
        self.losses += kind != "restart"
        return self._snapshots.get(number, 0.0)

    def _answer(self, fault: Fault) -> None:
        proxy, dice = self._site.proxies[fault.target], Random(fault.dice)

        def rule(_: Call) -> Reply | None:
            return dice.choice(ANSWERS).reply if dice.randrange(100) < fault.amount else None

        proxy.rule = rule
        time.sleep(fault.seconds)
        if proxy.rule is rule:  # not that of a fault that began meanwhile
            proxy.pass_all()

    def _source_now(self) -> datetime:
        """Return the time of Opencast's clock."""
        return datetime.now(UTC) + timedelta(seconds=self._offset)

    def _step(self, seconds: float) -> None:
        wanted = min(max(self._offset + seconds, -FARTHEST), FARTHEST)
        now = self._source_now()
        if wanted < self._offset:
            # Rows that are written until the clock is here again may lie before the watermark.
            around = timedelta(seconds=self._offset - wanted + 2)
            span = (now - around, now + around)
            self._observer.late_spans.append((*span, self._site.truth(*span)))
        self._site.simulate("clock", {"offset_seconds": wanted})
        self._offset = wanted

    def _insert(self, rng: Random, amount: int) -> None:
        now = self._source_now().timestamp()
        rows = [{"created": now - rng.uniform(YOUNGEST, OLDEST)} for _ in range(amount)]
        self._observer.late |= set(self._site.simulate("rows", {"rows": rows})["ids"])

    def _grow(self, rng: Random, amount: int) -> None:
        known = sorted(map(int, self._site.simulate("footprints")["seconds"]))
        ids = rng.sample(known, min(amount, len(known)))
        self._site.simulate("grow", {"seconds": 5, "ids": ids})

    def _delete(self, rng: Random, amount: int) -> None:
        ids = sorted(self._site.truth(*self._site.history))
        self._site.simulate("delete", {"ids": rng.sample(ids, min(amount, len(ids)))})

    def _audit(self) -> None:
        day = f"{self._site.history[0]:%F}"
        done = self._site.manage("audit", "--start", day, "--end", day)
        if done.code not in AUDITED or "Traceback" in done.output:
            self.complaints.append(f"manage.py audit ended with {done.code}: {done.output[-2000:]}")

    def _recover(self) -> None:
        """Wait until all processes run and are ready."""
        children = (*self._site.workers.values(), *self._site.beats.values())
        end = time.monotonic() + READY_SECONDS
        for child in children:
            while not _is_ready(child) and time.monotonic() < end:
                time.sleep(0.05)


def _is_ready(child: Child) -> bool:
    return child.running and ("ready." in child.output or "beat: Starting" in child.output)
