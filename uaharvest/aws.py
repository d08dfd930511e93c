"""What S3 and SQS have in common: one client per process, and botocore's errors as ours."""

import contextlib
import functools
import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3.session
import botocore
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, no relation of the built-in one
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from uaharvest.errors import BlockedError, HarvestError, RetryableError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

# All that a call of a client can fail with. ResponseParserError (HTML from a proxy where JSON or XML is due)
# is no BotoCoreError.
ERRORS = (BotoCoreError, ClientError, ResponseParserError)

_PASSING = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseParserError,
)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",  # S3: another conditional write is under way
        "InternalError",
        "InternalFailure",
        "LimitExceededException",
        "OperationAborted",  # S3: the bucket is being made or deleted
        "OverLimit",  # SQS: 120,000 messages are in flight
        "PriorRequestNotComplete",
        "QueueDeletedRecently",  # SQS: a name can be used again 60 s after it was deleted
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    }
)
_CREDENTIAL_CODES = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_ADVICE = {
    "AuthorizationHeaderMalformed": "it lies in another region: check AWS_DEFAULT_REGION",
    "BucketAlreadyExists": "the name belongs to somebody else: set S3_HARVEST_TS_BUCKET to another",
    "IllegalLocationConstraintException": "it lies in another region: check AWS_DEFAULT_REGION",
    "InvalidBucketName": "this is no valid name of a bucket: correct S3_HARVEST_TS_BUCKET",
    "PermanentRedirect": "it lies in another region: check AWS_DEFAULT_REGION",
    "RequestExpired": "the clock of this machine is wrong: set it by NTP",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it by NTP",
}
_ACTIONS = {
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "CreateBucket": "s3:CreateBucket",
    "CreateQueue": "sqs:CreateQueue",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "DeleteObject": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "GetQueueUrl": "sqs:GetQueueUrl",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "SendMessageBatch": "sqs:SendMessage",
}
_ROLES = {
    "s3": "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket",
    "sqs": "sqs:SendMessage, sqs:GetQueueUrl, sqs:GetQueueAttributes",
}
_INDEXER = "; the indexer also sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility"
_HINTS = {
    "ChangeMessageVisibilityBatch": _INDEXER,
    "CreateBucket": "; create the bucket by hand, or add s3:CreateBucket",
    "CreateQueue": "; create the queue by hand, or add sqs:CreateQueue",
    "DeleteMessageBatch": _INDEXER,
    "GetObject": " (without s3:ListBucket a missing key answers 403 too)",
    "HeadObject": " (without s3:ListBucket a missing key answers 403 too)",
    "ReceiveMessage": _INDEXER,
}


def _config(connections: int, **more: Any) -> Config:
    # No s3 addressing style: with an endpoint URL botocore 1.43 uses path style by itself, without one AWS's.
    return Config(
        connect_timeout=3,
        read_timeout=10,  # four attempts stay below the lease of a slice (60 s)
        retries={"mode": "standard", "total_max_attempts": 4},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # A text of ours, because botocore makes its own twice for each request, an eighth of the CPU that one takes.
        user_agent=f"uaharvest Botocore/{botocore.__version__}",
        **more,
    )


@functools.cache
def s3_client() -> "S3Client":
    """Return this process's S3 client, made of boto3's own settings (AWS_*, AWS_ENDPOINT_URL).

    Raises:
        BlockedError: These settings cannot be used.
    """
    with translated("S3", settings=True):
        return boto3.session.Session().client("s3", config=_config(10))


@functools.cache
def sqs_client(threads: int) -> "SQSClient":
    """Return this process's SQS client, with a connection for each of `threads`.

    Raises:
        BlockedError: boto3's settings cannot be used: no region, for one.
    """
    with translated("SQS", settings=True):
        # What SqsSink passes needs no validation, of each entry of each batch, before SQS's own.
        return boto3.session.Session().client("sqs", config=_config(max(10, threads), parameter_validation=False))


# A client that crosses a fork shares its connections with the parent, and their answers get mixed up.
os.register_at_fork(after_in_child=s3_client.cache_clear)
os.register_at_fork(after_in_child=sqs_client.cache_clear)


def code(error: Exception) -> str:
    """Return the code of an answer of AWS without its name space; "" if there was no answer."""
    if not isinstance(error, ClientError):
        return ""
    return error.response.get("Error", {}).get("Code", "").removeprefix("AWS.SimpleQueueService.")


