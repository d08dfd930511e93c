"""The spec of the stream of episodes."""

from typing import TYPE_CHECKING

from uaharvest.runs.policy import Policy
from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec, documents_at

if TYPE_CHECKING:
    from uaharvest.runs.engine import Engine, Hints

# Episodes per slice. Few, because a slice id lists them and should stay short, and because a slice that is put off then
# holds up few others.
CHUNK = 10


def _build(settings: Settings, hints: "Hints") -> "Engine":
    from uaharvest.streams.engines.episodes import episodes_engine  # noqa: PLC0415 - see streams/spec.py

    return episodes_engine(settings, hints)


SPEC = StreamSpec(
    name="episodes",
    watermark_key=lambda settings: settings.episodes_key,
    source=lambda settings: f"{settings.engage_url}",
    destination=documents_at,
    build=_build,
    policy=lambda _: Policy.by_day(CHUNK),
    enabled=lambda settings: settings.episodes_enabled,
    daily_at=lambda settings: settings.episodes_at,
    has_late_rows=False,
    slices_are_intervals=False,
    aliases=("load-episodes",),  # the old tool's name; also with an underscore
)
