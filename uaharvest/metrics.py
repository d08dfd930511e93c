"""Metrics for Prometheus, read from the ledger and the stores at each scrape.

One process serves them for any number of workers: gauges come from the report of `status`, counters from what workers
have written to Redis (`uaharvest.counters`). A part that does not answer has no metrics in that scrape, except
`uaharvest_scrape_error`. No label holds a person or a secret, and each label has few values.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from uaharvest import __version__, assembly, aws, broker, counters, status
from uaharvest.errors import Exit
from uaharvest.indexer import STREAM
from uaharvest.runs.state import KINDS
from uaharvest.settings import Settings
from uaharvest.zoom.quota import PLANS

# Seconds. A scrape that comes sooner after another gets the same answer: several Prometheuses cost no more than one.
FRESH = 5.0
AGE_KEPT = 60.0  # seconds that the age of the oldest message is used; CloudWatch has a new one every few minutes
FAULTS: tuple[counters.Fault, ...] = ("timeout", "unreachable", "busy", "refused")
PARTS = ("redis", "broker", "s3", "sqs")


class Description(NamedTuple):
    """A metric: its type, its labels, and what it says."""

    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS: Mapping[str, Description] = {
    "uaharvest_build_info": Description("gauge", ("version",), "1; the version of `manage.py metrics`."),
    "uaharvest_scrape_error": Description(
        "gauge", ("part",), "1 if this part (redis, broker, s3, sqs) cannot be read; its metrics are then missing."
    ),
    "uaharvest_redis_evicts": Description(
        "gauge", (), "1 if Redis deletes keys when it is full: maxmemory-policy is not noeviction."
    ),
    "uaharvest_scrape_duration_seconds": Description("gauge", (), "How long it took to read everything."),
    "uaharvest_status_exit_code": Description(
        "gauge", (), "The exit code that `manage.py status` would have; 0: all is well."
    ),
    "uaharvest_stream_lag_seconds": Description("gauge", ("stream",), "Age of the watermark."),
    "uaharvest_stream_overdue_seconds": Description(
        "gauge", ("stream",), "For how long the watermark has been older than it may be."
    ),
    "uaharvest_stream_blocked": Description(
        "gauge", ("stream",), "1 if a person must change something; `manage.py status` says what."
    ),
    "uaharvest_stream_span_refused": Description(
        "gauge", ("stream",), "1 if the stream waits because of MAX_START_END_SPAN."
    ),
    "uaharvest_stream_failing": Description(
        "gauge", ("stream",), "1 if its last attempt failed and it tries again by itself."
    ),
    "uaharvest_losses": Description("gauge", ("stream",), "Losses that a person has yet to confirm."),
    "uaharvest_open_run_age_seconds": Description(
        "gauge", ("stream", "kind"), "Age of the oldest open run; missing if none is open."
    ),
    "uaharvest_slices": Description(
        "gauge", ("stream", "state"), "Outstanding slices of open runs: due, claimed by a worker, put_off."
    ),
    "uaharvest_records_delivered_total": Description(
        "counter", ("stream",), "Rows that the sink has confirmed (of Zoom: meetings)."
    ),
    "uaharvest_records_repeated_total": Description(
        "counter",
        ("stream",),
        "Rows that were read again and not sent again, because they had been delivered; not counted in the profile"
        " stock, which reads days again as a rule.",
    ),
    "uaharvest_dead_letters": Description(
        "gauge", ("stream",), "Dead letters that wait to be replayed or dropped."
    ),
    "uaharvest_dead_letters_written_total": Description("counter", ("stream",), "Dead letters written."),
    "uaharvest_failures_total": Description(
        "counter",
        ("stream", "kind"),
        "Failures of a run or slice: source, retryable, blocked, span, poison, redis, unexpected.",
    ),
    "uaharvest_upstream_failures_total": Description(
        "counter",
        ("upstream", "kind"),
        "Failed requests: timeout, unreachable, busy (408, 429, 5xx), refused (any other status).",
    ),
    "uaharvest_upstream_request_duration_seconds": Description(
        "histogram",
        ("upstream",),
        "Duration of requests to opencast, database, zoom, sqs, s3 and elasticsearch, failed ones too.",
    ),
    "uaharvest_backfills": Description(
        "gauge", ("stream", "state"), "Backfills that have not ended: running or stopped."
    ),
    "uaharvest_backfill_rows_per_second": Description(
        "gauge", ("stream",), "Mean rate of running backfills since they were started or resumed."
    ),
    "uaharvest_backfill_rows_left": Description(
        "gauge",
        ("stream",),
        "About how many rows running backfills have yet to read; missing if that is not known.",
    ),
    "uaharvest_backfill_idle_seconds": Description(
        "gauge",
        ("stream",),
        "Time since a running backfill last made progress; the longest, if there are several.",
    ),
    "uaharvest_audit_missing_rows": Description(
        "gauge", ("stream",), "Rows that the newest audit of each day found missing in the document store."
    ),
    "uaharvest_audit_age_seconds": Description(
        "gauge", ("stream",), "Age of the newest audit; only with AUDIT_AT."
    ),
    "uaharvest_zoom_calls_remaining": Description(
        "gauge", ("cap",), "Zoom calls that are left today; missing where the plan has no limit."
    ),
    "uaharvest_sqs_messages": Description("gauge", ("state",), "Messages in SQS_QUEUE_NAME: waiting, in_flight."),
    "uaharvest_sqs_oldest_message_seconds": Description(
        "gauge",
        (),
        "Age of the oldest message in SQS_QUEUE_NAME; missing if none waits, or the role lacks"
        " cloudwatch:GetMetricStatistics.",
    ),
    "uaharvest_index_backlog_messages": Description(
        "gauge", (), "Messages that the indexer has not indexed yet, also those that it holds."
    ),
    "uaharvest_index_drain_age_seconds": Description("gauge", (), "Time since an indexer's last drain ended."),
    "uaharvest_index_blocked_indices": Description("gauge", (), "Indices that take no documents."),
    "uaharvest_documents_indexed_total": Description("counter", (), "Documents that the indexer has stored."),
    "uaharvest_queue_messages": Description("gauge", ("queue",), "Messages that wait in a queue of Celery."),
    "uaharvest_queue_workers": Description(
        "gauge", ("queue",), "Workers that consume a queue; missing with sqs:// as the broker."
    ),
    "uaharvest_beat_tick_age_seconds": Description(
        "gauge", ("stream",), "Time since the stream last received a tick from beat, by Redis's clock."
    ),
    "uaharvest_beat_period_seconds": Description("gauge", (), "HARVEST_EVERY_SECONDS."),
    "uaharvest_clock_skew_seconds": Description(
        "gauge", ("clock",), "How far a clock is ahead of Redis's: this host, S3, beat, workers, sources."
    ),
}


class Sample(NamedTuple):
    """A value of a metric; a histogram has its buckets (how many requests each holds) and the sum as its value."""

    metric: str
    labels: tuple[str, ...]
    value: float
    buckets: Mapping[str, int] = {}


class Counted(NamedTuple):
    """What Redis holds besides the report of `status`: counts by stream, and how many indices take no documents."""

    streams: Mapping[str, Mapping[str, int]]
    blocked_indices: int


class HarvestCollector(Collector):
    """Reads the harvest's state for each scrape; one scrape at a time."""

    def __init__(self, settings: Settings, workers: broker.Workers) -> None:
        """Read the site of `settings`, and its queues through `workers`."""
        self._settings = settings
        self._workers = workers
        self._lock = threading.Lock()
        self._families: list[Metric] = []
        self._fresh_until = 0.0
        self._age: float | None = None
        self._age_until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return all metrics that can be read now."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._families = list(families(self._read()))
                self._fresh_until = time.monotonic() + FRESH
            return self._families

    def _read(self) -> Iterator[Sample]:
        began = time.monotonic()
        report = status.status(self._settings, self._workers)
        counted = None
        if report["redis"]["error"] is None:
            try:
                counted = count(self._settings)
            except Exception:  # noqa: BLE001 - reported as an error of Redis
                report["redis"]["error"] = "The counters cannot be read."
        yield from samples(self._settings, report, counted, datetime.now(UTC))
        yield from self._oldest_message(report["sqs"] or {})
        yield Sample("uaharvest_scrape_duration_seconds", (), time.monotonic() - began)

    def _oldest_message(self, sqs: Mapping[str, Any]) -> Iterator[Sample]:
        """Yield the age of the oldest message that waits, which CloudWatch knows; it is asked once a minute."""
        if not sqs.get("waiting"):
            return
        if time.monotonic() >= self._age_until:
            self._age_until = time.monotonic() + AGE_KEPT
            self._age = None
            with contextlib.suppress(*aws.ERRORS):
                self._age = aws.oldest_message_age(self._settings.queue or "")
        if self._age is not None:
            yield Sample("uaharvest_sqs_oldest_message_seconds", (), self._age)


