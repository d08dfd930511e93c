"""The stream of useractions: each window is cut by time into slices of about one batch."""

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import redis
import structlog
from redis.exceptions import LockNotOwnedError

from uaharvest import keys
from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import BusyError, SourceError
from uaharvest.intervals import Interval, common, gathered, whole_second, without
from uaharvest.opencast.cache import EpisodeCache
from uaharvest.opencast.source import RangeSource, TooMany
from uaharvest.opencast.times import ambiguous, look_back, repeated_since
from uaharvest.privacy.people import NO_ONE, Erased
from uaharvest.privacy.site import protection
from uaharvest.rows.useractions import UserAction
from uaharvest.runs.delivered import IdsByTime, TimeReporter, time_reporter
from uaharvest.runs.footprints import TYPE as FOOTPRINT
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Delivered, Plan, Split
from uaharvest.runs.windows import first_window, minutes_before, next_window
from uaharvest.settings import Settings
from uaharvest.sinks import Sink
from uaharvest.streams.delivery import RecordDelivery
from uaharvest.streams.late import Comparison, parts
from uaharvest.streams.rows import reach_of
from uaharvest.streams.time_slice import TimeSlice

SECOND = timedelta(seconds=1)
RENEWALS = 3  # of the planning lock in a lease
REREADS = 20  # most intervals in which footprints are read again
# If that takes more than CHEAP requests, it is done once in REREAD_SECONDS only.
CHEAP = 4
REREAD_SECONDS = 600

log = structlog.get_logger()


