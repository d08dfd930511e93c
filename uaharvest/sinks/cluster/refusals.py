"""Turns refusals of Elasticsearch and OpenSearch into our own errors: the server's words, then what to do."""

import dataclasses
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from elastic_transport import SerializationError, TlsError, TransportError

from uaharvest import answers
from uaharvest.errors import BlockedError, HarvestError, RetryableError
from uaharvest.sinks.cluster.products import EXPECTED, OPENSEARCH, Product

_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_PREVIEW = ". Preview of field's value"  # what follows is quoted from the document and must not appear in errors
_WRONG_TLS = ("WRONG_VERSION_NUMBER", "X509")
_PATH = "Check ES_HOST: its port, and the path if a proxy needs one"
_WRONG_CLOCK = re.compile(r"(?i)signature (expired|not yet current)")
_LONGEST = 10_000  # characters to inspect
# What AWS quotes of a request that it refuses. A run of spaces would be searched from each of them.
_QUOTED = re.compile(r"(?i)\.? *(the canonical string|authorization=|credential=)")


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """The server behind ES_HOST, as errors name it.

    Attributes:
        url: Its address, without credentials.
        product: Which product it is; None as long as that is not known.
        version: Its version; "" if it does not say.
        signed: Whether requests are signed for AWS.
    """

    url: str
    product: Product | None = None
    version: str = ""
    signed: bool = False

    def __str__(self) -> str:
        return f"{self.product.name if self.product else 'Elasticsearch or OpenSearch'} at {self.url}"

    @property
    def privileges(self) -> str:
        """What our user needs."""
        if self.signed:
            return (
                "The domain's access policy must allow this AWS identity es:ESHttp*, and its role what docs list"
            )
        # Elasticsearch would have named itself in a header.
        return (self.product or OPENSEARCH).privileges


def passes(status: int) -> bool:
    """Tell whether a failure with this status is temporary."""
    return status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def translate(error: TransportError, server: Server) -> HarvestError:
    """Return our own error for a request without a usable response."""
    reason = shortened(error.message)
    if isinstance(error, TlsError) and (distrusted := answers.distrust(reason)):
        return BlockedError(f"{server} {distrusted}. Fix it, or set ES_CA_FILE to a file with its authority's.")
    if isinstance(error, TlsError) and any(sign in reason.upper() for sign in _WRONG_TLS):
        return BlockedError(f"{server}: {reason}. Check ES_HOST (https or http) and ES_CA_FILE.")
    if isinstance(error, SerializationError):
        return RetryableError(f"{server} did not answer in JSON")
    # The client's message shows the causes as Python writes them.
    reason = shortened(answers.innermost(error)) or reason
    return RetryableError(f"{server} cannot be reached: {reason}. Does it run, and is ES_HOST right?")


def refusal(status: int, body: object, server: Server) -> HarvestError:
    """Return the error for a refused request: the server's own words, then matching advice."""
    words = _words(body)
    reason = f": {words}" if words else ", and gave no reason"
    if passes(status):
        return RetryableError(f"{server} answered {status}{reason}")
    said: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: "refuses the credentials (401)",
        HTTPStatus.FORBIDDEN: "denied access (403)",
    }
    advice = _advice(status, body, server)
    return BlockedError(f"{server} {said.get(status, f'answered {status}')}{reason}. {advice}".rstrip())


def require_absence(status: int, body: object, server: Server) -> None:
    """Raise BlockedError for a 404 that does not say that a document, an index or a template is missing.

    Other servers, proxies, and both products under a wrong path answer 404 too.
    """
    if status != HTTPStatus.NOT_FOUND:
        return
    match body:
        case {"found": False}:
            return
        case {"error": {"type": "index_not_found_exception" | "resource_not_found_exception"}}:
            return
        case {"error": {"type": "status_exception", "reason": "Policy not found"}}:  # OpenSearch's ISM
            return
    raise refusal(HTTPStatus.NOT_FOUND, body, server)


