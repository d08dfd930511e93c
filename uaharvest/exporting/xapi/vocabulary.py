"""Identifiers of xAPI's profiles, and the parts of statements that both kinds share."""

import dataclasses
import datetime as dt
import uuid
from typing import Any, NamedTuple
from urllib.parse import quote

VIDEO = "https://w3id.org/xapi/video"
CLASSROOM = "https://w3id.org/xapi/virtual-classroom"
_ADL = "http://adlnet.gov/expapi/verbs"
_STREAMS = "http://activitystrea.ms"

INITIALIZED = f"{_ADL}/initialized"
PLAYED = f"{VIDEO}/verbs/played"
PAUSED = f"{VIDEO}/verbs/paused"
SEEKED = f"{VIDEO}/verbs/seeked"
INTERACTED = f"{_ADL}/interacted"
COMPLETED = f"{_ADL}/completed"
TERMINATED = f"{_ADL}/terminated"
JOINED = f"{_STREAMS}/join"
LEFT = f"{_STREAMS}/leave"

_DISPLAYED = {JOINED: "joined", LEFT: "left"}
_UNDETERMINED = "und"  # the language of a title is unknown (RFC 5646)

Statement = dict[str, Any]


class Timed(NamedTuple):
    """A statement and its time, epoch seconds."""

    at: float
    statement: Statement


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """Where the statements come from.

    Attributes:
        home: The URL of the system whose accounts the actors have, with a slash at its end. All ids are derived from
            it, so it must stay the same.
    """

    home: str

    def id(self, *parts: object) -> str:
        """Return the UUIDv5 of something of this origin: the same parts give the same id."""
        return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, self.home), "\0".join(map(str, parts))))

    def actor(self, name: str) -> dict[str, Any]:
        """Return the agent who has this account."""
        return {"objectType": "Agent", "account": {"homePage": self.home, "name": name}}

    def activity(self, path: str, kind: str, title: str | None) -> dict[str, Any]:
        """Return an activity whose id is a URL of this origin."""
        definition: dict[str, Any] = {"type": kind}
        if title and title.strip():
            definition["name"] = {_UNDETERMINED: title}
        return {"objectType": "Activity", "id": f"{self.home}{path}", "definition": definition}


def verb(id_: str) -> dict[str, Any]:
    """Return a verb with its name in English."""
    return {"id": id_, "display": {"en-US": _DISPLAYED.get(id_, id_.rpartition("/")[2])}}


def profile(id_: str) -> dict[str, Any]:
    """Return the category that says which profile a statement follows."""
    return {"id": id_, "definition": {"type": "http://adlnet.gov/expapi/activities/profile"}}


def stamp(at: float) -> str:
    """Return epoch seconds as ISO 8601 in UTC, to the millisecond."""
    return (
        dt.datetime.fromtimestamp(round(at, 3), dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def segment(name: str) -> str:
    """Return a name as one segment of a URL's path."""
    return quote(name, safe="")