def count(settings: Settings) -> Counted:
    """Return what Redis holds beyond the report of `status`; raises redis.RedisError."""
    with closing(assembly.redis_client(settings, patient=False)) as client:
        names = [*assembly.streams(settings), STREAM]
        return Counted(
            {name: assembly.state(settings, client, stream=name).counted() for name in names},
            len(assembly.indexer_state(settings, client).held()),
        )


def families(found: Iterable[Sample]) -> Iterator[Metric]:
    """Return the samples as Prometheus's library wants them, by metric."""
    of: dict[str, Any] = {}
    makers: Mapping[str, Callable[..., Any]] = {
        "gauge": GaugeMetricFamily,
        "counter": CounterMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    for metric, labels, value, buckets in found:
        description = METRICS[metric]
        if metric not in of:
            of[metric] = makers[description.type](metric, description.help, labels=description.labels)
        if description.type == "histogram":
            of[metric].add_metric(labels, _cumulative(buckets), value)
        else:
            of[metric].add_metric(labels, value)
    yield from of.values()


def samples(
    settings: Settings, report: Mapping[str, Any], counted: Counted | None, now: datetime
) -> Iterator[Sample]:
    """Yield what can be said.

    Args:
        settings: The site's settings.
        report: From `status.status`.
        counted: From `count`; None if Redis does not answer.
        now: This host's clock.
    """
    broken = _broken(report)
    yield Sample("uaharvest_build_info", (__version__,), 1)
    yield Sample("uaharvest_status_exit_code", (), int(status.exit_code(report)))
    yield Sample("uaharvest_beat_period_seconds", (), settings.every)
    for part in PARTS:
        yield Sample("uaharvest_scrape_error", (part,), part in broken)
    for name, stream in report["streams"].items():
        yield from _of_watermark(name, stream)
    if "redis" not in broken:
        yield from _of_redis(settings, report, now)
    if counted is not None:
        yield from _of_counts(counted)
    if "broker" not in broken:
        yield from _of_celery(report)
    if "s3" not in broken:
        for name, state in _streams(report):
            yield Sample("uaharvest_dead_letters", (name,), state["dead_letters"])
        for name in report["streams"]:
            yield from _of_backfills(name, [one for one in report["backfills"] if one["stream"] == name], now)
    if "sqs" not in broken:
        yield from _of_sqs(report)


def table() -> str:
    """Return all metrics as a Markdown table; a test compares it with the one in docs/monitoring.md."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for name, (type_, labels, meaning) in METRICS.items():
        rows.append(f"| `{name}` | {type_} | {', '.join(labels) or '-'} | {meaning} |")
    return "\n".join([*rows, ""])


def _broken(report: Mapping[str, Any]) -> set[str]:
    """Return the parts that could not be read."""
    parts = [part for _, part in _streams(report)]
    # If S3 refuses, the stream is blocked; only that reason has no beginning.
    refused = any(part["blocked"] and part["blocked"]["since"] is None for part in parts)
    errors = {
        "redis": report["redis"]["error"] or report["redis"]["unreadable"],
        "broker": report["broker_error"],
        "s3": refused or any(part["s3_error"] for part in parts),
        "sqs": status.sqs_error(report),
    }
    return {part for part, error in errors.items() if error}


def _streams(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the state of each stream, and of the indexer if it is used."""
    yield from report["streams"].items()
    if report["index"]:
        yield STREAM, report["index"]


def _of_watermark(name: str, stream: Mapping[str, Any]) -> Iterator[Sample]:
    if stream["lag_seconds"] is not None:
        yield Sample("uaharvest_stream_lag_seconds", (name,), stream["lag_seconds"])
        yield Sample("uaharvest_stream_overdue_seconds", (name,), stream["overdue_seconds"])


def _of_redis(settings: Settings, report: Mapping[str, Any], now: datetime) -> Iterator[Sample]:
    for name, stream in report["streams"].items():
        yield from _of_runs(name, stream, now)
    for name, state in _streams(report):
        yield from _of_state(name, state)
    if report["alerts"]:
        yield from _of_state(assembly.ALERTS, report["alerts"])
    if report["audits"]:
        yield from _of_audits(settings, report["audits"])
    # All backfills of a stream share one state. It means something only while one of them is running.
    for name, one in {one["stream"]: one for one in report["backfills"] if one["state"] == "running"}.items():
        yield from _of_state(assembly.backfills_of(name), one)
    yield Sample("uaharvest_redis_evicts", (), bool(report["redis"]["evicts"]))
    for clock in report["clocks"]:
        yield Sample("uaharvest_clock_skew_seconds", (clock["name"],), clock["seconds_ahead"])
    yield from _of_zoom(settings, report["zoom_calls"] or {})
    if report["index"]:
        yield from _of_index(report["index"], now)


def _of_sqs(report: Mapping[str, Any]) -> Iterator[Sample]:
    sqs = report["sqs"]
    if not sqs or "error" in sqs:  # the first delivery creates the queue
        return
    yield Sample("uaharvest_sqs_messages", ("waiting",), sqs["waiting"])
    yield Sample("uaharvest_sqs_messages", ("in_flight",), sqs["in_flight"])
    if report["index"]:
        yield Sample("uaharvest_index_backlog_messages", (), sqs["waiting"] + sqs["in_flight"])


def _of_runs(name: str, stream: Mapping[str, Any], now: datetime) -> Iterator[Sample]:
    yield Sample("uaharvest_losses", (name,), len(stream["lost"]))
    runs = stream["open_runs"]
    for state in ("due", "claimed", "put_off"):
        yield Sample("uaharvest_slices", (name, state), sum(run["slices"][state] for run in runs))
    for kind in sorted({run["kind"] for run in runs}):
        opened = min(datetime.fromisoformat(run["opened_at"]) for run in runs if run["kind"] == kind)
        age = max((now - opened).total_seconds(), 0.0)
        yield Sample("uaharvest_open_run_age_seconds", (name, kind), age)


def _of_state(name: str, state: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield the state of a stream, or of the indexer."""
    blocked = state["blocked"]
    span = bool(blocked) and blocked["exit_code"] == Exit.SPAN_REFUSED
    yield Sample("uaharvest_stream_blocked", (name,), bool(blocked) and not span)
    yield Sample("uaharvest_stream_span_refused", (name,), span)
    yield Sample("uaharvest_stream_failing", (name,), bool(state["failure"]) and not blocked)
    if state.get("ticked_seconds_ago") is not None:
        yield Sample("uaharvest_beat_tick_age_seconds", (name,), state["ticked_seconds_ago"])


def _of_backfills(name: str, backfills: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Sample]:
    """Yield the backfills of a stream that have not ended."""
    running = [one for one in backfills if one["state"] == "running"]
    yield Sample("uaharvest_backfills", (name, "running"), len(running))
    yield Sample("uaharvest_backfills", (name, "stopped"), len(backfills) - len(running))
    if not running:
        return
    yield Sample("uaharvest_backfill_rows_per_second", (name,), sum(one["rows_per_second"] for one in running))
    if all(one["rows_left"] is not None for one in running):
        yield Sample("uaharvest_backfill_rows_left", (name,), sum(one["rows_left"] for one in running))
    # One that was just resumed has not been idle since it was stopped: that writes it, too.
    oldest = min(datetime.fromisoformat(one["saved_at"]) for one in running)
    yield Sample("uaharvest_backfill_idle_seconds", (name,), max((now - oldest).total_seconds(), 0.0))


def _of_audits(settings: Settings, audits: Mapping[str, Any]) -> Iterator[Sample]:
    yield from _of_state(assembly.AUDIT, audits)
    for name, newest in audits["newest"].items():
        missing = sum(gap["missing"] for gap in audits["gaps"] if gap["stream"] == name)
        yield Sample("uaharvest_audit_missing_rows", (name,), missing)
        if settings.audit_at is not None:
            yield Sample("uaharvest_audit_age_seconds", (name,), newest["seconds_ago"])


def _of_zoom(settings: Settings, calls: Mapping[str, Any]) -> Iterator[Sample]:
    limits = {str(label): limit for label, limit in PLANS[settings.zoom_plan].items()}
    for cap in sorted({limits[label].day_cap for label in calls if limits[label].per_day}):
        used = [entry for label, entry in calls.items() if limits[label].day_cap == cap]
        per_day = used[0]["per_day"]
        ours = per_day * settings.zoom_quota_share // 100 - sum(entry["calls"] for entry in used)
        left = min(ours, per_day - max(entry["counted"] for entry in used))
        spent = any(entry["exhausted_until"] for entry in used)
        yield Sample("uaharvest_zoom_calls_remaining", (cap,), 0 if spent else max(left, 0))


def _of_index(index: Mapping[str, Any], now: datetime) -> Iterator[Sample]:
    yield Sample("uaharvest_documents_indexed_total", (), index["indexed"])
    if last := index["last_drain"]:
        age = (now - datetime.fromisoformat(last["ended_at"])).total_seconds()
        yield Sample("uaharvest_index_drain_age_seconds", (), max(age, 0.0))


def _of_counts(counted: Counted) -> Iterator[Sample]:
    yield Sample("uaharvest_index_blocked_indices", (), counted.blocked_indices)
    for name, counts in counted.streams.items():
        yield Sample("uaharvest_dead_letters_written_total", (name,), counts.get("dead", 0))
        if name != STREAM:
            yield Sample("uaharvest_records_delivered_total", (name,), counts.get("delivered", 0))
            yield Sample("uaharvest_records_repeated_total", (name,), counts.get("repeated", 0))
        for kind in KINDS:
            yield Sample("uaharvest_failures_total", (name, kind), counts.get(f"failures:{kind}", 0))
    # A process works for several streams. Whichever slice ends first takes its counts of upstreams along.
    totals: dict[str, int] = {}
    for counts in counted.streams.values():
        for field, amount in counts.items():
            totals[field] = totals.get(field, 0) + amount
    for upstream in sorted(field.partition(":")[2] for field in totals if field.startswith("microseconds:")):
        buckets = {bucket: totals.get(f"requests:{upstream}:{bucket}", 0) for bucket in counters.BUCKETS}
        seconds = totals[f"microseconds:{upstream}"] / 1e6
        yield Sample("uaharvest_upstream_request_duration_seconds", (upstream,), seconds, buckets)
        for fault in FAULTS:
            failed = totals.get(f"faults:{upstream}:{fault}", 0)
            yield Sample("uaharvest_upstream_failures_total", (upstream, fault), failed)


def _of_celery(report: Mapping[str, Any]) -> Iterator[Sample]:
    for queue, waiting in report["queues"].items():
        yield Sample("uaharvest_queue_messages", (queue,), waiting)
        if report["workers"] is not None:
            heard = sum(queue in queues for queues in report["workers"].values())
            yield Sample("uaharvest_queue_workers", (queue,), heard)


def _cumulative(buckets: Mapping[str, int]) -> list[tuple[str, float]]:
    """Return Prometheus's buckets, each of which includes those before it."""
    total, found = 0, []
    for limit, amount in buckets.items():
        total += amount
        found.append((limit, float(total)))
    return found
