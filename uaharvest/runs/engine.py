"""The engine: `advance` is coordinator, finalizer and repair at once; `work` fetches and delivers one slice.

Both may be called at any time, twice, late or not at all: what is true stands in the watermark (S3) and the ledger
(Redis), and each step decides anew from these.
"""

import contextlib
import dataclasses
import random
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

import redis
import structlog

from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.errors import (
    BadInputError,
    BlockedError,
    HarvestError,
    PoisonError,
    PutOffError,
    RetryableError,
    SourceError,
    SpanRefusedError,
)
from uaharvest.runs.failures import LONGEST_BACK_OFF, GiveUp, Halve, PutOff, after_deaths, after_failure
from uaharvest.runs.known import digest, former_epoch, known_key
from uaharvest.runs.ledger import Claim, Kind, Ledger, Outcome, Run
from uaharvest.runs.stream import Desk, Known, Split, Stream
from uaharvest.runs.watermark import ChangedError, Stored, Watermark, WatermarkStore, advanced, first
from uaharvest.runs.windows import Interval, guard_span, whole_second, without
from uaharvest.settings import Settings

# Hints on their way per run: enough that no worker waits, few enough that a ledger of thousands of slices
# does not become thousands of messages. Each slice that ends sends the next one.
HINTS = 64
MOVED = "source or destination was changed meanwhile"

log = structlog.get_logger()


class Hints(Protocol):
    """Tells workers what there may be to do. A hint that is lost costs a tick, one too many does no harm."""

    def advance(self, run_id: str | None) -> None:
        """Ask for the stream's `advance`, or with `run_id` for that of one explicit run only."""
        ...

    def work(self, run_id: str, slice_id: str) -> None:
        """Ask for a slice to be worked at."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may differ from run to run.

    Attributes:
        batch_size: Most rows per request.
        wait: Least seconds between two requests to the source.
        interval: Minutes; where no watermark exists, the harvest starts so long ago.
        check_span: Refuse a span of more than MAX_START_END_SPAN.
    """

    batch_size: int
    wait: int
    interval: int
    check_span: bool

    @classmethod
    def of(cls, settings: Settings) -> "Options":
        """Return what the settings say: how beat harvests."""
        return cls(
            batch_size=settings.batch_size,
            wait=settings.wait,
            interval=settings.default_interval,
            check_span=not settings.catch_up,
        )


