"""Who took part in a Zoom meeting, without names and addresses."""

from collections.abc import Callable, Mapping
from typing import Any

from uaharvest.coerce import text
from uaharvest.documents.session import identity


def person_of(session: Mapping[str, Any], hidden: Callable[..., str]) -> str:
    """Return a stable name of a session's participant: an id of Zoom's, otherwise a hidden one.

    The hidden id of an e-mail address is the same in all meetings. That of a name is not, because many people are
    called "iPhone", and a session without a name is a person of its own.

    Args:
        session: The document of a session.
        hidden: Returns an id in place of what it is made of.
    """
    match identity(lambda field: text(session.get(field))):
        case None:
            return hidden("session", session.get("_id"))
        case "email", email:
            return hidden("e-mail", email)
        case "user_name", name:
            return hidden("name", session.get("meeting"), name)
        case _, id_:
            return id_
