"""Sends records to an SQS queue: packed by count and bytes, sent by several threads, confirmed one by one."""

import concurrent.futures
import contextlib
import dataclasses
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog

from uaharvest import aws
from uaharvest.errors import BlockedError, HarvestError, NoQueueError, RetryableError
from uaharvest.intervals import duration
from uaharvest.sinks import Outgoing, Receipt
from uaharvest.tolerance import too_many

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import GetQueueAttributesResultTypeDef, SendMessageBatchResultTypeDef

log = structlog.get_logger()

REQUEST_ENTRIES = 10  # the most that SendMessageBatch accepts
RETENTION = 1_209_600  # seconds, SQS's maximum; its default is four days
SMALLEST_LIMIT = 1024  # bytes; SQS accepts no smaller MaximumMessageSize
REQUEST_BYTES = 1_048_576  # SendMessageBatch's limit for all bodies together; until 2025 it was 262,144

_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})
_EXISTS = frozenset({"QueueAlreadyExists", "QueueNameExists"})  # with other attributes
# Codes that refuse a whole request because of its messages; 413 comes from proxies.
_ABOUT_MESSAGES = frozenset(
    {"413", "BatchRequestTooLong", "InvalidMessageContents", "InvalidParameterValue", "MessageTooLong"}
)
_ATTRIBUTES: "list[QueueAttributeNameType]" = ["MaximumMessageSize", "CreatedTimestamp", "MessageRetentionPeriod"]


