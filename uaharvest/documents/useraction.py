"""Builds the queue messages of useractions that readers depend on."""

import datetime as dt
import functools
import json
from collections.abc import Callable

# The json module's ASCII encoding. Lone surrogates from the source survive as escapes, and characters that SQS refuses
# never appear in a message.
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from uaharvest.rows.useractions import UserAction

Viewer = tuple[str | None, str | None, str | None, str | None, tuple[str, ...], str | None]
"""The fields `mpid` to `agent` of a useraction."""
_VIEWER = slice(UserAction._fields.index("mpid"), UserAction._fields.index("agent") + 1)


class Writers(NamedTuple):
    """Write the parts of a record that have personal data.

    Attributes:
        viewer: Returns three pieces of JSON for a viewer, each a series of members or "": who watched what, the
            addresses, and members that no other source can add later. Each member of the first two ends with a comma,
            each of the third begins with one.
        type: Returns the JSON of the type of a useraction.
    """

    viewer: Callable[[Viewer], tuple[str, str, str]]
    type: Callable[[str | None], str]


def write_text(value: str | None) -> str:
    """Return a text as JSON."""
    return "null" if value is None else _quoted(value)


def viewer_as_it_is(viewer: Viewer) -> tuple[str, str, str]:
    """Return the members of a viewer as they are; see `Writers`."""
    mpid, session, user, ip, proxies, agent = viewer
    browser = "" if agent is None else f'"useragent":{_quoted(agent)},'
    first = "" if ip is None else f'"ip":{_quoted(ip)},'
    more = "".join([f'"proxy{number}":{_quoted(proxy)},' for number, proxy in enumerate(proxies, 1)])
    who = f'"mpid":{write_text(mpid)},"session_id":{write_text(session)},"huid":{write_text(user)},{browser}'
    return who, first + more, ""


# Cached, because a player reports twice a minute, and there are few types.
AS_IT_IS = Writers(
    functools.lru_cache(maxsize=4096)(viewer_as_it_is), functools.lru_cache(maxsize=256)(write_text)
)


def record(action: UserAction, episode: str, writers: Writers = AS_IT_IS, more: str | None = None) -> str:
    """Return the body of the message, as ASCII JSON.

    If the player does not report whether it was live (`isPlaying` is a boolean in every stock Opencast), `is_live` is
    inferred from the time that the episode was on the air, and `is_live_inferred` is set.

    The JSON is built by hand, because this runs for each useraction and the json module takes three times as long.

    Args:
        action: The useraction.
        episode: The episode part as JSON text, "{}" for none. It is inserted unchanged, because thousands of messages
            share it.
        writers: Write what is personal.
        more: Replaces the third piece of `Writers.viewer`.
    """
    # Unpacked, because reading the fields by name takes half as long again.
    id_, created, _, _, _, _, _, _, type_, inpoint, outpoint, length, playing, live, _ = action
    inferred = ""
    if live is None:
        window = _live_window(episode)
        live = window is not None and window[0] <= created.timestamp() < window[1]
        inferred = '"is_live_inferred":true,'
    row: tuple[Any, ...] = action
    write_viewer, write_type = writers
    who, addresses, members = write_viewer(row[_VIEWER])
    return (
        f'{{"action_id":{id_},"timestamp":"{_utc(created)}",{who}'
        f'"action":{{"type":{write_type(type_)},"inpoint":{"null" if inpoint is None else inpoint},'
        f'"outpoint":{"null" if outpoint is None else outpoint},"length":{"null" if length is None else length},'
        f'"is_playing":{"true" if playing else "false"}}},'
        f'{addresses}"is_live":{int(live)},{inferred}"episode":{episode}{members if more is None else more}}}'
    )


@functools.lru_cache(maxsize=1024)
def _live_window(episode: str) -> tuple[float, float] | None:
    """Return when an episode was on the air, [start, start + duration), in seconds UTC; None if unknown.

    Until its recording is published, an episode can only be watched live. Readers defined `is_live` like this before
    players reported it.
    """
    part = json.loads(episode)
    duration = part.get("duration")
    try:
        start = dt.datetime.fromisoformat(part.get("start", ""))
    except ValueError:
        return None
    if not duration or start.tzinfo is None:
        return None
    begin = start.timestamp()
    try:
        return begin, begin + duration / 1000
    except OverflowError:  # a duration of hundreds of digits
        return None


# Cached, because many rows share the same second.
@functools.lru_cache(maxsize=4096)
def _utc(created: dt.datetime) -> str:
    return created.astimezone(dt.UTC).isoformat(timespec="seconds")
