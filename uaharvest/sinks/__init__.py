"""Sinks for records: an SQS queue or stdout; each confirms what it has accepted."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")


class Outgoing(NamedTuple):
    """An outgoing record. A NamedTuple, because frozen dataclasses are slower to create and there are millions.

    Attributes:
        id: The record's id at the source; identifies repeats.
        at: The event's time, seconds since the epoch, UTC.
        body: The record as JSON, ASCII only, so its length is its size in bytes and it has no characters that
            SQS refuses.
    """

    id: int | str
    at: float
    body: str


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt(Generic[Item]):
    """A sink's response for some of the records or documents that it was given.

    Attributes:
        confirmed: Those that the sink has stored.
        refused: Those that it will never accept, each with the reason.
    """

    confirmed: Sequence[Item] = ()
    refused: Sequence[tuple[Item, str]] = ()


class Sink(Protocol):
    """Takes records and confirms them."""

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Receipt[Outgoing]]:
        """Send all `records`; yield each confirmation as it comes, in any order.

        `refused` holds records that the sink will never accept, with its reasons. If an exception ends the
        iteration, records that were neither confirmed nor refused may or may not have arrived.

        Raises:
            RetryableError: The sink cannot be reached, throttles or fails.
            BlockedError: The sink denies us access, or refuses more than 5 % of the records.
        """
        ...
