"""From useractions to viewings: the intervals of a recording that were played, with their wall-clock time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from uaharvest.viewing.actions import Actions, Kind
from uaharvest.viewing.columns import Bools, Floats, Ints, starts_of_runs
from uaharvest.viewing.evidence import (
    FASTEST,
    HEARTBEAT_S,
    LOST_S,
    ROUNDING_S,
    SLOWEST,
    SPEED_TOLERANCE,
    Evidence,
)

# Not knowing when within a heartbeat's interval something happened, assume the middle.
_HALF = HEARTBEAT_S / 2
# Seconds. A page that slept may have played this much: an interval before, and one after.
_AROUND_SLEEP = 2 * HEARTBEAT_S


@dataclass(frozen=True, slots=True)
class Viewings:
    """Played intervals as columns of equal length, by pair, session and time.

    Attributes:
        pairs: Each recording with each of its viewers, as in `Actions`.
        pair: Index into `pairs`.
        session: The number of the session in `Actions`.
        start: Seconds into the recording, included; NaN for live.
        end: Seconds into the recording, excluded; NaN for live.
        began: When it began to play, epoch seconds.
        ended: When it ended, epoch seconds.
        evidence: `Evidence`.
    """

    pairs: list[tuple[str, str]]
    pair: Ints
    session: Ints
    start: Floats
    end: Floats
    began: Floats
    ended: Floats
    evidence: Ints

    @property
    def live(self) -> Bools:
        """Tell which were watched live."""
        return np.equal(self.evidence, Evidence.LIVE)

    def take(self, rows: Bools | Ints) -> Self:
        """Return the chosen rows, in the given order."""
        columns = [getattr(self, field.name) for field in fields(self)[1:]]
        return type(self)(self.pairs, *(column[rows] for column in columns))

    def __len__(self) -> int:
        return len(self.pair)


def viewings(actions: Actions, durations: Mapping[str, float]) -> Viewings:
    """Work out what was played.

    Each session is judged by its best evidence alone: FOOTPRINTs if it has any; otherwise PLAY, PAUSE and SEEK with
    heartbeats between them; otherwise heartbeats. What was watched live is judged by presence.

    Give it one recording or a few at a time: memory grows with the number of useractions given.

    Args:
        actions: In any order.
        durations: Seconds, by recording; none where unknown. Nothing is played beyond the duration.
    """
    useful = (actions.kind != Kind.OTHER) & (actions.live | ~np.isnan(actions.inpoint))
    actions = actions.take(np.flatnonzero(useful))
    actions = actions.take(np.lexsort((actions.id, actions.at, actions.session)))
    actions = actions.take(~_repeated(actions))
    sessions = 1 + int(actions.session.max(initial=-1))
    footprint = (actions.kind == Kind.FOOTPRINT) & ~actions.live
    with_footprints = _any(actions.session, footprint & (actions.outpoint > actions.inpoint), sessions)
    sampled = ~actions.live & ~footprint & ~with_footprints[actions.session]
    parts = [
        _footprints(actions.take(footprint)),
        *_Samples(actions.take(sampled), sessions).played(),
        _presence(actions.take(actions.live)),
    ]
    found = Viewings(
        actions.pairs,
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Viewings)[1:]),
    )
    return _joined(_within(found, durations))


def _repeated(actions: Actions) -> Bools:
    """Tell which rows are the same as the row before. A footprint may be there in several lengths."""
    repeated = np.zeros(len(actions), np.bool_)
    repeated[1:] = (actions.id[1:] == actions.id[:-1]) & (actions.session[1:] == actions.session[:-1])
    repeated &= actions.kind != Kind.FOOTPRINT
    return repeated


def _any(groups: Ints, flags: Bools, count: int) -> Bools:
    """Tell for each group whether any of its flags is set."""
    return np.bincount(groups[flags], minlength=count) > 0


def _footprints(actions: Actions) -> Viewings:
    """Take each footprint as it is, the longest version of each row.

    The row's time is that of its first part. Its speed is unknown, so assume that it played at normal speed.
    """
    rows = actions.take(np.lexsort((actions.outpoint, actions.id, actions.session)))
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (rows.id[1:] != rows.id[:-1]) | (rows.session[1:] != rows.session[:-1])
    rows = rows.take(last & (rows.outpoint > rows.inpoint))
    played = rows.outpoint - rows.inpoint
    return _viewings(rows, rows.inpoint, rows.outpoint, rows.at, rows.at + played, Evidence.FOOTPRINT)


def _presence(actions: Actions) -> Viewings:
    """Take a viewer of a live stream as present around and between useractions, if these are close enough."""
    gap, first, last = _gaps(actions)
    after = gap > LOST_S
    # The page was loaded one interval before its first heartbeat, and closed within one after its last.
    starts = np.where(first, HEARTBEAT_S * (actions.kind == Kind.HEARTBEAT), 0.0)
    starts[1:][after] = HEARTBEAT_S
    stays = np.where(last, _HALF, 0.0)
    stays[:-1] = np.where(last[:-1] | after, _HALF, gap)
    nowhere = np.full(len(actions), np.nan)
    return _viewings(actions, nowhere, nowhere, actions.at - starts, actions.at + stays, Evidence.LIVE)


def _gaps(actions: Actions) -> tuple[Floats, Bools, Bools]:
    """Return the seconds between neighbours, NaN across sessions; which rows are their session's first; its last."""
    first = starts_of_runs(actions.session)
    last = np.append(first[1:], np.ones(min(1, len(first)), np.bool_))
    return np.where(first[1:], np.nan, np.diff(actions.at)), first, last