def status(error: Exception) -> int:
    """Return the HTTP status of an answer of AWS; 0 if there was no answer."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def passes(code: str) -> bool:
    """Tell whether a failure with this code passes by itself."""
    return code in _PASSING_CODES or "thrott" in code.lower()


def denied(code: str) -> bool:
    """Tell whether this code refuses us, not what was sent."""
    return "AccessDenied" in code or code in {"403", "Forbidden"} or code in _CREDENTIAL_CODES | _EXPIRED_CODES


def translate(error: Exception, what: str) -> HarvestError:
    """Return the error of our tree for one of `ERRORS`.

    Args:
        error: What a client raised.
        what: The resource that was asked for: "queue X", "s3://bucket/key".
    """
    if isinstance(error, ClientError):
        return _translate_answer(error, what)
    if isinstance(error, NoRegionError):
        return BlockedError(f"{what}: no AWS region is set. Set AWS_DEFAULT_REGION.")
    if isinstance(error, _NO_CREDENTIALS):
        return BlockedError(
            f"{what}: no AWS credentials are found ({type(error).__name__})."
            " Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role."
        )
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return BlockedError(f"{what}: {_line(error)}. Set AWS_CA_BUNDLE, or mend the certificate.")
    if isinstance(error, _PASSING):
        return RetryableError(f"{what} cannot be reached: {_line(error)}")
    return BlockedError(f"{what}: {type(error).__name__}: {_line(error)}")


@contextlib.contextmanager
def translated(what: str, *, settings: bool = False) -> Iterator[None]:
    """Raise botocore's errors in this block as ours.

    Args:
        what: The resource that the block asks for.
        settings: The block builds a client: a ValueError is a setting that botocore cannot use.
    """
    # "from None": SignatureDoesNotMatch quotes the whole request, session token included, and a logged
    # traceback would show it.
    try:
        yield
    except ERRORS as error:
        raise translate(error, what) from None
    except ValueError as error:
        if not settings:
            raise
        raise BlockedError(f"{what}: {_line(error)}. Check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION.") from None


def backoff(attempt: int) -> float:
    """Return the seconds to wait before attempt 1, 2, ...: twice as long each time up to 2 s, with jitter."""
    return random.uniform(0.5, 1.0) * min(0.1 * 2.0**attempt, 2.0)  # noqa: S311 - jitter is no secret


def put_object(s3: "S3Client", bucket: str, key: str, body: str, **condition: str) -> str:
    """Write an object, in a bucket that is created if it does not exist; return its ETag.

    Args:
        s3: The client.
        bucket: Name of the bucket.
        key: Key of the object.
        body: Its content.
        condition: `IfMatch` or `IfNoneMatch`.

    Raises:
        botocore.exceptions.ClientError: As it came, so that the caller can tell 412 from others.
    """
    arguments: dict[str, Any] = {"Bucket": bucket, "Key": key, "Body": body.encode(), **condition}
    arguments["ContentType"] = "application/json"
    try:
        return s3.put_object(**arguments)["ETag"]
    except ClientError as error:
        if code(error) != "NoSuchBucket":
            raise
    _create_bucket(s3, bucket)
    return s3.put_object(**arguments)["ETag"]


def _create_bucket(s3: "S3Client", bucket: str) -> None:
    region: Any = s3.meta.region_name
    # S3 refuses us-east-1 as a LocationConstraint, and elsewhere its absence.
    where: Any = (
        {}
        if region in {"us-east-1", "aws-global"}
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        s3.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if code(error) != "BucketAlreadyOwnedByYou":  # another worker was faster
            raise


def _translate_answer(error: ClientError, what: str) -> HarvestError:
    name = code(error)
    operation = error.operation_name
    if passes(name) or status(error) >= 500 or status(error) == 429:  # noqa: PLR2004 - HTTP's own numbers
        return RetryableError(f"{what}: {operation} answered {name} ({status(error)})")
    if name in _EXPIRED_CODES:
        return BlockedError(
            f"{what}: the AWS session has expired ({name}). Renew AWS_SESSION_TOKEN, or use a role."
        )
    if name in _CREDENTIAL_CODES:
        return BlockedError(
            f"{what}: AWS refuses the credentials ({name})."
            " Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."
        )
    if denied(name):
        action = _ACTIONS.get(operation, operation)
        role = _ROLES.get(action.split(":", maxsplit=1)[0], action)
        name = "AccessDenied" if name in {"403", "Forbidden"} else name
        return BlockedError(f"{name} on {action} for {what}. The role needs {role}{_HINTS.get(operation, '')}.")
    advice = _ADVICE.get(name) or _line(error.response.get("Error", {}).get("Message", ""))
    return BlockedError(f"{what}: {operation} answered {name}: {advice}")


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300].rstrip(".")
