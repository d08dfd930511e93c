"""All Celery settings, with their reasons; beat, workers, Flower and `manage.py enqueue` share this file.

The ledger, not Celery, keeps a harvest complete: messages are only hints, so they are acknowledged early, have no
results and are not retried (docs/design.md says why).
"""

import os
from typing import Any

from kombu.entity import Exchange, Queue

from uaharvest import keys, readers
from uaharvest import settings as harvest
from uaharvest.broker import QUEUES, SQS
from uaharvest.redis_url import RedisUrl
from uaharvest.streams import registry

_settings = harvest.current()

# A worker that starts before Redis waits for it, and one that loses the connection reconnects.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# The broker is Redis, which the ledger needs anyway, or SQS (sqs://); boto3's own settings (AWS_*) say where SQS
# is. Celery 5.7 prefers CELERY_BROKER_URL (which `celery -b` sets too) to `broker_url` and would bypass the checks
# below. So the variable is read and removed here.
try:
    _url = readers.broker_url(os.environ.pop("CELERY_BROKER_URL", "").strip() or _settings.broker_url)
except ValueError as error:
    raise SystemExit(f"The broker's URL cannot be used. Expected {error}.") from None
_sqs = _url.startswith(SQS)
broker_transport_options: dict[str, Any]
if _sqs:
    broker_url = _url
    broker_transport_options = {
        "queue_name_prefix": "uaharvest-",  # avoids clashes with the account's other queues
        "visibility_timeout": 900,  # after this time, SQS gives a dead worker's message to another worker
    }
else:
    broker_transport_options = {
        "global_keyprefix": keys.CELERY(""),  # the ledger may be in the same database
        "client_name": "uaharvest",
        # Only messages that a worker has read but not started are unacknowledged. A dead worker's messages return
        # after this time; by then the next tick has sent them again anyway.
        "visibility_timeout": 900,
        "unacked_restore_throttle": 1,  # check for them every 10 s instead of every 100 s
        # Without these, a publish or read could hang forever on a silently lost connection. A hint takes up to three
        # time-outs: kombu 5.7 counts the queue, publishes, and connects again. Its longest wait, BRPOP, is 1 s.
        "socket_timeout": 8,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    # The URL is not passed as it is: kombu 5.7 would not verify the certificate of a rediss:// server.
    _broker = RedisUrl.parse(_url).broker(broker_transport_options)
    broker_url = _broker.url
    broker_use_ssl = _broker.use_ssl
    broker_transport_options |= _broker.transport_options

# A worker without -Q consumes all queues.
task_queues = tuple(Queue(name, Exchange(name), routing_key=name) for name in QUEUES)
task_default_queue = "control"
task_routes = {
    **{task: queue for spec in registry.specs() for task, queue in spec.routes.items()},
    "index.*": {"queue": "index"},
    "alerts.*": {"queue": "control"},
    "audit.*": {"queue": "control"},
    "retention.*": {"queue": "control"},
    # Beat's tick only looks whether there is a backfill. So a site without one needs no worker for that queue.
    "backfill.tick": {"queue": "control"},
    "backfill.*": {"queue": "backfill"},
}
task_create_missing_queues = False  # a misspelt queue name is an error, not a queue without workers

# JSON only: messages can do nothing but call tasks.
task_serializer = "json"
accept_content = ["json"]
# Nobody reads results; thousands of them would fill Redis.
task_ignore_result = True
result_backend = None
# Acknowledge early: with late acknowledgement a celery 5.7 worker dies if Redis is lost during a task, and the
# ledger does not need it.
task_acks_late = False
# A message prefetched by one worker is not available to others.
worker_prefetch_multiplier = 1
worker_disable_prefetch = not _sqs  # celery supports this only with Redis
# A slice needs a few requests at most, which have their own time-outs, so a task that takes this long is hanging.
# Its lease then ends, and another worker takes the slice.
task_time_limit = 900
# Python rarely returns memory to the system: replace a process that has read a large page.
worker_max_tasks_per_child = 1000
worker_max_memory_per_child = 400_000  # KiB
# On SIGTERM (as SIGQUIT, see docker-compose.yml) the current slice has this many seconds to finish. After that it is
# given back (runs/worker.py).
worker_soft_shutdown_timeout = 30
worker_hijack_root_logger = False  # tasks/ configures logging
# Flower shows what workers do. Events for sent messages would add nothing, and a third to the cost of sending.
worker_send_task_events = True
timezone = "UTC"
enable_utc = True

beat_scheduler = "tasks.health:Scheduler"  # writes a heartbeat
beat_max_loop_interval = 10  # seconds between two heartbeats at most
# Beat is only a trigger: the window comes from the watermark, so a missed, late or repeated tick does no harm.
# Ticks have no expiry, because Celery would compare it with another host's clock. tasks/engines.py keeps them from
# piling up during an outage.
beat_schedule: dict[str, dict[str, Any]] = {
    spec.name: spec.beat_entry(_settings) for spec in registry.enabled(_settings)
}
if _settings.indexer:
    # It ends when the queue is empty, and at the latest within a minute.
    beat_schedule["index"] = {"task": "index.drain", "schedule": harvest.INDEX_EVERY, "kwargs": {"tick": True}}
if _settings.audit_at is not None:
    # Beat asks often; the task is due once a day from AUDIT_AT on, and continues where it stopped.
    beat_schedule["audit"] = {
        "task": "audit.nightly",
        "schedule": float(_settings.every),
        "kwargs": {"tick": True},
    }
if _settings.retention_enabled and _settings.bucket:
    # As above: it is due once a day from RETENTION_AT on.
    beat_schedule["retention"] = {
        "task": "retention.daily",
        "schedule": float(_settings.every),
        "kwargs": {"tick": True},
    }
if _settings.bucket:
    beat_schedule["backfill"] = {
        "task": "backfill.tick",
        "schedule": float(_settings.every),
        "kwargs": {"tick": True},
    }
if _settings.alerts_enabled:
    beat_schedule["alerts"] = {
        "task": "alerts.check",
        "schedule": float(_settings.every),
        "kwargs": {"tick": True},
    }
