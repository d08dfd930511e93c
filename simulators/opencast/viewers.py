"""Viewers whose truth is known: they watch as people do, and each player version reports it in its own way.

What a person did is made first and kept: which parts of the recording played when. Players only report it, with the
gaps that they leave and the rows that get lost. The same seed yields the same viewers.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from simulators.opencast.rows import Row, Session

HEARTBEAT_S = 30.0
_FOOTPRINT_S = 5.0
_SPEEDS = (1.0,) * 12 + (1.25, 1.5, 1.5, 2.0, 2.0, 0.5, 0.75, 3.0)
_WHOLE_SPEEDS = (1.0, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Piece:
    """A time in which nothing changed: the playhead moved at one speed, or rested.

    Attributes:
        at: When it began, seconds that the page had been awake.
        until: When it ended, the same way.
        position: Where the playhead was at first, seconds into the recording.
        speed: Seconds of the recording per second; 0 is paused.
        ended: It reached the end of the recording, where the player stops by itself.
    """

    at: float
    until: float
    position: float
    speed: float
    ended: bool = False

    def position_at(self, awake: float) -> float:
        """Return where the playhead is, seconds."""
        return self.position + (awake - self.at) * self.speed

    @property
    def reach(self) -> float:
        """Return where the playhead is at its end, seconds."""
        return self.position_at(self.until)


@dataclass(frozen=True, slots=True)
class Visit:
    """One page, from loading to closing.

    Attributes:
        session: Its HTTP session.
        loaded: When, epoch seconds.
        pieces: What happened, without gaps, from 0 on.
        sleeps: When the page fell asleep (seconds awake) and for how long (seconds): nothing plays or is sent then.
        live: It showed a live stream.
    """

    session: Session
    loaded: float
    pieces: tuple[Piece, ...]
    sleeps: tuple[tuple[float, float], ...] = ()
    live: bool = False

    @property
    def awake_s(self) -> float:
        """Return how long it was open and awake, seconds."""
        return self.pieces[-1].until

    def instant(self, awake: float) -> float:
        """Return epoch seconds of a time in seconds awake."""
        return self.loaded + awake + sum(length for at, length in self.sleeps if at < awake)

    def piece(self, awake: float) -> Piece:
        """Return the piece at a time in seconds awake."""
        return self.pieces[bisect.bisect_right(self.pieces, awake, key=lambda piece: piece.at) - 1]

    def played(self) -> list[tuple[float, float]]:
        """Return what played, as half-open intervals of the recording, seconds."""
        return [(piece.position, piece.reach) for piece in self.pieces if piece.speed]


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person and all visits to one recording: the truth. `duration` is in seconds."""

    user: str
    recording: str
    duration: float
    visits: tuple[Visit, ...]

    def seen(self) -> list[tuple[float, float]]:
        """Return the union of all that played, seconds into the recording, sorted."""
        union: list[tuple[float, float]] = []
        for start, end in sorted(part for visit in self.visits if not visit.live for part in visit.played()):
            if union and start <= union[-1][1]:
                union[-1] = (union[-1][0], max(union[-1][1], end))
            else:
                union.append((start, end))
        return union

    @property
    def seen_s(self) -> float:
        """Return how much of the recording played at least once, seconds."""
        return sum(end - start for start, end in self.seen())

    @property
    def watched_s(self) -> float:
        """Return how much played, each second as often as it did."""
        return sum(end - start for visit in self.visits if not visit.live for start, end in visit.played())

    @property
    def live_s(self) -> float:
        """Return the seconds of presence at the live stream, of one device at a time."""
        return sum(visit.awake_s for visit in self.visits if visit.live)


@dataclass(frozen=True, slots=True)
class Habits:
    """How people watch.

    Attributes:
        pauses_first: They pause before they close the page; otherwise they just close it.
        whole: They act at whole seconds of the recording only, and use whole speeds.
        sleeps: The share of visits in which the page sleeps for hours.
        devices: How many they use at once.
        speeds: What they choose from, as often as each is listed, seconds of the recording per second.
    """

    pauses_first: bool = False
    whole: bool = False
    sleeps: float = 0.05
    devices: int = 1
    speeds: tuple[float, ...] = _SPEEDS