class Engine:
    """Advances the runs of one stream."""

    def __init__(
        self,
        stream: Stream,
        *,
        ledger: Ledger,
        watermarks: WatermarkStore | None,
        letters: DeadLetters,
        hints: Hints,
        settings: Settings,
        destination: str,
    ) -> None:
        """Put the parts together.

        Args:
            stream: What is harvested.
            ledger: Of that stream.
            watermarks: Of that stream; None where no bucket is set: then only private runs go.
            letters: Where slices go that keep failing.
            hints: How workers are told.
            settings: Spans, overlap, attempts.
            destination: Source and queue, as text: known ids are kept per destination, and a run is of one.
        """
        self.stream = stream
        self.ledger = ledger
        self.watermarks = watermarks
        self.hints = hints
        self.settings = settings
        self._letters = letters
        self._destination = destination
        self._digest = digest(destination)

    # Coordinator, finalizer and repair

    def advance(self, options: Options | None = None) -> None:
        """Take every open run of the stream as far as it goes without fetching, and open the next live one.

        Raises:
            BlockedError: No window can be opened until a person changes something; it stands on the stream too.
            SpanRefusedError: The watermark lies too far back; it stands on the stream too.
            RetryableError: Something does not answer; the next call tries again.
        """
        try:
            while self._live_step(options or Options.of(self.settings)):
                pass
            self.ledger.unblock("opening")
        except (BlockedError, SpanRefusedError) as error:
            self.ledger.block("opening", str(error), error.exit_code)
            raise
        finally:
            for run_id in self.ledger.asked():
                try:
                    self.advance_asked(run_id)
                except HarvestError as error:  # holds back no other run
                    log.warning("explicit run not advanced", run=run_id, reason=str(error))

    def advance_asked(self, run_id: str) -> None:
        """Take an explicit run as far as it goes without fetching.

        Raises:
            BlockedError: Its next window cannot be planned until a person changes something.
            RetryableError: Something does not answer; the next call tries again.
        """
        while self._asked_step(run_id):
            pass

    def _live_step(self, options: Options) -> bool:
        """Take one step of the live run; tell whether there may be another."""
        # The ledger first: a run that is committed and followed by the next in between is then not taken for void.
        run = self.ledger.live()
        stored = self.store().read()
        if run is None:
            return self._open(stored, options)
        if stored is None or stored.etag != run.etag:
            if stored is not None and stored.mark.run == run.id:
                self._close(run, "done")  # committed by one who died before saying so here
            else:
                self._close(run, "void", "the watermark was moved meanwhile; its rows are harvested again")
            return True
        if run.destination != self._digest:
            self._close(run, "void", f"{MOVED}; its rows are harvested again")
            return True
        if run.outstanding:
            self._hint(run, HINTS)
            return False
        if not run.finished:
            self._close(run, "void", "its ledger does not add up; the window is harvested again")
            return True
        return self._commit(run, stored)

    def _open(self, stored: Stored | None, options: Options) -> bool:
        now = self.stream.now()
        if stored is None:
            begin = self.stream.begin(now, options.interval)
            with contextlib.suppress(ChangedError):  # another was first: go on from theirs
                self.store().create(first(begin))
            return True
        mark = stored.mark
        window = self.stream.next_window(mark.at, now)
        if window is None:
            return False
        if options.check_span:
            guard_span(mark.at, whole_second(now), longest=self.settings.max_span)
        run = self._run("live", window, window, options, stored=stored, moves=True)
        plan = self.stream.plan(run, late=self._late(mark, mark.at), known=self._known(mark.epoch))
        run = dataclasses.replace(run, expected=plan.expected)
        if self.ledger.open(run, plan.slices):
            self.ledger.drop_gaps(window.start)
            log.info("run opened", run=run.id, window=str(window), slices=len(plan.slices), rows=plan.expected)
        # Published in the next step only, after another look at the watermark.
        return True

    def _commit(self, run: Run, stored: Stored) -> bool:
        """Move the watermark: the one write that counts. It holds only if nobody moved it since the opening."""
        mark = advanced(stored.mark, run.window.end, run.id)
        try:
            self.store().replace(mark, stored.etag)
        except ChangedError:
            self._close(run, "void", "the watermark was moved meanwhile; its rows are harvested again")
            return True
        # Only now it is proved that this epoch is the present one.
        former = former_epoch(self.ledger.redis, self.stream.name, mark.epoch, self._destination)
        if former:
            self._known(former).forget()
        bound = self.stream.late_from(mark.at)
        self._known(mark.epoch).trim(bound)
        self.ledger.trim_gaps(bound)
        self._close(run, "done")
        # A shorter window had caught up. What came since waits for the next tick: a quiet stream would open one
        # window of a second after another, for ever, if its source takes that long to answer.
        return run.window.seconds >= self.settings.max_window

    def _asked_step(self, run_id: str) -> bool:
        run = self.ledger.run(run_id)
        if run is None:
            self.ledger.forget(run_id)
            return False
        if run.destination != self._digest:
            self._close(run, "void", f"{MOVED}; ask for it again")
            return False
        if run.outstanding:
            self._hint(run, HINTS)
            return False
        if not run.finished:
            self._close(run, "void", "its ledger does not add up; ask for it again")
            return False
        if run.window.end < run.asked.end:
            return self._next_window(run)
        self._close(run, "done", self._move_watermark(run))
        return False

    def _next_window(self, run: Run) -> bool:
        """Let an explicit run go on; tell whether it does."""
        window = self.stream.first_window(Interval(run.window.end, run.asked.end))
        ahead = dataclasses.replace(run, window=window)
        try:
            plan = self.stream.plan(ahead, late=[], known=self._known(run.epoch))
        except BadInputError as error:  # the source no longer has it, and will not again
            self._close(run, "void", str(error))
            return False
        self.ledger.next_window(run, window, plan.slices)
        return True

    def _move_watermark(self, run: Run) -> str:
        """Move the watermark to the end of an explicit run, if it may and nobody moved it; return what to say."""
        if run.etag is None:
            return ""
        stored = self.store().read()
        if stored is not None and stored.mark.run == run.id:
            return "the watermark moved to its end"
        if stored is not None and stored.etag == run.etag:
            with contextlib.suppress(ChangedError):
                self.store().replace(advanced(stored.mark, run.asked.end, run.id), run.etag)
                return "the watermark moved to its end"
        return "the watermark stays: it was moved meanwhile"

    def _close(self, run: Run, outcome: Outcome, note: str = "") -> None:
        if self.ledger.close(run, outcome, note):
            log.info("run closed", run=run.id, outcome=outcome, note=note, delivered=run.delivered, dead=run.dead)

    # Explicit windows

    def ask(self, asked: Interval, options: Options, *, may_move: bool, private: bool = False) -> Run:
        """Open an explicit run; it sends all that it finds, once, and does not heed what was sent before.

        It moves the watermark only if it begins at or before it and ends after it: then everything up to its end
        is delivered. Its end is clipped to what the source can have.

        Args:
            asked: The window asked for.
            options: For this run.
            may_move: The caller does not mind the watermark being moved, and source and queue are the configured.
            private: Only this process works at it.

        Raises:
            BadInputError: The window lies in the future.
            SpanRefusedError: It is longer than MAX_START_END_SPAN.
            BlockedError: As for `advance`.
        """
        stored = self.watermarks.read() if self.watermarks and not private else None
        now = whole_second(self.stream.now())
        mark = stored.mark if stored else None
        moves = may_move and mark is not None and asked.start <= mark.at < asked.end
        end = min(asked.end, now - timedelta(seconds=self.settings.lag) if moves else now)
        if end <= asked.start:
            raise BadInputError(
                f"nothing to harvest: {asked.start:%F %T} UTC is after the source's clock, {now:%F %T} UTC"
            )
        moves = moves and mark is not None and end > mark.at
        asked = Interval(asked.start, end)
        if options.check_span:
            guard_span(asked.start, asked.end, longest=self.settings.max_span)
        run = self._run(
            "private" if private else "explicit",
            asked,
            self.stream.first_window(asked),
            options,
            stored=stored,
            moves=moves,
        )
        late = self._late(mark, asked.start) if moves and mark else []
        plan = self.stream.plan(run, late=late, known=self._known(run.epoch))
        whole = plan.expected if run.window == asked else self.stream.count(asked, wait=run.wait)
        run = dataclasses.replace(run, expected=whole)
        self.ledger.open(run, plan.slices)
        log.info("run opened", run=run.id, asked=str(asked), slices=len(plan.slices), rows=plan.expected)
        return run

    # One slice

    def work(self, run_id: str, slice_id: str) -> None:
        """Claim a slice, fetch and deliver it, and say in the ledger what became of it.

        What goes wrong ends in the ledger: put off, halved, blocked or a dead letter. Does nothing if the slice is
        done, not due, another's, or of a run of another destination.

        Raises:
            redis.RedisError: The ledger cannot be reached; the slice is due again when its lease ends.
            BlockedError: Of a private run, whose troubles are not the stream's.
            HarvestError: This process cannot go on: a pipe that nobody reads any more.
        """
        run = self.ledger.run(run_id)
        if run is None:
            return
        if run.destination != self._digest:  # its slices may be of another kind, too; the next tick closes it
            log.warning("slice not worked at", run=run_id, reason=MOVED)
            return
        claim = self.ledger.claim(run_id, slice_id, uuid.uuid4().hex)
        if claim is None:
            return
        with structlog.contextvars.bound_contextvars(run=run_id, slice=slice_id):
            if claim.attempts > self.settings.attempts:
                self._end(run, claim, self._after_deaths(claim), "every worker that took it died")
            else:
                self._attempt(run, claim)
        self._go_on(run_id)

    def _attempt(self, run: Run, claim: Claim) -> None:
        try:
            with self._renewed(run, claim), self._desk(run, claim) as desk:
                outcome = self.stream.work(run, claim.slice_id, desk)
        except PutOffError as error:
            # Nothing failed, so it is neither an attempt nor a reason to back off further.
            delay = max((error.due - datetime.now(UTC)).total_seconds(), 0.0)
            self._give_back(run, claim, str(error), delay=delay)
            log.info("slice put off", reason=str(error), due=error.due.isoformat())
        except (RetryableError, PoisonError) as error:
            self._failed(run, claim, error)
        except redis.RedisError:
            with contextlib.suppress(redis.RedisError):  # it may be back: an outage uses up no attempts
                self._give_back(run, claim, "Redis did not answer")
            raise
        except HarvestError as error:
            self._give_back(run, claim, str(error))
            if not isinstance(error, BlockedError) or run.kind == "private":
                raise
            self.ledger.block("working", str(error), error.exit_code)
            log.warning("blocked", reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the ledger decides what becomes of the slice
            self._failed(run, claim, error)
        else:
            if isinstance(outcome, Split):
                self.ledger.split(run.id, claim.slice_id, outcome.parts)
            else:
                self.ledger.complete(
                    run.id, claim.slice_id, found=outcome.found, dead=outcome.dead, counts=outcome.counts
                )
                log.info("slice delivered", found=outcome.found, dead=outcome.dead, **outcome.counts)
            if run.kind != "private":
                self.ledger.unblock("working")

    def _give_back(self, run: Run, claim: Claim, reason: str, *, delay: float = 0) -> None:
        """Give a slice back as it was: the attempt is not counted."""
        self.ledger.release(
            run.id, claim, delay=delay, attempts=claim.attempts - 1, waits=claim.waits, reason=reason
        )

    def _failed(self, run: Run, claim: Claim, error: Exception) -> None:
        if isinstance(error, HarvestError):
            reason = str(error)
            log.warning("slice put off", reason=reason)
        else:
            # Its text may quote a record, and what is stored is shown to whoever asks for the status.
            reason = f"{type(error).__name__}: see the worker's log"
            log.error("slice failed", exc_info=error)
        # What the sink, S3 or a search that is down fails at is never the slice's fault.
        suspect = isinstance(error, SourceError) or not isinstance(error, RetryableError)
        alone = suspect and self.ledger.foremost(run.id) == claim.slice_id and self._source_answers()
        succeed = claim.progress is not None and self.ledger.progress() > claim.progress
        decision = after_failure(
            attempts=claim.attempts,
            waits=claim.waits,
            most=self.settings.attempts,
            own_fault=suspect and (succeed or alone),
            alone=alone,
            divisible=bool(self.stream.halves(claim.slice_id)),
            jitter=random.uniform(0.5, 1.5),  # noqa: S311 - no secret
        )
        self._end(run, claim, decision, reason)

    def _source_answers(self) -> bool:
        """Ask the source for something small, where nothing else is left that could succeed."""
        try:
            self.stream.now()
        except (RetryableError, BlockedError):  # what blocks it will be said of a slice
            return False
        return True

    def _after_deaths(self, claim: Claim) -> Halve | GiveUp:
        divisible = bool(self.stream.halves(claim.slice_id))
        return after_deaths(divisible=divisible, most=self.settings.attempts)

    def _end(self, run: Run, claim: Claim, decision: PutOff | Halve | GiveUp, reason: str) -> None:
        match decision:
            case PutOff(delay, attempts, waits):
                self.ledger.release(run.id, claim, delay=delay, attempts=attempts, waits=waits, reason=reason)
            case Halve(attempts):
                log.warning("slice halved", reason=reason)
                self.ledger.split(run.id, claim.slice_id, self.stream.halves(claim.slice_id), attempts=attempts)
            case GiveUp():
                self._bury(run, claim, reason)

    def _bury(self, run: Run, claim: Claim, reason: str) -> None:
        """Write the dead letter of a slice, then take it out of the ledger."""
        interval = self.stream.slice_interval(claim.slice_id)
        try:
            payload = self.stream.slice_payload(claim.slice_id)
            self._letters.put(DeadLetter.of_slice(self.stream.name, claim.slice_id, reason, payload))
        except (RetryableError, BlockedError) as error:
            log.warning("dead letter not written", reason=str(error))
            self._give_back(run, claim, str(error), delay=LONGEST_BACK_OFF)
            return
        log.error("slice is a dead letter", reason=reason)
        if run.kind == "live":
            self.ledger.add_gap(interval)  # or the look back for late rows would find it again and again
        self.ledger.complete(run.id, claim.slice_id, found=0, dead=1)

    def _go_on(self, run_id: str) -> None:
        run = self.ledger.run(run_id)
        if run is None:
            return
        if run.outstanding:
            self._hint(run, 1)
        else:
            self.hints.advance(None if run.kind == "live" else run_id)

    def _hint(self, run: Run, most: int) -> None:
        # While work stands still one slice a tick tries whether it is mended.
        if self.ledger.blocked("working"):
            most = 1 if most > 1 else 0
        for slice_id in self.ledger.take(run.id, most):
            self.hints.work(run.id, slice_id)

    # Parts

    def _run(
        self,
        kind: Kind,
        asked: Interval,
        window: Interval,
        options: Options,
        *,
        stored: Stored | None,
        moves: bool,
    ) -> Run:
        return Run(
            id=uuid.uuid4().hex,
            stream=self.stream.name,
            kind=kind,
            asked=asked,
            window=window,
            etag=stored.etag if stored and moves else None,
            epoch=stored.mark.epoch if stored else "",
            destination=self._digest,
            known_from=max(stored.mark.floor, self.stream.late_from(stored.mark.at)) if stored else None,
            batch_size=options.batch_size,
            wait=options.wait,
            opened_at=datetime.now(UTC),
        )

    def _late(self, mark: Watermark, until: datetime) -> list[Interval]:
        """Return where late rows are looked for: the overlap before `until`, less slices that are dead letters."""
        start = max(mark.floor, self.stream.late_from(mark.at))
        return without([Interval(start, until)], self.ledger.gaps()) if start < until else []

    def _known(self, epoch: str) -> Known:
        return self.stream.known(self.ledger.redis, known_key(self.stream.name, epoch, self._destination))

    def store(self) -> WatermarkStore:
        """Return where the watermark is kept.

        Raises:
            BadInputError: No bucket is set.
        """
        if self.watermarks is None:
            raise BadInputError("not set: S3_HARVEST_TS_BUCKET. The watermark is kept there.")
        return self.watermarks

    @contextlib.contextmanager
    def _renewed(self, run: Run, claim: Claim) -> Iterator[None]:
        """Renew the lease while the slice is worked at."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self.ledger.lease / 3):
                try:
                    if not self.ledger.renew(run.id, claim):
                        return
                except redis.RedisError:
                    log.warning("lease not renewed")

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _desk(self, run: Run, claim: Claim) -> Iterator[Desk]:
        desk = self._known(run.epoch).desk(self.ledger, run, self.stream.slice_interval(claim.slice_id))
        try:
            yield desk
        finally:
            desk.flush()
