"""Checks of the queue of useractions.

None of them sends or receives a message: a reader would have to deal with it, and each receipt counts towards a
redrive. Instead, requests that cannot succeed are sent. SQS answers AccessDenied to those that the role may not make,
and otherwise says what is wrong with them.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from uaharvest import aws
from uaharvest.doctor.findings import Finding, fail, failed, ok, skipped, warn
from uaharvest.doctor.site import Site
from uaharvest.intervals import duration
from uaharvest.sinks.sqs import REQUEST_BYTES, RETENTION

CLOCK = "SQS"
_NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue"})
# What SQS says of these requests if they are permitted.
_INVALID = frozenset({"EmptyBatchRequest", "InvalidParameterValue", "ReadCountOutOfRange", "MissingParameter"})
# Share of the retention that the oldest message may reach before somebody should look.
OLD = 0.5


def queue(site: Site) -> Iterator[Finding]:
    """Look the queue up."""
    name = site.settings.queue or ""
    try:
        site.note_date(CLOCK, site.sqs.get_queue_url(QueueName=name))
    except aws.ERRORS as error:
        if aws.code(error) in _NO_QUEUE:
            yield warn(
                f"queue {name} does not exist",
                "Create it (the first delivery does, if the role has sqs:CreateQueue), or correct SQS_QUEUE_NAME.",
                blocks=True,
            )
            return
        raise aws.translate(error, f"SQS queue {name}") from None
    yield ok(f"{name} is there")


def attributes(site: Site) -> Iterator[Finding]:
    """Look at retention, largest message, redrive and encryption."""
    found = _attributes(site)
    yield from judge(found)


def judge(found: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings for a queue's attributes."""
    yield ok(
        f"{int(found.get('ApproximateNumberOfMessages', 0)):,} waiting,"
        f" {int(found.get('ApproximateNumberOfMessagesNotVisible', 0)):,} in flight"
    )
    retention = int(found.get("MessageRetentionPeriod", RETENTION))
    if retention < RETENTION:
        yield warn(
            f"keeps a message for {duration(retention)} only; what is not read by then is lost",
            f"Set its MessageRetentionPeriod to {RETENTION} (14 days).",
        )
    else:
        yield ok(f"keeps messages for {duration(retention)}")
    largest = int(found.get("MaximumMessageSize", REQUEST_BYTES))
    if largest < REQUEST_BYTES // 4:
        yield warn(
            f"takes messages of at most {largest:,} bytes; longer records become dead letters",
            f"Set its MaximumMessageSize to {REQUEST_BYTES}.",
        )
    yield _redrive(found.get("RedrivePolicy", ""))
    if found.get("KmsMasterKeyId"):
        yield ok("encrypted with a key of KMS: the role also needs kms:GenerateDataKey and kms:Decrypt on it")


def _redrive(policy: str) -> Finding:
    if not policy:
        return ok("no redrive policy")
    try:
        content = json.loads(policy)
        most, target = int(content["maxReceiveCount"]), str(content["deadLetterTargetArn"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return ok("has a redrive policy")
    return warn(
        f"after {most} receipts a message moves to {target}, which uaharvest does not read",
        "Take the redrive policy away: the indexer keeps what it cannot index as dead letters. Logstash may need it.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    action: str
    ask: Callable[[Any, str], Mapping[str, Any]]


_HANDLE = [{"Id": "doctor", "ReceiptHandle": "none"}]
_SEND = _Trial("sqs:SendMessage", lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=[]))
_RECEIVE = (
    _Trial("sqs:ReceiveMessage", lambda sqs, url: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=0)),
    _Trial("sqs:DeleteMessage", lambda sqs, url: sqs.delete_message_batch(QueueUrl=url, Entries=_HANDLE)),
    _Trial(
        "sqs:ChangeMessageVisibility",
        lambda sqs, url: sqs.change_message_visibility_batch(
            QueueUrl=url, Entries=[{**_HANDLE[0], "VisibilityTimeout": 0}]
        ),
    ),
)


def send(site: Site) -> Iterator[Finding]:
    """Try whether the role may send."""
    yield _tried(site, _SEND)


def receive(site: Site) -> Iterator[Finding]:
    """Try whether the role may receive, delete and hide, as the indexer does."""
    for trial in _RECEIVE:
        yield _tried(site, trial)


def _tried(site: Site, trial: _Trial) -> Finding:
    what = f"SQS queue {site.settings.queue}"
    try:
        answer = trial.ask(site.sqs, _url(site))
    except aws.ERRORS as error:
        if aws.code(error) in _INVALID:
            return ok(f"{trial.action} is not denied")
        return failed(aws.translate(error, what))
    for entry in answer.get("Failed", ()):
        if aws.denied(entry.get("Code", "")):
            return fail(f"{what}: {entry['Code']} on {trial.action}", f"The role needs {trial.action} on it.")
    return ok(f"{trial.action} is permitted")


def oldest(site: Site) -> Iterator[Finding]:
    """Ask CloudWatch for the age of the oldest message, which SQS itself does not say."""
    found = _attributes(site)
    if not int(found.get("ApproximateNumberOfMessages", 0)):
        yield ok("no message waits")
        return
    try:
        age = aws.oldest_message_age(site.settings.queue or "")
    except aws.ERRORS:
        yield skipped("the age of the oldest message cannot be seen without cloudwatch:GetMetricStatistics")
        return
    if age is None:
        yield skipped("CloudWatch has no age of the oldest message yet")
        return
    yield judge_age(age, int(found.get("MessageRetentionPeriod", RETENTION)))


def judge_age(age: float, retention: int) -> Finding:
    """Return the finding for the age of the oldest message, in seconds, of a queue that keeps them for `retention`."""
    found = f"the oldest message is {duration(age)} old"
    if age < OLD * retention:
        return ok(found)
    return fail(
        f"{found}, and is lost after {duration(retention)}",
        "Read the queue: does Logstash run, or is INDEXER true and a worker on queue index?",
    )


def _url(site: Site) -> str:
    with aws.translated(f"SQS queue {site.settings.queue}"):
        return site.sqs.get_queue_url(QueueName=site.settings.queue or "")["QueueUrl"]


def _attributes(site: Site) -> Mapping[str, str]:
    url = _url(site)
    with aws.translated(f"SQS queue {site.settings.queue}"):
        answer = site.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return {str(name): value for name, value in answer.get("Attributes", {}).items()}
