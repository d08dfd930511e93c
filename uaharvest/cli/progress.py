"""Progress as a live bar on a terminal and as plain lines elsewhere; always on stderr, for stdout may be data."""

import contextlib
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from uaharvest.runs.watch import Snapshot
from uaharvest.runs.windows import duration

LINE_EVERY = 5.0  # seconds between two plain lines
STILL = 30.0  # seconds without progress after which a person wonders

Show = Callable[[Snapshot], None]


@contextlib.contextmanager
def shown(*, wanted: bool, on_still: Callable[[], None] = lambda: None) -> Iterator[Show]:
    """Give a function that shows each snapshot.

    Args:
        wanted: Show anything at all.
        on_still: Called once if nothing moves for 30 s.
    """
    console = Console(stderr=True)
    if not wanted:
        yield lambda _: None
    elif console.is_terminal:
        with _bar(console) as show:
            yield _watching(show, on_still)
    else:
        yield _watching(_lines(), on_still)


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Show]:
    columns = (
        TextColumn("  {task.fields[window]}slices"),
        BarColumn(34),
        TextColumn("{task.completed}/{task.total}    records {task.fields[records]}    {task.fields[rate]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, window="", records="0", rate="")
        clock = Clock()

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
    clock = Clock()
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


class Clock:
    """Tells the rate and the time left."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def pace(self, snapshot: Snapshot) -> str:
        """Return records per second since the beginning, and what is left at that rate."""
        rate = snapshot.records / max(time.monotonic() - self._began, 0.1)
        if snapshot.ended or not rate or not snapshot.expected:  # of some windows nothing is known before
            return f"{rate:,.0f}/s"
        left = max(snapshot.expected - snapshot.records, 0) / rate
        return f"{rate:,.0f}/s    about {duration(left)} left"


def _watching(show: Show, on_still: Callable[[], None]) -> Show:
    state: tuple[int, int] | None = None
    since = time.monotonic()
    told = False

    def watch(snapshot: Snapshot) -> None:
        nonlocal state, since, told
        if (snapshot.done, snapshot.records) != state:
            state, since = (snapshot.done, snapshot.records), time.monotonic()
        elif not told and time.monotonic() - since > STILL:
            told = True
            on_still()
        show(snapshot)

    return watch
