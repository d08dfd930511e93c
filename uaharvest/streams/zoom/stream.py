"""The stream of Zoom meetings.

Working on a meeting fetches its participants. A host becomes a slice of its own when Zoom refuses its list.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import redis
import structlog

from uaharvest.dead_letters import DeadLetters
from uaharvest.documents.indexed import Locate
from uaharvest.errors import BadInputError, BlockedError, PoisonError
from uaharvest.intervals import Interval
from uaharvest.privacy.people import NO_ONE, Erased
from uaharvest.rows.zoom import MeetingRow
from uaharvest.runs.days import DAY, DAY_SECONDS, first_day, midnight, next_day, yesterday
from uaharvest.runs.delivered import IdsByTime, TimeReporter, time_reporter
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Delivered, Plan, Split
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import DocumentSink
from uaharvest.streams.zoom.documents import STREAM, MeetingDocuments
from uaharvest.streams.zoom.lists import PAGE_WAIT, MeetingLists
from uaharvest.streams.zoom.slices import SECOND, Host, Meeting, Slice, parse_slice
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.endpoints import ListKind, kind_named
from uaharvest.zoom.endpoints import Source as ZoomSource
from uaharvest.zoom.failures import DaysRefusedError, MeetingUnavailableError
from uaharvest.zoom.lists import OLDEST, Days

# Names of counts.
SESSIONS = "sessions"
UNAVAILABLE = "unavailable"
EMPTY = "without_participants"
INCOMPLETE = "incomplete"  # fewer rows than the list or Zoom's total says
FROM_REPORT = "from_report"  # listed by the Dashboard, which was not available for the participants

log = structlog.get_logger()


class Meetings:
    """The stream `zoom`."""

    name = STREAM
    longest_window = DAY_SECONDS
    begin = staticmethod(yesterday)
    first_window = staticmethod(first_day)
    delivered_ids = staticmethod(IdsByTime)
    reporter = staticmethod(time_reporter)
    parse_slice = staticmethod(parse_slice)

    def __init__(
        self,
        zoom: Zoom,
        store: DocumentSink,
        dead_letters: DeadLetters,
        settings: Settings,
        *,
        client: "redis.Redis",
        place: str,
        locate: Locate,
        ready_after: timedelta,
        patience: float = PAGE_WAIT,
        pause: Callable[[float], None] = time.sleep,
        erased: Erased = NO_ONE,
    ) -> None:
        """Create the stream.

        Args:
            zoom: Source of meetings and participants.
            store: Receives meetings and sessions.
            dead_letters: Receives documents that the store refuses.
            settings: Index names and the length of the look-back.
            client: Stores how far a list has been read.
            place: The stream and its deployment; each deployment reads the lists for itself.
            locate: Returns the `geoip` fields of an address.
            ready_after: A day is harvested this long after it ends.
            patience: Longest wait for the next page of a list, seconds.
            pause: Sleeps for the given number of seconds.
            erased: The people who are left out.
        """
        self._zoom = zoom
        self._lookback = settings.zoom_lookback_days * DAY
        self._ready_after = ready_after
        self._documents = MeetingDocuments(
            store, dead_letters, settings, client=client, place=place, locate=locate, erased=erased
        )
        self._lists = MeetingLists(
            zoom, self._documents, client=client, place=place, patience=patience, pause=pause
        )

    def now(self) -> datetime:
        """Return Zoom's clock, UTC."""
        return self._zoom.now()

    def ask_dashboard(self) -> None:
        """Try the Dashboard again, even if Zoom said that the account has none."""
        self._zoom.forget_source()

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the day that contains the watermark, once it is over and Zoom shows all of it."""
        return next_day(watermark, now, self._ready_after)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark's midnight less ZOOM_LOOKBACK_DAYS.

        The look-back is needed because meetings may end after their day and rows may appear late.
        """
        return midnight(watermark) - self._lookback

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: IdsByTime) -> Plan[Slice]:
        """Read the lists of the run's day and of the look-back, and write the meetings in them.

        Raises:
            BlockedError: Zoom no longer keeps the day of the watermark, or `Zoom` raised it.
            BusyError: Another worker is reading these lists.
        """
        since = min((interval.start for interval in late), default=run.window.start)
        try:
            return self._plan(run, since, delivered)
        except (BadInputError, DaysRefusedError) as error:
            if run.kind != "live":
                raise
            if since < run.window.start:
                # Zoom may still keep the day itself although it no longer keeps the days before it.
                with contextlib.suppress(BadInputError, DaysRefusedError):
                    return self._plan(run, run.window.start, delivered)
            kept = midnight(run.source_now or run.opened_at) - OLDEST
            raise BlockedError(
                f"{error} Move on: manage.py watermark set --stream {self.name} {kept:%F}T00:00:00Z"
            ) from None

    def _plan(self, run: Run, since: datetime, delivered: IdsByTime) -> Plan[Slice]:
        first = midnight(since)
        last = midnight(run.window.end - SECOND)
        # A requested run fetches every meeting that it finds, including known ones.
        done = delivered.within(first, last + 2 * DAY) if run.kind == "live" else set()
        whose = "live" if run.kind == "live" else run.id
        # Lists cover whole days. Meetings that started before `since` are skipped, and so are known ones.
        slices = [
            one
            for one in self._lists.listed(whose, (first.date(), last.date()), done)
            if isinstance(one, Host) or (one.known_id not in done and not first <= one.start < since)
        ]
        return Plan(slices, len(slices))

    def count(self, interval: Interval, *, wait: float) -> int:  # noqa: ARG002
        """Return 0: counting meetings means reading their lists, and list calls are scarce."""
        return 0

    def work(self, run: Run, slice_: Slice, reporter: TimeReporter) -> Delivered | Split[Slice]:  # noqa: ARG002 - it says all
        """Fetch a meeting's participants, write their sessions, then update the meeting's document.

        A host is replaced by its meetings, which are listed and written.
        """
        if isinstance(slice_, Host):
            found = self._lists.of_host(slice_)
            return Split(found) if found else Delivered(0)
        one = slice_
        if one.known_id in reporter.delivered(one.start, one.start + SECOND):
            return Delivered(1, repeated=1)  # another worker delivered it but died before it reported that
        try:
            rows = self._zoom.participants(one.uuid, one.kind)
        except MeetingUnavailableError as error:
            log.info("participants of a meeting are not available", code=error.code)
            return Delivered(1, 0, {UNAVAILABLE: 1})
        if not rows:
            return Delivered(1, 0, {EMPTY: 1})  # every meeting has some, so they appear later: look again
        written, dead = self._documents.write_sessions(one, rows)
        counts = {SESSIONS: written}
        # Rows that are incomplete or lack details are not marked as known, so that the look-back reads them again.
        if rows.came < max(one.joins, rows.total or 0):
            log.info("fewer participants than Zoom says", rows=rows.came, listed=one.joins, total=rows.total)
            counts[INCOMPLETE] = 1
        elif rows.source != one.listed_by == "dashboard":
            counts[FROM_REPORT] = 1
        else:
            reporter.confirm([Outgoing(one.known_id, one.start.timestamp(), "")])
        return Delivered(1, dead, counts)

    def harvest_again(self, rows: Sequence[MeetingRow], kind: ListKind, source: ZoomSource, days: Days) -> int:
        """Write these meetings of a list, and their sessions; return how many sessions were written."""
        written = 0
        for one in self._lists.take(rows, kind, source, days, set()):
            with contextlib.suppress(MeetingUnavailableError):
                written += self._documents.write_sessions(one, self._zoom.participants(one.uuid, one.kind))[0]
        return written

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Write the document of a dead letter, or fetch its meeting again. Return how many documents were written.

        Raises:
            PoisonError: The store still refuses it, or the row still cannot be read.
            MeetingUnavailableError: Zoom no longer has the meeting.
        """
        if "document" in payload:
            self._documents.write_again(payload["document"])
            return 1
        if "row" in payload:
            raise PoisonError("this row of Zoom's still cannot be read. Look at it, then drop it")
        if "host" not in payload:
            start = datetime.fromisoformat(payload["start"])
            return self._redeliver_meeting(Meeting(kind_named(payload["kind"]), payload["uuid"], start, ""))
        written = 0
        first, last = (date.fromisoformat(payload[name]) for name in ("from", "to"))
        for one in self._lists.of_host(Host(payload["host"], first, last)):
            with contextlib.suppress(MeetingUnavailableError):
                written += self._redeliver_meeting(one)
        return written

    def _redeliver_meeting(self, one: Meeting) -> int:
        written, dead = self._documents.write_sessions(one, self._zoom.participants(one.uuid, one.kind))
        if dead:
            raise PoisonError(f"{dead} of its documents are dead letters of their own now")
        return written
