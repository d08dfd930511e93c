"""The stream of episodes: windows of a day (UTC), whose useractions say which episodes were watched."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents import episode
from uaharvest.errors import BlockedError, PoisonError, SourceError
from uaharvest.opencast.client import NOTHING, Opencast
from uaharvest.opencast.foreign import many, members
from uaharvest.opencast.pace import Pace
from uaharvest.runs.days import DAY, Days, next_day
from uaharvest.runs.known import KnownIds, SliceDesk
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Plan, Tally
from uaharvest.runs.windows import Interval
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing
from uaharvest.sinks.documents import Document, DocumentStore

SECOND = timedelta(seconds=1)
# Few, for a slice names its episodes: their ids are short, and a slice that is put off holds back no others.
CHUNK = 10
FETCHES_AT_ONCE = 4

GONE = "gone"  # the name of a count


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """A slice: some episodes.

    Its id names them. So nothing else must be kept with a run, in which a lost Redis or a list that has grown
    meanwhile could leave holes, and a worker needs to know nothing of what a person chose.

    Attributes:
        window: The window of its run.
        mpids: Ids of mediapackages.
    """

    window: Interval
    mpids: Sequence[str]

    @classmethod
    def parse(cls, slice_id: str) -> "Chunk":
        """Read what `str()` of a chunk wrote."""
        window, _, mpids = slice_id.partition(" ")
        return cls(Interval.parse(window), json.loads(mpids))

    def __str__(self) -> str:
        return f"{self.window} {json.dumps(list(self.mpids), separators=(',', ':'))}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The episodes that a person chose, in place of those of a day.

    Attributes:
        source_index_pattern: Those of the useractions in these indices.
        mpid: This one.
    """

    source_index_pattern: str | None = None
    mpid: str | None = None


