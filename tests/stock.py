"""A stock Opencast in memory, in simulated time, and a world that harvests from it; only Redis is real."""

import random
from datetime import UTC, datetime, timedelta

from tests.fakes import DESTINATION, World, no_gates
from uaharvest.errors import SourceError
from uaharvest.opencast.actions import read_rows
from uaharvest.opencast.client import ActionsPage
from uaharvest.opencast.stock import DaySource
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.delivered import known_key
from uaharvest.streams.stock import StockUseractions
from uaharvest.streams.stock.day_ids import IdsByDay

ORDERS = ("created", "id", "insertion", "shuffled", "mariadb")
LATENCY = 0.06  # seconds of a request


class StockRow:
    """A row; `wall` is what its column holds: local wall time, whole seconds or milliseconds."""

    __slots__ = ("at", "id", "wall")

    def __init__(self, row_id, wall, at):
        self.id = row_id
        self.wall = wall
        self.at = at

    @property
    def created(self):
        """When it is told to have been made."""
        return datetime.fromtimestamp(self.at, UTC)


class StockOpencast:
    """Answers as `actions.json` of a stock Opencast does: its day, its hidden minute, its lack of an order.

    Each request takes time, and rows may appear in the midst of it: `during` is called between count and page.
    """

    base_url = "http://engage.example.edu/"

    def __init__(self, clock, zone, *, order="mariadb", millis=False, seed=0):
        self.clock = clock
        self.zone = zone
        self.order = order
        self.millis = millis
        self.random = random.Random(seed)
        self.rows = []
        self.during = lambda: None
        self.gates = no_gates
        self.fails = lambda *asked: None
        self.broken_days = set()  # of which it tells nothing
        self.broken = set()  # ids that it fails at, whatever page they are on
        self.nodes = [0.0]  # seconds that their clocks are ahead; a random one answers
        self.older = 0  # rows of other days in the table
        self.requests = 0
        self.transferred = 0
        self.read = 0  # rows that MariaDB reads: those of the COUNT, and up to the end of the page
        self.looked_up = 0
        self._blocks = [[], []]
        self._next_block = 1

    def new_id(self):
        """Take the next id of a random node's block of 50; now and then another table has the block."""
        block = self.random.choice(self._blocks)
        if not block:
            self._next_block += 50 * self.random.choice((0, 0, 0, 1))
            block += range(self._next_block + 49, self._next_block - 1, -1)
            self._next_block += 50
        return block.pop()

    def add(self, *instants, ids=()):
        """Let rows appear that were made at `instants` (aware), with `ids` or new ones; return their ids."""
        ids = list(ids) or [self.new_id() for _ in instants]
        for row_id, made in zip(ids, instants, strict=True):
            wall = made.astimezone(self.zone).replace(tzinfo=None)
            wall = wall.replace(microsecond=wall.microsecond // 1000 * 1000 if self.millis else 0)
            # The column knows the wall time only: in a repeated hour the first pass is told as the second.
            told = max(wall.replace(tzinfo=self.zone, fold=fold).timestamp() for fold in (0, 1))
            self.rows.append(StockRow(row_id, wall, told))
        return ids

    def actions_of_day(self, day, limit, offset=0, *, timeout=60):
        self._spend("day", limit)
        if day in self.broken_days:
            raise SourceError(f"{day} fails")
        now = self.clock.now + timedelta(
            seconds=self.random.choice(self.nodes) if len(self.nodes) > 1 else self.nodes[0]
        )
        phase = now.astimezone(self.zone).replace(tzinfo=None)
        first = datetime(day.year, day.month, day.day, 0, 0, phase.second, phase.microsecond // 1000 * 1000)
        last = first.replace(hour=23, minute=59)
        total = sum(first <= row.wall <= last for row in self.rows)
        date = now.replace(microsecond=0)
        self.during()
        rows = [row for row in self.rows if first <= row.wall <= last]
        page = self._ordered(rows, offset)[offset : offset + limit]
        if self.broken & {row.id for row in page}:
            raise SourceError(f"a row of {day} fails")
        self.transferred += len(page)
        self.read += total + min(offset + limit, len(rows))
        self.clock.now += timedelta(seconds=LATENCY / 2)
        self.gates("after the request")
        return ActionsPage(total, *read_rows(self._json(row) for row in page), date)

    def any_actions(self, limit=1, offset=0, *, timeout=60):
        self._spend("any", limit)
        page = self._ordered(self.rows, 10**9)[offset : offset + limit]
        date = self.clock.now.replace(microsecond=0)
        return ActionsPage(len(self.rows), *read_rows(self._json(row) for row in page), date)

    def action(self, row_id):
        self._spend("action")
        self.looked_up += 1
        return next((self._json(row) for row in self.rows if row.id == row_id), None)

    def _ordered(self, rows, offset):
        if self.order == "shuffled":
            return self.random.sample(rows, len(rows))
        if self.order == "insertion":
            return rows
        by_id = self.order == "id" or (self.order == "mariadb" and (offset > 150 or self.random.random() < 0.1))
        return sorted(rows, key=lambda row: row.id if by_id else (row.wall, row.id))

    def _json(self, row):
        told = datetime.fromtimestamp(row.at, self.zone).isoformat()
        return {"id": row.id, "mediapackageId": "lecture", "type": "PLAY", "created": told, "isPlaying": True}

    def _spend(self, kind, limit=1):
        self.gates("before the request")
        self.requests += 1
        self.clock.now += timedelta(seconds=LATENCY / 2)
        error = self.fails(kind, limit)
        if error is not None:
            raise error


class StockWorld(World):
    """A world whose Opencast is a stock one; waiting for its clock takes no time."""

    def __init__(
        self, client, *, order="mariadb", millis=False, seed=0, skew=0.0, destination=DESTINATION, **settings
    ):
        usual = {"batch_size": 100, "overlap": 1800, "max_window": 3600}
        super().__init__(client, destination=destination, **(usual | settings))
        self.opencast = StockOpencast(
            self.clock, self.settings.opencast_zone, order=order, millis=millis, seed=seed
        )
        source = DaySource(
            self.opencast,
            self.settings.opencast_zone,
            Throttle(client, self.opencast.base_url),
            clock=lambda: self.clock.now.timestamp() + skew,
            pause=self.clock.forward,
        )
        self.source = source
        self.stream = StockUseractions(source, self.episodes, self.sink, self.dead_letters, self.settings)
        self.sink.chunk = 50
        self.use()

    def ids_by_day(self):
        """Return the known ids of the watermark's epoch."""
        return IdsByDay(
            self.redis, known_key("useractions", self.mark.epoch, DESTINATION), self.settings.opencast_zone
        )

    def settle(self, patience=40):
        """Harvest until nothing is put off."""
        for _ in range(patience):
            self.harvest()
            if self.live is None:
                return
            self.time_passes_in_redis()
        raise AssertionError(f"the run does not end: {self.ledger.live().trouble}")
