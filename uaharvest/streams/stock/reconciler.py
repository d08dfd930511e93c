"""Brings the known rows of a day up to what Opencast counts."""

import itertools
from collections.abc import Iterable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from uaharvest.opencast.days import MINUTE, ClockReading, at_edge, begin_of, day_of
from uaharvest.opencast.stock import DayPage, DaySource
from uaharvest.rows.useractions import UserAction
from uaharvest.runs.ledger import Run
from uaharvest.streams.delivery import RecordDelivery
from uaharvest.streams.stock.chain import DAY, Begin, LookBack
from uaharvest.streams.stock.day_ids import DayReporter
from uaharvest.streams.stock.looks import DayFacts, PageFacts


class DayReconciler:
    """Keeps the known ids of one day and sends or records the rows that are not known.

    Attributes:
        run: The run that it works for.
        reporter: Where rows are reported.
        wait: Minimum seconds between two requests.
        known: The known ids of the day.
        new: Event times of the rows that this slice took, by id.
        certain: All rows counted with the last page are known, or the whole day was seen.
        found: Number of rows that were sent or became dead letters.
        dead: How many of these are dead letters.
    """

    def __init__(
        self, source: DaySource, delivery: RecordDelivery, zone: ZoneInfo, run: Run, reporter: DayReporter
    ) -> None:
        """Create the reconciler; call `open` before anything else."""
        self._source = source
        self._delivery = delivery
        self._zone = zone
        self.run = run
        self.reporter = reporter
        self.wait = run.wait
        self.certain = False
        self.found = 0
        self.dead = 0

    def open(self, day: date) -> None:
        """Start on a day."""
        self.day = day
        self.known = self.reporter.seen.load(day)
        self.new: dict[int, float] = {}
        self._fresh: list[tuple[float, int]] = []
        self.certain = False
        self._shared = self.reporter.shared(day) if self.run.kind != "live" and self.run.etag is not None else None

    def close(self) -> None:
        """Record that the whole day is known, if that is certain."""
        if self.certain and "whole" not in self.known.flags:
            self.reporter.flag(self.day, "whole")

    def look(self, limit: int, offset: int = 0) -> DayPage:
        """Request a page and take its new rows."""
        page = self._source.page(self.day, limit, offset, wait=self.wait)
        self._take_page(page)
        self.certain = self.proves(page)
        return page

    def take_all(self) -> DayPage:
        """Request the whole day at once, which misses nothing, and stop counting rows that no longer exist."""
        page = self._source.all(self.day, wait=self.wait)
        self._take_page(page)
        if self.is_stale(page):
            there = {action.id: action.created.timestamp() for action in page.actions}
            there |= {row_id: self.known.noon for row_id, _, _ in page.unreadable}
            self.reporter.seen.replace(self.day, there | self.known.edges)
            self.known = self.reporter.seen.load(self.day)
        self.certain = True
        return page

    def _take_page(self, page: DayPage) -> None:
        before = len(self.new)
        self.take(page.actions, page.unreadable)
        self._fresh = [(at, row_id) for row_id, at in itertools.islice(self.new.items(), before, None)]

    def take(
        self, actions: Iterable[UserAction], unreadable: Iterable[tuple[int, dict[str, Any], str]] = ()
    ) -> bool:
        """Send the unknown rows that this run has to send. Afterwards all rows are known.

        Returns:
            Whether there were any rows to send.
        """
        send, note = [], []
        for action in actions:
            at = action.created.timestamp()
            if action.id in self.known.disappeared:  # it was known, disappeared and is back
                note.append((at, action.id))
                self.known.add(action.id, at)
                continue
            if action.id in self.known or action.id in self.new:
                continue
            self.new[action.id] = at
            if self._is_wanted(action.id, at):
                send.append(action)
            else:
                note.append((at, action.id))
        bad = [one for one in unreadable if one[0] not in self.known and one[0] not in self.known.disappeared]
        if send:
            self.reporter.watch(self._delivery.seen(send))
        if send or bad:
            # Noon stands for the unknown event time of unreadable rows; a hidden minute is the least likely.
            self.dead += self._delivery.give_up_unreadable(
                [(raw, reason) for _, raw, reason in bad],
                readable=len(send),
                at=float(self.known.noon),
                reporter=self.reporter,
            )
            self.dead += self._delivery.send(send, self.reporter)
            self.found += len(send) + len(bad)
        if note:
            self.reporter.note(note)
        for row_id, at in self.new.items():
            self.known.add(row_id, at)
        for row_id, _, _ in bad:
            self.known.add(row_id, self.known.noon)
        return bool(send or bad)

    def day_facts(self, cursor: Begin | LookBack, *, size: int, reduced: bool) -> DayFacts:
        """Return what is known about the day before its first page."""
        return DayFacts(
            size=size,
            reduced=reduced,
            cursor=cursor,
            known=len(self.known),
            counted=self.known.counted(self._source.soon())[0],
            whole="whole" in self.known.flags,
            tail=self.known.tail,
            may_wait=self.run.kind == "live",  # the last tick that counts a day also reads both of its midnights
        )

    def page_facts(self, page: DayPage, overlap: int) -> PageFacts:
        """Return what the last page shows, given the ids that are known now."""
        least, most = self.counted(page)
        soonest = self._counted(page, page.moment.soonest)
        return PageFacts(
            total=page.total,
            empty=not page.actions,
            in_order=page.shown.last < MINUTE,
            connected=any(action.id not in self.new for action in page.actions[-2 * overlap :]),
            fresh=bool(self._fresh),
            nothing_known=not len(self.known),
            certain=self.certain,
            # Enough for a day that was wholly known before, because the next tick counts it again.
            likely="whole" in self.known.flags and soonest == (page.total, page.total),
            lacks=page.total > most,
            stale=least > page.total,
        )

    def counted(self, page: DayPage) -> tuple[int, int]:
        """Return how many known rows the `total` of a page includes, at least and at most.

        Rows that first appeared on this page may have been written after the count. Rows created after the request
        certainly were, unless they come from another node whose clock is ahead.
        """
        return self._counted(page, page.moment)

    def _counted(self, page: DayPage, moment: ClockReading) -> tuple[int, int]:
        least, most = self.known.counted(moment, page.shown)
        edges = self.known.edges
        after = sum(at > moment.latest and row_id not in edges for at, row_id in self._fresh)
        return least - after, most

    def proves(self, page: DayPage) -> bool:
        """Tell whether all counted rows are known, whatever the clock. Rows that disappeared could hide others."""
        return page.total == self.counted(page)[0]

    def is_stale(self, page: DayPage) -> bool:
        """Tell whether some known rows no longer exist, so that the total could hide new ones."""
        return self.counted(page)[0] > page.total

    def _is_wanted(self, row_id: int, at: float) -> bool:
        run = self.run
        since = run.known_from.timestamp() if run.known_from is not None else float("inf")
        if run.kind == "live":
            if at >= since:
                return True
            if at_edge(at, self._zone):
                # It was hidden; it is wanted as long as the minute at this midnight is within reach.
                day = day_of(at, self._zone)
                edge = begin_of(day if at < begin_of(day, self._zone) + MINUTE else day + DAY, self._zone)
                return edge + MINUTE > since
            # If the whole day was known, this row is new. Otherwise it may have been sent before Redis lost its data.
            return "whole" in self.known.flags
        start, end = run.requested.start.timestamp(), run.requested.end.timestamp()
        if start <= at < end:
            return True
        return (
            self._shared is not None
            and since <= at < start
            and row_id not in self._shared
            and row_id not in self._shared.disappeared
        )
