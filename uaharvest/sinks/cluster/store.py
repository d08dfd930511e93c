"""The document store in Elasticsearch or OpenSearch."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from uaharvest.documents.document import Document
from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import HarvestError
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster.bulk import Bulks, NotWholeError
from uaharvest.sinks.cluster.connection import Cluster, quoted
from uaharvest.sinks.cluster.indices import Indices, paths
from uaharvest.sinks.cluster.refusals import error_type, refusal, require_absence
from uaharvest.sinks.documents import Key, Within

_PAGE = 1000
_PAGE_OF_ROWS = 5000  # a megabyte or two of useractions, of which few fields are asked for
_PAGE_OF_IDS = 10_000  # the most that a search returns (index.max_result_window)
_MOST_INDICES = 20_000  # below search.max_buckets (65,536); one index a day for 50 years
_MOST_VALUES = 1_000_000  # of one field; more than any campus has
_MOST_TERMS = 10_000  # of one query; the servers take 65,536 (index.max_terms_count)
_SNAPSHOT_KEPT = "5m"  # between two pages of an export


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
        aggregation = {"indices": {"terms": {"field": "_index", "size": _MOST_INDICES, "order": {"_key": "asc"}}}}
        pattern = ",".join(f"{family}*" for family in FAMILIES)
        answer = self._search({"size": 0, "aggs": aggregation}, f"/{pattern}")
        if answer["_shards"]["total"] == 0:
            return {}  # no index matches, so the response has no aggregations
        with self._whole("counts of indices"):
            found = answer["aggregations"]["indices"]
            if found["sum_other_doc_count"]:
                raise ValueError("there are more")
            return {str(bucket["key"]): int(bucket["doc_count"]) for bucket in found["buckets"]}

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

    def get_many(self, keys: Collection[Key]) -> dict[Key, dict[str, Any]]:
        """Return the fields of several documents; see `DocumentStore.get_many`."""
        found: dict[Key, dict[str, Any]] = {}
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

    def export(self, index_pattern: str) -> Iterator[dict[str, Any]]:
        """Yield all documents of the matching indices; see `DocumentStore.export`."""
        for index in self.matching(index_pattern):
            yield from self._documents(index, {"size": _PAGE})

    def having(self, index_pattern: str, field: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the documents that have one of these values; see `DocumentStore.having`."""
        wanted = sorted(values)
        for index in self.matching(index_pattern):
            for start in range(0, len(wanted), _MOST_TERMS):
                terms = {field: wanted[start : start + _MOST_TERMS]}
                yield from self._documents(index, {"size": _PAGE, "query": {"terms": terms}})

    def ids(self, index: str, within: Within | None = None) -> Iterator[str]:
        """Yield the ids of an index; see `DocumentStore.ids`. A document may be missing for a second."""
        search: dict[str, Any] = {"size": _PAGE_OF_IDS, "_source": False}
        if within is not None:
            start, end = within.bounds
            search["query"] = {"range": {within.field: {"gte": start, "lt": end}}}
        for name in self.matching(index):
            for hit in self._hits(name, search):
                with self._whole("a document's id"):
                    id_ = str(hit["_id"])
                yield id_

    def tally(self, index: str, field: str) -> Mapping[str, int]:
        """Count the documents by the value of a field; see `DocumentStore.tally`."""
        return {value: count for name in self.matching(index) for value, count in self._values(name, field)}

    def distinct(self, index_pattern: str, field: str) -> Iterator[str]:
        """Yield each distinct value of a keyword field; nothing if no index matches."""
        seen: set[str] = set()
        for names in paths(self.matching(index_pattern)):
            for value, _ in self._values(names, field):
                if value not in seen:
                    seen.add(value)
                    yield value

    def holding(
        self, index_pattern: str, fields: Sequence[str], values: Collection[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the documents that have one of `values`; see `DocumentStore.holding`."""
        mails = [value for value in values if "@" in value]
        either: list[dict[str, Any]] = [{"terms": {field: list(values)}} for field in fields]
        either += [
            {"term": {field: {"value": mail, "case_insensitive": True}}} for field in fields for mail in mails
        ]
        query: dict[str, Any] = {"bool": {"should": either, "minimum_should_match": 1}}
        for names in paths(self.matching(index_pattern)):
            self._cluster.ask("POST", f"/{quoted(names)}/_refresh", ignore_unavailable=True)
            for index in self._having(names, query):
                yield from self._documents(index, {"size": _PAGE, "query": query})

    def before(self, index: str, field: str, instant: str) -> Iterator[str]:
        """Yield the ids of documents that are older; see `DocumentStore.before`."""
        query = {"range": {field: {"lt": instant}}}
        for name in self.matching(index):
            for hit in self._hits(name, {"size": _PAGE_OF_IDS, "_source": False, "query": query}):
                with self._whole("a document's id"):
                    id_ = str(hit["_id"])
                yield id_

    def delete(self, keys: Iterable[Key]) -> Iterator[int]:
        """Delete documents in bulk; see `DocumentStore.delete`."""
        return self._bulks.delete(keys)

    def drop(self, index: str) -> None:
        """Delete an index; see `DocumentStore.drop`."""
        answer = self._cluster.ask("DELETE", f"/{quoted(index)}", accept={HTTPStatus.NOT_FOUND})
        require_absence(*answer, self._cluster.server)

    def states(self, index_pattern: str, field: str) -> Mapping[str, str]:
        """Return the state of the documents by the value of a field; see `DocumentStore.states`.

        A shard numbers its writes (`_seq_no`), and each document has the number of its last one. The texts may be a
        second old.
        """
        states: dict[str, str] = {}
        for names in paths(self.matching(index_pattern)):
            for bucket in self._buckets(names, field, {"writes": {"sum": {"field": "_seq_no"}}}):
                with self._whole("the state of documents"):
                    value = str(bucket["key"]["value"])
                    state = f"{bucket['doc_count']}.{int(bucket['writes']['value'])}"
                states[value] = f"{states[value]} {state}" if value in states else state
        return states

    def select(
        self, index_pattern: str, field: str, value: str, fields: Sequence[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the documents whose field has a value; see `DocumentStore.select`."""
        query = {"term": {field: value}}
        # One index after the other: OpenSearch allows few snapshots of shards at once (300 a node), and reads the
        # shards of one index apart.
        for index in self._having(index_pattern, query):
            for hit in self._hits(index, {"size": _PAGE_OF_ROWS, "_source": list(fields), "query": query}):
                with self._whole("a document"):
                    document = dict(hit["_source"])
                yield document

    def combinations(
        self, index_pattern: str, field: str, value: str, fields: Sequence[str]
    ) -> Iterator[tuple[tuple[str | None, ...], int]]:
        """Yield the combinations of values of some fields; see `DocumentStore.combinations`."""
        query = {"term": {field: value}}
        sources = [
            {f"field{number}": {"terms": {"field": name, "missing_bucket": True}}}
            for number, name in enumerate(fields)
        ]
        for names in paths(self._having(index_pattern, query)):
            for bucket in self._composite(names, sources, {}, {"query": query}):
                with self._whole("values of some fields"):
                    key = [bucket["key"][f"field{number}"] for number in range(len(fields))]
                    count = int(bucket["doc_count"])
                yield tuple(None if one is None else str(one) for one in key), count

    def _having(self, index_pattern: str, query: Mapping[str, Any]) -> list[str]:
        """Return the open indices that have any document that a query finds."""
        aggregation = {"indices": {"terms": {"field": "_index", "size": _MOST_INDICES, "order": {"_key": "asc"}}}}
        search = {"size": 0, "query": query, "aggs": aggregation}
        answer = self._search(search, f"/{quoted(index_pattern)}")
        if answer["_shards"]["total"] == 0:
            return []
        with self._whole("names of indices"):
            found = answer["aggregations"]["indices"]
            if found["sum_other_doc_count"]:
                raise ValueError("there are more")
            return [str(bucket["key"]) for bucket in found["buckets"]]

    def _require_missing(self, answer: Mapping[str, Any]) -> None:
        """Raise unless this answer about one document says that its index does not exist."""
        kind = error_type(answer)
        if kind != "index_not_found_exception":
            closed = kind == "index_closed_exception"
            status = HTTPStatus.BAD_REQUEST if closed else HTTPStatus.SERVICE_UNAVAILABLE
            raise refusal(status, answer, self._cluster.server)

    def _values(self, names: str, field: str) -> Iterator[tuple[str, int]]:
        """Yield each value of a field in some indices, none missing or closed, and how many documents have it."""
        for bucket in self._buckets(names, field, {}):
            with self._whole("values of a field"):
                count = int(bucket["doc_count"])
            yield str(bucket["key"]["value"]), count

    def _buckets(self, names: str, field: str, within: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield a bucket for each value of a field in some indices, none missing or closed.

        Args:
            names: Names of indices, separated by commas.
            field: A keyword field.
            within: Aggregations within each bucket.
        """
        values = {"aggs": within} if within else {}
        return self._composite(names, [{"value": {"terms": {"field": field}}}], values, {})

    def _composite(
        self,
        names: str,
        sources: Sequence[Mapping[str, Any]],
        values: Mapping[str, Any],
        search: Mapping[str, Any],
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the buckets of a composite aggregation of some indices, none missing or closed."""
        pages: dict[str, Any] = {"size": _PAGE, "sources": sources}
        values = {"composite": pages, **values}
        seen: set[tuple[str, ...]] = set()
        while True:
            answer = self._search({**search, "size": 0, "aggs": {"values": values}}, f"/{quoted(names)}")
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

    def _documents(self, index: str, search: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the documents that a search finds in an index."""
        for hit in self._hits(index, search):
            with self._whole("a document"):
                document = {"_index": hit["_index"], "_id": hit["_id"], **hit["_source"]}
            yield document

    def _hits(self, index: str, search: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what a search finds in a snapshot of an index, all of it."""
        product = self._cluster.product()
        path = product.snapshot_path.format(index=quoted(index))
        opened = self._cluster.ask("POST", path, keep_alive=_SNAPSHOT_KEPT).body
        with self._whole("a snapshot"):
            snapshot = opened[product.snapshot_id]
            parts = product.parts(opened)
        try:
            counting = {"pit": {"id": snapshot}, "size": 0, "track_total_hits": True}
            whole = self._search({**search, **counting})
            with self._whole("a snapshot"):
                total = int(whole["hits"]["total"]["value"])
            # The snapshot does not change, so more or fewer documents than its total mean a broken response.
            count = 0
            for part in parts:
                for page in self._pages(snapshot, {**search, **part}):
                    count += len(page)
                    if count > total:
                        raise self._not_whole(f"{count} documents of {total}")
                    yield from page
            if count < total:
                raise self._not_whole(f"{count} documents of {total}")
        finally:
            with contextlib.suppress(HarvestError):  # it expires by itself
                self._cluster.once("DELETE", *product.close(snapshot))

    def _pages(self, snapshot: str, part: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield the hits of a part of a snapshot, page by page."""
        query = {"track_total_hits": False, **part}
        while True:
            answer = self._search({**query, "pit": {"id": snapshot, "keep_alive": _SNAPSHOT_KEPT}})
            with self._whole("a page of documents"):
                hits = answer["hits"]["hits"]
                if not hits:
                    return
                query["search_after"] = hits[-1]["sort"]
                snapshot = answer["pit_id"]
            yield hits

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
