"""A seed, small enough for CI: real processes are killed, Redis loses its data, and no row is lost."""

import pytest

from chaos.run import run
from chaos.schedule import Scale
from chaos.site import COMMAND_SECONDS, LEASE, MANAGE, Done, Site
from tests import commands

SCALE = Scale(seconds=10, kills=3, losses=1, others=1, lease=LEASE, cluster=False)


@pytest.fixture(autouse=True)
def commands_start_fast(monkeypatch):
    """Let `manage.py` fork from a process that has imported everything, as workers and beats do."""

    def manage(site, *arguments):
        environment = {**site.environment, "AWS_ACCESS_KEY_ID": MANAGE}
        folder = site.valkey.directory
        done = commands.manage(*arguments, environment=environment, cwd=folder, timeout=COMMAND_SECONDS)
        return Done(done.returncode, done.stdout + done.stderr)

    monkeypatch.setattr(Site, "manage", manage)


@pytest.mark.fault
def test_a_seed_of_faults_loses_no_row_and_repeats_none_without_a_cause():
    outcome = run(1, SCALE, "sqlite", print)
    assert outcome.verdict.wrong == []
    assert (outcome.kills, outcome.losses) == (3, 1)
    assert outcome.record.source
