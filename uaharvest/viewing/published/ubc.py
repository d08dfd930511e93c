"""UBC Sauder's panopto-video-analytics: a video in twenty chunks."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from uaharvest.intervals import union

CHUNKS = 20
_MOST = 0.75

Span = tuple[float, float]


class Chunk(NamedTuple):
    """One twentieth of a video.

    Attributes:
        start: Seconds into the video.
        end: Seconds into the video.
        viewers: How many saw any of it.
        most: How many saw at least 75 % of it.
        mean_s: Seconds spent in it by those who saw any of it, repetitions included; 0 if nobody did.
    """

    start: float
    end: float
    viewers: int
    most: int
    mean_s: float


def chunks(viewings: Mapping[str, Sequence[Span]], duration: float) -> list[Chunk]:
    """Return the chunks of a video.

    Args:
        viewings: What each viewer watched, seconds into the video.
        duration: Seconds, above 0.
    """
    bounds = [duration * number / CHUNKS for number in range(CHUNKS + 1)]
    return [_chunk(viewings, start, end) for start, end in itertools.pairwise(bounds)]


def completed(viewings: Mapping[str, Sequence[Span]], duration: float) -> int:
    """Return how many viewers saw at least 75 % of the video."""
    return sum(_inside(union(parts), 0, duration) >= _MOST * duration for parts in viewings.values())


def _chunk(viewings: Mapping[str, Sequence[Span]], start: float, end: float) -> Chunk:
    spent = [_inside(parts, start, end) for parts in viewings.values()]
    seen = [_inside(union(parts), start, end) for parts in viewings.values()]
    viewers = sum(seconds > 0 for seconds in seen)
    most = sum(seconds >= _MOST * (end - start) for seconds in seen)
    return Chunk(start, end, viewers, most, sum(spent) / viewers if viewers else 0.0)


def _inside(parts: Iterable[Span], start: float, end: float) -> float:
    return sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in parts)
