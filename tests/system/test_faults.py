"""Each failure of the design is done to real processes: nothing is lost, and repeats stay few."""

import contextlib
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from devservers import stack
from tests.system.conftest import ZONE

pytestmark = pytest.mark.fault

BATCH = 200  # rows of a slice, about
ONE_EACH = {"SQS_EVENTS_PER_MESSAGE": "1"}
# Few slices, of which each has one attempt: one that an outage uses up shows as a dead letter.
ONE_ATTEMPT = {"HARVEST_ATTEMPTS": "1", "HARVEST_BATCH_SIZE": "600"}


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def repeats(delivered):
    """How many messages came that had come before."""
    return sum(delivered.values()) - len(delivered)


def assert_all_there(site, mark):
    """Every row up to the watermark came, and none from beyond it."""
    delivered = site.delivered()
    assert set(delivered) == site.truth(mark.floor, mark.at)
    return delivered


def test_a_pool_process_that_is_killed_while_it_sends_a_slice_loses_nothing(start_site):
    site = start_site(workers=1, settings=ONE_EACH)
    with site.caught(site.sent_and_unmarked) as run:
        unmarked = site.waiting() - run.delivered
        site.kill_pool_process(site.workers[0])
    mark = site.harvest(site.end)
    assert unmarked <= repeats(assert_all_there(site, mark)) <= BATCH
    assert run.id in {entry.id for entry in site.state.history()}


def test_workers_whose_host_loses_power_lose_nothing(start_site):
    site = start_site(workers=2, settings=ONE_EACH)
    with stack.supervised(*site.workers):
        with site.caught(site.sent_and_unmarked) as run:
            for worker in site.workers:
                worker.kill()
        mark = site.harvest(site.end)
    assert 0 < repeats(assert_all_there(site, mark)) <= 2 * BATCH
    assert run.id in {entry.id for entry in site.state.history()}


@pytest.mark.long
def test_a_worker_that_sleeps_longer_than_its_lease_disturbs_nothing_when_it_wakes(start_site):
    site = start_site(workers=2, settings=ONE_EACH)
    sleeper, other = site.workers
    with site.caught(site.all_hold_a_slice) as run:
        done_before = sleeper.output.count("slice delivered")
        site.thaw(other)
        mark = site.harvest(site.end)
    site.until(lambda: sleeper.output.count("slice delivered") > done_before, ticking=False)
    assert repeats(assert_all_there(site, mark)) <= BATCH
    assert not site.redis.keys(f"uaharvest:run:{run.id}*")


def test_a_redis_that_loses_its_data_in_mid_run_costs_repeats_and_never_a_row(start_site):
    site = start_site(workers=2)
    with stack.supervised(*site.workers):
        with site.caught(site.in_mid_run) as run:
            site.valkey.kill()
            site.valkey.forget()
            site.valkey.start()
        mark = site.harvest(site.end)
        assert_all_there(site, mark)
        assert run.id not in {entry.id for entry in site.state.history()}


@pytest.mark.long
def test_a_redis_that_loses_its_data_between_two_runs_costs_the_overlap_once_more(start_site):
    site = start_site(rows=600)
    with stack.supervised(*site.workers):
        mark = site.harvest(site.end)
        site.valkey.kill()
        site.valkey.forget()
        site.valkey.start()
        site.simulate("rows", {"rows": [{"created": mark.at.timestamp() - 60}]})
        site.until(lambda: len(site.delivered()) == 601)
        mark = site.settle()
        delivered = assert_all_there(site, mark)
    assert sorted(delivered.values()) == [1] + 600 * [2]


@pytest.mark.long
def test_a_redis_with_aof_that_is_killed_goes_on_with_the_run(start_site):
    site = start_site(workers=2, appendonly=True)
    with stack.supervised(*site.workers):
        with site.caught(site.in_mid_run) as run:
            site.valkey.kill()
            site.valkey.start()
        mark = site.harvest(site.end)
    assert repeats(assert_all_there(site, mark)) <= 2 * BATCH
    assert run.id in {entry.id for entry in site.state.history()}


