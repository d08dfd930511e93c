"""Opens what a person requests from any stream: a window, days, a selection, or live runs up to what is due."""

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from uaharvest import assembly
from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval, whole_second
from uaharvest.runs.days import DAY, midnight
from uaharvest.runs.engine import Engine, Options
from uaharvest.runs.ledger import EndedRun, Run
from uaharvest.runs.opened import Opened
from uaharvest.settings import Settings
from uaharvest.streams import registry


class RunRequest(Protocol):
    """A person's request."""

    @property
    def explicit(self) -> bool:
        """Whether it needs an explicit run; False: live runs cover it."""

    @property
    def may_move(self) -> bool:
        """Whether its run may move the watermark."""

    def interval(self, now: datetime, resume: Callable[[], datetime]) -> Interval:
        """Return the interval that an explicit run harvests.

        Args:
            now: The source's clock, whole seconds UTC.
            resume: Returns where the live runs would continue.

        Raises:
            BadInputError: The interval is empty or has not begun.
        """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window between two instants.

    Attributes:
        start: None: where the live runs would continue.
        end: None: now.
        minutes: Without a start, begin this many minutes ago, wherever the watermark is.
        may_move: Its run may move the watermark.
    """

    start: datetime | None = None
    end: datetime | None = None
    minutes: int | None = None
    may_move: bool = True

    @property
    def explicit(self) -> bool:
        """Whether it needs an explicit run."""
        return self.start is not None or self.end is not None or not self.may_move

    def interval(self, now: datetime, resume: Callable[[], datetime]) -> Interval:
        """Return the window; raises BadInputError if it is empty."""
        start, end = self.start, self.end or now
        if start is None:
            start = resume() if self.minutes is None else now - timedelta(minutes=self.minutes)
        if end <= start:
            raise BadInputError(f"--end {end:%F %T} UTC is not after --start {start:%F %T} UTC.")
        return Interval(start, end)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DayRange:
    """Whole days, UTC; each is given by its midnight.

    Attributes:
        first: None: yesterday.
        last: None: yesterday.
    """

    first: datetime | None = None
    last: datetime | None = None
    may_move: bool = dataclasses.field(default=False, init=False)

    @property
    def explicit(self) -> bool:
        """Whether the first day is given."""
        return self.first is not None

    def interval(self, now: datetime, resume: Callable[[], datetime]) -> Interval:  # noqa: ARG002
        """Return the days; raises BadInputError if they are in the wrong order or have not begun."""
        yesterday = midnight(now) - DAY
        first, last = self.first or yesterday, self.last or yesterday
        if last < first:
            raise BadInputError(f"--from {first:%F} is after --to {last:%F}.")
        if last > now:
            raise BadInputError(f"{last:%F} has not begun yet (UTC). Expected days up to today.")
        return Interval(first, last + DAY)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """A request that does not select by time. A run needs a window anyway, so it gets the last 24 hours."""

    explicit: bool = dataclasses.field(default=True, init=False)
    may_move: bool = dataclasses.field(default=False, init=False)

    def interval(self, now: datetime, resume: Callable[[], datetime]) -> Interval:  # noqa: ARG002
        """Return the last 24 hours."""
        return Interval(now - DAY, now)


def open_run(
    engine: Engine,
    request: RunRequest,
    options: Options,
    *,
    private: bool = False,
    ready_after: timedelta | None = None,
) -> Opened:
    """Open an explicit run if the request needs one; otherwise watch the live runs up to what is due.

    Args:
        engine: The stream's engine.
        request: What the person asks for.
        options: Options of the runs that are opened.
        private: Source or destination is not the configured one, so an explicit run is needed.
        ready_after: For a stream of days, how long after its end a day is due; None: use the settings.

    Raises:
        HarvestError: `Engine.ask` raised it, or the source or the watermark cannot be read.
    """
    now = whole_second(engine.stream.now())

    def resume() -> datetime:
        stored = engine.watermarks.read() if engine.watermarks else None
        return stored.mark.at if stored else engine.stream.begin(now, options.interval)

    if request.explicit or private:
        interval = request.interval(now, resume)
        run = engine.ask(interval, options, may_move=request.may_move and not private, private=private)
        return Opened.explicit(engine, options, run)
    spec = registry.spec_of(engine.stream.name)
    since = spec.due_from(resume())
    until = spec.due_until(engine.settings, now, ready_after=ready_after)
    expected = engine.stream.count(Interval(since, until), wait=options.wait) if since < until else 0
    return Opened.live(engine, options, since, until, expected)


def find(settings: Settings, prefix: str) -> Run | EndedRun | None:
    """Return the run whose id begins with `prefix`: an open explicit run, or one that ended recently."""
    streams = assembly.streams(settings)
    ledgers = [assembly.ledger(settings, stream=stream) for stream in streams]
    found = [(ledger, run_id) for ledger in ledgers for run_id in ledger.explicit() if run_id.startswith(prefix)]
    run = found[0][0].run(found[0][1]) if len(found) == 1 else None
    if run is not None:
        return run
    former = (ended for stream in streams for ended in assembly.state(settings, stream=stream).history())
    return next((ended for ended in former if ended.id.startswith(prefix)), None)
