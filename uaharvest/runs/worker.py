"""The worker: claims a slice, fetches and delivers it, and records the outcome in the ledger."""

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Generic

import redis
import structlog

from uaharvest.dead_letters import DeadLetter
from uaharvest.errors import (
    BlockedError,
    HarvestError,
    IndexBlockedError,
    PoisonError,
    PutOffError,
    RetryableError,
    SourceError,
)
from uaharvest.runs.failures import JITTER, LONGEST_BACK_OFF, GiveUp, Halve, PutOff, after_deaths, after_failure
from uaharvest.runs.hints import publish, taken
from uaharvest.runs.ledger import Claim, Run
from uaharvest.runs.parts import Parts
from uaharvest.runs.state import Place, counts_in_words, reason_of
from uaharvest.runs.steps import MOVED
from uaharvest.runs.stream import Delivered, K, R, S, Split

log = structlog.get_logger()


class Worker(Generic[S, K, R]):
    """Works on the slices of one stream."""

    def __init__(self, parts: Parts[S, K, R]) -> None:
        """Work with `parts`."""
        self._parts = parts

    def work(self, run_id: str, slice_id: str, *, seconds: float = 0) -> str:
        """Claim a slice, fetch and deliver it, and record the outcome in the ledger.

        A slice that fails is put off, halved, blocked or made a dead letter. Does nothing if the slice is done, not
        yet due, claimed by another worker, or part of a run with another destination.

        Args:
            run_id: The run.
            slice_id: The slice.
            seconds: For so long, the worker goes on with further slices of the run. A hint for each of them would
                cost a fifth of its CPU time.

        Returns:
            The outcome, in a few words for a person.

        Raises:
            redis.RedisError: The ledger cannot be reached; the slice is due again when its lease ends.
            BlockedError: A private run is blocked; such an error is not recorded as the stream's.
            HarvestError: This process cannot continue, for example because nobody reads its output pipe any more.
        """
        ends = time.monotonic() + seconds
        run = self._parts.ledger.run(run_id)
        if run is None:
            return "its run has ended"
        if run.destination != self._parts.epochs.digest:
            # Its slices may also have another format. The next tick closes the run.
            log.warning("slice not worked at", run=run_id, reason=MOVED)
            return f"left alone: {MOVED}"
        claim = self._claim(run, slice_id)
        if claim is None:
            return "left alone: done, taken or not due"
        said: list[str] = []
        with self._renewed(run) as held:
            while claim is not None:
                held[:] = [claim]
                said.append(self._work(run, claim))
                if seconds and len(said) == 1:  # only now, because it may fail
                    self._publish_one(run)  # so that a worker that is idle joins in
                claim = self._next(run) if time.monotonic() < ends else None
        self._go_on(run_id)
        return said[0] if len(said) == 1 else f"{len(said)} slices; the last: {said[-1]}"

    def _claim(self, run: Run, slice_id: str) -> Claim | None:
        return self._parts.ledger.claim(run.id, slice_id, uuid.uuid4().hex)

    def _next(self, run: Run) -> Claim | None:
        """Claim a slice for which there is no hint."""
        for slice_id in taken(self._parts.ledger, self._parts.state, run, 1):
            return self._claim(run, slice_id)
        return None

    def _work(self, run: Run, claim: Claim) -> str:
        with structlog.contextvars.bound_contextvars(
            stream=self._parts.stream.name, run=run.id, slice=claim.slice_id
        ):
            try:
                slice_ = self._parts.stream.parse_slice(claim.slice_id)
            except Exception as error:  # noqa: BLE001 - another version may have written any format
                return self._stopped(run, claim, error)
            return self._work_at(run, claim, slice_)

    def _work_at(self, run: Run, claim: Claim, slice_: S) -> str:
        if claim.attempts > self._parts.settings.attempts:
            decision = after_deaths(divisible=bool(slice_.halves()), most=self._parts.settings.attempts)
            return self._end(run, claim, slice_, decision, "every worker that took it died")
        try:
            with self._reporting(run, slice_) as reporter:
                outcome = self._deliver(run, slice_, reporter)
        except PutOffError as error:
            # Nothing failed, so this neither counts as an attempt nor lengthens the back-off.
            delay = max((error.due - datetime.now(UTC)).total_seconds(), 0.0)
            self._give_back(run, claim, str(error), delay=delay)
            log.info("slice put off", reason=str(error), due=error.due.isoformat())
            return f"put off: {error}"
        except (RetryableError, PoisonError) as error:
            return self._failed(run, claim, slice_, error)
        except redis.RedisError:
            with contextlib.suppress(redis.RedisError):  # it may be back, and an outage should use up no attempt
                self._give_back(run, claim, "Redis did not answer")
            raise
        except SystemExit:  # Celery ends this process: its soft shutdown is over
            with contextlib.suppress(redis.RedisError, RetryableError):  # the lease ends, the next tick comes
                self._give_back(run, claim, "its worker was stopped")
                self._publish_one(run)
            raise
        except HarvestError as error:
            return self._blocked(run, claim, slice_, error)
        except Exception as error:  # noqa: BLE001 - an unknown error says nothing about the rows
            return self._stopped(run, claim, error)
        return self._passed(run, claim, outcome, sent=reporter.sent)

    def _deliver(self, run: Run, slice_: S, reporter: R) -> Delivered | Split[S]:
        return self._parts.stream.work(run, slice_, reporter)

    def _passed(self, run: Run, claim: Claim, outcome: Delivered | Split[S], *, sent: int) -> str:
        if isinstance(outcome, Split):
            self._parts.ledger.split(run.id, claim.slice_id, [str(part) for part in outcome.parts])
            said = f"cut into {len(outcome.parts)}"
        else:
            self._parts.ledger.complete(
                run.id,
                claim.slice_id,
                found=outcome.found,
                dead=outcome.dead,
                counts=outcome.counts,
                repeated=outcome.repeated,
            )
            log.info("slice delivered", found=outcome.found, sent=sent, dead=outcome.dead, **outcome.counts)
            if outcome.dead:
                log.error("dead letters written", count=outcome.dead, command="manage.py dead-letters list")
            said = counts_in_words(outcome.found, sent, outcome.dead)
        if run.kind == "private":
            return said
        self._parts.state.passed("working")
        if claim.waits:  # perhaps it waited for its index; a slice that still waits will report that again soon
            self._parts.state.passed("index")
        return said

    def _blocked(self, run: Run, claim: Claim, slice_: S, error: HarvestError) -> str:
        """Give back a slice that a person must unblock, or raise an error that ends this process."""
        place: Place = "working"
        if isinstance(error, IndexBlockedError):  # slices of other indices continue in the meantime
            place = "index"
            jitter = random.uniform(*JITTER)  # noqa: S311 - no secret
            delay = PutOff.after(claim.waits, jitter, self._parts.settings.every)
            self._end(run, claim, slice_, PutOff(delay, claim.attempts - 1, claim.waits + 1), str(error))
        else:
            self._give_back(run, claim, str(error))
        if not isinstance(error, BlockedError) or run.kind == "private":
            raise error
        self._parts.state.failed(place, error)
        log.warning("blocked", reason=str(error))
        return f"blocked: {error}"

    def _stopped(self, run: Run, claim: Claim, error: Exception) -> str:
        """Give a slice back, without counting the attempt, after an unexpected error in the sink or our own code.

        The error's text may quote a record, so it is not stored: anybody who asks for the status would see it.
        """
        reason = reason_of(error)
        log.error("slice failed", reason=reason, exc_info=error)
        self._give_back(run, claim, reason)
        if run.kind == "private":
            raise HarvestError(f"{self._parts.stream.name} stopped: {reason}.") from error
        self._parts.state.failed("working", BlockedError(reason))
        return f"blocked: {reason}"

    def _give_back(self, run: Run, claim: Claim, reason: str, *, delay: float = 0) -> None:
        """Give a slice back without counting the attempt."""
        self._parts.ledger.release(
            run.id, claim, delay=delay, attempts=claim.attempts - 1, waits=claim.waits, reason=reason
        )

    def _failed(self, run: Run, claim: Claim, slice_: S, error: RetryableError | PoisonError) -> str:
        reason = str(error)
        log.warning("slice put off", reason=reason)
        if run.kind != "private":
            self._parts.state.failed("working", error)
        # If the sink, S3 or a search service is down, it is never the slice's fault.
        suspect = isinstance(error, SourceError) or not isinstance(error, RetryableError)
        alone = suspect and self._parts.ledger.foremost(run.id) == claim.slice_id and self._source_answers()
        succeed = claim.progress is not None and self._parts.ledger.progress() > claim.progress
        decision = after_failure(
            attempts=claim.attempts,
            waits=claim.waits,
            most=self._parts.settings.attempts,
            own_fault=suspect and (succeed or alone),
            alone=alone,
            divisible=bool(slice_.halves()),
            jitter=random.uniform(*JITTER),  # noqa: S311 - no secret
            tick=self._parts.settings.every,
        )
        return self._end(run, claim, slice_, decision, reason)

    def _source_answers(self) -> bool:
        """Tell whether the source answers a small request; used when no other slice is left that could succeed."""
        try:
            self._parts.stream.now()
        except (RetryableError, BlockedError):  # if the source is blocked, a slice will report it
            return False
        return True

    def _end(self, run: Run, claim: Claim, slice_: S, decision: PutOff | Halve | GiveUp, reason: str) -> str:
        match decision:
            case PutOff(delay, attempts, waits):
                self._parts.ledger.release(
                    run.id, claim, delay=delay, attempts=attempts, waits=waits, reason=reason
                )
                return f"put off: {reason}"
            case Halve(attempts):
                log.warning("slice halved", reason=reason)
                halves = [str(half) for half in slice_.halves()]
                self._parts.ledger.split(run.id, claim.slice_id, halves, attempts=attempts)
                return f"halved: {reason}"
            case GiveUp():
                return self._dead_letter(run, claim, slice_, reason)

    def _dead_letter(self, run: Run, claim: Claim, slice_: S, reason: str) -> str:
        """Write a slice's dead letter, then remove the slice from the ledger."""
        try:
            letter = DeadLetter.of_slice(self._parts.stream.name, claim.slice_id, reason, slice_.payload)
            self._parts.dead_letters.put(letter)
            self._gave_up(run, slice_)
        except (RetryableError, BlockedError) as error:
            log.warning("dead letter not written", reason=str(error))
            self._parts.state.failed("working", error)
            self._give_back(run, claim, str(error), delay=min(LONGEST_BACK_OFF, self._parts.settings.every))
            return f"put off: {error}"
        log.error("slice is a dead letter", reason=reason)
        self._parts.ledger.complete(run.id, claim.slice_id, found=0, dead=1)
        return f"a dead letter: {reason}"

    def _gave_up(self, run: Run, slice_: S) -> None:
        """Record a slice that has become a dead letter, before it leaves the ledger."""
        if run.kind == "live":
            self._parts.state.add_gap(slice_.interval)  # else every search for late rows would find it again

    def _go_on(self, run_id: str) -> None:
        run = self._parts.ledger.run(run_id)
        if run is None:
            return
        if run.outstanding:
            self._publish_one(run)
        else:
            self._parts.hints.advance(None if run.kind == "live" else run_id)

    def _publish_one(self, run: Run) -> None:
        publish(self._parts.ledger, self._parts.state, self._parts.hints, run, 1)

    @contextlib.contextmanager
    def _renewed(self, run: Run) -> Iterator[list[Claim]]:
        """Renew the lease of the claim that stands in the list, as long as it does and the worker works."""
        held: list[Claim] = []
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(self._parts.ledger.lease / 3):
                for claim in tuple(held):
                    try:
                        # Without effect if it is done, or another's by now.
                        self._parts.ledger.renew(run.id, claim)
                    except redis.RedisError:
                        log.warning("lease not renewed")

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield held
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _reporting(self, run: Run, slice_: S) -> Iterator[R]:
        reporter = self._parts.stream.reporter(self._parts.epochs.ids(run.epoch), self._parts.ledger, run, slice_)
        try:
            yield reporter
        finally:
            reporter.flush()
