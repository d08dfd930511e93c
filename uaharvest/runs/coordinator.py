"""The coordinator: `advance` opens, publishes, commits and repairs runs; it fetches nothing.

It may be called at any time, twice, late or not at all. The state is in the watermark (S3) and the ledger (Redis), and
`next_step` decides from these each time.
"""

from datetime import UTC, datetime
from typing import Generic, NamedTuple

import redis
import structlog

from uaharvest.errors import BadInputError, HarvestError
from uaharvest.runs.hints import HINTS, publish
from uaharvest.runs.ledger import Run, RunOutcome
from uaharvest.runs.opening import Opener
from uaharvest.runs.parts import Parts
from uaharvest.runs.policy import Options
from uaharvest.runs.state import counts_in_words, reason_of
from uaharvest.runs.steps import (
    COMMITTED,
    STAYS,
    SUPERSEDED,
    Close,
    Commit,
    NextWindow,
    Open,
    Publish,
    Void,
    depends_on_watermark,
    next_step,
)
from uaharvest.runs.stream import K, R, S
from uaharvest.runs.watermark import Stored, Watermark, advanced, required
from uaharvest.s3_object import ChangedError

# Most steps of one `advance`, enough for a hundred empty windows. The next tick continues.
STEPS = 300

log = structlog.get_logger()


class Stepped(NamedTuple):
    """A step that was taken: whether there may be another, and the outcome, in a few words for a person."""

    again: bool
    said: str = ""


class Coordinator(Generic[S, K, R]):
    """Advances the runs of one stream as far as possible without fetching."""

    def __init__(self, parts: Parts[S, K, R], opener: Opener[S, K, R]) -> None:
        """Coordinate with `parts`; `opener` plans and opens the windows."""
        self._parts = parts
        self._opener = opener
        self._usual = Options.of(parts.settings, parts.policy)

    def advance(self, options: Options | None = None) -> str:
        """Advance every open run as far as possible without fetching, and open the next live one.

        Any error is also recorded in the stream's state.

        Returns:
            The outcome, in a few words for a person.

        Raises:
            BlockedError: No window can be opened until a person changes something.
            SpanRefusedError: The watermark is too far in the past.
            RetryableError: A service does not answer; the next call tries again.
        """
        said: list[str] = []
        try:
            for _ in range(STEPS):
                stepped = self._step(self._parts.ledger.live(), options or self._usual)
                said.append(stepped.said)
                if not stepped.again:
                    break
            self._parts.state.passed("opening")
        except Exception as error:
            self._parts.state.failed("opening", error)
            raise
        finally:
            said += self._advance_all_explicit()
        if self._parts.ledger.live() is None and not self._parts.ledger.explicit():
            self._parts.state.passed("working")  # the run that failed there is closed
            self._parts.state.passed("index")
        return "; ".join(filter(None, said)) or "nothing to do"

    def advance_explicit(self, run_id: str) -> str:
        """Advance an explicit run as far as possible without fetching.

        Returns:
            The outcome, in a few words for a person.

        Raises:
            BlockedError: Its next window cannot be planned until a person changes something.
            RetryableError: A service does not answer; the next call tries again.
        """
        said: list[str] = []
        for _ in range(STEPS):
            run = self._parts.ledger.run(run_id)
            if run is None:
                self._parts.ledger.forget(run_id)
                break
            stepped = self._step(run, self._usual)
            said.append(stepped.said)
            if not stepped.again:
                break
        return "; ".join(filter(None, said)) or "its run has ended"

    def _advance_all_explicit(self) -> list[str]:
        said: list[str] = []
        failed: Exception | None = None
        for run_id in self._parts.ledger.explicit():
            try:
                said.append(self.advance_explicit(run_id))
            except redis.RedisError:
                raise
            except Exception as error:
                unexpected = None if isinstance(error, HarvestError) else error
                reason = reason_of(error)
                log.warning("explicit run not advanced", run=run_id, reason=reason, exc_info=unexpected)
                failed = error
        if failed is None:
            self._parts.state.passed("explicit")
        else:
            self._parts.state.failed("explicit", failed)
        return said

    def _step(self, run: Run | None, options: Options) -> Stepped:
        """Take the next step of a run, or open the next live run."""
        bound = {"stream": self._parts.stream.name} | ({"run": run.id} if run else {})
        with structlog.contextvars.bound_contextvars(**bound):
            return self._stepped(run, options)

    def _stepped(self, run: Run | None, options: Options) -> Stepped:
        destination = self._parts.epochs.digest
        # Read after the ledger. Otherwise a run that another worker opened in between would look void.
        stored = required(self._parts.watermarks).read() if depends_on_watermark(run, destination) else None
        match next_step(run, stored, destination):
            case Open(stored):
                return Stepped(self._opener.open_live(stored, options))
            case Publish(run):
                publish(self._parts.ledger, self._parts.state, self._parts.hints, run, HINTS)
                return Stepped(again=False, said=f"run {run.id[:8]}: {run.outstanding:,} slices to do")
            case NextWindow(run):
                return self._next_window(run)
            case Commit(run, stored):
                return self._commit(run, stored)
            case Void(run, note):
                return self._close(run, "void", note)
            case Close(run, note):
                return self._close(run, "done", note)

    def _next_window(self, run: Run) -> Stepped:
        try:
            self._opener.open_next_window(run)
        except BadInputError as error:  # the source no longer has it: a retry would not help
            return self._close(run, "void", str(error))
        return Stepped(again=True)

    def _commit(self, run: Run, stored: Stored) -> Stepped:
        mark = self._move(run, stored)
        if run.kind != "live":
            return self._close(run, "done", COMMITTED if mark else STAYS)
        if mark is None:
            return self._close(run, "void", SUPERSEDED)
        # Only the commit proves that this epoch is the current one.
        self._parts.epochs.forget_former(mark.epoch)
        bound = self._parts.stream.late_from(mark.at)
        self._parts.epochs.ids(mark.epoch).trim(bound)
        self._parts.state.trim_gaps(bound)
        closed = self._close(run, "done")
        # A shorter window has caught up with the source, and newer rows wait for the next tick. Otherwise a quiet
        # stream with a slow source would open windows of a second for ever.
        return closed._replace(again=run.window.seconds >= self._parts.policy.longest_window)

    def _move(self, run: Run, stored: Stored) -> Watermark | None:
        """Move the watermark, which commits the run. Return it; None if somebody else moved it in the meantime."""
        mark = advanced(stored.mark, run.requested.end, run.id)
        try:
            required(self._parts.watermarks).replace(mark, stored.etag)
        except ChangedError:
            return None
        self._parts.losses.saw(mark.at)
        return mark

    def _close(self, run: Run, outcome: RunOutcome, note: str = "") -> Stepped:
        """Close a run. Another may follow at once only after a live run, which frees the slot."""
        said = ""
        if self._parts.ledger.close(run, outcome, note):
            counts = counts_in_words(run.found, run.delivered, run.dead)
            said = f"run {run.id[:8]} {outcome}: {counts}{f' ({note})' if note else ''}"
            log.info(
                "run closed",
                kind=run.kind,
                outcome=outcome,
                note=note,
                start=f"{run.requested.start:%FT%TZ}",
                end=f"{run.requested.end:%FT%TZ}",
                slices=run.done,
                found=run.found,
                sent=run.delivered,
                repeated=max(run.found - run.delivered - run.dead, 0),
                dead_letters=run.dead,
                seconds=round((datetime.now(UTC) - run.opened_at).total_seconds(), 1),
                counts=dict(run.counts),
            )
        return Stepped(run.kind == "live", said)
