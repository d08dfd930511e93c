"""The stream of Zoom meetings: windows of a day (UTC); a slice is one meeting, whose participants are fetched."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import redis
import structlog
from redis.exceptions import LockError
from redis.lock import Lock

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import meeting
from uaharvest.documents.indices import Family, index_name
from uaharvest.documents.session import Locate, sessions
from uaharvest.documents.values import instant
from uaharvest.errors import BadInputError, BlockedError, BusyError, PoisonError, PutOffError, RetryableError
from uaharvest.opencast.foreign import text
from uaharvest.runs.days import DAY, Days, midnight, next_day
from uaharvest.runs.known import KnownIds, SliceDesk
from uaharvest.runs.ledger import PREFIX, Run
from uaharvest.runs.stream import Plan, Tally
from uaharvest.runs.windows import Interval, whole_second
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import Document, DocumentSink
from uaharvest.zoom.client import KINDS, Kind, MeetingUnavailableError, Row, Zoom

SECOND = timedelta(seconds=1)
# So long a page's token lives, and who reads a list holds it, seconds.
TOKEN_LIFE = 900
HELD = 120.0
# A worker waits so long for the next page; beyond that the list is put off, and gone on with where it stopped.
PATIENCE = 5.0

# Names of counts.
SESSIONS = "sessions"
UNAVAILABLE = "unavailable"
EMPTY = "without_participants"

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Meeting:
    """A slice: one meeting.

    Its id says all that a worker needs, so that nothing else must be kept with a run; it names no person.

    Attributes:
        kind: Which list it stood in: Zoom wants to hear that again.
        uuid: The meeting's.
        start: When it started, whole seconds UTC; where that is not known the last second of the day asked for.
        state: Digest of what a change of its participants changes too.
    """

    kind: Kind
    uuid: str
    start: datetime
    state: str

    @classmethod
    def parse(cls, slice_id: str) -> "Meeting":
        """Read what `str()` of a meeting wrote."""
        kind, uuid, start, state = json.loads(slice_id)
        return cls(_kind(kind), uuid, datetime.fromtimestamp(start, UTC), state)

    def __str__(self) -> str:
        return json.dumps([self.kind, self.uuid, int(self.start.timestamp()), self.state], separators=(",", ":"))

    @property
    def known_id(self) -> str:
        """Return what stands for its participants being indexed: a meeting that changed has another one."""
        return f"{self.uuid} {self.state}"


class Meetings(Days):
    """The stream `zoom`."""

    name = "zoom"

    def __init__(
        self,
        zoom: Zoom,
        store: DocumentSink,
        letters: DeadLetters,
        settings: Settings,
        *,
        client: "redis.Redis",
        locate: Locate,
        ready_after: timedelta,
        patience: float = PATIENCE,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Put the parts together.

        Args:
            zoom: Knows the meetings.
            store: Gets meetings and sessions.
            letters: For documents that the store refuses.
            settings: For the names of indices, and how far is looked back.
            client: Keeps how far a list is read.
            locate: Gives the `geoip` fields of an address.
            ready_after: A day is harvested when so much time has passed since its end.
            patience: Longest time to wait for the next page of a list, seconds.
            pause: Sleeps for some seconds.
        """
        self._zoom = zoom
        self._store = store
        self._letters = letters
        self._settings = settings
        self._redis = client
        self._locate = locate
        self._ready_after = ready_after
        self._patience = patience
        self._pause = pause
        # In this process only, for they are addresses of people: of the days asked for last.
        self._hosts: tuple[tuple[date, date], Mapping[str, str]] | None = None

    def now(self) -> datetime:
        """Return Zoom's clock, UTC."""
        return self._zoom.now()

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the day in which the watermark lies, once it is over and Zoom shows all of it."""
        return next_day(watermark, now, self._ready_after)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark less ZOOM_LOOKBACK_DAYS: meetings end after their day, and rows appear late."""
        return midnight(watermark) - self._settings.zoom_lookback_days * DAY

    def plan(self, run: Run, *, late: Sequence[Interval], known: KnownIds) -> Plan:
        """Read the lists of the run's day and of the days looked back at, and write the meetings that are in them.

        Raises:
            BlockedError: Zoom no longer keeps the day of the watermark; or as `Zoom` says.
            BusyError: Another worker reads these lists.
        """
        since = min((interval.start for interval in late), default=run.window.start)
        first = midnight(since)
        last = midnight(run.window.end - SECOND)
        # A run that somebody asked for fetches what it finds, whether it is known or not.
        done = known.within(first, last + 2 * DAY) if run.kind == "live" else set()
        try:
            listed = self._listed(run, first, last, done)
        except BadInputError as error:
            if run.kind != "live":
                raise
            raise BlockedError(f"{error} Move on: manage.py watermark set --stream {self.name}") from None
        # Days are listed whole; what started before `since` is no more looked for than what is known.
        slices = [str(one) for one in listed if one.known_id not in done and not first <= one.start < since]
        return Plan(slices, len(slices))

    def count(self, interval: Interval, *, wait: float) -> int:  # noqa: ARG002
        """Return 0: to count meetings is to read their lists, of which there are few a minute."""
        return 0

    def work(self, run: Run, slice_id: str, desk: SliceDesk) -> Tally:  # noqa: ARG002 - the slice says it all
        """Fetch the participants of a meeting, write their sessions, then what they tell of the meeting."""
        one = Meeting.parse(slice_id)
        if one.known_id in desk.known(one.start, one.start + SECOND):
            return Tally(1)  # by a worker that died before it could say so
        try:
            rows = self._zoom.participants(one.uuid, one.kind)
        except MeetingUnavailableError as error:
            log.info("meeting has no participants to be had", code=error.code)
            return Tally(1, 0, {UNAVAILABLE: 1})
        if not rows:
            return Tally(1, 0, {EMPTY: 1})  # a meeting has some: not yet there, and looked for again
        written, dead = self._write_sessions(one, rows)
        desk.confirm([Outgoing(one.known_id, one.start.timestamp(), "")])
        return Tally(1, dead, {SESSIONS: written})

    def halves(self, slice_id: str) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: a meeting is one."""
        return []

    def slice_interval(self, slice_id: str) -> Interval:
        """Return the second in which the meeting started."""
        start = Meeting.parse(slice_id).start
        return Interval(start, start + SECOND)

    def slice_payload(self, slice_id: str) -> dict[str, Any]:
        """Return what finds the meeting again."""
        one = Meeting.parse(slice_id)
        return {"uuid": one.uuid, "kind": one.kind, "start": f"{one.start:%FT%TZ}"}

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Write the document of a dead letter, or fetch its meeting anew; return how many documents were written.

        Raises:
            PoisonError: The store still refuses it, or the row still cannot be read.
            MeetingUnavailableError: Zoom no longer has the meeting.
        """
        if "document" in payload:
            kept = payload["document"]
            document = Document(kept["index"], kept["id"], kept["body"], update=kept["update"])
            refused = self._write([document])
            if refused:
                raise PoisonError(refused[0][1])
            return 1
        if "row" in payload:
            raise PoisonError("this row of Zoom's still cannot be read. Look at it, then drop it")
        one = Meeting(_kind(payload["kind"]), payload["uuid"], datetime.fromisoformat(payload["start"]), "")
        written, dead = self._write_sessions(one, self._zoom.participants(one.uuid, one.kind))
        if dead:
            raise PoisonError(f"{dead} of its documents are dead letters of their own now")
        return written

    # Lists

    def _listed(self, run: Run, first: datetime, last: datetime, done: set[str]) -> list[Meeting]:
        """Return the meetings that started from the day `first` to the day `last`; all of them are written.

        How far the lists are read stands in Redis as long as the token of their next page lives, so that what is
        put off, or dies, goes on there.
        """
        # The workers share the next live run and each explicit one; a person's own run is nobody else's.
        self._hosts = None  # of a day that grows they would grow old; the client keeps them for some minutes
        whose = "live" if run.kind == "live" else run.id
        reading = _Reading(self._redis, f"{whose}:{first:%F}:{last:%F}")
        with reading.held() as lock:
            kind, token = reading.position()
            while kind is not None:
                try:
                    for page in self._zoom.meetings(first.date(), last.date(), kind, token=token):
                        found = self._take_page(page.rows, kind, (first, last), done)
                        if page.unreadable:
                            log.warning("meetings without uuid", rows=page.unreadable)
                        token = page.next_token
                        lock.reacquire()  # first: a position that is another's now must not be written over
                        reading.advance(found, kind, token)
                except PutOffError as error:
                    self._wait(error)
                    continue
                kind, token = _after(kind), ""
            return reading.finish()

    def _take_page(
        self, rows: Sequence[Row], kind: Kind, days: tuple[datetime, datetime], done: set[str]
    ) -> list[Meeting]:
        """Write the meetings of a page and return them."""
        found, documents = [], []
        for row in rows:
            uuid = meeting.uuid(row)
            if uuid is None:
                reason = "the uuid of the meeting cannot be the id of a document"
                self._letters.put(DeadLetter.of_record(self.name, None, reason, {"row": row}))
                continue
            at = instant(row.get("start_time"))
            one = Meeting(kind, uuid, whole_second(at or days[1] + DAY - SECOND), _state(row))
            found.append(one)
            # Which day it was of is known only when it was new: its document is where it was written then.
            if at is not None or one.known_id not in done:
                fields = meeting.fields(row, self._host_id(row, days))
                documents.append(self._document("meetings", one, uuid, fields, update=True))
        self._bury(self._write(documents), "listed")
        return found

    def _host_id(self, row: Row, days: tuple[datetime, datetime]) -> str | None:
        """Return the host's id, which the Dashboard does not tell: found by the e-mail address."""
        if given := text(row.get("host_id")):
            return given
        first, last = asked = (days[0].date(), days[1].date())
        while self._hosts is None or self._hosts[0] != asked:
            try:
                self._hosts = (asked, self._zoom.host_ids(first, last))
            except PutOffError as error:  # here, for the page that asks has cost a call
                self._wait(error)
        return self._hosts[1].get((text(row.get("email")) or "").lower())

    def _wait(self, error: PutOffError) -> None:
        """Wait until it is our turn, or raise `error` if that takes too long."""
        wait = (error.due - datetime.now(UTC)).total_seconds()
        if wait > self._patience:
            raise error
        self._pause(max(wait, 0.0))

    # Documents

    def _write_sessions(self, one: Meeting, rows: Sequence[Row]) -> tuple[int, int]:
        """Write a meeting's sessions, then what they tell; return how many sessions, and how many dead letters."""
        found, odd = sessions(one.uuid, rows, self._locate)
        for row, error in odd:
            letter = DeadLetter.of_record(self.name, None, str(error), {"uuid": one.uuid, "row": row})
            self._letters.put(letter)
        documents = [self._document("sessions", one, session.id, session.fields) for session in found]
        refused = self._write(documents)
        written = len(found) - len(refused)
        tells = {"uuid": one.uuid, **meeting.attendance(found)}
        refused += self._write([self._document("meetings", one, one.uuid, tells, update=True)])
        self._bury(refused, "told")
        return written, len(odd) + len(refused)

    def _document(
        self, family: Family, one: Meeting, id_: str, fields: Mapping[str, Any], *, update: bool = False
    ) -> Document:
        """Return a document of a meeting: all of them are in the indices of the day on which it started."""
        return Document(index_name(family, one.start.date(), self._settings), id_, fields, update=update)

    def _write(self, documents: Sequence[Document]) -> list[tuple[Document, str]]:
        """Write documents; when this returns they are confirmed, but for those that are returned: refused."""
        return [refusal for written in self._store.write(documents) for refusal in written.refused]

    def _bury(self, refused: Sequence[tuple[Document, str]], part: str) -> None:
        """Keep documents; a meeting has two parts, which replace each other neither here nor there."""
        for document, reason in refused:
            kept = {name: getattr(document, name) for name in ("index", "id", "update")}
            payload = {"document": {**kept, "body": dict(document.body)}}
            name = f"{document.index}/{document.id}/{part}"
            self._letters.put(DeadLetter.of_record(self.name, name, reason, payload))


