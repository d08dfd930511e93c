"""Opens runs: live ones for the next window of a stream, and explicit ones on request."""

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta
from typing import Generic

import structlog

from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval, whole_second, without
from uaharvest.runs.ledger import Run, RunKind
from uaharvest.runs.losses import lost_watermark
from uaharvest.runs.parts import Parts
from uaharvest.runs.policy import Options
from uaharvest.runs.state import source_clock
from uaharvest.runs.stream import K, Plan, R, S
from uaharvest.runs.watermark import Stored, Watermark, first, required
from uaharvest.runs.windows import allowed_skew, guard_clock, guard_span, stepped_back
from uaharvest.s3_object import ChangedError

log = structlog.get_logger()


class Opener(Generic[S, K, R]):
    """Plans the windows of a stream and opens runs for them."""

    def __init__(self, parts: Parts[S, K, R]) -> None:
        """Open runs with `parts`."""
        self._parts = parts
        settings = parts.settings
        allowed = settings.max_skew
        self._skew = allowed_skew(settings.lag, settings.overlap) if allowed is None else allowed

    def open_live(self, stored: Stored | None, options: Options) -> bool:
        """Open the window after the watermark. Without a watermark, write the first one.

        Returns:
            Whether there may be more to do.

        Raises:
            BlockedError: No window can be opened until a person changes something.
            SpanRefusedError: The watermark is too far in the past.
        """
        looked = self._parts.clocks.last(source_clock(self._parts.stream.name))
        now = self._now()
        if stored is None:
            self._begin(self._parts.stream.begin(now, options.interval))
            return True
        required(self._parts.watermarks).prove()
        mark = stored.mark
        self._parts.losses.saw(mark.at)
        if now < mark.at and self._waits(mark, now, looked):
            return False
        window = self._parts.stream.next_window(mark.at, now)
        if window is None:
            return False
        if options.check_span:
            guard_span(mark.at, whole_second(now), longest=self._parts.policy.max_span)
        self._parts.epochs.take_over_former(mark)
        run = self._run("live", window, window, options, now=now, stored=stored, moves=True)
        plan = self._parts.stream.plan(
            run, late=self._late(mark, mark.at), delivered=self._parts.epochs.ids(mark.epoch)
        )
        run = dataclasses.replace(run, expected=plan.expected)
        if self._parts.ledger.open(run, _texts(plan)):
            self._parts.state.drop_gaps(window.start)
            self._log_opened(run, plan)
        # The next step publishes its slices, after it has checked the watermark again.
        return True

    def ask(self, requested: Interval, options: Options, *, may_move: bool, private: bool = False) -> Run:
        """Open an explicit run. It sends every row that it finds once, even if the row was sent before.

        It moves the watermark only if it begins at or before the watermark and ends after it, because then everything
        up to its end is delivered. Its end is cut to the source's clock.

        Args:
            requested: The requested window.
            options: Options of this run.
            may_move: The run may move the watermark; its source and queue must be the configured ones.
            private: Only this process works on it.

        Raises:
            BadInputError: The window is in the future.
            SpanRefusedError: It is longer than MAX_START_END_SPAN.
            BlockedError: A person must change something first.
        """
        stored = self._parts.watermarks.read() if self._parts.watermarks and not private else None
        now = whole_second(self._now(kept=not private))
        mark = stored.mark if stored else None
        moves = may_move and mark is not None and requested.start <= mark.at < requested.end
        end = min(requested.end, now - timedelta(seconds=self._parts.settings.lag) if moves else now)
        if end <= requested.start:
            raise BadInputError(
                f"nothing to harvest: {requested.start:%F %T} UTC is after the source's clock, {now:%F %T} UTC"
            )
        moves = moves and mark is not None and end > mark.at
        requested = Interval(requested.start, end)
        if options.check_span:
            guard_span(requested.start, requested.end, longest=self._parts.policy.max_span)
        kind: RunKind = "private" if private else "explicit"
        window = self._parts.stream.first_window(requested)
        run = self._run(kind, requested, window, options, now=now, stored=stored, moves=moves)
        late = self._late(mark, requested.start) if moves and mark else []
        plan = self._parts.stream.plan(run, late=late, delivered=self._parts.epochs.ids(run.epoch))
        whole = plan.expected if run.window == requested else self._parts.stream.count(requested, wait=run.wait)
        run = dataclasses.replace(run, expected=whole)
        self._parts.ledger.open(run, _texts(plan))
        self._log_opened(run, plan)
        return run

    def open_next_window(self, run: Run) -> None:
        """Move an explicit run on to its next window.

        Raises:
            BadInputError: The source no longer has that window, so a retry would not help.
        """
        window = self._parts.stream.first_window(Interval(run.window.end, run.requested.end))
        ahead = dataclasses.replace(run, window=window)
        plan = self._parts.stream.plan(ahead, late=[], delivered=self._parts.epochs.ids(run.epoch))
        self._parts.ledger.next_window(run, window, _texts(plan))

    def _waits(self, mark: Watermark, now: datetime, looked: datetime | None) -> bool:
        """Tell whether the source's clock went back so little that it only has to pass the watermark again.

        Rows that are written until then are found where late rows are looked for. Those from before that are reported
        as lost until confirmed, because the harvest continues once the clock has passed the watermark.

        Args:
            mark: The watermark.
            now: The source's clock.
            looked: When it was read before, by Redis's clock.
        """
        searched = min(self._known_from(mark), mark.at)
        if now < mark.floor:  # where the harvest began; nothing before is promised
            return stepped_back(mark.at, now, allowed=self._skew)
        tick = timedelta(seconds=self._parts.settings.every)
        since = tick if looked is None else max(self._parts.clocks.now() - looked, tick)
        begin = max(now - since, mark.floor)
        if begin < searched:
            self._parts.losses.clock_went_back(begin, searched, self._parts.again)
        return searched <= now and stepped_back(mark.at, now, allowed=self._skew)

    def _begin(self, begin: datetime) -> None:
        """Write the first watermark. If there was one before, report the rows in between as lost until confirmed."""
        store = required(self._parts.watermarks)
        last = self._parts.losses.delivered()
        missing = None
        if last is not None:
            log.warning("the watermark is gone", delivered_last=last.isoformat(), begins_again=begin.isoformat())
            if last < begin:
                command = self._parts.again(last, begin)
                missing = f"watermark {last:%FT%TZ}", lost_watermark(store.uri, last, begin, command)
                self._parts.losses.add(*missing)  # before the write, in case this process dies in between
        try:
            store.create(first(begin))
        except ChangedError:  # another worker was first: continue from its watermark
            return
        if missing:
            self._parts.losses.add(
                *missing
            )  # again: a worker that came second may have reported another beginning

    def _run(
        self,
        kind: RunKind,
        requested: Interval,
        window: Interval,
        options: Options,
        *,
        now: datetime,
        stored: Stored | None,
        moves: bool,
    ) -> Run:
        return Run(
            id=uuid.uuid4().hex,
            stream=self._parts.stream.name,
            kind=kind,
            requested=requested,
            window=window,
            etag=stored.etag if stored and moves else None,
            epoch=stored.mark.epoch if stored else "",
            destination=self._parts.epochs.digest,
            known_from=self._known_from(stored.mark) if stored else None,
            batch_size=options.batch_size,
            wait=options.wait,
            opened_at=datetime.now(UTC),
            source_now=now,
        )

    def _log_opened(self, run: Run, plan: Plan[S]) -> None:
        log.info(
            "run opened",
            stream=run.stream,
            run=run.id,
            kind=run.kind,
            start=f"{run.requested.start:%FT%TZ}",
            end=f"{run.requested.end:%FT%TZ}",
            slices=len(plan.slices),
            expected=run.expected,
        )

    def _late(self, mark: Watermark, until: datetime) -> list[Interval]:
        """Return where to look for late rows: the overlap before `until`, without slices that are dead letters."""
        start = self._known_from(mark)
        return without([Interval(start, until)], self._parts.state.gaps()) if start < until else []

    def _known_from(self, mark: Watermark) -> datetime:
        """Return from when on late rows are looked for and delivered rows are marked as known."""
        start = max(mark.floor, self._parts.stream.late_from(mark.at))
        since = self._parts.epochs.ids(mark.epoch).since()
        return start if since is None else max(start, whole_second(since))

    def _now(self, *, kept: bool = True) -> datetime:
        """Return the source's clock; raises BlockedError if it is too far ahead of Redis's.

        The difference is stored for `status` if `kept`; pass False if the source may not be the configured one.
        """
        now = self._parts.stream.now()
        reference = self._parts.clocks.now()
        if kept:
            self._parts.clocks.compare(source_clock(self._parts.stream.name), now, reference)
        guard_clock(now, reference, allowed=self._skew, where=self._parts.source)
        return now


def _texts(plan: Plan[S]) -> list[str]:
    """Return the slices in the form that the ledger stores."""
    return [str(slice_) for slice_ in plan.slices]
