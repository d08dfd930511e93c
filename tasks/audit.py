"""The nightly audit: `nightly`, on the queue of the coordinator, compares the newest closed day with the documents."""

import functools
from contextlib import closing

from tasks.app import app
from tasks.engines import HarvestTask
from uaharvest import assembly, settings
from uaharvest.audit.auditor import Auditor
from uaharvest.audit.site import audited, auditor
from uaharvest.errors import HarvestError

# A task audits for about this many seconds, well below Celery's limit; the next tick continues.
AT_ONCE = 240.0


@functools.cache
def _auditor(stream: str) -> Auditor:
    return auditor(settings.current(), stream)


@app.task(
    name="audit.nightly",
    base=HarvestTask,
    stream=assembly.AUDIT,
    place="working",
    every=settings.current().every,
    trail=False,
)
def nightly() -> str:
    """Audit the newest closed day of each stream, once a day from AUDIT_AT on."""
    current = settings.current()
    if current.audit_at is None:
        return "AUDIT_AT is not set"
    streams = audited(current)
    said: list[str] = []
    failed: HarvestError | None = None
    with closing(assembly.redis_client(current)) as client:
        state = assembly.state(current, client, stream=assembly.AUDIT)
        for stream in streams:
            try:
                outcome = _auditor(stream).nightly(state.now(), current.audit_at, AT_ONCE / len(streams))
                said.append(f"{stream}: {outcome}")
            except HarvestError as error:  # the other streams are audited all the same
                failed = failed or error
        if failed is not None:
            raise failed
        state.passed("working")
    return ", ".join(said)