class _Reading:
    """How far the lists of some days are read: the meetings found so far, and where the next page is."""

    def __init__(self, client: "redis.Redis", what: str) -> None:
        self._redis = client
        self._what = what
        self._key = f"{PREFIX}zoom:lists:{what}"
        self._found_key = f"{self._key}:found"

    @contextlib.contextmanager
    def held(self) -> Iterator[Lock]:
        """Keep others away, for calls for lists are few."""
        lock = self._redis.lock(f"{self._key}:held", timeout=HELD)
        if not lock.acquire(blocking=False):
            raise BusyError(f"the lists of Zoom's meetings ({self._what}) are being read by another worker.")
        try:
            yield lock
        except LockError:
            raise RetryableError(f"reading the lists of Zoom's meetings ({self._what}) took too long.") from None
        finally:
            with contextlib.suppress(LockError):  # it ended by itself, and may be another's
                lock.release()

    def position(self) -> tuple[Kind | None, str]:
        """Return which list to go on with, None if all are read, and the token of its next page."""
        stored: dict[str, str] = self._redis.hgetall(self._key)  # type: ignore[assignment] # it decodes
        if not stored:
            self._redis.unlink(self._found_key)  # it may have outlived the position
            return KINDS[0], ""
        kind = _kind(stored["kind"])
        return (kind, stored["token"]) if stored["token"] else (_after(kind), "")

    def advance(self, found: Sequence[Meeting], kind: Kind, token: str) -> None:
        """Add what a page had, and say where the next is; both at once."""
        with self._redis.pipeline() as pipeline:
            if found:
                pipeline.rpush(self._found_key, *map(str, found))
            pipeline.hset(self._key, mapping={"kind": kind, "token": token})
            for key in (self._key, self._found_key):
                pipeline.expire(key, TOKEN_LIFE)
            pipeline.execute()

    def finish(self) -> list[Meeting]:
        """Return all meetings that were found, each once, and forget them here."""
        found: dict[str, Meeting] = {}
        for slice_id in self._redis.lrange(self._found_key, 0, -1):
            one = Meeting.parse(str(slice_id))
            found[one.uuid] = one
        self._redis.unlink(self._key, self._found_key)
        return list(found.values())


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


def _after(kind: Kind) -> Kind | None:
    following = KINDS[KINDS.index(kind) + 1 :]
    return following[0] if following else None


def _state(row: Row) -> str:
    """Return a digest of what tells that a meeting's participants are no longer those that were read."""
    said = [row.get(name) for name in ("participants", "end_time", "duration")]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