def make_viewer(  # noqa: PLR0917
    rng: Random, recording: str, duration: float, loaded: float, habits: Habits, user: str | None = None
) -> Viewer:
    """Make up a person who comes one to three times, from `loaded` (epoch seconds) on, on each device."""
    user = user or _user(rng)
    visits = []
    for _ in range(habits.devices):
        begin, position = loaded + rng.uniform(0, 120), 0.0
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            session = Session(f"node0{rng.randrange(16**10):010x}", user, "192.0.2.7", "Mozilla/5.0 (X11)")
            visit = _Watching(rng, duration, habits).visit(session, begin, position)
            visits.append(visit)
            position = 0.0 if visit.pieces[-1].reach >= duration - 60 else visit.pieces[-1].reach
            begin = visit.instant(visit.awake_s) + rng.uniform(600, 86_400)
    return Viewer(user, recording, duration, tuple(visits))


def make_live_viewer(
    rng: Random, recording: str, duration: float, start: float, user: str | None = None
) -> Viewer:
    """Make up a person who is at a live stream from `start` (epoch seconds) on for some of its duration (seconds)."""
    user = user or _user(rng)
    come = rng.uniform(0, duration / 4)
    stay = rng.uniform(60, duration - come)
    session = Session(f"node0{rng.randrange(16**10):010x}", user, "192.0.2.7", "Mozilla/5.0 (X11)")
    return Viewer(user, recording, duration, (Visit(session, start + come, (Piece(0, stay, 0, 1.0),), live=True),))


def _user(rng: Random) -> str:
    return f"{rng.randrange(10**8):08d}"


class _Watching:
    """Makes one visit."""

    def __init__(self, rng: Random, duration: float, habits: Habits) -> None:
        self._rng = rng
        self._duration = duration
        self._habits = habits
        self._pieces: list[Piece] = []
        self._now = self._position = 0.0
        self._speed = rng.choice(_WHOLE_SPEEDS if habits.whole else habits.speeds)

    def visit(self, session: Session, loaded: float, resume: float) -> Visit:
        rng = self._rng
        self._rest(rng.uniform(0, 8))
        if resume:
            self._play(rng.uniform(2, 25))
            self._position = self._snap(resume)
        closing = False
        while not closing:
            self._play(max(5, rng.expovariate(1 / 420)))
            closing = self._position >= self._duration or rng.random() < 0.12
            if not closing:
                self._act(rng.random())
        if self._pieces[-1].ended or self._habits.pauses_first:
            self._rest(rng.uniform(0, 300))
        sleeps: tuple[tuple[float, float], ...] = ()
        if rng.random() < self._habits.sleeps:
            sleeps = ((rng.uniform(0, self._now), rng.uniform(600, 40_000)),)
        return Visit(session, loaded, tuple(self._pieces), sleeps)

    def _act(self, dice: float) -> None:
        rng = self._rng
        if dice < 0.5:
            self._rest(rng.expovariate(1 / 90))
        elif dice < 0.7:
            self._jump(rng.choice((10, 30, rng.uniform(20, 600))))
        elif dice < 0.92:
            self._jump(-rng.choice((10, 30, rng.uniform(10, 120))))
        elif dice < 0.96:
            self._speed = rng.choice(_WHOLE_SPEEDS if self._habits.whole else self._habits.speeds)
        else:
            self._rest(rng.uniform(5, 60))
            self._jump(rng.uniform(-300, 300))

    def _play(self, seconds: float) -> None:
        """Play for a time, at most to the end of the recording."""
        left = (self._duration - self._position) / self._speed
        seconds = self._snap(seconds)
        ended = seconds >= left
        self._add(min(seconds, left), self._speed, ended=ended)

    def _rest(self, seconds: float) -> None:
        self._add(seconds, 0.0)

    def _add(self, seconds: float, speed: float, *, ended: bool = False) -> None:
        if seconds > 0:
            piece = Piece(self._now, self._now + seconds, self._position, speed, ended)
            self._pieces.append(piece)
            self._now, self._position = piece.until, self._duration if ended else piece.reach

    def _jump(self, seconds: float) -> None:
        self._position = self._snap(min(max(0.0, self._position + seconds), self._duration - 1))

    def _snap(self, seconds: float) -> float:
        return float(round(seconds)) if self._habits.whole else seconds


Player = Callable[[Visit], Iterator[Row]]
"""Reports a visit. Id, recording and part of a second are filled in by `report`."""


