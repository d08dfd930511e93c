"""Writes documents in bulk, confirms each one, and backs off if the cluster is full."""

import dataclasses
import datetime as dt
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from uaharvest.documents.document import Document
from uaharvest.errors import BlockedError, IndexBlockedError, RetryableError
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster import connection
from uaharvest.sinks.cluster.connection import Cluster
from uaharvest.sinks.cluster.indices import Indices
from uaharvest.sinks.cluster.refusals import Item, index_refusal, passes, shortened
from uaharvest.sinks.documents import require_few
from uaharvest.tolerance import too_many

BULK_DOCUMENTS = 1000
BULK_DELETES = 5000
_ATTEMPTS = 10  # of a bulk of deletions, some of which the cluster has no room for; about half a minute
BULK_BYTES = 5_000_000  # Elastic recommends 5 to 15 MB; many proxies accept less (413: the bulk is halved)

# How long the server waits for an index's primary shard. Its default of 1 minute equals our request time-out,
# so one index without its shard would cost us the response about all others.
SHARD_SECONDS = 20
_BAD_TIME = "400: @timestamp is not an ISO 8601 time with a zone"
_OF_EACH_ITEM = "errors,items.*.status,items.*.error.type,items.*.error.reason"
_TOO_LONG = "413: "  # prefix of the reason for a document that is too long even for its own request


class NotWholeError(RetryableError):
    """A response is incomplete or inconsistent."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    document: Document
    content: bytes = dataclasses.field(repr=False)  # the action line and the body, as _bulk sends them


@dataclasses.dataclass(slots=True)
class _Verdicts:
    confirmed: list[Document] = dataclasses.field(default_factory=list)
    refused: list[tuple[Document, str]] = dataclasses.field(default_factory=list)
    again: list[tuple[_Line, Item]] = dataclasses.field(default_factory=list)
    blocked: dict[str, str] = dataclasses.field(default_factory=dict)  # the reason by index


class Bulks:
    """Writes documents.

    Args:
        cluster: Where to.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._indices = Indices(cluster)

    def write(self, documents: Iterable[Document]) -> Iterator[Receipt[Document]]:
        """Store all `documents`; see `DocumentStore.write`."""
        blocked: dict[str, str] = {}
        taken: Counter[str] = Counter()
        refused: list[tuple[Document, str]] = []
        for batch in _batches(_timely(documents, refused)):
            for written in self._store(batch, blocked):
                refused += written.refused
                taken.update(document.index for document in written.confirmed)
                if written.confirmed:
                    yield Receipt(confirmed=written.confirmed)
        refused = self._few_of_each(refused, taken, blocked)
        if refused:
            yield Receipt(refused=refused)
        if blocked:
            raise IndexBlockedError(blocked)

    def delete(self, keys: Iterable[tuple[str, str]]) -> Iterator[int]:
        """Delete documents by index and id; see `DocumentStore.delete`."""
        remaining = iter(keys)
        while batch := list(itertools.islice(remaining, BULK_DELETES)):
            yield self._delete(batch)

    def _delete(self, keys: Sequence[tuple[str, str]]) -> int:
        deleted = 0
        for attempt in range(1, _ATTEMPTS + 1):
            lines = [b"%b\n" % _encoded({"delete": {"_index": index, "_id": id_}}) for index, id_ in keys]
            answer = self._cluster.ask("POST", "/_bulk", b"".join(lines), filter_path=_OF_EACH_ITEM)
            items = _items({"items": answer.body.get("items")}, len(keys))
            if items is None:
                raise NotWholeError(f"{self._cluster.server} gave no whole answer: a bulk of deletions")
            deleted += sum(item.status < HTTPStatus.MULTIPLE_CHOICES for item in items)
            # Not found: it was deleted before, perhaps by this request, whose first answer got lost.
            rest = [
                (key, item)
                for key, item in zip(keys, items, strict=True)
                if item.status >= HTTPStatus.MULTIPLE_CHOICES and item.status != HTTPStatus.NOT_FOUND
            ]
            if not rest:
                return deleted
            for (index, _), item in rest:
                if not passes(item.status) and item.status != HTTPStatus.CONFLICT:
                    raise BlockedError(
                        f"{self._cluster.server} deletes no document of {index}: {item.status} {item}"
                    )
            keys = [key for key, _ in rest]
            self._cluster.pause(connection.RETRIES.seconds(attempt))
        raise RetryableError(f"{self._cluster.server} did not delete {len(keys)} documents: {rest[-1][1]}")

    def _few_of_each(
        self, refused: Sequence[tuple[Document, str]], taken: Mapping[str, int], blocked: dict[str, str]
    ) -> list[tuple[Document, str]]:
        """Return refusals that are the documents' own fault; add an index that refuses many to `blocked`."""
        too_long = [entry for entry in refused if entry[1].startswith(_TOO_LONG)]
        by_index: dict[str, list[tuple[Document, str]]] = {}
        for document, reason in refused:
            if reason.startswith(_TOO_LONG):
                continue
            by_index.setdefault(document.index, []).append((document, reason))
        few: list[tuple[Document, str]] = []
        for index, entries in by_index.items():
            if index in blocked:
                continue  # they will be sent again with all others for that index
            try:
                require_few(entries, taken[index] + len(entries), str(self._cluster.server))
            except BlockedError as error:
                blocked[index] = str(error)
            else:
                few += entries
        if too_many(len(few), len(few) + sum(taken.values())):  # only a few per index, but many indices
            blocked |= {
                document.index: f"{self._cluster.server} refuses {document.index}: {reason}"
                for document, reason in few
            }
            few = []
        if taken or not too_many(len(too_long), len(too_long)):
            return few + too_long  # however many, since shorter ones were accepted
        advice = "Raise the limit of the proxy before it, or http.max_content_length"
        blocked |= {
            document.index: f"{self._cluster.server} takes no document for {document.index}: {reason}. {advice}."
            for document, reason in too_long
        }
        return few

    def _store(self, batch: Sequence[_Line], blocked: dict[str, str]) -> Iterator[Receipt[Document]]:
        """Send a batch, and resend what the cluster had no room for, until everything is confirmed or refused.

        An index that accepts nothing is added to `blocked`, and its documents are left out.
        """
        blocked |= self._indices.blocked_by_templates({line.document.index for line in batch} - set(blocked))
        waiting = [batch]
        attempt = 0
        while waiting:
            lines = [line for line in waiting.pop() if line.document.index not in blocked]
            if not lines:
                continue
            items = self._bulk(lines)
            if items is None and len(lines) > 1:  # too long for the server, or for a proxy in front of it
                half = len(lines) // 2
                waiting += [lines[half:], lines[:half]]
                continue
            if items is None:
                size = len(lines[0].content)
                yield Receipt(
                    refused=[
                        (
                            lines[0].document,
                            f"{_TOO_LONG}{size:,} bytes are more than {self._cluster.server} takes",
                        )
                    ]
                )
                continue
            verdicts = self._judge(lines, items)
            blocked |= verdicts.blocked
            if verdicts.confirmed or verdicts.refused or verdicts.blocked:
                attempt = 0
            if verdicts.confirmed or verdicts.refused:
                yield Receipt(confirmed=verdicts.confirmed, refused=verdicts.refused)
            if not verdicts.again:
                continue
            attempt += 1
            if attempt == connection.RETRIES.attempts:
                count, (_, last) = len(verdicts.again), verdicts.again[-1]
                raise RetryableError(f"{self._cluster.server} did not take {count} documents: {last}")
            self._cluster.pause(connection.RETRIES.seconds(attempt))
            waiting.append([line for line, _ in verdicts.again])

    def _bulk(self, lines: Sequence[_Line]) -> list[Item] | None:
        """Return the result for each line; None if the request is too long."""

        def items() -> list[Item] | None:
            # Unfiltered, the response would be as long as the request. Filtering keeps the order.
            answer = self._cluster.ask(
                "POST",
                "/_bulk",
                b"".join([line.content for line in lines]),
                accept={HTTPStatus.REQUEST_ENTITY_TOO_LARGE},
                filter_path=_OF_EACH_ITEM,
                timeout=f"{SHARD_SECONDS}s",
            )
            if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                return None
            found = _items(answer.body, len(lines))
            if found is None:
                raise NotWholeError(
                    f"{self._cluster.server} gave no whole answer: the items of a bulk are not those that were sent"
                )
            return found

        # `ask` has already retried failed requests.
        retries = dataclasses.replace(connection.RETRIES, within=math.inf)
        return retries.call(items, pause=self._cluster.pause, again=lambda error: isinstance(error, NotWholeError))

    def _judge(self, lines: Sequence[_Line], items: Sequence[Item]) -> _Verdicts:
        verdicts = _Verdicts()
        others = any(item.status < HTTPStatus.MULTIPLE_CHOICES for item in items)
        for line, item in zip(lines, items, strict=True):
            document = line.document
            if item.status < HTTPStatus.MULTIPLE_CHOICES or (
                item.status == HTTPStatus.CONFLICT and document.version is not None  # a higher version is stored
            ):
                verdicts.confirmed.append(document)
            elif refusal := index_refusal(document.index, item, self._cluster.server, others=others):
                verdicts.blocked[document.index] = refusal
            elif passes(item.status) or item.status == HTTPStatus.CONFLICT:
                verdicts.again.append((line, item))
            else:
                verdicts.refused.append((document, f"{item.status} {item}"))
        return verdicts


