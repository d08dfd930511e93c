"""The real engine and ledger, several workers, and everything that can happen to them, step by step.

Workers are threads of which one runs at a time: each stops at every gate (before and after a request, a delivery, a
script of the ledger, a PUT) until the machine lets it go on, so that an example always goes the same way. A killed
worker touches nothing any more, whatever `finally` would do. A failure prints the steps that led to it.
"""

import contextlib
import itertools
import threading
import uuid
from datetime import timedelta

import hypothesis.strategies as st
import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from tests.fakes import World, at, unavailable
from uaharvest.errors import HarvestError, RetryableError, SourceError
from uaharvest.intervals import Interval, whole_second
from uaharvest.keys import PREFIX
from uaharvest.runs import failures

OVERLAP = 90
LONGEST = 120
LAG = 5
WORKERS = 4
PATIENCE = 20  # seconds of real time after which a worker that reaches no gate hangs


GATES = st.sampled_from(
    [
        *("the next", "the end", "the end", "the end", "after the request", "before run_open", "after run_open"),
        *("before the delivery", "after the delivery"),
        *("before run_mark", "before slice_complete", "after slice_complete"),
        *("before the put", "after the put", "before run_close"),
    ]
)


class KilledError(BaseException):
    """What ends a worker where it stands, past every `except Exception`."""


class Worker(threading.Thread):
    """Does one job, from gate to gate."""

    def __init__(self, name, job):
        super().__init__(name=name, daemon=True)
        self.job = job
        self.gate = "start"
        self.killed = False
        self.done = False
        self.error = None
        self._go = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self.start()

    def run(self):
        self._go.acquire()
        try:
            if not self.killed:
                self.job()
        except (HarvestError, KilledError):
            pass  # as a task takes it: the next tick tries again
        except BaseException as error:  # noqa: BLE001 - handed to the machine
            self.error = error
        self.done = True
        self._arrived.release()

    def stop_at(self, gate):
        """Wait at a gate, called by the worker itself."""
        if self.killed:
            raise KilledError
        self.gate = gate
        self._arrived.release()
        self._go.acquire()
        if self.killed:
            raise KilledError

    def step(self):
        """Let it go to its next gate or its end."""
        self._go.release()
        assert self._arrived.acquire(timeout=PATIENCE), f"{self.name} hangs after {self.gate}"
        if self.error is not None:
            raise self.error

    def kill(self):
        self.killed = True
        while not self.done:
            self.step()

    def finish(self):
        while not self.done:
            self.step()


def failing(times, error):
    """Return what fails so many times."""
    rest = [error] * times
    return lambda *_: rest.pop() if rest else None


def gate(name):
    """Stop the worker that comes here; the machine's own thread goes through."""
    worker = threading.current_thread()
    if isinstance(worker, Worker):
        worker.stop_at(name)


class MortalRedis(Redis):
    """Carries nothing for a worker that is dead, whoever asks on its behalf."""

    def execute_command(self, *args, **options):
        worker = threading.current_thread()
        if isinstance(worker, Worker) and worker.killed:
            raise KilledError
        return super().execute_command(*args, **options)


