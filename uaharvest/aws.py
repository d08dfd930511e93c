"""What S3 and SQS share: one client per process, and the translation of botocore's errors into ours."""

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import botocore
import botocore.session
import msgspec
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, unrelated to the built-in
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.loaders import JSONFileLoader, Loader
from botocore.parsers import ResponseParserError, ResponseParserFactory

from uaharvest import answers, counters, sqs_requests
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.retries import Retries

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

# Time limits of each of a request's four attempts, seconds: for the pause between two chunks, and for the whole
# response. With botocore's own pauses, 7 s at most, all attempts stay below the lease of a slice (60 s).
READ_TIMEOUT = 10
LONGEST_ANSWER = 11.0
# For requests that fail in part; about 1 s in total. botocore itself retries requests that fail as a whole.
RETRIES = Retries(attempts=4, first=0.2, longest=2.0)
_PERIOD = 300  # seconds between two values in CloudWatch

# Everything a client call can raise. ResponseParserError (a proxy sent HTML instead of JSON or XML) is not a
# BotoCoreError.
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
        "OperationAborted",  # S3: the bucket is being created or deleted
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
    "InvalidBucketName": "this is not a valid bucket name: correct S3_HARVEST_TS_BUCKET",
    "PermanentRedirect": "it lies in another region: check AWS_DEFAULT_REGION",
    "RequestExpired": "the clock of this machine is wrong: synchronize it with NTP",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: synchronize it with NTP",
}
# A missing object, and a condition that does not hold: the harvest expects both.
_NO_FAULT = frozenset({404, 409, 412})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# From here on, a message quotes the request that AWS refused, including the session token.
_QUOTED = re.compile(
    r"(?i)the canonical string|the string-to-sign|authorization[ =:]|x-amz-|credential=|signature="
)
_LONGEST_WORD = 80  # longer words are tokens or encoded messages; names are shorter
_ACTIONS = {
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "CreateBucket": "s3:CreateBucket",
    "CreateQueue": "sqs:CreateQueue",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "DeleteObject": "s3:DeleteObject",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetObject": "s3:GetObject",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "GetQueueUrl": "sqs:GetQueueUrl",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
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
    # No s3 addressing style is set: botocore 1.43 uses path style if there is an endpoint URL, otherwise AWS's
    # own.
    return Config(
        connect_timeout=3,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": 4},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # A fixed string: botocore builds its own twice per request, which costs an eighth of the request's CPU
        # time.
        user_agent=f"uaharvest Botocore/{botocore.__version__}",
        **more,
    )


class _CheckedParsers(ResponseParserFactory):
    """Creates parsers that check the form of each response.

    If JSON is a list or null instead of an object, botocore 1.43 itself fails with an AttributeError.
    """

    def create_parser(self, protocol_name: str) -> Any:
        parser = super().create_parser(protocol_name)
        parse = parser.parse

        def checked(*arguments: Any) -> Any:
            try:
                parsed = parse(*arguments)
            except (AttributeError, KeyError, TypeError):
                parsed = None
            if not isinstance(parsed, dict):
                raise ResponseParserError("the answer is of no known shape")
            return parsed

        parser.parse = checked  # type: ignore[method-assign, assignment] # the only place that parses responses
        return parser


class _ModelFiles(JSONFileLoader):
    """Decodes AWS's descriptions: they are megabytes, and botocore's own way takes six times as long."""

    def _load_file(self, full_path: str, open_method: Callable[..., IO[bytes]]) -> Any:
        if not Path(full_path).is_file():
            return None
        with open_method(full_path, "rb") as file:
            return msgspec.json.decode(file.read())


class _Models(Loader):
    """Reads AWS's descriptions of its services, each once a process."""

    FILE_LOADER_CLASS = _ModelFiles

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - the name is botocore's
        """Return the folders of all services. Looking into all 400 took most of the time of a short command."""
        return sorted(
            {entry.name for path in map(Path, self.search_paths) if path.is_dir() for entry in path.iterdir()}
        )


@functools.cache
def _models(data_path: str | None) -> _Models:
    paths = (data_path or "").split(os.pathsep)
    return _Models(extra_search_paths=[str(Path(os.path.expandvars(path)).expanduser()) for path in paths if path])


def _session() -> botocore.session.Session:
    """Return a session of botocore: boto3 adds nothing for clients, and takes a tenth of a second to import."""
    session = botocore.session.get_session()
    session.register_component("response_parser_factory", _CheckedParsers())
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    return session


def _bound(client: Any) -> None:
    """Limit the total time of each response: botocore 1.43 limits only the pause between two chunks."""
    pools = client._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001
    for scheme, pool in pools.items():
        pools[scheme] = type(pool.__name__, (pool,), {})  # a subclass, so botocore's own stays unchanged
        answers.bound(pools[scheme], LONGEST_ANSWER)


def _count_requests(client: Any) -> None:
    """Count each call of the client, with its retries."""
    service = client.meta.service_model.service_name

    def begin(context: dict[str, Any], **_: Any) -> None:
        context["uaharvest_began"] = time.monotonic()

    def end(context: dict[str, Any], http_response: Any, model: Any, **_: Any) -> None:
        status_ = http_response.status_code
        fault = None if status_ in _NO_FAULT else answers.fault_of(status_)
        if fault:
            counters.request(service, _seconds(context), fault)
        else:
            _count_success(service, model.name, _seconds(context))

    def fail(context: dict[str, Any], exception: Exception, **_: Any) -> None:
        late = isinstance(exception, ConnectTimeoutError | ReadTimeoutError)
        counters.request(service, _seconds(context), "timeout" if late else "unreachable")

    for event, handler in (("before-call", begin), ("after-call", end), ("after-call-error", fail)):
        client.meta.events.register(f"{event}.{service}", handler)


def _count_success(service: str, operation: str, seconds: float) -> None:
    # SQS holds a call that receives messages until there are some: its duration says nothing.
    if operation != "ReceiveMessage":
        counters.request(service, seconds)


def _seconds(context: Mapping[str, Any]) -> float:
    now = time.monotonic()
    return now - float(context.get("uaharvest_began", now))


@functools.cache
def s3_client() -> "S3Client":
    """Return this process's S3 client, built from boto3's own settings (AWS_*, AWS_ENDPOINT_URL).

    Raises:
        BlockedError: These settings are invalid.
    """
    with translated("S3", settings=True):
        client = cast("S3Client", _session().create_client("s3", config=_config(10)))
    _bound(client)
    _count_requests(client)
    # If a redirect names no region, botocore 1.43 sends HEAD for the bucket to find it. If that is redirected too,
    # for example by a web server on the port of AWS_ENDPOINT_URL, botocore recurses until Python's stack
    # overflows.
    client.meta.events.register("before-call.s3.HeadBucket", _no_region)  # type: ignore[arg-type] # it may answer
    return client


def _no_region(**_: Any) -> tuple[Any, dict[str, Any]]:
    """Answer HEAD for a bucket with a response that names no region."""
    error = {"Code": "301", "Message": "no region is named"}
    metadata = {"HTTPStatusCode": 301, "HTTPHeaders": {}}
    return AWSResponse("", 301, HTTPHeaders(), None), {"Error": error, "ResponseMetadata": metadata}


@functools.cache
def sqs_client(threads: int) -> "SQSClient":
    """Return this process's SQS client, with one connection per thread.

    Raises:
        BlockedError: boto3's settings are invalid; for example, there is no region.
    """
    with translated("SQS", settings=True):
        # botocore would validate every entry of every batch; SqsSink passes valid ones, and SQS checks them
        # anyway.
        config = _config(max(10, threads), parameter_validation=False)
        client = cast("SQSClient", _session().create_client("sqs", config=config))
    _bound(client)
    _count_requests(client)
    sqs_requests.hasten(client, functools.partial(_count_success, "sqs"))
    return client


def oldest_message_age(queue: str) -> float | None:
    """Return the age of the oldest message of a queue in seconds, from CloudWatch, because SQS does not say it.

    None: CloudWatch, which has a value every few minutes, has none yet. Takes three seconds at most.

    Raises:
        ERRORS: It refuses, or does not answer.
    """
    brief = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    now = datetime.now(UTC)
    client: Any = botocore.session.get_session().create_client("cloudwatch", config=brief)
    with contextlib.closing(client):
        answer = client.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue}],
            StartTime=now - timedelta(seconds=6 * _PERIOD),
            EndTime=now,
            Period=_PERIOD,
            Statistics=["Maximum"],
        )
    points = [point for point in answer.get("Datapoints", ()) if {"Timestamp", "Maximum"} <= point.keys()]
    newest = max(points, key=lambda point: point["Timestamp"], default=None)
    return float(newest["Maximum"]) if newest else None


