"""Who was in each Zoom meeting, from the meetings and sessions in the document store."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date

from uaharvest.documents.attendance import FIELDS, attendance
from uaharvest.documents.document import Document
from uaharvest.documents.indices import index_name
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentStore, Has

# Names of counts.
PEOPLE = "people"
NOBODY = "without_people"  # meetings whose sessions have no times, or are in the waiting room


class MeetingAttendance:
    """Derives `attendance`; see `streams.derived.Derivation`."""

    what = "meetings"
    field = "meeting"

    def __init__(self, store: DocumentStore, settings: Settings) -> None:
        """Read meetings and sessions from `store`."""
        self._store = store
        self._infix = settings.index_infix

    def pattern(self, day: date | None) -> str:
        """Return the index of the sessions of a day's meetings, or the pattern of all days'."""
        return (
            index_name("sessions", day, self._infix) if day else f"{index_name('sessions', None, self._infix)}-*"
        )

    def documents(self, name: str, days: Sequence[date], counts: "Counter[str]") -> Iterator[Document]:
        """Read a meeting and its sessions, yield a document for each person, and delete the others of this meeting.

        A new session may show a better identity of a person, who then has another key.
        """
        index = index_name("attendance", None, self._infix)
        # Listed first: what another worker writes meanwhile is made from newer sessions.
        former = {one["_id"] for one in self._store.select(index, Has("uuid", [name]), (), only_open=True)}
        pattern = ",".join(map(self.pattern, days))
        keys = [(index_name("meetings", day, self._infix), name) for day in days]
        found = self._store.get_many(keys)
        about = next((found[key] for key in reversed(keys) if key in found), None)
        sessions = self._store.select(pattern, Has(self.field, [name]), FIELDS, only_open=True)
        people = attendance(name, about, sessions)
        counts.update({PEOPLE: len(people)} if people else {NOBODY: 1})
        for id_, fields in people.items():
            yield Document(index, id_, fields)
        if outdated := former - people.keys():
            for _ in self._store.delete((index, id_) for id_ in outdated):
                pass
