import re
import subprocess
import sys

import pytest

from devservers import databases
from devservers.stack import ROOT


@pytest.mark.fault
@pytest.mark.long
@pytest.mark.skipif(databases.missing("mariadb") is not None, reason="needs Debian's mariadb-server")
def test_a_quick_history_arrives_whole_although_workers_are_killed_and_redis_loses_its_data(es, elasticsearch_url):
    command = [sys.executable, "-m", "benchmarks.history", "--quick", "--elasticsearch", elasticsearch_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a worker is killed" in done.stdout
    assert "Redis loses its data" in done.stdout
    assert re.search(
        r"^4,000 rows in \d+ s: .* each is there, [\d,]+ were written twice", done.stdout, re.MULTILINE
    )
