"""The state of a simulated Opencast: its clock, its tables, their writers, and the request log."""

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from threading import Lock, local

from simulators.opencast.auth import Gate
from simulators.opencast.episodes import Episode, make_episodes
from simulators.opencast.faults import Faults
from simulators.opencast.options import Options
from simulators.opencast.rows import Ids, Row, RowWriter, Visitors
from simulators.opencast.table import Filter, Table, shuffled
from simulators.opencast.viewers import Player, Viewer, report
from simulators.opencast.workflows import Workflow, make_workflows
from simulators.opencast.zones import Zone

# MariaDB overestimates an index range by a factor of about two. If the estimate is most of the table, its plan for
# the same range occasionally changes to a scan. This is how often; prime, so that no client's request pattern
# always meets the same plan.
PLAN_CHANGES_EVERY = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """A logged request for actions.

    Attributes:
        at: When it arrived, epoch seconds of the real clock.
        status: The response's status, 0 if there was none.
        query: The request's parameters.
        bytes: Size of the response's body.
        rows: Number of useractions in it.
        read: Number of rows that MariaDB reads for it.
    """

    at: float
    status: int
    query: dict[str, str]
    bytes: int = 0
    rows: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True)
class ActionsPage:
    """The database's result for one request, and its cost.

    Attributes:
        total: The result of the COUNT.
        bodies: The JSON of the page's rows.
        read: Rows that MariaDB reads, as counted by its Handler_read_* variables: for the COUNT those in the index
            on `created`; for the page those skipped by the offset and those returned, or the table if it is
            scanned; and one row for each session on the page.
    """

    total: int
    bodies: list[bytes]
    read: int


class RequestLog:
    """Counts requests, including challenges but not control requests."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._here = local()
        self.reset()

    def note_read(self, rows: int) -> None:
        """Record how many rows the database reads for this thread's request."""
        self._here.read = rows

    @property
    def read_rows(self) -> int:
        """Return the number last recorded in this thread."""
        return int(self._here.read)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts = Counter[str]()
            self._statuses = Counter[int]()
            self._actions: list[Asked] = []

    def add(self, kind: str, asked: Asked) -> None:
        """Count a request for a kind of path."""
        with self._lock:
            self._counts[kind] += 1
            self._statuses[asked.status] += 1
            if kind == "actions":
                self._actions.append(asked)

    def read(self) -> tuple[Mapping[str, int], Mapping[int, int], Sequence[Asked]]:
        """Return counts by kind of path and by status (0: dropped), and the requests for actions by arrival."""
        with self._lock:
            return (
                dict(self._counts),
                dict(self._statuses),
                sorted(self._actions, key=lambda asked: asked.at),
            )


