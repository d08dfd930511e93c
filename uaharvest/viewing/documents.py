"""The documents of one recording: one for each viewer, and one for the recording. docs/viewings.md has their fields.

The same useractions give the same bytes, in whatever order they come. No document says when it was made.
"""

import datetime as dt
import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from uaharvest.coerce import instant
from uaharvest.viewing.columns import Floats, Ints, union
from uaharvest.viewing.engine import Viewings, viewings
from uaharvest.viewing.evidence import Evidence
from uaharvest.viewing.measures import Measures, measures
from uaharvest.viewing.recording import RecordingActions, RecordingInfo, Viewer

BIN_S = 30
"""The length of a bin of `views` and `retention`, seconds of the recording."""

CLOCK_S = 300
"""The length of a bin of `concurrency`, seconds of the clock."""

LONGEST_S = 48 * 3600
"""Where the curves of a recording end, and what one viewing counts for in `concurrency` at most. Seconds."""

COUNTED = ("viewer", "huid", "last", "seen_s", "coverage", "intervals", "played", "stays")
"""The fields of a viewer's document that the recording's follows from, and those that say whose it is."""

_MS = 1000


class Body(NamedTuple):
    """A document without its index.

    Attributes:
        family: Where it belongs.
        id: Its id.
        fields: Its fields; those that are unknown are absent.
    """

    family: Literal["viewings", "recordings"]
    id: str
    fields: dict[str, Any]


def digest(*parts: str) -> str:
    """Return the id of a document that `parts` identify."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def iso(seconds: float) -> str:
    """Return an instant, seconds since the epoch, as it stands in documents: UTC, to the second."""
    return dt.datetime.fromtimestamp(round(seconds), dt.UTC).isoformat()


def documents(rows: RecordingActions, episode: Mapping[str, Any] | None) -> Iterator[Body]:
    """Yield the documents of all viewers who played anything or were there live; then that of the recording.

    Nothing is yielded if there are no such viewers.

    Args:
        rows: All useractions of the recording.
        episode: The episode's document; it says what no useraction says. None if there is none.
    """
    about = _About(rows.mpid, RecordingInfo.of(episode or {}).updated(rows.info))
    whole = _Whole({**about.fields, "start": about.start})
    for viewers, actions in rows.by_viewers():
        found = viewings(actions, about.durations)
        found = found.take(np.lexsort((found.end, found.start, found.ended, found.began, found.pair)))
        numbers = {viewer.name: number for number, viewer in enumerate(viewers)}
        lists = _Lists(found)
        for one in measures(found, about.durations):
            number = numbers[one.viewer]
            body = _viewing(about, viewers[number], one, lists.of(number))
            whole.add(body.fields)
            yield body
    if whole.viewers:
        yield whole.document()


def recording_of(former: Mapping[str, Any], viewers: Iterable[Mapping[str, Any]]) -> Body | None:
    """Return the document of a recording as it follows from the documents of its viewers; None if there are none.

    Args:
        former: Its earlier document; only what is about the recording itself is taken from it.
        viewers: The documents of all viewers.
    """
    whole = _Whole(former)
    for viewing in viewers:
        whole.add(viewing)
    return whole.document() if whole.viewers else None


class _About:
    """What the documents say of the recording itself."""

    def __init__(self, mpid: str, info: RecordingInfo) -> None:
        self.mpid = mpid
        self.duration = info.duration / _MS if info.duration else None
        self.durations = {mpid: self.duration} if self.duration else {}
        self.fields = {
            "mpid": mpid,
            "series": info.series,
            "title": info.title,
            "duration_s": None if self.duration is None else round(self.duration, 1),
        }
        self.start = _start(info.start)


class _Own(NamedTuple):
    """The lists of one viewer's document."""

    evidence: list[str]
    intervals: list[list[float]]
    played: list[list[float]]
    stays: list[list[str]]


class _Lists:
    """The lists of the viewers' documents, from viewings in the order of their pairs."""

    def __init__(self, found: Viewings) -> None:
        vod, live = found.take(~found.live), found.take(found.live)
        self._vod = vod
        self._seen = union(vod.pair, vod.start, vod.end)
        self._present = union(live.pair, live.began, live.ended)

    def of(self, number: int) -> _Own:
        """Return those of the viewer with this number in the pairs."""
        vod = self._vod.take(_rows(self._vod.pair, number))
        columns = (vod.start, vod.end, vod.began, vod.ended)
        return _Own(
            evidence=sorted(Evidence(kind).name.lower() for kind in set(vod.evidence.tolist())),
            intervals=[[round(start, 1), round(end, 1)] for start, end in _own(self._seen, number)],
            played=[
                [round(value, 1) for value in row] for row in zip(*(c.tolist() for c in columns), strict=True)
            ],
            stays=[[iso(began), iso(ended)] for began, ended in _own(self._present, number)],
        )


def _rows(pair: Ints, number: int) -> Ints:
    """Return the rows of one pair; the pairs are sorted."""
    first, last = np.searchsorted(pair, [number, number + 1])
    return np.arange(first, last)


