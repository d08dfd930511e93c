"""What the coordinator, the opener and the worker of a stream share."""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Generic

from uaharvest.dead_letters import DeadLetters
from uaharvest.runs.epochs import Epochs
from uaharvest.runs.hints import Hints
from uaharvest.runs.ledger import Ledger
from uaharvest.runs.losses import Losses
from uaharvest.runs.policy import Policy
from uaharvest.runs.state import Clocks, StreamState
from uaharvest.runs.stream import K, R, S, Stream
from uaharvest.runs.watermark import WatermarkStore
from uaharvest.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[S, K, R]):
    """The parts of a stream's engine; `Engine` describes those that are its arguments."""

    stream: Stream[S, K, R]
    ledger: Ledger
    epochs: Epochs[S, K, R]
    state: StreamState
    losses: Losses
    clocks: Clocks
    watermarks: WatermarkStore | None
    dead_letters: DeadLetters
    hints: Hints
    settings: Settings
    policy: Policy
    source: str
    again: Callable[[datetime, datetime], str]
