"""The useractions of one recording, from documents to columns.

A row takes about 45 bytes, so that a recording with millions of them can be read page by page.
"""

import datetime as dt
import math
from array import array
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from uaharvest.coerce import members, text
from uaharvest.viewing.actions import FURTHEST, Actions, Kind, kind_of
from uaharvest.viewing.columns import Ints, starts_of_runs

FIELDS = (
    "action_id",
    "@timestamp",
    "huid",
    "session_id",
    "is_live",
    "action",
    "episode.title",
    "episode.series",
    "episode.start",
    "episode.duration",
)
"""The fields of a useraction's document that are read."""

# Rows that the engine is given at once. It needs about 1 kB for each.
_AT_ONCE = 100_000
_HIGHEST = 2**63 - 1  # Elasticsearch's long
# Seconds since the epoch: 1970-01-02 to 2223. What lies beyond is no time of a useraction.
_TIMES = (86_400.0, 8e9)
# Milliseconds; 31 years.
_LONGEST = 10**12
_LIVE = frozenset({"1", "true"})


class Viewer(NamedTuple):
    """One viewer of a recording.

    Attributes:
        name: The user's id, or `session:` and the session's id.
        anonymous: Nobody was logged in.
    """

    name: str
    anonymous: bool


class RecordingInfo(NamedTuple):
    """What is known of a recording itself; None where unknown.

    Attributes:
        title: Its title.
        series: The series' id.
        start: When it was recorded, as in the documents.
        duration: Milliseconds.
    """

    title: str | None
    series: str | None
    start: str | None
    duration: int | None

    @classmethod
    def of(cls, episode: Mapping[str, Any]) -> "RecordingInfo":
        """Return what is in an `episode` of a useraction, or in an episode's document."""
        duration = episode.get("duration")
        usable = type(duration) is int and 0 < duration <= _LONGEST
        return cls(
            text(episode.get("title")),
            text(episode.get("series")),
            text(episode.get("start")),
            duration if usable else None,
        )

    def updated(self, newer: "RecordingInfo") -> "RecordingInfo":
        """Return what `newer` knows; what it does not know stays."""
        return self._replace(**{name: value for name, value in newer._asdict().items() if value is not None})


