"""Makes the first attempt at each frequent request to SQS, in less CPU time than botocore takes.

A harvest sends a request for every ten messages, and botocore takes longer over a request than the system takes to
send it. So the first attempt at such a request is made here. It is addressed as botocore has addressed the first one
of its kind, signed by botocore's signer and sent over its connections, but botocore's events, retries, validation and
parser are left out. Only a plain success is taken from here. Any other outcome is given to botocore as that of its
first attempt, so that its errors, its retries and their number stay what they are.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse

OPERATIONS = frozenset({"DeleteMessageBatch", "ReceiveMessage", "SendMessageBatch"})
_LISTS = ("Failed", "Messages", "Successful")
_KNOWN_SIGNING = frozenset({"region", "signing_name", "disableDoubleEncoding"})
_Answered = tuple[AWSResponse, dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """How botocore sends one operation: where to, with which headers, signed for which region and service."""

    url: str
    headers: Mapping[str, str]
    region: str
    service: str

    def request(self, body: bytes, credentials: Any) -> AWSPreparedRequest:
        """Return a signed request."""
        request = AWSRequest("POST", self.url, headers=dict(self.headers), data=body)
        SigV4Auth(credentials, self.service, self.region).add_auth(request)
        return request.prepare()


def hasten(client: Any, count: Callable[[str, float], None]) -> None:
    """Let an SQS client of botocore make the first attempt at its OPERATIONS here.

    Args:
        client: The client.
        count: Called after each success with the operation and the seconds that it took.
    """
    first = _FirstAttempts(client, count)
    client._make_api_call = first.call  # noqa: SLF001 - what all its methods come to
    client.meta.events.register("before-call.sqs", first.learn)
    client.meta.events.register("before-send.sqs", first.take)


class _FirstAttempts:
    def __init__(self, client: Any, count: Callable[[str, float], None]) -> None:
        self._session = client._endpoint.http_session  # noqa: SLF001 - connections, proxies, certificates, time-outs
        self._signer = client._request_signer  # noqa: SLF001 - credentials, renewed when they expire
        self._botocores_call = client._make_api_call  # noqa: SLF001 - see `hasten`
        self._count = count
        self._ways: dict[str, _Way] = {}
        self._thread = threading.local()  # `outcome` of this thread's first attempt, until botocore takes it

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stand in for botocore's method."""
        self._thread.outcome = None
        if way := self._ways.get(operation):
            began = time.monotonic()
            # If it cannot be encoded, botocore says why.
            with contextlib.suppress(TypeError, UnicodeEncodeError):
                if answered := self._attempt(way, msgspec.json.encode(arguments)):
                    self._count(operation, time.monotonic() - began)
                    return answered[1]
        found: Mapping[str, Any] = self._botocores_call(operation, arguments)
        return found

    def learn(
        self, model: Any, params: Mapping[str, Any], context: Mapping[str, Any], **_: Any
    ) -> _Answered | None:
        """Note the way of an operation, and make the first attempt at the first request that goes it."""
        if self._thread.outcome is not None or model.name not in OPERATIONS:
            return None
        way = _way(self._signer, params, context)
        if way is None:
            return None
        self._ways[model.name] = way
        return self._attempt(way, params["body"])

    def take(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:  # noqa: ARG002 - botocore names it
        """Give botocore the outcome of the first attempt."""
        outcome: AWSResponse | Exception | None = self._thread.outcome
        self._thread.outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _attempt(self, way: _Way, body: bytes) -> _Answered | None:
        request = way.request(body, self._signer._credentials.get_frozen_credentials())  # noqa: SLF001 - see above
        try:
            answer = self._session.send(request)
        except Exception as error:  # noqa: BLE001 - botocore raises it again, or tries again
            self._thread.outcome = error
            return None
        parsed = _parsed(answer)
        if parsed is None:
            self._thread.outcome = answer
            return None
        return answer, parsed


def _way(signer: Any, params: Mapping[str, Any], context: Mapping[str, Any]) -> _Way | None:
    """Return the way of a request that botocore is about to sign; None if it is not one that is signed here."""
    parts = urlsplit(params["url"])
    signing = context.get("signing", {})
    plain = (params["method"], parts.path or "/", parts.query) == ("POST", "/", "")
    versions = {signer.signature_version, context.get("auth_type") or "v4"}
    if not plain or versions != {"v4"} or signing.keys() - _KNOWN_SIGNING or signer._credentials is None:  # noqa: SLF001 - see above
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
