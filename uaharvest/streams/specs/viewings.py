"""The spec of the stream of viewings."""

from typing import TYPE_CHECKING

from uaharvest.runs.policy import Policy
from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec, documents_at

if TYPE_CHECKING:
    from uaharvest.runs.engine import Engine, Hints

# Recordings per slice. Few, because a slice id lists them, and one may take a minute.
CHUNK = 5


def _build(settings: Settings, hints: "Hints") -> "Engine":
    from uaharvest.streams.engines.derived import viewings_engine  # noqa: PLC0415 - see streams/spec.py

    return viewings_engine(settings, hints)


SPEC = StreamSpec(
    name="viewings",
    watermark_key=lambda settings: settings.viewings_key,
    source=documents_at,
    destination=documents_at,
    build=_build,
    policy=lambda _: Policy.by_day(CHUNK),
    enabled=lambda settings: settings.viewings_enabled,
    daily_at=lambda settings: settings.viewings_at,
    slices_are_intervals=False,
)
