"""Which faults happen when: a pure function of the seed, so that a failing seed runs again."""

import dataclasses
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

Kind = Literal[
    "kill",
    "terminate",
    "stop",
    "restart",
    "lose",
    "roll back",
    "disconnect",
    "answer",
    "step",
    "insert",
    "grow",
    "delete",
    "audit",
]
Moment = Literal["", "before sending", "sending", "committing"]

WORKERS = ("worker1", "worker2", "worker3")
BEATS = ("beat1", "beat2")
REDIS, AWS, OPENCAST, DOCUMENTS = "Redis", "S3/SQS", "Opencast", "Elasticsearch"
QUIET = 3.0  # seconds without faults at the beginning, so that there is something to break
TRAP_SECONDS = 8.0  # two ticks: a fault that waits for its moment happens after this time anyway
_MOMENTS: dict[Moment, str] = {
    "": "",
    "before sending": ", before a batch reaches SQS",
    "sending": ", as a batch is sent",
    "committing": ", as the watermark is written",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at: When it begins, seconds after the start.
        kind: What happens.
        target: To what.
        seconds: How long it lasts. For `roll back`: how old the snapshot is. For `step`: how far the clock jumps,
            negative for back.
        moment: It waits, at most TRAP_SECONDS, until a worker is about to send a batch, has sent one, or has written
            the watermark, and has not heard that. A worker that is the target is then the one that did it.
        amount: Rows, or for `answer` the share of the calls in percent; otherwise 0.
        dice: Seeds what else is chosen by chance.
    """

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0
    moment: Moment = ""
    amount: int = 0
    dice: int = 0

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.words}"

    @property
    def words(self) -> str:
        """What happens, in a few words."""
        match self.kind:
            case "kill" | "terminate" | "restart" | "disconnect" | "lose":
                what = {"kill": "killed", "terminate": "ended by SIGTERM", "restart": "killed and started again"}
                what |= {"disconnect": "drops all connections", "lose": "loses its data"}
                words = f"{self.target} {what[self.kind]}"
            case "stop":
                words = f"{self.target} stands still for {self.seconds:.1f} s"
            case "roll back":
                words = f"{self.target} goes back to a snapshot of {self.seconds:.1f} s before"
            case "answer":
                words = (
                    f"{self.target} gives wrong answers to {self.amount} % of the calls for {self.seconds:.1f} s"
                )
            case "step":
                words = f"{self.target}'s clock jumps by {self.seconds:+.0f} s"
            case "insert":
                words = f"{self.amount} rows appear late at {self.target}"
            case "grow":
                words = f"{self.amount} footprints grow at {self.target}"
            case "delete":
                words = f"{self.amount} rows of the history are deleted at {self.target}"
            case "audit":
                words = "manage.py audit runs"
        return words + _MOMENTS[self.moment]

    @property
    def end(self) -> float:
        """When it is over, seconds after the start."""
        return self.at + (self.seconds if self.kind in {"stop", "answer"} else 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much happens.

    Attributes:
        seconds: How long faults happen.
        kills: Processes that are killed.
        losses: How often Redis loses its data or goes back to a snapshot.
        others: Faults of each other kind.
        lease: HARVEST_LEASE_SECONDS; a process that stands still does so for longer.
        cluster: Whether documents go to Elasticsearch, which can then fail too.
    """

    seconds: float
    kills: int
    losses: int
    others: int
    lease: float
    cluster: bool


def schedule(seed: int, scale: Scale) -> tuple[Fault, ...]:
    """Return the faults of a seed, in the order in which they begin."""
    rng = Random(f"chaos {seed}")
    faults: list[Fault] = []

    def at() -> float:
        return round(rng.uniform(QUIET, scale.seconds), 1)

    def moment(*choices: Moment) -> Moment:
        return rng.choice(choices)

    for _ in range(scale.kills):
        target = rng.choice((*WORKERS * 4, *BEATS, REDIS))
        if target == REDIS:
            faults.append(Fault(at(), "restart", target, moment=moment("", "sending")))
        elif target in BEATS:
            faults.append(Fault(at(), "kill", target))
        else:
            dice = rng.randrange(100)
            faults.append(Fault(at(), "kill", target, moment=moment("", *list(_MOMENTS)[1:]), dice=dice))
    # At even distances, because each makes the repeats of the other possible.
    part = (scale.seconds - QUIET) / max(1, scale.losses)
    for number in range(scale.losses):
        begin = round(QUIET + part * (number + rng.uniform(0.3, 0.9)), 1)
        how: Kind = "lose" if number % 2 == seed % 2 else "roll back"
        age = round(rng.uniform(1, min(15, begin - 0.5)), 1) if how == "roll back" else 0.0
        faults.append(Fault(begin, how, REDIS, age, moment("", "sending", "committing")))
    others = _others(rng, scale)
    for _ in range(scale.others):
        faults += [make(at()) for make in others]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _others(rng: Random, scale: Scale) -> Sequence[Callable[[float], Fault]]:
    """Return what makes one fault of each other kind."""
    upstreams = (AWS, OPENCAST, DOCUMENTS) if scale.cluster else (AWS, OPENCAST)

    def still() -> float:
        return round(rng.uniform(1.2, 2.5) * scale.lease, 1)

    def short() -> float:
        return round(rng.uniform(0.5, 3.0), 1)

    def dice() -> int:
        return rng.randrange(2**31)

    return (
        lambda at: Fault(at, "terminate", rng.choice(WORKERS)),
        lambda at: Fault(at, "stop", rng.choice(WORKERS), still()),
        lambda at: Fault(at, "stop", rng.choice((REDIS, *upstreams)), short()),
        lambda at: Fault(at, "disconnect", REDIS),
        lambda at: Fault(
            at, "answer", rng.choice(upstreams), short(), amount=rng.choice((10, 30, 100)), dice=dice()
        ),
        lambda at: Fault(at, "step", OPENCAST, rng.choice((-4.0, -2.0, 2.0, 4.0))),
        lambda at: Fault(at, "insert", OPENCAST, amount=rng.randrange(1, 20), dice=dice()),
        lambda at: Fault(at, "insert", OPENCAST, amount=rng.randrange(1, 4), dice=dice()),
        lambda at: Fault(at, "grow", OPENCAST, amount=rng.randrange(1, 6), dice=dice()),
        lambda at: Fault(at, "delete", OPENCAST, amount=rng.randrange(1, 6), dice=dice()),
        lambda at: Fault(at, "audit", OPENCAST),
    )


def last_end(faults: Sequence[Fault]) -> float:
    """Return when the last fault is over, seconds after the start; 0 without faults."""
    return max((fault.end for fault in faults), default=0.0)
