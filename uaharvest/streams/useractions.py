"""The stream of useractions: windows of time, cut by time into slices of about a batch each."""

import collections
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import redis

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.documents.useraction import record
from uaharvest.errors import BlockedError, PoisonError, RetryableError, SourceError
from uaharvest.opencast.actions import UserAction, read_action
from uaharvest.opencast.cache import EpisodeCache
from uaharvest.opencast.source import RangeSource, TooMany
from uaharvest.opencast.times import ambiguous, look_back
from uaharvest.runs.known import KnownIds, SliceDesk
from uaharvest.runs.ledger import Run
from uaharvest.runs.stream import Desk, Plan, Split, Tally
from uaharvest.runs.windows import Interval, next_window, whole_second, without
from uaharvest.settings import Settings
from uaharvest.sinks import Outgoing, Sink

SECOND = timedelta(seconds=1)
# Where late rows are searched for by halves, what is left is fetched once it is this small: cheaper than two more
# requests that count.
SMALL = 500
# Slices are cut so that a fifth of the batch stays free: rows are not spread evenly, and Opencast counts the second
# that two slices share in both. Cut to hold a whole batch, every other one is too big: fetched in vain, cut again.
SPARE = 5
# A page of which more than this share cannot be read is a source that changed, not some bad rows.
UNREADABLE_SHARE = 0.05
FEW = 3

# Rows of the same second share their instant.
_seconds = functools.lru_cache(maxsize=4096)(datetime.timestamp)


