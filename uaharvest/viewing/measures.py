"""Measures of viewings. docs/viewing.md defines each one with an example."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from uaharvest.viewing.columns import Floats, Ints, total, union
from uaharvest.viewing.engine import Viewings
from uaharvest.viewing.evidence import SITTING_S


class Measures(NamedTuple):
    """One viewer of one recording.

    Attributes:
        recording: The mediapackage's id.
        viewer: Whose viewings they are.
        coverage: The share of the recording that was played, 0 to 1; None if its duration is unknown.
        seen_s: Seconds of the recording that were played at least once.
        watched_s: Seconds of the recording that were played, each as often as it was.
        again_s: Seconds that were played again: `watched_s` - `seen_s`.
        furthest_s: How far into the recording it was played, seconds.
        sittings: Stretches of time without a break of more than half an hour, live or not, on any device.
        first: When it was first played, epoch seconds.
        last: When it was last played, epoch seconds.
        live_s: Seconds of presence at the live stream, by the clock on the wall.
    """

    recording: str
    viewer: str
    coverage: float | None
    seen_s: float
    watched_s: float
    again_s: float
    furthest_s: float
    sittings: int
    first: float
    last: float
    live_s: float


def measures(found: Viewings, durations: Mapping[str, float]) -> list[Measures]:
    """Measure each viewer of each recording who has any viewing.

    Args:
        found: What was played.
        durations: Seconds, by recording; none where unknown. Those that `viewings` was given.
    """
    count = len(found.pairs)
    vod, live = found.take(~found.live), found.take(found.live)
    seen = _lengths(*union(vod.pair, vod.start, vod.end), count)
    watched = total(vod.pair, vod.end - vod.start, count)
    present = _lengths(*union(live.pair, live.began, live.ended), count)
    sittings = np.bincount(union(found.pair, found.began, found.ended, SITTING_S)[0], minlength=count)
    furthest = np.zeros(count)
    np.maximum.at(furthest, vod.pair, vod.end)
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, found.pair, found.began)
    np.maximum.at(last, found.pair, found.ended)
    return [
        Measures(
            *found.pairs[n],
            coverage=min(1.0, float(seen[n]) / duration)
            if (duration := durations.get(found.pairs[n][0]))
            else None,
            seen_s=float(seen[n]),
            watched_s=float(watched[n]),
            again_s=round(max(0.0, float(watched[n] - seen[n])), 3),
            furthest_s=float(furthest[n]),
            sittings=int(sittings[n]),
            first=float(first[n]),
            last=float(last[n]),
            live_s=float(present[n]),
        )
        for n in np.flatnonzero(sittings)
    ]


def watch_counts(found: Viewings, seconds: int) -> Ints:
    """Return how often each second of a recording was played: second n is [n, n + 1), and n + 0.5 must be played.

    Two devices that play at once count twice.

    Args:
        found: What was played of one recording; `take` chooses viewers.
        seconds: How many to count, usually the duration rounded up.
    """
    vod = found.take(~found.live)
    changes = np.zeros(seconds + 1, np.int64)
    np.add.at(changes, _middle(vod.start, seconds), 1)
    np.add.at(changes, _middle(vod.end, seconds), -1)
    return changes.cumsum()[:seconds]


def _middle(bound: Floats, seconds: int) -> Ints:
    """Return the first second whose middle is not before the bound."""
    return np.clip(np.ceil(bound - 0.5), 0, seconds).astype(np.int64)


def _lengths(groups: Ints, start: Floats, end: Floats, count: int) -> Floats:
    return total(groups, end - start, count)
