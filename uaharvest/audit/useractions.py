"""Audits useractions: compares ids, and harvests again the rows whose ids have no document."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

from uaharvest.audit.day import Counts, FamilyCounts
from uaharvest.audit.dead_letters import ActionDeadLetters
from uaharvest.audit.rows import Rows
from uaharvest.documents.indices import index_name
from uaharvest.intervals import Interval
from uaharvest.opencast.times import look_back
from uaharvest.rows.useractions import UserAction
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import DocumentStore, Within
from uaharvest.streams.delivery import RecordDelivery
from uaharvest.streams.specs.useractions import SPEC


class ActionsAudit:
    """Audits the stream `useractions`."""

    stream = SPEC.name

    def __init__(
        self,
        rows: Rows,
        store: DocumentStore,
        dead_letters: Callable[[], ActionDeadLetters],
        delivery: RecordDelivery,
        settings: Settings,
        *,
        whole_days: bool = False,
    ) -> None:
        """Create the audit.

        Args:
            rows: The source.
            store: Its documents.
            dead_letters: Reads the dead letters.
            delivery: Harvests missing rows.
            settings: Provide the overlap, the zone and the names of the indices.
            whole_days: Compare a day as one piece, because `store` reads all of the day for any part of it.
        """
        self._rows = rows
        self._store = store
        self._read_dead_letters = dead_letters
        self._delivery = delivery
        self._settings = settings
        self._whole_days = whole_days

    def pieces(self, day: Interval) -> list[Interval]:
        """Return the parts of a day (UTC) that are compared one after the other."""
        return [day] if self._whole_days else self._rows.pieces(day)

    def _parts(self, piece: Interval) -> list[Interval]:
        """Return the parts of a piece to request from the source."""
        return self._rows.pieces(piece) if self._whole_days else [piece]

    def closed_until(self, watermark: datetime) -> datetime:
        """Return the instant up to which the harvest no longer looks for late rows."""
        return look_back(watermark, timedelta(seconds=self._settings.overlap), self._settings.opencast_zone)

    def audit(self, piece: Interval, *, repair: bool) -> FamilyCounts:
        """Compare a piece; harvest what is missing if `repair` says so."""
        indexed, unreadable = self._indexed(piece)
        dead_letters = self._dead_letters
        documents = len(indexed) + unreadable
        repeated = len(dead_letters.ids & indexed)
        there, lacking = 0, set()
        left = indexed  # shrinks to the documents without a row: another set would double the memory
        for ids in itertools.chain.from_iterable(self._rows.ids(part, left) for part in self._parts(piece)):
            for row_id in ids:
                there += 1
                if row_id in left:
                    left.remove(row_id)
                else:
                    lacking.add(row_id)
        counts = Counts(source=there, indexed=documents, extra=len(left) + unreadable, repeated=repeated)
        return {"useractions": counts + self._lacking(piece, lacking, repair=repair)}

    def _lacking(self, piece: Interval, lacking: set[int], *, repair: bool) -> Counts:
        """Count the rows that have no document by what accounts for that."""
        own = lacking & self._dead_letters.ids
        counts = Counts(dead_letters=len(own))
        if not lacking - own:
            return counts
        parts = self._parts(piece)
        for page in itertools.chain.from_iterable(self._rows.rows(part, lacking - own) for part in parts):
            there = [action for action in page.actions if not self._delivery.is_erased(action)]
            covered = [action for action in there if self._dead_letters.covers(action.created)]
            missing = [action for action in there if not self._dead_letters.covers(action.created)]
            counts += Counts(dead_letters=len(covered), missing=len(missing), unreadable=len(page.unreadable))
            if repair and missing:
                counts += Counts(sent=self._send(missing))
        return counts

    def _send(self, actions: Sequence[UserAction]) -> int:
        reporter = _Reporter()
        self._delivery.send(actions, reporter)
        return reporter.sent

    def _indexed(self, piece: Interval) -> tuple[set[int], int]:
        """Return the ids of the documents of a piece, and how many documents have an id that is no row's."""
        index = index_name("useractions", piece.start.date(), self._settings.index_infix)
        ids: set[int] = set()
        unreadable = 0
        for one in self._store.select(index, Within("@timestamp", piece.start, piece.end), fields=()):
            try:
                ids.add(int(one["_id"]))
            except ValueError:
                unreadable += 1
        return ids, unreadable

    @cached_property
    def _dead_letters(self) -> ActionDeadLetters:
        return self._read_dead_letters()

    def begin(self) -> None:
        """Read the dead letters again with the next piece."""
        self.__dict__.pop("_dead_letters", None)


class _Reporter:
    """Counts what is sent. The rows of a closed day are not looked for again, so nobody needs to know their ids."""

    def __init__(self) -> None:
        self.sent = 0

    def confirm(self, rows: Iterable[Outgoing]) -> None:
        self.sent += sum(1 for _ in rows)

    def dead_letter(self, rows: Iterable[tuple[float, int | str]]) -> None:
        """Do nothing: the next audit finds the dead letter."""

    def count(self, counts: Mapping[str, int]) -> None:
        """Do nothing: these counts are a run's."""

    def flush(self) -> None:
        """Do nothing: no row is marked as known."""