class Useractions:
    """The stream `useractions`."""

    name = "useractions"

    def __init__(
        self,
        source: RangeSource,
        episodes: EpisodeCache,
        sink: Sink,
        letters: DeadLetters,
        settings: Settings,
    ) -> None:
        """Read from `source`, enrich from `episodes`, deliver to `sink`; what can never go there to `letters`."""
        self._source = source
        self._episodes = episodes
        self._sink = sink
        self._letters = letters
        self._settings = settings

    @property
    def longest_window(self) -> int:
        """Return HARVEST_MAX_WINDOW."""
        return self._settings.max_window

    def now(self) -> datetime:
        """Return Opencast's clock, UTC."""
        return self._source.now(wait=self._settings.wait)

    def begin(self, now: datetime, minutes: int) -> datetime:
        """Return the instant so many minutes before now."""
        return whole_second(now - timedelta(minutes=minutes))

    def next_window(self, watermark: datetime, now: datetime) -> Interval | None:
        """Return the window after `watermark`, at most HARVEST_MAX_WINDOW long."""
        return next_window(watermark, now, lag=self._settings.lag, longest=self._settings.max_window)

    def first_window(self, rest: Interval) -> Interval:
        """Return the first window of an explicit run's `rest`, at most HARVEST_MAX_WINDOW long."""
        return Interval(rest.start, min(rest.end, rest.start + timedelta(seconds=self._settings.max_window)))

    def known(self, client: "redis.Redis", key: str) -> KnownIds:
        """Return the ids that are known at `key`."""
        return KnownIds(client, key)

    def late_from(self, watermark: datetime) -> datetime:
        """Return the watermark less HARVEST_OVERLAP_SECONDS, more where clocks went back."""
        return look_back(watermark, timedelta(seconds=self._settings.overlap), self._settings.opencast_zone)

    def plan(self, run: Run, *, late: Sequence[Interval], known: KnownIds) -> Plan:
        """Cut the window by its total, and find the late rows before it by comparing counts."""
        window = run.window
        # Late rows first: a row that appears between the two requests is then at worst seen twice, as known.
        slices = [slice_ for interval in late for slice_ in self._late_slices(run, interval, known)]
        # Rows are compared by whole seconds: what lies between the last of them and the window joins the window.
        if late and late[-1].end == window.start and run.kind == "live":
            window = Interval(window.start - SECOND, window.end)
            slices = without(slices, [window])
        total = self._total(window.start, window.end, run.wait)
        if total is None:
            slices.append(window)
        elif total:
            slices += window.cut(_parts(total, run.batch_size))
        else:
            self._source.check_zone_around(window.start, window.end, wait=run.wait)
        return Plan([str(slice_) for slice_ in slices], total or 0)

    def count(self, interval: Interval, *, wait: float) -> int:
        """Return how many rows Opencast says there are in `interval`; 0 where it cannot tell."""
        return self._total(interval.start, interval.end, wait) or 0

    def work(self, run: Run, slice_id: str, desk: SliceDesk) -> Tally | Split:
        """Fetch the slice, leave out what is known, enrich and deliver the rest."""
        slice_ = Interval.parse(slice_id)
        page = self._source.fetch(slice_, run.batch_size, wait=run.wait)
        if isinstance(page, TooMany):
            return Split([str(part) for part in slice_.cut(_parts(page.total, run.batch_size))])
        known = desk.known(slice_.start, slice_.end)
        new = [action for action in page.actions if str(action.id) not in known] if known else page.actions
        dead = self._bury_unreadable(page.unreadable, len(page.actions), slice_, desk)
        dead += self._send(new, desk)
        return Tally(len(page.actions) + len(page.unreadable), dead)

    def halves(self, slice_id: str) -> Sequence[str]:
        """Return two halves of a slice of more than a second."""
        parts = Interval.parse(slice_id).cut(2)
        return [str(part) for part in parts] if len(parts) > 1 else []

    def slice_interval(self, slice_id: str) -> Interval:
        """Return the time that the slice stands for."""
        return Interval.parse(slice_id)

    def slice_payload(self, slice_id: str) -> dict[str, Any]:
        """Return the time that the slice stands for."""
        interval = self.slice_interval(slice_id)
        return {"start": f"{interval.start:%FT%TZ}", "end": f"{interval.end:%FT%TZ}"}

    def redeliver(self, payload: Mapping[str, Any]) -> int:
        """Send the record of a dead letter after all; return that it was one.

        Raises:
            PoisonError: It still cannot be read, or the sink still refuses it.
        """
        if "raw" in payload:
            action = read_action(payload["raw"])
            episodes = self._episodes.get_many([action.mpid] if action.mpid else [])
            body = record(action, episodes.get(action.mpid or "", "{}"))
        else:
            body = json.dumps(payload["record"], separators=(",", ":"))
        for delivery in self._sink.deliver([Outgoing("replayed", 0.0, body)]):
            if delivery.refused:
                raise PoisonError(delivery.refused[0][1])
        return 1

    def _late_slices(self, run: Run, late: Interval, known: KnownIds) -> list[Interval]:
        # The watermark's own second is the window's: the ranges compared are closed, as Opencast counts.
        last = late.end - SECOND
        # In a repeated hour the server counts rows that it tells as of another hour: nothing to compare.
        if last < late.start or ambiguous(last, self._settings.opencast_zone):
            return []
        return self._differing(run, late.start, last, known)

    def _differing(self, run: Run, first: datetime, last: datetime, known: KnownIds) -> list[Interval]:
        """Return the parts of [first, last] in which the source counts other rows than are known."""
        # Known first, the source second: a row that is confirmed in between then shows as a difference, at worst.
        expected = known.count(first, last)
        total = self._total(first, last, run.wait)
        whole = Interval(first, last + SECOND)
        if total is None:
            return [whole]
        if total == expected:
            return []
        # Where most rows are new (known ids lost with Redis) halving would only ask the more.
        if total <= SMALL or expected < total // 2 or whole.seconds == 1:
            return whole.cut(_parts(total, run.batch_size))
        middle = first + SECOND * (whole.seconds // 2)
        halves = [
            *self._differing(run, first, middle - SECOND, known),
            *self._differing(run, middle, last, known),
        ]
        # Closed ranges of whole seconds leave out what has a fraction between them.
        return halves or [Interval(middle - SECOND, middle)]

    def _total(self, first: datetime, last: datetime, wait: float) -> int | None:
        """Count; None where Opencast answers, but not this: a row that it cannot tell spoils what it is in.

        What cannot be counted is planned as one slice, of which halves and a dead letter make what is possible.
        """
        try:
            return self._source.total(first, last, wait=wait)
        except SourceError:
            self.now()  # in an outage this fails too, and the next tick tries again
            return None

    def _bury_unreadable(
        self, unreadable: Sequence[tuple[dict[str, Any], str]], readable: int, slice_: Interval, desk: Desk
    ) -> int:
        if len(unreadable) > max(FEW, UNREADABLE_SHARE * (readable + len(unreadable))):
            raise BlockedError(
                f"{len(unreadable)} of {readable + len(unreadable)} useractions of Opencast cannot be read: "
                f"{unreadable[0][1]} Its answers may have changed with an upgrade."
            )
        for raw, reason in unreadable:
            text = json.dumps(raw, sort_keys=True)
            row_id = str(raw.get("id") or "") or hashlib.sha256(text.encode()).hexdigest()
            self._bury(row_id, slice_.start.timestamp(), {"raw": raw}, reason, desk)
        return len(unreadable)

    def _send(self, actions: Sequence[UserAction], desk: Desk) -> int:
        """Enrich and deliver; return how many became dead letters."""
        try:
            episodes = self._episodes.get_many({action.mpid for action in actions if action.mpid})
        except SourceError as error:
            # A search that is down while useractions come is not this slice's fault: it uses up no attempts. One
            # episode that it fails at would hold up everything for ever.
            if self._episodes.answers():
                raise
            raise RetryableError(str(error)) from error
        return self._deliver(actions, episodes, desk)

    def _deliver(self, actions: Sequence[UserAction], episodes: Mapping[str, str], desk: Desk) -> int:
        refused: list[tuple[Outgoing, str]] = []
        outgoing = (
            Outgoing(action.id, _seconds(action.created), record(action, episodes.get(action.mpid or "", "{}")))
            for action in actions
        )
        for delivery in self._sink.deliver(outgoing):
            desk.confirm(delivery.confirmed)
            refused.extend(delivery.refused)
        desk.count(collections.Counter(lack for action in actions for lack in action.omitted))
        for row, reason in refused:
            self._bury(row.id, row.at, {"record": json.loads(row.body)}, reason, desk)
        return len(refused)

    def _bury(self, row_id: int | str, at: float, payload: dict[str, Any], reason: str, desk: Desk) -> None:
        """Write a record's dead letter; only then does the record count as known."""
        self._letters.put(DeadLetter.of_record(self.name, row_id, reason, payload))
        desk.bury([(at, row_id)])


def _parts(total: int, batch_size: int) -> int:
    """Return into how many slices `total` rows are cut."""
    return 1 if total <= batch_size else -(-total // (batch_size - batch_size // SPARE))
