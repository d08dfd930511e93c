"""The state of the harvest as one JSON-ready dictionary, with the problems found in it.

Healthy means moving. A service that does not answer, a stream that makes no progress and a beat that sends no
ticks are each reported as a trouble, with a line that says what to do. All services are queried in parallel, so a
hanging one delays the report by at most `ANSWER_TIMEOUT`.
"""

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Self

import redis

from uaharvest import assembly, aws, keys, retention, startup, tombstones
from uaharvest.audit.results import Results
from uaharvest.broker import Workers
from uaharvest.errors import BlockedError, Exit, HarvestError, NoQueueError
from uaharvest.indexer import STREAM
from uaharvest.intervals import duration
from uaharvest.opencast.profile import kept_profile
from uaharvest.plain import counted
from uaharvest.privacy import site as privacy
from uaharvest.redis_url import RedisUrl, is_of_the_server
from uaharvest.runs.backfills import Backfill
from uaharvest.runs.days import DAY, midnight
from uaharvest.runs.ledger import Ledger, Run
from uaharvest.runs.losses import Loss
from uaharvest.runs.state import Failure, compared_clocks, reason_of, source_clock
from uaharvest.runs.watermark import Stored
from uaharvest.settings import INDEX_EVERY, STDOUT, Settings
from uaharvest.streams import registry
from uaharvest.streams.specs import useractions, zoom

ANSWER_TIMEOUT = 8.0  # seconds
# Workers answer within a second unless their host is busy. If a queue seems to have none, a second query gives them
# this many seconds.
SECOND_LOOK = 3.0
# How many ticks may be lost, or wait behind other work, before beat is reported as silent.
MISSED = 3
# A failure that has lasted for less than this may clear by itself, seconds.
LONG = 60.0
# A clock that differs from Redis's by more than this is reported, seconds.
SHOWN_SKEW = 10.0

NO_DRAIN: Mapping[str, Any] = {"indexed": 0, "dead": 0, "last_drain": None}


def status(settings: Settings, workers: Workers) -> dict[str, Any]:
    """Collect the state of every stream, of the queues and of the workers; the report names what is unavailable.

    Raises:
        BadInputError: No bucket is set.
    """
    settings.require("bucket")
    streams = assembly.streams(settings)
    jobs: dict[str, Callable[[], Any]] = {
        "redis": lambda: _redis(settings, streams),
        "broker": lambda: _broker(workers),
        "sqs": lambda: _sqs(settings),
    }
    for name in streams:
        jobs[f"watermark {name}"] = partial(_watermark, settings, name)
        jobs[f"backfills {name}"] = partial(_backfills, settings, name)
    for name in (*streams, STREAM):
        jobs[f"dead letters {name}"] = partial(_count_dead_letters, settings, name)
    jobs["tombstones"] = lambda: tombstones.tombstones(settings).all()
    with _S3Clock() as s3_clock:
        found = _Found(jobs)
    known: dict[str, Any] = found.value("redis") or {}
    queues, alive = found.value("broker") or ({}, None)
    report = {
        "streams": {name: _stream(settings, name, known, found) for name in streams},
        "queues": queues,
        "workers": alive,
        "broker_error": found.error("broker", "Celery's broker"),
        "redis": {
            "error": _redis_error(settings, found) or known.get("error"),
            "evicts": next(iter(known.get("evicts", [])), None),
            "unreadable": known.get("unreadable", []),
        },
        "opencast": known.get("opencast") or _opencast(settings, None),
        "beat_ticked_seconds_ago": _ago(known, *known.get("ticked", {}).values()),
        "sqs": _sqs_part(settings, found),
        "index": _index(settings, known, found),
        "alerts": _alerts(settings, known),
        "zoom_calls": known.get("zoom_calls"),
        "audits": _audits(settings, known),
        "backfills": [*_open_backfills(streams, known, found)],
        "retention": _retention(settings, known),
        "erasures": _erasures(found),
        "clocks": [*_clocks(known, s3_clock)],
        "privacy": privacy.choice(settings).report(),
    }
    return report | {"troubles": [*_troubles(settings, report)], "notes": [*_notes(report)]}


