"""Makes the first attempt at each frequent request to SQS, in less CPU time than botocore takes.

A harvest sends a request for every ten messages, and botocore takes longer over a request than the system takes to
send it. So the first attempt at such a request is made here. botocore's own parts serialise, sign and send it: its
events, its retries and its parser are left out. Only a plain success is taken from here. Any other outcome is given to
botocore as that of its first attempt, so that its errors, its retries and their number stay what they are.
"""

import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, create_request_object

OPERATIONS = frozenset({"DeleteMessageBatch", "ReceiveMessage", "SendMessageBatch"})
_LISTS = ("Failed", "Messages", "Successful")


def hasten(client: Any) -> None:
    """Let an SQS client of botocore make the first attempt at its OPERATIONS here."""
    session = client._endpoint.http_session  # noqa: SLF001 - its connections, proxies, certificates and time-outs
    first = threading.local()  # the outcome of this thread's first attempt, until botocore takes it

    def attempt(
        model: Any, params: Mapping[str, Any], request_signer: Any, **_: Any
    ) -> tuple[AWSResponse, dict[str, Any]] | None:
        first.outcome = None
        if model.name not in OPERATIONS:
            return None
        request = create_request_object(params)
        request_signer.sign(model.name, request)
        try:
            answer = session.send(request.prepare())
        except Exception as error:  # noqa: BLE001 - botocore raises it again, or tries again
            first.outcome = error
            return None
        parsed = _parsed(answer)
        if parsed is None:
            first.outcome = answer
            return None
        return answer, parsed

    def take(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:  # noqa: ARG001 - botocore names it
        outcome: AWSResponse | Exception | None = first.outcome
        first.outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    client.meta.events.register("before-call.sqs", attempt)
    client.meta.events.register("before-send.sqs", take)


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
