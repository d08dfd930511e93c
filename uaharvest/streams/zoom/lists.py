"""Lists the meetings of some days and writes them."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import redis
import structlog

from uaharvest.documents import meeting
from uaharvest.errors import PutOffError
from uaharvest.intervals import whole_second
from uaharvest.rows.zoom import MeetingRow
from uaharvest.runs.days import DAY, midnight_of
from uaharvest.streams.zoom.documents import MeetingDocuments
from uaharvest.streams.zoom.reading import Reading, after
from uaharvest.streams.zoom.slices import SECOND, Host, Meeting, Slice
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.endpoints import KINDS, ListKind, Source
from uaharvest.zoom.lists import Days

# Longest wait of a worker for the next page, seconds. For a longer wait the list is put off and resumed later.
PAGE_WAIT = 5.0
# A list is put off after this many waits in a row.
MOST_WAITS = 20
NO_HOST_ID = "Zoom lists a host without an id, so the meetings of this host cannot be listed"

log = structlog.get_logger()


class MeetingLists:
    """Reads Zoom's lists of meetings, and writes the meetings in them."""

    def __init__(
        self,
        zoom: Zoom,
        documents: MeetingDocuments,
        *,
        client: "redis.Redis",
        place: str,
        patience: float = PAGE_WAIT,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Read from `zoom` and write to `documents`; see `Meetings` for the rest."""
        self._zoom = zoom
        self._documents = documents
        self._redis = client
        self._place = place
        self._patience = patience
        self._pause = pause
        # Hosts of the days requested last. They are kept in memory only, because they are addresses of people.
        self._hosts: tuple[Days, Mapping[str, str]] | None = None

    def listed(self, whose: str, days: Days, done: set[str]) -> list[Slice]:
        """Return the meetings that started on the days from the first to the last, after writing all of them.

        Args:
            whose: "live", or the id of an explicit run: workers share the position in its lists.
            days: The first and the last day, UTC.
            done: Known ids of meetings.

        Raises:
            BusyError: Another worker is reading these lists.
            PutOffError: The next page is available too late to wait for it here.
        """
        # It would be out of date for a day that still grows; the client caches them for some minutes.
        self._hosts = None
        reading = Reading(self._redis, self._place, whose, *days)
        with reading.held() as lock:
            kind, token = reading.position()
            waits = 0
            while kind is not None:
                try:
                    for page in self._zoom.meetings(*days, kind, token=token):
                        found: list[Slice] = [*self.take(page.rows, kind, page.source, days, done)]
                        for host in page.hosts_without_id:
                            self._documents.dead_letter_meeting(NO_HOST_ID, host)
                        if page.refused is not None:
                            log.warning("host refused, others are answered", reason=page.refused.reason)
                            found.append(Host(page.refused.id, *days))
                        token = page.next_token
                        lock.reacquire()  # before the write, so as not to overwrite another worker's position
                        reading.advance(found, kind, token)
                        waits = 0
                except PutOffError as error:
                    waits += 1
                    self._wait(error, waits)
                    continue
                kind, token = after(kind), ""
            return reading.finish()

    def of_host(self, host: Host) -> list[Meeting]:
        """List the meetings of a host and write them."""
        found: dict[str, Meeting] = {}
        days = (host.first, host.last)
        for kind in KINDS:
            rows = self._zoom.meetings_of(host.id, *days, kind)
            for one in self.take(rows, kind, "report", days, set()):
                found.setdefault(one.uuid, one)
        return list(found.values())

    def take(
        self, rows: Sequence[MeetingRow], kind: ListKind, source: Source, days: Days, done: set[str]
    ) -> list[Meeting]:
        """Write the meetings of a page of a list and return them; `done` has the known ids of meetings."""
        found, written = [], []
        for row in rows:
            uuid = meeting.uuid(row)
            if uuid is None:
                reason = "the meeting has no uuid that can be the id of a document"
                self._documents.dead_letter_meeting(reason, row.raw)
                continue
            start = whole_second(row.start_time or midnight_of(days[1]) + DAY - SECOND)
            one = Meeting(kind, uuid, start, row.state, row.participants or 0, source)
            found.append(one)
            # Without a start time the day is a guess. A known meeting already has its document, in the index of the
            # day on which it was first written.
            if row.start_time is not None or one.known_id not in done:
                written.append((one, meeting.fields(row, self._host_id(row, days))))
        self._documents.write_listed(written, {one.uuid for one in found if one.known_id in done})
        return found

    def _host_id(self, row: MeetingRow, days: Days) -> str | None:
        """Return the host's id. The Dashboard does not return it, so it is looked up by e-mail address."""
        if row.host_id:
            return row.host_id
        waits = 0
        while self._hosts is None or self._hosts[0] != days:
            try:
                self._hosts = (days, self._zoom.host_ids(*days))
            except PutOffError as error:  # wait here: putting off the page would waste the call that fetched it
                waits += 1
                self._wait(error, waits)
        return self._hosts[1].get((row.email or "").lower())

    def _wait(self, error: PutOffError, waits: int) -> None:
        """Wait until `error.due`, or raise `error` if that is too long or too many (`waits`) in a row."""
        wait = (error.due - datetime.now(UTC)).total_seconds()
        if wait > self._patience or waits > MOST_WAITS:
            raise error
        self._pause(max(wait, 0.0))
