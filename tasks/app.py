"""The Celery application, which `celery -A tasks worker|beat|flower` finds as `tasks.app`."""

from typing import Any

from celery import Celery, signals

from uaharvest import logs, settings

app = Celery("uaharvest", include=["tasks.useractions"])
app.config_from_object("celeryconfig")


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(settings.load().log_level)
