"""Statements of the xAPI profile for virtual classrooms: who joined and left a Zoom meeting, from its sessions."""

from collections.abc import Iterator, Mapping
from typing import Any

from uaharvest.coerce import instant, text
from uaharvest.exporting.people import person_of
from uaharvest.exporting.xapi import vocabulary
from uaharvest.exporting.xapi.vocabulary import Origin, Timed

ZOOM = "https://zoom.us/"
"""Where the accounts of Zoom's participants are."""

_ACTIVITY = f"{vocabulary.CLASSROOM}/activity-types/virtual-classroom"
_SESSION_ID = "https://w3id.org/xapi/cmi5/context/extensions/sessionid"
_PLANNED = "http://id.tincanapi.com/extension/planned-duration"


def statements(session: Mapping[str, Any], topic: str | None) -> Iterator[Timed]:
    """Yield joined, and left if its time is known; nothing about waiting and breakout rooms.

    Args:
        session: The document of a session, with its `_id`.
        topic: That of its meeting.
    """
    meeting, joined = text(session.get("meeting")), instant(session.get("join_time"))
    if meeting is None or joined is None or session.get("waiting_room") or session.get("breakout_room"):
        return
    origin = Origin(ZOOM)
    left = instant(session.get("leave_time"))
    for verb, at in ((vocabulary.JOINED, joined), (vocabulary.LEFT, left)):
        if at is None:
            continue
        # The profile wants it when somebody joins; Zoom's lists of past meetings do not have it.
        planned = {_PLANNED: None} if verb == vocabulary.JOINED else {}
        yield Timed(
            at.timestamp(),
            {
                "id": origin.id(session["_id"], verb),
                "actor": origin.actor(person_of(session, origin.id)),
                "verb": vocabulary.verb(verb),
                "object": origin.activity(f"meeting/{vocabulary.segment(meeting)}", _ACTIVITY, topic),
                "context": {
                    "registration": origin.id("meeting", meeting),
                    "platform": "Zoom",
                    "contextActivities": {"category": [vocabulary.profile(vocabulary.CLASSROOM)]},
                    "extensions": {_SESSION_ID: origin.id("session", session["_id"]), **planned},
                },
                "timestamp": vocabulary.stamp(at.timestamp()),
            },
        )
