"""What viewers watched of each recording, from the useractions in the document store."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from uaharvest.documents.document import Document
from uaharvest.documents.indices import index_name, useractions_of
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentStore, Has
from uaharvest.viewing.documents import documents
from uaharvest.viewing.recording import FIELDS, RecordingActions

# Names of counts.
VIEWERS = "viewers"
NOBODY = "without_viewers"  # recordings whose useractions do not show that anything was played
UNREADABLE = "unreadable"  # documents without a usable id or time
UNIDENTIFIED = "unidentified"  # useractions with neither a user nor a session


class UseractionsReader(Protocol):
    """Reads useractions by recording. A store of another kind needs this only."""

    def read(self, mpid: str) -> Iterator[Mapping[str, Any]]:
        """Yield the documents of all useractions of a recording, in any order; `FIELDS` of each are enough.

        They are taken one by one, so yield them as they come.

        Raises:
            RetryableError: The store cannot be reached, or its answer is not whole.
            BlockedError: The store denies us access.
        """


class StoredUseractions:
    """Reads useractions from a document store."""

    def __init__(self, store: DocumentStore, pattern: str) -> None:
        """Read the indices of `store` that match `pattern`."""
        self._store = store
        self._pattern = pattern

    def read(self, mpid: str) -> Iterator[Mapping[str, Any]]:
        """Yield the useractions of a recording; see `UseractionsReader`."""
        return self._store.select(self._pattern, Has("mpid", [mpid]), FIELDS, only_open=True)


class Recordings:
    """Derives `viewings` and `recordings`; see `streams.derived.Derivation`."""

    what = "recordings"
    field = "mpid"

    def __init__(self, readers: Sequence[UseractionsReader], store: DocumentStore, settings: Settings) -> None:
        """Read useractions from all `readers`, and episodes from `store`. What several readers have counts once."""
        self._readers = readers
        self._store = store
        self._infix = settings.index_infix
        self._anonymous = settings.anonymous_users

    def pattern(self, day: date | None) -> str:
        """Return the pattern of the useractions of a day, or of all days."""
        return useractions_of(day, self._infix)

    def documents(self, name: str, days: Sequence[date], counts: "Counter[str]") -> Iterator[Document]:  # noqa: ARG002 - all days count
        """Read all useractions of a recording and yield its documents."""
        rows = RecordingActions(name, self._anonymous)
        for reader in self._readers:
            for row in reader.read(name):
                rows.add(row)
        episode = self._store.get(index_name("episodes", None, self._infix), name)
        viewers = -1  # the last document is the recording's own
        for body in documents(rows, episode):
            viewers += 1
            yield Document(index_name(body.family, None, self._infix), body.id, body.fields)
        found = {
            VIEWERS: max(viewers, 0),
            NOBODY: int(viewers < 0),
            UNREADABLE: rows.skipped,
            UNIDENTIFIED: rows.unidentified,
        }
        counts.update({count: number for count, number in found.items() if number})
