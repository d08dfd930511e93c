"""How many slices of backfills may be worked on at once: fewer while the live stream lags."""

from collections.abc import Callable
from datetime import datetime, timedelta

from uaharvest.runs.days import DAY
from uaharvest.runs.losses import Losses
from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec

MOST = 8  # slices of a stream


def at_once(behind: timedelta, usual: timedelta) -> int:
    """Return how many slices may be worked on at once: MOST, less in proportion to the lag, but at least one.

    Args:
        behind: How much the live stream could harvest now.
        usual: How much that is at most while all goes well.
    """
    return MOST if behind <= usual else max(int(MOST * (usual / behind)), 1)


class LiveLag:
    """Measures how far the live stream is behind."""

    def __init__(
        self,
        spec: StreamSpec,
        settings: Settings,
        losses: Losses,
        clock: Callable[[], datetime],
    ) -> None:
        """Compare the watermark of `spec` that `losses` has seen last with `clock`."""
        self._spec = spec
        self._settings = settings
        self._losses = losses
        self._clock = clock
        # Between two ticks a stream that keeps up falls behind by a period, and a tick may come late.
        self._usual = DAY if spec.daily_at else timedelta(seconds=3 * settings.every)

    def __call__(self) -> int:
        """Return how many slices of backfills may be worked on at once."""
        mark = self._losses.delivered()
        if mark is None:  # it is not harvested live, or Redis has just lost its data
            return MOST
        due = self._spec.due_until(self._settings, self._clock())
        return at_once(max(due - self._spec.due_from(mark), timedelta()), self._usual)
