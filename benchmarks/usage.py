"""CPU time and memory of processes, from Linux's own accounting; None if there is no /proc."""

import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from devservers.stack import Child

_PROC = Path("/proc")


def cpu_seconds(child: Child) -> float | None:
    """Return the CPU time used so far by the process group of `child`, including ended processes."""
    if not _PROC.is_dir():
        return None
    # utime, stime, and the same for ended children that were waited for
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _group(child))
    return ticks / os.sysconf("SC_CLK_TCK")


class Meter:
    """Measures the CPU time that children use after its creation."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        """Start measuring `children`, which may have any names."""
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
    """Return the peak resident memory in MB of any process forked by the group's leader."""
    if not _PROC.is_dir():
        return None
    peaks = [_peak(pid) for pid, _ in _group(child) if pid != child.pid]
    return max(peaks, default=None)


def own_peak_memory() -> float:
    """Return the peak resident memory of this process in MB so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _group(child: Child) -> Iterator[tuple[int, list[str]]]:
    """Yield id and statistics (proc(5), from `state` on) of each running process in the group."""
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