# After a fork, parent and child would share the client's connections and get each other's responses.
os.register_at_fork(after_in_child=s3_client.cache_clear)
os.register_at_fork(after_in_child=sqs_client.cache_clear)


def code(error: Exception) -> str:
    """Return the error code of AWS's response, without its namespace; "" if there was no response."""
    if not isinstance(error, ClientError):
        return ""
    return error.response.get("Error", {}).get("Code", "").removeprefix("AWS.SimpleQueueService.")


def status(error: Exception) -> int:
    """Return the HTTP status of AWS's response; 0 if there was no response."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def absent(error: Exception) -> bool:
    """Tell whether S3 itself says that the object or bucket does not exist.

    Only S3's own codes prove that. A web server, a proxy or the wrong AWS_ENDPOINT_URL answers 404 too, and a
    response to HEAD has no body and thus no code.
    """
    return status(error) == 404 and code(error) in {"NoSuchKey", "NoSuchBucket"}  # noqa: PLR2004 - HTTP's own


def etag(answer: Mapping[str, Any], what: str) -> str:
    """Return the ETag from S3's response about an object.

    Raises:
        BlockedError: There is none, so the server is not S3.
    """
    if not answer.get("ETag"):
        raise not_aws(what, "S3")
    return str(answer["ETag"])


def not_aws(what: str, service: str) -> BlockedError:
    """Return the error for a 200 response without the fields that `service` always sends."""
    return BlockedError(f"{what}: what answers is not {service}: a web page or a proxy? Check AWS_ENDPOINT_URL.")


def passes(code: str) -> bool:
    """Tell whether a failure with this code is temporary."""
    return code in _PASSING_CODES or "thrott" in code.lower()


def denied(code: str) -> bool:
    """Tell whether this code means that our access is denied, rather than that the request is wrong."""
    return "AccessDenied" in code or code in {"403", "Forbidden"} or code in _CREDENTIAL_CODES | _EXPIRED_CODES


def translate(error: Exception, what: str) -> HarvestError:
    """Return our own error for one of `ERRORS`.

    Args:
        error: What a client raised.
        what: The requested resource, such as "queue X" or "s3://bucket/key".
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
    if isinstance(error, SSLError) and (distrusted := answers.distrust(str(error))):
        host = urlsplit(str(error.kwargs.get("endpoint_url"))).netloc
        return BlockedError(
            f"{what}: {host} {distrusted}. Fix it, or set AWS_CA_BUNDLE to a file with its authority's."
        )
    if isinstance(error, _PASSING):
        return RetryableError(
            f"{what} cannot be reached: {_line(error).rstrip('.')}."
            " Is AWS_ENDPOINT_URL right, or without it AWS_DEFAULT_REGION?"
        )
    return BlockedError(f"{what}: {type(error).__name__}: {_line(error)}")