def heartbeats(visit: Visit) -> Iterator[Row]:
    """Report as Harvard DCE's plugin for Paella 6 does: every 30 s from loading on, positions cut to seconds."""
    for number in range(1, int(visit.awake_s / HEARTBEAT_S) + 1):
        awake = number * HEARTBEAT_S
        piece = visit.piece(awake)
        position = int(piece.position_at(min(awake, piece.until)))
        yield _row(visit, awake, "HEARTBEAT", position, position, playing=2 if visit.live else piece.speed > 0)


def events(visit: Visit) -> Iterator[Row]:
    """Report as Paella 7 does: PLAY, PAUSE, SEEK with positions rounded; neither the end nor the closing."""
    playing, position = False, 0.0
    for piece in visit.pieces:
        before, after = round(position), round(piece.position)
        if piece.position != position:
            yield _row(visit, piece.at, "SEEK", before, after, playing=playing)
        if bool(piece.speed) != playing and not (playing and position >= piece.position and _at_end(visit, piece)):
            yield _row(visit, piece.at, "PAUSE" if playing else "PLAY", after, after, playing=not playing)
        playing, position = piece.speed > 0, piece.reach


def events_with_end(visit: Visit) -> Iterator[Row]:
    """Report as Paella 7 does, and the end too, as it would if its plugin did not fail there."""
    yield from events(visit)
    for piece in visit.pieces:
        if piece.ended:
            yield _row(visit, piece.until, "paella:ended", round(piece.reach), round(piece.reach), playing=False)


def footprints(visit: Visit) -> Iterator[Row]:
    """Report as Paella 5 and 6 do: each 5 s that played, and the rest when it stops; whole seconds.

    Opencast extends the session's last row if the next part begins where that one ends, so `report` does.
    """
    for piece in visit.pieces:
        if not piece.speed:
            continue
        ticks = int((piece.until - piece.at) / _FOOTPRINT_S)
        bounds = [piece.at + tick * _FOOTPRINT_S for tick in range(ticks + 1)]
        for begin, end in itertools.pairwise([*bounds, piece.until]):
            start, stop = (int(piece.position_at(moment) + 1e-6) for moment in (begin, end))
            if stop > start:
                yield _row(visit, end, "FOOTPRINT", start, stop, playing=True)


def both(first: Player, second: Player) -> Player:
    """Return a player that reports in two ways."""
    return lambda visit: iter(sorted((*first(visit), *second(visit)), key=lambda row: row.created_ms))


PLAYERS: dict[str, Player] = {
    "heartbeats": heartbeats,
    "events": events,
    "events-with-end": events_with_end,
    "footprints": footprints,
    "events+heartbeats": both(events, heartbeats),
    "footprints+heartbeats": both(footprints, heartbeats),
}
"""What players report, by name."""


def report(viewers: Sequence[Viewer], player: Player, rng: Random, *, lost: float = 0.0) -> list[Row]:
    """Return the rows that Opencast stores of all this, to the second, by session; `lost` is the share that is not.

    Ids count from 1.
    """
    rows: list[Row] = []
    for viewer in viewers:
        for visit in viewer.visits:
            stored: list[Row] = []
            for row in player(visit):
                if rng.random() < lost:
                    continue
                last = stored[-1] if stored else None
                if row.type == "FOOTPRINT" and last and last.type == row.type and last.outpoint == row.inpoint:
                    stored[-1] = last.grown(row.length)
                else:
                    stored.append(row)
            rows += [
                replace(
                    row,
                    id=1 + len(rows) + number,
                    mediapackage=viewer.recording,
                    created_ms=(row.created_ms + rng.randrange(500)) // 1000 * 1000,
                )
                for number, row in enumerate(stored)
            ]
    return rows


def _at_end(visit: Visit, piece: Piece) -> bool:
    """Tell whether the player came to rest by itself before this piece."""
    return any(other.ended and other.until == piece.at for other in visit.pieces)


def _row(visit: Visit, awake: float, kind: str, inpoint: int, outpoint: int, *, playing: int) -> Row:
    return Row(
        id=0,
        created_ms=round(visit.instant(awake) * 1000),
        mediapackage="",
        session=visit.session,
        type=kind,
        inpoint=inpoint,
        outpoint=outpoint,
        length=outpoint - inpoint,
        playing=int(playing),
    )
