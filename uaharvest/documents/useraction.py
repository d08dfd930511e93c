"""A useraction as the message that readers of the queue depend on."""

import datetime as dt
import functools
import json

# As the json module writes a text, ASCII only: a lone surrogate from the source survives as its escape, and SQS,
# which refuses some characters, sees none of them.
from json.encoder import encode_basestring_ascii as _quoted

from uaharvest.opencast.actions import UserAction


def record(action: UserAction, episode: str) -> str:
    """Return the body of the message, JSON in ASCII.

    Where the player does not say whether it was live (`isPlaying` is a boolean in every stock Opencast), `is_live` is
    inferred from the time that the episode was on the air, and `is_live_inferred` says so.

    Written as a text, because the json module takes three times as long, and this runs for each useraction.

    Args:
        action: The useraction.
        episode: Its episode's part as JSON text, "{}" for none; put in as it is, for it is the same in
            thousands of messages.
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
    """Return when an episode was on the air, seconds UTC: `duration` from its `start` on; None if that is not known.

    Before a recording is published nobody can watch but live. (As the readers' `is_live` meant before players said it.)
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
    return begin, begin + duration / 1000


# Rows of the same second share their instant.
@functools.lru_cache(maxsize=4096)
def _utc(created: dt.datetime) -> str:
    return created.astimezone(dt.UTC).isoformat(timespec="seconds")
