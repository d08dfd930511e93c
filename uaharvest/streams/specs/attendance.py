"""The spec of the stream of attendance in Zoom meetings."""

from typing import TYPE_CHECKING

from uaharvest.runs.policy import Policy
from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec, documents_at

if TYPE_CHECKING:
    from uaharvest.runs.engine import Engine, Hints

# Meetings per slice. Few, because a slice id lists them.
CHUNK = 20


def _build(settings: Settings, hints: "Hints") -> "Engine":
    from uaharvest.streams.engines.derived import attendance_engine  # noqa: PLC0415 - see streams/spec.py

    return attendance_engine(settings, hints)


SPEC = StreamSpec(
    name="attendance",
    watermark_key=lambda settings: settings.attendance_key,
    source=documents_at,
    destination=documents_at,
    build=_build,
    policy=lambda _: Policy.by_day(CHUNK),
    enabled=lambda settings: settings.attendance_enabled,
    daily_at=lambda settings: settings.attendance_at,
    slices_are_intervals=False,
)
