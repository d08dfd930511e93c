"""What `manage.py` needs from Celery: hints for the workers, queue depths, and which workers are alive."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kombu.connection import Connection

from tasks.app import app
from tasks.engines import depths

if TYPE_CHECKING:
    from uaharvest.runs.engine import Hints

# Seconds. Busy workers answer too, because their main process does.
ANSWER_WITHIN = 1.0
# The exchange of Celery's remote control. Each worker binds a queue to it, and unbinds it when it ends in good order.
CONTROL = "celery.pidbox"


def hints(stream: str = "useractions") -> "Hints":
    """Return a stream's hints, which are sent to the workers."""
    from tasks.streams import TASKS  # noqa: PLC0415 - `status` needs no engine, which takes time to import

    return TASKS[stream].hints


def backfill_hints(stream: str, to: str) -> "Hints":
    """Return the hints for the backfills of a stream to a destination."""
    from tasks.backfill import TASKS  # noqa: PLC0415 - see above

    return TASKS[stream].hints[to]


def drain_index(indexers: int) -> None:
    """Send one message for each of the indexers."""
    from tasks import index  # noqa: PLC0415 - see above

    for _ in range(indexers):
        index.drain.delay(seconds=index.ASKED)


def queues() -> dict[str, int]:
    """Return how many messages wait in each queue."""
    return depths(app, *(queue.name for queue in app.conf.task_queues))


def alive(wait: float | None = None) -> dict[str, list[str]] | None:
    """Return each responding worker's queues, by worker name; None if the broker cannot query workers.

    Args:
        wait: Wait for answers for this many seconds. None: until all workers that the broker knows have answered, but
            ANSWER_WITHIN at most.
    """
    with app.connection_for_read() as connection:
        if not _can_be_asked(connection):
            return None
        # If Celery does not know how many answers will come, it always waits for the whole time. The broker also counts
        # workers that were killed; then the wait is as long. If it has lost its data, it may count too few: so with
        # `wait` its count is not used.
        known = None
        if wait is None:
            with connection.channel() as channel:
                known = len(channel.get_table(CONTROL))
        inspect = app.control.inspect(timeout=wait or ANSWER_WITHIN, limit=known, connection=connection)
        answers = inspect.active_queues() or {}
    return {name: [queue["name"] for queue in queues] for name, queues in answers.items()}


def about(within: float = ANSWER_WITHIN) -> Mapping[str, Mapping[str, Any]] | None:
    """Return what each responding worker reports about itself (see `tasks.about`), by name; None as for `alive`.

    A worker of a version without that command says only that it has an `error`.
    """
    with app.connection_for_read() as connection:
        if not _can_be_asked(connection):
            return None
        answers = app.control.broadcast("about", reply=True, timeout=within, connection=connection) or []
    return {name: facts for answer in answers for name, facts in answer.items()}


def _can_be_asked(connection: Connection) -> bool:
    """Tell whether the broker can query workers; SQS cannot."""
    return "fanout" in connection.transport.implements.exchange_type