class RecordingActions:
    """Useractions of one recording, in any order; `add` takes their documents, one by one.

    Attributes:
        skipped: Rows without a usable id or time.
        unidentified: Rows with neither a user nor a session, so that nobody can tell how many viewers they are.
    """

    def __init__(self, mpid: str, anonymous: Collection[str]) -> None:
        """Start without any.

        Args:
            mpid: The recording.
            anonymous: User ids that stand for nobody.
        """
        self.mpid = mpid
        self.skipped = 0
        self.unidentified = 0
        self._anonymous = frozenset(anonymous)
        self._id, self._at = array("q"), array("d")
        self._viewer, self._session = array("l"), array("l")
        self._kind, self._playing, self._live = array("b"), array("b"), array("b")
        self._inpoint, self._outpoint = array("d"), array("d")
        self._viewers: dict[tuple[str, bool], int] = {}  # as Viewer, whose constructor takes three times as long
        self._sessions: dict[str, int] = {"": 0}
        self._infos: dict[RecordingInfo, tuple[float, int]] = {}
        # The last row's episode, and the types in it (1 == True). Most rows of a recording have the same, so one info.
        self._episode: tuple[dict[str, Any], list[type]] = {}, []
        self._info = RecordingInfo.of({})

    def __len__(self) -> int:
        return len(self._id)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the document of one useraction. Fields of other types than usual count as unknown."""
        id_, at = row.get("action_id"), _seconds(row.get("@timestamp"))
        if type(id_) is not int or abs(id_) > _HIGHEST or at is None:
            self.skipped += 1
            return
        episode = members(row.get("episode"))
        seen = episode, [*map(type, episode.values())]
        if seen != self._episode:
            self._episode, self._info = seen, RecordingInfo.of(episode)
        newest = self._infos.get(self._info)
        if newest is None or newest < (at, id_):
            self._infos[self._info] = at, id_
        action = members(row.get("action"))
        kind = kind_of(text(action.get("type")) or "")
        if kind is Kind.OTHER:
            return
        session = text(row.get("session_id")) or ""
        user = text(row.get("huid"))
        if user is None or user in self._anonymous:
            viewer = f"session:{session}", True
            if not session:
                self.unidentified += 1
                return
        else:
            viewer = user, False
        inpoint, outpoint = _position(action.get("inpoint")), _position(action.get("outpoint"))
        if kind is Kind.FOOTPRINT and math.isnan(outpoint):  # some versions give the length only
            outpoint = inpoint + _position(action.get("length"))
        self._id.append(id_)
        self._at.append(at)
        self._viewer.append(self._viewers.setdefault(viewer, len(self._viewers)))
        self._session.append(self._sessions.setdefault(session, len(self._sessions)))
        self._kind.append(kind)
        self._playing.append(action.get("is_playing") is True)
        self._live.append((text(row.get("is_live")) or "") in _LIVE)
        self._inpoint.append(inpoint)
        self._outpoint.append(outpoint)

    @property
    def info(self) -> RecordingInfo:
        """Return what the rows say of the recording: the newest value of each field that any of them knows."""
        newest = RecordingInfo(None, None, None, None)
        for info in sorted(self._infos, key=lambda info: (self._infos[info], str(info))):
            newest = newest.updated(info)
        return newest

    def by_viewers(self) -> Iterator[tuple[list[Viewer], Actions]]:
        """Yield all rows, those of some viewers at a time, and the viewers that `Actions.pair` counts.

        Viewers come in the order of their names; the order in which rows were added makes no difference.
        """
        viewers = [Viewer(*viewer) for viewer in sorted(self._viewers)]
        pair = _ranks([self._viewers[viewer] for viewer in viewers])[_column(self._viewer)]
        names = sorted(self._sessions)
        own = _ranks([self._sessions[name] for name in names])[_column(self._session)]
        at, id_ = _column(self._at), _column(self._id)
        order = np.lexsort((at, id_, own, pair))
        pair, own = pair[order], own[order]
        session = np.cumsum(starts_of_runs(pair * len(names) + own)) - 1
        bounds = [*np.flatnonzero(starts_of_runs(pair)).tolist(), len(pair)]
        first = 0
        while first < len(viewers):
            last = first + 1
            while last < len(viewers) and bounds[last + 1] - bounds[first] <= _AT_ONCE:
                last += 1
            rows = slice(bounds[first], bounds[last])
            chosen = order[rows]
            yield (
                viewers[first:last],
                Actions(
                    [(self.mpid, viewer.name) for viewer in viewers[first:last]],
                    id_[chosen],
                    at[chosen],
                    pair[rows] - first,
                    session[rows] - session[bounds[first]],
                    _column(self._kind)[chosen].astype(np.int64),
                    _column(self._inpoint)[chosen],
                    _column(self._outpoint)[chosen],
                    _column(self._playing)[chosen].astype(np.bool_),
                    _column(self._live)[chosen].astype(np.bool_),
                ),
            )
            first = last


def _column(values: "array[Any]") -> npt.NDArray[Any]:
    """Return a column as NumPy sees it, without a copy."""
    return np.frombuffer(values, values.typecode) if values else np.empty(0, values.typecode)


def _ranks(numbers: list[int]) -> Ints:
    """Return the place of each number in a list that has each of 0 to n - 1 once."""
    ranks = np.empty(len(numbers), np.int64)
    ranks[numbers] = np.arange(len(numbers))
    return ranks


def _seconds(value: Any) -> float | None:
    """Return an instant of a document in seconds since the epoch; None if it is none, or an implausible one."""
    try:
        at = dt.datetime.fromisoformat(value)
        seconds = at.timestamp() if at.tzinfo is not None else 0.0
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if _TIMES[0] <= seconds <= _TIMES[1] else None


def _position(value: Any) -> float:
    """Return a position in seconds; NaN if it is none."""
    return float(value) if type(value) is int and 0 <= value <= FURTHEST else float("nan")
