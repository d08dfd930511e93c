"""What processes cost, by Linux's own accounting; None where there is no /proc."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from simulators.stack import Child

_PROC = Path("/proc")


def cpu_seconds(child: Child) -> float | None:
    """Return the CPU time that the process group of `child` has used so far, dead members included."""
    if not _PROC.is_dir():
        return None
    # utime, stime, and the same of children that have ended and were waited for
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _group(child))
    return ticks / os.sysconf("SC_CLK_TCK")


class Meter:
    """Reads how much CPU time children use from its making on."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        """Start; `children` by any names."""
        self._children = children
        self._before = {name: cpu_seconds(child) for name, child in children.items()}

    def read(self) -> dict[str, float | None]:
        """Return the seconds used so far, by name."""
        used = {}
        for name, child in self._children.items():
            before, now = self._before[name], cpu_seconds(child)
            used[name] = now - before if now is not None and before is not None else None
        return used


def peak_memory(child: Child) -> float | None:
    """Return the largest resident memory that a process forked by the leader of the group ever had, MB."""
    if not _PROC.is_dir():
        return None
    peaks = [_peak(pid) for pid, _ in _group(child) if pid != child.pid]
    return max(peaks, default=None)


def _group(child: Child) -> Iterator[tuple[int, list[str]]]:
    """Yield id and statistics (proc(5), from `state` on) of each living process of the group."""
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == child.pid:
            yield int(path.parent.name), fields


def _peak(pid: int) -> float:
    found = re.search(r"^VmHWM:\s*(\d+) kB", (_PROC / str(pid) / "status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0
