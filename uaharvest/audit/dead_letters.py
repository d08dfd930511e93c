"""What the dead letters stand for: the ids of rows, and intervals whose rows could not be harvested."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import indexed
from uaharvest.errors import BadInputError, PoisonError, UnreadableDeadLetterError
from uaharvest.indexer import STREAM
from uaharvest.intervals import Interval, whole_second


class ActionDeadLetters:
    """The dead letters of useractions, of the harvest and of the indexer.

    Attributes:
        ids: Ids of the rows that have a dead letter of their own, or are in a message that is one.
        intervals: Intervals that became dead letters.
    """

    def __init__(self, dead_letters: DeadLetters, stream: str) -> None:
        """Read the dead letters. A row's has its id as name; only others are fetched from S3."""
        self.ids: set[int] = set()
        self.intervals: list[Interval] = []
        for name in dead_letters.names(stream):
            if own := re.fullmatch(rf"{stream}/record-(\d+)", name):
                self.ids.add(int(own[1]))
            elif name.startswith(f"{stream}/slice-"):
                self.intervals += _intervals(readable(dead_letters, name))
        for name in dead_letters.names(STREAM):
            self.ids.update(_ids(readable(dead_letters, name)))

    def covers(self, at: datetime) -> bool:
        """Tell whether an instant lies in an interval that became a dead letter."""
        return any(one.start <= at < one.end for one in self.intervals)


def readable(dead_letters: DeadLetters, name: str) -> DeadLetter | None:
    """Return a dead letter; None if it was dropped meanwhile, or is not one of ours."""
    try:
        return dead_letters.get(name)
    except (BadInputError, UnreadableDeadLetterError):
        return None


def _intervals(letter: DeadLetter | None) -> Iterator[Interval]:
    match letter and letter.payload:
        case {"start": str(start), "end": str(end)}:
            with contextlib.suppress(ValueError, OverflowError):  # no times, or not an interval
                yield Interval(
                    *(whole_second(datetime.fromisoformat(bound).astimezone(UTC)) for bound in (start, end))
                )


def _ids(letter: DeadLetter | None) -> Iterator[int]:
    records: Iterable[object] = ()
    match letter and letter.payload:
        case {"record": record}:
            records = [record]
        case {"body": str(body)}:
            try:
                records = indexed.records(body)
            except PoisonError:  # nobody can tell whose records these were
                return
    for record in records:
        match record:
            case {"action_id": int(id_)}:
                yield id_
