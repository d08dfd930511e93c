"""Reads days: first the rows after the known ones, then further back if rows are missing, finally the whole day."""

from datetime import date

from uaharvest.errors import SourceError
from uaharvest.opencast.stock import DayPage, DaySource
from uaharvest.settings import Settings
from uaharvest.streams.stock.chain import DAY, Begin, Chain, LookBack, ReadAll
from uaharvest.streams.stock.looks import MARGIN, AtFront, Done, Look, Next, first_look, next_look, shows_tail
from uaharvest.streams.stock.reconciler import DayReconciler

# Seconds. Rows that are younger than this are "young": rows that sort before them may still appear.
TAIL = 10.0
FAILED = 3  # reading a broken day ends after this many rows that Opencast cannot return


class DayReader:
    """Reads days."""

    def __init__(self, source: DaySource, settings: Settings) -> None:
        """Read from `source`; `settings` provides the lag and the rate limit."""
        self._source = source
        self._settings = settings

    def read(self, chain: Chain, reconciler: DayReconciler) -> Chain | None:
        """Bring the known ids of a day up to its total, or read one more page of it."""
        reconciler.open(chain.step.first)
        cursor = chain.step.cursor
        if isinstance(cursor, ReadAll):
            reconciler.take_all()
        else:
            following = self._look(chain, cursor if isinstance(cursor, LookBack) else Begin(), reconciler)
            if not isinstance(following, Done):
                return chain.at(following)
        reconciler.close()
        return chain.rest()

    def _look(
        self, chain: Chain, cursor: Begin | LookBack, reconciler: DayReconciler
    ) -> LookBack | ReadAll | Done:
        """Read the pages that `next_look` chooses until this slice is done."""
        size = chain.page or reconciler.run.batch_size
        day = reconciler.day_facts(cursor, size=size, reduced=bool(chain.page))
        step: Next = first_look(day)
        while isinstance(step, Look):
            look = step
            if isinstance(look.why, AtFront) and look.why.late:
                self._source.wait_for_end_of_second()
            page = reconciler.look(look.limit, look.offset)
            facts = reconciler.page_facts(page, day.overlap)
            step = next_look(day, look, facts)
            if isinstance(step, Done) and step.empty:  # an empty day does not show the zone; the day before may
                self._source.total(chain.step.first - DAY, wait=reconciler.wait)
            if shows_tail(day, look, facts):
                self._note_tail(reconciler, page)
        return step

    def _note_tail(self, reconciler: DayReconciler, page: DayPage) -> None:
        young = page.moment.latest - max(TAIL, self._settings.lag)
        tail = sum(action.created.timestamp() >= young for action in page.actions)
        if tail != reconciler.known.tail:
            reconciler.reporter.seen.note_tail(reconciler.day, tail)

    def read_broken(self, chain: Chain, reconciler: DayReconciler) -> Chain | None:
        """Take the new rows at the end of a day that has a dead letter; skip rows that Opencast cannot return.

        The dead letter covers the rest of the day. Otherwise every tick would find those rows again.
        """
        day, most = chain.step.first, chain.page or reconciler.run.batch_size
        reconciler.open(day)
        end, size, quiet, failed = 0, most, 0, 0
        page = self._page(day, 1, 0, reconciler)
        if page is not None:
            end = page.total
        while page is None or not reconciler.proves(page):
            size = min(size, end)
            if not size or quiet >= MARGIN or failed >= FAILED:
                break
            page = self._page(day, size, end - size, reconciler)
            if page is None and size > 1:
                size //= 2
                continue
            end -= size
            if page is None:
                size, failed = most, failed + 1
            else:
                quiet = 0 if reconciler.take(page.actions, page.unreadable) else quiet + size
        return chain.rest()

    def _page(self, day: date, limit: int, offset: int, reconciler: DayReconciler) -> DayPage | None:
        """Return a page; None if Opencast is up but cannot return this page."""
        try:
            return self._source.page(day, limit, offset, wait=reconciler.wait)
        except SourceError:
            self._source.now(wait=self._settings.wait)  # in an outage this fails too, and the slice is put off
            return None