def exit_code(report: Mapping[str, Any]) -> Exit:
    """Return 4 if anything is stuck (3 if only because a span is refused), or 5, 6 or 0.

    5 means that there are dead letters, and 6 that an audit found gaps.

    A monitor can rely on this: 1 and 2, the error codes of other commands, always mean that `status` itself
    failed.
    """
    codes = {trouble["exit_code"] for trouble in report["troubles"]}
    for code in (Exit.BLOCKED, Exit.SPAN_REFUSED, Exit.DEAD_LETTERS, Exit.GAPS):
        if code in codes:
            return code
    return Exit.DONE


def sqs_error(report: Mapping[str, Any]) -> str | None:
    """Return why the queue cannot be read; None if it can, or if it is missing because nothing was sent yet."""
    sqs = report["sqs"]
    if not sqs or "error" not in sqs:
        return None
    # The first delivery creates the queue, so it may be missing until then. Private runs do not count: they print,
    # or send elsewhere.
    last_runs = report["streams"][useractions.SPEC.name]["last_runs"]
    sent = any(run["delivered"] and run["kind"] != "private" for run in last_runs)
    return sqs["error"] if sent or not sqs["absent"] else None


def lag_limit(settings: Settings) -> int:
    """Return how many seconds a stream that follows the source's clock may lag behind.

    Normally it lags by the configured lag and one beat period. The limit also allows for a few lost ticks, and for
    a catch-up window, which does not move the watermark before it is complete.
    """
    return settings.max_lag or settings.lag + MISSED * settings.every + settings.max_window


def overdue(settings: Settings, stream: str, mark: datetime, now: datetime) -> timedelta:
    """Return for how long a stream has been overdue.

    A stream that runs day by day may have one day in progress; it is overdue when the next day is due as well.
    """
    daily_at = registry.spec_of(stream).daily_at
    if daily_at is None:
        return now - mark - timedelta(seconds=lag_limit(settings))
    return now - (midnight(mark) + DAY + daily_at(settings)) - DAY


class _Found:
    """The results of several jobs, run at the same time for at most `ANSWER_TIMEOUT`.

    The jobs run in daemon threads, which end with the process: a hanging thread cannot be stopped.
    """

    def __init__(self, jobs: Mapping[str, Callable[[], Any]]) -> None:
        results: queue.Queue[tuple[str, Any, Exception | None]] = queue.Queue()

        def work(name: str, job: Callable[[], Any]) -> None:
            try:
                results.put((name, job(), None))
            except Exception as error:  # noqa: BLE001 - any failure becomes part of the report
                results.put((name, None, error))

        self._values: dict[str, Any] = {}
        self._errors: dict[str, Exception] = {}
        self._names = set(jobs)
        for name, job in jobs.items():
            threading.Thread(target=work, args=(name, job), name=name, daemon=True).start()
        end = time.monotonic() + ANSWER_TIMEOUT
        while len(self._values) < len(jobs):
            try:
                name, value, error = results.get(timeout=max(end - time.monotonic(), 0.0))
            except queue.Empty:
                break
            self._values[name] = value
            if error is not None:
                self._errors[name] = error

    def value(self, name: str) -> Any:
        """Return the result of a job; None if it failed."""
        return self._values.get(name)

    def failure(self, name: str) -> Exception | None:
        """Return the exception that a job failed with."""
        return self._errors.get(name)

    def error(self, name: str, what: str) -> str | None:
        """Return a line about a job that failed or did not finish; None if it succeeded."""
        if name not in self._values:
            return f"{what} has not answered within {duration(ANSWER_TIMEOUT)}."
        error = self._errors.get(name)
        if error is None:
            return None
        if isinstance(error, (HarvestError, redis.RedisError)):
            return str(error) if isinstance(error, HarvestError) else f"{what} does not answer: {error}"
        return f"{what} cannot be queried: {reason_of(error)}."


