"""A healthy site as `status` and Redis report it, for tests that break one thing after the other."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

from uaharvest import metrics
from uaharvest.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(bucket="bucket", queue="queue", zoom_plan="pro", every=120, audit_at=timedelta(hours=6))
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
STREAM = {
    "watermark": "2026-11-20T11:59:30Z",
    "lag_seconds": 30,
    "overdue_seconds": 0,
    "blocked": None,
    "failure": None,
    "ticked_seconds_ago": 20,
    "open_runs": [
        {
            "kind": "live",
            "opened_at": "2026-11-20T11:59:50Z",
            "slices": {"planned": 9, "done": 2, "due": 4, "claimed": 2, "put_off": 1},
        }
    ],
    "last_runs": [],
    "lost": [],
    "dead_letters": 0,
    "s3_error": None,
}
INDEX = {
    "indexed": 1000,
    "dead": 0,
    "last_drain": {"ended_at": "2026-11-20T11:59:40Z"},
    "blocked": None,
    "failure": None,
    "ticked_seconds_ago": 20,
    "dead_letters": 0,
    "s3_error": None,
}
BACKFILL = {
    "stream": "useractions",
    "state": "running",
    "rows_per_second": 50.0,
    "rows_left": 90_000,
    "saved_at": "2026-11-20T11:59:00Z",
    "blocked": None,
    "failure": None,
}
AUDITS = {
    "newest": {"useractions": {"stream": "useractions", "seconds_ago": 20_000}},
    "gaps": [],
    "blocked": None,
    "failure": None,
}
CALLS = {"calls": 100, "counted": 120, "per_day": 30_000, "exhausted_until": None}
HEALTHY = {
    "streams": {"useractions": STREAM, "zoom": STREAM},
    "queues": {"control": 0, "useractions": 3, "zoom": 0, "index": 0},
    "workers": {"one@host": ["control", "useractions", "zoom", "index"], "two@host": ["useractions"]},
    "broker_error": None,
    "redis": {"error": None, "evicts": None, "unreadable": []},
    "beat_ticked_seconds_ago": 20,
    "sqs": {"queue": "queue", "waiting": 5, "in_flight": 2},
    "index": INDEX,
    "alerts": None,
    "audits": AUDITS,
    "backfills": [BACKFILL, BACKFILL | {"state": "stopped", "rows_per_second": 0.0}],
    "zoom_calls": {"Heavy": CALLS, "Resource-intensive": CALLS, "Light": CALLS | {"per_day": None}},
    "clocks": [{"name": "worker on host", "seconds_ahead": 0.4, "seconds_ago": 5}],
    "troubles": [],
    "notes": [],
}
COUNTS = {
    "delivered": 1000,
    "repeated": 10,
    "requests:opencast:0.25": 90,
    "requests:opencast:1.0": 10,
    "microseconds:opencast": 20_000_000,
    "requests:zoom:0.25": 100,
    "microseconds:zoom": 20_000_000,
}


def healthy():
    """Return a copy of that report, to be changed."""
    return copy.deepcopy(HEALTHY)


def samples(report, counts=COUNTS, blocked_indices=0):
    """Return the samples that a scrape would have."""
    counted = None
    if report["redis"]["error"] is None:
        streams = {name: counts if name == "useractions" else {} for name in (*report["streams"], "index")}
        counted = metrics.Counted(streams, blocked_indices)
    return list(metrics.samples(SETTINGS, report, counted, NOW))


def values(found):
    """Return the values by metric and labels, as Prometheus writes them."""
    return {series(sample): float(sample.value) for family in metrics.families(found) for sample in family.samples}


def series(sample):
    """Return the name and labels of a sample as Prometheus writes them."""
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"
