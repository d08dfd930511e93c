"""Useractions as columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Self

import numpy as np

from uaharvest.viewing.columns import Bools, Floats, Ints, codes


class Kind(IntEnum):
    """What a useraction says about playing."""

    OTHER = 0  # nothing: buttons, captions, resizing …
    HEARTBEAT = 1
    PLAY = 2
    PAUSE = 3  # also the end of the recording, where a player reports it
    SEEK = 4
    FOOTPRINT = 5


_KINDS = {kind.name: kind for kind in Kind if kind}
# Paella 7's plugin appends parameters to the event's name. Up to 16.6 it fails before it sends this one.
_ENDED = "paella:ended"
FURTHEST = 10**9
"""The largest position, seconds; 31 years. A value beyond it is not a position."""


class Action(NamedTuple):
    """A useraction, as the engine reads it.

    Attributes:
        id: The row's id. If a row appears more than once, its longest version counts.
        at: When it was stored, epoch seconds.
        recording: The mediapackage's id.
        viewer: Whoever counts as one viewer. Give anonymous visitors their session.
        session: The player's HTTP session, None if the source does not say.
        type: HEARTBEAT, PLAY, PAUSE, SEEK, FOOTPRINT; others are ignored.
        inpoint: Seconds into the recording; for SEEK before the jump. None or negative: unknown.
        outpoint: Seconds into the recording; for SEEK after the jump. None or negative: unknown.
        playing: Not paused.
        live: The player showed a live stream.
    """

    id: int
    at: float
    recording: str
    viewer: str
    session: str | None
    type: str
    inpoint: float | None
    outpoint: float | None
    playing: bool
    live: bool = False


@dataclass(frozen=True, slots=True)
class Actions:
    """Useractions of any viewers and recordings, in any order, as columns of equal length.

    Attributes:
        pairs: Each recording with each of its viewers.
        id: See `Action`, as for all that follow.
        at: Epoch seconds.
        pair: Index into `pairs`.
        session: A number for each session of each pair.
        kind: `Kind`.
        inpoint: Seconds; NaN if unknown.
        outpoint: Seconds; NaN if unknown.
        playing: Not paused.
        live: A live stream.
    """

    pairs: list[tuple[str, str]]
    id: Ints
    at: Floats
    pair: Ints
    session: Ints
    kind: Ints
    inpoint: Floats
    outpoint: Floats
    playing: Bools
    live: Bools

    @classmethod
    def of(cls, actions: Iterable[Action]) -> Self:
        """Take useractions one by one; `of_columns` is faster."""
        columns = list(zip(*actions, strict=True)) or [()] * len(Action._fields)
        return cls.of_columns(*columns)

    @classmethod
    def of_columns(  # noqa: PLR0917 - in the order of Action, which `of` relies on
        cls,
        id: Sequence[int],  # noqa: A002 - named as the fields of Action
        at: Sequence[float],
        recording: Sequence[str],
        viewer: Sequence[str],
        session: Sequence[str | None],
        type: Sequence[str],  # noqa: A002 - named as the fields of Action
        inpoint: Sequence[float | None],
        outpoint: Sequence[float | None],
        playing: Sequence[bool],
        live: Sequence[bool],
    ) -> Self:
        """Take the columns of `Action`."""
        recordings, of_recording = codes(recording)
        viewers, of_viewer = codes(viewer)
        keys, pair = _combined(of_recording, of_viewer)
        pairs = [(recordings[key // len(viewers)], viewers[key % len(viewers)]) for key in keys.tolist()]
        _, own = codes(session)
        types, kind = codes(type)
        # A number for each pair's session: two viewers may share one, if the source omits it.
        _, session_of_pair = _combined(pair, own)
        kinds = np.array([kind_of(name) for name in types], np.int64)
        return cls(
            pairs,
            np.asarray(id, np.int64),
            np.asarray(at, np.float64),
            pair,
            session_of_pair,
            kinds[kind] if len(kind) else kind,
            _positions(inpoint),
            _positions(outpoint),
            np.asarray(playing, np.bool_),
            np.asarray(live, np.bool_),
        )

    def take(self, rows: Ints | Bools) -> Self:
        """Return the chosen rows, in the given order."""
        return type(self)(
            self.pairs,
            self.id[rows],
            self.at[rows],
            self.pair[rows],
            self.session[rows],
            self.kind[rows],
            self.inpoint[rows],
            self.outpoint[rows],
            self.playing[rows],
            self.live[rows],
        )

    def __len__(self) -> int:
        return len(self.id)


def _combined(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Number the pairs of two numbers; return first * (1 + the largest second) + second of each, and the numbers."""
    keys, numbers = np.unique(first * (1 + second.max(initial=0)) + second, return_inverse=True)
    return keys, numbers.astype(np.int64)


def kind_of(name: str) -> Kind:
    """Return what a useraction of this type says."""
    kind = _KINDS.get(name)
    return kind if kind is not None else Kind.PAUSE if name.startswith(_ENDED) else Kind.OTHER


def _positions(values: Sequence[float | None]) -> Floats:
    """Return positions with NaN for None and for what cannot be one."""
    positions = np.array(values, np.float64)  # None becomes NaN
    return np.where((positions >= 0) & (positions <= FURTHEST), positions, np.nan)
