"""All streams, in the order in which they are shown."""

from uaharvest.settings import Settings
from uaharvest.streams.spec import StreamSpec
from uaharvest.streams.specs import attendance, episodes, useractions, viewings, zoom

# Queue names that no stream may have.
RESERVED = frozenset({"backfill", "control", "index"})

_specs: dict[str, StreamSpec] = {}


def register(spec: StreamSpec) -> None:
    """Add a stream, before Celery's settings and tasks are read.

    Raises:
        ValueError: Its name is taken.
    """
    if spec.name in _specs or spec.name in RESERVED:
        raise ValueError(f"the name {spec.name} is taken")
    _specs[spec.name] = spec


def specs() -> list[StreamSpec]:
    """Return all streams."""
    return list(_specs.values())


def names() -> list[str]:
    """Return the names of all streams."""
    return list(_specs)


def spec_of(name: str) -> StreamSpec:
    """Return a stream by its name; raises KeyError if there is none."""
    return _specs[name]


def enabled(settings: Settings) -> list[StreamSpec]:
    """Return the streams that this site harvests."""
    return [spec for spec in _specs.values() if spec.enabled(settings)]


for _spec in (useractions.SPEC, episodes.SPEC, zoom.SPEC, viewings.SPEC, attendance.SPEC):
    register(_spec)