# The jobs


def _redis(settings: Settings, streams: list[str]) -> dict[str, Any]:
    """Return everything that the report needs from Redis."""
    with closing(assembly.redis_client(settings, patient=False)) as client:
        indexers = assembly.indexer_state(settings, client)
        alerts = [assembly.ALERTS] if settings.alerts_enabled else []
        tasks = [STREAM, assembly.AUDIT, assembly.RETENTION, *alerts]
        states = {
            name: assembly.state(settings, client, stream=name)
            for name in (*streams, *tasks, *map(assembly.backfills_of, streams))
        }
        ledgers = {name: assembly.ledger(settings, client, stream=name) for name in streams}
        losses = {name: assembly.losses(settings, client, stream=name) for name in streams}
        audits = {name: Results(client, assembly.place(settings, name)) for name in streams}
        unreadable: list[str] = []
        refused: list[redis.RedisError] = []

        def read(what: str, job: Callable[[], Any], otherwise: Any) -> Any:
            """Return what `job` reads, or `otherwise` if it fails: an unreadable part must not hide the others."""
            try:
                return job()
            except (redis.ConnectionError, redis.TimeoutError):
                raise
            except Exception as error:  # noqa: BLE001 - any failure becomes part of the report
                if isinstance(error, redis.RedisError) and is_of_the_server(error):
                    refused.append(error)  # the other parts would fail in the same way
                else:
                    unreadable.append(f"Redis: the data about {what} cannot be read: {reason_of(error)}")
                return otherwise

        try:
            client.set(keys.PROBE(), "", px=1000)
        except redis.ResponseError as error:  # Redis is full, a replica, or unable to save its data
            refused.append(error)
        known = {
            "now": indexers.state.now(),
            "own clock": (datetime.now(UTC) - indexers.state.now()).total_seconds(),
            "failures": {name: read(f"{name}'s failures", state.failures, []) for name, state in states.items()},
            "ticked": {name: read(f"{name}'s ticks", state.ticked_at, None) for name, state in states.items()},
            "runs": {name: read(f"{name}'s runs", partial(_open_runs, one), []) for name, one in ledgers.items()},
            "history": {name: read(f"{name}'s history", states[name].history, [])[:5] for name in streams},
            "losses": {name: read(f"{name}'s losses", one.all, []) for name, one in losses.items()},
            "retention": read(
                "retention", lambda: retention.last(client, assembly.place(settings, assembly.RETENTION)), None
            ),
            "audits": {name: read(f"{name}'s audits", one.all, []) for name, one in audits.items()},
            "clocks": read(
                "clocks", lambda: compared_clocks(client, (state.place for state in states.values())), []
            ),
            "index": read("the indexer", lambda: {**indexers.counts(), "last_drain": indexers.last()}, NO_DRAIN),
            "opencast": read("Opencast", lambda: _opencast(settings, client), None),
            "zoom_calls": read("Zoom's quotas", lambda: _zoom_calls(settings, client), None),
            "evicts": [*startup.evicts(settings, client)],
            "unreadable": unreadable,
        }
        return known | {"error": _of_redis(settings, refused[0]) if refused else None}


def _redis_error(settings: Settings, found: _Found) -> str | None:
    """Return a line that says why Redis could not be queried; None if it was."""
    error = found.failure("redis")
    if isinstance(error, redis.RedisError):
        return _of_redis(settings, error)
    return found.error("redis", f"Redis at {RedisUrl.parse(settings.redis_url).place}")


def _of_redis(settings: Settings, error: redis.RedisError) -> str:
    return RedisUrl.parse(settings.redis_url).failure(error)


def _open_runs(ledger: Ledger) -> list[dict[str, Any]]:
    live = ledger.live()
    explicit = [run for run_id in ledger.explicit() if (run := ledger.run(run_id))]
    return [_run(ledger, run) for run in [*([live] if live else []), *explicit]]


