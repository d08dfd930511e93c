"""What an operator wants to see at a glance, as one JSON-ready dictionary."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from uaharvest import assembly
from uaharvest.errors import BlockedError, Exit, HarvestError, RetryableError
from uaharvest.indexer import STREAM
from uaharvest.opencast.profile import kept_profile
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.settings import Settings
from uaharvest.streams.zoom import Meetings


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
    streams = assembly.streams(settings)
    ledger = assembly.ledger(settings)
    ticked = ledger.ticked_at()
    alive = workers.alive()
    return {
        "streams": {name: _stream(settings, assembly.ledger(settings, stream=name)) for name in streams},
        "queues": dict(workers.queues()),
        "workers": None if alive is None else dict(sorted(alive.items())),
        "opencast": _opencast(settings, ledger),
        "beat_ticked_seconds_ago": None if ticked is None else round((datetime.now(UTC) - ticked).total_seconds()),
        "sqs": _sqs(settings),
        "index": _index(settings),
        "zoom_calls": _zoom_calls(settings),
    }


def exit_code(report: Mapping[str, Any]) -> Exit:
    """Return 4 if a stream stands still (3: a span is refused), 5 if there are dead letters, else 0.

    Fit for a monitor: 1 and 2, by which errors of other commands are told, would say that `status` itself failed.
    """
    parts = [*report["streams"].values(), *([report["index"]] if report["index"] else [])]
    standing = {part["blocked"]["exit_code"] for part in parts if part["blocked"]}
    if standing:
        return Exit.SPAN_REFUSED if standing == {Exit.SPAN_REFUSED} else Exit.BLOCKED
    return Exit.DEAD_LETTERS if any(part["dead_letters"] for part in parts) else Exit.DONE


def _stream(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    blocked, letters, mark, unreachable = ledger.blocked(), None, None, None
    try:
        stored = assembly.watermarks(settings, ledger.stream).read()
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
        "counts": dict(run.counts),
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


def _zoom_calls(settings: Settings) -> dict[str, Any] | None:
    """Return what is used today of Zoom's calls, by label; None where no meetings are harvested."""
    if Meetings.name not in assembly.streams(settings):
        return None
    usage = assembly.zoom_quota(settings, assembly.redis_client(settings)).usage()
    return {
        str(label): {
            "calls": used.calls,
            "counted": used.counted,
            "per_day": used.per_day,
            "exhausted_until": None if used.exhausted_until is None else f"{used.exhausted_until:%FT%TZ}",
        }
        for label, used in usage.items()
    }


def _index(settings: Settings) -> dict[str, Any] | None:
    """Return the state of the indexer; None where it is not used."""
    board = assembly.board(settings)
    last, blocked, letters, unreachable = board.last(), board.blocked(), None, None
    if not (settings.indexer or last or blocked):
        return None
    try:
        letters = assembly.dead_letters(settings).count(STREAM)
    except HarvestError as error:
        unreachable = str(error)
    return {
        **board.counts(),
        "last_drain": last,
        "blocked": blocked,
        "dead_letters": letters,
        "s3_error": unreachable,
    }
