"""The streams `viewings` and `attendance`: documents that are made from other documents.

A window is one day (UTC). The day's documents name what they are about: recordings, or meetings. Of each of these,
all documents are read, and what follows from them is written. Nothing is kept in between, so the result depends on the
documents alone, whatever was written before.

**Late rows.** Each day's run compares the documents of the days before it, too (DERIVED_LOOKBACK_DAYS). The store says
in a short text whether any document about a recording was written on a day. The pair of both is the known id of the
engine; what has no such id is due. So a Redis that lost its data costs work, and no result.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import structlog

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError, PoisonError, RetryableError
from uaharvest.intervals import Interval
from uaharvest.runs.days import DAY, DAY_SECONDS, midnight, midnight_of, next_day, yesterday
from uaharvest.runs.delivered import IdsByTime, TimeReporter, time_reporter
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Delivered, Plan
from uaharvest.runs.windows import first_window
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import DocumentStore

# An explicit run takes a month at once: what is due on several days of it is then worked only once.
LONGEST_ASKED = 31 * DAY_SECONDS
# Bytes of a name, which is part of an id: Elasticsearch takes 512 at most.
LONGEST_NAME = 512

log = structlog.get_logger()

States = Mapping[str, str]  # by day as YYYY-mm-dd: the state of the documents


@dataclasses.dataclass(frozen=True, slots=True)
class DerivedChunk:
    """A slice: some recordings or meetings. The slice id lists them, so the run stores nothing else.

    Attributes:
        interval: The window of its run.
        due: For each of them, the days that made it due.
    """

    interval: Interval
    due: Mapping[str, States]

    @classmethod
    def parse(cls, text: str) -> "DerivedChunk":
        """Parse the result of `str()`.

        Raises:
            ValueError: The text is not a chunk.
        """
        window, _, due = text.partition(" ")
        return cls(Interval.parse(window), json.loads(due))

    def __str__(self) -> str:
        return f"{self.interval} {json.dumps(self.due, separators=(',', ':'))}"

    @property
    def payload(self) -> Mapping[str, object]:
        """Return what is needed to work it again."""
        return {"due": self.due}

    def halves(self) -> "Sequence[DerivedChunk]":
        """Return two halves; nothing if it is about one only."""
        names = list(self.due)
        middle = len(names) // 2
        parts = (names[:middle], names[middle:])
        return (
            [DerivedChunk(self.interval, {name: self.due[name] for name in part}) for part in parts]
            if middle
            else []
        )


class Derivation(Protocol):
    """Derives documents from others."""

    @property
    def what(self) -> str:
        """Return what the documents are about, in the plural."""

    @property
    def field(self) -> str:
        """Return the field that names it, in the documents that are read."""

    def pattern(self, day: date | None) -> str:
        """Return the pattern of the indices of a day, or of all days."""

    def documents(self, name: str, days: Sequence[date], counts: "Counter[str]") -> Iterator[Document]:
        """Read all documents about `name` and yield what follows from them.

        Args:
            name: The recording or meeting.
            days: The days that made it due.
            counts: Receives the derivation's own counts.
        """


class Derived:
    """A stream of documents that are made from other documents."""

    longest_window = DAY_SECONDS
    begin = staticmethod(yesterday)
    delivered_ids = staticmethod(IdsByTime)
    reporter = staticmethod(time_reporter)
    parse_slice = staticmethod(DerivedChunk.parse)

    def __init__(
        self,
        name: str,
        derivation: Derivation,
        store: DocumentStore,
        dead_letters: DeadLetters,
        *,
        harvested_until: Callable[[], datetime | None],
        lookback: timedelta,
        ready_after: timedelta,
    ) -> None:
        """Create the stream.

        Args:
            name: Its name.
            derivation: What it makes.
            store: Has the documents and receives the others.
            dead_letters: Receives documents that the store refuses.
            harvested_until: Returns the watermark of the stream that harvests the documents to read; None if there is
                none or they are harvested elsewhere.
            lookback: How far before a day its run looks for documents that have changed.
            ready_after: A day is worked this long after it ends.
        """
        self.name = name
        self._derivation = derivation
        self._store = store
        self._dead_letters = dead_letters
        self._harvested_until = harvested_until
        self._lookback = lookback
        self._ready_after = ready_after

    def now(self) -> datetime:
        """Return this host's clock, UTC, because a store has none to ask for; the store must answer."""
        self._store.matching(self._derivation.pattern(None))
        return datetime.now(UTC)

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the day that contains the watermark, `ready_after` its end."""
        return next_day(watermark, now, self._ready_after)

    def first_window(self, rest: Interval) -> Interval:
        """Return the first month of `rest`, the part of an explicit run that is left."""
        return first_window(rest, LONGEST_ASKED)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark's midnight less DERIVED_LOOKBACK_DAYS."""
        return midnight(watermark) - self._lookback

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: IdsByTime) -> Plan[DerivedChunk]:
        """Cut what is due into chunks: on the days of a requested run, all; otherwise what has changed.

        Raises:
            BlockedError: No documents to read are indexed at all.
            RetryableError: Those of the run's days are not all harvested yet.
        """
        if run.kind == "live":
            self._require_harvested(run.window)
        since = midnight(min((interval.start for interval in late), default=run.window.start))
        done = delivered.within(since, run.window.end)
        due: dict[str, dict[str, str]] = {}
        for day in _days(since, run.window.end):
            again = run.kind != "live" and day >= run.window.start.date()
            for name, state in self._states(day).items():
                if again or _known_id(name, f"{day}", state) not in done:
                    due.setdefault(name, {})[f"{day}"] = state
        names = sorted(due)
        starts = range(0, len(names), run.batch_size)
        chunks = [
            DerivedChunk(run.window, {name: due[name] for name in names[start : start + run.batch_size]})
            for start in starts
        ]
        return Plan(chunks, sum(map(len, due.values())))

    def count(self, interval: Interval, *, wait: float) -> int:  # noqa: ARG002 - the store needs no rests
        """Return how many recordings or meetings the documents in `interval` name, counted once per day."""
        return sum(len(self._states(day)) for day in _days(interval.start, interval.end))

    def work(self, run: Run, slice_: DerivedChunk, reporter: TimeReporter) -> Delivered:  # noqa: ARG002 - the slice says all
        """Read all documents about each name of a chunk in turn, and write what follows from them."""
        counts: Counter[str] = Counter()
        dead = repeated = 0
        for name, states in slice_.due.items():
            ids = [
                (midnight_of(date.fromisoformat(day)), _known_id(name, day, states[day])) for day in sorted(states)
            ]
            done = reporter.delivered(ids[0][0], ids[-1][0] + DAY)
            if done.issuperset(id_ for _, id_ in ids):
                repeated += len(ids)  # another worker wrote them but died before it reported that
                continue
            if refused := self._refused(name, states, counts):
                dead += len(refused)
                for document, reason in refused:
                    key = f"{document.index}/{document.id}"
                    self._dead_letters.put(DeadLetter.of_record(self.name, key, reason, {"due": {name: states}}))
                reporter.dead_letter([(at.timestamp(), id_) for at, id_ in ids])
            else:
                reporter.confirm(Outgoing(id_, at.timestamp(), "") for at, id_ in ids)
        return Delivered(sum(map(len, slice_.due.values())), dead, counts, repeated)

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Work what a dead letter (of a document or a slice) is about; return how many names that were.

        Raises:
            PoisonError: The store still refuses a document.
        """
        due = payload.get("due")
        if not isinstance(due, dict) or not all(isinstance(days, dict) and days for days in due.values()):
            raise PoisonError(f"it does not name the {self._derivation.what}")
        for name, states in due.items():
            if refused := self._refused(name, states, Counter()):
                raise PoisonError(refused[0][1])
        return len(due)

    def _refused(self, name: str, states: States, counts: "Counter[str]") -> list[tuple[Document, str]]:
        """Write what follows from the documents about `name`; return what the store refuses. All else is confirmed."""
        days = [date.fromisoformat(day) for day in sorted(states)]
        documents = self._derivation.documents(name, days, counts)
        return [refusal for written in self._store.write(documents) for refusal in written.refused]

    def _states(self, day: date) -> Mapping[str, str]:
        states: dict[str, str] = {}
        for (name,), _, state in self._store.groups(self._derivation.pattern(day), [self._derivation.field]):
            if name is not None and 0 < len(name.encode()) <= LONGEST_NAME:
                states[name] = f"{states[name]} {state}" if name in states else state
        return states

    def _require_harvested(self, window: Interval) -> None:
        until = self._harvested_until()
        if until is not None and until < window.end:
            raise RetryableError(
                f"the {self.name} of {window.start:%F} wait: what they are made from is harvested up to"
                f" {until:%F %T} UTC"
            )
        pattern = self._derivation.pattern(None)
        if not self._store.matching(pattern):
            raise BlockedError(
                f"no index matches {pattern}: nothing is indexed that {self.name} could be made from. Check the"
                " indexer or Logstash, INDEX_INFIX and DOCUMENTS_URL or ES_HOST."
            )


def _days(start: datetime, end: datetime) -> list[date]:
    """Return the days (UTC) that the interval from `start` to `end` has any part of."""
    first = midnight(start)
    return [(first + n * DAY).date() for n in range(-(-int((end - first).total_seconds()) // DAY_SECONDS))]


def _known_id(name: str, day: str, state: str) -> str:
    """Return the id that marks the documents of a day about `name` as taken into account."""
    return f"{name} {day} {state}"
