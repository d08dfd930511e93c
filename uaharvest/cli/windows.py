"""The options of streams that harvest windows between two instants."""

import dataclasses
from datetime import datetime

import click

from uaharvest.cli.options import END, START, Given, combined, follow_option, with_options
from uaharvest.runs.engine import Options
from uaharvest.settings import MAX_WAIT, Settings
from uaharvest.streams.opening import Window

window_options = combined(
    click.option("-s", "--start", type=START, help="Start time; default: the watermark."),
    click.option("-e", "--end", type=END, help="End time (exclusive); default: now."),
    click.option(
        "-w",
        "--wait",
        type=click.IntRange(0, MAX_WAIT),
        help="Minimum seconds between two requests for useractions, across all workers.",
    ),
    click.option(
        "-b", "--batch-size", type=click.IntRange(min=1), help="Maximum number of useractions per request."
    ),
    click.option(
        "-i",
        "--interval",
        type=click.IntRange(1, 999_999_999),
        help="Without a watermark, start this many minutes ago.",
    ),
    click.option("--no-update-last-ts", is_flag=True, help="Do not move the watermark."),
    click.option(
        "--disable-start-end-span-check",
        is_flag=True,
        help="Harvest even a span longer than MAX_START_END_SPAN.",
    ),
    follow_option,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The values of these options; None for those not given."""

    start: datetime | None
    end: datetime | None
    interval: int | None
    batch_size: int | None
    wait: int | None
    no_update_last_ts: bool
    disable_start_end_span_check: bool

    def settings(self, configured: Settings) -> Settings:
        """Return the settings with those options applied that also affect settings."""
        return with_options(configured, {"wait": Given("--wait", self.wait, int)})

    def options(self, usual: Options) -> Options:
        """Return the options for the runs to open."""
        return Options(
            batch_size=self.batch_size or usual.batch_size,
            wait=usual.wait if self.wait is None else self.wait,
            interval=self.interval or usual.interval,
            check_span=usual.check_span and not self.disable_start_end_span_check,
        )

    def window(self, *, exactly: bool = False) -> Window:
        """Return the window; with `exactly`, an interval begins that many minutes ago despite any watermark."""
        return Window(
            start=self.start,
            end=self.end,
            minutes=self.interval if exactly else None,
            may_move=not self.no_update_last_ts,
        )