def _run(ledger: Ledger, run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": run.kind,
        "start": f"{run.requested.start:%FT%TZ}",
        "end": f"{run.requested.end:%FT%TZ}",
        "window_end": f"{run.window.end:%FT%TZ}",
        "opened_at": f"{run.opened_at:%FT%TZ}",
        "slices": {"planned": run.planned, "done": run.done, **dataclasses.asdict(ledger.slices(run.id))},
        "all_failed": ledger.foremost(run.id) is not None,
        "expected": run.expected,
        "delivered": run.delivered,
        "dead_letters": run.dead,
        "counts": dict(run.counts),
        "trouble": run.trouble,
    }


def _opencast(settings: Settings, client: "redis.Redis | None") -> dict[str, Any]:
    """Return the server's profile and how it was found; `profile` is None until the server has been asked."""
    if settings.database_url:
        return {"host": settings.engage_url, "profile": "database", "found_by": "OPENCAST_DATABASE_URL"}
    auto = settings.opencast_profile == "auto"
    kept = kept_profile(client, settings.engage_url) if client and auto and settings.engage_url else None
    return {
        "host": settings.engage_url,
        "profile": kept if auto else settings.opencast_profile,
        "found_by": "asking" if auto else "OPENCAST_PROFILE",
    }


def _zoom_calls(settings: Settings, client: "redis.Redis") -> dict[str, Any] | None:
    """Return today's use of Zoom's API quota, by rate-limit label; None if no meetings are harvested."""
    if not zoom.SPEC.enabled(settings):
        return None
    usage = zoom.quota(settings, client).usage()
    return {
        str(label): {
            "calls": used.calls,
            "counted": used.counted,
            "per_day": used.per_day,
            "exhausted_until": None if used.exhausted_until is None else f"{used.exhausted_until:%FT%TZ}",
        }
        for label, used in usage.items()
    }


def _broker(workers: Workers) -> tuple[dict[str, int], dict[str, list[str]] | None]:
    """Return how many messages wait in each queue, and the queues of each worker."""
    queues = dict(workers.queues())
    alive = workers.alive()
    if alive is not None and _unheard(queues, alive):
        alive = workers.alive(SECOND_LOOK)
    return queues, None if alive is None else dict(sorted(alive.items()))


def _watermark(settings: Settings, stream: str) -> Stored | None:
    return assembly.watermarks(settings, stream).read()


def _backfills(settings: Settings, stream: str) -> list[Backfill]:
    return [one for one in assembly.backfills(settings, stream).read().values() if one.state != "done"]


def _count_dead_letters(settings: Settings, stream: str) -> int:
    return assembly.dead_letters(settings).count(stream)


def _sqs(settings: Settings) -> tuple[int, int, str, list[Loss]] | None:
    """Return the messages waiting and in flight, a warning, and the losses; None if there is no queue."""
    if settings.queue in {None, STDOUT}:
        return None
    with closing(assembly.redis_client(settings, patient=False)) as client:
        losses = assembly.losses(settings, client)
        waiting, in_flight, queue_ = assembly.sqs_sink(settings, losses).look()
        try:
            lost = losses.all()  # looking at the queue may have shown that it was recreated
        except redis.RedisError:  # reported by the job "redis"
            lost = []
    return waiting, in_flight, queue_.warning, lost


# The parts of the report