@pytest.mark.long
def test_an_opencast_that_is_down_and_then_starts_with_503_costs_time_only(start_site):
    site = start_site("--start-503-seconds", "1.5", settings=ONE_ATTEMPT)
    with site.caught(site.in_mid_run):
        site.simulator.kill()
    site.until(site.something_put_off_twice)
    site.simulator.start()
    mark = site.harvest(site.end)
    assert repeats(assert_all_there(site, mark)) == 0
    assert site.simulate("requests")["statuses"]["503"] > 0
    assert site.dead_letters.count("useractions") == 0


@pytest.mark.long
def test_a_fifth_of_all_requests_failing_in_five_ways_costs_time_only(start_site):
    site = start_site("--episodes", "30", settings={"HARVEST_BATCH_SIZE": "50"})
    for fault in (
        {"kind": "status"},
        {"kind": "html"},
        {"kind": "drop"},
        {"kind": "truncate"},
        {"kind": "invalid-json"},
    ):
        site.simulate("faults", {"path": "any", "share": 0.045, **fault})
    mark = site.harvest(site.end)
    # Dropped or refused; the other three ways have status 200.
    assert {0, 503} <= {request["status"] for request in site.simulate("requests")["actions_log"]}
    site.simulate("faults", method="DELETE")
    assert repeats(assert_all_there(site, mark)) == 0
    # At once, and not only when later ticks looked for what is late.
    assert site.state.history()[-1].delivered == 2_000
    assert site.dead_letters.count("useractions") == 0


class Wire:
    """A TCP connection to a server that a test can cut: nobody gets through, as in an outage."""

    def __init__(self, port):
        self._target = port
        self._pairs = []
        self._listener = None
        self.port = stack.free_port()

    def mend(self):
        """Let connections through."""
        self._listener = socket.create_server((stack.HOST, self.port), backlog=64)
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self):
        """Refuse new connections and drop those that there are."""
        for end in (self._listener, *self._pairs):
            with contextlib.suppress(OSError):  # it is cut already
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._pairs.clear()

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((stack.HOST, self._target))
            self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=[source, sink], daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError), source:
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def wire(aws):
    """The way from the workers to SQS and S3."""
    wire = Wire(int(aws.rpartition(":")[2]))
    wire.mend()
    yield wire
    wire.cut()


def test_an_outage_of_sqs_and_s3_costs_time_and_at_most_what_was_on_its_way(start_site, wire):
    site = start_site(settings=ONE_EACH | ONE_ATTEMPT | {"AWS_ENDPOINT_URL": f"http://{stack.HOST}:{wire.port}"})
    with site.caught(site.sent_and_unmarked):
        wire.cut()
    site.until(site.something_put_off_twice)
    wire.mend()
    mark = site.harvest(site.end)
    on_its_way = 4 * 10  # senders, messages of a request
    assert repeats(assert_all_there(site, mark)) <= on_its_way
    assert site.dead_letters.count("useractions") == 0


@pytest.mark.long
def test_a_wrong_password_blocks_with_the_line_that_mends_it_and_heals_by_itself(start_site):
    site = start_site(workers=0)
    wrong = {"MATTERHORN_REST_PASS": "open-sesame"}
    site.add_worker(**wrong)
    site.until(site.state.blocked)
    status = site.manage("status")
    assert status.returncode == 4
    line = next(line for line in status.stdout.splitlines() if "is blocked" in line)
    assert "refused user 'admin' (401). Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS." in line
    assert "open-sesame" not in status.stdout + status.stderr + site.workers[0].output

    site.workers.pop().kill()
    good = site.add_worker()
    with site.caught(site.in_mid_run):
        good.kill()  # with the password that is wrong again the run stands still in its midst
    site.workers.remove(good)
    site.add_worker(**wrong)
    site.until(site.state.blocked)
    site.workers.pop().kill()
    site.add_worker()
    mark = site.harvest(site.end)
    assert site.state.blocked() is None
    assert repeats(assert_all_there(site, mark)) <= BATCH


