"""Known ids: which rows are confirmed already, so that a look back over them finds only what is new.

Kept per epoch of the watermark, source and queue: after an operator's reset everything is sent again. They are
trimmed by event time against the watermark, never by a TTL: an outage of a day must not forget them.
"""

import hashlib
from datetime import datetime

import redis

from uaharvest.runs.ledger import PREFIX


class KnownIds:
    """A sorted set of ids by event time, seconds UTC."""

    def __init__(self, client: "redis.Redis", key: str) -> None:
        """Use the set `key` of `client`, which decodes responses."""
        self.redis = client
        self.key = key

    def within(self, start: datetime, end: datetime) -> set[str]:
        """Return the ids with start <= event time < end."""
        ids = self.redis.zrangebyscore(self.key, start.timestamp(), f"({end.timestamp()}")
        return {str(row_id) for row_id in ids}

    def count(self, first: datetime, last: datetime) -> int:
        """Count the ids with first <= event time <= last: the closed range in which Opencast counts."""
        return int(self.redis.zcount(self.key, first.timestamp(), last.timestamp()))

    def trim(self, before: datetime) -> None:
        """Forget the ids with an event time before `before`."""
        self.redis.zremrangebyscore(self.key, "-inf", f"({before.timestamp()}")


def known_key(stream: str, epoch: str, destination: str) -> str:
    """Return the key of the known ids of `epoch` for `destination`, which is source and queue as text."""
    return f"{_place(stream, destination)}:{epoch}"


def forget_former_epoch(client: "redis.Redis", stream: str, epoch: str, destination: str) -> None:
    """Drop the known ids of the epoch before `epoch`: no window will ever be compared with them."""
    former = client.set(_place(stream, destination), epoch, get=True)
    if former and former != epoch:
        client.unlink(known_key(stream, str(former), destination))


def _place(stream: str, destination: str) -> str:
    return f"{PREFIX}known:{stream}:{hashlib.sha256(destination.encode()).hexdigest()[:12]}"
