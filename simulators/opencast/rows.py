"""Useractions: the viewers, what their players report, and the JSON of a row.

A row is written as JSON once, when it is stored, so that building a page only joins prepared bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from simulators.opencast.episodes import Episode, random_uuid
from simulators.opencast.profiles import Json, Profile, guess, present
from simulators.opencast.zones import Zone

OMITTED = "-omitted-"
_NODES = 2
_BLOCK = 50
_CONCURRENT = 150
_HEARTBEAT_S = 30
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15",
)
# A hundred entries, chosen with equal probability.
_TYPES = (
    ["HEARTBEAT"] * 70
    + ["PLAY"] * 6
    + ["PAUSE"] * 6
    + ["SEEK"] * 6
    + ["FOOTPRINT"] * 6
    + ["paella:button:action;edu.harvard.dce.paella.viewModeTogglePlugin"] * 2
    + ["paella:button:action;es.upv.paella.playbackRatePlugin"] * 2
    + ["paella:caption:enabled;English", "RESIZE-TO-1280x720"]
)


@dataclass(frozen=True, slots=True)
class Session:
    """A player's HTTP session; the source omits members that are None."""

    id: str
    user: str | None
    ip: str | None
    agent: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A useraction. `created_ms` is the true instant, epoch ms; positions are in seconds of the lecture."""

    id: int
    created_ms: int
    mediapackage: str
    session: Session
    type: str
    inpoint: int
    outpoint: int
    length: int
    playing: int  # 0 paused, 1 playing, 2 live

    def grown(self, seconds: int) -> "Row":
        """Return the FOOTPRINT as Opencast updates it in place: id and created stay, so it is not visible."""
        return replace(self, outpoint=self.outpoint + seconds, length=self.length + seconds)


class Ids:
    """Row ids as assigned by EclipseLink's TABLE sequence.

    Each node takes blocks of 50 from a sequence shared with other tables, so there are gaps, and ids are not in
    the order of `created`.
    """

    def __init__(self, seed: int) -> None:
        """Start both nodes with an empty block."""
        self._rng = Random(f"ids {seed}")
        self._next = [0] * _NODES
        self._left = [0] * _NODES
        self._block = 1
        self._taken: set[int] = set()

    def take(self, row_id: int) -> None:
        """Reserve an id chosen by a test, so that it is not assigned again."""
        self._taken.add(row_id)

    def next(self) -> int:
        """Return the id for a row written by a random node."""
        node = self._rng.random() < 0.5
        if not self._left[node]:
            # Occasionally another table took the block in between.
            self._block += _BLOCK * (self._rng.random() < 0.15)
            self._next[node], self._left[node] = self._block, _BLOCK
            self._block += _BLOCK
        row_id = self._next[node]
        self._next[node] += 1
        self._left[node] -= 1
        return self.next() if row_id in self._taken else row_id


@dataclass(slots=True)
class _Viewer:
    session: Session
    episode: Episode
    position: int
    actions_left: int
    playing: int = field(init=False)

    def __post_init__(self) -> None:
        self.playing = 2 if self.episode.live else 1


class Visitors:
    """The viewers. The same seed and name yield the same people, sessions and actions."""

    def __init__(self, seed: int, name: str, episodes: Sequence[Episode], ids: Ids, *, omitted: bool) -> None:
        """Create the first viewers; with `omitted`, identities are not logged (Opencast's default since 6.0)."""
        self._rng = Random(f"{name} {seed}")
        self._episodes = episodes
        self._ids = ids
        # With log.session=false all viewers share one session row, that of the first.
        self._shared = Session(OMITTED, OMITTED, OMITTED, _AGENTS[0]) if omitted else None
        self._viewers = [self._viewer() for _ in range(_CONCURRENT)]

    def row(self, created_ms: int, row_id: int | None = None) -> Row:
        """Let a viewer's player report an action at `created_ms` (epoch ms)."""
        rng = self._rng
        seat = int(rng.random() * _CONCURRENT)
        viewer = self._viewers[seat]
        if not viewer.actions_left:
            viewer = self._viewers[seat] = self._viewer()
        viewer.actions_left -= 1
        action = _TYPES[int(rng.random() * 100)]
        inpoint = outpoint = viewer.position
        if action == "HEARTBEAT":
            viewer.position += _HEARTBEAT_S
        elif action == "FOOTPRINT":
            outpoint = viewer.position = inpoint + 1 + int(rng.random() * 60)
        elif action == "SEEK":
            # Seeking backwards yields a negative length.
            outpoint = viewer.position = inpoint + int(rng.random() * 600) - 300
        elif action in ("PLAY", "PAUSE") and not viewer.episode.live:
            viewer.playing = int(action == "PLAY")
        return Row(
            id=self._ids.next() if row_id is None else row_id,
            created_ms=created_ms,
            mediapackage=viewer.episode.id,
            session=viewer.session,
            type=action,
            inpoint=inpoint,
            outpoint=outpoint,
            length=outpoint - inpoint,
            playing=viewer.playing,
        )

    def _viewer(self) -> _Viewer:
        rng = self._rng
        return _Viewer(
            session=self._shared or self._session(),
            episode=rng.choice(self._episodes),
            position=rng.randrange(0, 3600),
            actions_left=rng.randint(1, 100),
        )

    def _session(self) -> Session:
        rng = self._rng
        kind = rng.random()
        # Numeric login names, some with a leading zero, like a university's ids.
        user = None if kind < 0.03 else "anonymous" if kind < 0.15 else f"{rng.randrange(10**8):08d}"
        client = f"{rng.randint(11, 223)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randint(1, 254)}"
        proxies = rng.choice(("", "", ", 10.0.0.1", ", 172.16.4.2, 10.0.0.1"))
        return Session(
            id=f"node0{random_uuid(rng).replace('-', '')[:10]}",
            user=user,
            ip=None if rng.random() < 0.02 else client + proxies,
            agent=None if rng.random() < 0.02 else rng.choice(_AGENTS),
        )


class RowWriter:
    """Writes rows as a release does; parts shared by many rows are written once."""

    def __init__(self, profile: Profile, zone: Zone) -> None:
        """Write for `profile`, with times in `zone`."""
        self._profile = profile
        self._zone = zone
        self._texts: dict[str, str] = {}
        self._sessions: dict[Session, str] = {}
        self._playing = [profile.encode(profile.playing(code)) for code in range(3)]

    def write(self, row: Row, reported_ms: int) -> bytes:
        """Return the JSON object for an action that the server reports as created at `reported_ms`."""
        return (
            f'{{"id":{row.id},"mediapackageId":{self._text(row.mediapackage)},'
            f'"sessionId":{self._session(row.session)},'
            f'"inpoint":{row.inpoint},"outpoint":{row.outpoint},"length":{row.length},'
            f'"type":{self._text(row.type)},"isPlaying":{self._playing[row.playing]},'
            f'"created":"{self._zone.text(reported_ms)}"}}'
        ).encode()

    def _text(self, text: str) -> str:
        if text not in self._texts:
            self._texts[text] = self._profile.encode(guess(text))
        return self._texts[text]

    def _session(self, session: Session) -> str:
        if session not in self._sessions:
            members: dict[str, Json] = {
                "sessionId": session.id,
                "userId": session.user,
                "userIp": session.ip,
                "userAgent": session.agent,
            }
            typed = {name: guess(text) for name, text in present(members).items() if isinstance(text, str)}
            self._sessions[session] = self._profile.encode(typed)
        return self._sessions[session]
