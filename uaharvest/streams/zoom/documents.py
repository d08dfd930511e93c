"""Writes the documents of meetings and their sessions, and the dead letters of what cannot be written."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from uaharvest import keys
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import meeting
from uaharvest.documents.document import Document
from uaharvest.documents.indexed import Locate
from uaharvest.documents.indices import FAMILIES, Family, index_name, require_own
from uaharvest.documents.session import sessions
from uaharvest.errors import IndexBlockedError, PoisonError
from uaharvest.privacy.people import NO_ONE, Erased, is_about, without_host
from uaharvest.privacy.site import protection
from uaharvest.rows.zoom import ParticipantRow
from uaharvest.runs.days import DAY
from uaharvest.settings import Settings
from uaharvest.sinks.documents import DocumentSink
from uaharvest.streams.zoom.slices import Meeting

STREAM = "zoom"
# What is known of a meeting, or of a row that became a dead letter, is kept for the look-back plus this time.
KEPT = 7 * DAY


class MeetingDocuments:
    """Writes documents of meetings, as updates: fields without a value keep the stored one."""

    def __init__(
        self,
        store: DocumentSink,
        dead_letters: DeadLetters,
        settings: Settings,
        *,
        client: "redis.Redis",
        place: str,
        locate: Locate,
        erased: Erased = NO_ONE,
    ) -> None:
        """Write to `store` and `dead_letters`; see `Meetings` for the rest."""
        self._store = store
        self._dead_letters = dead_letters
        self._settings = settings
        self._redis = client
        self._place = place
        self._locate = locate
        self._protection = protection(settings, erased)

    def write_listed(self, meetings: Iterable[tuple[Meeting, Mapping[str, Any]]], known: set[str]) -> None:
        """Write the meetings of a page, each with its fields.

        A blocked index of one day in the look-back does not hold up the other days. Meetings in `known` (uuids) were
        written before, so they do not matter if their index is blocked.

        Raises:
            IndexBlockedError: An index is blocked and no index accepted a document.
        """
        documents = [self._document("meetings", one, one.uuid, fields) for one, fields in meetings]
        taken = 0
        refused: list[tuple[Document, str]] = []
        try:
            for written in self._store.write(documents):
                taken += len(written.confirmed)
                refused += written.refused
        except IndexBlockedError as error:
            held = [one for one in documents if one.index in error.indices and one.id not in known]
            if held and not taken:
                raise
            refused += [(one, error.indices[one.index]) for one in held]
        self._dead_letter(refused, "listed")

    def write_sessions(self, one: Meeting, rows: Sequence[ParticipantRow]) -> tuple[int, int]:
        """Write a meeting's sessions, then its attendance; return the numbers of sessions and of dead letters.

        The Report endpoints return no address, device or place, and must not erase what the Dashboard returned before.
        """
        found, odd = sessions(one.uuid, rows, self._locate, self._protection.id)
        rooms = len(found)
        if knows := self._protection.erased.knows():
            found = [session for session in found if not is_about(knows, "sessions", session.fields)]
            odd = [(row, error) for row, error in odd if not is_about(knows, "sessions", dataclasses.asdict(row))]
        for row, error in odd:
            raw = self._protection.participant_row(row.raw)
            self._dead_letter_row(str(error), {"uuid": one.uuid, "row": raw})
        refused = self._write([self._document("sessions", one, session.id, session.fields) for session in found])
        written = len(found) - len(refused)
        if self._as_many_as_before(one, rooms):
            attendance = {"uuid": one.uuid, **meeting.attendance(found)}
            if rooms > len(found):
                attendance["erased_sessions"] = rooms - len(found)
            refused += self._write([self._document("meetings", one, one.uuid, attendance)])
        self._dead_letter(refused, "told")
        return written, len(odd) + len(refused)

    def write_again(self, kept: Mapping[str, Any]) -> None:
        """Write the document that a dead letter holds; raise PoisonError if it is still refused or not this site's."""
        require_own(kept["index"], self._settings.index_infix)
        family = next(family for family in FAMILIES if kept["index"].startswith(family))
        knows = self._protection.erased.knows()
        if knows and family == "sessions" and is_about(knows, "sessions", kept["body"]):
            return
        body = self._protection.fields(family, self._without_erased(family, kept["body"]))
        if refused := self._write([Document(kept["index"], kept["id"], body, update=kept["update"])]):
            raise PoisonError(refused[0][1])

    def dead_letter_meeting(self, reason: str, raw: Any) -> None:
        """Write the dead letter of a row of a list that cannot become a document.

        It is written once: the look-back reads the row again each day, also after somebody has dropped the letter.
        """
        knows = self._protection.erased.knows()
        if knows and isinstance(raw, Mapping):
            raw = without_host(knows, "row of a meeting", raw) or raw
        letter = DeadLetter.of_record(STREAM, None, reason, {"row": self._protection.meeting_row(raw)})
        key = keys.LISTED_DEAD(self._place, letter.name.rpartition("-")[2])
        if not self._redis.exists(key):
            self._dead_letters.put(letter)
        self._redis.set(key, 1, ex=self._settings.zoom_lookback_days * DAY + KEPT)

    def _dead_letter_row(self, reason: str, payload: Mapping[str, Any]) -> None:
        self._dead_letters.put(DeadLetter.of_record(STREAM, None, reason, payload))

    def _as_many_as_before(self, one: Meeting, number: int) -> bool:
        """Tell whether a meeting has at least as many sessions as before; fewer would give worse attendance figures."""
        key = keys.MEETING_SESSIONS(self._place, hashlib.sha256(one.uuid.encode()).hexdigest()[:24])
        if int(self._redis.get(key) or 0) > number:
            return False
        self._redis.set(key, number, ex=self._settings.zoom_lookback_days * DAY + KEPT)
        return True

    def _document(self, family: Family, one: Meeting, id_: str, fields: Mapping[str, Any]) -> Document:
        """Return a document of a meeting, for the index of the day on which the meeting started."""
        index = index_name(family, one.start.date(), self._settings.index_infix)
        protected = self._protection.fields(family, self._without_erased(family, fields))
        known = {name: value for name, value in protected.items() if value is not None}
        return Document(index, id_, known, update=True)

    def _without_erased(self, family: Family, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields of a meeting without a host who was erased; others as they are."""
        knows = self._protection.erased.knows()
        if knows is None or family != "meetings":
            return fields
        return without_host(knows, "meetings", fields) or fields

    def _write(self, documents: Sequence[Document]) -> list[tuple[Document, str]]:
        """Write documents and return the refused ones with their reasons. All others are confirmed."""
        return [refusal for written in self._store.write(documents) for refusal in written.refused]

    def _dead_letter(self, refused: Iterable[tuple[Document, str]], part: str) -> None:
        """Write dead letters for documents. `part` keeps the letters of a meeting's two writes apart."""
        for document, reason in refused:
            kept = {name: getattr(document, name) for name in ("index", "id", "update")}
            payload = {"document": {**kept, "body": dict(document.body)}}
            name = f"{document.index}/{document.id}/{part}"
            self._dead_letters.put(DeadLetter.of_record(STREAM, name, reason, payload))