def _viewings(  # noqa: PLR0917 - in the order of the columns
    rows: Actions, start: Floats, end: Floats, began: Floats, ended: Floats, evidence: Evidence | Ints
) -> Viewings:
    kinds = np.broadcast_to(np.asarray(evidence, np.int64), len(rows))
    return Viewings(rows.pairs, rows.pair, rows.session, start, end, began, ended, kinds)


class _Samples:
    """Sessions as samples of the playhead: HEARTBEAT, PLAY, PAUSE and SEEK say where it is and if it moves.

    Between two neighbours it either played on, or it jumped from one place to another.
    """

    def __init__(self, rows: Actions, sessions: int) -> None:
        """Take rows in the order of session and time."""
        self.rows = rows
        kind = rows.kind
        self.gap, self.first, self.last = _gaps(rows)
        beats = kind == Kind.HEARTBEAT
        self.has_beats = _any(rows.session, beats, sessions)[rows.session]
        self.has_events = _any(rows.session, ~beats, sessions)[rows.session]
        # Before and after a sample. A SEEK's row has both positions.
        self.plays_before = np.where(kind == Kind.PLAY, False, rows.playing | (kind == Kind.PAUSE))  # noqa: FBT003
        self.plays_after = np.where(kind == Kind.PAUSE, False, rows.playing | (kind == Kind.PLAY))  # noqa: FBT003
        self.after = np.where((kind == Kind.SEEK) & ~np.isnan(rows.outpoint), rows.outpoint, rows.inpoint)
        self.evidence = np.where(self.has_events, Evidence.EVENTS, Evidence.HEARTBEAT)

    def played(self) -> list[Viewings]:
        """Return what was played between, before the first and after the last samples."""
        gap, left, right = self.gap, self.after[:-1], self.rows.inpoint[1:]
        beats, events = self.has_beats[:-1], self.has_events[:-1]
        from_left, from_right = self.plays_after[:-1], self.plays_before[1:]
        way = right - left
        inside = ~np.isnan(gap)
        with np.errstate(invalid="ignore", divide="ignore"):
            # At the same place, it rested, if either says so; otherwise it jumped back by as much as it had played.
            rested = (way == 0) & ~(from_left & from_right)
            possible = inside & ((way > 0) | rested) & (way <= FASTEST * (gap + ROUNDING_S) + ROUNDING_S)
            rate = np.where(possible & from_left & from_right & (gap > 0), way / gap, np.nan)
            speed, fastest = self._speeds(rate)
            steady = possible & (way <= gap * fastest * (1 + SPEED_TOLERANCE) + 2 * ROUNDING_S)
            # Where events are reported, a jump without a SEEK is a lost row, and both ends at rest mean a rest.
            plausible = np.where(events, possible & (from_left | from_right), steady)
            asleep = beats & (gap > LOST_S)
            same_speed = np.abs(way - gap * speed) <= gap * speed * SPEED_TOLERANCE
            plain = plausible & (~asleep | (way <= _AROUND_SLEEP * speed) | same_speed)
        jumped = inside & ~plain & beats & (from_left | from_right)
        return [
            self._plain(plain, way),
            *self._jumps(jumped, asleep, speed),
            self._beginnings(speed),
            self._endings(speed),
        ]

    def _speeds(self, rate: Floats) -> tuple[Floats, Floats]:
        """Return for each gap the speed of playing, and the highest that it may have had.

        A speed lasts, while a jump makes one gap look faster. So a speed is one that two gaps in a row share, and it
        holds for the session until the next one. If there is none, it is 1.
        """
        # Never across sessions: there is NaN between them.
        same = np.abs(rate[1:] - rate[:-1]) <= rate[1:] * SPEED_TOLERANCE
        known = np.zeros(len(rate), np.bool_)
        known[1:] |= same
        known[:-1] |= same
        # What came before the first heartbeat is an interval too, but only its end is known.
        first = self.rows.inpoint[:-1]
        known |= self.first[:-1] & (first > HEARTBEAT_S + ROUNDING_S) & (first <= HEARTBEAT_S * rate + ROUNDING_S)
        session = self.rows.session[:-1]
        before = _carried(np.where(known, rate, np.nan), session)
        after = _carried(np.where(known, rate, np.nan)[::-1], session[::-1])[::-1]
        speed = np.where(np.isnan(before), np.where(np.isnan(after), 1.0, after), before)
        return np.clip(speed, SLOWEST, FASTEST), np.fmax(1.0, np.fmax(before, after))

    def _plain(self, chosen: Bools, way: Floats) -> Viewings:
        """The playhead moved on. It took the whole gap, or at most the time that the slowest speed takes."""
        rows = np.flatnonzero(chosen)
        left, length = self.rows.take(rows), way[rows]
        took = np.minimum(self.gap[rows], length / SLOWEST)
        start = self.after[rows]
        began = np.where(self.plays_after[rows], left.at, left.at + self.gap[rows] - took)
        return _viewings(left, start, start + length, began, began + took, self.evidence[rows])

    def _jumps(self, chosen: Bools, asleep: Bools, speed: Floats) -> list[Viewings]:
        """The playhead jumped at an unknown time: share the time out before the jump and after it."""
        rows = np.flatnonzero(chosen)
        speed, asleep = speed[rows], asleep[rows]
        gap = np.where(asleep, HEARTBEAT_S, self.gap[rows])
        before, after = self.plays_after[rows], self.plays_before[rows + 1]
        left, right = self.rows.take(rows), self.rows.take(rows + 1)
        reach = np.minimum(right.inpoint / speed, gap)  # seconds that playing from the beginning to here takes
        since = np.where(after, np.where(right.inpoint <= gap * speed, reach, gap / 2), 0.0)
        until = np.where(before, np.where(after & ~asleep, gap - since, gap / 2), 0.0)
        start = self.after[rows]
        kinds = self.evidence[rows]
        return [
            _viewings(left, start, start + until * speed, left.at, left.at + until, kinds),
            _viewings(right, right.inpoint - since * speed, right.inpoint, right.at - since, right.at, kinds),
        ]

    def _beginnings(self, speed: Floats) -> Viewings:
        """Before a session's first heartbeat the page was open for one interval, usually from the beginning on."""
        begins = self.first & (self.rows.kind == Kind.HEARTBEAT) & (self.rows.inpoint > 0)
        speed = np.append(speed, 1.0)[: len(begins)]
        reach = HEARTBEAT_S * speed * (1 + SPEED_TOLERANCE) + ROUNDING_S
        from_start = self.rows.inpoint <= reach
        rows = np.flatnonzero(begins & (from_start | self.plays_before))
        first, speed = self.rows.take(rows), speed[rows]
        took = np.where(from_start[rows], np.minimum(first.inpoint / speed, HEARTBEAT_S), _HALF)
        length = np.where(from_start[rows], first.inpoint, took * speed)
        return _viewings(
            first, first.inpoint - length, first.inpoint, first.at - took, first.at, self.evidence[rows]
        )

    def _endings(self, speed: Floats) -> Viewings:
        """After a session's last row the page closed before the next heartbeat. Without heartbeats nobody can tell."""
        rows = np.flatnonzero(self.last & self.plays_after & self.has_beats)
        speed = np.concatenate((np.ones(min(1, len(self.rows))), speed))[rows]
        start, last = self.after[rows], self.rows.take(rows)
        return _viewings(last, start, start + _HALF * speed, last.at, last.at + _HALF, self.evidence[rows])


