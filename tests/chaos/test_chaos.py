"""A seed, small enough for CI: real processes are killed, Redis loses its data, and no row is lost."""

import pytest

from chaos.run import run
from chaos.schedule import Scale
from chaos.site import LEASE

SCALE = Scale(seconds=12, kills=3, losses=1, others=1, lease=LEASE, cluster=False)


@pytest.mark.fault
def test_a_seed_of_faults_loses_no_row_and_repeats_none_without_a_cause():
    outcome = run(1, SCALE, "sqlite", print)
    assert outcome.verdict.wrong == []
    assert (outcome.kills, outcome.losses) == (3, 1)
    assert outcome.record.source
