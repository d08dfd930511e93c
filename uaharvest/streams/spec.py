"""The specification of a stream for the rest of the project, as one frozen value.

celeryconfig reads the specs in every process, so modules that define one import only what is cheap. The imports that
an engine needs happen when it is built.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from uaharvest.runs.days import midnight
from uaharvest.runs.policy import Policy
from uaharvest.settings import Settings

if TYPE_CHECKING:  # the engine takes time to import
    from uaharvest.runs.engine import Engine, Hints


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A stream; its tasks, queue, commands, keys and schedule are derived from this.

    Attributes:
        name: The stream's name in worker settings, on the command line, in Redis and in messages.
        watermark_key: Returns the S3 key of its watermark.
        source: Returns its source as text; a watermark belongs to one source and destination. None: the settings do
            not name it, and no watermark is shared.
        destination: Returns its destination as text; None: the settings do not name it.
        build: Builds its engine and imports what that needs.
        policy: Returns the limits of its runs.
        enabled: Returns whether the site's settings enable it.
        daily_at: For a stream with windows of a day (UTC): returns how long after its end a day is harvested. None:
            windows follow the source's clock.
        has_late_rows: Look for rows that appear before the watermark.
        slices_are_intervals: A slice is an interval of time, so its dead letter is replayed as an explicit window.
        advance_queue: The queue of its ticks.
        fetch: The second part of the name of the task that works on one slice.
        wakes_within: A slice that is put off for at most this many seconds is requested exactly when it is due. None:
            it waits for the next tick.
        aliases: Other names of its commands.
        remark: Returns a remark for the operator about a run's counts, or "".
    """

    name: str
    watermark_key: Callable[[Settings], str]
    source: Callable[[Settings], str | None]
    destination: Callable[[Settings], str | None]
    build: "Callable[[Settings, Hints], Engine]"
    policy: Callable[[Settings], Policy] = Policy.of
    enabled: Callable[[Settings], bool] = lambda _: True
    daily_at: Callable[[Settings], timedelta] | None = None
    has_late_rows: bool = True
    slices_are_intervals: bool = True
    advance_queue: str = "control"
    fetch: str = "fetch"
    wakes_within: float | None = None
    aliases: tuple[str, ...] = ()
    remark: Callable[[Mapping[str, int]], str] = lambda _: ""

    @property
    def queue(self) -> str:
        """Return the queue of its slices. Each stream has its own, so a slow source does not hold up other streams."""
        return self.name

    @property
    def advance_task(self) -> str:
        """Return the name of the task that advances the stream as far as possible without fetching."""
        return f"{self.name}.advance"

    @property
    def fetch_task(self) -> str:
        """Return the name of the task that works on one slice."""
        return f"{self.name}.{self.fetch}"

    @property
    def routes(self) -> dict[str, dict[str, str]]:
        """Return the queue of each of its tasks, in the form of Celery's `task_routes`."""
        return {self.advance_task: {"queue": self.advance_queue}, self.fetch_task: {"queue": self.queue}}

    def beat_entry(self, settings: Settings) -> dict[str, Any]:
        """Return its entry in beat's schedule.

        Streams of days are advanced as often as others, because `advance` sends slices that were put off again.
        """
        return {"task": self.advance_task, "schedule": float(settings.every), "kwargs": {"tick": True}}

    def due_from(self, watermark: datetime) -> datetime:
        """Return the start of the next window."""
        return watermark if self.daily_at is None else midnight(watermark)

    def due_until(self, settings: Settings, now: datetime, *, ready_after: timedelta | None = None) -> datetime:
        """Return the instant up to which rows can be harvested now.

        Args:
            settings: The site's settings.
            now: The source's clock.
            ready_after: For a stream of days, how long after its end a day is due; None: use `daily_at`.
        """
        if self.daily_at is None:
            return now - timedelta(seconds=settings.lag)
        return midnight(now - (self.daily_at(settings) if ready_after is None else ready_after))

    @property
    def begins(self) -> str:
        """Return where a run without a watermark begins, in the words of the command line."""
        return "DEFAULT_INTERVAL minutes before it" if self.daily_at is None else "with the day before it"


def documents_at(settings: Settings) -> str:
    """Return the destination of documents, as text that is part of a deployment."""
    return f"{settings.documents_url or settings.es_url} {settings.index_infix or ''}".rstrip()
