"""Replays dead letters, or selects those to drop, on a person's request."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from datetime import datetime

import structlog

from uaharvest import assembly
from uaharvest.dead_letters import DeadLetter, DeadLetters
from uaharvest.errors import BadInputError, BlockedError, HarvestError, PoisonError, RetryableError
from uaharvest.importing import importer
from uaharvest.indexer import STREAM, Indexer
from uaharvest.intervals import Interval
from uaharvest.runs.engine import Engine
from uaharvest.runs.local import LocalHints, drive
from uaharvest.runs.opened import Opened
from uaharvest.settings import Settings
from uaharvest.streams import registry

OUTAGE = 3  # consecutive objects for which S3 does not answer
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError)  # raised by a payload of unexpected form

log = structlog.get_logger()


def chosen(dead_letters: DeadLetters, names: Iterable[str], *, everything: bool) -> list[str]:
    """Return the names of the chosen dead letters: those in `names`, or all.

    Raises:
        BadInputError: A name does not exist, or both or neither of `names` and `everything` were given.
        BlockedError: S3 refuses.
        RetryableError: S3 cannot be reached.
    """
    names = list(names)
    if bool(names) == everything:
        raise BadInputError(
            "Expected the names of dead letters, or --all. `manage.py dead-letters list` has them."
        )
    for name in names:
        dead_letters.key(name)
    return list(dead_letters.names()) if everything else names


def read(dead_letters: DeadLetters, names: Iterable[str]) -> Iterator[tuple[str, DeadLetter | HarvestError]]:
    """Yield each name with its dead letter, or with the reason why it cannot be read; skip letters dropped meanwhile.

    Raises:
        RetryableError: S3 does not answer for several objects in a row.
    """
    failed = 0
    for name in names:
        letter: DeadLetter | HarvestError
        try:
            letter = dead_letters.get(name)
        except BadInputError:
            continue
        except RetryableError as error:
            failed += 1
            if failed == OUTAGE:
                raise
            letter = error
        except BlockedError as error:
            letter, failed = error, 0
        else:
            failed = 0
        yield name, letter


def replay(
    settings: Settings, dead_letters: DeadLetters, names: Iterable[str]
) -> Iterator[tuple[str, int | HarvestError]]:
    """Send dead letters and drop those that succeed; yield each name with its number of records, or why it stays.

    Raises:
        RetryableError: S3 does not answer for several objects in a row.
    """
    replayer = Replayer(settings)
    for name, letter in read(dead_letters, names):
        try:
            if isinstance(letter, HarvestError):
                raise letter
            sent = replayer.replay(letter)
        except HarvestError as error:
            yield name, error
        else:
            dead_letters.drop(name)
            yield name, sent


def droppable(dead_letters: DeadLetters, names: Iterable[str]) -> tuple[list[str], list[HarvestError]]:
    """Return which of these dead letters can be read, and why the others cannot.

    If S3_DEAD_LETTER_PREFIX is wrong, an unreadable object may belong to somebody else, or even be a watermark.
    """
    readable, unreadable = [], []
    for name, letter in read(dead_letters, names):
        if isinstance(letter, HarvestError):
            unreadable.append(letter)
        else:
            readable.append(name)
    return readable, unreadable


class Replayer:
    """Sends the contents of dead letters; builds engines only for the streams that they belong to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hints = LocalHints()
        self._engines: dict[str, Engine] = {}
        self._importer = functools.cache(functools.partial(assembly.importer, settings))

    def replay(self, letter: DeadLetter) -> int:
        """Send the contents of a dead letter; return the number of records.

        Raises:
            HarvestError: It failed again, or this site cannot send it.
        """
        try:
            if letter.stream == STREAM:
                return self._indexer.redeliver(letter)
            if letter.stream == importer.STREAM:
                return self._importer(letter.payload["to"]).redeliver(letter)
            engine = self._engine(letter.stream)
            # A slice that is not an interval names its contents.
            if letter.kind == "record" or not registry.spec_of(letter.stream).slices_are_intervals:
                return engine.stream.redeliver(dict(letter.payload))
            start, end = (datetime.fromisoformat(letter.payload[bound]) for bound in ("start", "end"))
            return self._harvest(engine, Interval(start, end))
        except UNUSABLE as error:
            log.exception("letter not sent", letter=letter.name)
            raise PoisonError(f"what it holds is not what this version expects ({type(error).__name__})") from None

    def _engine(self, stream: str) -> Engine:
        if stream not in registry.names():
            raise BlockedError(f"this version knows no stream '{stream[:100]}'")
        if stream not in self._engines:
            self._engines[stream] = assembly.engine(stream, self._settings, self._hints)
        return self._engines[stream]

    @functools.cached_property
    def _indexer(self) -> Indexer:
        return assembly.indexer(self._settings)

    def _harvest(self, engine: Engine, interval: Interval) -> int:
        # The span was accepted when the slice was first harvested, and replay has no option to allow it.
        options = dataclasses.replace(engine.usual_options, check_span=False)
        run = engine.ask(interval, options, may_move=False)
        opened = Opened.explicit(engine, options, run)
        snapshot = drive(engine, self._hints, opened.watch, run=run, options=options, show=lambda _: None)
        if snapshot.dead:
            raise HarvestError("it failed again")
        engine.state.drop_gap(interval)  # the interval is checked for late rows again
        return snapshot.records
