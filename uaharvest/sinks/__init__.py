"""Where results go: a queue (SQS) or stdout; each confirms what it has taken."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Outgoing(NamedTuple):
    """One record on its way out; no dataclass, for there are millions and a frozen one takes longer to make.

    Attributes:
        id: The record's id at the source; by it a repeat is removable.
        at: The event's time, seconds since the epoch, UTC.
        body: The record as JSON, ASCII only, so that its length is its size in bytes and no character of it
            is one that SQS refuses.
    """

    id: int | str
    at: float
    body: str


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """What a sink says about some of the records it was given."""

    confirmed: Sequence[Outgoing] = ()
    refused: Sequence[tuple[Outgoing, str]] = ()


class Sink(Protocol):
    """Takes records and confirms them."""

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Delivery]:
        """Send all `records`; yield each confirmation as it comes, in any order.

        `refused` holds records that the sink will never take, with its reason. What was neither confirmed nor
        refused when an exception ends the iteration may or may not have arrived.

        Raises:
            RetryableError: The sink cannot be reached, throttles or fails.
            BlockedError: The sink refuses us, or refuses more than 5 % of the records.
        """
        ...