def _advice(status: int, body: object, server: Server) -> str:
    type_, words = error_type(body), _words(body)
    if server.signed and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not type_:
        return _signature_advice(words)
    if status == HTTPStatus.UNAUTHORIZED:
        advice = "Check ES_API_KEY, or ES_USER and ES_PASSWORD."
    elif type_ == "cluster_block_exception":
        advice = f"{unblock(words)}."
    elif status == HTTPStatus.FORBIDDEN:
        # A proxy's 403 says nothing about our user's privileges.
        advice = f"{server.privileges}." if type_ else f"Does a proxy refuse us? {_PATH}."
    elif status < HTTPStatus.BAD_REQUEST:
        advice = f"It points to another address. {_PATH}, http or https."
    elif type_ == "index_closed_exception":
        advice = "Open it: POST /<index>/_open."
    elif type_ and server.product:
        advice = ""
    else:  # both name an error type, except for unknown paths; a path before `GET /` is taken for an index
        advice = f"{_PATH}. {EXPECTED}."
    return advice


def _signature_advice(words: str) -> str:
    if _WRONG_CLOCK.search(words):
        return "ES_AUTH=aws signs with the time: the clock of this machine is wrong, synchronize it with NTP."
    return (
        "ES_AUTH=aws signs with the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or this"
        " machine's role, for the region of ES_HOST or AWS_DEFAULT_REGION: check them, and the domain's access policy"
        " (es:ESHttp*)."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A bulk response's item for one document."""

    status: int
    type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.type or self.status}: {self.reason}"


def index_refusal(index: str, item: Item, server: Server, *, others: bool) -> str:
    """Return why an index accepts nothing, with advice; "" if only the document was refused.

    Args:
        index: The index.
        item: The bulk response's item for one of its documents.
        server: The server.
        others: Whether other documents in the same bulk were accepted.
    """
    closed = f"{server} takes no documents for {index}: {item}"
    denied = f"{server} denies us write access to {index}: {item}"
    missing = f"{server} has no index {index} and may not create it: {item}"
    match item.type, item.status:
        case "cluster_block_exception", status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            said = f"{denied.rstrip(';')}. {unblock(item.reason)}."
        case "index_closed_exception", _:
            said = f"{closed}. Open it: POST /{index}/_open."
        case "unavailable_shards_exception", _ if others:
            said = f"{closed}. Look at the cluster's health: a shard of it is missing."
        case "validation_exception", _:  # both: the cluster has reached its shard limit
            said = f"{missing}. Delete old indices, or raise cluster.max_shards_per_node."
        case _, HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            said = f"{denied}. {server.privileges}."
        case _, HTTPStatus.NOT_FOUND:
            said = f"{missing}. Let action.auto_create_index of the cluster permit it."
        case _:
            said = ""
    return said


def unblock(reason: str) -> str:
    """Return how to remove a block, by the server's words for it."""
    if "flood-stage" in reason or "disk usage" in reason or "create-index blocked" in reason:
        return "The disk is too full: make room. The server takes the block away by itself"
    if "cluster read-only" in reason:
        return "Remove the block: the cluster's settings cluster.blocks.read_only and read_only_allow_delete"
    return "Remove the block: the index's settings index.blocks.write, read_only and read_only_allow_delete"


def error_type(body: object) -> str:
    """Return the type of the server's error, "" if it names none."""
    match body:
        case {"error": {"type": str(type_)}}:
            return type_
        case {"error": {"reason": str()}}:
            return "unknown"
    return ""


def _words(body: object) -> str:
    """Return the server's error message, "" if there is none."""
    match body:
        case {"error": dict(error)}:
            roots = error.get("root_cause")
            causes = [error, *(roots[:1] if isinstance(roots, list) else ())]
            return "; ".join(dict.fromkeys(_cause(cause) for cause in causes if isinstance(cause, dict)))
        case {"error": str(text)} | {"message": str(text)} | {"Message": str(text)}:
            return shortened(_QUOTED.split(" ".join(text[:_LONGEST].split()), maxsplit=1)[0])
        case str(text) | bytes(text):
            page = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            title = re.search(r"<title>([^<]{1,300})", page[:_LONGEST], re.IGNORECASE)
            return shortened(title[1] if title else re.sub(r"<[^<>]{0,300}>", " ", page[:2_000]))
    return ""


def _cause(error: Mapping[str, Any]) -> str:
    """Return the server's message for one cause, with the index added if the message does not name it."""
    reason, index = shortened(error.get("reason") or ""), error.get("index")
    if isinstance(index, str) and index not in reason:
        reason = f"{reason} [{index}]"
    return ": ".join(part for part in (shortened(error.get("type") or ""), reason) if part)


def shortened(text: object) -> str:
    """Return the server's words on one line, without what they quote of a document."""
    return " ".join(str(text).split(_PREVIEW, maxsplit=1)[0].split())[:300].rstrip(".")
