import contextlib
import http.server
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber

from uaharvest import answers
from uaharvest.aws import RETRIES, put_object, s3_client, sqs_client, translate, translated
from uaharvest.errors import BlockedError, RetryableError

URL = "http://127.0.0.1:1"


def answer(code, operation, status=400, message=""):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


@pytest.fixture
def fresh_clients(monkeypatch):
    """Build the clients anew in this test, and forget them after it."""
    for client in (s3_client, sqs_client):
        client.cache_clear()
    yield monkeypatch
    for client in (s3_client, sqs_client):
        client.cache_clear()


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url=URL),
        ReadTimeoutError(endpoint_url=URL),
        ConnectionClosedError(endpoint_url=URL),
        SSLError(endpoint_url=URL, error="unexpected EOF"),
        ResponseParserError("<html>"),
        answer("SlowDown", "PutObject", 503),
        answer("ThrottlingException", "SendMessageBatch"),
        answer("RequestThrottled", "SendMessageBatch", 403),
        answer("KMS.ThrottlingException", "SendMessageBatch"),
        answer("InternalError", "GetObject", 500),
        answer("502", "GetObject", 502),
        answer("429", "GetObject", 429),
        answer("ConditionalRequestConflict", "PutObject", 409),
        answer("AWS.SimpleQueueService.QueueDeletedRecently", "CreateQueue"),
    ],
    ids=lambda error: str(error)[:60],
)
def test_what_passes_by_itself_is_retryable(error):
    assert isinstance(translate(error, "queue q"), RetryableError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (SSLError(endpoint_url=URL, error="CERTIFICATE_VERIFY_FAILED"), "AWS_CA_BUNDLE"),
        (answer("InvalidClientTokenId", "GetQueueUrl", 403), "AWS_SECRET_ACCESS_KEY"),
        (answer("SignatureDoesNotMatch", "GetObject", 403), "AWS_SECRET_ACCESS_KEY"),
        (answer("ExpiredToken", "GetObject"), "AWS_SESSION_TOKEN"),
        (answer("RequestTimeTooSkewed", "GetObject", 403), "clock"),
        (answer("PermanentRedirect", "GetObject", 301), "AWS_DEFAULT_REGION"),
        (answer("BucketAlreadyExists", "CreateBucket", 409), "S3_HARVEST_TS_BUCKET"),
        (answer("Whatever", "GetObject", message="a new\n reason"), "answered Whatever: a new reason"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_a_person_must_change_is_blocked_and_names_it_in_one_line(error, words):
    blocked = translate(error, "s3://b/k")
    assert isinstance(blocked, BlockedError)
    assert "s3://b/k" in str(blocked)
    assert words in str(blocked)
    assert "\n" not in str(blocked)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            answer("AccessDenied", "SendMessageBatch", 403),
            "AccessDenied on sqs:SendMessage for queue q. The role needs {sqs}.",
        ),
        (
            answer("AccessDeniedException", "CreateQueue", 403),
            (
                "AccessDeniedException on sqs:CreateQueue for queue q. The role needs {sqs};"
                " create the queue by hand, or add sqs:CreateQueue."
            ),
        ),
        (
            answer("403", "HeadObject", 403),
            (
                "AccessDenied on s3:GetObject for queue q. The role needs {s3}"
                " (without s3:ListBucket a missing key answers 403 too)."
            ),
        ),
    ],
    ids=["send", "create", "head"],
)
def test_a_denial_says_which_action_on_what_and_what_the_role_needs(error, words):
    needed = words.format(
        s3="s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket",
        sqs="sqs:SendMessage, sqs:GetQueueUrl, sqs:GetQueueAttributes",
    )
    assert str(translate(error, "queue q")) == needed


def test_a_refused_signature_shows_no_part_of_the_request_not_even_in_a_traceback():
    error = answer("SignatureDoesNotMatch", "GetQueueUrl", 403, "should have been: x-amz-security-token:q3t6w9z")
    with pytest.raises(BlockedError) as caught, translated("queue q"):
        raise error
    assert "q3t6w9z" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_region_names_its_variable(fresh_clients):
    fresh_clients.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(BlockedError, match="AWS_DEFAULT_REGION"):
        sqs_client(4)


def test_an_endpoint_that_is_no_url_names_its_variable(fresh_clients):
    fresh_clients.setenv("AWS_ENDPOINT_URL", "nonsense")
    fresh_clients.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(BlockedError, match="AWS_ENDPOINT_URL"):
        s3_client()


def test_other_value_errors_are_left_alone():
    with pytest.raises(ValueError, match="mine"), translated("s3://b/k"):
        raise ValueError("mine")


def test_a_client_has_a_connection_for_each_thread(fresh_clients):
    fresh_clients.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert sqs_client(32).meta.config.max_pool_connections == 32


