"""Reads midnights: the minutes that the server hides in part, and the seconds that it always hides."""

from collections.abc import Iterable, Sequence
from datetime import date

import structlog

from uaharvest.opencast.days import MINUTE, begin_of
from uaharvest.opencast.stock import DayPage, DaySource
from uaharvest.rows.useractions import UserAction
from uaharvest.settings import Settings
from uaharvest.streams.stock.chain import DAY, After, Chain
from uaharvest.streams.stock.day_ids import DaySet
from uaharvest.streams.stock.plan import is_last_chance
from uaharvest.streams.stock.reconciler import DayReconciler

# When to see the two halves of a hidden minute, in seconds of the server's minute: the phase to wait for, and the phase
# that is good enough. Look-ups by id find the rows that remain hidden.
EARLY, EARLY_ENOUGH = (0.2, 4.0), (0.0, 10.0)
LATE, LATE_ENOUGH = (58.0, 59.6), (50.0, MINUTE - 0.01)
# How often an answer may come in the wrong phase or counts may disagree; a worker waits at most this many minutes.
MISSED = 2
# Ids are handed out to a node in blocks of this many.
BLOCK = 50
# Rows within CLOSE seconds of midnight show which id blocks hold the first second's rows. If they are fewer than FEW,
# the rows of both minutes are used.
CLOSE = 15.0
FEW = 20
LOOK_UPS = 200  # rows that one slice looks up by id
MOST_LOOK_UPS = 2_000  # for one midnight

log = structlog.get_logger()


class Midnights:
    """Reads midnights."""

    def __init__(self, source: DaySource, settings: Settings) -> None:
        """Read from `source`; `settings` provides the time zone and the overlap."""
        self._source = source
        self._settings = settings

    def read_minute(self, chain: Chain, reconciler: DayReconciler) -> Chain | None:
        """Request a day's first (last) minute early (late) in a minute, when it is not hidden, until the counts agree.

        If they never do, because the nodes' clocks differ, request the whole day in that phase of a minute. That
        returns every row.
        """
        early = chain.step.what == "early"
        size = chain.page or reconciler.run.batch_size
        reconciler.open(chain.step.first if early else chain.step.first - DAY)
        seen = False
        for _ in range(MISSED):
            self._source.wait_for_phase(*(EARLY if early else LATE))
            least, _ = reconciler.known.counted(self._source.soon())
            pages = [reconciler.look(size)] if early else []
            if not reconciler.certain:
                pages.append(reconciler.look(size, max(0, least - size // 2)))
            seen = all(self._is_in_phase(page, early=early) for page in pages)
            if seen and reconciler.certain:
                break
            least, most = reconciler.counted(pages[-1])
            if seen and least != most:  # it depends on the fraction of a second
                self._source.wait_for_end_of_second()
                seen = self._is_in_phase(reconciler.look(1), early=early)
                if seen and reconciler.certain:
                    break
        else:
            for _ in range(MISSED):
                self._source.wait_for_phase(*(EARLY if early else LATE))
                seen = self._is_in_phase(reconciler.take_all(), early=early)
                if seen:
                    break
        if not seen:
            # The nodes' clocks differ too much, or answers take too long. Waiting longer would not help.
            log.warning(
                "some rows of the minute around a midnight were not seen: do the clocks of Opencast's nodes differ?",
                midnight=f"{chain.step.first:%F}",
            )
        reconciler.close()
        return chain.rest()

    @staticmethod
    def _is_in_phase(page: DayPage, *, early: bool) -> bool:
        low, high = EARLY_ENOUGH if early else LATE_ENOUGH
        least, most = page.moment.phase
        return low <= least and most <= high

    def look_up(self, chain: Chain, reconciler: DayReconciler) -> Chain | None:
        """Look up by id the rows that `day` never shows: those of 00:00:00 and of the end of 23:59:59.

        Their ids are in the same blocks as the ids of rows near midnight.
        """
        day = chain.step.first
        at = begin_of(day, self._settings.opencast_zone)
        sides = (day - DAY, day)
        before, after = (reconciler.reporter.seen.load(side) for side in sides)
        around = _around(at, before, after)
        done = chain.step.cursor.row_id if isinstance(chain.step.cursor, After) else 0
        if not done and len(around) < FEW and reconciler.run.kind == "live":
            # In a quiet night a hidden row may have no neighbours. Then it is among the newest rows of the table.
            self._take(self._source.newest(LOOK_UPS, wait=reconciler.wait), sides, reconciler)
        near = dict.fromkeys(row_id + step for row_id in around for step in range(-BLOCK, BLOCK + 1))
        ids = [row_id for row_id in near if row_id not in before and row_id not in after]
        ids = [row_id for row_id in sorted(ids[:MOST_LOOK_UPS]) if row_id > done]
        rows = [
            row for row_id in ids[:LOOK_UPS] if (row := self._source.row(row_id, wait=reconciler.wait)) is not None
        ]
        self._take(rows, sides, reconciler)
        if len(ids) > LOOK_UPS:
            return chain.at(After(ids[LOOK_UPS - 1]))
        run = reconciler.run
        if run.kind == "live":
            reconciler.reporter.flag(day, "closed" if is_last_chance(run, day, self._settings) else "settled")
        return chain.rest()

    @staticmethod
    def _take(rows: Sequence[UserAction], days: Iterable[date], reconciler: DayReconciler) -> None:
        for day in days:
            reconciler.open(day)
            reconciler.take(row for row in rows if row.created.date() == day)
            reconciler.reporter.flush()


def _around(at: float, before: DaySet, after: DaySet) -> list[int]:
    """Return ids of rows near the midnight `at`, closest first. In a quiet night there are few."""
    near = {
        row_id: abs(when - at)
        for day in (before, after)
        for row_id, when in day.edges.items()
        if abs(when - at) <= MINUTE
    }
    by_time = sorted(near, key=near.__getitem__)
    closest = [row_id for row_id in by_time if near[row_id] <= CLOSE]
    if len(closest) >= FEW:
        return closest
    # In a quiet night, the last id of one day and the first id of the next are also close to the hidden ones.
    ends = {span[side] for day, side in ((before, 1), (after, 0)) if (span := day.span())}
    return [*by_time, *ends]
