"""What `manage.py` needs of Celery: hints for the workers, the depth of the queues, who is alive."""

import contextlib

from kombu.exceptions import ChannelError

from tasks import episodes, index, useractions, zoom
from tasks.app import app
from uaharvest.runs.engine import Hints

# Workers that are busy fetching answer all the same: their main process does.
ANSWER_WITHIN = 1.0


def hints(stream: str = "useractions") -> Hints:
    """Return hints of a stream for the workers."""
    made: dict[str, Hints] = {
        "useractions": useractions.hints,
        "episodes": episodes.hints,
        "zoom": zoom.hints,
    }
    return made[stream]


def drain_index(indexers: int) -> None:
    """Send a message for each of so many indexers."""
    for _ in range(indexers):
        index.drain.delay(seconds=index.ASKED)


def queues() -> dict[str, int]:
    """Return how many messages wait in each queue."""
    depths = {}
    with app.connection_for_read() as connection:
        for queue in app.conf.task_queues:
            depths[queue.name] = 0
            with contextlib.suppress(ChannelError):  # Redis has no key for an empty queue
                channel = connection.default_channel
                depths[queue.name] = channel.queue_declare(queue.name, passive=True).message_count
    return depths


def alive() -> dict[str, list[str]] | None:
    """Return the queues that each worker that answers hears, by its name; None where the broker cannot ask."""
    if "fanout" not in app.connection_for_read().transport.implements.exchange_type:
        return None  # SQS
    answers = app.control.inspect(timeout=ANSWER_WITHIN).active_queues() or {}
    return {name: [queue["name"] for queue in queues] for name, queues in answers.items()}
