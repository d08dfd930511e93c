"""Audits closed days of a stream, piece by piece."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from uaharvest.audit.day import DayAudit, FamilyCounts, added
from uaharvest.audit.results import Results
from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval
from uaharvest.runs.days import DAY, midnight, midnight_of
from uaharvest.runs.watermark import WatermarkStore


class StreamAudit(Protocol):
    """Compares the rows of a stream with its documents."""

    stream: str

    def closed_until(self, watermark: datetime) -> datetime:
        """Return the instant before which the live harvest changes nothing any more."""
        ...

    def begin(self) -> None:
        """Prepare for another day: read again what is kept between its pieces."""
        ...

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the parts of a day (UTC) that are compared one after the other."""
        ...

    def audit(self, piece: Interval, *, repair: bool) -> FamilyCounts:
        """Compare a piece; with `repair`, harvest what is missing."""
        ...


class Auditor:
    """Audits closed days of one stream and keeps the results."""

    def __init__(self, streams: StreamAudit, watermarks: WatermarkStore, results: Results) -> None:
        """Audit what `streams` compares; a day is closed if the watermark has passed it and the look-back after it."""
        self._compared = streams
        self._watermarks = watermarks
        self._results = results
        self.stream = streams.stream

    def closed(self, first: date | None, last: date | None) -> list[date]:
        """Return the days from `first` to `last` if all of them are closed.

        Args:
            first: None: the same as `last`.
            last: None: the newest day that is closed.

        Raises:
            BadInputError: A day is not closed, or the first comes after the last.
        """
        newest = self.newest()
        if newest is None:
            raise BadInputError(
                f"{self.stream} has no watermark yet, so no day is closed. `manage.py status` shows the watermark."
            )
        last = last or max(newest, first or newest)
        first = first or last
        if first > last:
            raise BadInputError(f"--start {first} is after --end {last}.")
        if last > newest:
            raise BadInputError(
                f"{self.stream}: {last} is not closed yet, because late rows of it are still looked for. Expected"
                f" days up to {newest}."
            )
        return [first + DAY * number for number in range((last - first).days + 1)]

    def newest(self) -> date | None:
        """Return the newest closed day; None without a watermark."""
        stored = self._watermarks.read()
        if stored is None:
            return None
        return (midnight(self._compared.closed_until(stored.mark.at)) - DAY).date()

    def audit(self, day: date, *, repair: bool) -> DayAudit:
        """Audit a day and keep the result."""
        *_, whole = self._audited(day, None, repair=repair)
        self._results.put(whole)
        return whole

    def nightly(self, now: datetime, at: timedelta, seconds: float) -> str:
        """Audit the newest closed day, once after the time `at` of each day, for about so many `seconds` at a time.

        Raises:
            BusyError: Another worker does.
        """
        day = self.newest()
        if day is None or now < midnight(now) + at:
            return "not due"
        end = time.monotonic() + seconds
        with self._results.held():
            former = self._results.get(day)
            if former is not None and former.pieces is None:
                return "not due"
            for state in self._audited(day, former, repair=False):
                self._results.put(state)
                if state.pieces is not None and time.monotonic() > end:
                    return f"{day}: {state.pieces} pieces, to be continued"
        return f"{day}: {state.missing:,} missing"

    def _audited(self, day: date, former: DayAudit | None, *, repair: bool) -> Iterator[DayAudit]:
        """Yield the result after each piece; the last one is the whole day's."""
        begin = midnight_of(day)
        pieces = self._compared.pieces(Interval(begin, begin + DAY))
        self._compared.begin()
        found: FamilyCounts = former.found if former else {}
        done = former.pieces or 0 if former else 0
        for number, piece in enumerate(pieces[done:], done + 1):
            found = added(found, self._compared.audit(piece, repair=repair))
            rest = None if number == len(pieces) else number
            yield DayAudit(self.stream, day, datetime.now(UTC), found, rest)
