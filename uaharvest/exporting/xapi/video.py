"""Statements of the xAPI Video Profile 1.0 about one recording, from its useractions.

Each interval that a viewer played becomes one played and one paused, whatever it was derived from: a run of heartbeats,
PLAY and PAUSE, or a footprint. Ids are derived from the useraction that a statement begins with, so that a statement
keeps its id when it is made again.
"""

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from uaharvest.exporting.useractions import ANONYMOUS, Facts
from uaharvest.exporting.xapi import vocabulary
from uaharvest.exporting.xapi.vocabulary import Origin, Statement, Timed
from uaharvest.viewing.actions import Action, Actions
from uaharvest.viewing.engine import viewings

THRESHOLD = 0.9
"""The share of a recording that completes it, by default."""

_ACTIVITY = f"{vocabulary.VIDEO}/activity-type/video"
_EXTENSIONS = f"{vocabulary.VIDEO}/extensions"
_CAPTIONS = "paella:caption:enabled"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
# At the same instant, what ends comes before what begins.
_ORDER = {
    verb: place
    for place, verb in enumerate(
        (
            vocabulary.INITIALIZED,
            vocabulary.PAUSED,
            vocabulary.COMPLETED,
            vocabulary.SEEKED,
            vocabulary.INTERACTED,
            vocabulary.PLAYED,
            vocabulary.TERMINATED,
        )
    )
}

Played = tuple[float, float, float, float]
"""A viewing: [start, end) in seconds of the recording, [began, ended) in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What statements say of a recording.

    Attributes:
        mpid: Its mediapackage's id.
        duration: Seconds, above 0.
        facts: All else.
    """

    mpid: str
    duration: float
    facts: Facts


@dataclass(slots=True)
class _ViewerProgress:
    """What a viewer has played of a recording so far, in all sessions."""

    duration: float
    segments: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    _union: list[tuple[float, float]] = field(default_factory=list)

    def add(self, played: Played) -> None:
        start, end, began, ended = played
        if self.segments and self.segments[-1][1] == start:
            self.segments[-1] = (self.segments[-1][0], end)
        else:
            self.segments.append((start, end))
        self.seconds += ended - began
        first = bisect.bisect_left(self._union, start, key=lambda part: part[1])
        last = bisect.bisect_right(self._union, end, key=lambda part: part[0])
        parts = [(start, end), *self._union[first:last]]
        self._union[first:last] = [(min(part[0] for part in parts), max(part[1] for part in parts))]

    @property
    def share(self) -> float:
        return min(1.0, sum(end - start for start, end in self._union) / self.duration)


