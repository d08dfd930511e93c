"""Builds the queue messages of useractions that readers depend on."""

import datetime as dt
import functools
import json
from collections.abc import Sequence

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
    # Unpacked, because reading the fields by name takes half as long again.
    id_, created, mpid, session, user, ip, proxies, agent, type_, inpoint, outpoint, length, playing, live, _ = (
        action
    )
    inferred = ""
    if live is None:
        window = _live_window(episode)
        live = window is not None and window[0] <= created.timestamp() < window[1]
        inferred = '"is_live_inferred":true,'
    return (
        f'{{"action_id":{id_},"timestamp":"{_utc(created)}",{_viewer(mpid, session, user, agent)}'
        f'"action":{{"type":{_type(type_)},"inpoint":{"null" if inpoint is None else inpoint},'
        f'"outpoint":{"null" if outpoint is None else outpoint},"length":{"null" if length is None else length},'
        f'"is_playing":{"true" if playing else "false"}}},'
        f'{_addresses(ip, proxies)}"is_live":{int(live)},{inferred}"episode":{episode}}}'
    )


# Cached, because a player reports twice a minute, and there are few types.
@functools.lru_cache(maxsize=4096)
def _viewer(mpid: str | None, session: str | None, user: str | None, agent: str | None) -> str:
    browser = "" if agent is None else f'"useragent":{_quoted(agent)},'
    return f'"mpid":{_text(mpid)},"session_id":{_text(session)},"huid":{_text(user)},{browser}'


@functools.lru_cache(maxsize=4096)
def _addresses(ip: str | None, proxies: Sequence[str]) -> str:
    first = "" if ip is None else f'"ip":{_quoted(ip)},'
    return first + "".join([f'"proxy{number}":{_quoted(proxy)},' for number, proxy in enumerate(proxies, 1)])


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)


_type = functools.lru_cache(maxsize=256)(_text)


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
