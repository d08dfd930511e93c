"""What an operator wants to see at a glance, as one JSON-ready dictionary."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from uaharvest import assembly
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.opencast.profile import kept_profile
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.settings import Settings


class Workers(Protocol):
    """What Celery knows of its queues and workers."""

    def queues(self) -> Mapping[str, int]:
        """Return how many messages wait in each queue."""
        ...

    def alive(self) -> Mapping[str, list[str]] | None:
        """Return the queues that each worker that answers hears, by its name; None where none can be asked."""
        ...


def status(settings: Settings, workers: Workers) -> dict[str, Any]:
    """Gather the state of every stream, of the queues and of the workers.

    What cannot be reached, but for Redis, is told in the report.

    Raises:
        redis.RedisError: Redis cannot be reached.
    """
    ledger = assembly.ledger(settings)
    ticked = ledger.ticked_at()
    alive = workers.alive()
    return {
        "streams": {ledger.stream: _stream(settings, ledger)},
        "queues": dict(workers.queues()),
        "workers": None if alive is None else dict(sorted(alive.items())),
        "opencast": _opencast(settings, ledger),
        "beat_ticked_seconds_ago": None if ticked is None else round((datetime.now(UTC) - ticked).total_seconds()),
        "sqs": _sqs(settings),
    }


def exit_code(report: Mapping[str, Any]) -> int:
    """Return 4 (or 3) if a stream stands still, 5 if there are dead letters, else 0: fit for a monitor."""
    streams = report["streams"].values()
    standing = [stream["blocked"]["exit_code"] for stream in streams if stream["blocked"]]
    if standing:
        return int(standing[0])
    return 5 if any(stream["dead_letters"] for stream in streams) else 0


def _stream(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    blocked, letters, mark, unreachable = ledger.blocked(), None, None, None
    try:
        stored = assembly.watermarks(settings).read()
        mark = stored.mark.at if stored else None
        letters = assembly.dead_letters(settings).count(ledger.stream)
    except BlockedError as error:
        blocked = {"reason": str(error), "since": None, "exit_code": int(error.exit_code)}
    except RetryableError as error:
        unreachable = str(error)
    live = ledger.live()
    asked = [run for run_id in ledger.asked() if (run := ledger.run(run_id))]
    return {
        "watermark": None if mark is None else f"{mark:%FT%TZ}",
        "lag_seconds": None if mark is None else round((datetime.now(UTC) - mark).total_seconds()),
        "blocked": blocked,
        "open_runs": [_run(ledger, run) for run in [*([live] if live else []), *asked]],
        "last_runs": ledger.history()[:5],
        "dead_letters": letters,
        "s3_error": unreachable,
    }


def _run(ledger: Ledger, run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": run.kind,
        "start": f"{run.asked.start:%FT%TZ}",
        "end": f"{run.asked.end:%FT%TZ}",
        "window_end": f"{run.window.end:%FT%TZ}",
        "slices": {"planned": run.planned, "done": run.done, **ledger.slices(run.id)},
        "expected": run.expected,
        "delivered": run.delivered,
        "dead_letters": run.dead,
        "omitted": dict(run.omitted),
        "trouble": run.trouble,
    }


def _opencast(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Return which profile the server is taken for; None: it was not asked yet."""
    if settings.database_url:
        return {"host": settings.engage_url, "profile": "database", "found_by": "OPENCAST_DATABASE_URL"}
    auto = settings.opencast_profile == "auto"
    asked = kept_profile(ledger.redis, settings.engage_url) if auto and settings.engage_url else None
    return {
        "host": settings.engage_url,
        "profile": asked if auto else settings.opencast_profile,
        "found_by": "asking" if auto else "OPENCAST_PROFILE",
    }


def _sqs(settings: Settings) -> dict[str, Any] | None:
    """Return the depth of the queue; None where there is none."""
    if settings.queue in {None, assembly.STDOUT}:
        return None
    try:
        waiting, in_flight = assembly.sqs_sink(settings).depth()
    except HarvestError as error:
        return {"queue": settings.queue, "error": str(error)}
    return {"queue": settings.queue, "waiting": waiting, "in_flight": in_flight}
