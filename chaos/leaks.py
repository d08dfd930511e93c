"""Keys that should not be in Redis: unlisted ones, and those of runs that have ended."""

import re
from collections.abc import Iterator

from redis import Redis

from uaharvest import keys

_TYPES = {"zset": "sorted set"}
_NO_EXPIRY = -1


def unlisted_keys(client: Redis) -> list[str]:
    """Return the keys of ours, each with its type, that are not in `uaharvest.keys`.

    Args:
        client: One that decodes.
    """
    found = client.scan_iter(f"{keys.PREFIX}*", count=1000)
    types = ((key, str(client.type(key))) for key in found)
    typed = (f"{key} ({_TYPES.get(type_, type_)})" for key, type_ in types if type_ != "none")  # expired meanwhile
    return [key for key in typed if not any(pattern.fullmatch(key) for pattern in _KEYS)]


def keys_of_ended_runs(client: Redis, open_runs: set[str]) -> Iterator[str]:
    """Yield the keys of runs that are not open and that do not expire."""
    for key in client.scan_iter(f"{keys.PREFIX}run:*", count=1000):
        if key.split(":")[2] not in open_runs and client.ttl(key) == _NO_EXPIRY:
            yield key


def _pattern(key: keys.Key) -> re.Pattern[str]:
    """Return what a key matches that is followed by its type."""
    pattern = keys.PREFIX + key.pattern
    for part, what in {
        "<known>": "known(:.+)?|run:[^:]+:sent(:days)?",
        "<day>": "[0-9]+",
        "<chunk>": "[0-9]+",
    }.items():
        pattern = pattern.replace(part, f"({what})")
    types = ".+" if key.type == "several" else "|".join(key.type.split(" or "))  # the broker's are kombu's own
    return re.compile(re.sub(r"<[\w ]+>", ".+", pattern) + rf" \(({types})\)")


_KEYS = [_pattern(key) for key in keys.ALL]
