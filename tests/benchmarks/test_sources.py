import re
import subprocess
import sys

from devservers import databases
from devservers.stack import ROOT


def test_every_source_gives_all_rows_and_is_measured():
    command = [sys.executable, "-m", "benchmarks.sources", "--rows", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    measured = re.findall(r"^\| ([^|]+) \| [\d,]+ \| [\d,]+ \| \d+ \|$", done.stdout, re.MULTILINE)
    there = [kind for kind in databases.KINDS if databases.missing(kind) is None]
    assert len(measured) == 3 + 2 * len(there)
    for kind in databases.KINDS:
        assert any(line.startswith(kind) for line in measured) == (kind in there)
    assert done.stdout.count("not measured: Debian's") == len(databases.KINDS) - len(there)