class Episodes(Days):
    """The stream `episodes`."""

    name = "episodes"

    def __init__(
        self,
        engage: Opencast,
        admin: Opencast,
        store: DocumentStore,
        letters: DeadLetters,
        settings: Settings,
        *,
        pace: Pace,
        index: str,
        ready_after: timedelta,
        chosen: Chosen | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            engage: Knows the episodes.
            admin: Knows their workflows.
            store: Has the useractions, and gets the episodes.
            letters: For documents that the store refuses.
            settings: For the names of indices and workflows.
            pace: Of the requests for episodes.
            index: Where the episodes go.
            ready_after: A day is harvested when so much time has passed since its end: its useractions must be
                indexed by then.
            chosen: What the runs that are opened here are about; None: a day.
        """
        self._engage = engage
        self._admin = admin
        self._store = store
        self._letters = letters
        self._infix = settings.index_infix
        self._names = episode.Names(
            settings.episodes_workflow, settings.episodes_capture, settings.episodes_retract
        )
        self._pace = pace
        self._index = index
        self._ready_after = ready_after
        self._chosen = chosen
        # Kept, with its threads, for the stream's life: a thread's first request costs a digest challenge.
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, "episodes")

    def now(self) -> datetime:
        """Return Opencast's clock, UTC; both hosts must answer."""
        self._admin.workflows(NOTHING, self._names.definition)
        return self._engage.now()

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the day in which the watermark lies, once it is over and its useractions are indexed."""
        return next_day(watermark, now, self._ready_after)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark: nothing comes late to a day that is over."""
        return watermark

    def plan(self, run: Run, *, late: Sequence[Interval], known: KnownIds) -> Plan:  # noqa: ARG002 - nothing is late
        """Cut the episodes of the run's day, or those that were chosen, into chunks."""
        mpids = sorted(self._mpids(run.window))
        starts = range(0, len(mpids), run.batch_size)
        chunks = [Chunk(run.window, mpids[start : start + run.batch_size]) for start in starts]
        return Plan([str(chunk) for chunk in chunks], len(mpids))

    def count(self, interval: Interval, *, wait: float) -> int:  # noqa: ARG002 - asks Opencast nothing
        """Return how many episodes the useractions of the days in `interval` name, once for each day."""
        starts = (interval.start + n * DAY for n in range(-(-interval.seconds // int(DAY.total_seconds()))))
        return sum(len(self._mpids(Interval(start, start + DAY))) for start in starts)

    def work(self, run: Run, slice_id: str, desk: SliceDesk) -> Tally:
        """Look up the episodes of a chunk and write what is known of them.

        One that cannot be looked up holds back no other: the others are written first, and not asked for again.
        """
        chunk = Chunk.parse(slice_id)
        at = chunk.window.start.timestamp()
        known = desk.known(chunk.window.start, chunk.window.start + SECOND)
        counts: Counter[str] = Counter()
        documents, failures = self._look_up([mpid for mpid in chunk.mpids if mpid not in known], run.wait, counts)
        refused: list[tuple[Document, str]] = []
        for written in self._store.write(documents):
            desk.confirm(Outgoing(document.id, at, "") for document in written.confirmed)
            refused.extend(written.refused)
        for document, reason in refused:
            payload = {"mpid": document.id, "document": dict(document.body)}
            # Not reported as known: were the chunk tried again, it would be missing in what is counted then.
            self._letters.put(DeadLetter.of_record(self.name, document.id, reason, payload))
        if failures:
            # What a person must mend comes first: all others fail of it.
            raise next((error for error in failures if isinstance(error, BlockedError)), failures[0])
        return Tally(len(chunk.mpids), len(refused), counts)

    def halves(self, slice_id: str) -> Sequence[str]:
        """Return two halves of a chunk of more than one episode."""
        chunk = Chunk.parse(slice_id)
        middle = len(chunk.mpids) // 2
        parts = (chunk.mpids[:middle], chunk.mpids[middle:])
        return [str(dataclasses.replace(chunk, mpids=part)) for part in parts] if middle else []

    def slice_interval(self, slice_id: str) -> Interval:
        """Return the window of the chunk's run."""
        return Chunk.parse(slice_id).window

    def slice_payload(self, slice_id: str) -> dict[str, Any]:
        """Return the ids of the chunk."""
        return {"mpids": list(Chunk.parse(slice_id).mpids)}

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Look up the episodes of a dead letter, of a record or of a slice, and write them; return how many.

        Raises:
            PoisonError: The store still refuses one.
            SourceError: One still cannot be looked up.
        """
        mpids = payload["mpids"] if "mpids" in payload else [payload["mpid"]]
        documents, failures = self._look_up(mpids, 0, Counter())
        for written in self._store.write(documents):
            if written.refused:
                raise PoisonError(written.refused[0][1])
        if failures:
            raise failures[0]
        return len(documents)

    def _mpids(self, window: Interval) -> set[str]:
        if self._chosen is not None and self._chosen.mpid is not None:
            return {self._chosen.mpid}
        pattern = self._chosen.source_index_pattern if self._chosen else None
        if pattern is None:
            # Without an infix of our own a stack's name may stand there: Logstash was told one.
            family = f"useractions-{self._infix}-" if self._infix else "useractions*-"
            pattern = f"{family}{window.start:%Y.%m.%d}"
        return {mpid for mpid in self._store.distinct(pattern, "mpid") if mpid}

    def _look_up(
        self, mpids: Sequence[str], wait: float, counts: Counter[str]
    ) -> tuple[list[Document], list[SourceError | BlockedError]]:
        """Return the documents of the episodes that there are, and the failures; count what is missing."""
        documents, failures = [], []
        futures = [self._threads.submit(self._ask, mpid, wait) for mpid in mpids]
        for mpid, future in zip(mpids, futures, strict=True):
            try:
                result, workflows = future.result()
            except (SourceError, BlockedError) as error:
                failures.append(error)
                continue
            if result is None:
                counts[GONE] += 1
                continue
            fields = episode.fields(mpid, result, workflows, self._names)
            counts.update(_missing(result, fields))
            documents.append(Document(self._index, mpid, fields, update=True))
        return documents, failures

    def _ask(self, mpid: str, wait: float) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        self._pace.turn(wait)
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
