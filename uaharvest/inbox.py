"""Messages of an SQS queue: nobody else gets them while they are worked on, and they go only once confirmed."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

import structlog

from uaharvest import aws
from uaharvest.errors import BlockedError, RetryableError

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

AT_ONCE = 10  # messages; SQS takes no more in one request
# SQS then asks all of its servers: an empty answer means an empty queue. Shorter than the client's time-out.
WAIT = 2
_ATTEMPTS = 4  # at one delete whose entries fail
_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message that is ours until it is deleted or released.

    Attributes:
        id: The same each time the message is received.
        handle: This time's.
    """

    id: str
    handle: str = dataclasses.field(repr=False)
    body: str = dataclasses.field(repr=False)


class Inbox:
    """Receives from a queue, and keeps what it has received hidden from others, as a context manager.

    Any number of threads may receive and delete; one thread of its own renews what takes long. A process that
    dies leaves messages that come back after `lease` seconds.

    Args:
        client: With a connection for each thread.
        name: The queue's.
        lease: Seconds for which a message is hidden (its visibility timeout), renewed while it is held.
        pause: Waits so many seconds.
    """

    def __init__(
        self, client: "SQSClient", name: str, *, lease: float, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._what = f"SQS queue {name}"
        self._lease = lease
        self._pause = pause
        self._url = ""
        self._name = name
        self._held: dict[str, float] = {}  # handle: when it was received or renewed
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="inbox", daemon=True)

    def __enter__(self) -> Self:
        with self._translated():
            self._url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()

    def receive(self) -> list[Message]:
        """Return up to ten messages; none if the queue is empty, after two seconds.

        Raises:
            BlockedError: SQS refuses us.
            RetryableError: SQS cannot be reached.
        """
        now = time.monotonic()
        with self._translated():
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=WAIT,
                VisibilityTimeout=max(1, round(self._lease)),
            )
        messages = [
            Message(entry["MessageId"], entry["ReceiptHandle"], entry["Body"])
            for entry in answer.get("Messages", ())
        ]
        with self._lock:
            self._held.update((message.handle, now) for message in messages)
        return messages

    def delete(self, messages: Iterable[Message]) -> None:
        """Take `messages` out of the queue for good.

        One whose handle is no longer valid, because another has received it since, is left to that one.

        Raises:
            BlockedError: SQS refuses us.
            RetryableError: SQS cannot be reached, or keeps some; these come back, and are indexed over themselves.
        """
        for some in _tens([message.handle for message in messages]):
            self._delete(some)
            self._let_go(some)

    def release(self, messages: Iterable[Message]) -> None:
        """Give back what is still held of `messages`, at once instead of when its lease ends."""
        with self._lock:
            held = [message.handle for message in messages if message.handle in self._held]
        self._let_go(held)
        for some in _tens(held):
            self._hide(some, 0)

    def _delete(self, handles: Sequence[str]) -> None:
        pending = {str(number): handle for number, handle in enumerate(handles)}
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(aws.backoff(attempt))
            with self._translated():
                answer = self._client.delete_message_batch(
                    QueueUrl=self._url,
                    Entries=[{"Id": id_, "ReceiptHandle": handle} for id_, handle in pending.items()],
                )
            failed = {entry["Id"]: entry for entry in answer.get("Failed", ())}
            for entry in failed.values():
                reason = f"{entry['Code']}: {entry.get('Message', '')}"
                if aws.denied(entry["Code"]):
                    raise BlockedError(f"{self._what}: {reason}. The role needs sqs:DeleteMessage.")
            lasting = {id_ for id_, e in failed.items() if e["SenderFault"] and not aws.passes(e["Code"])}
            gone = {entry["Id"] for entry in answer.get("Successful", ())} | lasting
            pending = {id_: handle for id_, handle in pending.items() if id_ not in gone}
            if not pending:
                return
        raise RetryableError(
            f"{self._what} did not delete {len(pending)} messages: {reason or 'no answer for them'}"
        )

    def _keep(self) -> None:
        """Renew what has been held for a third of its lease, until all is over."""
        while not self._over.wait(self._lease / 6):
            now = time.monotonic()
            with self._lock:
                due = [handle for handle, since in self._held.items() if since <= now - self._lease / 3]
            for some in _tens(due):
                self._hide(some, max(1, round(self._lease)))
                with self._lock:
                    self._held.update((handle, now) for handle in some if handle in self._held)

    def _hide(self, handles: Sequence[str], seconds: int) -> None:
        """Hide messages for so long from now on; one that cannot be hidden is received twice, which does no harm."""
        try:
            self._client.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                    for number, handle in enumerate(handles)
                ],
            )
        except aws.ERRORS as error:
            log.warning(
                "messages not hidden, they may be indexed twice", reason=str(aws.translate(error, self._what))
            )

    def _let_go(self, handles: Iterable[str]) -> None:
        with self._lock:
            for handle in handles:
                self._held.pop(handle, None)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aws.ERRORS as error:
            if aws.code(error) in _NO_QUEUE:
                raise BlockedError(
                    f"{self._what} does not exist yet; the first delivery creates it. Check SQS_QUEUE_NAME."
                ) from None
            raise aws.translate(error, self._what) from None


def _tens(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), AT_ONCE):
        yield handles[start : start + AT_ONCE]