class Dripping(http.server.BaseHTTPRequestHandler):
    """Sends an object, a byte at a time."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4000")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has given up
            for _ in range(4000):
                self.wfile.write(b" ")
                time.sleep(0.05)

    def log_message(self, *_):
        pass


@pytest.fixture
def dripping(fresh_clients):
    """An S3 each of whose answers drips."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a"}
        for name, value in {**given, "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}.items():
            fresh_clients.setenv(name, value)
        yield
        server.shutdown()


def test_an_answer_that_drips_ends_in_time(dripping, monkeypatch):
    monkeypatch.setattr(answers.TimedResponse, "longest", 0.2)
    body = s3_client().get_object(Bucket="bucket", Key="key")["Body"]
    with pytest.raises(RetryableError, match="Read timeout"), translated("s3://bucket/key"):
        body.read()


@pytest.mark.fault
@pytest.mark.long
def test_all_attempts_at_an_answer_that_drips_end_before_the_lease_of_a_slice(dripping):
    began = time.monotonic()
    with pytest.raises(RetryableError, match="Read timeout"), translated("s3://bucket"):
        s3_client().list_objects_v2(Bucket="bucket")
    assert time.monotonic() - began < 60


def test_a_process_builds_a_client_once_and_its_child_another():
    program = """
import os
from uaharvest.aws import s3_client
client = s3_client()
assert s3_client() is client
if os.fork() == 0:
    os._exit(s3_client() is client)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


def test_a_bucket_that_is_missing_is_created_by_the_first_write(aws):
    s3 = boto3.client("s3")
    etag = put_object(s3, "made-by-put", "k", "{}")
    found = s3.get_object(Bucket="made-by-put", Key="k")
    assert (found["ETag"], found["Body"].read()) == (etag, b"{}")


@pytest.mark.parametrize(
    ("region", "where"),
    [
        ("us-east-1", {}),
        ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}),
    ],
)
@pytest.mark.parametrize("race", [False, True], ids=["alone", "another worker is faster"])
def test_a_bucket_is_created_in_the_region_of_the_client(region, where, race):
    s3 = boto3.client("s3", region_name=region)
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "NoSuchBucket", http_status_code=404)
        if race:
            stub.add_client_error("create_bucket", "BucketAlreadyOwnedByYou", http_status_code=409)
        else:
            stub.add_response("create_bucket", {}, {"Bucket": "bucket", **where})
        stub.add_response("put_object", {"ETag": '"e"'})
        assert put_object(s3, "bucket", "k", "{}") == '"e"'
        stub.assert_no_pending_responses()


def test_back_off_grows_up_to_two_seconds_and_is_never_the_same():
    assert all(0.1 <= RETRIES.seconds(1) <= 0.2 for _ in range(100))
    assert all(1.0 <= RETRIES.seconds(20) <= 2.0 for _ in range(100))
    assert len({RETRIES.seconds(1) for _ in range(10)}) > 1


IDENTITY = (
    "User: arn:aws:sts::123456789012:assumed-role/harvest/i-0 is not authorized to perform: sqs:sendmessage on"
    " resource: arn:aws:sqs:eu-central-1:123456789012:q"
)


@pytest.mark.parametrize(
    ("message", "role"),
    [
        (f"{IDENTITY} because no identity-based policy allows the sqs:sendmessage action", True),
        (f"{IDENTITY} with an explicit deny in a service control policy", False),
        (f"{IDENTITY} because no VPC endpoint policy allows the sqs:sendmessage action", False),
        (f"{IDENTITY} because no permissions boundary allows the sqs:sendmessage action", False),
        (
            (
                "User: arn:aws:sts::123456789012:assumed-role/h is not authorized to perform: kms:GenerateDataKey on"
                " resource: arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab because no"
                " identity-based policy allows the kms:GenerateDataKey action"
            ),
            False,
        ),
        ("Access Denied", True),
        ("", True),
    ],
)
def test_awss_own_words_come_first_and_ours_only_where_they_fit(message, role):
    said = str(translate(answer("AccessDenied", "SendMessageBatch", 403, message), "queue q"))
    assert ("The role needs sqs:SendMessage" in said) is role
    if message not in {"", "Access Denied"}:
        assert f"AWS says: {message[:280]}" in said
        assert said.index("AWS says") < (said.index("The role needs") if role else len(said))


def test_the_region_that_aws_expects_is_said_before_our_advice():
    error = answer("AuthorizationHeaderMalformed", "GetObject", 400, "the region 'a' is wrong; expecting 'b'")
    said = str(translate(error, "s3://b/k"))
    assert said.index("expecting 'b'") < said.index("AWS_DEFAULT_REGION")


@pytest.mark.parametrize(
    "message",
    [
        "Denied. The Canonical String for this request should have been 'POST x-amz-security-token:q3t6w9z'",
        "Authorization=AWS4-HMAC-SHA256 Credential=AKIAq3t6w9z/20261127",
        f"the token {'q3t6w9z' * 40} is not valid",
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "InvalidRequest", "AuthorizationHeaderMalformed"])
def test_awss_words_quote_no_request_and_no_token(code, message):
    assert "q3t6w9z" not in str(translate(answer(code, "GetObject", 403, message), "s3://b/k"))


@pytest.mark.parametrize("status", [301, 302, 307, 404])
def test_what_no_aws_answers_names_the_endpoint(status):
    said = translate(answer(str(status), "GetQueueUrl", status, "Moved"), "queue q")
    assert isinstance(said, BlockedError)
    assert "AWS_ENDPOINT_URL" in str(said)


def test_what_a_store_does_not_have_is_no_outage():
    assert isinstance(translate(answer("NotImplemented", "PutObject", 501, "no"), "s3://b/k"), BlockedError)
