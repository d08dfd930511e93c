"""The stream of episodes. A window is one day (UTC); the day's useractions name the episodes that were watched."""

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from uaharvest.coerce import many, members
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import episode
from uaharvest.documents.document import Document
from uaharvest.documents.indices import useractions_of
from uaharvest.errors import BadInputError, BlockedError, PoisonError, RetryableError, SourceError
from uaharvest.intervals import Interval
from uaharvest.opencast.client import NOTHING, Opencast
from uaharvest.opencast.scope import own_refusals
from uaharvest.opencast.throttle import Throttle
from uaharvest.runs.days import DAY, DAY_SECONDS, first_day, next_day, yesterday
from uaharvest.runs.delivered import IdsByTime, TimeReporter, time_reporter
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Delivered, Plan
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import DocumentStore

SECOND = timedelta(seconds=1)
FETCHES_AT_ONCE = 4

NOT_FOUND = "gone"  # the name of a count

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class EpisodeChunk:
    """A slice: some episodes.

    The slice id lists them, so the run stores nothing else. A separate list could have gaps if Redis loses its data
    or the list grows. It also means that a worker need not know which episodes a person chose.

    Attributes:
        interval: The window of its run.
        mpids: Mediapackage ids.
    """

    interval: Interval
    mpids: Sequence[str]

    @classmethod
    def parse(cls, text: str) -> "EpisodeChunk":
        """Parse the result of `str()`.

        Raises:
            ValueError: The text is not a chunk.
        """
        window, _, mpids = text.partition(" ")
        return cls(Interval.parse(window), json.loads(mpids))

    def __str__(self) -> str:
        return f"{self.interval} {json.dumps(list(self.mpids), separators=(',', ':'))}"

    @property
    def payload(self) -> Mapping[str, list[str]]:
        """Return the ids of the chunk."""
        return {"mpids": list(self.mpids)}

    def halves(self) -> "Sequence[EpisodeChunk]":
        """Return two halves; nothing if there is only one episode."""
        middle = len(self.mpids) // 2
        parts = (self.mpids[:middle], self.mpids[middle:])
        return [dataclasses.replace(self, mpids=part) for part in parts] if middle else []


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The episodes that a person chose instead of those of a day.

    Attributes:
        source_index_pattern: Episodes named by the useractions in these indices.
        mpid: This single episode.
    """

    source_index_pattern: str | None = None
    mpid: str | None = None


class UseractionsProgress(Protocol):
    """How far the useractions have come on their way to the document store."""

    def harvested_until(self) -> datetime | None:
        """Return the watermark of the useractions; None if there is none or they are harvested elsewhere."""

    def held(self) -> Collection[str]:
        """Return the indices that accept no documents from the indexer."""

    def rows(self, interval: Interval) -> int:
        """Return how many useractions Opencast has in `interval`."""


class Episodes:
    """The stream `episodes`."""

    name = "episodes"
    longest_window = DAY_SECONDS
    begin = staticmethod(yesterday)
    first_window = staticmethod(first_day)
    delivered_ids = staticmethod(IdsByTime)
    reporter = staticmethod(time_reporter)
    parse_slice = staticmethod(EpisodeChunk.parse)

    def __init__(
        self,
        engage: Opencast,
        admin: Opencast,
        store: DocumentStore,
        dead_letters: DeadLetters,
        settings: Settings,
        *,
        upstream: UseractionsProgress,
        throttle: Throttle,
        index: str,
        ready_after: timedelta,
        chosen: Chosen | None = None,
    ) -> None:
        """Create the stream.

        Args:
            engage: Host that has the episodes.
            admin: Host that has their workflows.
            store: Has the useractions and receives the episodes.
            dead_letters: Receives documents that the store refuses.
            settings: Names of indices and workflows.
            upstream: Shows whether a day's useractions are complete.
            throttle: Rate limit of the requests for episodes.
            index: Index of the episodes.
            ready_after: A day is harvested this long after it ends; its useractions must be indexed by then.
            chosen: Episodes for the runs that are opened here; None: those of each day.
        """
        self._engage = engage
        self._admin = admin
        self._store = store
        self._dead_letters = dead_letters
        self._upstream = upstream
        self._infix = settings.index_infix
        self._names = episode.Names(
            settings.episodes_workflow, settings.episodes_capture, settings.episodes_retract
        )
        self._throttle = throttle
        self._index = index
        self._ready_after = ready_after
        self._chosen = chosen
        # The threads live as long as the stream, because a thread's first request costs a digest challenge.
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "episodes")

    def now(self) -> datetime:
        """Return Opencast's clock, UTC; both hosts must answer."""
        self._admin.workflows(NOTHING, self._names.definition)
        return self._engage.now()

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the day that contains the watermark, `ready_after` its end."""
        return next_day(watermark, now, self._ready_after)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark: a day that is over has no late rows."""
        return watermark

    def plan(self, run: Run, *, late: Sequence[Interval], delivered: IdsByTime) -> Plan[EpisodeChunk]:  # noqa: ARG002 - nothing is late
        """Cut the episodes of the run's day, or the chosen ones, into chunks.

        Raises:
            BadInputError: No index matches the chosen pattern.
            BlockedError: The day has no index but should have one.
            RetryableError: Its useractions are not all harvested yet.
        """
        if self._chosen is None:
            self._require_whole(run.window)
        elif self._chosen.source_index_pattern is not None:
            self._require_match(self._chosen.source_index_pattern)
        mpids = sorted(self._mpids(run.window))
        starts = range(0, len(mpids), run.batch_size)
        chunks = [EpisodeChunk(run.window, mpids[start : start + run.batch_size]) for start in starts]
        return Plan(chunks, len(mpids))

    def count(self, interval: Interval, *, wait: float) -> int:  # noqa: ARG002 - asks Opencast nothing
        """Return how many episodes the useractions in `interval` name, counted once per day."""
        starts = (interval.start + n * DAY for n in range(-(-interval.seconds // DAY_SECONDS)))
        return sum(len(self._mpids(Interval(start, start + DAY))) for start in starts)

    def work(self, run: Run, slice_: EpisodeChunk, reporter: TimeReporter) -> Delivered:
        """Look up the episodes of a chunk and write their documents.

        An episode that cannot be looked up does not hold up the others: they are written first and not requested
        again.
        """
        start = slice_.interval.start
        at = start.timestamp()
        delivered = reporter.delivered(start, start + SECOND)
        counts: Counter[str] = Counter()
        documents, failures = self._look_up(
            [mpid for mpid in slice_.mpids if mpid not in delivered], run.wait, counts
        )
        refused: list[tuple[Document, str]] = []
        for written in self._store.write(documents):
            reporter.confirm(Outgoing(document.id, at, "") for document in written.confirmed)
            refused.extend(written.refused)
        for document, reason in refused:
            payload = {"mpid": document.id, "document": dict(document.body)}
            # Not reported as known: if the chunk is tried again, it must be counted again.
            self._dead_letters.put(DeadLetter.of_record(self.name, document.id, reason, payload))
        dead = len(refused) + self._give_up_refused(failures, answered=bool(documents))
        if failures:
            raise next(iter(failures.values()))
        repeated = sum(mpid in delivered for mpid in slice_.mpids)
        return Delivered(len(slice_.mpids), dead, counts, repeated)

    def _give_up_refused(self, failures: dict[str, SourceError | BlockedError], *, answered: bool) -> int:
        """Write dead letters for the episodes that a host refuses while it returns others.

        They are removed from `failures`. Returns how many there were.

        Raises:
            SourceError: A host fails for other episodes too.
            BlockedError: A host refuses other episodes too.
        """
        if not any(isinstance(error, BlockedError) for error in failures.values()):
            return 0
        self.now()
        own_refusals(failures, answered=answered, neutral=lambda: None)
        refused = [mpid for mpid, error in failures.items() if isinstance(error, BlockedError)]
        for mpid in refused:
            reason = str(failures.pop(mpid))
            self._dead_letters.put(DeadLetter.of_record(self.name, mpid, reason, {"mpid": mpid}))
        return len(refused)

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Look up and write the episodes of a dead letter (of a record or a slice); return how many were written.

        Raises:
            PoisonError: The store still refuses an episode.
            SourceError: An episode still cannot be looked up.
        """
        mpids = payload["mpids"] if "mpids" in payload else [payload["mpid"]]
        if not (isinstance(mpids, list) and all(isinstance(mpid, str) for mpid in mpids)):
            raise PoisonError("it does not name the episodes by their ids")
        documents, failures = self._look_up(mpids, 0, Counter())
        for written in self._store.write(documents):
            if written.refused:
                raise PoisonError(written.refused[0][1])
        if failures:
            raise next(iter(failures.values()))
        return len(documents)

    def _mpids(self, window: Interval) -> set[str]:
        if self._chosen is not None and self._chosen.mpid is not None:
            return {self._chosen.mpid}
        pattern = self._chosen.source_index_pattern if self._chosen else None
        groups = self._store.groups(pattern or useractions_of(window.start, self._infix), ["mpid"])
        return {mpid for (mpid,), _, _ in groups if mpid}

    def _require_match(self, pattern: str) -> None:
        for part in pattern.split(","):
            if not self._store.matching(part):
                log.warning("no index matches", pattern=part)
        if not self._store.matching(pattern):
            raise BadInputError(
                f"no index matches '{pattern}'. Expected names of indices, such as"
                " 'useractions*-2017.10.*'; `manage.py documents list` has them."
            )

    def _require_whole(self, window: Interval) -> None:
        """Raise an error if the document store may still receive useractions of a day.

        A missing index alone does not mean that the day is empty. The day counts as empty if other days are indexed
        and Opencast has no useractions of it.
        """
        until = self._upstream.harvested_until()
        if until is not None and until < window.end:
            raise RetryableError(
                f"the episodes of {window.start:%F} wait: useractions are harvested up to {until:%F %T} UTC"
            )
        pattern = useractions_of(window.start, self._infix)
        if waiting := [index for index in self._upstream.held() if f"{window.start:%Y.%m.%d}" in index]:
            raise BlockedError(
                f"the episodes of {window.start:%F} wait: the index {waiting[0]} takes no documents"
            )
        if self._store.matching(pattern):
            return
        confirm = (
            " If no useractions of that day will come, go on with the next:"
            f" manage.py watermark set --stream {self.name} {window.end:%FT%TZ}"
        )
        if not self._store.matching(useractions_of(None, self._infix)):
            raise BlockedError(
                f"no index matches {pattern}, nor any other day: no useractions are indexed. Check the indexer or"
                f" Logstash, INDEX_INFIX and DOCUMENTS_URL or ES_HOST.{confirm}"
            )
        if rows := self._upstream.rows(window):
            raise BlockedError(
                f"no index matches {pattern}, but Opencast has {rows:,} useractions of that day. Harvest and index"
                f" them; check the indexer or Logstash, and INDEX_INFIX.{confirm}"
            )
        log.info("a day without useractions", day=f"{window.start:%F}")

    def _look_up(
        self, mpids: Sequence[str], wait: float, counts: Counter[str]
    ) -> tuple[list[Document], dict[str, SourceError | BlockedError]]:
        """Return the documents of existing episodes and the failures by mpid; count missing episodes and fields."""
        documents: list[Document] = []
        failures: dict[str, SourceError | BlockedError] = {}
        futures = [self._threads.submit(self._ask, mpid, wait) for mpid in mpids]
        for mpid, future in zip(mpids, futures, strict=True):
            try:
                result, workflows = future.result()
            except (SourceError, BlockedError) as error:
                failures[mpid] = error
                continue
            if result is None:
                counts[NOT_FOUND] += 1
                continue
            fields = episode.fields(mpid, result, workflows, self._names)
            counts.update(_missing(result, fields))
            documents.append(Document(self._index, mpid, fields, update=True))
        return documents, failures

    def _ask(self, mpid: str, wait: float) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        self._throttle.turn(wait)
        result = self._engage.episode(mpid)
        return result, [] if result is None else self._admin.workflows(mpid, self._names.definition)


def _missing(result: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterable[str]:
    if result.get("deleted"):
        yield "deleted"
    if not many(members(members(result.get("mediapackage")).get("attachments")).get("attachment")):
        yield "without_attachments"
    for name, field in (("start", "start"), ("duration", "duration"), ("workflow", "live_stream")):
        if field not in fields:
            yield f"without_{name}"