class Video:
    """Makes the statements about recordings.

    Args:
        origin: Opencast, as the source of accounts and ids.
        threshold: The share of a recording that completes it, above 0 and at most 1.
    """

    def __init__(self, origin: Origin, threshold: float = THRESHOLD) -> None:
        self._origin = origin
        self._threshold = threshold

    def statements(
        self, recording: Recording, actions: Sequence[Action], before: Mapping[str, Sequence[Played]] | None = None
    ) -> list[Timed]:
        """Return the statements about a recording by viewer and time. Live viewing has no position, and none.

        Args:
            recording: The recording.
            actions: Its useractions, in any order.
            before: What each viewer had played before the first of these.
        """
        rows = Actions.of(actions)
        found = viewings(rows, {recording.mpid: recording.duration})
        found = found.take(~found.live)
        sessions: dict[int, list[Action]] = {}
        for number, action in zip(rows.session.tolist(), actions, strict=True):
            sessions.setdefault(number, []).append(action)
        played: dict[int, list[Played]] = {}
        columns = (found.session, found.start, found.end, found.began, found.ended)
        for number, *interval in zip(*(column.tolist() for column in columns), strict=True):
            played.setdefault(number, []).append((interval[0], interval[1], interval[2], interval[3]))
        of_viewers: dict[str, list[_ViewerSession]] = {}
        for number, intervals in played.items():
            own = sorted(sessions[number], key=lambda action: (action.at, action.id))
            of_viewers.setdefault(own[0].viewer, []).append(_ViewerSession(own, sorted(intervals, key=_by_time)))
        return [
            timed
            for viewer, own_sessions in sorted(of_viewers.items())
            for timed in self._of_viewer(recording, viewer, own_sessions, (before or {}).get(viewer, ()))
        ]

    def _of_viewer(
        self, recording: Recording, viewer: str, sessions: Sequence["_ViewerSession"], before: Sequence[Played]
    ) -> Iterator[Timed]:
        progress = _ViewerProgress(recording.duration)
        for played in sorted(before, key=_by_time):
            progress.add(played)
        maker = _Maker(self._origin, recording, viewer, self._threshold)
        moments = sorted(
            (moment for session in sessions for moment in _moments(session)),
            key=lambda moment: (moment.at, _ORDER[moment.verb], moment.session.id),
        )
        for moment in moments:
            share = progress.share
            if moment.verb == vocabulary.PAUSED and moment.played:
                progress.add(moment.played)
            yield Timed(moment.at, maker.make(moment, progress))
            if share < self._threshold <= progress.share:
                yield Timed(moment.at, maker.completed(moment, progress))


@dataclass(frozen=True, slots=True)
class _ViewerSession:
    """A session of one viewer: its useractions and what it played, by time."""

    actions: list[Action]
    played: list[Played]

    @property
    def id(self) -> str:
        return self.actions[0].session or ""


@dataclass(frozen=True, slots=True)
class _Moment:
    """Something that becomes a statement.

    Attributes:
        at: Epoch seconds.
        verb: The verb's id.
        session: The session.
        action: The useraction that it is identified by.
        place: Numbers those that have verb and useraction in common.
        played: The interval that began or ended.
    """

    at: float
    verb: str
    session: _ViewerSession
    action: Action
    place: int = 0
    played: Played | None = None


def _moments(session: _ViewerSession) -> Iterator[_Moment]:
    first, last = session.actions[0], session.actions[-1]
    began = min(first.at, *(played[2] for played in session.played))
    yield _Moment(began, vocabulary.INITIALIZED, session, first)
    times = np.array([action.at for action in session.actions])
    # An interval belongs to the first useraction after its beginning: it may begin up to 30 s before a heartbeat.
    owners = [int(at) for at in np.searchsorted(times, [played[2] for played in session.played])]
    for owner, group in itertools.groupby(zip(owners, session.played, strict=True), key=lambda pair: pair[0]):
        action = session.actions[min(owner, len(session.actions) - 1)]
        for place, (_, played) in enumerate(group):
            yield _Moment(played[2], vocabulary.PLAYED, session, action, place, played)
            yield _Moment(played[3], vocabulary.PAUSED, session, action, place, played)
    for action in session.actions:
        if action.type == "SEEK" and not action.live and _known(action.inpoint) and _known(action.outpoint):
            yield _Moment(action.at, vocabulary.SEEKED, session, action)
        elif action.type.startswith(_CAPTIONS) and _known(action.inpoint):
            yield _Moment(action.at, vocabulary.INTERACTED, session, action)
    ended = max(last.at, *(played[3] for played in session.played))
    yield _Moment(ended, vocabulary.TERMINATED, session, first, played=session.played[-1])


