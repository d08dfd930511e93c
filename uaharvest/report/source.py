"""The documents that a report is made of."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from uaharvest.sinks.documents import DocumentStore

Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class CourseDocuments:
    """The documents of one course.

    Attributes:
        viewings: One for each recording and viewer.
        recordings: One for each recording.
        attendance: One for each Zoom meeting and person.
    """

    viewings: Sequence[Fields]
    recordings: Sequence[Fields]
    attendance: Sequence[Fields] = ()


class Documents(Protocol):
    """Reads documents."""

    def course(self, series: str, meetings: Iterable[str]) -> CourseDocuments:
        """Return the documents of a series, and those of all meetings with these ids."""
        ...


class StoredDocuments:
    """Reads the documents of the indices `viewings`, `recordings` and `attendance`."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    def course(self, series: str, meetings: Iterable[str]) -> CourseDocuments:
        """Return the documents of a series, and those of all meetings with these ids."""
        return CourseDocuments(
            viewings=list(self._find("viewings", "series", [series])),
            recordings=list(self._find("recordings", "series", [series])),
            attendance=list(self._find("attendance", "meeting_id", list(meetings))),
        )

    def _find(self, family: str, field: str, values: Sequence[str]) -> Iterator[dict[str, Any]]:
        return self._store.find(f"{family},{family}-*", field, values) if values else iter(())
