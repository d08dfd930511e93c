"""Arithmetic on windows, and the guards of clock and span; pure functions."""

from datetime import datetime, timedelta

from uaharvest.errors import BlockedError, SpanRefusedError
from uaharvest.intervals import Interval, duration, whole_second


def next_window(watermark: datetime, now: datetime, *, lag: int, longest: int) -> Interval | None:
    """Return the window that follows `watermark`, or None if it would be empty.

    Args:
        watermark: The instant up to which all rows are delivered.
        now: The source's clock.
        lag: How long before `now` a window ends, seconds.
        longest: The longest window, seconds.

    Raises:
        BlockedError: The watermark is in the future, where no harvest can have put it.
    """
    if watermark > now:
        raise BlockedError(
            f"the watermark {watermark:%F %T} UTC lies after the source's clock ({now:%F %T} UTC) by"
            f" {duration((watermark - now).total_seconds())}. Is that clock right? Then set the watermark back:"
            " manage.py watermark set"
        )
    end = min(now - timedelta(seconds=lag), watermark + timedelta(seconds=longest))
    return Interval(watermark, end) if end > watermark else None


def first_window(rest: Interval, longest: int) -> Interval:
    """Return the first window of `rest`, the part of an explicit run that is left; at most `longest` seconds."""
    return Interval(rest.start, min(rest.end, rest.start + timedelta(seconds=longest)))


def minutes_before(now: datetime, minutes: int) -> datetime:
    """Return the instant `minutes` before `now`, where a stream begins without a watermark."""
    return whole_second(now - timedelta(minutes=minutes))


def allowed_skew(lag: int, overlap: int) -> int:
    """Return how many seconds the source's clock may be ahead of Redis's.

    A window ends `lag` before the source's clock. If that clock is ahead by more than the lag, rows with the right time
    appear after their window and are found in the overlap. Half of the overlap may be used for this; the other half is
    left for rows that are late for other reasons.
    """
    return lag + overlap // 2


def guard_clock(source: datetime, reference: datetime, *, allowed: int, where: str) -> None:
    """Refuse a source's clock that is more than `allowed` seconds ahead of Redis's.

    Either of the two clocks may be wrong. A source's clock that is behind does no harm.

    Raises:
        BlockedError: The source's clock is too far ahead.
    """
    ahead = (source - reference).total_seconds()
    if ahead > allowed:
        raise BlockedError(
            f"the clock of {where} is {duration(ahead)} ahead of that of Redis (REDIS_URL): {source:%F %T} and"
            f" {reference:%F %T} UTC. At most {duration(allowed)} is allowed (HARVEST_MAX_SKEW_SECONDS), because rows"
            " with the right time would be missed. Synchronize both hosts' clocks with NTP."
        )


def stepped_back(watermark: datetime, now: datetime, *, allowed: int) -> bool:
    """Tell whether the source's clock went back to at most `allowed` seconds before the watermark.

    This happens when two nodes whose clocks differ answer in turn.
    """
    return timedelta() < watermark - now <= timedelta(seconds=allowed)


def guard_span(start: datetime, end: datetime, *, longest: int | None) -> None:
    """Refuse a span longer than `longest` seconds (MAX_START_END_SPAN; None: no limit).

    Raises:
        SpanRefusedError: The span is too long.
    """
    span = (end - start).total_seconds()
    if longest is not None and span > longest:
        raise SpanRefusedError(
            f"refused: {duration(span)} from {start:%F %T} to {end:%F %T} UTC, MAX_START_END_SPAN is "
            f"{duration(longest)}. Harvest it in windows with HARVEST_CATCH_UP=true, or once with "
            "--disable-start-end-span-check."
        )
