"""Who took part in a Zoom meeting, without names and addresses."""

from collections.abc import Callable, Mapping
from typing import Any

from uaharvest.coerce import text

_IDS = ("registrant_id", "participant_user_id", "id")


def person_of(session: Mapping[str, Any], hidden: Callable[..., str]) -> str:
    """Return a stable name of a session's participant: an id of Zoom's, otherwise a hidden one.

    The hidden id of an e-mail address is the same in all meetings. That of a name is not, because many people are
    called "iPhone", and a session without a name is a person of its own.

    Args:
        session: The document of a session.
        hidden: Returns an id in place of what it is made of.
    """
    for kind in _IDS:
        if id_ := text(session.get(kind)):
            return id_
    if email := text(session.get("email")):
        return hidden("e-mail", email.strip().lower())
    if name := text(session.get("user_name")):
        return hidden("name", session.get("meeting"), name)
    return hidden("session", session.get("_id"))
