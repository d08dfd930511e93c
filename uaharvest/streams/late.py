"""Finds late rows by comparing the source's counts with the known ids, in a bounded number of requests."""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from uaharvest.intervals import Interval
from uaharvest.runs.delivered import IdsByTime

SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
# Most requests of one plan, because a plan is one task with a time limit. Intervals that are not compared by then are
# cut into slices and fetched by all workers.
REQUESTS = 32
# What a failed count costs: it was retried several times and may have waited for time-outs.
FAILED = 8
# Halving stops at this many rows: fetching them is cheaper than two more counts.
SMALL = 500
# Slices are cut so that one fifth of the batch stays free. Rows are not spread evenly, and Opencast counts the second
# that two slices share in both. If they were cut to a full batch, every other one would be too big, fetched for nothing
# and cut again.
SPARE = 5
UNCOUNTABLE = -1

Total = Callable[[datetime, datetime], int | None]


class Comparison:
    """Compares counts for several intervals. The gaps between them are dead letters and are left out."""

    def __init__(self, delivered: IdsByTime, total: Total, batch_size: int) -> None:
        """Compare `delivered` with `total`, which counts in a closed range and returns None if it cannot."""
        self._delivered = delivered
        self._total = total
        self._batch_size = batch_size
        self._left = REQUESTS
        self._gaps: dict[str, int] = {}

    def differing(self, late: Sequence[Interval]) -> list[Interval]:
        """Return slices of `late` in which the source's rows differ from the known ones.

        `late` holds sorted intervals without the dead letters. Each interval costs a request, and dead letters may be
        a second apart. So the number of rows in each dead letter is stored, and intervals are counted together with
        the dead letters between them.
        """
        if not late:
            return []
        self._gaps = self._delivered.gaps()
        groups = [[late[0]]]
        for before, after in itertools.pairwise(late):
            if self._rows_of(Interval(before.end, after.start)) == UNCOUNTABLE:
                groups.append([])
            groups[-1].append(after)
        return [slice_ for group in groups for slice_ in self._group(group)]

    def _rows_of(self, gap: Interval) -> int:
        """Return how many unknown rows the source has in a gap; UNCOUNTABLE if counting fails or is still to come."""
        noted = self._gaps.get(str(gap))
        if noted is None and self._left > REQUESTS // 2:
            noted = self._count_gap(gap)
        return UNCOUNTABLE if noted is None else noted

    def _count_gap(self, gap: Interval) -> int:
        first, last = gap.start, gap.end - MOMENT
        known = self._delivered.count(first, last)  # rows that were delivered before it became a dead letter
        total = self._count(first, last)
        rows = UNCOUNTABLE if total is None else max(total - known, 0)
        self._gaps[str(gap)] = rows
        self._delivered.note_gap(gap, rows)
        return rows

    def _count(self, first: datetime, last: datetime) -> int | None:
        total = self._total(first, last)
        self._left -= FAILED if total is None else 1
        return total

    def _group(self, pieces: Sequence[Interval]) -> list[Interval]:
        if len(pieces) == 1 or self._left <= 0:
            return [slice_ for piece in pieces for slice_ in self._piece(piece.start, piece.end - SECOND)]
        first, last = pieces[0].start, pieces[-1].end - SECOND
        gaps = [Interval(before.end, after.start) for before, after in itertools.pairwise(pieces)]
        expected = self._delivered.count(first, last) + sum(self._gaps[str(gap)] for gap in gaps)
        total = self._count(first, last)
        if total == expected:
            return []
        middle = len(pieces) // 2
        found = [*self._group(pieces[:middle]), *self._group(pieces[middle:])]
        if not found and total is not None:  # the new rows are inside a dead letter, which covers them
            self._count_gap(gaps[middle - 1])
        return found

    def _piece(self, first: datetime, last: datetime) -> list[Interval]:
        """Return the parts of [first, last] in which the source's count differs from the known ids."""
        # Count known ids before the source's rows: a row that is confirmed in between is then at worst a difference.
        expected = self._delivered.count(first, last)
        whole = Interval(first, last + SECOND)
        if self._left <= 0:
            return whole.cut(parts(expected, self._batch_size))
        total = self._count(first, last)
        if total is None:
            return [whole]
        if total == expected:
            return []
        # If most rows are new (Redis lost the known ids), halving would only cost more requests.
        if total <= SMALL or expected < total // 2 or whole.seconds == 1:
            return whole.cut(parts(total, self._batch_size))
        middle = first + SECOND * (whole.seconds // 2)
        halves = [*self._piece(first, middle - SECOND), *self._piece(middle, last)]
        # Closed ranges of whole seconds miss rows with a fraction of a second between them.
        return halves or [Interval(middle - SECOND, middle)]


def parts(total: int, batch_size: int) -> int:
    """Return the number of slices into which `total` rows are cut."""
    return 1 if total <= batch_size else -(-total // (batch_size - batch_size // SPARE))
