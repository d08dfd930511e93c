"""Judges a run: what is wrong, and why rows were repeated. Pure."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

from chaos.record import Delivery, Happened, Record

TICKS = 2  # after the last fault that may bring nothing before the watermark moves
# A row may be confirmed this many seconds before or after the fault that makes it unknown: clocks of threads differ,
# and a worker marks rows as known only after the confirmation.
SLACK = 1.5
SHOWN = 5  # most ids in a message

LOST_DATA, CRASH, PAUSE, CONFIRMATION, GREW, ASKED = (
    "Redis lost data",
    "crash",
    "pause",
    "lost confirmation",
    "footprint grew",
    "replayed",
)
CAUSES = (CRASH, PAUSE, CONFIRMATION, GREW, LOST_DATA, ASKED)
"""Why a row may be delivered twice, as docs/design.md promises. Of several, the first counts: it hit the sender."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run.

    Attributes:
        wrong: A line for each violation; empty if all is well.
        repeats: How often a row was delivered again, by cause.
        lost: How many rows of the source are not in the queue or not in the documents.
    """

    wrong: Sequence[str]
    repeats: collections.Counter[str]
    lost: int


def judge(record: Record, *, lease: float) -> Verdict:
    """Judge a run in which HARVEST_LEASE_SECONDS was `lease`."""
    wrong: list[str] = []
    delivered = {delivery.id for delivery in record.deliveries}
    unsent = record.source - delivered
    unindexed = record.source - record.indexed
    if unsent:
        late = f", {len(unsent & record.late)} of them late" if unsent & record.late else ""
        wrong.append(f"lost: {len(unsent)} rows never came into the queue{late}: {_some(unsent)}")
    if unindexed - unsent:
        wrong.append(f"lost: {len(unindexed - unsent)} rows have no document: {_some(unindexed - unsent)}")
    wrong += [
        f"ahead: at {one.at:.1f} s the watermark {one.watermark} was written, but {len(one.ids)} rows before it were"
        f" not confirmed: {_some(one.ids)}"
        for one in record.ahead
    ]
    repeats, unexplained = _repeats(record, lease)
    if unexplained:
        first = min(unexplained, key=lambda pair: pair[1].at)
        wrong.append(
            f"repeated: {len(unexplained)} rows came again without a cause: {_some([two.id for _, two in unexplained])}"
            f" (first by {first[0].by} at {first[0].at:.1f} s, again by {first[1].by} at {first[1].at:.1f} s)"
        )
    wrong += [f"stuck: {what}" for what in record.stuck]
    if record.leaked:
        wrong.append(f"leaked: {len(record.leaked)} keys in Redis: {', '.join(sorted(record.leaked)[:SHOWN])}")
    wrong += record.complaints
    if not record.marks or not record.seen:
        wrong.append(
            f"observer: saw {record.marks} watermarks written and read {record.seen}, so it proves nothing"
        )
    if record.ticks is None:
        wrong.append("recovery: the watermark never moved again after the last fault")
    elif record.ticks > TICKS:
        wrong.append(f"recovery: {record.ticks} ticks after the last fault brought nothing, more than {TICKS}")
    return Verdict(wrong, repeats, len(unsent | unindexed))


def _repeats(record: Record, lease: float) -> tuple[collections.Counter[str], Sequence[tuple[Delivery, Delivery]]]:
    counted: collections.Counter[str] = collections.Counter()
    unexplained = []
    for before, again in _pairs(record.deliveries):
        cause = cause_of(before, again, record, lease)
        if cause is None:
            unexplained.append((before, again))
        else:
            counted[cause] += 1
    return counted, unexplained


def _pairs(deliveries: Sequence[Delivery]) -> Iterator[tuple[Delivery, Delivery]]:
    """Yield each repeat with the delivery of the same row before it."""
    newest: dict[int, Delivery] = {}
    for delivery in deliveries:
        if delivery.id in newest:
            yield newest[delivery.id], delivery
        newest[delivery.id] = delivery


def cause_of(before: Delivery, again: Delivery, record: Record, lease: float) -> str | None:
    """Return why a row was delivered again after `before`, one of CAUSES; None if nothing allows it."""
    if again.by == "manage":
        return ASKED
    if not before.told:
        return CONFIRMATION
    if any(at <= again.at for at in record.grown.get(before.id, ())):
        return GREW
    causes = {_cause(fault, before, lease) for fault in record.faults if fault.begin <= again.at}
    return next((cause for cause in CAUSES if cause in causes), None)


def _cause(fault: Happened, before: Delivery, lease: float) -> str | None:
    """Return what this fault made of a row that was delivered `before`; None if it cannot have made it unknown."""
    begin, end = fault.begin - SLACK, fault.end + SLACK
    found: str | None = None
    match fault.kind, fault.target:
        case "lose", _:
            begin, found = 0.0, LOST_DATA
        case "roll back", _:
            begin, found = fault.back_to - SLACK, LOST_DATA
        case "kill", before.by:
            found = CRASH
        case (("restart" | "disconnect"), "Redis"):
            found = CRASH
        # The row is marked as known only after the pause, and until then another worker may have sent it.
        case "stop", (before.by | "Redis" | "machine"):
            found = PAUSE
        case "stop", "S3/SQS":
            end, found = end + lease, CONFIRMATION
    return found if begin <= before.at <= end else None


def _some(ids: "Sequence[int] | frozenset[int] | set[int]") -> str:
    shown = ", ".join(map(str, sorted(ids)[:SHOWN]))
    return f"{shown}, …" if len(ids) > SHOWN else shown