class Harvest(RuleBasedStateMachine):
    """Workers, a source, a sink, S3, Redis and their misfortunes."""

    url = ""
    # Without kills, lost data, ended leases, lost confirmations and people nothing may ever be sent twice.
    calm = False
    # By the source's clock, seconds.
    harvest_takes = 0

    def __init__(self):
        super().__init__()
        self.client = MortalRedis.from_url(self.url, decode_responses=True)
        self.client.flushall()
        self.world = self.make_world()
        for part in (self.world.opencast, self.world.sink, self.world.s3, self.world.ledger):
            part.gates = gate
        self.patch = pytest.MonkeyPatch()
        numbers = itertools.count()
        self.patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        # A back-off ends when the machine says so, not by the clock on the wall.
        self.patch.setattr(failures.PutOff, "after", lambda *_: 1e6)
        self.numbers = itertools.count(1)
        self.workers = []
        self.highest = None
        self.excused = False

    def make_world(self):
        """Return what it happens in."""
        return World(
            self.client, overlap=OVERLAP, max_window=LONGEST, lag=LAG, batch_size=3, default_interval=1, lease=7200
        )

    # Workers

    @initialize(ages=st.lists(st.integers(0, 90), max_size=12))
    def begin(self, ages):
        self.world.start_at(at(0))
        self.world.clock.forward(95)
        self.world.opencast.add(*(at(age) for age in ages))
        self.world.engine.advance()

    def hire(self, what, job, where):
        """Let a worker begin a job, as far as a gate."""
        self.workers.append(Worker(f"{what} {next(self.numbers)}", job))
        self.go_on(self.workers[-1], where)

    def go_on(self, worker, where):
        worker.step()
        while not worker.done and where not in {worker.gate, "the next"}:
            worker.step()
        self.workers = [worker for worker in self.workers if not worker.done]

    @precondition(lambda self: len(self.workers) < WORKERS)
    @rule(where=GATES)
    def tick(self, where):
        self.hire("advance", self.world.engine.advance, where)

    @precondition(lambda self: len(self.workers) < WORKERS and self.has_messages())
    @rule(which=st.integers(0, 8), again=st.booleans(), where=GATES)
    def read_a_message(self, which, again, where):
        """Begin what a message asks for; `again`: it will be delivered a second time."""
        messages = self.world.mailbox.slices
        if not messages:
            self.world.mailbox.advances -= 1
            self.hire("advance", self.world.engine.advance, where)
            return
        which %= len(messages)
        run_id, slice_id = messages[which] if again else messages.pop(which)
        self.hire("slice", lambda: self.world.engine.work(run_id, slice_id), where)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, WORKERS), where=GATES)
    def one_goes_on(self, which, where):
        self.go_on(self.workers[which % len(self.workers)], where)

    @rule(most=st.sampled_from([3, 10, 60]))
    def all_is_worked_off(self, most):
        for worker in self.workers:
            worker.finish()
        self.workers = []
        self.follow(most)

    def has_messages(self):
        return self.world.mailbox.slices or self.world.mailbox.advances

    def follow(self, most):
        """Follow messages one after another, in this thread."""
        world = self.world
        for _ in range(most):
            try:
                if world.mailbox.slices:
                    world.engine.work(*world.mailbox.slices.pop(0))
                elif world.mailbox.advances:
                    world.mailbox.advances -= 1
                    world.engine.advance()
            except HarvestError:
                pass  # as a task takes it: the next tick tries again

    # Time, rows and troubles that excuse no repeat

    @rule(seconds=st.sampled_from([1, 4, 20, 61, 200]))
    def the_clock_goes_on(self, seconds):
        self.world.clock.forward(seconds)
        for due in self.client.scan_iter(f"{PREFIX}run:*:due"):
            held = self.client.hgetall(due.removesuffix("due") + "slices")
            parked = [name for name in self.client.zrange(due, 0, -1) if "token" not in held.get(name, "")]
            if parked and seconds >= 20:
                self.client.zadd(due, dict.fromkeys(parked, 0))

    @rule(
        ages=st.lists(st.integers(0, OVERLAP), min_size=1, max_size=8),
        same=st.booleans(),
        millis=st.sampled_from([0, 0, 0, 500]),
    )
    def rows_appear(self, ages, same, millis):
        now = self.world.clock.now
        if same:
            ages = ages[:1] * len(ages)
        self.world.opencast.add(
            *(now - timedelta(seconds=age, milliseconds=millis if age < OVERLAP else 0) for age in ages)
        )

    @rule(
        what=st.sampled_from(["source", "sink", "s3", "s3 writes and does not say so", "messages"]),
        times=st.integers(1, 8),
    )
    def something_fails_for_a_while(self, what, times):
        world = self.world
        if what == "source":
            world.opencast.fails = failing(times, SourceError("down"))
        elif what == "sink":
            world.sink.fails = failing(times, RetryableError("down"))
        elif what == "s3":
            world.s3.fails = failing(times, unavailable())
        elif what == "messages":
            world.mailbox.slices.clear()
            world.mailbox.advances = 0
        else:
            world.s3.loses_confirmation = failing(times, unavailable())

    def all_is_mended(self):
        self.world.opencast.fails = self.world.sink.fails = failing(0, None)
        self.world.s3.fails = self.world.s3.loses_confirmation = failing(0, None)
        self.world.sink.loses_confirmation = failing(0, None)

    # Troubles after which rows may be sent twice

    @precondition(lambda self: not self.calm and self.workers)
    @rule(which=st.integers(0, WORKERS))
    def one_is_killed(self, which):
        self.excused = True
        self.workers.pop(which % len(self.workers)).kill()

    @precondition(lambda self: not self.calm)
    @rule(what=st.sampled_from(["leases end", "leases end", "redis loses all", "sink takes and does not say so"]))
    def something_bad_happens(self, what):
        self.excused = True
        if what == "leases end":
            self.world.time_passes_in_redis()
        elif what == "redis loses all":
            self.client.flushall()
        else:
            self.world.sink.loses_confirmation = failing(1, RetryableError("no answer"))

    @precondition(lambda self: not self.calm)
    @rule(what=st.sampled_from(["set", "set", "delete"]), ago=st.integers(0, 200))
    def the_operator_moves_the_watermark(self, what, ago):
        self.excused = True
        self.highest = None
        with contextlib.suppress(HarvestError):
            if what == "set":
                self.world.store.move(self.world.clock.now - timedelta(seconds=ago))
            else:
                self.world.store.delete()

    @precondition(lambda self: not self.calm and len(self.workers) < WORKERS)
    @rule(ago=st.integers(0, 300), length=st.integers(1, 300), may_move=st.booleans(), where=GATES)
    def a_window_is_asked_for(self, ago, length, may_move, where):
        self.excused = True
        start = whole_second(self.world.clock.now - timedelta(seconds=ago))
        asked = Interval(start, start + timedelta(seconds=length))
        options = self.world.options()
        self.hire("ask", lambda: self.world.engine.ask(asked, options, may_move=may_move), where)

    # What always holds

    def stored(self):
        """Return the watermark as it stands in S3, outages or not."""
        fails, self.world.s3.fails = self.world.s3.fails, lambda operation, key: None
        try:
            return self.world.store.read()
        finally:
            self.world.s3.fails = fails

    @invariant()
    def the_watermark_never_moves_backwards(self):
        stored = self.stored()
        if stored is None:
            return
        assert self.highest is None or stored.mark.at >= self.highest
        self.highest = stored.mark.at

    @invariant()
    def a_valid_live_run_starts_at_the_watermark(self):
        stored, run = self.stored(), self.world.live
        if stored is not None and run is not None and run.etag == stored.etag:
            assert run.window.start == stored.mark.at
            assert run.window.seconds <= LONGEST

    @invariant()
    def nothing_is_sent_twice_without_an_excuse(self):
        if not self.excused:
            assert len(set(self.world.sink.arrived)) == len(self.world.sink.arrived)

    @invariant()
    def what_is_known_has_arrived(self):
        arrived = set(map(str, self.world.sink.arrived))
        for key in self.client.scan_iter(f"{PREFIX}known:*:*:*", _type="zset"):
            assert set(self.client.zrange(key, 0, -1)) <= arrived

    def teardown(self):
        try:
            for worker in self.workers:
                worker.finish()
            self.all_is_mended()
            self.run_to_quiescence()
            self.no_row_is_missing()
            self.nothing_is_sent_twice_without_an_excuse()
        finally:
            for worker in self.workers:  # those that a failure has left
                worker.kill()
            self.patch.undo()
            self.client.close()

    def run_to_quiescence(self):
        world = self.world
        world.clock.forward(LAG + 1)
        for _ in range(200):
            world.time_passes_in_redis()
            world.engine.advance()
            self.follow(200)
            stored = world.store.read()
            if (
                world.live is None
                and not world.ledger.explicit()
                and world.clock.now - stored.mark.at <= timedelta(seconds=LAG + self.harvest_takes)
            ):
                break
        else:
            pytest.fail("no progress, though all is mended")
        self.the_watermark_never_moves_backwards()
        # What appeared after the last plan is found by the next.
        world.clock.forward(1)
        world.engine.advance()
        self.follow(200)
        assert world.live is None

    def no_row_is_missing(self):
        mark = self.world.mark
        arrived = set(self.world.sink.arrived)
        given_up = [(payload["start"], payload["end"]) for kind, payload in self.world.dead() if kind == "slice"]
        missing = [
            row
            for row in self.world.opencast.rows
            if mark.floor <= row.created < mark.at
            and row.id not in arrived
            and not any(start <= f"{row.created:%FT%TZ}" < end for start, end in given_up)
        ]
        assert not missing


class CalmHarvest(Harvest):
    """The same without anything that would excuse a repeat."""

    calm = True


@pytest.fixture(autouse=True)
def quiet():
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(logger, name, event):
    raise structlog.DropEvent


def check(machine, url, examples, steps):
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        print_blob=True,
    )
    run_state_machine_as_test(type(machine.__name__, (machine,), {"url": url}), settings=profile)


MACHINES = pytest.mark.parametrize("machine", [Harvest, CalmHarvest], ids=["stormy", "calm"])


@MACHINES
def test_no_row_is_lost_or_needlessly_sent_twice(redis, valkey_url, machine):
    check(machine, valkey_url, 60, 40)


@pytest.mark.fault
@pytest.mark.long
@MACHINES
def test_no_row_is_lost_or_needlessly_sent_twice_in_many_more_ways(redis, valkey_url, machine):
    check(machine, valkey_url, 250, 60)
