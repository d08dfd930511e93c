"""Builds the queue messages of useractions that readers depend on."""

import datetime as dt
import functools
import json

# The json module's ASCII encoding. Lone surrogates from the source survive as escapes, and characters that SQS refuses
# never appear in a message.
from json.encoder import encode_basestring_ascii as _quoted

from uaharvest.rows.useractions import UserAction


def record(action: UserAction, episode: str) -> str:
    """Return the body of the message, as ASCII JSON.

    If the player does not report whether it was live (`isPlaying` is a boolean in every stock Opencast), `is_live` is
    inferred from the time that the episode was on the air, and `is_live_inferred` is set.

    The JSON is built by hand, because this runs for each useraction and the json module takes three times as long.

    Args:
        action: The useraction.
        episode: The episode part as JSON text, "{}" for none. It is inserted unchanged, because thousands of messages
            share it.
    """
    agent = "" if action.agent is None else f'"useragent":{_quoted(action.agent)},'
    ip = "" if action.ip is None else f'"ip":{_quoted(action.ip)},'
    proxies = "".join([f'"proxy{number}":{_quoted(proxy)},' for number, proxy in enumerate(action.proxies, 1)])
    is_live = action.is_live
    inferred = ""
    if is_live is None:
        window = _live_window(episode)
        is_live = window is not None and window[0] <= action.created.timestamp() < window[1]
        inferred = '"is_live_inferred":true,'
    return (
        f'{{"action_id":{action.id},"timestamp":"{_utc(action.created)}","mpid":{_text(action.mpid)},'
        f'"session_id":{_text(action.session)},"huid":{_text(action.user)},{agent}'
        f'"action":{{"type":{_text(action.type)},"inpoint":{_number(action.inpoint)},'
        f'"outpoint":{_number(action.outpoint)},"length":{_number(action.length)},'
        f'"is_playing":{"true" if action.is_playing else "false"}}},'
        f'{ip}{proxies}"is_live":{int(is_live)},{inferred}"episode":{episode}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)


def _number(value: int | None) -> int | str:
    return "null" if value is None else value


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
