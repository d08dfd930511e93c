"""A seed yields the same faults each time, of each kind, within the time."""

import collections
import dataclasses

import pytest

from chaos.schedule import DOCUMENTS, REDIS, Scale, last_end, schedule

SCALE = Scale(seconds=90, kills=20, losses=5, others=3, lease=2, cluster=True)
SEEDS = range(30)


def test_a_seed_yields_the_same_faults_and_another_seed_others():
    assert schedule(7, SCALE) == schedule(7, SCALE)
    assert schedule(7, SCALE) != schedule(8, SCALE)


@pytest.mark.parametrize("seed", SEEDS)
def test_there_are_as_many_kills_and_losses_as_asked_for_and_all_begin_in_time(seed):
    faults = schedule(seed, SCALE)
    kinds = collections.Counter(fault.kind for fault in faults)
    assert kinds["kill"] + kinds["restart"] == SCALE.kills
    assert kinds["lose"] + kinds["roll back"] == SCALE.losses
    assert min(kinds["lose"], kinds["roll back"]) == SCALE.losses // 2
    assert list(faults) == sorted(faults, key=lambda fault: fault.at)
    assert faults[0].at >= 3
    assert faults[-1].at <= SCALE.seconds
    assert last_end(faults) <= SCALE.seconds + 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_is_older_than_the_loss_and_newer_than_the_start(seed):
    for fault in schedule(seed, SCALE):
        if fault.kind == "roll back":
            assert 1 <= fault.seconds < fault.at


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_stands_still_for_longer_than_its_lease(seed):
    stops = [
        fault for fault in schedule(seed, SCALE) if fault.kind == "stop" and fault.target.startswith("worker")
    ]
    assert stops
    assert min(fault.seconds for fault in stops) > SCALE.lease


def test_without_a_cluster_no_fault_hits_it():
    alone = dataclasses.replace(SCALE, cluster=False)
    assert DOCUMENTS not in {fault.target for seed in SEEDS for fault in schedule(seed, alone)}
    assert DOCUMENTS in {fault.target for seed in SEEDS for fault in schedule(seed, SCALE)}


def test_every_kind_happens_at_each_moment_and_has_a_line_of_its_own():
    faults = [fault for seed in SEEDS for fault in schedule(seed, SCALE)]
    assert {fault.moment for fault in faults if fault.target == REDIS} == {"", "sending", "committing"}
    lines = {fault.kind: str(fault) for fault in faults}
    assert len(set(lines.values())) == len(lines) == 13
