"""Converts UTC slices to the local times that Opencast expects. Pure functions.

Opencast's `start` and `end` are wall times of the server, inclusive, to the second. When clocks go back, a wall time
is ambiguous: it stands for two instants. Java uses the later one; MariaDB's column stores only the wall time and so
matches both. The requested range covers the slice under either reading. A half-open filter then trims the result to the
slice.
"""

import dataclasses
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)
# Shorter than any repeated period (Lord Howe Island repeats half an hour: two passes, together an hour).
PROBE = timedelta(minutes=15)


@dataclasses.dataclass(frozen=True, slots=True)
class WallRange:
    """The range to request from the server.

    Attributes:
        first: First wall time, inclusive, naive, in the server's zone.
        last: Last wall time, inclusive, to the second.
        widened: Clocks go back here, so requesting a part of the slice would need the same range as the whole.
    """

    first: datetime
    last: datetime
    widened: bool = False

    def covers(self, created: datetime, zone: ZoneInfo) -> bool:
        """Tell whether a row created then may be in the response. `last` includes its whole second.

        A server that stores instants picks one reading of each ambiguous bound and returns the rows in between.
        """
        return min(_instants(self.first, zone)) <= created < max(_instants(self.last, zone)) + SECOND


def wall_range(start: datetime, end: datetime, zone: ZoneInfo) -> WallRange:
    """Return wall times that cover `start` to `end`, inclusive, whichever way the server reads an ambiguous one."""
    first, last = start.astimezone(zone), end.astimezone(zone)
    fold_at_start, fold_at_end = _fold(start, zone), _fold(end, zone)
    wide_start = fold_at_start is not None and first.fold == 0
    wide_end = fold_at_end is not None and last.fold == 1
    if wide_start and fold_at_start:
        # Read as the second pass, the start would be an hour too late. Start before the repeated hour instead.
        first = fold_at_start[0] - SECOND
    if wide_end and fold_at_end:
        # Read as the first pass, the end would be an hour too early. End after the repeated hour instead.
        last = fold_at_end[1]
    return WallRange(
        first.replace(tzinfo=None, fold=0), last.replace(tzinfo=None, fold=0), widened=wide_start or wide_end
    )


def ambiguous(instant: datetime, zone: ZoneInfo) -> bool:
    """Tell whether the wall time at `instant` occurs twice that day."""
    return _fold(instant, zone) is not None


def repeated_since(instant: datetime, zone: ZoneInfo) -> datetime | None:
    """Return when the repeated hour that contains `instant` began, UTC, or None."""
    fold = _fold(instant, zone)
    return None if fold is None else _beginning(fold, zone)


def look_back(watermark: datetime, overlap: timedelta, zone: ZoneInfo) -> datetime:
    """Return the time from which to look for late rows: `overlap` before the watermark, UTC.

    Counts within a repeated hour are meaningless, because the server counts both passes, or reports the first as the
    second. They are therefore not compared. To compensate, while a repeated hour lies within the overlap, the overlap
    is extended to start `overlap` before that hour.
    """
    instant = bound = watermark - overlap
    while (fold := _fold(instant, zone)) is None:
        if instant == watermark:
            return bound
        # Check the watermark itself too. Otherwise the bound would later move back past what was already forgotten.
        instant = min(instant + PROBE, watermark)
    return min(bound, _beginning(fold, zone) - overlap)


def wall_from(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the first naive wall time that `reported_as` maps to `instant` or later.

    In a table of wall times, the rows that `reported_as` maps into [a, b) are therefore exactly those in
    [wall_from(a), wall_from(b)).
    """
    local, fold = instant.astimezone(zone), _fold(instant, zone)
    if fold is not None and local.fold == 0:  # no wall time maps to the first pass
        return fold[0]
    return local.replace(tzinfo=None, fold=0)


def reported_as(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the instant, in `zone`, that Java assigns to a naive wall time; None for one that the clocks skip.

    An ambiguous wall time is read as the second pass, so the server reports a row of the first pass an hour late.
    """
    reported = max(_instants(wall, zone)).astimezone(zone)
    return reported if reported.replace(tzinfo=None, fold=0) == wall else None


def _instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the two readings of a naive wall time, which differ only where clocks change."""
    return [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


def _beginning(fold: tuple[datetime, datetime], zone: ZoneInfo) -> datetime:
    """Return when the first pass through a repeated hour begins, UTC."""
    return fold[0].replace(tzinfo=zone, fold=0).astimezone(UTC)


def _fold(instant: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return the repeated hour that contains `instant`, as wall times [begin, end), or None."""
    local = instant.astimezone(zone)
    before, after = (local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if before == after:
        return None
    # The clocks change between the two passes of this wall time. The second is (before - after) later.
    low = (local.replace(fold=0) - before).replace(tzinfo=UTC)
    high = low + (before - after)
    while high - low > SECOND:
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    change = high.replace(microsecond=0)
    return (change + after).replace(tzinfo=None), (change + before).replace(tzinfo=None)
