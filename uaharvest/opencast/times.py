"""UTC slices as the local times in which Opencast is asked; pure.

Opencast's `start` and `end` are wall times of the server, inclusive, to the second. Where clocks go back a wall
time names two instants. Whichever of the two the server takes (Java takes the later; MariaDB's column knows only
the wall time and so has both), the range asked for covers the slice; the half-open filter cuts it again.
"""

import dataclasses
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND = timedelta(seconds=1)
# Shorter than any repeated hour (Lord Howe Island repeats half an hour: two passes, an hour).
PROBE = timedelta(minutes=15)


@dataclasses.dataclass(frozen=True, slots=True)
class WallRange:
    """What the server is asked for.

    Attributes:
        first: First wall time, inclusive, naive, in the server's zone.
        last: Last wall time, inclusive, to the second.
        widened: Clocks go back here, so a part of the slice would be asked for in the same range as the whole.
    """

    first: datetime
    last: datetime
    widened: bool = False

    def covers(self, created: datetime, zone: ZoneInfo) -> bool:
        """Tell whether a row created then may belong to the answer; `last` covers its whole second.

        A server that keeps instants reads an ambiguous bound as one of two, and gives what lies in between.
        """
        return min(_instants(self.first, zone)) <= created < max(_instants(self.last, zone)) + SECOND


def wall_range(start: datetime, end: datetime, zone: ZoneInfo) -> WallRange:
    """Return the wall times that cover start to end, inclusive, however the server reads an ambiguous one."""
    first, last = start.astimezone(zone), end.astimezone(zone)
    fold_at_start, fold_at_end = _fold(start, zone), _fold(end, zone)
    wide_start = fold_at_start is not None and first.fold == 0
    wide_end = fold_at_end is not None and last.fold == 1
    if wide_start and fold_at_start:
        # Read as the second pass, the start would lie an hour too late: begin before the repeated hour.
        first = fold_at_start[0] - SECOND
    if wide_end and fold_at_end:
        # Read as the first pass, the end would lie an hour too early: end after the repeated hour.
        last = fold_at_end[1]
    return WallRange(
        first.replace(tzinfo=None, fold=0), last.replace(tzinfo=None, fold=0), widened=wide_start or wide_end
    )


def ambiguous(instant: datetime, zone: ZoneInfo) -> bool:
    """Tell whether the wall time at `instant` comes twice that day."""
    return _fold(instant, zone) is not None


def look_back(watermark: datetime, overlap: timedelta, zone: ZoneInfo) -> datetime:
    """Return from when on late rows are looked for: `overlap` before the watermark, UTC.

    Within a repeated hour counts mean nothing: the server counts both passes, or tells the first as the second. So
    nothing is compared there, and what is then left out is made up for: as long as a repeated hour lies in the
    overlap, it reaches from `overlap` before that hour.
    """
    instant = bound = watermark - overlap
    while (fold := _fold(instant, zone)) is None:
        if instant == watermark:
            return bound
        # The watermark itself is looked at too: found later, the bound would go back behind what was forgotten.
        instant = min(instant + PROBE, watermark)
    begin = fold[0].replace(tzinfo=zone, fold=0).astimezone(UTC)
    return min(bound, begin - overlap)


def wall_from(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the first wall time that `told_as` makes `instant` or something later of; naive.

    So the rows of a table of wall times that are told as of [a, b) are those from wall_from(a) up to, and without,
    wall_from(b), exactly.
    """
    local, fold = instant.astimezone(zone), _fold(instant, zone)
    if fold is not None and local.fold == 0:  # nothing is told as of the first pass
        return fold[0]
    return local.replace(tzinfo=None, fold=0)


def told_as(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the instant, in `zone`, that Java takes a naive wall time for; None for one that the clocks skip.

    A wall time that comes twice is its second pass: so a server tells a row of the first an hour late.
    """
    told = max(_instants(wall, zone)).astimezone(zone)
    return told if told.replace(tzinfo=None, fold=0) == wall else None


def _instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the two readings of a naive wall time, which are the same but where clocks go back."""
    return [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


def _fold(instant: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return the repeated hour that `instant` lies in, as wall times [begin, end), or None."""
    local = instant.astimezone(zone)
    before, after = (local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if before == after:
        return None
    # The clocks change between the first pass of this wall time and its second, (before - after) later.
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