class _Maker:
    """Makes the statements of one viewer about one recording."""

    def __init__(self, origin: Origin, recording: Recording, viewer: str, threshold: float) -> None:
        self._origin = origin
        self._recording = recording
        self._viewer = viewer
        self._threshold = threshold
        facts = recording.facts
        self._object = origin.activity(f"play/{vocabulary.segment(recording.mpid)}", _ACTIVITY, facts.title)
        self._activities: dict[str, object] = {"category": [vocabulary.profile(vocabulary.VIDEO)]}
        if facts.series:
            course = "http://adlnet.gov/expapi/activities/course"
            path = f"series/{vocabulary.segment(facts.series)}"
            self._activities["parent"] = [origin.activity(path, course, None)]
        # The session's id would let its reader take over a session that is still open.
        name = f"{ANONYMOUS}{origin.id(viewer)}" if viewer.startswith(ANONYMOUS) else viewer
        self._actor = origin.actor(name)

    def make(self, moment: _Moment, progress: _ViewerProgress) -> Statement:
        id_ = self._origin.id(moment.action.id, moment.verb, *([moment.place] if moment.place else []))
        statement = self._statement(id_, moment)
        if (result := self._result(moment, progress)) is not None:
            statement["result"] = {"extensions": result}
        return statement

    def completed(self, moment: _Moment, progress: _ViewerProgress) -> Statement:
        """Return the statement that the viewer has completed the recording. Each viewer has one per recording."""
        id_ = self._origin.id(self._recording.mpid, self._viewer, vocabulary.COMPLETED)
        statement = self._statement(id_, moment, vocabulary.COMPLETED)
        statement["result"] = {
            "completion": True,
            "duration": f"PT{progress.seconds:.2f}S",
            "extensions": self._so_far(moment, progress),
        }
        return statement

    def _statement(self, id_: str, moment: _Moment, verb: str | None = None) -> Statement:
        return {
            "id": id_,
            "actor": self._actor,
            "verb": vocabulary.verb(verb or moment.verb),
            "object": self._object,
            "context": {
                "registration": self._origin.id(self._recording.mpid, self._viewer),
                "platform": "Opencast",
                "contextActivities": self._activities,
                "extensions": self._context(moment),
            },
            "timestamp": vocabulary.stamp(moment.at),
        }

    def _context(self, moment: _Moment) -> dict[str, object]:
        found: dict[str, object] = {
            f"{_EXTENSIONS}/session-id": self._origin.id("session", self._viewer, moment.session.id),
            f"{_EXTENSIONS}/length": _seconds(self._recording.duration),
            f"{_EXTENSIONS}/completion-threshold": self._threshold,
        }
        if moment.verb == vocabulary.INTERACTED:
            language = moment.action.type.partition(";")[2]
            found[f"{_EXTENSIONS}/cc-subtitle-lang"] = language if _LANGUAGE.fullmatch(language) else "und"
        return found

    def _result(self, moment: _Moment, progress: _ViewerProgress) -> dict[str, object] | None:
        action, verb = moment.action, moment.verb
        if verb == vocabulary.SEEKED:
            return {
                f"{_EXTENSIONS}/time-from": _seconds(action.inpoint or 0),
                f"{_EXTENSIONS}/time-to": _seconds(action.outpoint or 0),
            }
        if verb == vocabulary.INTERACTED:
            return {f"{_EXTENSIONS}/time": _seconds(action.inpoint or 0), f"{_EXTENSIONS}/cc-enabled": True}
        if moment.played is None:
            return None
        if verb == vocabulary.PLAYED:
            return {f"{_EXTENSIONS}/time": _seconds(moment.played[0])}
        return self._so_far(moment, progress)

    @staticmethod
    def _so_far(moment: _Moment, progress: _ViewerProgress) -> dict[str, object]:
        return {
            f"{_EXTENSIONS}/time": _seconds(moment.played[1] if moment.played else 0),
            f"{_EXTENSIONS}/progress": round(progress.share, 3),
            f"{_EXTENSIONS}/played-segments": "[,]".join(
                f"{start:.3f}[.]{end:.3f}" for start, end in progress.segments
            ),
        }


def _by_time(played: Played) -> tuple[float, float]:
    return played[3], played[0]


def _known(position: float | None) -> bool:
    return position is not None and position >= 0


def _seconds(position: float) -> float:
    return round(position, 3)
