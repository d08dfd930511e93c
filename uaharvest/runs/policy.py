"""The limits of a stream's runs, and the options of one run."""

import dataclasses
from typing import Self

from uaharvest.runs.days import DAY_SECONDS
from uaharvest.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits of a stream's runs.

    Attributes:
        longest_window: Seconds. A shorter live window has caught up with the source.
        max_span: The span guard refuses longer spans, seconds; None: no limit.
        batch_size: Maximum number of rows per request, unless a run's options override it.
    """

    longest_window: int
    max_span: int | None
    batch_size: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits from the settings."""
        return cls(longest_window=settings.max_window, max_span=settings.max_span, batch_size=settings.batch_size)

    @classmethod
    def by_day(cls, batch_size: int) -> Self:
        """Return the limits of a stream whose windows are single days, so that the span guard does not apply."""
        return cls(longest_window=DAY_SECONDS, max_span=None, batch_size=batch_size)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options that may differ from run to run.

    Attributes:
        batch_size: Maximum number of rows per request.
        wait: Minimum seconds between two requests to the source.
        interval: Without a watermark, the harvest starts this many minutes ago.
        check_span: Refuse a span longer than MAX_START_END_SPAN.
    """

    batch_size: int
    wait: int
    interval: int
    check_span: bool

    @classmethod
    def of(cls, settings: Settings, policy: Policy) -> "Options":
        """Return the options from the settings and the stream's policy; beat harvests with these."""
        return cls(
            batch_size=policy.batch_size,
            wait=settings.wait,
            interval=settings.default_interval,
            check_span=not settings.catch_up,
        )
