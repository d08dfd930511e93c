"""The Celery application, which `celery -A tasks worker|beat|flower` finds as `tasks.app`."""

import sys
from typing import Any

from celery import Celery, signals

from uaharvest import logs, settings
from uaharvest.errors import BadInputError

try:
    _settings = settings.current()
except BadInputError as error:
    # celery would show where in its own code the setting was read.
    print(error, file=sys.stderr)  # noqa: T201 - there are no logs yet
    sys.exit(int(error.exit_code))

app = Celery("uaharvest", include=["tasks.useractions", "tasks.episodes", "tasks.zoom", "tasks.index"])
app.config_from_object("celeryconfig")


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(_settings.log_level)
