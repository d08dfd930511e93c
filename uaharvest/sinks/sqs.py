"""Records to an SQS queue: packed by count and bytes, sent by several threads, confirmed entry by entry."""

import concurrent.futures
import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from uaharvest import aws
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.sinks import Delivery, Outgoing

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

REQUEST_ENTRIES = 10  # SendMessageBatch takes no more
REQUEST_BYTES = 1_048_576  # nor bodies of more than this together; until 2025 it was 262,144

_ATTEMPTS = 4  # at one request whose entries fail; about 1 s, then the slice goes back
_REFUSED_SHARE = 0.05  # more than this is no bad record but a bad queue
_REFUSED_FEW = 3  # so many may be bad records however few there are in all
_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})


class Message(NamedTuple):
    """One SQS message: a record's JSON object, or a JSON array of several."""

    body: str
    records: Sequence[Outgoing]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What one SendMessageBatch carries, and records before it that fit in no message, with the reason."""

    messages: Sequence[Message]
    refused: Sequence[tuple[Outgoing, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Queue:
    url: str
    limit: int  # bytes of one message


@dataclasses.dataclass(slots=True)
class _Outcome:
    confirmed: list[Outgoing] = dataclasses.field(default_factory=list)
    refused: list[tuple[Outgoing, str]] = dataclasses.field(default_factory=list)
    error: HarvestError | None = None

    def add(self, other: "_Outcome") -> None:
        self.confirmed += other.confirmed
        self.refused += other.refused
        self.error = self.error or other.error


def pack(records: Iterable[Outgoing], *, events_per_message: int, limit: int) -> Iterator[Request]:
    """Pack `records`, in order, into as few requests as SQS's limits allow.

    Args:
        records: ASCII bodies, so that characters are bytes.
        events_per_message: 1: a message is the record's object; more: an array of at most that many.
        limit: Most bytes of one message.
    """
    return _requests(_messages(records, events_per_message, limit), limit)


def _messages(records: Iterable[Outgoing], events_per_message: int, limit: int) -> Iterator[Message]:
    if events_per_message == 1:
        for record in records:
            yield Message(record.body, (record,))
        return
    chunk: list[Outgoing] = []
    size = 1  # the brackets, and a comma after each record but the last
    for record in records:
        if chunk and (len(chunk) == events_per_message or size + len(record.body) + 1 > limit):
            yield _array(chunk)
            chunk, size = [], 1
        chunk.append(record)
        size += len(record.body) + 1
    if chunk:
        yield _array(chunk)


def _array(records: Sequence[Outgoing]) -> Message:
    return Message(f"[{','.join([record.body for record in records])}]", records)


def _requests(messages: Iterable[Message], limit: int) -> Iterator[Request]:
    ready: list[Message] = []
    refused: list[tuple[Outgoing, str]] = []
    total = 0
    for message in messages:
        size = len(message.body)
        if size > limit:  # one record then: _messages joins none beyond the limit
            refused.append((message.records[0], f"{size:,} bytes; a message of this queue holds {limit:,}"))
            continue
        if len(ready) == REQUEST_ENTRIES or total + size > REQUEST_BYTES:
            yield Request(ready, refused)
            ready, refused, total = [], [], 0
        ready.append(message)
        total += size
    if ready or refused:
        yield Request(ready, refused)


class SqsSink:
    """Sends records to a standard queue; its threads live as long as the sink.

    Args:
        client: From `aws.sqs_client(threads)`.
        name: The queue's name; the queue is created if it does not exist.
        events_per_message: As in `pack`.
        threads: Requests under way at once.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        client: "SQSClient",
        name: str,
        *,
        events_per_message: int = 1,
        threads: int = 4,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._what = f"SQS queue {name}"
        self._events_per_message = events_per_message
        # As many again wait, so that no thread does; more would only fill memory.
        self._most_under_way = 2 * threads
        self._executor = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="sqs")
        self._pause = pause
        self._lock = threading.Lock()
        self._known: _Queue | None = None

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Delivery]:
        """Send all `records`; see `Sink.deliver`.

        Refused records come last: only then it is known whether they are few. After an error they are not
        reported, and refused again when they are sent again.

        Raises:
            RetryableError: SQS cannot be reached, throttles or fails.
            BlockedError: SQS refuses us, or refuses more than 5 % of the records.
        """
        confirmed = 0
        refused: list[tuple[Outgoing, str]] = []
        with contextlib.closing(self._send_all(records)) as outcomes:
            for outcome in outcomes:
                refused += outcome.refused
                if outcome.confirmed:
                    confirmed += len(outcome.confirmed)
                    yield Delivery(confirmed=outcome.confirmed)
        if len(refused) > max(_REFUSED_FEW, _REFUSED_SHARE * (confirmed + len(refused))):
            raise BlockedError(
                f"{self._what} refuses {len(refused)} of {confirmed + len(refused)} records: {refused[0][1]}."
                " So many are no single bad records: check the queue and SQS_EVENTS_PER_MESSAGE."
            )
        if refused:
            yield Delivery(refused=refused)

    def depth(self) -> tuple[int, int]:
        """Return how many messages wait and how many are in flight (received, not yet deleted), about.

        Raises:
            BlockedError: There is no such queue (this creates none), or AWS refuses us.
            RetryableError: SQS cannot be reached.
        """
        try:
            attributes = self._client.get_queue_attributes(
                QueueUrl=self._client.get_queue_url(QueueName=self._name)["QueueUrl"],
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
        except aws.ERRORS as error:
            if aws.code(error) in _NO_QUEUE:
                raise BlockedError(f"{self._what} does not exist yet; the first delivery creates it.") from None
            raise aws.translate(error, self._what) from None
        return (
            int(attributes["ApproximateNumberOfMessages"]),
            int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        )

    def _send_all(self, records: Iterable[Outgoing]) -> Generator[_Outcome]:
        """Keep the threads busy, yield what they report, and raise the first error once all of it is in."""
        requests = pack(
            records,
            events_per_message=self._events_per_message,
            limit=min(self._queue().limit, REQUEST_BYTES),
        )
        finished: queue.SimpleQueue[Future[_Outcome]] = queue.SimpleQueue()
        under_way: set[Future[_Outcome]] = set()
        stop = threading.Event()
        failure: Exception | None = None
        more = True
        try:
            while more or under_way:
                if more and len(under_way) < self._most_under_way:
                    try:
                        request = next(requests, None)
                    except Exception as error:  # noqa: BLE001 - the source's; raised when all is confirmed
                        failure, request = error, None
                    if request is None:
                        more = False
                    else:
                        future = self._executor.submit(self._send, request, stop)
                        under_way.add(future)
                        future.add_done_callback(finished.put)
                    continue
                outcome = _gather(finished, under_way)
                if outcome.error is not None:
                    failure, more = failure or outcome.error, False
                    stop.set()
                yield outcome
        finally:
            stop.set()
            concurrent.futures.wait(under_way)
        if failure is not None:
            raise failure

    def _send(self, request: Request, stop: threading.Event) -> _Outcome:
        """Send a request, and again what fails in it; an error is a value here, beside what was confirmed."""
        outcome = _Outcome(refused=list(request.refused))
        pending = {str(number): message for number, message in enumerate(request.messages)}
        alone: list[Message] = []
        reason = ""
        for attempt in range(_ATTEMPTS):
            if not pending:
                break
            if attempt:
                self._pause(aws.backoff(attempt))
            if stop.is_set():  # another request has failed, or the caller has gone
                break
            try:
                reason = self._attempt(pending, outcome, alone)
            except HarvestError as error:
                outcome.error = error
                return outcome
        if pending:
            outcome.error = RetryableError(f"{self._what} did not take {len(pending)} messages: {reason}")
            return outcome
        # Of an array that is refused one record may be the cause: each goes once more in an array of its own.
        for again in _requests(alone, REQUEST_BYTES):
            outcome.add(self._send(again, stop))
            if outcome.error is not None:
                break
        return outcome

    def _attempt(self, pending: dict[str, Message], outcome: _Outcome, alone: list[Message]) -> str:
        """Send all `pending` once, take away what that settles, and return why the rest is still there."""
        target = self._queue()
        try:
            answer = self._client.send_message_batch(
                QueueUrl=target.url,
                Entries=[{"Id": id_, "MessageBody": message.body} for id_, message in pending.items()],
            )
        except aws.ERRORS as error:
            if aws.code(error) not in _NO_QUEUE:
                raise aws.translate(error, self._what) from None
            self._queue(gone=target)
            return "the queue had vanished and was looked up or made again"
        for entry in answer.get("Successful", ()):
            outcome.confirmed += pending.pop(entry["Id"]).records
        reason = "they are not in the answer"
        for failed in answer.get("Failed", ()):
            code = failed["Code"]
            reason = f"{code}: {failed.get('Message', '')}"
            if aws.passes(code) or not failed["SenderFault"]:
                continue
            if aws.denied(code):
                raise BlockedError(f"{self._what}: {reason}. The role needs this permission, or the queue's key.")
            message = pending.pop(failed["Id"])
            if len(message.records) > 1:
                alone += [_array([record]) for record in message.records]
            else:
                outcome.refused.append((message.records[0], reason))
        return reason

    def _queue(self, gone: _Queue | None = None) -> _Queue:
        """Return the queue, looked up or made once, and again if it is the one that has `gone`."""
        with self._lock:
            if self._known is None or self._known is gone:
                self._known = None
                with aws.translated(self._what):
                    self._known = self._look_up()
            return self._known

    def _look_up(self) -> _Queue:
        try:
            url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
        except aws.ERRORS as error:
            if aws.code(error) not in _NO_QUEUE:
                raise
            # With default attributes: then a second worker that creates it too gets the same queue.
            url = self._client.create_queue(QueueName=self._name)["QueueUrl"]
        attributes = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["MaximumMessageSize"])
        return _Queue(url, int(attributes["Attributes"]["MaximumMessageSize"]))


def _gather(finished: queue.SimpleQueue[Future[_Outcome]], under_way: set[Future[_Outcome]]) -> _Outcome:
    """Wait for one request, and take all that have finished by then: a slow caller confirms many at once."""
    outcome = _Outcome()
    while True:
        future = finished.get()
        under_way.remove(future)
        outcome.add(future.result())
        if finished.empty():
            return outcome