@contextlib.contextmanager
def translated(what: str, *, settings: bool = False) -> Iterator[None]:
    """Re-raise botocore's errors in this block as our own.

    Args:
        what: The resource that the block requests.
        settings: Set if the block builds a client: a ValueError then means an invalid setting.
    """
    # "from None": SignatureDoesNotMatch quotes the whole request, including the session token, and a logged
    # traceback would show it.
    try:
        yield
    except ERRORS as error:
        raise translate(error, what) from None
    except ValueError as error:
        if not settings:
            raise
        raise BlockedError(f"{what}: {_line(error)}. Check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION.") from None


def put_object(s3: "S3Client", bucket: str, key: str, body: str, **more: str) -> str:
    """Write an object and return its ETag; create the bucket if it does not exist.

    Args:
        s3: The client.
        bucket: Name of the bucket.
        key: Key of the object.
        body: Its content.
        more: `IfMatch` or `IfNoneMatch`; how it is encrypted.

    Raises:
        botocore.exceptions.ClientError: Not translated, so that the caller can recognise a 412.
        BlockedError: The server is not S3.
    """
    arguments: dict[str, Any] = {"Bucket": bucket, "Key": key, "Body": body.encode(), **more}
    arguments["ContentType"] = "application/json"
    try:
        return etag(s3.put_object(**arguments), f"s3://{bucket}/{key}")
    except ClientError as error:
        if code(error) != "NoSuchBucket":
            raise
    create_bucket(s3, bucket)
    return etag(s3.put_object(**arguments), f"s3://{bucket}/{key}")


