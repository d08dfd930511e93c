"""A rolling upgrade: workers of an earlier commit and of this one share a Redis, a run, and its slices."""

import os
import subprocess

import pytest

from devservers.stack import ROOT

pytestmark = [pytest.mark.fault, pytest.mark.long]

# The commit to upgrade from; a release, before the next one.
EARLIER = os.environ.get("UPGRADE_FROM", "HEAD~20")


@pytest.fixture
def earlier(tmp_path):
    """The folder of the earlier version."""
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"this clone has no {EARLIER}")
    folder = tmp_path / "earlier"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


@pytest.mark.parametrize("opens", ["earlier", "later"])
def test_workers_of_two_versions_harvest_one_run_together(start_site, earlier, opens):
    site = start_site(workers=0, rows=4_000, settings={"HARVEST_BATCH_SIZE": "50"})
    versions = {"earlier": {"PYTHONPATH": str(earlier)}, "later": {}}
    first = site.add_worker(**versions.pop(opens))
    with site.caught(site.in_mid_run) as run:
        [other] = versions.values()
        second = site.add_worker(**other)
        half = run.done
    mark = site.harvest(site.end)
    delivered = site.delivered()
    assert set(delivered) == site.truth(mark.floor, mark.at)
    assert sum(delivered.values()) == len(delivered)
    assert half < run.planned
    for worker in (first, second):
        assert worker.output.count('"slice delivered"'), worker.output[-2000:]
