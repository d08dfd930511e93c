"""A worker that is told to stop gives back what it does not finish, and says that it lives as long as it does."""

import os
import signal

import pytest

from devservers import stack

pytestmark = pytest.mark.fault

LEASE = "600"  # longer than any patience here: nobody waits for a lease to end


@pytest.fixture
def held_up(start_site):
    """A site whose only worker holds a slice that Opencast does not answer; it may finish for a second."""
    site = start_site(workers=0, settings={"HARVEST_LEASE_SECONDS": LEASE})
    site.simulate("faults", {"path": "search", "kind": "slow", "seconds": 20})
    worker = site.add_worker("--", "worker.soft_shutdown_timeout=1", REMAP_SIGTERM="SIGQUIT")
    site.until(lambda: site.redis.keys("uaharvest:episode:*:lock:*"))  # it waits for an episode of the slice
    return site, worker


def test_a_slice_that_its_worker_cannot_finish_is_given_back_when_the_worker_stops(held_up):
    site, worker = held_up
    run = site.ledger.live()
    assert site.ledger.slices(run.id).claimed == 1
    os.kill(worker.pid, signal.SIGTERM)
    site.until(lambda: not worker.running, ticking=False)
    slices = site.ledger.slices(run.id)
    assert not slices.claimed
    assert slices.due + slices.put_off == run.outstanding
    site.simulate("faults", method="DELETE")
    site.add_worker()
    mark = site.harvest(site.end, ticking=False)
    assert set(site.delivered()) == site.truth(mark.floor, mark.at)


@pytest.mark.parametrize("process", ["worker", "beat"])
def test_a_process_that_lives_keeps_its_heartbeat_file_young(start_site, tmp_path, process):
    file = tmp_path / "heartbeat"
    site = start_site(workers=0)
    with stack.celery(process, environment={**site.environment, "HEARTBEAT_FILE": str(file)}):
        for _ in range(2):
            site.until(file.exists, ticking=False)
            file.unlink()
