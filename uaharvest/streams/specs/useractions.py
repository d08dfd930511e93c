"""The spec of the stream of useractions."""

from typing import TYPE_CHECKING

from uaharvest.opencast.actions import report_omitted
from uaharvest.settings import STDOUT, Settings
from uaharvest.streams.spec import StreamSpec

if TYPE_CHECKING:
    from uaharvest.runs.engine import Engine, Hints


def _build(settings: Settings, hints: "Hints") -> "Engine":
    from uaharvest.streams.engines.useractions import useractions_engine  # noqa: PLC0415 - see streams/spec.py

    return useractions_engine(settings, hints)


SPEC = StreamSpec(
    name="useractions",
    watermark_key=lambda settings: settings.watermark_key,
    # Options of `run` may set both; such a run does not move the watermark.
    source=lambda settings: settings.engage_url,
    destination=lambda settings: None if settings.queue == STDOUT else settings.queue,
    build=_build,
    remark=report_omitted,
)
