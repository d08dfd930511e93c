"""Shows progress as a live bar on a terminal and as plain lines elsewhere; on stderr, as stdout may carry data."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from uaharvest.intervals import duration
from uaharvest.runs.watch import Snapshot

LINE_EVERY = 5.0  # seconds between two plain lines
WIDE_ENOUGH = 120  # columns
STILL = 30.0  # seconds without progress until `on_still` is called

Show = Callable[[Snapshot], None]


@contextlib.contextmanager
def shown(*, wanted: bool, on_still: Callable[[], None] = lambda: None) -> Iterator[Show]:
    """Yield a function that shows each snapshot.

    Args:
        wanted: Whether to show anything at all.
        on_still: Called once if there is no progress for 30 s.
    """
    # FORCE_COLOR does not make a pipe a terminal: a bar would fill it with cursor movements.
    terminal = sys.stderr is not None and sys.stderr.isatty()
    console = Console(stderr=True, force_terminal=terminal, markup=False, emoji=False, highlight=False)
    if not wanted:
        yield lambda _: None
    elif terminal:
        with _bar(console) as show:
            yield _watching(show, on_still)
    else:
        yield _watching(_lines(), on_still)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Show]:
    # On a narrow terminal the numbers wrap onto a second line, and the bar is omitted, because it adds nothing.
    whole = Column(overflow="fold")
    columns: list[ProgressColumn] = [
        TextColumn("  {task.fields[window]}slices", markup=False, table_column=whole),
        *([BarColumn(34)] if console.width >= WIDE_ENOUGH else []),
        TextColumn(
            "{task.completed}/{task.total}    records {task.fields[records]}    {task.fields[rate]}",
            markup=False,
            table_column=whole.copy(),
        ),
    ]
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, window="", records="0", rate="")
        clock = RateEstimate()

        def show(snapshot: Snapshot) -> None:
            progress.update(
                task,
                completed=snapshot.done,
                total=snapshot.planned,
                window=f"window {snapshot.window}/{snapshot.windows}  " if snapshot.windows > 1 else "",
                records=f"{snapshot.records:,}",
                rate=clock.pace(snapshot),
            )

        yield show


def _lines() -> Show:
    clock = RateEstimate()
    last = 0.0

    def show(snapshot: Snapshot) -> None:
        nonlocal last
        if not snapshot.ended and time.monotonic() - last < LINE_EVERY:
            return
        last = time.monotonic()
        window = f"window {snapshot.window}/{snapshot.windows}, " if snapshot.windows > 1 else ""
        click.echo(
            f"{window}slices {snapshot.done}/{snapshot.planned}, records {snapshot.records:,}, "
            f"{clock.pace(snapshot)}",
            err=True,
        )

    return show


class RateEstimate:
    """Computes the rate and the time left."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def pace(self, snapshot: Snapshot) -> str:
        """Return records per second since the start, and the time left at that rate."""
        rate = snapshot.records / max(time.monotonic() - self._began, 0.1)
        if snapshot.ended or not rate or not snapshot.expected:  # for some windows the count is unknown in advance
            return f"{rate:,.0f}/s"
        left = max(snapshot.expected - snapshot.records, 0) / rate
        return f"{rate:,.0f}/s    about {duration(left)} left"


def _watching(show: Show, on_still: Callable[[], None]) -> Show:
    state: tuple[int, int] | None = None
    since = time.monotonic()
    reported = False

    def watch(snapshot: Snapshot) -> None:
        nonlocal state, since, reported
        if (snapshot.done, snapshot.records) != state:
            state, since = (snapshot.done, snapshot.records), time.monotonic()
        elif not reported and time.monotonic() - since > STILL:
            reported = True
            on_still()
        show(snapshot)

    return watch
