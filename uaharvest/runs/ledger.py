"""The ledger: the state of the open runs, in Redis.

Celery messages are only hints. The ledger records which slices are outstanding, which worker holds each of them and
which are done. Every change is one Lua script (in uaharvest/lua), so the ledger stays consistent when a worker dies,
is late or repeats a step. The durable record of progress is the watermark: if Redis loses its data, the window and its
overlap are harvested again, but no event is lost. Failures and ticks are kept by `state`.

The Redis keys are defined in `uaharvest.keys`.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import redis

from uaharvest import counters, keys
from uaharvest.intervals import Interval
from uaharvest.lua import script

HISTORY_LENGTH = 50
# Seconds. The keys of a private run expire, so that they do not stay behind if its process dies.
PRIVATE_TTL = 86_400

_SCRIPTS = (
    "run_open",
    "run_look",
    "run_mark",
    "run_count",
    "run_next_window",
    "run_close",
    "slices_take",
    "slices_foremost",
    "slices_in_flight",
    "slice_claim",
    "slice_renew",
    "slice_release",
    "slice_complete",
    "slice_split",
)

RunKind = Literal["live", "explicit", "private", "backfill"]
RunOutcome = Literal["done", "void"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as stored in the ledger.

    Attributes:
        id: Random, so that a message left over from before Redis lost its data cannot complete another run's slice.
        stream: Name of its stream.
        kind: A `live` run follows the watermark. An `explicit` run was requested, and all workers share it. A
            `private` run was requested too, but only one process works on it, because its source or sink is not the
            configured one. A `backfill` run is one window of a backfill, which has a ledger of its own.
        requested: The whole interval that it harvests; for a live run, its window.
        window: The part that is being harvested now; an explicit run proceeds window by window.
        etag: The watermark's ETag when the run was opened; None if the run may not move the watermark.
        epoch: The watermark's epoch; known ids are kept per epoch.
        known_from: Delivered rows from this time on are marked as known; None: no rows are.
        batch_size: Maximum number of rows per request.
        wait: Minimum seconds between two requests to the source, across all workers.
        opened_at: By the clock of the host that opened it.
        source_now: The source's clock when it was opened. Runs of earlier versions and windows of backfills have none.
        destination: Digest of source and queue. A worker with a different digest neither works on the run nor
            commits it. Runs of earlier versions have none.
        planned, done, outstanding: Numbers of slices.
        counts: The stream's own counts, by name.
        expected: Number of rows in `requested` according to the source.
        trouble: The latest reason for putting off a slice.
        found, delivered, dead: Rows in the slices that are done; rows confirmed by the sink; dead letters.
    """

    id: str
    stream: str
    kind: RunKind
    requested: Interval
    window: Interval
    etag: str | None
    epoch: str
    known_from: datetime | None
    batch_size: int
    wait: int
    opened_at: datetime
    source_now: datetime | None = None
    destination: str = ""
    planned: int = 0
    done: int = 0
    outstanding: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    expected: int = 0
    found: int = 0
    delivered: int = 0
    dead: int = 0
    trouble: str = ""

    @property
    def finished(self) -> bool:
        """Tell whether this window is delivered: all planned slices were counted as done.

        It is not enough that none are outstanding, because Redis may have lost them.
        """
        return self.planned == self.done and not self.outstanding


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that has ended, as stored in the history.

    Attributes:
        id, kind: Those of the run.
        start, end: The whole interval that it harvested.
        outcome: `done` or `void`. Another run harvests what a void run did not deliver, or it must be requested
            again.
        note: The reason, or a remark.
        slices, records: Slices that were done, and the rows in them.
        delivered, dead_letters: Rows that the sink confirmed, and rows that became dead letters.
        counts: The stream's own counts, by name.
        seconds: Time from opening to end.
        closed_at: By the clock of the host that closed it.
    """

    id: str
    kind: RunKind
    start: datetime
    end: datetime
    outcome: RunOutcome
    note: str
    slices: int
    records: int
    delivered: int
    dead_letters: int
    counts: Mapping[str, int]
    seconds: float
    closed_at: datetime

    @classmethod
    def parse(cls, text: str) -> "EndedRun":
        """Parse the JSON form of `entry()`. Other versions may have written more fields, or no counts."""
        entry = {"counts": {}} | json.loads(text)
        entry |= {name: datetime.fromisoformat(entry[name]) for name in ("start", "end", "closed_at")}
        return cls(**{field.name: entry[field.name] for field in dataclasses.fields(cls)})

    def entry(self) -> dict[str, Any]:
        """Return the fields that the history stores and `status --json` prints."""
        times = {name: f"{getattr(self, name):%FT%TZ}" for name in ("start", "end", "closed_at")}
        return {**dataclasses.asdict(self), **times}


@dataclasses.dataclass(frozen=True, slots=True)
class SliceCounts:
    """Numbers of outstanding slices of a run: due, claimed by a worker, put off until later."""

    due: int
    claimed: int
    put_off: int


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """One worker's lease of a slice.

    Attributes:
        slice_id: The slice.
        token: Random; distinguishes this claim from a later one of the same slice.
        attempts: Attempts used so far, including this one.
        waits: How many times in a row the slice was put off; determines the next back-off.
        progress: How many slices the stream had completed when this one last failed; None if it has not failed.
    """

    slice_id: str
    token: str
    attempts: int
    waits: int
    progress: int | None


class Ledger:
    """The ledger of one stream."""

    def __init__(self, client: "redis.Redis", stream: str, *, lease: float, deployment: str = "") -> None:
        """Use `client`, which must decode responses. `lease` is in seconds; `deployment` is a digest."""
        self._redis = client
        self.stream = stream
        self.place = keys.place(stream, deployment)
        self.lease = lease
        self._scripts = {name: script(client, name) for name in _SCRIPTS}

    def open(self, run: Run, slices: Sequence[str]) -> bool:
        """Write `run` and its slices. A live run also takes the slot; return False if the slot was taken."""
        fields = {
            "stream": run.stream,
            "kind": run.kind,
            "asked": str(run.requested),
            "window": str(run.window),
            "etag": run.etag or "",
            "epoch": run.epoch,
            "destination": run.destination,
            "known_from": _text_of(run.known_from),
            "batch_size": str(run.batch_size),
            "wait": str(run.wait),
            "opened_at": str(run.opened_at.timestamp()),
            "source_now": _text_of(run.source_now),
            "expected": str(run.expected),
        }
        shelf = (keys.SLOT if run.kind == "live" else keys.EXPLICIT)(self.place)
        arguments = [run.id, run.kind, json.dumps(fields), json.dumps(slices), keys.RUN("%s")]
        opened = self._call("run_open", run.id, [shelf], arguments)
        if run.kind == "private":
            self._expire(run.id)
        return bool(opened)

    def live(self) -> Run | None:
        """Return the open live run."""
        return self._look("")

    def run(self, run_id: str) -> Run | None:
        """Return the open run `run_id`."""
        return self._look(run_id)

    def explicit(self) -> list[str]:
        """Return the ids of the open explicit runs that the workers share, or of the open windows of backfills."""
        return sorted(str(run_id) for run_id in self._redis.smembers(keys.EXPLICIT(self.place)))

    def take(self, run_id: str, most: int) -> list[str]:
        """Return up to `most` slices that are due and were not hinted recently, and mark them as hinted."""
        return list(self._call("slices_take", run_id, [], [most, int(self.lease * 1000)]))

    def in_flight(self, run_id: str) -> int:
        """Count the slices that a worker holds, or that a hint is on its way for."""
        return int(self._call("slices_in_flight", run_id, [], [int(self.lease * 1000)]))

    def unhint(self, run_id: str, slices: Sequence[str]) -> None:
        """Mark these slices as not hinted, because the message could not be sent."""
        self._redis.zrem(keys.RUN_HINTED(run_id), *slices)

    def claim(self, run_id: str, slice_id: str, token: str) -> Claim | None:
        """Lease `slice_id` and count the attempt; None if it is done, not yet due, or leased by another worker."""
        answer = self._call("slice_claim", run_id, [], [slice_id, token, int(self.lease * 1000)])
        if not answer:
            return None
        attempts, waits, progress = map(int, answer)
        return Claim(slice_id, token, attempts, waits, None if progress < 0 else progress)

    def renew(self, run_id: str, claim: Claim) -> bool:
        """Restart the lease; False if the slice is done or another worker has claimed it."""
        return bool(self._call("slice_renew", run_id, [], [claim.slice_id, claim.token, int(self.lease * 1000)]))

    def foremost(self, run_id: str) -> str | None:
        """Return the first outstanding slice if all outstanding slices have failed; None otherwise."""
        answer = self._call("slices_foremost", run_id, [], [])
        return str(answer) if answer else None

    def complete(
        self,
        run_id: str,
        slice_id: str,
        *,
        found: int,
        dead: int = 0,
        counts: Mapping[str, int] | None = None,
        repeated: int = 0,
    ) -> bool:
        """Remove a slice whose rows are all confirmed; False if it was already removed."""
        arguments = [slice_id, found, dead, json.dumps(dict(counts or {})), repeated]
        return self._end("slice_complete", run_id, [keys.PROGRESS(self.place)], arguments)

    def split(self, run_id: str, slice_id: str, parts: Iterable[str], *, attempts: int = 0) -> bool:
        """Replace the slice with `parts`, if it is still outstanding."""
        return self._end("slice_split", run_id, [], [slice_id, json.dumps(list(parts)), attempts])

    def release(self, run_id: str, claim: Claim, *, delay: float, attempts: int, waits: int, reason: str) -> bool:
        """Give the slice back; it may be claimed again after `delay` seconds."""
        arguments = [claim.slice_id, claim.token, int(delay * 1000), attempts, waits, reason]
        return self._end("slice_release", run_id, [keys.PROGRESS(self.place)], arguments)

    def mark(
        self, run_id: str, known: Sequence[str], rows: Sequence[tuple[float, int | str]], *, delivered: int
    ) -> None:
        """Add `rows` (event time, id; at most 1,000) to the sets `known` and count them, atomically."""
        arguments: list[float | int | str] = [delivered]
        for row in rows:
            arguments += row
        self._call("run_mark", run_id, [keys.COUNTERS(self.place), *known], arguments)

    def count(self, run_id: str, counts: Mapping[str, int]) -> None:
        """Add to the stream's own counts, by name."""
        if counts:
            self._call("run_count", run_id, [], [part for item in counts.items() for part in item])

    def next_window(self, run: Run, window: Interval, slices: Sequence[str]) -> bool:
        """Move an explicit run on to `window` if its current window is done; False if it was not or another did so."""
        arguments = [str(run.window), str(window), json.dumps(slices)]
        opened = self._call("run_next_window", run.id, [], arguments)
        if run.kind == "private":
            self._expire(run.id)
        return bool(opened)

    def close(self, run: Run, outcome: RunOutcome, note: str = "") -> bool:
        """Delete the run, free the slot if this run holds it, and add the outcome to the history; only once."""
        now = datetime.now(UTC)
        ended = EndedRun(
            id=run.id,
            kind=run.kind,
            start=run.requested.start,
            end=run.requested.end,
            outcome=outcome,
            note=note,
            slices=run.done,
            records=run.found,
            delivered=run.delivered,
            dead_letters=run.dead,
            counts=run.counts,
            seconds=round((now - run.opened_at).total_seconds(), 1),
            closed_at=now,
        )
        more = [key(self.place) for key in (keys.SLOT, keys.EXPLICIT, keys.HISTORY)]
        return bool(self._call("run_close", run.id, more, [run.id, json.dumps(ended.entry()), HISTORY_LENGTH]))

    def progress(self) -> int:
        """Return how many slices the stream has completed since Redis last was empty."""
        return int(self._redis.get(keys.PROGRESS(self.place)) or 0)

    def forget(self, run_id: str) -> None:
        """Drop the id of an explicit run whose data Redis has lost."""
        self._redis.srem(keys.EXPLICIT(self.place), run_id)

    def slices(self, run_id: str) -> SliceCounts:
        """Count the outstanding slices of a run."""
        seconds, microseconds = self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        outstanding: Any = self._redis.zrange(keys.RUN_DUE(run_id), 0, -1, withscores=True)
        states = self._redis.hgetall(keys.RUN_SLICES(run_id))
        due = sum(score <= now for _, score in outstanding)
        waiting = [slice_id for slice_id, score in outstanding if score > now]
        claimed = sum("token" in json.loads(states.get(slice_id, "{}")) for slice_id in waiting)
        return SliceCounts(due=due, claimed=claimed, put_off=len(waiting) - claimed)

    def next_due(self, run_id: str) -> datetime | None:
        """Return when the first outstanding slice is due or its lease ends; None if there is no such slice."""
        first: Any = self._redis.zrange(keys.RUN_DUE(run_id), 0, 0, withscores=True)
        return datetime.fromtimestamp(first[0][1] / 1000, UTC) if first else None

    def _call(self, name: str, run_id: str, more: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self._script(name, [*_keys_of(run_id), *more], arguments)

    def _end(self, name: str, run_id: str, more: Sequence[str], arguments: Sequence[Any]) -> bool:
        """Call a script that ends the work at a slice; it also writes what this process has counted."""
        with counters.taken_as_json() as counted:
            return bool(self._call(name, run_id, [*more, keys.COUNTERS(self.place)], [*arguments, counted]))

    def _script(self, name: str, of: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self._scripts[name](keys=of, args=arguments)

    def _expire(self, run_id: str) -> None:
        for key in _keys_of(run_id):
            self._redis.expire(key, PRIVATE_TTL)

    def _look(self, run_id: str) -> Run | None:
        """Return a run by its id, or with "" the one in the slot."""
        arguments = [run_id, keys.RUN("%s"), keys.RUN_DUE("%s")]
        answer = self._script("run_look", [keys.SLOT(self.place)], arguments)
        if not answer or not answer[1]:
            return None
        found, flat, outstanding = answer
        fields: Mapping[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
        return Run(
            id=found,
            stream=fields["stream"],
            kind=fields["kind"],  # type: ignore[arg-type]
            requested=Interval.parse(fields["asked"]),
            window=Interval.parse(fields["window"]),
            etag=fields["etag"] or None,
            epoch=fields["epoch"],
            destination=fields.get("destination", ""),
            known_from=_instant_in(fields["known_from"]),
            batch_size=int(fields["batch_size"]),
            wait=int(fields["wait"]),
            opened_at=datetime.fromtimestamp(float(fields["opened_at"]), UTC),
            source_now=_instant_in(fields.get("source_now", "")),
            trouble=fields.get("trouble", ""),
            outstanding=outstanding,
            counts={
                name.removeprefix("count:"): int(count)
                for name, count in fields.items()
                if name.startswith("count:")
            },
            **{
                name: int(fields.get(name, 0))
                for name in ("planned", "done", "expected", "found", "delivered", "dead")
            },
        )


def _text_of(instant: datetime | None) -> str:
    return str(instant.timestamp()) if instant else ""


def _instant_in(text: str) -> datetime | None:
    return datetime.fromtimestamp(float(text), UTC) if text else None


def _keys_of(run_id: str) -> list[str]:
    """Return the keys of a run, in the order that all run scripts expect."""
    return [key(run_id) for key in (keys.RUN, keys.RUN_DUE, keys.RUN_HINTED, keys.RUN_SLICES, keys.RUN_SENT)]