def test_a_poisonous_second_becomes_a_dead_letter_and_all_else_arrives(start_site):
    settings = {"HARVEST_ATTEMPTS": "1", "HARVEST_BATCH_SIZE": "10"}
    # So slow that it is caught long before the bad second, which is one of the last: slices are claimed in their order.
    site = start_site("--latency-ms", "40", rows=600, seconds=120, workers=2, settings=settings)
    bad = int(site.end.timestamp()) - 7
    with site.caught(site.in_mid_run):
        fault = {"path": "actions", "kind": "status", "status": 500}
        site.simulate("faults", {**fault, "between": [bad + 0.2, bad + 0.8]})
    mark = site.harvest(site.end)
    lost = site.truth(moment(bad), moment(bad + 1))
    assert lost
    assert set(site.delivered()) == site.truth(mark.floor, mark.at) - lost
    [name] = site.dead_letters.names()
    payload = site.dead_letters.get(name).payload
    assert payload == {"start": f"{moment(bad):%FT%TZ}", "end": f"{moment(bad + 1):%FT%TZ}"}
    assert site.manage("status").returncode == 5

    again = site.manage("dead-letters", "replay", "--all")  # the source still fails at it
    assert (again.returncode, again.stdout) == (5, "")
    assert f"{name}: not replayed: " in again.stderr
    assert list(site.dead_letters.names()) == [name]
    assert not set(site.delivered()) & lost

    site.simulate("faults", method="DELETE")
    replayed = site.manage("dead-letters", "replay", "--all")
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert f"{len(lost)} sent" in replayed.stdout
    assert repeats(assert_all_there(site, mark)) == 0
    assert site.manage("status").returncode == 0


@pytest.mark.long
def test_waits_between_requests_are_kept_by_all_workers_together_and_hold_no_episode_up(start_site):
    site = start_site("--episodes", "60", rows=1_400, workers=2, settings={"DEFAULT_INTERVAL": "1"})
    start, end = site.end - timedelta(seconds=1_800), site.end - timedelta(seconds=200)
    asked = ("--start", f"{start:%FT%TZ}", "--end", f"{end:%FT%TZ}", "--wait", "1", "--follow")
    site.simulate("reset-requests", {})
    began = time.time()
    done = site.manage("enqueue", "useractions", *asked)
    assert done.returncode == 0
    assert set(site.delivered()) >= site.truth(start, end)
    requests = site.simulate("requests")
    # The workers' look for a live window, at the end, does not wait: nobody asked for that. Challenges of the
    # digest log-in (401) are part of the request that they precede.
    window = range(*(int(f"{bound.astimezone(ZoneInfo(ZONE)):%Y%m%d%H%M%S}") for bound in (start, end)))
    starts = sorted(
        request["at"]
        for request in requests["actions_log"]
        if request["status"] == 200 and int(request["query"].get("start", 0)) in window
    )
    assert len(starts) > 7
    # Nobody is before his turn, and the turns lie a second apart: so of n + 1 one is n seconds late.
    assert all(at >= began + turn for turn, at in enumerate(starts))
    assert starts[-1] - began < requests["search"]


@pytest.mark.long
def test_two_beats_and_rows_that_come_all_the_time_send_each_row_once(start_site):
    live = ("--live-rate", "20", "--late-share", "0.1", "--late-seconds", "3")
    site = start_site(*live, rows=200, workers=2, settings={"HARVEST_LAG_SECONDS": "1", "LOG_LEVEL": "info"})
    beats = [site.add_beat(every=1) for _ in range(2)]
    began = datetime.now(UTC)
    site.until(lambda: (mark := site.mark()) and mark.at > began + timedelta(seconds=8), ticking=False)
    mark = site.mark()
    expected = site.truth(mark.floor, mark.at)
    for beat in beats:
        beat.stop()
    site.look_once_more()
    delivered = site.delivered()
    assert expected <= set(delivered)
    assert repeats(delivered) == 0
    assert len(expected) > 200 + 8 * 20
