"""Open edX Aspects: which seconds of a video a learner watched (`fact_video_segments` of aspects-dbt)."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_IGNORED = "initialized"
_START = "played"


class Event(NamedTuple):
    """A statement about a video.

    Attributes:
        key: Who watched what: the statements of one key belong together.
        at: When; anything that sorts by time.
        verb: The last part of the verb's address: played, paused, seeked, completed, terminated, initialized.
        position: Seconds into the video; a fraction is cut off.
    """

    key: tuple[str, ...]
    at: str | float
    verb: str
    position: float


def segments(events: Iterable[Event]) -> Counter[tuple[tuple[str, ...], int]]:
    """Return how often each second of each key was watched.

    Each `played` starts; all others end. A start belongs with the last end before the next start. Counted are the
    seconds from the start to the end, both included, but not second 0.

    So what is skipped between a start and its last end counts as watched, as in `played 0, seeked from 10 to 500,
    paused 520`: seconds 1 to 520.
    """
    counts: Counter[tuple[tuple[str, ...], int]] = Counter()
    known = (event for event in events if event.verb != _IGNORED)
    # At the same time, ends come before starts.
    in_order = sorted(known, key=lambda event: (event.key, event.at, event.verb == _START))
    for key, of_key in itertools.groupby(in_order, key=lambda event: event.key):
        for start, end in _pairs(of_key):
            counts.update((key, second) for second in range(max(start, 1), end + 1) if end > start)
    return counts


def _pairs(events: Iterable[Event]) -> Iterator[tuple[int, int]]:
    """Return the positions of each start and of the last end before the next start, if there is one."""
    start = end = None
    for event in events:
        if event.verb != _START:
            end = int(event.position)
            continue
        if start is not None and end is not None:
            yield start, end
        start, end = int(event.position), None
    if start is not None and end is not None:
        yield start, end
