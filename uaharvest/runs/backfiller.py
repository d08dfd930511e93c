"""Harvests history beside the live stream, window by window, with the stream's own parts and a ledger of its own.

What is done is recorded in S3: each slice that is an interval of time when it is delivered, and each window at its end.
So whatever is lost, only slices that were being worked on are read again. The watermark is never touched.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Generic

import structlog

from uaharvest.errors import BadInputError, HarvestError, PutOffError
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.backfills import Backfill, Backfills, require_apart, utc_now
from uaharvest.runs.hints import publish
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.pace import Pace
from uaharvest.runs.parts import Parts
from uaharvest.runs.state import reason_of
from uaharvest.runs.stream import Delivered, K, R, S, Slice, Source, Split
from uaharvest.runs.worker import Worker

# Windows and steps of one call of `advance`; another message continues.
STEPS = 100
# Seconds. A slice has no more rows than the rate allows in this time, so that a low rate is even too.
EVEN = 5
FEWEST = 20  # rows of a slice, however low the rate

log = structlog.get_logger()


class Backfiller(Generic[S, K, R]):
    """Works on the backfills of a stream that go to one destination.

    Every method may be called at any time, twice, late or not at all.

    Attributes:
        work: See `Worker.work`.
        stream, settings, state, ledger: Those of its parts.
    """

    def __init__(
        self, parts: Parts[S, K, R], backfills: Backfills, *, to: str, pace: Pace, at_once: Callable[[], int]
    ) -> None:
        """Create it.

        Args:
            parts: Those of the stream's engine, with the ledger and the state of backfills.
            backfills: All backfills of the stream.
            to: The destination of those that are worked on here.
            pace: Bounds the rows per second.
            at_once: Returns how many slices of a stream may be worked on at the same time.
        """
        self._parts = parts
        self._backfills = backfills
        self._to = to
        self._pace = pace
        self._at_once = at_once
        self.stream: Source = parts.stream
        self.settings = parts.settings
        self.state = parts.state
        self.ledger = parts.ledger
        self.work = _Worker(parts, self).work

    def check(self, requested: Interval) -> None:
        """Refuse an interval that cannot be backfilled.

        Raises:
            BadInputError: It is not over, the live stream has yet to harvest it, or another backfill overlaps.
        """
        require_apart(requested, self._backfills.read().values())
        stored = self._parts.watermarks.read() if self._parts.watermarks else None
        now = whole_second(self._parts.stream.now() - timedelta(seconds=self._parts.settings.lag))
        if stored and requested.end > stored.mark.at:
            raise BadInputError(
                f"--end {requested.end:%F %T} UTC is after the watermark, {stored.mark.at:%F %T} UTC. The live stream"
                " harvests what comes after it."
            )
        if requested.end > now:
            raise BadInputError(
                f"--end {requested.end:%F %T} UTC is not over yet. Expected {now:%F %T} UTC at most."
            )

    def start(self, requested: Interval, *, rate: int, expected: int) -> Backfill:
        """Store a new backfill; `advance` begins it.

        Raises:
            BadInputError: It overlaps with another one, or it ends too late.
        """
        self.check(requested)
        return self._backfills.add(
            Backfill.new(requested, to=self._to, rate=rate, now=utc_now(), expected=expected)
        )

    def advance(self, run_id: str | None = None) -> str:
        """Advance each running backfill, or only the one of a run, as far as possible without fetching.

        Returns:
            The outcome, in a few words for a person.

        Raises:
            HarvestError: One of them cannot go on. The others went on.
        """
        open_ = self.ledger.explicit()
        stored = self._backfills.read()
        running = [one for one in stored.values() if one.state == "running" and one.to == self._to]
        said: list[str] = []
        failed: Exception | None = None
        for one in running:
            if run_id is not None and _backfill_of(run_id) != one.id:
                continue
            with structlog.contextvars.bound_contextvars(backfill=one.id):
                try:
                    said.append(self._advance(one))
                except Exception as error:
                    unexpected = None if isinstance(error, HarvestError) else error
                    log.warning("backfill not advanced", reason=reason_of(error), exc_info=unexpected)
                    failed = failed or error
        close_old(self.ledger, open_, stored.values())
        if failed is not None:
            raise failed
        self.state.passed("opening")
        self.state.passed("explicit")
        return "; ".join(filter(None, said)) or "nothing to do"

    def wakes_at(self, run_id: str) -> datetime | None:
        """Return when to call `advance` next: nothing else triggers the slices that are put off."""
        if (turn := self._pace.next_turn()) is not None:
            return turn
        due = self.ledger.next_due(run_id)
        return due if due is not None and due > self.state.now() else None

    def publish(self, run: Run, *, ended: bool = False) -> None:
        """Send hints for as many more slices as may be worked on at once.

        Args:
            run: The run.
            ended: A slice has ended, so this is no tick. While the stream is blocked, only ticks test whether it still
                is: a slice that is blocked is due again at once.
        """
        blocked = self.state.blocked("working") is not None
        if blocked and ended:
            return
        running = [one for one in self._backfills.known.values() if one.state == "running"]
        if self._pace.next_turn() is not None or run.id not in {one.run_id for one in running}:
            return
        room = max(self._at_once() // len(running), 1) - self.ledger.in_flight(run.id)
        if room > 0:  # of more than one, `publish` sends one while the stream is blocked
            publish(self.ledger, self.state, self._parts.hints, run, max(room, 2) if blocked else room)

    def deliver(
        self, run: Run, slice_: S, work: Callable[[], Delivered | Split[S]], reporter: R
    ) -> Delivered | Split[S]:
        """Deliver a slice at the backfill's pace, and record in S3 that it is done.

        Raises:
            PutOffError: The backfill was stopped, or it is not the slice's turn yet.
        """
        one = self._backfills.read().get(_backfill_of(run.id))
        if one is None or one.state != "running":
            raise PutOffError("the backfill is stopped", datetime.now(UTC))
        span = _span(slice_)
        if span is not None and not one.rest(span):
            return Delivered(0)
        paid = self._pace.turn(one.rate, run.batch_size)
        outcome = work()
        reporter.flush()
        if isinstance(outcome, Delivered):
            read = max(outcome.found, reporter.sent)
        else:
            # If a source says that an interval has too many rows, it has read as many as were requested. Other slices
            # leave a rest after they have delivered a part.
            read = reporter.sent if span is None else run.batch_size
        self._pace.paid(one.rate, paid, read)
        if isinstance(outcome, Delivered):
            self.record(run, slice_, rows=outcome.found, dead=outcome.dead)
        return outcome

    def record(self, run: Run, slice_: S, *, rows: int, dead: int) -> None:
        """Record in S3 that a slice is done, if it is an interval; others are recorded with their window."""
        span = _span(slice_)
        if span is not None:
            self._backfills.change(
                _backfill_of(run.id), lambda stored: stored.with_span(span, rows=rows, dead=dead, now=utc_now())
            )

    def _advance(self, one: Backfill) -> str:
        for _ in range(STEPS):
            if one.state != "running":
                return f"backfill {one.id}: {one.state}"
            run = self.ledger.run(one.run_id)
            if run is None:
                one = self._open(one)
            elif run.destination != self._parts.epochs.digest or not (run.outstanding or run.finished):
                self.ledger.close(run, "void", "its window is planned again")
            elif run.outstanding:
                self.publish(run)
                return f"backfill {one.id}: {run.outstanding:,} slices to do"
            else:
                one = self._end(one, run)
        self._parts.hints.advance(one.run_id)
        return f"backfill {one.id}: up to {one.done_to:%F %T} UTC"

    def _open(self, one: Backfill) -> Backfill:
        """Open the window after `done_to`; return the backfill as it is stored by then."""
        window = self._parts.stream.first_window(Interval(one.done_to, one.requested.end))
        settings, policy = self._parts.settings, self._parts.policy
        run = Run(
            id=one.run_id,
            stream=self._parts.stream.name,
            kind="backfill",
            requested=window,
            window=window,
            etag=None,
            epoch="",
            known_from=None,  # the live stream neither needs nor keeps the ids of history
            batch_size=min(policy.batch_size, max(one.rate * EVEN, FEWEST)),
            wait=settings.wait,
            opened_at=datetime.now(UTC),
            destination=self._parts.epochs.digest,
        )
        delivered = self._parts.epochs.ids("")
        plans = [
            self._parts.stream.plan(dataclasses.replace(run, window=piece), late=[], delivered=delivered)
            for piece in one.rest(window)
        ]
        run = dataclasses.replace(run, expected=sum(plan.expected for plan in plans))
        slices = [str(slice_) for plan in plans for slice_ in plan.slices]
        self.ledger.open(run, slices)
        log.info("window opened", stream=run.stream, run=run.id, slices=len(slices), expected=run.expected)
        # If another worker finished this window while it was planned here, the backfill has gone on to the next one.
        # Nobody works on the slices of this run then, because only those of the current window are published.
        return self._backfills.read().get(one.id) or dataclasses.replace(one, state="stopped")

    def _end(self, one: Backfill, run: Run) -> Backfill:
        """Record that a window is done."""
        changed = self._backfills.change(
            one.id,
            # A slice that leaves a rest does not report what it found, only what it delivered.
            lambda stored: stored.with_window(
                run.window, rows=max(run.found, run.delivered), dead=run.dead, now=utc_now()
            ),
        )
        self.ledger.close(run, "done")
        log.info("window done", stream=run.stream, run=run.id, found=run.found, sent=run.delivered, dead=run.dead)
        if changed is not None and changed.state == "done":
            log.info("backfill done", stream=run.stream, rows=changed.rows, dead=changed.dead)
        return changed or dataclasses.replace(one, state="stopped")


def close_old(ledger: Ledger, run_ids: Iterable[str], stored: Iterable[Backfill]) -> None:
    """Close windows that are over but were not closed, and those of dropped backfills.

    They are left if a worker died, or if Redis went back to a time when they were open.

    Args:
        ledger: That of the stream's backfills.
        run_ids: Its open windows, read before `stored`: so one that another worker opens in between is not closed.
        stored: All backfills of the stream.
    """
    current = {one.run_id for one in stored if one.state != "done"}
    for run_id in run_ids:
        if run_id in current:
            continue
        run = ledger.run(run_id)
        if run is None:
            ledger.forget(run_id)
        else:
            ledger.close(run, "void" if run.outstanding else "done")


class _Worker(Worker[S, K, R]):
    """Works on the slices of backfills."""

    def __init__(self, parts: Parts[S, K, R], backfiller: Backfiller[S, K, R]) -> None:
        super().__init__(parts)
        self._backfiller = backfiller

    def _deliver(self, run: Run, slice_: S, reporter: R) -> Delivered | Split[S]:
        work = functools.partial(super()._deliver, run, slice_, reporter)
        return self._backfiller.deliver(run, slice_, work, reporter)

    def _gave_up(self, run: Run, slice_: S) -> None:
        self._backfiller.record(run, slice_, rows=0, dead=1)

    def _publish_one(self, run: Run) -> None:
        self._backfiller.publish(run, ended=True)


def _backfill_of(run_id: str) -> str:
    return run_id.partition("-")[0]


def _span(slice_: Slice) -> Interval | None:
    """Return the interval whose rows a slice covers; None if it covers something else, such as some episodes."""
    return slice_.interval if str(slice_) == str(slice_.interval) else None
