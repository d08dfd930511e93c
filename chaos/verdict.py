"""Judges a run: what is wrong, and why rows were repeated. Pure."""

import collections
import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from chaos.record import Delivery, Happened, Record, Taken

TICKS = 2  # after the last fault that may bring nothing before the watermark moves
# Clocks of threads differ: what a thread notes may have happened so many seconds before or after.
SLACK = 1.5
# Within so many seconds a worker that nothing holds up marks a confirmed row as known: when its slice is done.
MARKED = 5.0
STANDS = 3  # leases: a worker that stands still may send what it had prepared so much later
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
    first: dict[int, Delivery] = {}
    newest: dict[int, Delivery] = {}
    for delivery in record.deliveries:
        before = newest.get(delivery.id)
        newest[delivery.id] = delivery
        grew = first.setdefault(delivery.id, delivery).reach < (before or delivery).reach
        if before is not None:
            cause = cause_of(before, delivery, record, lease, grew=grew)
            if cause is None:
                unexplained.append((before, delivery))
            else:
                counted[cause] += 1
    return counted, unexplained


def cause_of(before: Delivery, again: Delivery, record: Record, lease: float, *, grew: bool) -> str | None:
    """Return why a row was delivered again after `before`, one of CAUSES; None if nothing allows it.

    A row that is known is sent again only if it grew, or if its slice had changed hands before. A row that is not known
    is sent again if Redis lost that it was, or if a fault hit its worker before it could mark it.

    Args:
        before: A delivery.
        again: The next one of the same row.
        record: The run.
        lease: HARVEST_LEASE_SECONDS.
        grew: `before` was sent because a footprint grew. That is not remembered with the ids.
    """
    if again.by == "manage":
        return ASKED
    if not before.told:
        return CONFIRMATION
    faults = [fault for fault in record.faults if fault.begin <= again.at]
    causes = {
        cause
        for taken in record.taken
        for fault in faults
        if _concerns(taken, before, again, lease) and (cause := _took(fault, taken, {before.by, again.by}))
    }
    marks = [at for at in record.known.get(before.id, ()) if at <= again.at]
    if marks and again.reach > before.reach:
        causes.add(GREW)
    kept = not grew and any(not any(_lost(fault, at) for fault in faults) for at in marks)
    own = [at for at in marks if at >= before.at - SLACK]  # what this delivery led to
    if not kept:
        causes |= {LOST_DATA for fault in faults for at in (before.at, *own) if _lost(fault, at)}
    if not kept and not own:
        causes |= {cause for fault in faults if (cause := _kept_from_marking(fault, before, record, lease))}
    return next((cause for cause in CAUSES if cause in causes), None)


def _lost(fault: Happened, at: float) -> bool:
    """Tell whether Redis lost with this fault what it knew at that time."""
    return fault.kind in {"lose", "roll back"} and fault.back_to < at <= fault.end


def _concerns(taken: Taken, before: Delivery, again: Delivery, lease: float) -> bool:
    """Tell whether both deliveries may be of the two workers that had this slice."""
    return (
        taken.start <= before.created < taken.end
        and taken.since - SLACK <= before.at <= taken.until + SLACK
        and taken.at - SLACK <= again.at <= taken.until + STANDS * lease
    )


def _took(fault: Happened, taken: Taken, workers: AbstractSet[str]) -> str | None:
    """Return what this fault makes of a repeat, if it kept a worker from renewing the lease of its slice."""
    if fault.begin > taken.at or fault.end < taken.since:
        return None
    match fault.kind, fault.target:
        case "stop", target if target in workers | {"Redis", "machine"}:
            return PAUSE
        case "kill", target if target in workers:
            return CRASH
        case (("restart" | "disconnect"), "Redis"):
            return CRASH
    return None


def _kept_from_marking(fault: Happened, before: Delivery, record: Record, lease: float) -> str | None:
    """Return what this fault makes of a repeat, if it kept the worker from marking the confirmed row as known."""
    end, found = fault.end + SLACK, None
    match fault.kind, fault.target:
        case "kill", before.by:
            found = CRASH
        case (("restart" | "disconnect"), "Redis"):
            found = CRASH
        case "stop", "Redis":
            found = PAUSE
        case "stop", "S3/SQS":
            end, found = end + lease, CONFIRMATION
    begin = fault.begin - MARKED - _stood_still(before, fault.begin, record)
    return found if begin <= before.at <= end else None


def _stood_still(before: Delivery, until: float, record: Record) -> float:
    """Return for how many seconds something held up the worker between a delivery and a fault."""
    held = {before.by, "Redis", "S3/SQS", "machine"}
    stops = [fault for fault in record.faults if fault.kind == "stop" and fault.target in held]
    return sum(max(0.0, min(stop.end, until) - max(stop.begin, before.at)) for stop in stops)


def _some(ids: "Sequence[int] | frozenset[int] | set[int]") -> str:
    shown = ", ".join(map(str, sorted(ids)[:SHOWN]))
    return f"{shown}, …" if len(ids) > SHOWN else shown
