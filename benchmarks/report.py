"""What is measured, and the tables that say it; pure."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence

MEMORY_GOAL = 150  # MB
_KINDS = ("floor", "whole way")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is compared.

    Attributes:
        workers: Processes.
        packed: Events per message.
        windows: How many are harvested.
        goal: The least share of the floor's events per second.
    """

    workers: int
    packed: int
    windows: int
    goal: float

    def __str__(self) -> str:
        return f"workers {self.workers}, events per message {self.packed}"


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One time one way.

    Attributes:
        events: Useractions that went that way.
        seconds: From the start until all were confirmed; the whole way: until the watermark was committed.
        cpu: Seconds of CPU of the processes that did it; None where the system does not tell.
        servers: The same of each server beside them.
    """

    events: int
    seconds: float
    cpu: float | None
    servers: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A case with all its repetitions."""

    case: Case
    floor: list[Measurement]
    whole: list[Measurement]


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """The peak of a worker's resident memory at a batch size, MB; None where the system does not tell."""

    batch_size: int
    peak: float | None


def speeds(results: Sequence[Result]) -> str:
    """Return a line for each case; of several repetitions the median."""
    lines = [
        "workers  events per     events    events per second      of the          CPU ms per event",
        "            message             floor   whole way   floor   goal     floor   whole way",
    ]
    for result in results:
        case = result.case
        floor, whole = _rate(result.floor), _rate(result.whole)
        verdict = "met" if whole >= case.goal * floor else "MISSED"
        lines.append(
            f"{case.workers:>7} {case.packed:>11} {result.floor[0].events:>10,} {floor:>10,.0f} {whole:>11,.0f}"
            f" {whole / floor:>7.2f} {case.goal:>6.1f} {_cost(result.floor):>9} {_cost(result.whole):>11}   {verdict}"
        )
    return "\n".join(lines)


def shares(results: Sequence[Result]) -> str:
    """Return how much of a core each process had: where they have too few cores, they slow each other down."""
    servers = list(results[0].floor[0].servers)
    lines = ["workers  events per  way         of one core: workers" + "".join(f"{name:>20}" for name in servers)]
    for result in results:
        for way, repetitions in (("floor", result.floor), ("whole way", result.whole)):
            used = [_share((one.cpu, one.seconds) for one in repetitions)]
            used += [_share((one.servers[name], one.seconds) for one in repetitions) for name in servers]
            lines.append(
                f"{result.case.workers:>7} {result.case.packed:>11}  {way:<10} {used[0]:>22}"
                + "".join(f"{share:>20}" for share in used[1:])
            )
    return "\n".join(lines)


def memory(measured: Memory) -> str:
    """Return the line about memory."""
    what = f"Memory of a worker process at batch size {measured.batch_size:,}: "
    if measured.peak is None:
        return what + "- (this system does not tell)"
    verdict = "met" if measured.peak < MEMORY_GOAL else "MISSED"
    return f"{what}{measured.peak:.0f} MB at its peak, goal under {MEMORY_GOAL} MB: {verdict}"


def _rate(repetitions: Iterable[Measurement]) -> float:
    return statistics.median(one.events / one.seconds for one in repetitions)


def _cost(repetitions: Iterable[Measurement]) -> str:
    costs = [1000 * one.cpu / one.events for one in repetitions if one.cpu is not None]
    return f"{statistics.median(costs):.4f}" if costs else "-"


def _share(used: Iterable[tuple[float | None, float]]) -> str:
    known = [cpu / seconds for cpu, seconds in used if cpu is not None]
    return f"{statistics.median(known):.0%}" if known else "-"