class Message(NamedTuple):
    """An SQS message: a record's JSON object, or a JSON array of several records."""

    body: str
    records: Sequence[Outgoing]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """The messages for one SendMessageBatch, and preceding records that fit into no message, with the reason."""

    messages: Sequence[Message]
    refused: Sequence[tuple[Outgoing, str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue's attributes.

    Attributes:
        url: The queue's URL.
        limit: Maximum size of a message in bytes.
        created: When it was created; None if the server does not say.
        retention: For how many seconds it keeps a message; 0 if the server does not say.
    """

    url: str
    limit: int
    created: datetime | None
    retention: int

    @property
    def warning(self) -> str:
        """Return a line if messages may be lost because the retention is short, otherwise ""."""
        if not 0 < self.retention < RETENTION:
            return ""
        return (
            f"the queue keeps a message for {duration(self.retention)} only; what is not read by then is lost. Set"
            f" its MessageRetentionPeriod to {RETENTION} (14 days)."
        )


@dataclasses.dataclass(slots=True)
class _Outcome:
    """The result of a request; we refuse the `oversized` records, SQS the `refused` ones."""

    confirmed: list[Outgoing] = dataclasses.field(default_factory=list)
    oversized: list[tuple[Outgoing, str]] = dataclasses.field(default_factory=list)
    refused: list[tuple[Outgoing, str]] = dataclasses.field(default_factory=list)
    error: HarvestError | None = None

    def add(self, other: "_Outcome") -> None:
        self.confirmed += other.confirmed
        self.oversized += other.oversized
        self.refused += other.refused
        self.error = self.error or other.error


def pack(records: Iterable[Outgoing], *, events_per_message: int, limit: int) -> Iterator[Request]:
    """Pack `records`, in order, into as few requests as SQS's limits allow.

    Args:
        records: Their bodies must be ASCII, so that characters are bytes.
        events_per_message: With 1, a message is a record's object; with more, an array of at most that many.
        limit: Maximum size of a message in bytes.
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
        if size > limit:  # a single record: _messages joins none beyond the limit
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
        name: The queue's name; it is created if it does not exist.
        events_per_message: As in `pack`.
        threads: Number of concurrent requests.
        found: Called with each queue that is looked up.
        pause: Sleeps for the given number of seconds.
    """

    def __init__(
        self,
        client: "SQSClient",
        name: str,
        *,
        events_per_message: int = 1,
        threads: int = 4,
        found: Callable[[Queue], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._what = f"SQS queue {name}"
        self._events_per_message = events_per_message
        # As many requests again are queued so that no thread idles; more would only use memory.
        self._most_under_way = 2 * threads
        self._executor = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="sqs")
        self._found = found
        self._pause = pause
        self._lock = threading.Lock()
        self._known: Queue | None = None

    def deliver(self, records: Iterable[Outgoing]) -> Iterator[Receipt[Outgoing]]:
        """Send all `records`; see `Sink.deliver`.

        Refused records come last, because only then is it known whether SQS refused just a few. Records too big
        for the queue do not count, as their refusal is certainly their own fault. After an error, refusals are not
        reported; those records are refused again when they are resent.

        Raises:
            RetryableError: SQS cannot be reached, throttles or fails.
            BlockedError: SQS denies us access, or refuses more than 5 % of the records.
        """
        confirmed = 0
        oversized: list[tuple[Outgoing, str]] = []
        refused: list[tuple[Outgoing, str]] = []
        with contextlib.closing(self._send_all(records)) as outcomes:
            for outcome in outcomes:
                oversized += outcome.oversized
                refused += outcome.refused
                if outcome.confirmed:
                    confirmed += len(outcome.confirmed)
                    yield Receipt(confirmed=outcome.confirmed)
        if too_many(len(refused), confirmed + len(refused)):
            # The queue's message limit may have been lowered since it was looked up.
            limit = self._queue(not_found=self._known).limit
            oversized += [(record, reason) for record, reason in refused if len(record.body) > limit]
            refused = [(record, reason) for record, reason in refused if len(record.body) <= limit]
        if too_many(len(refused), confirmed + len(refused)):
            raise BlockedError(
                f"{self._what} refuses {len(refused)} of {confirmed + len(refused)} records: {refused[0][1]}."
                " So many cannot be single bad records: check the queue and SQS_EVENTS_PER_MESSAGE."
            )
        if oversized or refused:
            yield Receipt(refused=oversized + refused)

    def depth(self) -> tuple[int, int]:
        """Return roughly how many messages are waiting and how many are in flight (received, not yet deleted).

        Raises:
            BlockedError: The queue does not exist (and is not created here), or AWS denies us access.
            RetryableError: SQS cannot be reached.
        """
        waiting, in_flight, _ = self.look()
        return waiting, in_flight

    def look(self) -> tuple[int, int, Queue]:
        """Return the same as `depth`, and the queue."""
        names: list[QueueAttributeNameType] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        ]
        try:
            url = self._client.get_queue_url(QueueName=self._name).get("QueueUrl")
            if not url:
                raise aws.not_aws(self._what, "SQS")
            attributes = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=[*names, *_ATTRIBUTES])
        except aws.ERRORS as error:
            if aws.code(error) in _NO_QUEUE:
                raise NoQueueError(f"{self._what} does not exist yet; the first delivery creates it.") from None
            raise aws.translate(error, self._what) from None
        found = self._read(url, attributes)
        self._found(found)
        waiting, in_flight = (self._number(attributes, name) for name in names)
        return waiting, in_flight, found

    def _send_all(self, records: Iterable[Outgoing]) -> Generator[_Outcome]:
        """Keep the threads busy, yield their results, and raise the first error once all have reported."""
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
                    except Exception as error:  # noqa: BLE001 - from the source; raised at the end
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
        """Send a request and retry what fails; return an error as part of the outcome, with what was confirmed."""
        outcome = _Outcome(oversized=list(request.refused))
        pending = {str(number): message for number, message in enumerate(request.messages)}
        alone: list[Message] = []
        reason = ""
        for _ in aws.RETRIES.rounds(pending, pause=self._pause):
            if stop.is_set():  # another request failed, or the caller stopped iterating
                break
            try:
                reason = self._attempt(pending, outcome, alone)
            except HarvestError as error:
                outcome.error = error
                return outcome
        if pending:
            outcome.error = RetryableError(f"{self._what} did not take {len(pending)} messages: {reason}")
            return outcome
        # A single record may be why an array was refused: resend each in its own array.
        for again in _requests(alone, REQUEST_BYTES):
            outcome.add(self._send(again, stop))
            if outcome.error is not None:
                break
        return outcome

    def _attempt(self, pending: dict[str, Message], outcome: _Outcome, alone: list[Message]) -> str:
        """Send all `pending` once, remove what that settles, and return why the rest remains."""
        target = self._queue()
        try:
            answer = self._client.send_message_batch(
                QueueUrl=target.url,
                Entries=[{"Id": id_, "MessageBody": message.body} for id_, message in pending.items()],
            )
        except aws.ERRORS as error:
            if aws.code(error) in _NO_QUEUE:
                self._queue(not_found=target)
                return "the queue had vanished and was looked up or created again"
            if aws.code(error) not in _ABOUT_MESSAGES:
                raise aws.translate(error, self._what) from None
            if len(pending) == 1:
                self._refuse(pending.popitem()[1], str(aws.translate(error, self._what)), outcome, alone)
                return ""
            # One of them may be the cause, or together they exceed a limit of the server or a proxy: send each
            # alone.
            for id_ in list(pending):
                single = {id_: pending.pop(id_)}
                reason = self._attempt(single, outcome, alone)
                pending |= single
            return reason
        return self._take(answer, pending, outcome, alone)

    def _take(
        self,
        answer: "SendMessageBatchResultTypeDef",
        pending: dict[str, Message],
        outcome: _Outcome,
        alone: list[Message],
    ) -> str:
        """Remove what the response settles; return why the rest remains."""
        for entry in answer.get("Successful", ()):
            if message := pending.pop(entry.get("Id", ""), None):
                outcome.confirmed += message.records
        reason = "they are not in the answer"
        for failed in answer.get("Failed", ()):
            code = failed.get("Code", "")
            reason = f"{code or 'no code'}: {failed.get('Message', '')}"
            if aws.passes(code) or not failed.get("SenderFault"):
                continue
            if aws.denied(code) or code.startswith(("KMS.", "Kms")):
                raise BlockedError(f"{self._what}: {reason}. The role needs this permission, or the queue's key.")
            if message := pending.pop(failed.get("Id", ""), None):
                self._refuse(message, reason, outcome, alone)
        return reason

    def _refuse(self, message: Message, reason: str, outcome: _Outcome, alone: list[Message]) -> None:
        """Handle a message that SQS refused: if it has several records, resend each in its own array."""
        if len(message.records) > 1:
            alone += [_array([record]) for record in message.records]
        else:
            outcome.refused.append((message.records[0], reason))

    def _queue(self, not_found: Queue | None = None) -> Queue:
        """Return the queue; look it up or create it at first use, and again if it is `not_found`."""
        with self._lock:
            if self._known is None or self._known is not_found:
                self._known = None
                with aws.translated(self._what):
                    self._known = self._look_up()
                if self._known.warning:
                    log.warning(self._known.warning, queue=self._name)
                self._found(self._known)
            return self._known

    def _look_up(self) -> Queue:
        try:
            url: str | None = self._client.get_queue_url(QueueName=self._name).get("QueueUrl")
        except aws.ERRORS as error:
            if aws.code(error) not in _NO_QUEUE:
                raise
            url = self._create()
        if not url:
            raise aws.not_aws(self._what, "SQS")
        attributes = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=_ATTRIBUTES)
        return self._read(url, attributes)

    def _create(self) -> str | None:
        try:
            created = self._client.create_queue(
                QueueName=self._name, Attributes={"MessageRetentionPeriod": str(RETENTION)}
            )
        except aws.ERRORS as error:
            if aws.code(error) not in _EXISTS:  # somebody has just created it, with other attributes
                raise
            return self._client.get_queue_url(QueueName=self._name).get("QueueUrl")
        return created.get("QueueUrl")

    def _read(self, url: str, answer: "GetQueueAttributesResultTypeDef") -> Queue:
        created = self._number(answer, "CreatedTimestamp", default="0")
        return Queue(
            url=url,
            limit=self._number(answer, "MaximumMessageSize", least=SMALLEST_LIMIT),
            created=datetime.fromtimestamp(created, UTC) if created else None,
            retention=self._number(answer, "MessageRetentionPeriod", default="0"),
        )

    def _number(
        self,
        answer: "GetQueueAttributesResultTypeDef",
        name: "QueueAttributeNameType",
        *,
        least: int = 0,
        default: str = "",
    ) -> int:
        """Return an attribute; raise BlockedError if it is not a number, or less than SQS allows."""
        found = str(answer.get("Attributes", {}).get(name, default))
        if not re.fullmatch(r"[0-9]{1,10}", found) or int(found) < least:
            raise aws.not_aws(f"{self._what}: its attribute {name} is missing or impossible", "SQS")
        return int(found)


def _gather(finished: queue.SimpleQueue[Future[_Outcome]], under_way: set[Future[_Outcome]]) -> _Outcome:
    """Wait for one request and collect all that have finished, so that a slow caller confirms many at once."""
    outcome = _Outcome()
    while True:
        future = finished.get()
        under_way.remove(future)
        outcome.add(future.result())
        if finished.empty():
            return outcome
