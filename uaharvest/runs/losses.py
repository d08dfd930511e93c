"""Losses outside of the harvest: a watermark or a queue that was deleted, a source's clock that went back too far.

Each is reported until a person confirms it. S3 and SQS cannot tell what they held before, so Redis stores how far a
stream was delivered and to which queue. The harvest continues in the meantime.
"""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
import structlog

from uaharvest import keys

CLOCK = "clock"  # names the loss of a source's clock that went back

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Loss:
    """A loss that no person has confirmed yet."""

    since: datetime
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """Attributes of an SQS queue: its name, its time of creation, and its message retention in seconds."""

    name: str
    created: datetime
    retention: int


class Losses:
    """The losses of one stream, and the data that is needed to notice them."""

    def __init__(self, client: "redis.Redis", place: str) -> None:
        """Use `client`, which must decode responses; `place` is the stream and its deployment."""
        self._redis = client
        self._place = place

    def saw(self, mark: datetime) -> None:
        """Store the watermark that was last seen."""
        self._redis.set(keys.DELIVERED(self._place), mark.timestamp())

    def delivered(self) -> datetime | None:
        """Return the watermark that was last seen; None if Redis has none."""
        text = self._redis.get(keys.DELIVERED(self._place))
        return datetime.fromtimestamp(float(text), UTC) if text else None

    def found_queue(self, facts: QueueFacts) -> QueueFacts | None:
        """Store the queue; return the previous queue of the same name if this is a new one."""
        entry = {"name": facts.name, "created": facts.created.timestamp(), "retention": facts.retention}
        former = self._redis.set(keys.QUEUE(self._place), json.dumps(entry), get=True)
        if not former:
            return None
        known: dict[str, Any] = json.loads(str(former))
        if known["name"] != facts.name or known["created"] >= facts.created.timestamp():
            return None
        created = datetime.fromtimestamp(known["created"], UTC)
        return QueueFacts(name=facts.name, created=created, retention=known["retention"])

    def add(self, about: str, reason: str) -> None:
        """Record a loss until a person confirms it. `about` identifies the loss if it is reported again."""
        self._record(about, reason)

    def clock_went_back(
        self, begin: datetime, searched: datetime, command: Callable[[datetime, datetime], str]
    ) -> None:
        """Record that the source's clock went back to before `searched`, from when on late rows are looked for.

        Several steps are one loss, because two nodes whose clocks differ a lot step back at every other tick.

        Args:
            begin: The earliest time of rows that were written since then.
            searched: Rows before this time are not looked for.
            command: Returns the command that harvests what lies between two times.
        """
        text = self._redis.hget(keys.LOST(self._place), CLOCK)
        former: list[float] = json.loads(text)["between"] if text else [begin.timestamp(), begin.timestamp()]
        between = [min(former[0], begin.timestamp()), max(former[1], searched.timestamp())]
        if between == former:
            return
        start, end = (datetime.fromtimestamp(instant, UTC) for instant in between)
        self._record(CLOCK, lost_clock(start, end, command(start, end)), between=between)

    def all(self) -> list[Loss]:
        """Return the losses that are not confirmed yet, oldest first."""
        standing: Any = self._redis.hgetall(keys.LOST(self._place))
        entries = [json.loads(text) for text in standing.values()]
        return sorted(Loss(datetime.fromtimestamp(entry["since"], UTC), entry["reason"]) for entry in entries)

    def confirm(self) -> list[Loss]:
        """Delete all losses because a person confirmed them; return them."""
        confirmed = self.all()
        self._redis.unlink(keys.LOST(self._place))
        return confirmed

    def _record(self, about: str, reason: str, **more: Any) -> None:
        entry = {"reason": reason, "since": datetime.now(UTC).timestamp(), **more}
        self._redis.hset(keys.LOST(self._place), about, json.dumps(entry))
        log.error("lost", reason=reason)


def lost_watermark(uri: str, last: datetime, begin: datetime, command: str) -> str:
    """Return the message about a deleted watermark whose stream begins again at a later time."""
    return (
        f"the watermark {uri} was gone. Delivered last: up to {last:%F %T} UTC. The harvest begins again at"
        f" {begin:%F %T} UTC; what lies between is missing. Harvest it: `{command}`; then `manage.py watermark"
        " confirm`."
    )


def lost_clock(start: datetime, end: datetime, command: str) -> str:
    """Return the message about a source's clock that went back to `start`."""
    return (
        f"the source's clock went back to {start:%F %T} UTC or later. Late rows before {end:%F %T} UTC are not looked"
        " for, so those that were written meanwhile are missing. Harvest them once the clock has passed that time:"
        f" `{command}`; then `manage.py watermark confirm`."
    )


def lost_queue(former: QueueFacts, created: datetime, margin: timedelta) -> tuple[datetime, datetime]:
    """Return the window of rows that may have been in a deleted queue.

    Args:
        former: The deleted queue.
        created: When the current queue was created.
        margin: How old a row may be when it is sent.
    """
    oldest = max(former.created, created - timedelta(seconds=former.retention))
    return oldest - margin, created + timedelta(seconds=1)
