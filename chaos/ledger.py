"""Reads all that Redis writes, from its own file: when rows became known, and which slices changed hands.

So a repeat is not explained by a fault that merely happened at that time, but by what became of its row.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from chaos.record import Taken
from uaharvest import keys
from uaharvest.intervals import Interval

LOOK_EVERY = 0.05  # seconds
_KNOWN = re.compile(rf"{keys.PREFIX}(known:[^:]+:[^:]+:[^:]+|run:[^:]+:sent)")
_SLICES = re.compile(rf"{keys.PREFIX}run:[^:]+:slices")

Command = Sequence[str]


class AppendOnlyFile:
    """The commands that a Redis with `appendonly` has carried out; its scripts' as well, one by one."""

    def __init__(self, data: Path) -> None:
        """Read the file in the directory `data`, or whichever takes its place."""
        self._data = data
        self._file: BinaryIO | None = None
        self._read = 0

    def commands(self) -> Iterator[Command]:
        """Yield the commands since the last call. A file that was put in place of another is read from the start."""
        yield from self._appended()
        if self._replaced():
            yield from self._appended()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _appended(self) -> Iterator[Command]:
        if self._file is None:
            return
        self._file.seek(self._read)
        content, at = self._file.read(), 0
        while (found := _command(content, at)) is not None:
            command, end = found
            self._read += end - at
            at = end
            yield command

    def _replaced(self) -> bool:
        """Open the newest file unless it is the open one; return whether it was another."""
        newest = max(self._data.glob("appendonlydir/*.incr.aof"), default=None)
        if newest is None:
            return False
        try:
            file = newest.open("rb")
        except FileNotFoundError:
            return False
        if self._file is not None and os.path.sameopenfile(file.fileno(), self._file.fileno()):
            file.close()
            return False
        self.close()
        self._file, self._read = file, 0
        return True


def _command(content: bytes, at: int) -> tuple[Command, int] | None:
    """Return the command that begins at `at` and where it ends; None if it is not whole yet."""
    count, at = _number(content, at, b"*")
    words = []
    for _ in range(count):
        length, at = _number(content, at, b"$")
        words.append(content[at : at + length].decode(errors="replace"))
        at += length + 2
    return (words, at) if 0 < at <= len(content) and words else None


def _number(content: bytes, at: int, sign: bytes) -> tuple[int, int]:
    """Return the number in a line and where the next line begins; 0 and a place after the end if it is not whole."""
    end = content.find(b"\r\n", at)
    if end < 0 or content[at : at + 1] != sign:
        return 0, len(content) + 1
    return int(content[at + 1 : end]), end + 2


class Ledger:
    """What the commands meant.

    Attributes:
        known: By id of a row: when it was marked as known.
        taken: Slices that a worker claimed while another one still had them.
    """

    def __init__(self, file: AppendOnlyFile, clock: Callable[[], float]) -> None:
        """Read `file`; `clock` returns the time in seconds after the start."""
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self.known: dict[int, list[float]] = {}
        self._held: dict[tuple[str, str], tuple[str, float]] = {}  # token of a claim, and since when
        self._open: dict[tuple[str, str], list[Taken]] = {}
        self._over: list[Taken] = []
        self._ended = threading.Event()

    def taken(self) -> list[Taken]:
        """Return the slices that were taken from a worker."""
        return [*self._over, *(one for some in self._open.values() for one in some)]

    def catch_up(self) -> None:
        """Note all commands that Redis has carried out; called before its file is replaced."""
        with self._lock:
            for command in self._file.commands():
                self._note(command, self._clock())

    def follow(self) -> None:
        """Catch up until `stop`; for a thread of its own."""
        while not self._ended.wait(LOOK_EVERY):
            self.catch_up()
        self._file.close()

    def stop(self) -> None:
        """End `follow`."""
        self._ended.set()

    def _note(self, command: Command, now: float) -> None:
        match [command[0].upper(), *command[1:]]:
            case ["ZADD", key, *pairs] if _KNOWN.fullmatch(key):
                for row_id in pairs[1::2]:
                    if row_id.isdigit():
                        self.known.setdefault(int(row_id), []).append(now)
            case ["HSET", key, slice_, text] if _SLICES.fullmatch(key):
                self._state(key, slice_, json.loads(text).get("token", ""), now)
            case ["HDEL", key, slice_] if _SLICES.fullmatch(key):
                self._end((key, slice_), now)
            case ["UNLINK" | "DEL", *gone]:
                for place in [place for place in self._held if place[0] in gone]:
                    self._end(place, now)

    def _state(self, key: str, slice_: str, token: str, now: float) -> None:
        former, since = self._held.get((key, slice_), ("", now))
        if token and former and token != former:
            interval = Interval.parse(slice_)
            bounds = (interval.start.timestamp(), interval.end.timestamp())
            self._open.setdefault((key, slice_), []).append(Taken(*bounds, since, now))
        if token != former:
            self._held[key, slice_] = (token, now)

    def _end(self, place: tuple[str, str], now: float) -> None:
        self._held.pop(place, None)
        self._over += [one.ended(now) for one in self._open.pop(place, ())]
