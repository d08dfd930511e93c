"""Receives messages from an SQS queue, hides them while they are processed, and deletes them once confirmed."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Self

import structlog

from uaharvest import aws
from uaharvest.errors import BlockedError, RetryableError

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

AT_ONCE = 10  # messages, the most that SQS accepts in one request
# Seconds of long polling. With it SQS asks all its servers, so an empty response means an empty queue. Must be
# shorter than the client's time-out.
WAIT = 2
LEAST_ASIDE = 60  # seconds; longer than the drains triggered by beat
_DEPTHS: Sequence[Literal["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
)
_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that we hold until we delete or release it.

    Attributes:
        id: The message's id, the same each time it is received.
        handle: The receipt handle, new each time it is received.
    """

    id: str
    handle: str = dataclasses.field(repr=False)
    body: str = dataclasses.field(repr=False)


class Receiver:
    """Receives from a queue and keeps the received messages hidden from others; a context manager.

    Any number of threads may receive and delete; the receiver's own thread renews the leases of messages that take
    long. If the process dies, its messages become visible again after `lease` seconds.

    Args:
        client: An SQS client with a connection for each thread.
        name: The queue's name.
        lease: Seconds for which a message is hidden (its visibility timeout); renewed while it is held.
        pause: Sleeps for the given number of seconds.
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
        self._held: dict[str, float] = {}  # by handle: when it was received or renewed
        self._aside: list[str] = []  # handles to release when the receiver closes
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="receiver", daemon=True)

    def __enter__(self) -> Self:
        with self._translated():
            self._url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()
        # After an error, no thread may be left to handle some of them.
        self._hide([*self._held, *self._aside], 0)

    def receive(self) -> list[ReceivedMessage]:
        """Return up to ten messages, or none if the queue stays empty for two seconds.

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
                ReceivedMessage(entry["MessageId"], entry["ReceiptHandle"], entry["Body"])
                for entry in answer.get("Messages") or ()
            ]
        with self._lock:
            self._held.update((message.handle, now) for message in messages)
        return messages

    def delete(self, messages: Iterable[ReceivedMessage]) -> None:
        """Delete `messages` from the queue.

        If a handle is no longer valid, another consumer has received the message since and will delete it.

        Raises:
            BlockedError: SQS refuses us.
            RetryableError: SQS cannot be reached, or did not delete some; these come back and are indexed again.
        """
        for some in _tens([message.handle for message in messages]):
            self._delete(some)
            self._let_go(some)

    def release(self, messages: Iterable[ReceivedMessage]) -> None:
        """Make those of `messages` that are still held visible now, without waiting for their leases to end."""
        with self._lock:
            held = [message.handle for message in messages if message.handle in self._held]
        self._let_go(held)
        self._hide(held, 0)

    def put_aside(self, messages: Iterable[ReceivedMessage], seconds: float) -> None:
        """Hide `messages` for `seconds`, and at least until this receiver closes; their leases are not renewed."""
        handles = [message.handle for message in messages]
        self._let_go(handles)
        self._hide(handles, max(LEAST_ASIDE, round(seconds)))
        if seconds < LEAST_ASIDE:
            with self._lock:
                self._aside += handles

    def is_empty(self) -> bool:
        """Tell whether the queue is empty, counting hidden messages too; SQS's counts are approximate.

        Raises:
            BlockedError: SQS refuses us.
            RetryableError: SQS cannot be reached.
        """
        with self._translated():
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=list(_DEPTHS))
            return not any(int(answer["Attributes"][name]) for name in _DEPTHS)

    def _delete(self, handles: Sequence[str]) -> None:
        pending = {str(number): handle for number, handle in enumerate(handles)}
        reason = ""
        for _ in aws.RETRIES.rounds(pending, pause=self._pause):
            with self._translated():
                answer = self._client.delete_message_batch(
                    QueueUrl=self._url,
                    Entries=[{"Id": id_, "ReceiptHandle": handle} for id_, handle in pending.items()],
                )
                failed = {entry["Id"]: entry for entry in answer.get("Failed") or ()}
                deleted = {entry["Id"] for entry in answer.get("Successful") or ()}
                for id_, entry in failed.items():
                    reason = f"{entry['Code']}: {entry.get('ReceivedMessage', '')}"
                    if aws.denied(entry["Code"]):
                        raise BlockedError(f"{self._what}: {reason}. The role needs sqs:DeleteMessage.")
                    if entry["SenderFault"] and not aws.passes(entry["Code"]):
                        deleted.add(id_)
            for id_ in deleted:
                pending.pop(id_, None)
        if pending:
            raise RetryableError(
                f"{self._what} did not delete {len(pending)} messages: {reason or 'no answer for them'}"
            )

    def _keep(self) -> None:
        """Renew each lease after a third of its time, until the receiver closes."""
        while not self._over.wait(self._lease / 6):
            now = time.monotonic()
            with self._lock:
                due = [handle for handle, since in self._held.items() if since <= now - self._lease / 3]
            self._hide(due, max(1, round(self._lease)))
            with self._lock:
                self._held.update((handle, now) for handle in due if handle in self._held)

    def _hide(self, handles: Sequence[str], seconds: int) -> None:
        """Hide messages for `seconds` from now; a failure does no harm, as the message is only received twice.

        After a failure the rest is not tried: at an SQS that hangs, each ten would take most of a minute.
        """
        for some in _tens(handles):
            try:
                self._client.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                        for number, handle in enumerate(some)
                    ],
                )
            except aws.ERRORS as error:
                reason = str(aws.translate(error, self._what))
                log.warning(
                    "messages could not be hidden from others, so they may be indexed twice", reason=reason
                )
                return

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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # A proxy or a console answered, or only part of the response arrived.
            raise RetryableError(
                f"{self._what} gave an answer that is not SQS's ({type(error).__name__})"
            ) from None


def _tens(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), AT_ONCE):
        yield handles[start : start + AT_ONCE]