def create_bucket(s3: "S3Client", bucket: str) -> None:
    """Create a bucket in the client's region, unless another worker was faster."""
    region: Any = s3.meta.region_name
    # In us-east-1, S3 refuses a LocationConstraint; everywhere else it requires one.
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
    words = _words(error.response.get("Error", {}).get("Message", ""))
    http = status(error)
    lacks = http == 501 or name == "NotImplemented"  # noqa: PLR2004 - HTTP's own numbers
    if not lacks and (passes(name) or http >= 500 or http == 429):  # noqa: PLR2004 - likewise
        return RetryableError(f"{what}: {operation} answered {name} ({http})")
    if name in _CREDENTIAL_CODES | _EXPIRED_CODES:
        return _translate_refused_login(name, what)
    if denied(name):
        return _translate_denial(operation, "AccessDenied" if name in {"403", "Forbidden"} else name, words, what)
    advice = _ADVICE.get(name, "")
    if lacks:
        advice = "this store does not support the request: use another"
    elif not advice and (http in _REDIRECTS or (http == 404 and (not name or name.isdigit()))):  # noqa: PLR2004
        advice = "what answers may be a web page or a proxy: check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
    said = ": ".join(part for part in (f"{operation} answered {name or http}", words) if part)
    if advice:
        said += f". {advice[0].upper()}{advice[1:]}." if words else f": {advice}."
    return BlockedError(f"{what}: {said}")


def _translate_refused_login(name: str, what: str) -> BlockedError:
    if name in _EXPIRED_CODES:
        return BlockedError(
            f"{what}: the AWS session has expired ({name}). Renew AWS_SESSION_TOKEN, or use a role."
        )
    return BlockedError(
        f"{what}: AWS refuses the credentials ({name})."
        " Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."
    )


def _translate_denial(operation: str, name: str, words: str, what: str) -> BlockedError:
    """Return AWS's own words, followed by what the role needs if that can be the cause."""
    action = _ACTIONS.get(operation, operation)
    first = f"{name} on {action} for {what}."
    plain = words.lower() in {"", "forbidden", "access denied", "access to the resource is denied"}
    if not plain:
        first += f" AWS says: {words}."
        lacks = "no identity-based policy" in words and action.lower() in words.lower()
        if not lacks:
            return BlockedError(first)
    role = _ROLES.get(action.split(":", maxsplit=1)[0], action)
    return BlockedError(f"{first} The role needs {role}{_HINTS.get(operation, '')}.")


def _words(message: object) -> str:
    """Return AWS's own words on one line, without quoted signatures, tokens and headers of the request."""
    text = _QUOTED.split(" ".join(str(message).split()), maxsplit=1)[0]
    words = (word if len(word) <= _LONGEST_WORD or word.startswith("arn:") else "..." for word in text.split())
    return _line(" ".join(words))


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300].rstrip(".")
