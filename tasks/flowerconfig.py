"""Configures Flower, which runs this file (FLOWER_CONF, see tasks/app.py) and takes each option from a name below.

Options on the command line and FLOWER_* in the environment name other ports, addresses or folders.
"""

import os
import sys
from pathlib import Path
from typing import Any

from flower.views.monitor import Metrics
from tornado.options import options
from tornado.web import authenticated

from tasks import readable
from uaharvest import settings

# A file of a day's tasks is saved in a second. By default 100,000 tasks are kept.
max_tasks = 20_000
state_save_interval = 60_000  # milliseconds
tasks_columns = "received,name,args,result,runtime,worker,state,uuid"

# Whoever gets in can stop workers and send tasks. The login is read here, so that `.env` may hold it: on a command line
# every user of the host would see it in `ps`.
if login := settings.current().flower_login:
    basic_auth = list(login)
elif not (any(options.basic_auth or ()) or options.auth):  # FLOWER_BASIC_AUTH= gives one empty login
    print(  # noqa: T201 - Flower's own log is not configured yet
        "Flower does not start without a login: whoever gets in can stop workers. Set FLOWER_BASIC_AUTH=user:password"
        " in the environment or in .env.",
        file=sys.stderr,
    )
    sys.exit(2)

# Flower 2.2 shows its metrics to everybody, login or not. They name hosts and tasks.
Metrics.get = authenticated(Metrics.get)

# It keeps what it has seen over a restart if it may write to its folder (FLOWER_DB).
persistent = os.access(Path(options.db).resolve().parent, os.W_OK)


def format_task(task: Any) -> Any:
    """Return a task with its arguments and result as a person reads them."""
    task.args = readable.arguments(task.args, task.kwargs)
    task.kwargs = ""
    task.result = readable.result(task.result)
    return task
