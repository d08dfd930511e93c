"""The Celery application, which `celery -A tasks worker|beat|flower` finds as `tasks.app`."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, signals

from uaharvest import logs, settings
from uaharvest.errors import BadInputError

try:
    _settings = settings.current()
except BadInputError as error:
    # Otherwise celery would print a traceback through its own code.
    print(error, file=sys.stderr)  # noqa: T201 - logging is not configured yet
    sys.exit(int(error.exit_code))

app = Celery(
    "uaharvest",
    include=[
        "tasks.health",
        "tasks.streams",
        "tasks.backfill",
        "tasks.index",
        "tasks.alerts",
        "tasks.audit",
        "tasks.retention",
        "tasks.about",
    ],
)
app.config_from_object("celeryconfig")
# Flower reads this file after it has loaded the application: the login, what Flower shows, and where it keeps it.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(_settings.log_level, _settings)


@signals.celeryd_after_setup.connect  # worker_init comes before logging is configured
@signals.beat_init.connect
def _report_problems(**_: Any) -> None:
    from uaharvest import startup  # noqa: PLC0415 - `manage.py` imports this module too, and needs no start

    for problem in startup.problems(_settings):
        structlog.get_logger().error(problem)


@signals.worker_process_shutdown.connect
def _flush_logs(**_: Any) -> None:
    # Python does this at the end of a process, but a pool process ends without it.
    logging.shutdown()
