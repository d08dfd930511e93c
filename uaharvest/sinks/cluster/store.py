"""The document store in Elasticsearch or OpenSearch."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

from uaharvest.documents.document import Document
from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import HarvestError
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster.bulk import Bulks, NotWholeError
from uaharvest.sinks.cluster.connection import Cluster, quoted
from uaharvest.sinks.cluster.indices import Indices, paths
from uaharvest.sinks.cluster.refusals import error_type, refusal, require_absence
from uaharvest.sinks.documents import DocumentKey, Group, Has, Mentions, Where, Within

_PAGE = 1000
_PAGE_OF_ROWS = 5000  # a megabyte or two of useractions with few fields
_PAGE_OF_IDS = 10_000  # the most that a search returns (index.max_result_window)
_MOST_INDICES = 20_000  # below search.max_buckets (65,536); one index a day for 50 years
_MOST_VALUES = 1_000_000  # of one field; more than any campus has
_MOST_TERMS = 10_000  # of one query; the servers take 65,536 (index.max_terms_count)
_SNAPSHOT_KEPT = "5m"  # between two pages


class _Page(NamedTuple):
    """A page of hits, where the next one begins, the snapshot's new name, and on the first page the number of all."""

    hits: list[dict[str, Any]]
    last: object
    snapshot: str
    total: int


