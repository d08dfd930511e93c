"""Useractions as documents, read as the engine of viewings needs them, and grouped by recording on disk."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from uaharvest.coerce import instant, members, text, whole
from uaharvest.viewing.actions import Action

ANONYMOUS = "session:"
"""Begins the name of a viewer who is only known by the session."""

_MILLISECOND = 1000  # of a duration
_TABLE = """
CREATE TABLE actions (
    id INTEGER, at REAL, recording TEXT, viewer TEXT, session TEXT, type TEXT,
    inpoint REAL, outpoint REAL, playing INTEGER, live INTEGER
)
"""
_INSERT = "INSERT INTO actions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_IN_ORDER = "SELECT * FROM actions ORDER BY recording, at, id"


class Facts(NamedTuple):
    """What is known of a recording.

    Attributes:
        title: Its title; None if unknown.
        duration: Seconds; None if unknown.
        series: The id of its series; None if it has none.
    """

    title: str | None = None
    duration: float | None = None
    series: str | None = None

    def completed_by(self, other: "Facts") -> "Facts":
        """Return what is known here, and otherwise what is known there."""
        return Facts(
            self.title if self.title is not None else other.title,
            self.duration if self.duration is not None else other.duration,
            self.series if self.series is not None else other.series,
        )


def facts(part: Mapping[str, Any]) -> Facts:
    """Return what an episode, or the `episode` of a useraction, says of its recording."""
    duration = whole(part.get("duration"))
    seconds = duration / _MILLISECOND if duration and duration > 0 else None
    return Facts(text(part.get("title")), seconds, text(part.get("series")))


def with_viewers(documents: Iterable[dict[str, Any]], anonymous: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield useractions with their `viewer`: the huid, or the session if there was no login; None if both are unknown.

    Args:
        documents: The useractions.
        anonymous: The users that stand for nobody.
    """
    for document in documents:
        user, session = text(document.get("huid")), text(document.get("session_id"))
        if user is None or user in anonymous:
            user = session and f"{ANONYMOUS}{session}"
        document["viewer"] = user
        yield document


def action_of(document: Mapping[str, Any], viewer: str = "viewer") -> Action | None:
    """Return a useraction, whose viewer is in this field; None if its id, time, recording or viewer is unknown."""
    at = instant(document.get("@timestamp"))
    id_, recording, who = whole(document.get("action_id")), text(document.get("mpid")), text(document.get(viewer))
    if at is None or id_ is None or recording is None or who is None:
        return None
    action = members(document.get("action"))
    return Action(
        id=id_,
        at=at.timestamp(),
        recording=recording,
        viewer=who,
        session=text(document.get("session_id")),
        type=text(action.get("type")) or "",
        inpoint=whole(action.get("inpoint")),
        outpoint=whole(action.get("outpoint")),
        playing=action.get("is_playing") is True,
        live=whole(document.get("is_live")) == 1 or document.get("is_live") is True,
    )


class Grouped:
    """Useractions by recording, in a temporary file that nobody else can open and that ends with this object.

    Args:
        viewer: The field that names the viewer. The old tools use `huid`: all who did not log in are one user.

    Attributes:
        facts: What the useractions say of each recording, the latest.
        unusable: How many documents had no id, time, recording or viewer.
    """

    def __init__(self, viewer: str = "viewer") -> None:
        self._viewer = viewer
        self.facts: dict[str, Facts] = {}
        self.unusable = 0
        # SQLite deletes a database without a name when it is closed, and keeps it in memory while it is small.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Add useractions, given in the order of their days."""
        self._database.execute("BEGIN")
        self._database.executemany(_INSERT, self._read(documents))
        self._database.execute("COMMIT")

    def recordings(self) -> Iterator[tuple[str, list[Action]]]:
        """Yield each recording with its useractions, in the order of the recordings' ids; by time."""
        recording, actions = None, []
        for row in self._database.execute(_IN_ORDER):
            action = Action(*row)
            if recording is not None and action.recording != recording:
                yield recording, actions
                actions = []
            recording = action.recording
            actions.append(action)
        if recording is not None:
            yield recording, actions

    def _read(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[Action]:
        for document in documents:
            action = action_of(document, self._viewer)
            if action is None:
                self.unusable += 1
                continue
            said = facts(members(document.get("episode")))
            before = self.facts.get(action.recording)
            if before != said:
                self.facts[action.recording] = said.completed_by(before) if before else said
            yield action