class Useractions:
    """The stream `useractions`."""

    name = "useractions"
    begin = staticmethod(minutes_before)
    delivered_ids = staticmethod(IdsByTime)
    reporter = staticmethod(time_reporter)
    parse_slice = staticmethod(TimeSlice.parse)

    def __init__(
        self,
        source: RangeSource,
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
        self._delivery = RecordDelivery(self.name, episodes, sink, dead_letters, protection(settings, erased))
        self.redeliver = self._delivery.redeliver
        self._settings = settings
        self.longest_window = settings.max_window

    def now(self) -> datetime:
        """Return Opencast's clock, UTC."""
        return self._source.now(wait=self._settings.wait)

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`, at most HARVEST_MAX_WINDOW long.

        From a repeated hour it goes no further than the overlap, so that the next run, which looks for the late rows
        of that hour, still reaches back to it.
        """
        longest = self._settings.max_window
        if ambiguous(watermark - SECOND, self._settings.opencast_zone) and self._settings.overlap:
            longest = min(longest, max(self._settings.overlap - 1, 1))
        return next_window(watermark, now, lag=self._settings.lag, longest=longest)

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of an explicit run's `rest`, at most HARVEST_MAX_WINDOW long."""
        return first_window(rest, self._settings.max_window)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark less HARVEST_OVERLAP_SECONDS, and earlier still where clocks went back."""
        return look_back(watermark, timedelta(seconds=self._settings.overlap), self._settings.opencast_zone)

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: IdsByTime) -> Plan[TimeSlice]:
        """Cut the window by its number of rows, and find late rows before it by comparing counts.

        Raises:
            BusyError: Another worker is planning the stream's next run.
        """
        if run.kind != "live":
            return self._plan(run, late, delivered)
        with self._planning(delivered):
            return self._plan(run, late, delivered)

    @contextlib.contextmanager
    def _planning(self, delivered: IdsByTime) -> Iterator[None]:
        """Hold the planning lock for a lease, and renew it, so that a planner that dies holds nobody up for longer."""
        lease = self._settings.lease
        lock = delivered.redis.lock(keys.PLANNING(delivered.key), timeout=lease, thread_local=False)
        if not lock.acquire(blocking=False):
            raise BusyError("the next run is being planned by another worker.")
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(lease / RENEWALS):
                try:
                    lock.reacquire()
                except LockNotOwnedError:  # it expired; the ledger opens only one live run anyway
                    return
                except redis.RedisError:
                    log.warning("planning lock not renewed")

        thread = threading.Thread(target=renew, name="planning", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(LockNotOwnedError):
                lock.release()

    def _plan(self, run: Run, late: Sequence[Interval], delivered: IdsByTime) -> Plan[TimeSlice]:
        window = run.window
        # Late rows first: a row that appears between the two requests is at worst seen twice, then as a known row.
        slices = self._late_slices(run, late, delivered)
        slices += without(self._rereads(run, late, delivered), slices)
        # Counts are compared by whole seconds, so the second before the window joins the window.
        if late and late[-1].end == window.start and run.kind == "live":
            window = Interval(window.start - SECOND, window.end)
            slices = without(slices, [window])
        total = self._total(window.start, window.end, run.wait)
        if total is None:
            slices.append(window)
        elif total:
            slices += window.cut(parts(total, run.batch_size))
        else:
            self._check_zone(window, run.wait)
        return Plan([TimeSlice(interval) for interval in slices], total or 0)

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows Opencast counts in `interval`; 0 if it cannot count them."""
        return self._total(interval.start, interval.end, wait) or 0

    def work(self, run: Run, slice_: TimeSlice, reporter: TimeReporter) -> Delivered | Split[TimeSlice]:
        """Fetch the slice, skip known rows, enrich and deliver the rest."""
        interval = slice_.interval
        # After the watermark was moved back, a window may begin before the known ids do. Its rows are sent anyway.
        if (
            run.kind == "live"
            and run.known_from is not None
            and interval.end <= min(run.known_from, run.window.start)
        ):
            return self._read_again(run, slice_, reporter)
        page = self._source.fetch(interval, run.batch_size, wait=run.wait)
        if isinstance(page, TooMany):
            return Split(slice_.cut(parts(page.total, run.batch_size)))
        delivered = reporter.delivered(interval.start, interval.end)
        known = [action for action in page.actions if str(action.id) in delivered] if delivered else []
        new = [action for action in page.actions if str(action.id) not in delivered] if known else page.actions
        dead = self._send_grown(known, interval, reporter)
        dead += self._delivery.give_up_unreadable(
            page.unreadable, readable=len(page.actions), at=interval.start.timestamp(), reporter=reporter
        )
        if seen := self._delivery.seen(new):
            reporter.watch(seen)
        dead += self._delivery.send(new, reporter)
        return Delivered(len(page.actions) + len(page.unreadable), dead, repeated=len(page.actions) - len(new))

    def _read_again(self, run: Run, slice_: TimeSlice, reporter: TimeReporter) -> Delivered | Split[TimeSlice]:
        """Read a slice from before the overlap again for its footprints only; other ids are forgotten."""
        interval = slice_.interval
        try:
            page = self._source.fetch(interval, run.batch_size, wait=run.wait)
        except SourceError:
            self.now()  # in an outage this fails too
            # All rows were sent or are dead letters, so only the growth of footprints is lost here.
            halves = slice_.halves()
            if not halves:
                reporter.read_again(dict.fromkeys(reporter.due(interval.start, interval.end)))
            return Split(halves) if halves else Delivered(0)
        if isinstance(page, TooMany):
            return Split(slice_.cut(parts(page.total, run.batch_size)))
        return Delivered(0, self._send_grown(page.actions, interval, reporter))

    def _send_grown(self, actions: Iterable[UserAction], interval: Interval, reporter: TimeReporter) -> int:
        """Send again the due footprints that have grown; return how many became dead letters."""
        footprints = {str(action.id): action for action in actions if action.type == FOOTPRINT}
        due = reporter.due(interval.start, interval.end) if footprints else {}
        reaches = {row_id: reach_of(footprints[row_id]) if row_id in footprints else None for row_id in due}
        grown = [
            footprints[row_id]
            for row_id, reach in reaches.items()
            if reach is not None and reach > due[row_id].reach
        ]
        dead = 0
        if grown:
            reporter.count({"grown": len(grown)})
            dead = self._delivery.send(grown, reporter)
        if due:
            reporter.read_again(reaches)
        return dead

    def _rereads(self, run: Run, late: Sequence[Interval], delivered: IdsByTime) -> list[Interval]:
        """Return where to read footprints again: in `late`, and in the day before `run.known_from`."""
        if run.kind != "live" or run.known_from is None:
            return []
        now = run.window.end.timestamp()
        since = min(whole_second(run.known_from), run.window.start)
        before = Interval(since - timedelta(days=1), since)
        pieces = common(gathered(delivered.footprints.plan(now), REREADS), [before, *late])
        sizes = [parts(delivered.count(piece.start, piece.end - SECOND), run.batch_size) for piece in pieces]
        # If it takes many requests, it is not done on every run.
        if not pieces or (sum(sizes) > CHEAP and 0 <= now - delivered.footprints.reread_at() < REREAD_SECONDS):
            return []
        delivered.footprints.note_reread(now)
        return [part for piece, size in zip(pieces, sizes, strict=True) for part in piece.cut(size)]

    def _check_zone(self, window: Interval, wait: float) -> None:
        try:
            self._source.check_zone_around(window.start, window.end, wait=wait)
        except SourceError:
            self.now()  # in an outage this fails too; otherwise an unreadable row nearby is to blame: window is empty

    def _late_slices(self, run: Run, late: Sequence[Interval], delivered: IdsByTime) -> list[Interval]:
        """Compare counts; of an interval that ends in a repeated hour, where counts mean nothing, read that hour.

        Until the hour is over such an interval is left out.
        """
        zone = self._settings.opencast_zone
        comparison = Comparison(delivered, lambda first, last: self._total(first, last, run.wait), run.batch_size)
        is_over = bool(late) and not ambiguous(late[-1].end - SECOND, zone)
        slices: list[Interval] = []
        for hour, group in itertools.groupby(late, lambda one: repeated_since(one.end - SECOND, zone)):
            if hour is None:
                slices += comparison.differing(list(group))
            elif is_over:
                for one in group:
                    if one.start < hour:
                        slices += comparison.differing([Interval(one.start, hour)])
                    # Not cut: each part would be requested with the range of the whole hour.
                    slices.append(Interval(max(one.start, hour), one.end))
        return slices

    def _total(self, first: datetime, last: datetime, wait: float) -> int | None:
        """Count rows; None if Opencast is up but this request fails because of a row that it cannot return.

        Such an interval is planned as one slice. Halving it delivers all that it can; the rest is a dead letter.
        """
        try:
            return self._source.total(first, last, wait=wait)
        except SourceError:
            self.now()  # in an outage this fails too, and the next tick tries again
            return None
