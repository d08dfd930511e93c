"""Prints reports on stdout: complete at any width, coloured only on a terminal."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

import click

from uaharvest import plain

GAP = "   "
Line = tuple[str, str | None]  # text and colour


def show(lines: Iterable[Line]) -> None:
    """Print lines in one write; stop quietly if the pipe's reader has closed it."""
    coloured = colours()
    text = "\n".join(click.style(line, fg=colour) if colour and coloured else line for line, colour in lines)
    try:
        text.encode(sys.stdout.encoding if sys.stdout else "utf-8")
    except UnicodeEncodeError:  # LANG=C, or PYTHONIOENCODING=ascii
        text = text.replace("·", "|")
    try:
        click.echo(text, color=coloured)
    except BrokenPipeError:
        write_no_more()


def write_no_more() -> None:
    """Redirect stdout's buffer to /dev/null: Python flushes it at exit and would fail with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def colours() -> bool:
    """Tell whether to use colours on stdout: as NO_COLOR or FORCE_COLOR says, otherwise if it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or width() is not None


def width() -> int | None:
    """Return the terminal's width in columns; None if stdout is a pipe or file, which has no width."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str | None]], edge: int | None
) -> Iterator[Line]:
    """Return a table, or one line per cell if it is wider than the terminal: nothing is ever truncated.

    Args:
        columns: The column names.
        rows: The cells of each row, which may have several lines, and the row's colour.
        edge: Width of the terminal; None means unlimited.
    """
    cells = [
        ([[plain.one_line(line) for line in cell.split("\n")] for cell in row], colour) for row, colour in rows
    ]
    widths = [
        max([len(name), *(len(line) for row, _ in cells for line in row[place])])
        for place, name in enumerate(columns)
    ]
    if edge is None or sum(widths) + len(GAP) * (len(widths) - 1) <= edge:
        yield _aligned(columns, widths), None
        for row, colour in cells:
            for number in range(max(map(len, row))):
                yield _aligned([cell[number] if number < len(cell) else "" for cell in row], widths), colour
        return
    longest = max(map(len, columns))
    for row, colour in cells:
        for name, cell in zip(columns, row, strict=True):
            for number, line in enumerate(cell):
                yield f"{'' if number else name:{longest}}{GAP}{line}", colour
        yield "", None


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