def _own(united: tuple[Ints, Floats, Floats], number: int) -> list[tuple[float, float]]:
    owner, starts, ends = united
    rows = _rows(owner, number)
    return list(zip(starts[rows].tolist(), ends[rows].tolist(), strict=True))


def _viewing(about: _About, viewer: Viewer, one: Measures, own: _Own) -> Body:
    fields = {
        "@timestamp": iso(one.last),
        **about.fields,
        "viewer": viewer.name,
        "huid": None if viewer.anonymous else viewer.name,
        "evidence": own.evidence,
        "seen_s": round(one.seen_s, 1),
        "coverage": None if one.coverage is None else round(one.coverage, 4),
        "watched_s": round(one.watched_s, 1),
        "again_s": round(one.again_s, 1),
        "furthest_s": round(one.furthest_s, 1),
        "sittings": one.sittings,
        "first": iso(one.first),
        "last": iso(one.last),
        "live_s": round(one.live_s, 1),
        "intervals": own.intervals,
        "played": own.played,
        "stays": own.stays,
    }
    return Body("viewings", digest(about.mpid, viewer.name), _known(fields))


class _Whole:
    """Adds up the document of a recording, which follows from those of its viewers alone.

    Attributes:
        viewers: How many there are.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        """Start with no viewers; `about` has what the document says of the recording itself."""
        self.viewers = 0
        self._about = {name: about.get(name) for name in ("mpid", "series", "title", "duration_s", "start")}
        self._duration: float | None = self._about["duration_s"]
        self._anonymous = 0
        self._last = 0.0
        self._furthest = 0.0
        self._coverages: list[float] = []
        self._middles = _middles(self._duration)
        self._views = np.zeros(len(self._middles) + 1, np.int64)
        self._retention = np.zeros(len(self._middles) + 1, np.int64)
        self._at: dict[int, list[int]] = {}

    def add(self, viewing: Mapping[str, Any]) -> None:
        """Add the document of a viewer."""
        self.viewers += 1
        self._anonymous += "huid" not in viewing
        self._last = max(self._last, _epoch(viewing["last"]))
        # Somebody who was only there live does not count as a viewer who saw none of the recording.
        if viewing.get("coverage") is not None and viewing["seen_s"]:
            self._coverages.append(viewing["coverage"])
        start, end, began, ended = np.array(viewing["played"], np.float64).reshape(-1, 4).T
        self._furthest = max(self._furthest, end.max(initial=0.0))
        _count(self._views, self._middles, start, end)
        _count(self._retention, self._middles, *np.array(viewing["intervals"], np.float64).reshape(-1, 2).T)
        stays = [tuple(map(_epoch, stay)) for stay in viewing["stays"]]
        for kind, times in enumerate((stays, zip(began.tolist(), ended.tolist(), strict=True))):
            for at in _clock_bins(times):
                self._at.setdefault(at, [0, 0])[kind] += 1

    def document(self) -> Body:
        """Return the document."""
        length = self._furthest if self._duration is None else self._duration
        bins = math.ceil(min(length, LONGEST_S) / BIN_S)
        fields = {
            "@timestamp": iso(self._last),
            **self._about,
            "viewers": self.viewers,
            "anonymous": self._anonymous,
            "mean_coverage": round(statistics.fmean(self._coverages), 4) if self._coverages else None,
            "median_coverage": round(statistics.median(self._coverages), 4) if self._coverages else None,
            "bin_s": BIN_S,
            "views": self._views.cumsum()[:bins].tolist(),
            "retention": self._retention.cumsum()[:bins].tolist(),
            "concurrency": [
                {"at": iso(at * CLOCK_S), "live": live, "recorded": recorded}
                for at, (live, recorded) in sorted(self._at.items())
            ],
        }
        return Body("recordings", str(self._about["mpid"]), _known(fields))


def _epoch(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def _middles(duration: float | None) -> Floats:
    """Return the middle of each bin of a recording, seconds; up to `LONGEST_S` if its duration is unknown."""
    length = min(duration or LONGEST_S, LONGEST_S)
    starts = np.arange(math.ceil(length / BIN_S)) * float(BIN_S)
    ends: Floats = np.minimum(starts + BIN_S, length)
    return (starts + ends) / 2


def _count(changes: Ints, middles: Floats, start: Floats, end: Floats) -> None:
    """Note where the number of intervals that contain a bin's middle changes."""
    np.add.at(changes, np.searchsorted(middles, start), 1)
    np.add.at(changes, np.searchsorted(middles, end), -1)


def _clock_bins(times: Iterable[Sequence[float]]) -> set[int]:
    """Return the bins of the clock in which any of these intervals lies."""
    found: set[int] = set()
    for began, ended in times:
        first = math.floor(began / CLOCK_S)
        found.update(range(first, min(max(math.ceil(ended / CLOCK_S), first + 1), first + LONGEST_S // CLOCK_S)))
    return found


def _start(value: Any) -> str | None:
    at = instant(value)
    return None if at is None else at.replace(microsecond=0).isoformat()


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
