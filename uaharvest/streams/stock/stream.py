"""The stream of useractions for an Opencast that can only be queried by day."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

import redis

from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.cache import EpisodeCache
from uaharvest.opencast.days import begin_of, day_of
from uaharvest.opencast.stock import DaySource
from uaharvest.privacy.people import NO_ONE, Erased
from uaharvest.privacy.site import protection
from uaharvest.rows.useractions import UserAction
from uaharvest.runs.days import DAY_SECONDS
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Delivered, Plan, Split
from uaharvest.runs.windows import first_window, minutes_before, next_window
from uaharvest.settings import Settings
from uaharvest.sinks import Sink
from uaharvest.streams.delivery import RecordDelivery
from uaharvest.streams.rows import reach_of
from uaharvest.streams.stock.chain import DAY, Chain, Step, each_day
from uaharvest.streams.stock.day_ids import DayReporter, IdsByDay, day_reporter
from uaharvest.streams.stock.days import DayReader
from uaharvest.streams.stock.midnights import LOOK_UPS, Midnights
from uaharvest.streams.stock.plan import steps
from uaharvest.streams.stock.reconciler import DayReconciler


class StockUseractions:
    """The stream `useractions` for an Opencast that can only be queried by day."""

    name = "useractions"
    begin = staticmethod(minutes_before)
    reporter = staticmethod(day_reporter)

    def __init__(
        self,
        source: DaySource,
        episodes: EpisodeCache,
        sink: Sink,
        dead_letters: DeadLetters,
        settings: Settings,
        *,
        erased: Erased = NO_ONE,
    ) -> None:
        """Read from `source`, enrich from `episodes`, deliver to `sink`; undeliverable rows go to `dead_letters`.

        Rows of people in `erased` are left out.
        """
        self._source = source
        self._zone = settings.opencast_zone
        self._delivery = RecordDelivery(self.name, episodes, sink, dead_letters, protection(settings, erased))
        self._reader = DayReader(source, settings)
        self._midnights = Midnights(source, settings)
        self._settings = settings
        self.redeliver = self._delivery.redeliver
        # Seconds. Windows end at midnight, so they may be this long.
        self.longest_window = max(DAY_SECONDS, settings.max_window)

    def now(self) -> datetime:
        """Return Opencast's clock, UTC."""
        return self._source.now(wait=self._settings.wait)

    def delivered_ids(self, client: "redis.Redis", key: str) -> IdsByDay:
        """Return the delivered ids that are kept below `key`."""
        return IdsByDay(client, key, self._zone)

    def parse_slice(self, text: str) -> Chain:
        """Parse the result of `str()` of a chain."""
        return Chain.parse(text, zone=self._zone, batch_size=self._settings.batch_size)

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`: up to the first midnight after HARVEST_MAX_WINDOW."""
        return next_window(watermark, now, lag=self._settings.lag, longest=self._longest(watermark))

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of an explicit run's `rest`."""
        return first_window(rest, self._longest(rest.start))

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark less HARVEST_OVERLAP_SECONDS. Days are compared whole, so clock changes do no harm."""
        return watermark - timedelta(seconds=self._settings.overlap)

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: IdsByDay) -> Plan[Chain]:
        """Return one chain: the days of the window and its overlap, then the midnights that are due."""
        found = steps(run, late, self._settings, flags=delivered.flags, now=lambda: self.now().timestamp())
        end = run.window.end.timestamp()
        live = run.kind == "live"
        if live and delivered.footprints.plan(end):
            last = day_of(end - 1, self._zone)
            found.append(Step("grown", last, last))
        chain = Chain(tuple(found), self._zone, self._settings.batch_size)
        return Plan([chain], 0 if live else self.count(run.window, wait=run.wait))

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows the whole days of `interval` have; Opencast cannot count parts of days."""
        first = day_of(interval.start.timestamp() - 1, self._zone) + DAY
        last = day_of(interval.end.timestamp(), self._zone) - DAY
        return sum(self._source.total(day, wait=wait).total for day in each_day(first, last))

    def work(self, run: Run, slice_: Chain, reporter: DayReporter) -> Delivered | Split[Chain]:
        """Do the next part of the chain, about one page. The rest becomes a new slice."""
        work = {
            "days": self._reader.read,
            "broken": self._reader.read_broken,
            "early": self._midnights.read_minute,
            "late": self._midnights.read_minute,
            "ids": self._midnights.look_up,
            "grown": self._grown,
        }
        reconciler = DayReconciler(self._source, self._delivery, self._zone, run, reporter)
        rest = work[slice_.step.what](slice_, reconciler)
        return Split([rest]) if rest else Delivered(reconciler.found, reconciler.dead)

    def _grown(self, chain: Chain, reconciler: DayReconciler) -> Chain | None:
        """Read again the footprints that may have grown, each by its id, which costs the server two rows.

        The oldest are read first. Those beyond LOOK_UPS wait for the next run.
        """
        reconciler.open(chain.step.first)
        due = dict(itertools.islice(reconciler.reporter.due().items(), LOOK_UPS))
        reaches: dict[str, int | None] = {}
        grown = []
        for row_id, sent in due.items():
            row = self._again(int(row_id), reconciler)
            reaches[row_id] = reach = reach_of(row) if row is not None else None
            if row is not None and reach is not None and reach > sent.reach:
                grown.append(row)
        if grown:
            reconciler.reporter.count({"grown": len(grown)})
            reconciler.dead += self._delivery.send(grown, reconciler.reporter)
        reconciler.reporter.read_again(reaches)
        return chain.rest()

    def _again(self, row_id: int, reconciler: DayReconciler) -> UserAction | None:
        try:
            return self._source.row(row_id, wait=reconciler.wait)
        except SourceError:
            self.now()  # in an outage this fails too; otherwise only the growth is lost, since the row was sent once
            return None

    def _longest(self, start: datetime) -> int:
        least = start.timestamp() + self._settings.max_window
        return int(begin_of(day_of(least - 1, self._zone) + DAY, self._zone) - start.timestamp())
