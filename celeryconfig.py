"""Every Celery setting, with its reason; beat, workers, Flower and `manage.py enqueue` share this one file.

What keeps a harvest whole is the ledger, not Celery: messages are hints, so they are acknowledged early, have no
results and are not retried (docs/design.md says why).
"""

from typing import Any

from kombu.entity import Exchange, Queue

from uaharvest import settings as harvest

_settings = harvest.current()

# Redis, which the ledger needs anyway, or SQS (sqs://). Where SQS is, boto3's own settings say (AWS_*).
broker_url = _settings.broker_url
# A worker that starts before Redis waits for it, and one that loses it comes back.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
if broker_url.startswith("sqs"):
    broker_transport_options: dict[str, Any] = {
        "queue_name_prefix": "uaharvest-",  # the account's other queues have names too
        "visibility_timeout": 900,  # SQS gives a message that a dead worker had read to another after this
    }
else:
    broker_transport_options = {
        "global_keyprefix": "uaharvest:celery:",  # the ledger may live in the same database
        "client_name": "uaharvest",
        # Unacknowledged are only messages that a worker has read and not begun; a dead worker's come back after
        # this, and the next tick would have sent them again before.
        "visibility_timeout": 900,
        "unacked_restore_throttle": 1,  # look for them every 10 s, not every 100 s
        # Without these a publish or read may hang for ever on a connection that went away silently.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }

# One queue per upstream, so that a slow Zoom holds back no useraction and workers can be given to one of them.
# A worker without -Q hears all.
task_queues = tuple(
    Queue(name, Exchange(name), routing_key=name)
    for name in ("useractions", "episodes", "zoom", "index", "control")
)
task_default_queue = "control"
task_routes = {
    # Few lists are read a minute, and nothing else shall wait for that.
    "zoom.advance": {"queue": "zoom"},
    "*.advance": {"queue": "control"},
    "useractions.*": {"queue": "useractions"},
    "episodes.*": {"queue": "episodes"},
    "zoom.*": {"queue": "zoom"},
    "index.*": {"queue": "index"},
}
task_create_missing_queues = False  # a typing error in a queue's name is an error, not a queue that nobody hears

# JSON only: a message can do nothing but call a task.
task_serializer = "json"
accept_content = ["json"]
# Nobody waits for a result; thousands would fill Redis.
task_ignore_result = True
result_backend = None
# Early: with celery 5.7 a worker dies when Redis goes away under a late one, and the ledger does not need it.
task_acks_late = False
# A message that waits in one worker's memory is one that no other can take.
worker_prefetch_multiplier = 1
worker_disable_prefetch = not broker_url.startswith("sqs")  # celery can do so with Redis only
# A slice is at most a few requests with time-outs of their own; what takes this long hangs. Its lease then ends,
# and another worker takes the slice.
task_time_limit = 900
# Python gives memory back late: a process that had one large page to read is replaced.
worker_max_tasks_per_child = 1000
worker_max_memory_per_child = 400_000  # KiB
# On SIGTERM (as SIGQUIT, see docker-compose.yml) the slice in hand has this long to end.
worker_soft_shutdown_timeout = 30
worker_enable_soft_shutdown_on_idle = True
worker_hijack_root_logger = False  # tasks/ sets up the logs
# Flower shows what workers do; that a message was sent would cost a third of sending it, and says no more.
worker_send_task_events = True
timezone = "UTC"
enable_utc = True

# Beat is only a trigger: the window comes from the watermark, so a tick that is missed, late or double does no
# harm. A tick that waited for longer than a period is dropped, so that they do not pile up in an outage.
beat_schedule: dict[str, dict[str, Any]] = {
    "useractions": {
        "task": "useractions.advance",
        "schedule": float(_settings.every),
        "kwargs": {"tick": True},
        "options": {"expires": float(_settings.every)},
    },
}
if _settings.episodes:
    # Asked as often, for it is `advance` that sends a slice again that was put off; the day's turn is at EPISODES_AT.
    beat_schedule["episodes"] = {
        "task": "episodes.advance",
        "schedule": float(_settings.every),
        "options": {"expires": float(_settings.every)},
    }
if _settings.zoom:
    # Likewise; the day's turn is at ZOOM_AT.
    beat_schedule["zoom"] = {
        "task": "zoom.advance",
        "schedule": float(_settings.every),
        "options": {"expires": float(_settings.every)},
    }
if _settings.indexer:
    # It ends when the queue is empty, or within the minute; one that waited for so long is dropped.
    beat_schedule["index"] = {"task": "index.drain", "schedule": 60.0, "options": {"expires": 60.0}}
