"""The result of auditing a day; pure."""

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Self

from uaharvest.documents.indices import Family


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How the rows of a source and the documents compare.

    Attributes:
        source: Rows at the source.
        indexed: Documents.
        missing: Rows without a document that nothing below accounts for.
        extra: Documents without a row: it was deleted at the source, or the source no longer shows it.
        repeated: Rows that have a document and a dead letter too. The letter can be dropped.
        dead_letters: Rows without a document that have a dead letter, or lie in the interval of one.
        unreadable: Rows without a document and a dead letter that no document can be made from.
        sent: Missing rows that a repair has harvested.
    """

    source: int = 0
    indexed: int = 0
    missing: int = 0
    extra: int = 0
    repeated: int = 0
    dead_letters: int = 0
    unreadable: int = 0
    sent: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        mine, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return Counts(**{name: count + others[name] for name, count in mine.items()})


FamilyCounts = Mapping[Family, Counts]


def added(one: FamilyCounts, other: FamilyCounts) -> dict[Family, Counts]:
    """Return the sums of two results."""
    return {family: one.get(family, Counts()) + other.get(family, Counts()) for family in {**one, **other}}


@dataclasses.dataclass(frozen=True, slots=True)
class DayAudit:
    """The result of auditing a day of a stream, or of its first pieces.

    Attributes:
        stream: The stream.
        day: The day, UTC.
        at: When it was audited, UTC.
        found: The counts of each family of documents.
        pieces: How many pieces of the day have been compared; None: all.
    """

    stream: str
    day: date
    at: datetime
    found: FamilyCounts
    pieces: int | None = None

    @property
    def missing(self) -> int:
        """Return how many rows are missing."""
        return sum(counts.missing for counts in self.found.values())

    @property
    def sent(self) -> int:
        """Return how many rows a repair has harvested."""
        return sum(counts.sent for counts in self.found.values())

    def entry(self) -> dict[str, Any]:
        """Return it in the form of `--json`, which Redis keeps too."""
        return {
            "stream": self.stream,
            "day": f"{self.day:%F}",
            "at": f"{self.at:%FT%TZ}",
            "found": {family: dataclasses.asdict(counts) for family, counts in self.found.items()},
            "pieces": self.pieces,
        }

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Return the audit of an `entry`; raises KeyError, TypeError or ValueError if that is none."""
        found = {family: Counts(**counts) for family, counts in entry["found"].items()}
        day, at = date.fromisoformat(entry["day"]), datetime.fromisoformat(entry["at"])
        return cls(entry["stream"], day, at, found, entry["pieces"])