class ClusterStore:
    """Stores documents in Elasticsearch or OpenSearch; threads may share it.

    A missing index is only ever created from the templates in `index_templates/`, never with a mapping that
    the server guesses from the first document. This is checked before each bulk, because an index or a template
    may have been removed since the last one.

    Args:
        cluster: From `connection.connect`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._bulks = Bulks(cluster)
        self._indices = Indices(cluster)

    def write(self, documents: Iterable[Document]) -> Iterator[Receipt[Document]]:
        """Store all `documents`; see `DocumentStore.write`.

        After a RetryableError, refusals are not reported; those documents are refused again when they are
        rewritten.
        """
        return self._bulks.write(documents)

    def indices(self) -> Mapping[str, int]:
        """Return the number of documents in each open index that uaharvest writes; up to a second old."""
        return self._counts(",".join(f"{family}*" for family in FAMILIES), {})

    def matching(self, index_pattern: str) -> Sequence[str]:
        """Return the names of the matching indices; see `DocumentStore.matching`."""
        return sorted(self._indices.matching(index_pattern))

    def get(self, index: str, document_id: str) -> dict[str, Any] | None:
        """Return one document's fields, or None if it does not exist."""
        # A missing document or index is a valid result here.
        path = f"/{quoted(index)}/_doc/{quote(document_id, safe='')}"
        status, body = self._cluster.ask("GET", path, accept={HTTPStatus.NOT_FOUND})
        require_absence(status, body, self._cluster.server)
        if status == HTTPStatus.NOT_FOUND:
            return None
        source: dict[str, Any] | None = body.get("_source")
        if not isinstance(source, dict):
            raise self._not_whole("a document without its fields")
        return source

    def get_many(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, dict[str, Any]]:
        """Return the fields of several documents; see `DocumentStore.get_many`."""
        found: dict[DocumentKey, dict[str, Any]] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            docs = [{"_index": index, "_id": id_} for index, id_ in page]
            answers = self._cluster.ask("POST", "/_mget", {"docs": docs}).body
            with self._whole("some documents"):
                for key, answer in zip(page, answers["docs"], strict=True):
                    if "error" in answer:
                        self._require_missing(answer)
                    elif answer["found"]:
                        found[key] = dict(answer["_source"])
        return found

    def select(
        self,
        index_pattern: str,
        where: Where | None = None,
        fields: Sequence[str] | None = None,
        *,
        only_open: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield documents; see `DocumentStore.select`."""
        search: dict[str, Any] = {"size": _PAGE}
        if fields is not None:
            search = {"size": _PAGE_OF_ROWS if fields else _PAGE_OF_IDS, "_source": list(fields) or False}
        bodies = search.get("_source") is not False
        for query in _queries(where):
            # One index after the other: OpenSearch allows few snapshots of shards at once (300 a node), and reads
            # the shards of one index apart.
            for index in self._indices_with(query, index_pattern, refresh=_is_fresh(where), only_open=only_open):
                for hits in self._hits(index, {**search, **query}):
                    with self._whole("a document"):
                        documents = [
                            {"_index": hit["_index"], "_id": str(hit["_id"]), **(hit["_source"] if bodies else {})}
                            for hit in hits
                        ]
                    yield from documents

    def groups(
        self, index_pattern: str, fields: Sequence[str], where: Where | None = None, *, only_open: bool = False
    ) -> Iterator[Group]:
        """Group documents; see `DocumentStore.groups`.

        A shard numbers its writes (`_seq_no`), and each document has the number of its last one.
        """
        sources = [
            {f"field{number}": {"terms": {"field": name, "missing_bucket": True}}}
            for number, name in enumerate(fields)
        ]
        for query in _queries(where):
            indices = self._indices_with(query, index_pattern, refresh=_is_fresh(where), only_open=only_open)
            for names in paths(indices):
                for bucket in self._composite(names, sources, query):
                    with self._whole("values of some fields"):
                        found = [bucket["key"][f"field{number}"] for number in range(len(fields))]
                        count, writes = int(bucket["doc_count"]), int(bucket["writes"]["value"])
                    values = tuple(None if value is None else str(value) for value in found)
                    yield Group(values, count, f"{count}.{writes}")

    def delete(self, keys: Iterable[DocumentKey]) -> Iterator[int]:
        """Delete documents in bulk; see `DocumentStore.delete`."""
        return self._bulks.delete(keys)

    def drop(self, index: str) -> None:
        """Delete an index; see `DocumentStore.drop`."""
        answer = self._cluster.ask("DELETE", f"/{quoted(index)}", accept={HTTPStatus.NOT_FOUND})
        require_absence(*answer, self._cluster.server)

    def _indices_with(
        self, query: Mapping[str, Any], index_pattern: str, *, refresh: bool, only_open: bool
    ) -> Sequence[str]:
        """Return the matching indices; with a query, those that have any document that it finds.

        Raises:
            BlockedError: One is closed, unless these are left out.
        """
        if not query and not only_open:
            return self.matching(index_pattern)
        found: list[str] = []
        for names in [index_pattern] if only_open else paths(self.matching(index_pattern)):
            if refresh:
                self._cluster.ask("POST", f"/{quoted(names)}/_refresh", ignore_unavailable=True)
            found += self._counts(names, query)
        return found

    def _counts(self, names: str, query: Mapping[str, Any]) -> dict[str, int]:
        """Return how many documents a query finds in each index that has any; closed ones that match `*` have none."""
        aggregation = {"indices": {"terms": {"field": "_index", "size": _MOST_INDICES, "order": {"_key": "asc"}}}}
        answer = self._search({"size": 0, "aggs": aggregation, **query}, f"/{quoted(names)}")
        if answer["_shards"]["total"] == 0:
            return {}  # no index matches, so the response has no aggregations
        with self._whole("counts of indices"):
            found = answer["aggregations"]["indices"]
            if found["sum_other_doc_count"]:
                raise ValueError("there are more")
            return {str(bucket["key"]): int(bucket["doc_count"]) for bucket in found["buckets"]}

    def _require_missing(self, answer: Mapping[str, Any]) -> None:
        """Raise unless this answer about one document says that its index does not exist."""
        kind = error_type(answer)
        if kind != "index_not_found_exception":
            closed = kind == "index_closed_exception"
            status = HTTPStatus.BAD_REQUEST if closed else HTTPStatus.SERVICE_UNAVAILABLE
            raise refusal(status, answer, self._cluster.server)

    def _composite(
        self, names: str, sources: Sequence[Mapping[str, Any]], query: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the buckets of a composite aggregation of some indices, none missing or closed."""
        pages: dict[str, Any] = {"size": _PAGE, "sources": sources}
        values = {"composite": pages, "aggs": {"writes": {"sum": {"field": "_seq_no"}}}}
        seen: set[tuple[str, ...]] = set()
        while True:
            answer = self._search({**query, "size": 0, "aggs": {"values": values}}, f"/{quoted(names)}")
            with self._whole("values of a field"):
                found = answer["aggregations"]["values"]
                buckets = {tuple(map(str, bucket["key"].values())): bucket for bucket in found["buckets"]}
                after = found.get("after_key")
            if after is None and not buckets:
                return
            if not buckets or buckets.keys() & seen or len(seen) > _MOST_VALUES:
                raise self._not_whole("pages of values that do not end")
            seen |= buckets.keys()
            yield from buckets.values()
            if after is None:
                return
            pages["after"] = after

    def _hits(self, index: str, search: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield what a search finds in a snapshot of an index, all of it, page by page."""
        product = self._cluster.product()
        path = product.snapshot_path.format(index=quoted(index))
        opened = self._cluster.ask("POST", path, keep_alive=_SNAPSHOT_KEPT).body
        with self._whole("a snapshot"):
            snapshot = opened[product.snapshot_id]
            parts = product.parts(opened)
        try:
            total = self._page(snapshot, {**search, "size": 0}).total if len(parts) > 1 else None
            count = 0
            for part in parts:
                for hits in self._pages(snapshot, {**search, **part}):
                    count += len(hits)
                    yield hits
            if total is not None and count != total:  # the parts are not the whole
                raise self._not_whole(f"{count} documents of {total}")
        finally:
            with contextlib.suppress(HarvestError):  # it expires by itself
                self._cluster.once("DELETE", *product.close(snapshot))

    def _pages(self, snapshot: str, part: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield the hits of a part of a snapshot, page by page. A page is read while the one before is worked on.

        A snapshot does not change, so more or fewer documents than its total mean a broken response.
        """
        ahead = ThreadPoolExecutor(1, "pages")
        try:
            page = self._page(snapshot, part)
            total, count = page.total, len(page.hits)
            while count < total and page.hits:
                following = ahead.submit(self._page, page.snapshot, {**part, "search_after": page.last})
                yield page.hits
                page = following.result()
                count += len(page.hits)
            if count != total:
                raise self._not_whole(f"{count} documents of {total}")
            yield page.hits
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)

    def _page(self, snapshot: str, part: Mapping[str, Any]) -> _Page:
        pit = {"id": snapshot, "keep_alive": _SNAPSHOT_KEPT}
        first = "search_after" not in part
        answer = self._search({"track_total_hits": first, **part, "pit": pit})
        with self._whole("a page of documents"):
            hits = [*answer["hits"]["hits"]]
            total = int(answer["hits"]["total"]["value"]) if first else 0
            return _Page(hits, hits[-1]["sort"] if hits else None, answer["pit_id"], total)

    def _search(self, body: Mapping[str, Any], path: str = "") -> Any:
        """Return the response to a search; every shard must have contributed in time."""
        answer = self._cluster.ask("POST", f"{path}/_search", body, allow_partial_search_results=False).body
        with self._whole("a search"):
            shards = answer["_shards"]
            total, successful, failed = (shards[name] for name in ("total", "successful", "failed"))
            if answer["timed_out"] is not False or failed or successful != total:
                raise ValueError("shards are missing")
        return answer

    @contextlib.contextmanager
    def _whole(self, part: str) -> Iterator[None]:
        """Turn errors while reading a response into a RetryableError: the response is not the server's."""
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise self._not_whole(part) from None

    def _not_whole(self, part: str) -> NotWholeError:
        return NotWholeError(f"{self._cluster.server} gave no whole answer: {part}")


def _queries(where: Where | None) -> Iterator[dict[str, Any]]:
    """Yield the members of the searches that together find these documents."""
    match where:
        case None:
            yield {}
        case Within(field):
            yield {"query": {"range": {field: where.bounds}}}
        case Has(field, values):
            wanted = sorted(values)
            for start in range(0, len(wanted), _MOST_TERMS):
                yield {"query": {"terms": {field: wanted[start : start + _MOST_TERMS]}}}
        case Mentions(fields, values):
            either: list[dict[str, Any]] = [{"terms": {field: list(values)}} for field in fields]
            mails = [{"value": value, "case_insensitive": True} for value in values if "@" in value]
            either += [{"term": {field: mail}} for field in fields for mail in mails]
            yield {"query": {"bool": {"should": either, "minimum_should_match": 1}}}


def _is_fresh(where: Where | None) -> bool:
    return isinstance(where, Mentions)
