"""The task `check`, on the queue of the coordinator: alerts a person to what `status` would show."""

from collections.abc import Mapping
from contextlib import closing

from tasks.app import app
from tasks.engines import HarvestTask
from uaharvest import assembly, settings
from uaharvest.status import status


class _NobodyAsked:
    """Stands in for queues and workers: no alert is about them, because without them none would be sent."""

    def queues(self) -> Mapping[str, int]:
        return {}

    def alive(self, wait: float | None = None) -> None:  # noqa: ARG002 - the protocol's
        return None


@app.task(
    name="alerts.check",
    base=HarvestTask,
    stream=assembly.ALERTS,
    place="working",
    every=settings.current().every,
    trail=False,
)
def check() -> str:
    """Send the alerts that follow from the present status, and those that still wait."""
    current = settings.current()
    with closing(assembly.redis_client(current)) as client:
        state = assembly.state(current, client, stream=assembly.ALERTS)
        said = assembly.alerts(current, client).check(status(current, _NobodyAsked()), f"{state.now():%FT%TZ}")
        state.passed("working")
        return said
