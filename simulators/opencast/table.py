"""The `oc_user_action` table: columns sorted by reported time, and pages of prepared JSON."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import gcd
from zlib import crc32

from simulators.opencast.rows import Row, RowWriter

# Up to this many rows are inserted one by one; for more, sorting again is cheaper.
_SINGLY = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """The WHERE clause of a request: inclusive bounds in epoch ms, as reported; None means unbounded."""

    first_ms: int | None = None
    last_ms: int | None = None
    type: str | None = None
    mediapackage: str | None = None


class Table:
    """All visible rows. Not thread-safe; the site holds a lock."""

    def __init__(self, writer: RowWriter, reported_ms: Callable[[int], int]) -> None:
        """Store rows as written by `writer`, at the time that `reported_ms` returns for their own time."""
        self._writer = writer
        self._reported_ms = reported_ms
        self._times = array("q")
        self._ids = array("q")
        self._bodies: list[bytes] = []
        self._types: list[str] = []
        self._mediapackages: list[str] = []
        self._sessions: list[str] = []
        self._footprints: dict[int, Row] = {}

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._ids)

    def __contains__(self, row_id: object) -> bool:
        """Tell whether a row has this id."""
        return row_id in self._ids

    def add(self, rows: Iterable[Row]) -> None:
        """Store rows, in any order of time."""
        stragglers = []
        for row in rows:
            time_ms = self._reported_ms(row.created_ms)
            if self._times and time_ms < self._times[-1]:
                stragglers.append(row)
            else:
                self._insert(len(self._times), row, time_ms)
        for row in stragglers:
            time_ms = self._reported_ms(row.created_ms)
            singly = len(stragglers) <= _SINGLY
            self._insert(bisect_right(self._times, time_ms) if singly else len(self._times), row, time_ms)
        if len(stragglers) > _SINGLY:
            self._sort()

    def delete(self, row_ids: frozenset[int]) -> None:
        """Delete rows; ids that do not exist do no harm."""
        for position in reversed([place for place, row_id in enumerate(self._ids) if row_id in row_ids]):
            self._footprints.pop(self._ids[position], None)
            for column in (
                self._times,
                self._ids,
                self._bodies,
                self._types,
                self._mediapackages,
                self._sessions,
            ):
                del column[position]

    def grow_footprints(self, seconds: int, only: frozenset[int] | None) -> list[int]:
        """Extend FOOTPRINT rows (all, or those in `only`) in place; return their ids."""
        grown = [row for row in self._footprints.values() if only is None or row.id in only]
        for row in grown:
            time_ms = self._reported_ms(row.created_ms)
            position = self._ids.index(row.id, bisect_left(self._times, time_ms))
            self._footprints[row.id] = row.grown(seconds)
            self._bodies[position] = self._writer.write(self._footprints[row.id], time_ms)
        return [row.id for row in grown]

    def newest_footprint(self, session: str) -> Row | None:
        """Return the newest FOOTPRINT row of a session."""
        own = [row for row in self._footprints.values() if row.session.id == session]
        return max(own, key=lambda row: row.created_ms, default=None)

    def footprints(self) -> list[Row]:
        """Return all FOOTPRINT rows in their current state."""
        return list(self._footprints.values())

    def matching(self, where: Filter) -> Sequence[int]:
        """Return the positions of matching rows, ordered by `created`."""
        low = 0 if where.first_ms is None else bisect_left(self._times, where.first_ms)
        high = len(self._times) if where.last_ms is None else bisect_right(self._times, where.last_ms)
        span = range(low, max(low, high))
        if where.type is None:
            return span
        # MariaDB's default collation is case-insensitive.
        wanted = where.type.casefold()
        return [
            position
            for position in span
            if self._types[position].casefold() == wanted
            and where.mediapackage in (None, self._mediapackages[position])
        ]

    def ids(self, first_ms: int, last_ms: int) -> list[int]:
        """Return the ids of the rows reported within these inclusive bounds."""
        return [self._ids[position] for position in self.matching(Filter(first_ms, last_ms))]

    def by_primary_key(self, row_id: int) -> bytes | None:
        """Return the JSON of the row with this id."""
        return self._bodies[self._ids.index(row_id)] if row_id in self._ids else None

    def by_id(self, positions: Sequence[int]) -> Sequence[int]:
        """Order positions by row id, as a full scan of the primary key does."""
        return sorted(positions, key=self._ids.__getitem__)

    def rank(self, position: int) -> int:
        """Count the rows that a scan of the primary key reads up to and including the one at this position."""
        last = self._ids[position]
        return sum(row_id <= last for row_id in self._ids)

    def sessions(self, positions: Iterable[int]) -> int:
        """Count the distinct sessions of these rows; Opencast queries each of them."""
        return len({self._sessions[position] for position in positions})

    def bodies(self, positions: Iterable[int]) -> list[bytes]:
        """Return the JSON of the rows at these positions."""
        bodies = self._bodies
        return [bodies[position] for position in positions]

    def _insert(self, position: int, row: Row, time_ms: int) -> None:
        self._times.insert(position, time_ms)
        self._ids.insert(position, row.id)
        self._bodies.insert(position, self._writer.write(row, time_ms))
        self._types.insert(position, row.type)
        self._mediapackages.insert(position, row.mediapackage)
        self._sessions.insert(position, row.session.id)
        if row.type == "FOOTPRINT":
            self._footprints[row.id] = row

    def _sort(self) -> None:
        order = sorted(range(len(self._times)), key=self._times.__getitem__)
        self._times = array("q", [self._times[position] for position in order])
        self._ids = array("q", [self._ids[position] for position in order])
        self._bodies = [self._bodies[position] for position in order]
        self._types = [self._types[position] for position in order]
        self._mediapackages = [self._mediapackages[position] for position in order]
        self._sessions = [self._sessions[position] for position in order]


def shuffled(positions: Sequence[int], offset: int, limit: int, salt: str) -> list[int]:
    """Return one page of the positions in a pseudo-random order.

    It uses a rotation and a stride coprime to the number of rows, which is O(page) for any table. The same query
    over the same rows gets the same order, so its pages are consistent. With one more row the order changes
    completely, as when the database changes its plan, so that pages by offset skip and repeat rows.
    """
    count = len(positions)
    if not count:
        return []
    chance = crc32(f"{salt} {count}".encode())
    stride = max(1, int(count * 0.618) - chance % (count // 4 + 1))
    while gcd(stride, count) != 1:
        stride += 1
    return [positions[(chance + stride * step) % count] for step in range(offset, min(count, offset + limit))]
