import re
import subprocess
import sys

import pytest

from devservers.stack import ROOT


@pytest.mark.fault
@pytest.mark.long
def test_ticks_of_a_quiet_day_cost_few_requests_and_few_rows():
    command = [sys.executable, "-m", "benchmarks.stock", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    ticks = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| tick")]
    assert len(ticks) == 5
    for _, _, requests, rows, _, _, new, sent, *_ in ticks[1:]:  # the first may find what was hidden before
        assert int(requests) <= 6
        assert int(rows.replace(",", "")) <= 2 * int(new) + 150
        assert new == sent
    assert re.search(r"ids, 0\.\d\d bytes an id", done.stdout)
