"""Makes the first attempt at each frequent request to SQS, in a third of the CPU time that botocore takes.

A harvest sends a request for every ten messages, and botocore takes longer over a request than the system takes to
send it. So the first attempt at such a request is made here. It is addressed as botocore has addressed the first one
of its kind, and sent over botocore's connections, but it is encoded and signed here: botocore's events, retries and
parser are left out. Only a plain success is taken from here. Any other outcome is given to botocore as that of its
first attempt, so that its errors, its retries and their number stay what they are.
"""

import dataclasses
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import get_current_datetime

OPERATIONS = frozenset({"DeleteMessageBatch", "ReceiveMessage", "SendMessageBatch"})
_LISTS = ("Failed", "Messages", "Successful")
_UNSIGNED = frozenset({"user-agent"})  # a proxy may change it


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """How botocore sends one operation: where to, with which headers, signed for which region and service."""

    url: str
    headers: Mapping[str, str]
    region: str
    service: str

    def request(self, body: bytes, credentials: Any) -> AWSPreparedRequest:
        """Return a request with AWS's signature, version 4.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html describes it.
        """
        now = f"{get_current_datetime():%Y%m%dT%H%M%SZ}"
        headers = {**self.headers, "X-Amz-Date": now}
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        lines = [f"{name}:{value}" for name, value in sorted(signed.items()) if name not in _UNSIGNED]
        names = ";".join(line.partition(":")[0] for line in lines)
        canonical = "\n".join(["POST", "/", "", *lines, "", names, hashlib.sha256(body).hexdigest()])
        scope = f"{now[:8]}/{self.region}/{self.service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{credentials.secret_key}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={key.hex()}"
        )
        return AWSPreparedRequest("POST", self.url, headers, body, stream_output=False)


def hasten(client: Any, count: Callable[[str, float], None]) -> None:
    """Let an SQS client of botocore make the first attempt at its OPERATIONS here.

    Args:
        client: The client.
        count: Called after each success with the operation and the seconds that it took.
    """
    session = client._endpoint.http_session  # noqa: SLF001 - its connections, proxies, certificates and time-outs
    signer = client._request_signer  # noqa: SLF001 - its credentials, renewed when they expire
    call = client._make_api_call  # noqa: SLF001 - what all its methods come to
    first = threading.local()  # the outcome of this thread's first attempt, until botocore takes it
    ways: dict[str, _Way] = {}

    def attempt(way: _Way, body: bytes, credentials: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        try:
            answer = session.send(way.request(body, credentials))
        except Exception as error:  # noqa: BLE001 - botocore raises it again, or tries again
            first.outcome = error
            return None
        parsed = _parsed(answer)
        if parsed is None:
            first.outcome = answer
            return None
        return answer, parsed

    def short(operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Stand in for botocore's method."""
        first.outcome = None
        credentials = signer._credentials  # noqa: SLF001 - see above
        if credentials is not None and (way := ways.get(operation)):
            began = time.monotonic()
            try:
                body = msgspec.json.encode(arguments)
            except (TypeError, UnicodeEncodeError):  # botocore says what is wrong
                return dict(call(operation, arguments))
            if answered := attempt(way, body, credentials.get_frozen_credentials()):
                count(operation, time.monotonic() - began)
                return answered[1]
        return dict(call(operation, arguments))

    def learn(
        model: Any, params: Mapping[str, Any], context: Mapping[str, Any], **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        """Note the way of an operation, and make the first attempt at the first request that goes it."""
        if first.outcome is not None or model.name not in OPERATIONS:
            return None
        way, credentials = _way(signer, params, context), signer._credentials  # noqa: SLF001 - see above
        if way is None or credentials is None:
            return None
        ways[model.name] = way
        return attempt(way, params["body"], credentials.get_frozen_credentials())

    def take(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:  # noqa: ARG001 - botocore names it
        outcome: AWSResponse | Exception | None = first.outcome
        first.outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    client._make_api_call = short  # noqa: SLF001 - see above
    client.meta.events.register("before-call.sqs", learn)
    client.meta.events.register("before-send.sqs", take)


def _way(signer: Any, params: Mapping[str, Any], context: Mapping[str, Any]) -> _Way | None:
    """Return the way of a request that botocore is about to sign; None if it is not one that is signed here."""
    parts = urlsplit(params["url"])
    signing = context.get("signing", {})
    plain = (params["method"], parts.path or "/", parts.query) == ("POST", "/", "")
    by_this_signature = signer.signature_version == "v4" and context.get("auth_type") in {None, "v4"}
    if not plain or not by_this_signature or signing.keys() - {"region", "signing_name", "disableDoubleEncoding"}:
        return None
    return _Way(
        url=params["url"],
        headers={**params["headers"], "Host": parts.netloc.rpartition("@")[2]},
        region=signing.get("region") or signer.region_name,
        service=signing.get("signing_name") or signer.signing_name,
    )


def _parsed(answer: AWSResponse) -> dict[str, Any] | None:
    """Return what botocore's parser would return for a plain success, less its metadata; None for anything else."""
    if answer.status_code != HTTPStatus.OK:
        return None
    try:
        found = msgspec.json.decode(answer.content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    plain = all(
        isinstance(entries := found.get(name, []), list) and all(isinstance(entry, dict) for entry in entries)
        for name in _LISTS
    )
    return found if plain else None
