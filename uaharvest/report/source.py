"""The documents that a report is made of."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from uaharvest.sinks.documents import DocumentStore, Has

Fields = Mapping[str, Any]

UNKNOWN = "unknown"
_WHO = ("huid", "session_id")
_DEVICE, _PLACE = "ua.os_name", "geoip.country_name"

# All but the long lists that no page shows.
_VIEWINGS = (
    *("@timestamp", "mpid", "viewer", "huid", "seen_s", "coverage"),
    *("watched_s", "again_s", "live_s", "played", "stays"),
)
_RECORDINGS = (
    *("@timestamp", "mpid", "title", "start", "duration_s"),
    *("bin_s", "views", "retention", "concurrency"),
)
_ATTENDANCE = (
    *("@timestamp", "uuid", "meeting_id", "topic", "person", "registrant_id", "user_email", "user_name"),
    *("start", "end", "joined", "left", "minutes", "sessions", "stays"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class CourseDocuments:
    """The documents of one course.

    Attributes:
        viewings: One for each recording and viewer.
        recordings: One for each recording.
        attendance: One for each Zoom meeting and person.
        whereabouts: For each recording and viewer the system and the country of most of their useractions.
    """

    viewings: Sequence[Fields]
    recordings: Sequence[Fields]
    attendance: Sequence[Fields] = ()
    whereabouts: Mapping[str, Mapping[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)


class StoredDocuments:
    """Reads the indices `viewings`, `recordings` and `attendance`; and `useractions` only for counts."""

    def __init__(self, store: DocumentStore, anonymous: Collection[str]) -> None:
        """Read from a store; the user ids `anonymous` stand for nobody."""
        self._store = store
        self._anonymous = frozenset(anonymous)

    def course(self, series: str, meetings: Iterable[str]) -> CourseDocuments:
        """Return the documents of a series, and those of all meetings with these ids."""
        recordings = list(self._select("recordings", "series", series, _RECORDINGS))
        return CourseDocuments(
            viewings=list(self._select("viewings", "series", series, _VIEWINGS)),
            recordings=recordings,
            attendance=[
                fields for one in meetings for fields in self._select("attendance", "meeting_id", one, _ATTENDANCE)
            ],
            whereabouts={fields["mpid"]: self._whereabouts(fields["mpid"]) for fields in recordings},
        )

    def _select(self, family: str, field: str, value: str, fields: Sequence[str]) -> Iterable[Fields]:
        return self._store.select(f"{family},{family}-*", Has(field, [value]), fields, only_open=True)

    def _whereabouts(self, mpid: str) -> dict[str, tuple[str, str]]:
        devices: dict[str, Counter[str]] = defaultdict(Counter)
        places: dict[str, Counter[str]] = defaultdict(Counter)
        fields = (*_WHO, _DEVICE, _PLACE)
        found = self._store.groups("useractions-*", fields, Has("mpid", [mpid]), only_open=True)
        for (user, session, device, place), count, _ in found:
            viewer = f"session:{session}" if user is None or user in self._anonymous else user
            devices[viewer][device or UNKNOWN] += count
            places[viewer][place or UNKNOWN] += count
        return {viewer: (_most(devices[viewer]), _most(places[viewer])) for viewer in devices}


def _most(counts: Mapping[str, int]) -> str:
    return min(counts, key=lambda value: (-counts[value], value))