def _items(body: Mapping[str, Any], expected: int) -> list[Item] | None:
    """Return the items of a bulk response; None if they do not match the request or are inconsistent."""
    found = body.get("items")
    if not isinstance(found, list) or len(found) != expected:
        return None
    items = []
    for entry in found:
        match list(entry.values()) if isinstance(entry, dict) else ():
            case [{"status": int(status), **rest}] if 200 <= status < 600:  # noqa: PLR2004 - HTTP's own numbers
                error = rest.get("error")
            case _:
                return None
        if status < HTTPStatus.MULTIPLE_CHOICES and error is not None:
            return None
        details = error if isinstance(error, dict) else {"reason": error or ""}
        items.append(Item(status, str(details.get("type") or ""), shortened(details.get("reason") or "")))
    failed = any(item.status >= HTTPStatus.MULTIPLE_CHOICES for item in items)
    return items if body.get("errors", failed) is failed else None


def _timely(documents: Iterable[Document], refused: list[tuple[Document, str]]) -> Iterator[Document]:
    """Yield the documents whose `@timestamp`, if they have one, is a time; add the others to `refused`.

    Without this, OpenSearch 2 would store them so that no query by time finds them: it applies the index's
    `ignore_malformed` although the mapping of `@timestamp` says false (its issue 16599).
    """
    for document in documents:
        if (at := document.body.get("@timestamp")) is not None and not _is_time(at):
            refused.append((document, _BAD_TIME))
        else:
            yield document


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and dt.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


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
    return b"%b\n%b\n" % (_encoded(action), _encoded(body))


def _encoded(content: Any) -> bytes:
    try:
        return _encode(content)
    except (TypeError, ValueError):
        # A lone surrogate has no UTF-8 encoding and becomes "?": as an escape it would make the whole bulk fail.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


_encode = msgspec.json.Encoder().encode  # takes a fifth of the CPU time of `json`
