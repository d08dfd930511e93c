"""The state of one simulated Opencast: its clock, its tables, who writes to them, and what it was asked."""

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from simulators.opencast.auth import Gate
from simulators.opencast.episodes import Episode, make_episodes
from simulators.opencast.faults import Faults
from simulators.opencast.options import Options
from simulators.opencast.rows import Ids, Row, RowWriter, Visitors
from simulators.opencast.table import Filter, Table, shuffled
from simulators.opencast.workflows import Workflow, make_workflows
from simulators.opencast.zones import Zone

# With `--order mariadb`: prime, so that no rhythm of a client's requests always meets the same plan.
PLAN_CHANGES_EVERY = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """One answered request for actions: when it came (epoch seconds of the real clock), what for, and its size."""

    at: float
    status: int
    query: dict[str, str]
    bytes: int = 0
    rows: int = 0


class RequestLog:
    """Counts what was asked, control requests excluded and challenges included."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts = Counter[str]()
            self._statuses = Counter[int]()
            self._actions: list[Asked] = []

    def add(self, kind: str, asked: Asked) -> None:
        """Count one request of a kind of path."""
        with self._lock:
            self._counts[kind] += 1
            self._statuses[asked.status] += 1
            if kind == "actions":
                self._actions.append(asked)

    def read(self) -> tuple[Mapping[str, int], Mapping[int, int], Sequence[Asked]]:
        """Give counts by kind of path and by status (0: dropped), and the actions requests by start."""
        with self._lock:
            return (
                dict(self._counts),
                dict(self._statuses),
                sorted(self._actions, key=lambda asked: asked.at),
            )


class Site:
    """Everything that the endpoints read. Thread-safe."""

    def __init__(self, options: Options) -> None:
        """Make episodes and rows; `open` starts the time that live rows and 503s go by."""
        self.options = options
        self.profile = options.profile
        self.zone = Zone(options.zone, wall_time=options.wall_time)
        self.faults = Faults(options.seed)
        self.log = RequestLog()
        self.gate = Gate(
            options.profile,
            mode=options.auth,
            user=options.user,
            password=options.password,
            nonce_seconds=options.nonce_seconds,
            clock=self.now,
        )
        self.episodes: Sequence[Episode] = make_episodes(options.seed, options.episodes, int(options.until * 1000))
        self.workflows: Sequence[Workflow] = make_workflows(self.episodes)
        self._lock = Lock()
        self._clock_offset = 0.0
        self._ids = Ids(options.seed)
        self._table = Table(RowWriter(self.profile, self.zone), self.zone.reported_ms)
        self._live = self._visitors("live")
        self._posted = self._visitors("posted")
        self._late: list[tuple[float, int, Row]] = []
        self._insert_rows, self._insert_back_s = 0, 0.0
        self._pages_by_time = 0
        self._opened = self._live_since = self.now()
        self._live_made = 0
        self._table.add(self._backlog())

    def open(self) -> None:
        """Begin: from now on live rows are written, and the service counts as starting."""
        self._opened = self._live_since = self.now()

    @property
    def starting(self) -> bool:
        """Tell whether bundles still start, and everything answers 503."""
        return 0 <= self.now() - self._opened < self.options.start_503_seconds

    def now(self) -> float:
        """Give the server's clock, epoch seconds."""
        return time.time() + self._clock_offset

    def set_clock(self, offset_seconds: float) -> float:
        """Let the server's clock differ from the real one; return what it says now."""
        with self._lock:
            self._write_live_rows()
            self._clock_offset = offset_seconds
            self._live_since, self._live_made = self.now(), 0
            return self.now()

    def read_page(self, where: Filter, offset: int, limit: int) -> tuple[int, list[bytes]]:
        """Count, then read a page: the JSON of its rows, by row offset."""
        with self._lock:
            self._write_live_rows()
            positions = self._table.matching(where)
            total = len(positions)
            if self._insert_rows:
                self._insert_before_end(where)
                positions = self._table.matching(where)
            return total, self._table.bodies(self._page(positions, where, offset, limit))

    def read_row(self, row_id: int) -> bytes | None:
        """Give the JSON of one row by its id."""
        with self._lock:
            self._write_live_rows()
            return self._table.by_primary_key(row_id)

    def insert_while_reading(self, rows: int, back_seconds: float) -> None:
        """From now on write `rows` between COUNT and page of each request, 0 to stop."""
        with self._lock:
            self._insert_rows, self._insert_back_s = rows, back_seconds

    def new_row(self, created: float, row_id: int | None) -> Row:
        """Make a row as a player would at `created` (epoch seconds), without storing it.

        Raises `ValueError` or `OverflowError` for an id that is taken and a time that no calendar has.
        """
        with self._lock:
            self.zone.reported_ms(self._stored_ms(created))
            if row_id is not None:
                if row_id in self._table or any(row.id == row_id for _, _, row in self._late):
                    raise ValueError(f"id: {row_id} is taken")
                self._ids.take(row_id)
            return self._posted.row(self._stored_ms(created), row_id)

    def store(self, rows: Sequence[Row]) -> list[int]:
        """Make rows visible at once; return when each is reported as created, epoch ms."""
        with self._lock:
            self._table.add(rows)
            return [self.zone.reported_ms(row.created_ms) for row in rows]

    def grow_footprints(self, seconds: int, only: frozenset[int] | None) -> list[int]:
        """Let visible FOOTPRINT rows grow in place; return their ids."""
        with self._lock:
            return self._table.grow_footprints(seconds, only)

    def truth(self, first_ms: int, last_ms: int, *, with_late: bool) -> list[int]:
        """Give the ids of all rows reported within these bounds (inclusive), the late ones on demand."""
        with self._lock:
            self._write_live_rows()
            ids = self._table.ids(first_ms, last_ms)
            if with_late:
                ids += [
                    row.id
                    for _, _, row in self._late
                    if first_ms <= self.zone.reported_ms(row.created_ms) <= last_ms
                ]
            return ids

    def _page(self, positions: Sequence[int], where: Filter, offset: int, limit: int) -> Sequence[int]:
        if self.options.order == "shuffled":
            return shuffled(positions, offset, limit, f"{self.options.seed} {where}")
        if self.options.order == "id" or (self.options.order == "mariadb" and self._scans_all(where)):
            positions = self._table.by_id(positions)
        return positions[offset : offset + limit]

    def _scans_all(self, where: Filter) -> bool:
        """Tell whether MariaDB reads the primary key: where no time is asked for, or its plan has changed."""
        if where.first_ms is None:
            return True
        self._pages_by_time += 1
        return self._pages_by_time % PLAN_CHANGES_EVERY == 0

    def _visitors(self, name: str) -> Visitors:
        return Visitors(self.options.seed, name, self.episodes, self._ids, omitted=self.options.omitted)

    def _stored_ms(self, created: float) -> int:
        """Give an instant (epoch seconds) as the column keeps it."""
        ms = round(created * 1000)
        return ms if self.options.millis else ms // 1000 * 1000

    def _backlog(self) -> Iterable[Row]:
        """Spread the first rows evenly, half a step of jitter each, over the span before `until`."""
        options = self.options
        visitors = self._visitors("backlog")
        step = options.span_seconds / max(1, options.rows)
        start = options.until - options.span_seconds
        for number in range(options.rows):
            jitter = (number * 0.618) % 1
            yield visitors.row(self._stored_ms(start + (number + jitter / 2) * step))

    def _write_live_rows(self) -> None:
        """Write the rows that are due by now, and show the late ones whose time has come."""
        now = self.now()
        rate = self.options.live_rate
        rows = []
        while rate and (created := self._live_since + (self._live_made + 1) / rate) <= now:
            self._live_made += 1
            row = self._live.row(self._stored_ms(created))
            # Every 1/share-th row, so that a share holds for a handful of rows too.
            share = self.options.late_share
            if int(self._live_made * share) > int((self._live_made - 1) * share):
                heapq.heappush(self._late, (created + self.options.late_seconds, row.id, row))
            else:
                rows.append(row)
        while self._late and self._late[0][0] <= now:
            rows.append(heapq.heappop(self._late)[2])
        self._table.add(rows)

    def _insert_before_end(self, where: Filter) -> None:
        """Write rows over the last seconds before the end of a request's range, or before now."""
        ends = [self.now()] if where.last_ms is None else [self.now(), where.last_ms / 1000]
        step = self._insert_back_s / self._insert_rows
        self._table.add(
            self._posted.row(self._stored_ms(min(ends) - step * (number + 0.5)))
            for number in range(self._insert_rows)
        )
