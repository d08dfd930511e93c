"""The measurements and the tables that show them; pure functions only."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence

MEMORY_GOAL = 120  # MB
COMMAND_GOAL = 1.0  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A case for comparison.

    Attributes:
        workers: Number of processes.
        packed: Events per message.
        windows: Number of windows to harvest.
        goals: Required share of the events per second of each floor, by its SQS client.
    """

    workers: int
    packed: int
    windows: int
    goals: Mapping[str, float]

    def __str__(self) -> str:
        return f"workers {self.workers}, events per message {self.packed}"


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement of the floor or of the whole pipeline.

    Attributes:
        events: Number of useractions.
        seconds: From the start until all were confirmed (whole pipeline: until the watermark was committed).
        cpu: CPU seconds used by the measured processes; None if the system does not report them.
        servers: The same for each server, by name.
    """

    events: int
    seconds: float
    cpu: float | None
    servers: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A case with all its repetitions; `floors` by the SQS client that they use."""

    case: Case
    floors: Mapping[str, list[Measurement]]
    whole: list[Measurement]


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A worker's peak resident memory in MB at a batch size; None if the system does not report it."""

    batch_size: int
    peak: float | None


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Duration:
    """How long a command took from its start to its end, and the CPU time of it, in seconds."""

    seconds: float
    cpu_seconds: float


def speeds(results: Sequence[Result]) -> str:
    """Return a line for each case and floor, with the median of its repetitions."""
    lines = [
        "workers  events per     events  the floor's    events per second      of the          CPU ms per event",
        "            message             SQS client     floor   whole way   floor   goal     floor   whole way",
    ]
    for result in results:
        case, whole = result.case, _rate(result.whole)
        for client, repetitions in result.floors.items():
            floor, goal = _rate(repetitions), case.goals[client]
            verdict = "met" if whole >= goal * floor else "MISSED"
            lines.append(
                f"{case.workers:>7} {case.packed:>11} {result.whole[0].events:>10,}  {client:<10} {floor:>9,.0f}"
                f" {whole:>11,.0f} {whole / floor:>7.2f} {goal:>6.2f} {_cost(repetitions):>9}"
                f" {_cost(result.whole):>11}   {verdict}"
            )
    return "\n".join(lines)


def shares(results: Sequence[Result]) -> str:
    """Return each process's share of a core: with too few cores, they slow each other down."""
    servers = list(results[0].whole[0].servers)
    lines = [
        "workers  events per  way           of one core: workers" + "".join(f"{name:>20}" for name in servers)
    ]
    for result in results:
        floors = {f"floor, {client}": repetitions for client, repetitions in result.floors.items()}
        for way, repetitions in (floors | {"whole way": result.whole}).items():
            used = [_share((one.cpu, one.seconds) for one in repetitions)]
            used += [_share((one.servers[name], one.seconds) for one in repetitions) for name in servers]
            lines.append(
                f"{result.case.workers:>7} {result.case.packed:>11}  {way:<12} {used[0]:>22}"
                + "".join(f"{share:>20}" for share in used[1:])
            )
    return "\n".join(lines)


def memory(measured: Memory) -> str:
    """Return the line about memory."""
    what = f"Memory of a worker process at batch size {measured.batch_size:,}: "
    if measured.peak is None:
        return what + "- (this system does not report it)"
    verdict = "met" if measured.peak < MEMORY_GOAL else "MISSED"
    return f"{what}{measured.peak:.0f} MB at its peak, goal under {MEMORY_GOAL} MB: {verdict}"


def commands(measured: Mapping[str, Iterable[Duration]]) -> str:
    """Return a line about the time that each command of `manage.py` takes; its fastest run counts."""
    lines = []
    for name, durations in measured.items():
        fastest = min(durations)
        verdict = "met" if fastest.seconds < COMMAND_GOAL else "MISSED"
        lines.append(
            f"`manage.py {name}` takes {fastest.seconds:.2f} s, {fastest.cpu_seconds:.2f} s of the CPU,"
            f" goal under {COMMAND_GOAL:.0f} s: {verdict}"
        )
    return "\n".join(lines)


def _rate(repetitions: Iterable[Measurement]) -> float:
    return statistics.median(one.events / one.seconds for one in repetitions)


def _cost(repetitions: Iterable[Measurement]) -> str:
    costs = [1000 * one.cpu / one.events for one in repetitions if one.cpu is not None]
    return f"{statistics.median(costs):.4f}" if costs else "-"


def _share(used: Iterable[tuple[float | None, float]]) -> str:
    known = [cpu / seconds for cpu, seconds in used if cpu is not None]
    return f"{statistics.median(known):.0%}" if known else "-"