def _carried(values: Floats, groups: Ints) -> Floats:
    """Replace NaN by the last value before it in the same group, if there is one."""
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, rows))
    return np.where((last >= 0) & (groups[last] == groups), values[last], np.nan)


def _within(found: Viewings, durations: Mapping[str, float]) -> Viewings:
    """Cut off what lies outside of the recordings, and leave out what is empty."""
    limits = _limits(found.pairs, durations)[found.pair]
    # A start may be a rounding error below 0.
    start, end = np.maximum(found.start, 0), np.minimum(found.end, limits)
    # What is left of it cannot have taken longer than at the slowest speed: a FOOTPRINT may claim any length.
    slowest = found.began + (end - start) / SLOWEST
    ended = np.where(found.end > limits, np.minimum(found.ended, slowest), found.ended)
    cut = Viewings(found.pairs, found.pair, found.session, start, end, found.began, ended, found.evidence)
    return cut.take(found.live | (end > start))


def _limits(pairs: Sequence[tuple[str, str]], durations: Mapping[str, float]) -> Floats:
    """Return the duration for each pair, infinity if unknown. A duration of 0 is taken as unknown."""
    return np.array([durations.get(recording) or np.inf for recording, _ in pairs], np.float64)


def _joined(found: Viewings) -> Viewings:
    """Join what a session played on end, in the recording and in time."""
    found = found.take(np.lexsort((found.start, found.began, found.session)))
    if not len(found):
        return found
    fresh = starts_of_runs(found.session)
    live = found.live
    with np.errstate(invalid="ignore"):
        fresh[1:] |= ~((found.start[1:] == found.end[:-1]) | (live[1:] & live[:-1]))
    fresh[1:] |= found.began[1:] > found.ended[:-1]
    begins = np.flatnonzero(fresh)
    lasts = np.append(begins[1:], len(found)) - 1
    first, last = found.take(begins), found.take(lasts)
    return Viewings(
        found.pairs, first.pair, first.session, first.start, last.end, first.began, last.ended, first.evidence
    )