class _S3Clock:
    """Reads S3's clock from the `Date` header of responses to requests that are made anyway."""

    def __init__(self) -> None:
        self.ahead: float | None = None  # of this host's clock, seconds

    def __enter__(self) -> Self:
        with contextlib.suppress(HarvestError):  # every other S3 request fails too, and reports why
            aws.s3_client().meta.events.register("after-call.s3", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(HarvestError):  # the client is this process's, and outlives the report
            aws.s3_client().meta.events.unregister("after-call.s3", self._note)

    def _note(self, http_response: Any, **_: Any) -> None:
        with contextlib.suppress(ValueError, TypeError):  # no date, or an unreadable one
            date = parsedate_to_datetime(http_response.headers.get("Date"))
            self.ahead = (date - datetime.now(UTC)).total_seconds()


def _stream(settings: Settings, name: str, known: dict[str, Any], found: _Found) -> dict[str, Any]:
    stored = found.value(f"watermark {name}")
    mark = stored.mark.at if stored else None
    now = known.get("now") or datetime.now(UTC)
    late = overdue(settings, name, mark - _behind(settings, known, name), now) if mark else None
    failed = found.failure(f"watermark {name}")
    s3_error = None if isinstance(failed, BlockedError) else found.error(f"watermark {name}", "S3")
    lost = set(known.get("losses", {}).get(name, []))
    if name == useractions.SPEC.name and (queue_ := found.value("sqs")):
        lost.update(queue_[-1])
    return {
        "watermark": None if mark is None else f"{mark:%FT%TZ}",
        "lag_seconds": None if mark is None else round((now - mark).total_seconds()),
        "overdue_seconds": None if late is None else max(round(late.total_seconds()), 0),
        **_failures(known, name, failed),
        "ticked_seconds_ago": _ago(known, known.get("ticked", {}).get(name)),
        "open_runs": known.get("runs", {}).get(name, []),
        "last_runs": [run.entry() for run in known.get("history", {}).get(name, [])],
        "lost": [{"reason": loss.reason, "since": f"{loss.since:%FT%TZ}"} for loss in sorted(lost)],
        **_dead_letters(name, found, s3_error or found.error(f"backfills {name}", "S3, queried for backfills,")),
    }


def _failures(known: dict[str, Any], name: str, failed: Exception | None = None) -> dict[str, Any]:
    """Return the newest failure, and `blocked` if a person must fix it; a failure of S3 just now is the newest."""
    newest: Failure | None = next(iter(known.get("failures", {}).get(name, [])), None)
    if isinstance(failed, BlockedError):
        blocked = {"reason": str(failed), "since": None, "exit_code": int(failed.exit_code)}
        return {"blocked": blocked, "failure": None}
    if newest is None:
        return {"blocked": None, "failure": None}
    shown = {"reason": newest.reason, "since": f"{newest.since:%FT%TZ}", "exit_code": newest.exit_code}
    failure = {
        "place": newest.place,
        **shown,
        "seconds_ago": _ago(known, newest.at),
        "for_seconds": _ago(known, newest.since),
    }
    return {"blocked": shown if newest.blocks else None, "failure": failure}


def _dead_letters(name: str, found: _Found, s3_error: str | None = None) -> dict[str, Any]:
    error = found.error(f"dead letters {name}", "S3, queried for dead letters,")
    return {"dead_letters": found.value(f"dead letters {name}"), "s3_error": s3_error or error}


def _sqs_part(settings: Settings, found: _Found) -> dict[str, Any] | None:
    if error := found.error("sqs", "SQS"):
        return {"queue": settings.queue, "error": error, "absent": isinstance(found.failure("sqs"), NoQueueError)}
    depth = found.value("sqs")
    if depth is None:
        return None
    waiting, in_flight, warning, _ = depth
    part = {"queue": settings.queue, "waiting": waiting, "in_flight": in_flight}
    return {**part, "warning": warning} if warning else part


def _index(settings: Settings, known: dict[str, Any], found: _Found) -> dict[str, Any] | None:
    """Return the state of the indexer; None if it is not used."""
    drains = known.get("index", NO_DRAIN)
    failures = _failures(known, STREAM)
    if not (settings.indexer or drains["last_drain"] or failures["failure"]):
        return None
    ticked = _ago(known, known.get("ticked", {}).get(STREAM))
    return {**drains, **failures, "ticked_seconds_ago": ticked, **_dead_letters(STREAM, found)}


def _alerts(settings: Settings, known: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of what sends alerts; None if nobody receives them."""
    if not settings.alerts_enabled:
        return None
    ticked = _ago(known, known.get("ticked", {}).get(assembly.ALERTS))
    return {**_failures(known, assembly.ALERTS), "ticked_seconds_ago": ticked}


def _audits(settings: Settings, known: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest audit of each stream and those that found gaps; None if nothing was ever audited."""
    audits = known.get("audits", {})
    if settings.audit_at is None and not any(audits.values()):
        return None
    newest = {name: {**of[-1].entry(), "seconds_ago": _ago(known, of[-1].at)} for name, of in audits.items() if of}
    gaps = [one.entry() | {"missing": one.missing} for of in audits.values() for one in of if one.missing]
    return {"newest": newest, "gaps": gaps, **_failures(known, assembly.AUDIT)}


def _retention(settings: Settings, known: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was deleted last because it was old; None if nothing ever is."""
    last_ = known.get("retention")
    if last_ is None and not settings.retention_enabled:
        return None
    return {"last": last_, **_failures(known, assembly.RETENTION)}


def _erasures(found: _Found) -> dict[str, Any]:
    """Return how many people were erased, and the erasures that have not ended; these name nobody."""
    stones = found.value("tombstones") or []
    unfinished = [{"tombstone": one.id, "since": f"{one.since:%FT%TZ}"} for one in stones if one.done is None]
    return {
        "people": len(stones),
        "open": unfinished,
        "error": found.error("tombstones", "S3, queried for erasures,"),
    }


def _clocks(known: dict[str, Any], clock: _S3Clock) -> Iterator[dict[str, Any]]:
    """Yield each clock and how far it is ahead of Redis's."""
    if "now" not in known:
        return
    own = known["own clock"]
    yield {"name": "this host", "seconds_ahead": round(own, 1), "seconds_ago": 0}
    if clock.ahead is not None:
        yield {"name": "S3", "seconds_ahead": round(clock.ahead + own, 1), "seconds_ago": 0}
    for other in known["clocks"]:
        yield {"name": other.name, "seconds_ahead": other.ahead, "seconds_ago": _ago(known, other.at)}


def _behind(settings: Settings, known: dict[str, Any], name: str) -> timedelta:
    """Return how far the source's clock is behind: its rows cannot be newer than its clock.

    A clock that stands still, because a cache answers for the source, is no reason to be late. Then no run ends.
    """
    runs = [run for run in known.get("history", {}).get(name, []) if run.kind == "live"]
    if runs and known["now"] - runs[0].closed_at > timedelta(seconds=lag_limit(settings)):
        return timedelta()
    ahead = [clock.ahead for clock in known.get("clocks", []) if clock.name == source_clock(name)]
    return timedelta(seconds=min([*ahead, 0.0]))


def _ago(known: dict[str, Any], *instants: datetime | None) -> int | None:
    """Return the age in seconds of the newest of these instants, which are on Redis's clock."""
    heard = [instant for instant in instants if instant is not None]
    return round((known["now"] - max(heard)).total_seconds()) if heard else None


def _open_backfills(streams: list[str], known: dict[str, Any], found: _Found) -> Iterator[dict[str, Any]]:
    """Yield the backfills that have not ended, each with the newest failure of its stream's."""
    for name in streams:
        for one in found.value(f"backfills {name}") or []:
            yield {"stream": name, **one.report(), **_failures(known, assembly.backfills_of(name))}


# Troubles and notes


def _troubles(settings: Settings, report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is stuck, and what waits for a person."""
    redis_error, broker_error = report["redis"]["error"], report["broker_error"]
    if redis_error and settings.broker_url == settings.redis_url:
        broker_error = None  # it is the same Redis
    general = [line for line in (redis_error, broker_error, *report["redis"]["unreadable"]) if line]
    lines: list[tuple[str, int]] = [(line, Exit.BLOCKED) for line in general]
    for name, stream in report["streams"].items():
        lines += [(f"{name}: {loss['reason']} (since {loss['since']})", Exit.BLOCKED) for loss in stream["lost"]]
    for name, part in _parts(report):
        lines += _of_part(settings, name, part, report)
    if (alerts := report["alerts"]) and (failure := alerts["failure"]):
        lines.append((f"alerts are not sent (since {failure['since']}): {failure['reason']}", Exit.BLOCKED))
    lines += _of_audits(report)
    lines += [(line, Exit.BLOCKED) for line in (*_failing_backfills(report), *_of_retention(report))]
    # While Redis is down or refuses writes, missing ticks say nothing about beat.
    lines += [(line, Exit.BLOCKED) for line in ([] if redis_error else _not_heard(settings, report))]
    lines += [(line, Exit.BLOCKED) for line in _nobody_hears(report)]
    if error := sqs_error(report):
        lines.append((error, Exit.BLOCKED))
    for line, code in lines:
        yield {"line": line, "exit_code": int(code)}


def _of_part(
    settings: Settings, name: str, part: dict[str, Any], report: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    standing = [*_standing(name, part, report)]
    yield from standing
    late = _drains_late(settings, part) if name == STREAM else _lags(name, part)
    if late and not standing:
        yield late, Exit.BLOCKED
    if part["s3_error"]:
        yield f"{name}: {part['s3_error']}", Exit.BLOCKED
    if part["dead_letters"]:
        yield f"{name}: dead letters wait: manage.py dead-letters list", Exit.DEAD_LETTERS


def _of_audits(report: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    audits = report["audits"]
    if audits is None:
        return
    failure = audits["failure"] or audits["blocked"]
    if failure:
        yield f"{assembly.AUDIT} fails (since {failure['since']}): {failure['reason']}", Exit.BLOCKED
    for gap in audits["gaps"]:
        command = f"manage.py audit --stream {gap['stream']} --start {gap['day']} --end {gap['day']} --repair"
        yield f"{gap['stream']}: {gap['missing']:,} missing on {gap['day']}: {command}", Exit.GAPS


def _of_retention(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for what should be deleted but is not."""
    retained = report["retention"]
    if retained and (failure := retained["failure"] or retained["blocked"]):
        yield f"{assembly.RETENTION} fails (since {failure['since']}): {failure['reason']}"
    for one in report["erasures"]["open"]:
        yield (
            f"the erasure {one['tombstone']} (since {one['since']}) is not finished: `manage.py person erase` with the"
            " same ids continues it"
        )


def _failing_backfills(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each stream whose running backfills a person must look at."""
    for name in report["streams"]:
        running = [one for one in report["backfills"] if one["stream"] == name and one["state"] == "running"]
        failure = running[0]["failure"] if running else None
        if failure and (running[0]["blocked"] or failure["for_seconds"] >= LONG):
            yield f"backfill of {name} fails (since {failure['since']}): {failure['reason']}"


def _parts(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from report["streams"].items()
    if report["index"]:
        yield STREAM, report["index"]


def _standing(name: str, part: dict[str, Any], report: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield what is stuck in a stream, each with its exit code."""
    blocked, failure, runs = part["blocked"], part["failure"], part.get("open_runs", [])
    age = f", seen {duration(failure['seconds_ago'])} ago" if failure else ""
    if blocked:
        since = f" (since {blocked['since']}{age})" if blocked["since"] else ""
        code = Exit.SPAN_REFUSED if blocked["exit_code"] == Exit.SPAN_REFUSED else Exit.BLOCKED
        yield f"{name} is blocked{since}: {blocked['reason']}", code
        return
    failed = next((run for run in runs if run["all_failed"]), None)
    if failure:
        # A slice that fails while others succeed is retried later and does not stop the stream.
        moves = failure["place"] == "working" and runs and not failed and failure["for_seconds"] < LONG
        if not moves:
            doing = {"opening": "cannot open a run", "explicit": "cannot continue a run"}
            what = doing.get(failure["place"], "fails")
            yield f"{name} {what} (since {failure['since']}{age}): {failure['reason']}", Exit.BLOCKED
        return
    spent = any(calls["exhausted_until"] for calls in (report["zoom_calls"] or {}).values())
    if (
        failed
        and not failed["slices"]["due"] + failed["slices"]["claimed"]
        and not (name == zoom.SPEC.name and spent)
    ):
        yield f"{name}: all slices are put off: {failed['trouble']}", Exit.BLOCKED


def _lags(name: str, stream: dict[str, Any]) -> str | None:
    if not stream["overdue_seconds"]:
        return None
    late, behind = duration(stream["overdue_seconds"]), duration(stream["lag_seconds"])
    if registry.spec_of(name).daily_at is None:
        return (
            f"{name} lags {behind} behind, {late} more than it may (HARVEST_MAX_LAG_SECONDS). It catches up as long"
            " as the watermark moves; more workers make that faster."
        )
    return f"{name} lags {behind} behind: the next day has been due for {late}. Is the day before it still in progress?"


def _drains_late(settings: Settings, index: dict[str, Any]) -> str | None:
    last, ticked = index["last_drain"], index["ticked_seconds_ago"]
    if not settings.indexer or last is None or ticked is None:
        return None
    late = (datetime.now(UTC) - datetime.fromisoformat(last["ended_at"])).total_seconds()
    if late < LONG + MISSED * INDEX_EVERY:
        return None
    return f"{STREAM}: no drain has ended for {duration(late)}. The worker's log says why."


def _not_heard(settings: Settings, report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if beat, or one stream's ticks, have stopped."""
    limit = LONG + MISSED * settings.every
    newest = report["beat_ticked_seconds_ago"]
    if newest is None or newest > limit:
        since = "has not been heard yet" if newest is None else f"has not been heard for {duration(newest)}"
        yield (
            f"beat {since}. Start it: celery -A tasks beat. If it runs: does a worker consume queue control, and do"
            " beat and workers use the same CELERY_BROKER_URL?"
        )
        return
    for name, part in _parts(report):
        ago = part["ticked_seconds_ago"]
        at_work = any(run["slices"]["claimed"] for run in part.get("open_runs", []))
        if name != STREAM and ago is None:
            yield f"{name}: beat has not triggered it yet. Restart beat if {name} was set up after beat started."
        elif ago is not None and ago > limit and not at_work:
            yield f"{name}: no tick has arrived for {duration(ago)}. Does a worker consume its queue?"


def _unheard(queues: Mapping[str, int], alive: Mapping[str, list[str]]) -> dict[str, int]:
    """Return the queues that have messages but no worker."""
    heard = {name for names in alive.values() for name in names}
    return {name: waiting for name, waiting in queues.items() if waiting and name not in heard}


def _nobody_hears(report: Mapping[str, Any]) -> Iterator[str]:
    if report["workers"] is None:
        return
    for name, waiting in _unheard(report["queues"], report["workers"]).items():
        messages = counted(waiting, "message")
        yield f"queue {name} has {messages} and no worker. Start one: celery -A tasks worker -Q {name}"


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is worth knowing but stops nothing."""
    if report["redis"]["evicts"]:
        yield report["redis"]["evicts"]
    if report["sqs"] and "warning" in report["sqs"]:
        yield f"SQS {report['sqs']['queue']}: {report['sqs']['warning']}"
    for name, stream in report["streams"].items():
        for run in stream["open_runs"]:
            if run["slices"]["put_off"]:
                yield f"{name}: slices are put off, and will be retried: {run['trouble']}"
    spent = [one["exhausted_until"] for one in (report["zoom_calls"] or {}).values() if one["exhausted_until"]]
    if spent:
        yield (
            f"{zoom.SPEC.name}: Zoom's calls for the day are used up until {max(spent)}. The harvest goes on then."
            " If this happens each day, look at ZOOM_PLAN and ZOOM_QUOTA_SHARE."
        )
    for clock in report["clocks"]:
        ahead = clock["seconds_ahead"]
        if abs(ahead) > SHOWN_SKEW:
            way = "ahead of" if ahead > 0 else "behind"
            yield f"the clock of {clock['name']} is {duration(abs(ahead))} {way} Redis's. Synchronize both with NTP."
