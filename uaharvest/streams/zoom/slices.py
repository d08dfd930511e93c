"""The slices of the stream of Zoom meetings: a meeting, or a host."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from uaharvest.intervals import Interval
from uaharvest.runs.days import DAY, midnight_of
from uaharvest.zoom.endpoints import ListKind, Source, kind_named

SECOND = timedelta(seconds=1)
HOST = "host"  # marks a host in a slice id, where a meeting has the name of its list


@dataclasses.dataclass(frozen=True, slots=True)
class Meeting:
    """A slice: one meeting.

    The slice id holds everything that a worker needs, so the run stores nothing else. It names no person.

    Attributes:
        kind: The list that it was in; requests for its participants need it again.
        uuid: The meeting's uuid.
        start: When it started, whole seconds UTC; if unknown, the last second of the requested days.
        state: Digest of the list's fields that change when the participants change.
        joins: Number of participant rows according to the list; 0: not given.
        listed_by: The endpoints that listed it.
    """

    kind: ListKind
    uuid: str
    start: datetime
    state: str
    joins: int = 0
    listed_by: Source = "dashboard"

    def __str__(self) -> str:
        said = [self.kind, self.uuid, int(self.start.timestamp()), self.state, self.joins, self.listed_by]
        return json.dumps(said, separators=(",", ":"))

    @property
    def known_id(self) -> str:
        """Return the id that marks its participants as indexed. A meeting that changes gets a new one."""
        return f"{self.uuid} {self.state}"

    @property
    def interval(self) -> Interval:
        """Return the second in which the meeting started."""
        return Interval(self.start, self.start + SECOND)

    @property
    def payload(self) -> Mapping[str, str]:
        """Return what is needed to fetch the meeting again."""
        return {"uuid": self.uuid, "kind": self.kind, "start": f"{self.start:%FT%TZ}"}

    def halves(self) -> "Sequence[Meeting]":
        """Return nothing: a meeting cannot be divided."""
        return []


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A slice: the meetings of a host whose list Zoom refused while it returned those of other hosts.

    Attributes:
        id: The host's id; it names no person.
        first: The first requested day, UTC.
        last: The last requested day, UTC.
    """

    id: str
    first: date
    last: date

    def __str__(self) -> str:
        return json.dumps([HOST, self.id, f"{self.first:%F}", f"{self.last:%F}"], separators=(",", ":"))

    @property
    def interval(self) -> Interval:
        """Return the last second of its days."""
        end = midnight_of(self.last) + DAY
        return Interval(end - SECOND, end)

    @property
    def payload(self) -> Mapping[str, str]:
        """Return what is needed to list its meetings again."""
        return {"host": self.id, "from": f"{self.first:%F}", "to": f"{self.last:%F}"}

    def halves(self) -> "Sequence[Host]":
        """Return nothing: a host's list cannot be divided."""
        return []


Slice = Meeting | Host


def parse_slice(text: str) -> Slice:
    """Parse the result of `str()` of a meeting or a host."""
    kind, name, start, *rest = json.loads(text)
    if kind == HOST:
        return Host(name, date.fromisoformat(start), date.fromisoformat(*rest))
    # Earlier versions wrote four fields.
    return Meeting(kind_named(kind), name, datetime.fromtimestamp(start, UTC), *rest)
