"""The retention: `daily`, on the queue of the coordinator, deletes what is older than the site keeps it."""

from contextlib import closing

from tasks.app import app
from tasks.engines import HarvestTask
from uaharvest import assembly, settings
from uaharvest.retention import retention

# A task begins no further deletion after this many seconds, well below Celery's limit; the next tick continues.
AT_ONCE = 240.0


@app.task(
    name="retention.daily",
    base=HarvestTask,
    stream=assembly.RETENTION,
    place="working",
    every=settings.current().every,
    trail=False,
)
def daily() -> str:
    """Delete what is too old, once a day from RETENTION_AT on."""
    current = settings.current()
    with closing(assembly.redis_client(current)) as client:
        made = retention(current, client)
        if not made.is_due():
            return "not due"
        parts = [f"{part.name}: {part.count:,} deleted" for part in made.run(AT_ONCE)]
        assembly.state(current, client, stream=assembly.RETENTION).passed("working")
    return ", ".join(parts) or "nothing is older"