class Site:
    """All data that the endpoints read. Thread-safe."""

    def __init__(self, options: Options) -> None:
        """Create episodes and rows; `open` starts the clock for live rows and for 503s during startup."""
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
        self._node = local()
        self._turn = 0
        self._node_dice = Random(f"nodes {options.seed}")
        self._ids = Ids(options.seed)
        self._table = Table(RowWriter(self.profile, self.zone), self.zone.reported_ms)
        self._live = self._visitors("live")
        self._posted = self._visitors("posted")
        self._late: list[tuple[float, int, Row]] = []
        self._insert_rows, self._insert_back_s = 0, 0.0
        self._pages_by_time = 0
        self._opened = self._live_since = self._true_now()
        self._live_made = 0
        self._table.add(self._backlog())

    def open(self) -> None:
        """Begin: from now on live rows are written, and the startup phase (503) runs."""
        self._opened = self._live_since = self._true_now()

    @property
    def starting(self) -> bool:
        """Tell whether bundles are still starting, so that every response is a 503."""
        return 0 <= self._true_now() - self._opened < self.options.start_503_seconds

    def now(self) -> float:
        """Return the time, in epoch seconds, of the node that answers this thread's request."""
        return time.time() + self._clock_offset + getattr(self._node, "ahead", 0.0)

    def choose_node(self) -> None:
        """Choose the next node, or a random one, to answer this thread's request with its own clock."""
        clocks = self.options.node_clocks
        with self._lock:
            self._turn += 1
            number = (
                self._turn if self.options.node_choice == "in-turn" else self._node_dice.randrange(len(clocks))
            )
        self._node.ahead = clocks[number % len(clocks)]

    def set_clock(self, offset_seconds: float) -> float:
        """Set the server clock's offset from the real one; return the server's time."""
        with self._lock:
            self._write_live_rows()
            self._clock_offset = offset_seconds
            self._live_since, self._live_made = self._true_now(), 0
            return self.now()

    def read_page(self, where: Filter, offset: int, limit: int) -> ActionsPage:
        """Count the matching rows, then read the JSON of the page at a row offset."""
        with self._lock:
            self._write_live_rows()
            positions = self._table.matching(where)
            total = len(positions)
            if self._insert_rows:
                self._insert_before_end(where)
                positions = self._table.matching(where)
            page, read = self._page(positions, where, offset, limit)
            return ActionsPage(total, self._table.bodies(page), (total + 1) + read + self._table.sessions(page))

    def read_row(self, row_id: int) -> bytes | None:
        """Return the JSON of the row with this id."""
        with self._lock:
            self._write_live_rows()
            return self._table.by_primary_key(row_id)

    def insert_while_reading(self, rows: int, back_seconds: float) -> None:
        """From now on, write `rows` rows between COUNT and page of each request; 0 stops this."""
        with self._lock:
            self._insert_rows, self._insert_back_s = rows, back_seconds

    def new_row(self, created: float, row_id: int | None) -> Row:
        """Create a row as a player would at `created` (epoch seconds), without storing it.

        Raises `ValueError` or `OverflowError` if the id is taken or the time is outside the calendar.
        """
        with self._lock:
            self.zone.reported_ms(self._stored_ms(created))
            if row_id is not None:
                if row_id in self._table or any(row.id == row_id for _, _, row in self._late):
                    raise ValueError(f"id: {row_id} is taken")
                self._ids.take(row_id)
            return self._posted.row(self._stored_ms(created), row_id)

    def store(self, rows: Sequence[Row]) -> list[int]:
        """Make rows visible at once; return the time (epoch ms) at which each is reported as created."""
        with self._lock:
            self._table.add(rows)
            return [self.zone.reported_ms(row.created_ms) for row in rows]

    def delete(self, row_ids: frozenset[int]) -> None:
        """Delete visible rows."""
        with self._lock:
            self._table.delete(row_ids)

    def report(self, viewers: Sequence[Viewer], player: Player, rng: Random, lost: float) -> list[int]:
        """Store what the players of these viewers report, but for the share `lost`; return the ids of the rows."""
        with self._lock:
            rows = [replace(row, id=self._ids.next()) for row in report(viewers, player, rng, lost=lost)]
            self._table.add(rows)
            return [row.id for row in rows]

    def grow_footprints(self, seconds: int, only: frozenset[int] | None) -> list[int]:
        """Let visible FOOTPRINT rows grow in place; return their ids."""
        with self._lock:
            return self._table.grow_footprints(seconds, only)

    def report_footprints(self, rows: Sequence[Row]) -> list[int]:
        """Store footprints as `PUT /usertracking` does; return for each the id of the row that holds it.

        A footprint that begins where the session's newest one ends only extends that row.
        """
        ids = []
        with self._lock:
            for row in rows:
                last = self._table.newest_footprint(row.session.id)
                grows = last and (last.mediapackage, last.outpoint) == (row.mediapackage, row.inpoint)
                if last and grows:
                    self._table.grow_footprints(row.outpoint - row.inpoint, frozenset({last.id}))
                else:
                    self._table.add([row])
                ids.append(last.id if last and grows else row.id)
        return ids

    def footprints(self) -> list[Row]:
        """Return all FOOTPRINT rows in their current state."""
        with self._lock:
            return self._table.footprints()

    def truth(self, first_ms: int, last_ms: int, *, with_late: bool) -> list[int]:
        """Return the ids of all rows reported within these inclusive bounds; late ones only if `with_late`."""
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

    def _page(self, positions: Sequence[int], where: Filter, offset: int, limit: int) -> tuple[Sequence[int], int]:
        """Return the positions on a page, and the number of rows read for it."""
        upto = min(offset + limit, len(positions))
        if self.options.order == "shuffled":
            return shuffled(positions, offset, limit, f"{self.options.seed} {where}"), upto
        if self.options.order == "id" or (
            self.options.order == "mariadb" and self._scans(positions, where, offset, limit)
        ):
            by_id = self._table.by_id(positions)
            whole = len(self._table)
            # A scan stops at the end of the page. It has then read all rows with ids up to that of the last row.
            read = self._table.rank(by_id[offset + limit - 1]) if offset + limit <= len(by_id) else whole + 1
            return by_id[offset : offset + limit], read
        return positions[offset : offset + limit], upto

    def _scans(self, positions: Sequence[int], where: Filter, offset: int, limit: int) -> bool:
        """Tell whether MariaDB reads the table by its primary key, as 10.11 does with Opencast's statements.

        It does if no time range is requested, or if offset and limit exceed the table's number of rows; and
        sometimes if the range is most of the table. (It also does for a limit larger than the table, but here that
        page stays in the order of time.)
        """
        whole = len(self._table)
        if where.first_ms is None or offset + (limit if offset else 0) >= max(whole, 1_000):
            return True
        self._pages_by_time += 1
        return 2 * len(positions) >= whole and self._pages_by_time % PLAN_CHANGES_EVERY == 0

    def _true_now(self) -> float:
        """Return the time without the offset of a node's clock."""
        return self.now() - getattr(self._node, "ahead", 0.0)

    def _visitors(self, name: str) -> Visitors:
        return Visitors(self.options.seed, name, self.episodes, self._ids, omitted=self.options.omitted)

    def _stored_ms(self, created: float) -> int:
        """Return an instant (epoch seconds) as stored in the column."""
        ms = round(created * 1000)
        return ms if self.options.millis else ms // 1000 * 1000

    def _backlog(self) -> Iterable[Row]:
        """Spread the initial rows evenly, with half a step of jitter, over the span before `until`."""
        options = self.options
        visitors = self._visitors("backlog")
        step = options.span_seconds / max(1, options.rows)
        start = options.until - options.span_seconds
        for number in range(options.rows):
            jitter = (number * 0.618) % 1
            yield visitors.row(self._stored_ms(start + (number + jitter / 2) * step))

    def _write_live_rows(self) -> None:
        """Write the rows that are due, and make late rows visible that are due."""
        now = self._true_now()
        rate, clocks = self.options.live_rate, self.options.node_clocks
        rows = []
        while rate and (created := self._live_since + (self._live_made + 1) / rate) <= now:
            self._live_made += 1
            # Each node writes the time of its own clock.
            row = self._live.row(self._stored_ms(created + clocks[self._live_made % len(clocks)]))
            # Every (1/share)th row, so that the share is exact even for a few rows.
            share = self.options.late_share
            if int(self._live_made * share) > int((self._live_made - 1) * share):
                heapq.heappush(self._late, (created + self.options.late_seconds, row.id, row))
            else:
                rows.append(row)
        while self._late and self._late[0][0] <= now:
            rows.append(heapq.heappop(self._late)[2])
        self._table.add(rows)

    def _insert_before_end(self, where: Filter) -> None:
        """Write rows in the last seconds before the end of a request's range, or before now."""
        ends = [self.now()] if where.last_ms is None else [self.now(), where.last_ms / 1000]
        step = self._insert_back_s / self._insert_rows
        self._table.add(
            self._posted.row(self._stored_ms(min(ends) - step * (number + 0.5)))
            for number in range(self._insert_rows)
        )
