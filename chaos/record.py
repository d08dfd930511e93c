"""What happened in a run, as data: deliveries, watermarks, dead letters and faults. The verdict is made from it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """SQS has confirmed one record.

    Attributes:
        id: The useraction.
        at: When, seconds after the start.
        by: Who sent it: a worker, or `manage` for a command.
        told: Whether SQS's answer was passed on whole.
        created: The useraction's own time, seconds UTC.
        reach: Where it ends in the recording, which tells how far a footprint had grown.
    """

    id: int
    at: float
    by: str
    told: bool = True
    created: float = 0.0
    reach: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """A fault that happened; times are in seconds after the start.

    Attributes:
        kind: As in the schedule.
        target: To what.
        begin: When it began.
        end: When it was over; of a process that was started again, when it was ready.
        back_to: For `roll back`: when the snapshot was made.
    """

    kind: str
    target: str
    begin: float
    end: float
    back_to: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """A worker claimed a slice that another one still had, because that one's lease had ended.

    Attributes:
        start, end: The interval of the slice, seconds UTC.
        since: When the former worker claimed it, seconds after the start, like all that follows.
        at: When it was taken.
        until: When the slice was done.
    """

    start: float
    end: float
    since: float
    at: float
    until: float = math.inf

    def ended(self, now: float) -> "Taken":
        """Return the same of a slice that is done."""
        return dataclasses.replace(self, until=now)


@dataclasses.dataclass(frozen=True, slots=True)
class Ahead:
    """The watermark was written before all rows up to it were confirmed."""

    at: float
    watermark: str
    ids: Sequence[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A whole run.

    Attributes:
        source: Ids of the rows that Opencast has, up to the last watermark and in the history.
        late: Those that appeared late.
        indexed: Ids in the documents.
        deliveries: In the order of time.
        faults: What happened to the processes, and when the machine stood still.
        known: By id: when the row was marked as known in Redis, seconds after the start.
        taken: Slices that changed hands while somebody worked on them.
        ahead: Where the watermark was ahead of what was confirmed.
        marks: How often the watermark was written.
        seen: How often the observer read the watermark from S3.
        stuck: Descriptions of what never ended: runs, backfills, messages.
        leaked: Keys in Redis that should not be there.
        complaints: What commands said that should have succeeded.
        ticks: How many ticks after the last fault brought nothing until the watermark moved; None if it never did.
        recovery: Seconds from the last fault until then.
        dead_letters: How many dead letters there were before they were replayed.
    """

    source: frozenset[int]
    late: frozenset[int]
    indexed: frozenset[int]
    deliveries: Sequence[Delivery]
    faults: Sequence[Happened]
    known: Mapping[int, Sequence[float]]
    taken: Sequence[Taken]
    ahead: Sequence[Ahead]
    marks: int
    seen: int
    stuck: Sequence[str]
    leaked: Sequence[str]
    complaints: Sequence[str]
    ticks: int | None
    recovery: float
    dead_letters: int
