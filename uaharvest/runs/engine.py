"""The engine of a stream: its coordinator, opener and worker behind one object."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import redis

from uaharvest.dead_letters import DeadLetters
from uaharvest.runs.coordinator import Coordinator
from uaharvest.runs.epochs import Epochs
from uaharvest.runs.hints import Hints
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.losses import Losses
from uaharvest.runs.opening import Opener
from uaharvest.runs.parts import Parts
from uaharvest.runs.policy import Options, Policy
from uaharvest.runs.state import Clocks, StreamState
from uaharvest.runs.stream import K, R, S, Source, Stream
from uaharvest.runs.watermark import WatermarkStore, required
from uaharvest.runs.worker import Worker
from uaharvest.settings import Settings

__all__ = ["Engine", "Hints", "Options", "enqueue_command"]


def enqueue_command(stream: str, start: datetime, end: datetime, *, longest: int | None) -> str:
    """Return the command that harvests [start, end), even if that is longer than `longest` seconds."""
    long = longest is not None and (end - start).total_seconds() > longest
    option = " --disable-start-end-span-check" if long else ""
    return f"manage.py enqueue {stream} --start {start:%FT%TZ} --end {end:%FT%TZ}{option}"


class Engine:
    """Advances the runs of one stream and works on their slices.

    Every method may be called at any time, twice, late or not at all.

    Attributes:
        advance: See `Coordinator.advance`.
        advance_explicit: See `Coordinator.advance_explicit`.
        ask: See `Opener.ask`.
        work: See `Worker.work`.
        parts: What it is made of; a backfill uses most of them.
        usual_options: The options that beat harvests with.
    """

    def __init__(
        self,
        stream: Stream[S, K, R],
        *,
        client: "redis.Redis",
        ledger: Ledger,
        watermarks: WatermarkStore | None,
        dead_letters: DeadLetters,
        hints: Hints,
        settings: Settings,
        policy: Policy,
        destination: str,
        source: str = "the source",
        again: Callable[[datetime, datetime], str] | None = None,
    ) -> None:
        """Create the engine.

        Args:
            stream: The stream to harvest.
            client: Redis client.
            ledger: The stream's ledger.
            watermarks: The stream's watermark store; None if no bucket is set, in which case only private runs work.
            dead_letters: Receives slices that keep failing.
            hints: Sends hints to the workers.
            settings: Overlap, attempts and similar settings.
            policy: The stream's limits.
            destination: Source and queue as text. Known ids are kept per destination, and a run belongs to one.
            source: Name of the source in error messages, with the setting that configures it.
            again: Returns the command that harvests between two instants; None: `enqueue` with both.
        """
        self.stream: Source = stream
        self.ledger = ledger
        self.state = StreamState(client, ledger.place)
        self.losses = Losses(client, ledger.place)
        self.clocks = Clocks(client, ledger.place)
        self.watermarks = watermarks
        self.settings = settings
        self.usual_options = Options.of(settings, policy)
        self.parts: Parts[Any, Any, Any] = Parts(
            stream=stream,
            ledger=ledger,
            epochs=Epochs(stream, client, destination),
            state=self.state,
            losses=self.losses,
            clocks=self.clocks,
            watermarks=watermarks,
            dead_letters=dead_letters,
            hints=hints,
            settings=settings,
            policy=policy,
            source=source,
            again=again or partial(enqueue_command, stream.name, longest=policy.max_span),
        )
        opener = Opener(self.parts)
        coordinator = Coordinator(self.parts, opener)
        self.advance = coordinator.advance
        self.advance_explicit = coordinator.advance_explicit
        self.ask = opener.ask
        self.work = Worker(self.parts).work

    def store(self) -> WatermarkStore:
        """Return the watermark store.

        Raises:
            BadInputError: No bucket is set.
        """
        return required(self.watermarks)
