"""Documents to Elasticsearch 8 or 9: in bulks, confirmed item by item, slower where the cluster is full."""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from elastic_transport import SerializationError, TextApiResponse, TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import BadInputError, BlockedError, HarvestError, RetryableError
from uaharvest.settings import Settings
from uaharvest.sinks.documents import Document, Written, require_few

BULK_DOCUMENTS = 1000
BULK_BYTES = 5_000_000  # Elastic advises 5 to 15 MB; proxies often take less (then 413, and it is halved)

LOAD_TEMPLATES = "manage.py setup index-templates"

_ATTEMPTS = 6  # in a row that bring nothing forward; about 10 s, then the slice goes back
_REQUEST_SECONDS = 60
_CONNECTIONS = 4
_PAGE = 1000
_MOST_INDICES = 20_000  # below search.max_buckets (65,536); 50 years of a family's days
_SNAPSHOT_KEPT = "5m"  # between two pages of an export

_OF_EACH_ITEM = "items.*.status,items.*.error.type,items.*.error.reason"
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_PREVIEW = ". Preview of field's value"  # what follows is from the document: it belongs into no error

_WRONG_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "X509")

ERRORS = (ApiError, TransportError)  # what a client raises


def connect(settings: Settings) -> Elasticsearch:
    """Return a client of the cluster ES_HOST. It does not retry by itself, and uses no other node than that.

    Raises:
        BadInputError: A setting is missing, or two do not go together.
    """
    settings.require("es_url")
    url = settings.es_url or ""
    if settings.es_api_key and settings.es_user:
        raise BadInputError("ES_API_KEY and ES_USER are set. Expected one of them.")
    if bool(settings.es_user) != bool(settings.es_password):
        raise BadInputError("ES_USER and ES_PASSWORD go together; one of them is not set.")
    options: dict[str, Any] = {}
    if settings.es_api_key:
        options["api_key"] = settings.es_api_key
    if settings.es_user:
        options["basic_auth"] = (settings.es_user, settings.es_password)
    if settings.es_ca_file:
        if not Path(settings.es_ca_file).is_file():
            raise BadInputError(
                f"ES_CA_FILE: there is no file '{settings.es_ca_file}'. Expected certificates (PEM)."
            )
        options["ca_certs"] = settings.es_ca_file
    return Elasticsearch(
        url,
        # Compression costs 20 ms of CPU a megabyte, for a network that a loopback has not.
        http_compress=urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"},
        request_timeout=_REQUEST_SECONDS,
        connections_per_node=_CONNECTIONS,
        max_retries=0,
        sniff_on_start=False,
        sniff_on_node_failure=False,
        **options,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    document: Document
    content: bytes = dataclasses.field(repr=False)  # its action and its body, as _bulk takes them


@dataclasses.dataclass(slots=True)
class _Verdicts:
    confirmed: list[Document] = dataclasses.field(default_factory=list)
    refused: list[tuple[Document, str]] = dataclasses.field(default_factory=list)
    again: list[_Line] = dataclasses.field(default_factory=list)
    reason: str = ""  # why the last of `again` was not taken


class ElasticsearchStore:
    """Keeps documents in Elasticsearch; threads may share it.

    An index that is not there yet is created from the templates of `index_templates/` only, never with a mapping
    that Elasticsearch guesses from the first document.

    Args:
        client: From `connect`.
        pause: Waits so many seconds.
    """

    def __init__(self, client: Elasticsearch, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._what = name_of(client)
        self._pause = pause
        self._known: set[str] = set()

    def write(self, documents: Iterable[Document]) -> Iterator[Written]:
        """Store all `documents`; see `DocumentStore.write`.

        After an error the refused ones are not reported, and refused again when they are written again.
        """
        confirmed = 0
        refused: list[tuple[Document, str]] = []
        for batch in _batches(documents):
            for written in self._store(batch):
                refused += written.refused
                if written.confirmed:
                    confirmed += len(written.confirmed)
                    yield Written(confirmed=written.confirmed)
        require_few(refused, confirmed + len(refused), self._what)
        if refused:
            yield Written(refused=refused)

    def indices(self) -> Mapping[str, int]:
        """Return how many documents each index holds, of those that uaharvest writes; up to a second old."""
        return self._counts(",".join(f"{family}*" for family in FAMILIES))

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, None if there is none."""
        # A missing document is an answer here; so is a missing index.
        answer = self._ask(
            self._client.options(ignore_status=HTTPStatus.NOT_FOUND).get, index=index, id=document_id
        )
        source: dict[str, Any] | None = answer.get("_source")
        return source

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents of the indices that match; see `DocumentStore.export`."""
        for index in self._counts(index_pattern):
            yield from self._export(index)

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield every value of a keyword field once; nothing if no index matches."""
        pages: dict[str, Any] = {"size": _PAGE, "sources": [{"value": {"terms": {"field": field}}}]}
        while True:
            answer = self._ask(
                self._client.search,
                index=index_pattern,
                size=0,
                aggs={"values": {"composite": pages}},
                ignore_unavailable=True,
            )
            found = answer.get("aggregations", {}).get("values", {"buckets": []})
            for bucket in found["buckets"]:
                yield bucket["key"]["value"]
            if "after_key" not in found:
                return
            pages["after"] = found["after_key"]

    def _counts(self, index_pattern: str) -> dict[str, int]:
        aggregation = {"indices": {"terms": {"field": "_index", "size": _MOST_INDICES, "order": {"_key": "asc"}}}}
        answer = self._ask(
            self._client.search, index=index_pattern, size=0, aggs=aggregation, ignore_unavailable=True
        )
        # Where no index matches there are no aggregations.
        buckets = answer.get("aggregations", {"indices": {"buckets": []}})["indices"]["buckets"]
        return {bucket["key"]: bucket["doc_count"] for bucket in buckets}

    def _export(self, index: str) -> Iterator[dict[str, Any]]:
        snapshot = self._ask(self._client.open_point_in_time, index=index, keep_alive=_SNAPSHOT_KEPT)["id"]
        after: list[Any] | None = None
        try:
            while True:
                answer = self._ask(
                    self._client.search,
                    pit={"id": snapshot, "keep_alive": _SNAPSHOT_KEPT},
                    size=_PAGE,
                    sort=["_shard_doc"],
                    search_after=after,
                    track_total_hits=False,
                )
                hits = answer["hits"]["hits"]
                if not hits:
                    return
                for hit in hits:
                    yield {"_index": hit["_index"], "_id": hit["_id"], **hit["_source"]}
                snapshot, after = answer["pit_id"], hits[-1]["sort"]
        finally:
            self._ask(self._client.close_point_in_time, id=snapshot)

    def _store(self, batch: Sequence[_Line]) -> Iterator[Written]:
        """Send a batch, and again what the cluster had no room for, until all of it is confirmed or refused."""
        self._require_templates({line.document.index for line in batch})
        waiting = [batch]
        attempt = 0
        while waiting:
            lines = waiting.pop()
            items = self._bulk(lines)
            if items is None and len(lines) > 1:  # too long for the server, or for a proxy before it
                half = len(lines) // 2
                waiting += [lines[half:], lines[:half]]
                continue
            if items is None:
                size = len(lines[0].content)
                yield Written(
                    refused=[(lines[0].document, f"413: {size:,} bytes are more than {self._what} takes")]
                )
                continue
            verdicts = self._judge(lines, items)
            if verdicts.confirmed or verdicts.refused:
                attempt = 0
                yield Written(confirmed=verdicts.confirmed, refused=verdicts.refused)
            if not verdicts.again:
                continue
            attempt += 1
            if attempt == _ATTEMPTS:
                count = len(verdicts.again)
                raise RetryableError(f"{self._what} did not take {count} documents: {verdicts.reason}")
            self._pause(_backoff(attempt))
            waiting.append(verdicts.again)

    def _bulk(self, lines: Sequence[_Line]) -> list[tuple[int, Mapping[str, Any]]] | None:
        """Return each item's status and error; None if the request is too long."""
        # The filter spares most of an answer that is as long as the request; the order stays.
        answer = self._ask(
            self._client.options(ignore_status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE).bulk,
            operations=[line.content for line in lines],
            filter_path=_OF_EACH_ITEM,
        )
        if answer.meta.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return None
        results = [next(iter(item.values())) for item in answer["items"]]
        return [(result["status"], result.get("error", {})) for result in results]

    def _judge(self, lines: Sequence[_Line], items: Sequence[tuple[int, Mapping[str, Any]]]) -> _Verdicts:
        verdicts = _Verdicts()
        for line, (status, error) in zip(lines, items, strict=True):
            document = line.document
            if status < HTTPStatus.MULTIPLE_CHOICES:
                verdicts.confirmed.append(document)
                continue
            reason = f"{error.get('type', status)}: {_line(error.get('reason', ''))}"
            if status == HTTPStatus.CONFLICT and document.version is not None:
                verdicts.confirmed.append(document)  # a higher version is there
            elif status in _PASSING or status == HTTPStatus.CONFLICT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                verdicts.again.append(line)
                verdicts.reason = reason
            elif status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:  # also an index that is read-only
                raise BlockedError(
                    f"{self._what} does not let us write to {document.index}: {reason}. {_PRIVILEGES}"
                )
            elif status == HTTPStatus.NOT_FOUND:
                raise BlockedError(
                    f"{self._what} has no index {document.index} and may not create it: {reason}."
                    " Let action.auto_create_index of the cluster permit it."
                )
            else:
                verdicts.refused.append((document, f"{status} {reason}"))
        return verdicts

    def _require_templates(self, indices: set[str]) -> None:
        """Raise BlockedError if one of `indices` is not there and no template would make it."""
        for index in sorted(indices - self._known):
            if not self._ask(self._client.indices.exists, index=index):
                answer = self._ask(self._client.indices.simulate_index_template, name=index)
                if not answer.get("template", {}).get("mappings"):
                    raise BlockedError(f"{self._what} has no template for the index {index}: {LOAD_TEMPLATES}")
            self._known.add(index)

    def _ask(self, request: Callable[..., Any], **arguments: Any) -> Any:
        return ask(request, self._what, self._pause, **arguments)


_PRIVILEGES = (
    "The API key or user needs read, create_index, write and view_index_metadata on the indices,"
    " and manage_index_templates on the cluster"
)


def name_of(client: Elasticsearch) -> str:
    """Return what errors call the cluster: with its address, without credentials."""
    node = next(iter(client.transport.node_pool.all()))
    return f"Elasticsearch at {node.base_url}"


def ask(request: Callable[..., Any], what: str, pause: Callable[[float], None], **arguments: Any) -> Any:
    """Return what `request` answers; ask again, with back-off, while it fails in a way that passes by itself.

    Args:
        request: A method of the client.
        what: What errors call the cluster; from `name_of`.
        pause: Waits so many seconds.
        arguments: Of the request.

    Raises:
        RetryableError: It still fails after about 10 s.
        BlockedError: A person must change something.
    """
    attempt = 1
    while True:
        try:
            answer = request(**arguments)
        except ERRORS as error:
            failure = translate(error, what)
        else:
            if answer.meta.status >= HTTPStatus.MULTIPLE_CHOICES or not isinstance(answer, TextApiResponse):
                return answer
            failure = RetryableError(f"{what} did not answer in JSON")  # a proxy's page
        if attempt == _ATTEMPTS or not isinstance(failure, RetryableError):
            raise failure
        pause(_backoff(attempt))
        attempt += 1


def translate(error: Exception, what: str) -> HarvestError:
    """Return the error of our tree for one of `ERRORS`; `what` is from `name_of`."""
    if isinstance(error, UnsupportedProductError):
        return BlockedError(f"{what}: what answers there is no Elasticsearch of version 8 or 9. Check ES_HOST.")
    if isinstance(error, ApiError):
        return _translate_answer(error, what)
    reason = _line(error.message if isinstance(error, TransportError) else error)
    if isinstance(error, TlsError) and any(sign in reason.upper() for sign in _WRONG_TLS):
        return BlockedError(f"{what}: {reason}. Check ES_HOST (https or http) and ES_CA_FILE.")
    if isinstance(error, SerializationError):
        return RetryableError(f"{what} did not answer in JSON")
    return RetryableError(f"{what} cannot be reached: {reason}")


def _translate_answer(error: ApiError, what: str) -> HarvestError:
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    cause = body.get("error")
    reason = _line(cause.get("reason") if isinstance(cause, dict) else cause or error.message)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetryableError(f"{what} answered {status}: {reason}")
    if status == HTTPStatus.UNAUTHORIZED:
        return BlockedError(f"{what} refuses the credentials (401). Check ES_API_KEY, or ES_USER and ES_PASSWORD.")
    if status == HTTPStatus.FORBIDDEN:
        return BlockedError(f"{what} does not let us (403): {reason}. {_PRIVILEGES}.")
    advice = "" if status == HTTPStatus.BAD_REQUEST else " Check ES_HOST."
    return BlockedError(f"{what} answered {status}: {reason}.{advice}")


def _batches(documents: Iterable[Document]) -> Iterator[list[_Line]]:
    batch: list[_Line] = []
    size = 0
    for document in documents:
        line = _Line(document, _content(document))
        if batch and (len(batch) == BULK_DOCUMENTS or size + len(line.content) > BULK_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.content)
    if batch:
        yield batch


def _content(document: Document) -> bytes:
    where: dict[str, Any] = {"_index": document.index, "_id": document.id}
    body: Mapping[str, Any] = document.body
    if document.update:
        action = {"update": {**where, "retry_on_conflict": 3}}
        body = {"doc": body, "doc_as_upsert": True}
    else:
        if document.version is not None:
            where |= {"version": document.version, "version_type": "external_gte"}
        action = {"index": where}
    # A lone surrogate, which UTF-8 has no bytes for, becomes "?": as an escape it would refuse the whole bulk.
    return f"{_encode(action)}\n{_encode(body)}\n".encode("utf-8", "replace")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _backoff(attempt: int) -> float:
    """Return the seconds to wait after attempt 1, 2, ...: twice as long each time up to 4 s, with jitter."""
    return random.uniform(0.5, 1.0) * min(0.5 * 2.0**attempt, 4.0)  # noqa: S311 - jitter is no secret


def _line(text: object) -> str:
    return " ".join(str(text).split(_PREVIEW, maxsplit=1)[0].split())[:300].rstrip(".")
