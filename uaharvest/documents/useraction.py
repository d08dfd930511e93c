"""A useraction as the message that readers of the queue depend on."""

import datetime as dt
import json
from typing import Any

from uaharvest.opencast.actions import UserAction

# ASCII only: a lone surrogate from the source survives as its escape, and SQS, which refuses some characters,
# sees none of them. Without check_circular, for nothing here can hold itself.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def record(action: UserAction, episode: str) -> str:
    """Return the body of the message, JSON in ASCII.

    Args:
        action: The useraction.
        episode: Its episode's part as JSON text, "{}" for none; put in as it is, for it is the same in
            thousands of messages.
    """
    fields: dict[str, Any] = {
        "action_id": action.id,
        "timestamp": action.created.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "mpid": action.mpid,
        "session_id": action.session,
        "huid": action.user,
    }
    if action.agent is not None:
        fields["useragent"] = action.agent
    fields["action"] = {
        "type": action.type,
        "inpoint": action.inpoint,
        "outpoint": action.outpoint,
        "length": action.length,
        "is_playing": action.is_playing,
    }
    if action.ip is not None:
        fields["ip"] = action.ip
    for number, proxy in enumerate(action.proxies, 1):
        fields[f"proxy{number}"] = proxy
    fields["is_live"] = int(action.is_live)
    return f'{_encode(fields)[:-1]},"episode":{episode}}}'
