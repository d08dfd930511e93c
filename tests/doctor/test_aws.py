"""The bucket and the queue on a real stand-in for S3 and SQS; a proxy before it denies what a role may lack."""

import json
from datetime import timedelta

import boto3
import botocore.session
import pytest

from devservers.proxy import Proxy, Reply
from uaharvest import aws as aws_
from uaharvest import lifecycle
from uaharvest.doctor import sqs as sqs_checks

DENIED_S3 = Reply(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
DENIED_SQS = Reply(
    403,
    json.dumps({"__type": "com.amazonaws.sqs#AccessDenied", "message": "Access denied"}).encode(),
    (("Content-Type", "application/x-amz-json-1.0"),),
)


@pytest.fixture
def proxy(aws, monkeypatch):
    """A proxy before S3 and SQS, by which this process asks them from now on."""
    with Proxy(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        for cache in (aws_.s3_client, aws_.sqs_client):
            cache.cache_clear()
        yield proxy
    for cache in (aws_.s3_client, aws_.sqs_client):
        cache.cache_clear()


@pytest.fixture
def queue(queue_name, environment):
    """Change an attribute of the site's queue."""
    client = boto3.client("sqs")
    url = client.get_queue_url(QueueName=queue_name)["QueueUrl"]
    return lambda **attributes: client.set_queue_attributes(QueueUrl=url, Attributes=attributes)


# S3


def test_a_bucket_that_does_not_exist_is_named_and_what_needs_it_skipped(look, told, settings_of):
    settings = settings_of(S3_HARVEST_TS_BUCKET="nowhere")
    [(status, found, remedy)] = told(settings, "s3.bucket")
    assert (status, found) == ("warn", "bucket nowhere does not exist")
    assert "S3_HARVEST_TS_BUCKET" in remedy
    assert look(settings, "s3.objects")["s3.objects"][0].status == "skipped"


def of_object(method, condition=None):
    def concerns(call):
        path = call.path.partition("?")[0]
        return call.method == method and ".doctor-" in path and (not condition or condition in call.headers)

    return concerns


@pytest.mark.parametrize(
    ("method", "action"), [("PUT", "s3:PutObject"), ("GET", "s3:GetObject"), ("DELETE", "s3:DeleteObject")]
)
def test_a_permission_that_the_role_lacks_is_named(told, settings_of, proxy, method, action):
    with proxy.answering(of_object(method), DENIED_S3):
        [(status, found, remedy)] = told(settings_of(), "s3.objects")
    assert (status, action in found) == ("fail", True)
    assert action in remedy


def test_a_role_that_may_not_use_the_key_of_dead_letters_is_named(told, settings_of, proxy):
    settings = settings_of(S3_DEAD_LETTER_SSE="aws:kms:alias/letters")
    assert told(settings, "s3.objects") == []
    with proxy.answering(of_object("PUT", "x-amz-server-side-encryption"), DENIED_S3):
        [(status, found, _)] = told(settings, "s3.objects")
    assert (status, "S3_DEAD_LETTER_SSE" in found) == ("fail", True)


def test_a_role_that_may_not_list_is_told(told, settings_of, proxy):
    with proxy.answering(lambda call: "list-type" in call.query, DENIED_S3):
        [(status, found, remedy)] = told(settings_of(), "s3.bucket")
    assert (status, "s3:ListBucket" in found) == ("fail", True)
    assert "s3:ListBucket" in remedy


def test_a_store_that_ignores_conditions_is_refused(told, settings_of, proxy, bucket):
    written = Reply(200, b"", (("ETag", '"1"'),))
    with proxy.answering(of_object("PUT", "if-match"), written):
        [(status, found, remedy)] = told(settings_of(), "s3.objects")
    assert (status, "ignores If-Match" in found) == ("fail", True)
    assert "conditional writes" in remedy
    assert boto3.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def of_bucket(call):
    """Questions about the bucket itself; a proxy drops parameters without a value."""
    return call.method == "GET" and not call.query and ".doctor-" not in call.path


def test_versioning_and_encryption_are_told_if_they_can_be_seen(look, settings_of, proxy, bucket):
    boto3.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    findings = look(settings_of(), "s3.versioning", "s3.encryption")
    assert "versioning on" in findings["s3.versioning"][0].found
    assert "AES256" in findings["s3.encryption"][0].found
    with proxy.answering(of_bucket, DENIED_S3):
        findings = look(settings_of(), "s3.versioning", "s3.encryption")
    assert "s3:GetBucketVersioning" in findings["s3.versioning"][0].found
    assert "s3:GetEncryptionConfiguration" in findings["s3.encryption"][0].found


def test_the_expiry_of_dead_letters_is_said(look, settings_of, bucket):
    [finding] = look(settings_of(), "s3.expiry")["s3.expiry"]
    assert finding.found.endswith("kept until they are replayed or dropped: manage.py setup dead-letters")
    lifecycle.expire(boto3.client("s3"), bucket, "dead-letters/", 90)
    [finding] = look(settings_of(), "s3.expiry")["s3.expiry"]
    assert finding.found == "dead letters (dead-letters/) are deleted after 90 days"


# SQS


def test_a_queue_that_does_not_exist_is_named_and_what_needs_it_skipped(look, told, settings_of):
    settings = settings_of(SQS_QUEUE_NAME="nowhere")
    [(status, found, remedy)] = told(settings, "sqs.queue")
    assert (status, found) == ("warn", "queue nowhere does not exist")
    assert "SQS_QUEUE_NAME" in remedy
    assert look(settings, "sqs.send")["sqs.send"][0].status == "skipped"


def test_a_queue_that_forgets_after_four_days_is_a_warning(told, settings_of, queue):
    queue(MessageRetentionPeriod="345600")
    [(status, found, remedy)] = told(settings_of(), "sqs.attributes")
    assert (status, "4 d" in found) == ("warn", True)
    assert "1209600" in remedy


def test_a_redrive_policy_and_a_small_limit_are_warnings(told, settings_of, queue, queue_name):
    boto3.client("sqs").create_queue(QueueName="elsewhere")
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:elsewhere", "maxReceiveCount": "3"}
    queue(RedrivePolicy=json.dumps(policy), MaximumMessageSize="1024")
    lines = told(settings_of(), "sqs.attributes")
    assert [status for status, _, _ in lines] == ["warn", "warn"]
    assert "1,024 bytes" in lines[0][1]
    assert "after 3 receipts a message moves to elsewhere" in lines[1][1]


@pytest.mark.parametrize(
    ("trial", "action"),
    [
        (("GetQueueUrl", "sqs.queue"), "sqs:GetQueueUrl"),
        (("GetQueueAttributes", "sqs.attributes"), "sqs:GetQueueAttributes"),
        (("SendMessageBatch", "sqs.send"), "sqs:SendMessage"),
        (("ReceiveMessage", "sqs.receive"), "sqs:ReceiveMessage"),
        (("DeleteMessageBatch", "sqs.receive"), "sqs:DeleteMessage"),
        (("ChangeMessageVisibilityBatch", "sqs.receive"), "sqs:ChangeMessageVisibility"),
    ],
)
def test_a_permission_on_the_queue_that_the_role_lacks_is_named(told, settings_of, proxy, trial, action):
    operation, check = trial
    with proxy.answering(lambda call: call.target == operation, DENIED_SQS):
        [(status, found, remedy)] = told(settings_of(), check)
    assert (status, action in found) == ("fail", True)
    assert action in remedy


def test_without_the_indexer_nobody_asks_whether_messages_may_be_received(look, settings_of):
    [finding] = look(settings_of(INDEXER=None), "sqs.receive")["sqs.receive"]
    assert (finding.status, finding.unused) == ("skipped", True)


def test_the_age_of_the_oldest_message_needs_cloudwatch(look, settings_of, queue_name):
    client = boto3.client("sqs")
    url = client.get_queue_url(QueueName=queue_name)["QueueUrl"]
    settings = settings_of()
    client.send_message(QueueUrl=url, MessageBody="{}")
    [finding] = look(settings, "sqs.oldest")["sqs.oldest"]
    assert finding.status == "skipped"  # this stand-in has no CloudWatch
    assert "cloudwatch:GetMetricStatistics" in finding.found


@pytest.mark.parametrize(
    ("points", "age"), [([], None), ([(10, 60.0), (5, 90.0), (15, 30.0)], 90.0)], ids=["none yet", "some"]
)
def test_the_newest_age_that_cloudwatch_has_counts(monkeypatch, points, age):
    class CloudWatch:
        def close(self):
            pass

        def get_metric_statistics(self, **asked):
            assert asked["Dimensions"] == [{"Name": "QueueName", "Value": "queue"}]
            now = asked["EndTime"]
            return {
                "Datapoints": [
                    {"Timestamp": now - timedelta(minutes=ago), "Maximum": seconds} for ago, seconds in points
                ]
            }

    monkeypatch.setattr(botocore.session.Session, "create_client", lambda *_, **__: CloudWatch())
    assert aws_.oldest_message_age("queue") == age


def test_a_message_that_is_lost_soon_fails():
    assert sqs_checks.judge_age(3600, 1_209_600).status == "ok"
    finding = sqs_checks.judge_age(700_000, 1_209_600)
    assert (finding.status, "8 d 2 h" in finding.found) == ("fail", True)
    assert "INDEXER" in finding.remedy
