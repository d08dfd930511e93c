"""What the streams' tasks share: hints sent as Celery messages, and one place that handles all errors."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import redis
import structlog
from celery import Task
from kombu.exceptions import OperationalError

from uaharvest import assembly, aws, settings
from uaharvest.errors import BusyError, HarvestError, PutOffError, RetryableError
from uaharvest.redis_url import RedisUrl
from uaharvest.runs.state import Clocks, Place, blocks, reason_of

# Beat sends no more ticks to a queue with this many messages, and workers no more hints. The hints of a run are far
# fewer, so this happens only if no worker consumes them.
MOST_WAITING = 128
# For this many seconds a process caches the number of waiting messages.
LOOK_EVERY = 5.0
# A clock that differs from Redis's by more than this is logged, seconds.
TOLERATED = 10.0

# The errors of brokers; kombu does not translate those of a full Redis or of SQS.
UNREACHABLE = (OperationalError, redis.RedisError, *aws.ERRORS)

log = structlog.get_logger()


class HarvestTask(Task):  # type: ignore[misc] # celery is not typed
    """A task of a stream, which Celery never sees fail.

    Errors are recorded in the stream's state; for unexpected ones only the type and the place, never the text.
    Celery would write the text, the arguments and the variables of each frame to its log and to the event
    `task-failed`, which Flower shows.

    Attributes:
        stream: The stream that the task belongs to.
        place: The place in the stream's state where its failures are recorded.
        every: Seconds between two ticks; None if beat does not trigger the task.
    """

    abstract = True
    typing = False  # the argument `tick` belongs to this class, not to the function
    stream: str
    place: Place
    every: float | None = None

    def __call__(self, *args: Any, tick: bool = False, **kwargs: Any) -> str:
        """Run the task, and return its outcome in a few words, which Flower shows as its result.

        Args:
            args: The task's own arguments.
            tick: Whether beat triggered it. Of several ticks queued during an outage, only one runs.
            kwargs: The task's own arguments; with `run_id`, a failure belongs to that explicit run.
        """
        with structlog.contextvars.bound_contextvars(stream=self.stream, task_id=self.request.id):
            return self._guarded(*args, tick=tick, **kwargs)

    def _guarded(self, *args: Any, tick: bool, **kwargs: Any) -> str:
        place: Place = "explicit" if kwargs.get("run_id") else self.place
        try:
            if tick and not self._tick():
                return "left out: a tick came just before"
            return str(self.run(*args, **kwargs))
        except (PutOffError, BusyError) as error:
            log.info("put off", task=self.name, reason=str(error))
            return f"put off: {error}"
        except Exception as error:
            unexpected = None if isinstance(error, (HarvestError, redis.RedisError)) else error
            reason = _reason(error)
            event = "blocked" if blocks(error) else "failed, the next tick tries again"
            log.warning(event, task=self.name, reason=reason, exc_info=unexpected)
            with _redis() as client:
                state = assembly.state(settings.current(), client, stream=self.stream)
                state.failed(place, error)
            return f"{'blocked' if blocks(error) else 'failed'}: {reason}"

    def apply_async(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, *others: Any, **options: Any
    ) -> Any:
        """Send a message for the task, but send no tick to a queue that nobody consumes.

        An expiry would do that too. But Celery compares it with the clock of the worker's host: if beat's clock is
        one period behind, every tick has expired when it is sent.
        """
        if kwargs and kwargs.get("tick"):
            with contextlib.suppress(redis.RedisError), _redis() as client:
                _compare(client, self.stream, f"beat on {socket.gethostname()}, pid {os.getpid()}")
            queue = self.app.amqp.router.route({}, self.name)["queue"].name
            if (waiting := depths(self.app, queue)[queue]) >= MOST_WAITING:
                log.warning("no tick sent, because no worker takes the waiting ones", queue=queue, waiting=waiting)
                return None
        return super().apply_async(args, kwargs, *others, **options)

    def _tick(self) -> bool:
        with _redis() as client:
            _compare(client, self.stream, f"worker on {socket.gethostname()}")
            return assembly.state(settings.current(), client, stream=self.stream).tick(self.every or 0)


class CeleryHints:
    """Hints as Celery messages."""

    def __init__(self, advance: Task, work: Task) -> None:
        """Send messages for these two tasks of a stream."""
        self._advance = advance
        self._work = work
        self._room = 0
        self._look_again = 0.0

    def advance(self, run_id: str | None) -> None:
        """Send a message that triggers `advance`, or with `run_id` only that of one explicit run."""
        with _broker():
            self._advance.delay(run_id=run_id)

    def work(self, run_id: str, slice_id: str) -> None:
        """Send a message that requests one slice, but not to a queue that nobody consumes.

        The ledger treats an unsent message as lost and sends it again one lease later.
        """
        if time.monotonic() >= self._look_again:
            self._room = MOST_WAITING
            queue = self._work.app.amqp.router.route({}, self._work.name)["queue"].name
            with contextlib.suppress(*UNREACHABLE):  # sending will report it
                self._room -= depths(self._work.app, queue)[queue]
            self._look_again = time.monotonic() + LOOK_EVERY
        self._room -= 1
        if self._room >= 0:
            with _broker():
                self._work.delay(run_id, slice_id)


def _reason(error: Exception) -> str:
    """Return what failed and what to do, safe to show to anybody."""
    if isinstance(error, redis.RedisError):
        return RedisUrl.parse(settings.current().redis_url).failure(error)
    return reason_of(error)


def depths(app: Any, *queues: str) -> dict[str, int]:
    """Return how many messages wait in each of these queues.

    A passive declaration does not work: kombu 5.7 looks up the queue's key without `global_keyprefix` and finds
    nothing.

    Raises:
        kombu.exceptions.OperationalError: The broker does not answer.
    """
    with app.connection_for_read() as connection, connection.channel() as channel:
        return {queue: int(channel._size(queue)) for queue in queues}  # noqa: SLF001 - what a declaration calls


@contextlib.contextmanager
def _redis() -> "Iterator[redis.Redis]":
    with closing(assembly.redis_client(settings.current())) as client:
        yield client


def _compare(client: "redis.Redis", stream: str, name: str) -> None:
    clocks = Clocks(client, assembly.place(settings.current(), stream))
    ahead = clocks.compare(name, datetime.now(UTC), clocks.now())
    if abs(ahead) > TOLERATED:
        log.warning("this host's clock and Redis's differ", clock=name, seconds_ahead=round(ahead, 1))


@contextlib.contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        raise RetryableError(
            f"Celery's broker takes no messages ({type(error.__cause__ or error).__name__}). Check CELERY_BROKER_URL."
        ) from None
