"""Builds what works on the backfills of a stream, from the engine of the stream."""

import dataclasses
from datetime import timedelta
from typing import Any

from uaharvest import assembly
from uaharvest.errors import BadInputError
from uaharvest.intervals import Interval
from uaharvest.runs.backfiller import Backfiller
from uaharvest.runs.backfills import Backfills
from uaharvest.runs.days import DAY, DAY_SECONDS, midnight
from uaharvest.runs.engine import Engine, Hints
from uaharvest.runs.pace import Pace
from uaharvest.runs.state import StreamState
from uaharvest.settings import Settings
from uaharvest.streams import registry
from uaharvest.streams.lag import LiveLag
from uaharvest.streams.spec import StreamSpec
from uaharvest.streams.specs import useractions

QUEUE, DOCUMENTS = "queue", "documents"
MONTH = timedelta(days=30)


def destinations(spec: StreamSpec) -> tuple[str, ...]:
    """Return where backfills of a stream may send its rows; the first is the default."""
    return (QUEUE, DOCUMENTS) if spec is useractions.SPEC else (DOCUMENTS,)


def engine_to(stream: str, settings: Settings, hints: Hints, to: str) -> Engine:
    """Return the engine of a stream whose rows go to one of its `destinations`.

    Raises:
        HarvestError: As for `assembly.engine`.
    """
    if to == QUEUE or stream != useractions.SPEC.name:
        return assembly.engine(stream, settings, hints)
    from uaharvest.streams.engines.useractions import useractions_engine  # noqa: PLC0415 - see streams/spec.py

    return useractions_engine(settings, hints, target=assembly.records_to_documents(settings))


def backfiller(stream: str, settings: Settings, hints: Hints, to: str) -> Backfiller[Any, Any, Any]:
    """Return what works on the backfills of a stream that go to `to`.

    Raises:
        HarvestError: As for `assembly.engine`.
    """
    # The windows of history are whole days, so that planning them costs little.
    engine = engine_to(stream, dataclasses.replace(settings, max_window=DAY_SECONDS), hints, to)
    client = assembly.redis_client(settings)
    parts = engine.parts
    ledger = assembly.ledger(settings, client, stream=assembly.backfills_of(stream))
    state = StreamState(client, ledger.place)
    return of_parts(
        dataclasses.replace(parts, ledger=ledger, state=state, hints=hints),
        settings,
        assembly.backfills(settings, stream),
        to=to,
        pace=Pace(client, ledger.place),
    )


def of_parts(
    parts: Any, settings: Settings, backfills: Backfills, *, to: str, pace: Pace
) -> Backfiller[Any, Any, Any]:
    """Return what works on backfills with these parts; fewer slices at once while the stream lags."""
    spec = registry.spec_of(parts.stream.name)
    lag = LiveLag(spec, settings, parts.losses, parts.state.now)
    return Backfiller(parts, backfills, to=to, pace=pace, at_once=lag)


def count(made: Backfiller[Any, Any, Any], interval: Interval) -> int:
    """Return about how many rows the source has in `interval`; 0 if it cannot count them."""
    # No request counts more than a month, so that a large table does not run into a time-out. A source or stream that
    # counts by days does so by itself.
    from uaharvest.streams.stock import StockUseractions  # noqa: PLC0415 - see streams/spec.py

    spec = registry.spec_of(made.stream.name)
    by_days = spec.daily_at is not None or isinstance(made.stream, StockUseractions)
    pieces = [interval] if by_days else interval.cut(-(-interval.seconds // int(MONTH.total_seconds())))
    wait = made.settings.wait
    return sum(made.stream.count(piece, wait=wait) for piece in pieces)


def require_days(spec: StreamSpec, interval: Interval) -> None:
    """Refuse an interval that is not of whole days (UTC), if the stream's windows are days.

    Raises:
        BadInputError: It is not.
    """
    if spec.daily_at is None:
        return
    for name, bound in (("--start", interval.start), ("--end", interval.end)):
        if bound != midnight(bound):
            before = midnight(bound)
            raise BadInputError(
                f"{name}: {bound:%F %T} UTC is within a day, and {spec.name} are harvested by whole days (UTC)."
                f" Expected {before:%F} or {before + DAY:%F}."
            )
