"""Real workers and a real beat, asked by the command line."""

import json

import pytest

from devservers import stack
from tests import commands


@pytest.mark.fault
def test_real_workers_and_beat_say_what_they_are(environment, tmp_path):
    def doctor():
        done = commands.manage("doctor", "--json", environment=environment, cwd=tmp_path)
        findings = {}
        for one in json.loads(done.stdout)["checks"]:
            findings.setdefault(one["check"], []).append((one["status"], one["found"]))
        return done.returncode, findings

    everything = ("worker", "-c", "1", "--without-gossip", "--without-mingle")
    with (
        stack.celery(*everything, environment=environment),
        stack.celery("beat", environment={**environment, "HARVEST_EVERY_SECONDS": "2"}, ready=r"Sending due task"),
    ):
        code, findings = doctor()
        assert (code, [status for status, _ in findings["workers"]]) == (0, ["ok"] * 4), findings
        assert ("ok", "every queue has a worker") in findings["workers"]
        assert all(status == "ok" for status, _ in findings["beat"])
        assert findings["beat"][1][1].startswith("one, on ")
    other = {**environment, "HARVEST_LAG_SECONDS": "11"}
    with stack.celery(*everything, "-Q", "control,useractions,episodes,index", environment=other):
        code, findings = doctor()
        assert code == 1
        failed = [found for status, found in findings["workers"] if status == "fail"]
        assert failed[0].endswith("has other settings than this command: HARVEST_LAG_SECONDS")
        assert failed[1].startswith("queue 'zoom' has ")
