"""What is special about Elasticsearch and OpenSearch: classification, back-off, templates, credentials."""

import contextlib
import dataclasses
import http.server
import json
import os
import threading
import time

import elastic_transport
import pytest
from elastic_transport import ApiResponseMeta, BaseNode, HttpHeaders, NodeConfig, Transport, TransportApiResponse

from devservers import opensearch, stack
from uaharvest import answers, index_templates
from uaharvest.documents.document import Document
from uaharvest.errors import BadInputError, BlockedError, HarvestError, IndexBlockedError, RetryableError
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import bulk, connection
from uaharvest.sinks.cluster.connection import Cluster, connect
from uaharvest.sinks.cluster.indices import Indices
from uaharvest.sinks.cluster.store import ClusterStore

DAY = "useractions-2026.11.20"
OTHER = "useractions-2026.11.21"


def documents(count, **fields):
    return [Document(DAY, str(number), {"action_id": number, **fields}) for number in range(count)]


def ids(written):
    return [document.id for entry in written for document in entry.confirmed]


# A server that answers what the test says

# What each product answers to `GET /`, and a header of all its answers. The minimal Elasticsearch has no `GET /`.
ABOUT = {
    "elasticsearch": (405, {"error": "Incorrect HTTP method for uri [/]", "status": 405}),
    "opensearch": (200, {"version": {"distribution": "opensearch", "number": "2.19.6"}}),
}


@pytest.fixture(params=ABOUT)
def product(request):
    return request.param


class Scripted:
    """Plays a server; `bulk` is asked for the answer to each bulk, with the number of its documents."""

    def __init__(self, *bulks, product="elasticsearch"):
        self.bulks = list(bulks)
        self.asked = []  # the ids in each bulk
        self.pauses = []
        self.about = ABOUT[product]
        self.headers = {"x-elastic-product": "Elasticsearch"} if product == "elasticsearch" else {}
        # What all other requests are answered; the index of the documents is there.
        self.others = lambda method, target: (
            200,
            {DAY: {}, OTHER: {}, "episodes": {}} if "_alias" in target else {},
        )
        script = self

        class Node(BaseNode):
            def perform_request(self, method, target, body=None, headers=None, request_timeout=None):
                status, answer = script.answer(method, target, body)
                if isinstance(answer, Exception):
                    raise answer
                kind = "text/html" if isinstance(answer, bytes) else "application/json"
                text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                all_headers = HttpHeaders({**script.headers, "content-type": kind})
                return TransportApiResponse(ApiResponseMeta(status, "1.1", all_headers, 0.0, self.config), text)

            def close(self):
                pass

        node = NodeConfig("http", "es.example.edu", 9200)
        self.cluster = Cluster(Transport([node], node_class=Node, max_retries=0), pause=self.pauses.append)
        self.store = ClusterStore(self.cluster)

    def answer(self, method, target, body):
        if target == "/":
            return self.about
        if "_bulk" not in target:
            return self.others(method, target)
        lines = [json.loads(line) for line in body.splitlines()]
        found = [next(iter(line.values()))["_id"] for line in lines[::2]]
        self.asked.append(found)
        answer = self.bulks.pop(0) if len(self.bulks) > 1 else self.bulks[0]
        answer = answer(found) if callable(answer) else answer
        if isinstance(answer, list):
            return 200, {"items": [{"index": item} for item in answer]}
        return answer


def created(found):
    return [{"status": 201} for _ in found]


FULL = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}
CONFLICT = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "[1]: higher"}}
MAPPING = {
    "status": 400,
    "error": {
        "type": "document_parsing_exception",
        "reason": "[1:2] failed to parse field [ip] of type [ip]. Preview of field's value: 'Jane Doe'",
    },
}


@pytest.mark.parametrize(
    "content",
    [
        {"a": [1, 2.5, -0.0, 1e22, 2**63, 2**64, True, None], "ü😀": {"\x00\x7f": 'a\\"/\n'}},
        {"lone": "\ud800", "too big": 10**30},
    ],
)
def test_a_document_is_written_as_the_json_module_writes_it(content):
    usual = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    assert repr(json.loads(bulk._encoded(content))) == repr(json.loads(usual))


def test_only_what_the_cluster_had_no_room_for_is_sent_again_after_a_pause_that_grows():
    server = Scripted([{"status": 201}, FULL, FULL], [FULL, FULL], created)
    assert ids(server.store.write(documents(3))) == ["0", "1", "2"]
    assert server.asked == [["0", "1", "2"], ["1", "2"], ["1", "2"]]
    assert [0.5 <= server.pauses[0] <= 1, 1 <= server.pauses[1] <= 2] == [True, True]


def test_a_cluster_that_stays_full_gives_up_after_seconds_and_what_it_took_is_confirmed_first():
    server = Scripted([{"status": 201}, FULL, FULL], lambda found: [FULL for _ in found])
    writing = server.store.write(documents(3))
    assert [document.id for document in next(writing).confirmed] == ["0"]
    with pytest.raises(
        RetryableError, match="did not take 2 documents: es_rejected_execution_exception: queue is full"
    ):
        next(writing)
    assert 5 < sum(server.pauses) < 20


def test_a_storm_in_which_something_gets_through_each_time_is_ridden_out():
    server = Scripted(lambda found: [{"status": 201}, *([FULL] * (len(found) - 1))])
    assert ids(server.store.write(documents(30))) == [str(number) for number in range(30)]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_request_that_fails_in_a_passing_way_is_sent_again(status):
    server = Scripted((status, b"<html>busy</html>"), created)
    assert ids(server.store.write(documents(2))) == ["0", "1"]
    assert server.asked == [["0", "1"]] * 2


@pytest.mark.parametrize(
    "error", [elastic_transport.ConnectionError("refused"), elastic_transport.ConnectionTimeout("slow")]
)
def test_a_connection_that_stays_broken_gives_up_as_retryable(error):
    server = Scripted((0, error))
    with pytest.raises(RetryableError, match=r"Elasticsearch at http://es\.example\.edu:9200 cannot be reached"):
        list(server.store.write(documents(1)))


def test_a_conflict_of_versions_is_confirmed_and_one_of_two_updates_is_sent_again():
    server = Scripted([CONFLICT])
    assert ids(server.store.write([Document(DAY, "1", {}, version=3)])) == ["1"]
    server = Scripted([CONFLICT], created)
    assert ids(server.store.write([Document("episodes", "1", {}, update=True)])) == ["1"]
    assert server.asked == [["1"], ["1"]]


def test_refused_documents_come_last_with_a_reason_that_shows_nothing_of_them():
    server = Scripted([{"status": 201}, MAPPING, {"status": 201}])
    first, last = server.store.write(documents(3))
    assert [document.id for document in first.confirmed] == ["0", "2"]
    ((document, reason),) = last.refused
    assert document.id == "1"
    assert reason == "400 document_parsing_exception: [1:2] failed to parse field [ip] of type [ip]"


def test_too_many_refused_block():
    server = Scripted(lambda found: [MAPPING if int(id_) < 6 else {"status": 201} for id_ in found])
    confirmed = []
    with pytest.raises(BlockedError, match="refuses 6 of 100 documents, such as one for useractions-"):
        confirmed += ids(server.store.write(documents(100)))


def test_a_request_that_is_too_long_for_a_proxy_is_halved():
    server = Scripted(lambda found: (413, b"<html>too large</html>") if len(found) > 3 else created(found))
    assert ids(server.store.write(documents(10))) == [str(number) for number in range(10)]
    assert server.pauses == []


def test_one_document_that_is_too_long_is_refused():
    server = Scripted(lambda found: (413, b"<html>too large</html>") if "1" in found else created(found))
    *_, last = server.store.write(documents(3))
    ((document, reason),) = last.refused
    assert (document.id, reason[:4]) == ("1", "413:")


def test_documents_that_are_too_long_are_their_own_fault_however_many_there_are():
    server = Scripted(lambda found: created(found) if found == ["x0"] else (413, b"<html>too large</html>"))
    confirmed, refused, error = written(server.store, [*documents(20), *of_other(1)])
    assert (confirmed, len(refused), error) == (["x0"], 20, None)


def test_where_no_request_is_short_enough_nothing_is_given_up():
    server = Scripted((413, b"<html>too large</html>"))
    confirmed, refused, error = written(server.store, documents(20))
    assert (confirmed, refused) == ([], [])
    assert list(error.indices) == [DAY]
    assert "Raise the limit of the proxy before it, or http.max_content_length" in str(error)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {"error": {"reason": "no"}}), "refuses the credentials .*ES_API_KEY, or ES_USER"),
        (
            (403, {"error": {"reason": "action [bulk] is unauthorized"}}),
            "action .bulk. is unauthorized.*create_index",
        ),
        ((404, b"<html>"), "answered 404.*ES_HOST"),
        (
            [{"status": 403, "error": {"type": "cluster_block_exception", "reason": "index is read-only"}}],
            "denies us write access to useractions-.*read-only",
        ),
        (
            [{"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}],
            "may not create it.*auto_create_index",
        ),
        (
            (0, elastic_transport.TlsError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer")),
            "ES_CA_FILE",
        ),
    ],
)
def test_what_a_person_must_mend_blocks_at_once(answer, says):
    server = Scripted(answer)
    with pytest.raises(BlockedError, match=says):
        list(server.store.write(documents(1)))
    assert server.pauses == []


# One index that refuses

READ_ONLY = {
    "status": 403,
    "error": {
        "type": "cluster_block_exception",
        "reason": f"index [{OTHER}] blocked by: [FORBIDDEN/8/index write (api)];",
    },
}
FLOODED = {
    "status": 429,
    "error": {
        "type": "cluster_block_exception",
        "reason": f"index [{OTHER}] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, "
        "index has read-only-allow-delete block];",
    },
}
CLOSED = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
DENIED = {"status": 403, "error": {"type": "security_exception", "reason": "action is unauthorized for user [u]"}}
NO_SHARD = {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "primary is not active"}}
FULL_OF_SHARDS = {
    "status": 400,
    "error": {
        "type": "validation_exception",
        "reason": "this cluster has [1000]/[1000] maximum normal shards open",
    },
}
NOT_THERE = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}


def of_other(count):
    """Documents for an index that refuses; their ids begin with x."""
    return [Document(OTHER, f"x{number}", {}) for number in range(count)]


def written(store, given):
    """Write; return what was confirmed, what was refused, and the error."""
    confirmed, refused, error = [], [], None
    try:
        for entry in store.write(given):
            confirmed += [document.id for document in entry.confirmed]
            refused += [document.id for document, _ in entry.refused]
    except HarvestError as raised:
        error = raised
    return confirmed, refused, error


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize(
    ("item", "advice"),
    [
        (READ_ONLY, "Remove the block: the index's settings index.blocks.write"),
        (FLOODED, "The disk is too full: make room"),
        (CLOSED, f"Open it: POST /{OTHER}/_open"),
        (DENIED, "needs read, create_index, write"),
        (NO_SHARD, "Look at the cluster's health"),
        (FULL_OF_SHARDS, "raise cluster.max_shards_per_node"),
        (NOT_THERE, "action.auto_create_index"),
    ],
    ids=["read-only", "disk", "closed", "denied", "no shard", "shards", "not there"],
)
def test_an_index_that_refuses_blocks_its_own_documents_only_and_says_what_to_do(count, item, advice):
    server = Scripted(lambda found: [item if id_.startswith("x") else {"status": 201} for id_ in found])
    confirmed, refused, error = written(server.store, [*documents(2), *of_other(count), *documents(1500)[2:]])
    assert (confirmed, refused) == ([str(number) for number in range(1500)], [])
    assert isinstance(error, IndexBlockedError)
    assert list(error.indices) == [OTHER]
    assert item["error"]["reason"].rstrip(";")[:40] in str(error)
    assert advice in str(error)
    assert "mapping" not in str(error)
    assert server.pauses == []


def test_an_index_that_refuses_is_not_asked_again_in_the_same_write():
    server = Scripted(lambda found: [CLOSED if id_.startswith("x") else {"status": 201} for id_ in found])
    written(server.store, [*of_other(1), *documents(1000), *of_other(3), *documents(1)])
    assert [sum(id_.startswith("x") for id_ in found) for found in server.asked] == [1, 0]


def test_refused_documents_are_judged_by_index():
    def answer(found):
        return [MAPPING if id_.startswith("x") or id_ == "7" else {"status": 201} for id_ in found]

    confirmed, refused, error = written(Scripted(answer).store, [*documents(900), *of_other(20)])
    assert (len(confirmed), refused) == (899, ["7"])
    assert list(error.indices) == [OTHER]
    assert "refuses 20 of 20 documents" in str(error)
    assert "mapping" in str(error)


def test_a_few_refused_of_each_of_many_indices_are_many():
    server = Scripted(lambda found: [MAPPING for _ in found])
    days = [Document(f"useractions-2026.11.{day}", str(day), {}) for day in range(10, 20)]
    server.others = lambda method, target: (200, {day.index: {} for day in days})
    confirmed, refused, error = written(server.store, days)
    assert (confirmed, refused, len(error.indices)) == ([], [], 10)
    assert "And 7 more indices." in str(error)


def test_a_cluster_that_does_not_know_its_state_is_an_outage_and_not_a_block():
    item = {
        "status": 503,
        "error": {"type": "cluster_block_exception", "reason": "blocked by: [SERVICE_UNAVAILABLE/2/no master];"},
    }
    with pytest.raises(RetryableError, match="no master"):
        list(Scripted(lambda found: [item for _ in found]).store.write(documents(2)))


# Answers that contradict themselves


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"items": None},
        {"items": {}},
        {"items": [{"index": {"status": 201}}]},
        {"items": [{"index": {"status": 201}}] * 3},
        {"items": [None, {"index": {"status": 201}}]},
        {"items": [{}, {"index": {"status": 201}}]},
        {"items": [{"index": None}, {"index": {"status": 201}}]},
        {"items": [{"index": {"status": "201"}}, {"index": {"status": 201}}]},
        {"items": [{"index": {"status": 0}}, {"index": {"status": 201}}]},
        {"items": [{"index": {"status": 201, "error": {"type": "x"}}}, {"index": {"status": 201}}]},
        {"errors": True, "items": [{"index": {"status": 201}}] * 2},
        {"errors": False, "items": [{"index": {"status": 201}}, {"index": MAPPING}]},
        {"errors": None, "items": [{"index": {"status": 201}}] * 2},
        [],
        None,
        "ok",
    ],
)
def test_a_bulk_that_is_not_answered_whole_confirms_nothing_and_is_sent_again(answer):
    confirmed, refused, error = written(Scripted((200, answer)).store, documents(2))
    assert (confirmed, refused) == ([], [])
    assert isinstance(error, RetryableError)
    server = Scripted((200, answer), created)
    assert ids(server.store.write(documents(2))) == ["0", "1"]


@pytest.mark.parametrize("error", [None, "mapper", ["x"], 7])
def test_an_error_of_any_shape_is_no_confirmation(error):
    confirmed, refused, _ = written(
        Scripted([{"status": 400, "error": error}, {"status": 201}]).store, documents(2)
    )
    assert (confirmed, refused) == (["1"], ["0"])


SHARDS = {"total": 5, "successful": 5, "skipped": 0, "failed": 0}


def searched(answer, **pages):
    """A store over a server with one index, which answers searches with `answer`; a callable gives each."""
    server = Scripted(created)

    def others(method, target):
        server.asked.append(f"{method} {target}")
        if "_search" in target:
            return 200, answer() if callable(answer) else answer
        if "_pit" in target or "point_in_time" in target:
            return 200, {"id": "p", "pit_id": "p", "_shards": {"total": 1}}
        return 200, {DAY: {}}

    server.others = others
    return server


WHOLE = {
    "timed_out": False,
    "_shards": SHARDS,
    "aggregations": {
        "values": {"buckets": [{"key": {"field0": "a"}, "doc_count": 1, "writes": {"value": 0}}]},
        "indices": {"buckets": [{"key": DAY, "doc_count": 1}], "sum_other_doc_count": 0},
    },
    "hits": {"total": {"value": 0}, "hits": []},
    "pit_id": "p",
}
READS = {
    "groups": lambda store: list(store.groups(DAY, ["mpid"])),
    "select": lambda store: list(store.select(DAY)),
    "indices": lambda store: store.indices(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(
    "changes",
    [
        {"_shards": {**SHARDS, "successful": 1, "failed": 4}},
        {"_shards": {**SHARDS, "successful": 1}},
        {"timed_out": True},
        {"timed_out": ...},
        {"timed_out": None},
        {"_shards": ...},
        {"_shards": None},
        {"_shards": {}},
        {"aggregations": ..., "hits": ...},
        {"aggregations": None, "hits": None},
        {"aggregations": {"values": {}, "indices": {}}, "hits": {"hits": None}},
        {
            "aggregations": {"values": {"buckets": None}, "indices": {"buckets": None}},
            "hits": {"total": 0, "hits": []},
        },
    ],
)
def test_what_a_search_leaves_out_is_no_answer(read, changes):
    read(searched(WHOLE).store)
    answer = {name: value for name, value in {**WHOLE, **changes}.items() if value is not ...}
    with pytest.raises(RetryableError, match="no whole answer"):
        read(searched(answer).store)


def test_a_page_is_read_while_the_one_before_is_worked_on():
    server = Scripted(created)
    is_asked = threading.Event()

    def answer(method, target, body):
        if "_pit" in target:
            return 200, {"id": "p"}
        if "_search" not in target:
            return 200, {DAY: {}}
        query = json.loads(body)
        after = query.get("search_after", [0])[0]
        if after == 1:
            is_asked.set()
        hit = {"_index": DAY, "_id": f"{after}", "_source": {}, "sort": [after + 1]}
        hits = {"total": {"value": 2}, "hits": [hit] if query["size"] and after < 2 else []}
        return 200, {"timed_out": False, "_shards": SHARDS, "pit_id": "p", "hits": hits}

    server.answer = answer
    documents = server.store.select(DAY)
    assert next(documents)["_id"] == "0"
    assert is_asked.wait(60)
    assert [one["_id"] for one in documents] == ["1"]


def test_a_page_that_fails_ahead_fails_after_the_one_before():
    server = searched(lambda: next(answers))
    hits = [{"_index": DAY, "_id": "0", "_source": {}, "sort": [1]}]
    page = {**WHOLE, "pit_id": "p", "hits": {"total": {"value": 2}, "hits": hits}}
    answers = iter([page, {**page, "timed_out": True}])
    documents = server.store.select(DAY)
    assert next(documents)["_id"] == "0"
    with pytest.raises(RetryableError, match="no whole answer"):
        next(documents)


def test_what_only_json_reads_is_read():
    assert connection.FastJson().loads(b'{"title": "\\ud800", "n": [NaN]}')["title"] == "\ud800"
    with pytest.raises(elastic_transport.SerializationError):
        connection.FastJson().loads(b'{"title": ')


def test_searches_ask_for_no_partial_answers():
    server = searched({"timed_out": False, "_shards": SHARDS, "aggregations": {"values": {"buckets": []}}})
    assert list(server.store.groups(DAY, ["mpid"])) == []
    assert all("allow_partial_search_results=false" in asked for asked in server.asked if "_search" in asked)


@pytest.mark.parametrize("found", ["x", 7, [1], {"aliases": None}, {"aliases": 7}])
def test_names_of_indices_of_another_shape_are_no_answer(found):
    server = Scripted(created)
    server.others = lambda method, target: (200, {DAY: found})
    for call in (lambda: server.store.matching(DAY), lambda: list(server.store.write(documents(1)))):
        with pytest.raises(RetryableError, match=r"gave no whole answer: names of indices$"):
            call()


@pytest.mark.parametrize("template", [None, [], "x", [{"mappings": {"a": 1}}]])
def test_a_template_of_another_shape_is_none(template):
    server = Scripted(created)
    server.others = lambda method, target: (200, {} if "_alias" in target else {"template": template})
    with pytest.raises(IndexBlockedError, match="has no template for the index"):
        list(server.store.write(documents(1)))


def test_a_policy_that_is_not_answered_whole_is_not_written_over():
    server = Scripted(product="opensearch")
    asked = []
    server.others = lambda method, target: asked.append(method) or (200, {"policy": {}})
    with pytest.raises(RetryableError, match=r"gave no whole answer: the policy uaharvest-retention$"):
        index_templates.retain(server.cluster, 7)
    assert asked == ["GET"]


def test_pages_of_values_that_never_end_are_left():
    page = {
        "buckets": [{"key": {"field0": "a"}, "doc_count": 1, "writes": {"value": 0}}],
        "after_key": {"field0": "a"},
    }
    server = searched({"timed_out": False, "_shards": SHARDS, "aggregations": {"values": page}})
    with pytest.raises(RetryableError, match="do not end"):
        list(server.store.groups(DAY, ["mpid"]))
    assert len(server.asked) < 5


@pytest.mark.parametrize("total", [0, 1, 5])
def test_an_export_with_other_documents_than_its_total_is_not_whole(total):
    hit = {"_index": DAY, "_id": "1", "_source": {}, "sort": [1]}
    pages = iter([[hit, hit], []] if total else [[hit, hit]] * 9)

    def answer():
        return {
            "timed_out": False,
            "_shards": SHARDS,
            "pit_id": "p",
            "hits": {"total": {"value": total}, "hits": next(pages)},
        }

    server = searched(answer)
    with pytest.raises(RetryableError, match="no whole answer"):
        list(server.store.select(DAY))


# Other servers, other paths


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (400, b"", r"answered 400, and gave no reason\. Check ES_HOST: its port, and the path"),
        (
            404,
            b"<html><head><title>404 Not Found</title></head></html>",
            r"answered 404: 404 Not Found\. Check ES_HOST",
        ),
        (
            400,
            {"error": "no handler found for uri [/es/x/_doc/1] and method [GET]"},
            r"no handler found .*Check ES_HOST",
        ),
        (
            405,
            {"error": "Incorrect HTTP method for uri [/x]", "status": 405},
            r"Incorrect HTTP method .*Check ES_HOST",
        ),
        (
            406,
            {
                "error": "Content-Type header [application/vnd.elasticsearch+json; compatible-with=8] is not supported"
            },
            r"Content-Type header .*Expected Elasticsearch 8 or 9, or OpenSearch",
        ),
        (301, b"", r"answered 301.*points to another address"),
        (403, b"<html><title>Blocked by WAF</title></html>", r"\(403\): Blocked by WAF\. Does a proxy"),
        (403, {"Message": "User: anonymous is not authorized"}, r"\(403\): User: anonymous is not authorized"),
        (
            401,
            {"error": {"type": "security_exception", "reason": "missing authentication"}},
            "missing authentication.*ES_API_KEY",
        ),
        (
            400,
            {"error": {"type": "illegal_argument_exception", "reason": "odd"}},
            r"answered 400: illegal_argument_exception: odd\.$",
        ),
        (400, {"error": {}}, "answered 400, and gave no reason"),
        (400, {"error": None}, "answered 400, and gave no reason"),
        (400, [], "answered 400, and gave no reason"),
        (
            400,
            {
                "error": {
                    "type": "search_phase_execution_exception",
                    "reason": "all shards failed",
                    "root_cause": [{"type": "x", "reason": "Text fields are not optimised"}],
                }
            },
            "all shards failed; x: Text fields are not optimised",
        ),
    ],
)
def test_the_servers_own_words_come_first_and_then_what_fits(status, answer, says):
    server = Scripted(created)
    server.others = lambda method, target: (status, answer)
    with pytest.raises(BlockedError, match=says) as raised:
        server.store.get(DAY, "1")
    assert "None" not in str(raised.value)


@pytest.mark.parametrize("method", ["get", "matching"])
def test_only_elasticsearchs_own_404_means_that_something_is_not_there(method):
    def read(answer):
        server = Scripted(created)
        server.others = lambda method, target: (404, answer)
        return server.store.get(DAY, "1") if method == "get" else server.store.matching(DAY)

    assert not read({"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404})
    for answer in (b"<html>", {"error": "no such path"}, {"message": "no Route matched"}, {}):
        with pytest.raises(BlockedError, match="answered 404"):
            read(answer)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (404, b"<html>", BlockedError),
        (404, {"message": "no Route matched"}, BlockedError),
        (200, {}, RetryableError),
        (200, {"component_templates": []}, RetryableError),
        (200, {"component_templates": None}, RetryableError),
        (200, {"component_templates": [{}]}, RetryableError),
        (200, {"component_templates": [{"component_template": {"version": "new"}}]}, RetryableError),
        (200, [], RetryableError),
    ],
)
def test_templates_are_compared_with_a_whole_answer_only(status, answer, error, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    server = Scripted(created)
    asked = []

    def others(method, target):
        asked.append(method)
        return status, answer

    server.others = others
    with pytest.raises(error):
        index_templates.load(server.cluster)
    assert set(asked) == {"GET"}


def test_something_else_that_answers_on_the_port_blocks():
    server = Scripted(created)
    server.about, server.headers = (200, {"status": "up"}), {}
    with pytest.raises(BlockedError, match="is neither Elasticsearch nor OpenSearch"):
        server.store.indices()


def test_an_answer_that_is_no_json_is_retryable():
    server = Scripted((200, b"<html>maintenance</html>"))
    with pytest.raises(RetryableError, match="did not answer in JSON"):
        list(server.store.write(documents(1)))


def test_bulks_are_bounded_by_count_and_by_bytes():
    server = Scripted(created)
    list(server.store.write(documents(2500)))
    assert [len(bulk) for bulk in server.asked] == [1000, 1000, 500]
    server = Scripted(created)
    list(server.store.write(documents(3, title="x" * 2_400_000)))
    assert [len(bulk) for bulk in server.asked] == [2, 1]


# The settings


def test_credentials_go_to_elasticsearch_and_into_no_repr():
    cluster = connect(Settings(es_url="https://es.example.edu/", es_user="u", es_password="geheim"))
    store = ClusterStore(cluster)
    assert "geheim" not in f"{cluster!r} {store!r} {cluster.server} {cluster.server!r}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "not set: ES_HOST"),
        (
            {"es_url": "http://es:9200/", "es_api_key": "k", "es_user": "u", "es_password": "p"},
            "ES_API_KEY and ES_USER",
        ),
        ({"es_url": "http://es:9200/", "es_user": "u"}, "ES_USER and ES_PASSWORD go together"),
        (
            {"es_url": "https://es:9200/", "es_ca_file": "/nowhere.pem"},
            "ES_CA_FILE: there is no file '/nowhere.pem'",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings, says):
    with pytest.raises(BadInputError, match=says):
        connect(Settings(**settings))


def test_only_a_network_is_worth_compressing_for():
    def compresses(url):
        return next(iter(connect(Settings(es_url=url))._transport.node_pool.all())).config.http_compress

    assert compresses("http://es.example.edu:9200/")
    assert not compresses("http://127.0.0.1:9200/")


def test_where_nothing_listens_is_retryable():
    url = f"http://127.0.0.1:{stack.free_port()}/"
    store = ClusterStore(connect(Settings(es_url=url), pause=lambda _: None))
    with pytest.raises(RetryableError) as caught:
        store.indices()
    assert str(caught.value) == (
        f"Elasticsearch or OpenSearch at {url[:-1]} cannot be reached: [Errno 111] Connection refused. Does it run, and"
        " is ES_HOST right?"
    )


class Endless(http.server.BaseHTTPRequestHandler):
    """Sends an answer that does not end: `pause` seconds between two pieces."""

    pause, sent, content = 0.0, 0, b" " * 10_000

    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(self.content)
                type(self).sent += len(self.content)
                time.sleep(self.pause)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("pause", "content"), [(0.0, b" " * 10_000), (0.05, b" ")])
def test_an_answer_that_does_not_end_is_left(monkeypatch, pause, content):
    monkeypatch.setattr(connection, "LARGEST_ANSWER", 1_000_000)
    monkeypatch.setattr(answers.bound, "__defaults__", (1.0,))
    monkeypatch.setattr(connection, "RETRIES", dataclasses.replace(connection.RETRIES, attempts=1))
    handler = type("Handler", (Endless,), {"pause": pause, "content": content, "sent": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = ClusterStore(connect(Settings(es_url=f"http://127.0.0.1:{server.server_port}/")))
        with pytest.raises(RetryableError):
            store.indices()
        server.shutdown()
    assert handler.sent < 20_000_000


def test_answers_that_are_too_large_use_up_no_connections(monkeypatch):
    monkeypatch.setattr(connection, "LARGEST_ANSWER", 1_000)
    monkeypatch.setattr(connection, "RETRIES", dataclasses.replace(connection.RETRIES, attempts=1))
    handler = type("Handler", (Endless,), {"pause": 0.0, "content": b" " * 10_000, "sent": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = ClusterStore(connect(Settings(es_url=f"http://127.0.0.1:{server.server_port}/")))
        asking = threading.Thread(target=fail_often, args=(store,), daemon=True)
        asking.start()
        asking.join(30)
        assert not asking.is_alive(), "it waits for a connection that never comes back"
        server.shutdown()


def fail_often(store):
    for _ in range(connection.CONNECTIONS + 2):
        with contextlib.suppress(RetryableError):
            store.indices()


def test_an_answer_of_another_server_does_not_count_although_elasticsearch_has_answered_before():
    server = Scripted(created)

    def answer(method, target):
        server.headers = {}
        return 200, {DAY: {}}

    server.others = answer
    with pytest.raises(RetryableError, match="did not answer in JSON as Elasticsearch does"):
        list(server.store.write(documents(1)))


def test_a_server_that_takes_long_to_fail_is_not_asked_again_as_often(monkeypatch):
    monkeypatch.setattr(connection, "RETRIES", dataclasses.replace(connection.RETRIES, within=-1.0))
    server = Scripted(created)
    server.others = lambda method, target: (503, {})
    with pytest.raises(RetryableError):
        list(server.store.write(documents(1)))
    assert server.pauses == []


# Which product it is

ELASTIC = {"x-elastic-product": "Elasticsearch"}
OLD = {"version": {"number": "7.10.2"}, "tagline": "You Know, for Search"}
FORBIDDEN = {"error": {"type": "security_exception", "reason": "no permissions for [cluster:monitor/main]"}}


def asked(status, body, headers):
    server = Scripted(created)
    server.about, server.headers = (status, body), headers
    return server.cluster


@pytest.mark.parametrize(
    ("status", "body", "headers", "name"),
    [
        (200, {"version": {"number": "9.1.0"}}, ELASTIC, "Elasticsearch 9.1.0"),
        (200, {"version": {"number": "8.11.0", "build_flavor": "serverless"}}, ELASTIC, "Elasticsearch 8.11.0"),
        (403, FORBIDDEN, ELASTIC, "Elasticsearch "),  # the key may not ask, which needs `monitor`
        (400, {"error": "no handler found for uri [/]"}, ELASTIC, "Elasticsearch "),
        (200, {"version": {"number": "2.19.6", "distribution": "opensearch"}}, {}, "OpenSearch 2.19.6"),
        (403, FORBIDDEN, {"x-opensearch-version": "OpenSearch/3.8.0 (opensearch)"}, "OpenSearch 3.8.0"),
    ],
)
def test_the_product_is_recognised_even_if_it_may_not_be_asked(status, body, headers, name):
    cluster = asked(status, body, headers)
    assert cluster.product().name == name.split(" ")[0]
    assert f"{cluster.server.product.name} {cluster.server.version}" == name


@pytest.mark.parametrize(
    ("status", "body", "headers", "says"),
    [
        (
            200,
            {"version": {"number": "7.17.0"}},
            ELASTIC,
            r"Elasticsearch at \S+ is version 7\.17\.0\. Expected",
        ),
        (200, OLD, {}, "is version 7.10.2 of something without the header X-Elastic-Product.*Expected"),
        (
            200,
            {"version": {"number": "1.3.0", "distribution": "opensearch"}},
            {},
            r"OpenSearch at \S+ is version 1\.3\.0\. Expected .* OpenSearch 2\.19 or 3",
        ),
        (
            200,
            {**OLD, "tagline": "The OpenSearch Project: https://opensearch.org/"},
            {},
            "passes itself off as 7.10.2.*set compatibility.override_main_response_version to false",
        ),
        (403, FORBIDDEN, {}, r"cluster:monitor/main\]\. The user needs the permissions .*cluster:monitor/main"),
        (401, {"error": {"reason": "missing"}}, ELASTIC, "refuses the credentials.*ES_API_KEY"),
        (404, b"<html><title>Not Found</title>", {}, "answered 404: Not Found. Check ES_HOST.*Expected Elastic"),
        (200, {}, {}, "is neither Elasticsearch nor OpenSearch"),
        (200, {"version": 7}, {}, "is neither Elasticsearch nor OpenSearch"),
        (200, [], {}, "is neither Elasticsearch nor OpenSearch"),
    ],
)
def test_what_is_neither_or_too_old_blocks(status, body, headers, says):
    with pytest.raises(BlockedError, match=says):
        asked(status, body, headers).product()


def test_the_server_is_asked_once_and_after_an_outage_again():
    server = Scripted(created)
    asked, about = [], server.about

    def answer(method, target, body):
        asked.append(target)
        return (503, {}) if asked == ["/"] else about if target == "/" else (200, {})

    server.answer = answer
    for _ in range(3):
        server.store.matching(DAY)
    assert asked.count("/") == 2


def test_each_product_opens_and_closes_a_snapshot_in_its_own_way(product):
    server = Scripted(created, product=product)
    seen, shards = [], 1 if product == "elasticsearch" else 3

    def answer(method, target, body):
        path = target.partition("?")[0]
        seen.append((method, path))
        if target == "/":
            return server.about
        if path.endswith(("/_pit", "/point_in_time")):
            return 200, {"id": "p", "pit_id": "p", "_shards": {"total": 3}}
        if path.endswith("/_search"):
            query = json.loads(body)
            number = query.get("slice", {}).get("id", 0)
            hits = [{"_index": DAY, "_id": f"{number}", "_source": {}, "sort": [0]}]
            whole = query["size"] == 0
            hits = {"total": {"value": shards if whole else 1}, "hits": [] if whole else hits}
            return 200, {"timed_out": False, "_shards": SHARDS, "pit_id": "p", "hits": hits}
        return 200, {DAY: {}}

    server.answer = answer
    assert [one["_id"] for one in server.store.select(DAY)] == [str(number) for number in range(shards)]
    opened, closed = {
        "elasticsearch": (f"/{DAY}/_pit", "/_pit"),
        "opensearch": (f"/{DAY}/_search/point_in_time", "/_search/point_in_time"),
    }[product]
    assert ("POST", opened) in seen
    assert seen[-1] == ("DELETE", closed)


def test_a_snapshot_with_a_shard_that_is_not_searched_is_not_whole():
    server = Scripted(created, product="opensearch")

    def answer(method, target, body):
        if target == "/":
            return server.about
        if "point_in_time" in target:
            return 200, {"pit_id": "p", "_shards": {"total": 2}}
        if "_search" in target:
            hits = {"total": {"value": 0 if "slice" in json.loads(body) else 3}, "hits": []}
            return 200, {"timed_out": False, "_shards": SHARDS, "pit_id": "p", "hits": hits}
        return 200, {DAY: {}}

    server.answer = answer
    with pytest.raises(RetryableError, match="no whole answer: 0 documents of 3"):
        list(server.store.select(DAY))


@pytest.mark.parametrize("at", ["yesterday", "2026-11-20T16:00:00", "2026-13-20T16:00:00Z", 7, [], {}])
def test_a_bad_timestamp_is_refused_before_it_is_sent(at):
    server = Scripted(created)
    bad = Document(DAY, "bad", {"@timestamp": at})
    *confirmed, last = server.store.write([*documents(30, **{"@timestamp": "2026-11-20T16:00:02.000Z"}), bad])
    assert len(ids(confirmed)) == 30
    assert last.refused == [(bad, "400: @timestamp is not an ISO 8601 time with a zone")]
    assert "bad" not in server.asked[0]


# A real one


def test_an_export_over_several_shards_has_each_document_once(store, es):
    es.indices.create(index=DAY, body={"settings": {"number_of_shards": 3}})
    list(store.write(documents(3500)))
    es.delete(index=DAY, id="17", refresh=True)
    es.indices.refresh(index=DAY)
    found = [one["action_id"] for one in store.select(DAY)]
    assert sorted(found) == sorted({*range(3500)} - {17})


def test_an_index_that_is_an_alias_is_there(store, es):
    es.indices.create(index="useractions-new", body={"aliases": {DAY: {}}})
    assert ids(store.write(documents(1))) == ["0"]
    assert es.indices.get_alias(index=DAY).keys() == {"useractions-new"}


@pytest.fixture
def store(templates, cluster):
    return ClusterStore(cluster)


def test_a_mapping_conflict_refuses_that_document_alone(store):
    bad = Document(DAY, "bad", {"action": "Jane Doe"})
    *confirmed, last = store.write([*documents(5), bad])
    assert ids(confirmed) == ["0", "1", "2", "3", "4"]
    ((document, reason),) = last.refused
    assert document is bad
    assert "400" in reason
    assert "Jane" not in reason


def test_without_templates_nothing_is_written_and_the_command_is_named(es, cluster):
    store = ClusterStore(cluster)
    with pytest.raises(BlockedError, match=f"no template for the index {DAY}: manage.py setup index-templates"):
        list(store.write(documents(1)))
    assert not es.indices.exists(index=DAY)


def test_an_index_that_is_there_needs_no_templates(es, cluster):
    es.indices.create(index=DAY)
    assert ids(ClusterStore(cluster).write(documents(2))) == ["0", "1"]


def test_once_the_templates_are_loaded_the_same_store_goes_on(cluster, request):
    store = ClusterStore(cluster)
    with pytest.raises(BlockedError):
        list(store.write(documents(1)))
    request.getfixturevalue("templates")
    assert ids(store.write(documents(1))) == ["0"]


def test_one_closed_and_one_read_only_index_hold_back_no_other_and_heal(store, es):
    closed, read_only = (f"useractions-2026.10.{day}" for day in ("01", "02"))
    given = [*documents(500), Document(closed, "c", {}), Document(read_only, "r", {}), *documents(900)[500:]]
    for index in (closed, read_only):
        list(store.write([Document(index, "before", {})]))
    es.indices.close(index=closed)
    es.indices.put_settings(index=read_only, body={"index.blocks.write": True})
    confirmed, refused, error = written(store, given)
    assert (sorted(confirmed), refused) == (sorted(str(number) for number in range(900)), [])
    assert sorted(error.indices) == [closed, read_only]
    assert "index_closed_exception" in error.indices[closed]
    assert f"POST /{closed}/_open" in error.indices[closed]
    assert "index.blocks" in error.indices[read_only]
    with pytest.raises(BlockedError, match=rf"index_closed_exception: closed \[{closed}\].*_open"):
        list(store.groups("useractions-2026.10.*", ["mpid"]))
    assert store.matching("useractions-2026.10.*") == [closed, read_only]
    es.indices.open(index=closed)
    es.indices.put_settings(index=read_only, body={"index.blocks.write": None})
    assert len(ids(store.write(given))) == 902


def test_an_index_without_its_shard_holds_back_no_other(store, es, monkeypatch):
    monkeypatch.setattr(bulk, "SHARD_SECONDS", 1)
    lost = "useractions-2026.10.01"
    nowhere = {"index.routing.allocation.require._name": "nowhere"}
    es.indices.create(index=lost, body={"settings": nowhere}, wait_for_active_shards=0)
    confirmed, _, error = written(store, [*documents(3), Document(lost, "x", {})])
    assert confirmed == ["0", "1", "2"]
    assert list(error.indices) == [lost]
    with pytest.raises(HarvestError):
        list(store.groups("useractions-*", ["mpid"]))


def test_templates_and_an_index_that_are_removed_are_noticed_before_the_next_document(store, es):
    assert ids(store.write(documents(1))) == ["0"]
    es.indices.delete(index=DAY)
    es.indices.delete_index_template(name="uaharvest-useractions")
    with pytest.raises(BlockedError, match=f"no template for the index {DAY}"):
        list(store.write(documents(1)))
    assert not es.indices.exists(index=DAY)


def test_an_index_is_as_its_template_was_when_it_was_looked_at(store, es, cluster):
    answer = es.indices.simulate_index_template(name=DAY)
    es.indices.delete_index_template(name="uaharvest-useractions")
    Indices(cluster).create(DAY, answer["template"])
    mapping = es.indices.get_mapping(index=DAY)[DAY]["mappings"]
    assert mapping["properties"]["is_live"] == {"type": "keyword", "normalizer": "zero_one"}
    Indices(cluster).create(DAY, answer["template"])  # by another process a moment before


def test_one_family_without_its_template_holds_back_no_other(store, es):
    es.indices.delete_index_template(name="uaharvest-sessions")
    confirmed, _, error = written(store, [Document("sessions-2026.11.20", "s", {}), *documents(2)])
    assert (confirmed, list(error.indices)) == (["0", "1"], ["sessions-2026.11.20"])


def test_a_wrong_path_is_told_and_not_taken_for_an_index_that_is_not_there(elasticsearch_url):
    wrong = ClusterStore(connect(Settings(es_url=f"{elasticsearch_url}/es/"), pause=lambda _: None))
    for ask in (lambda: list(wrong.write(documents(1))), lambda: wrong.get(DAY, "1"), lambda: wrong.matching(DAY)):
        with pytest.raises(BlockedError, match="ES_HOST") as raised:
            ask()
        assert "None" not in str(raised.value)


def test_a_read_only_index_blocks(store, es):
    list(store.write(documents(1)))
    es.indices.put_settings(index=DAY, body={"index.blocks.write": True})
    with pytest.raises(BlockedError, match=f"denies us write access to {DAY}: cluster_block_exception"):
        list(store.write(documents(1)))


@pytest.mark.skipif("ES_TEST_URL" in os.environ, reason="the server of ES_TEST_URL may have no security")
class TestSecurity:
    @pytest.fixture(autouse=True)
    def secure(self, elasticsearch_server):
        product, version = elasticsearch_server
        if product.security(version) is None:
            pytest.skip(f"{product.title} {version} has no security here")

    def test_a_wrong_password_blocks(self, store, elasticsearch_url):
        wrong = ClusterStore(connect(Settings(es_url=elasticsearch_url, es_user="elastic", es_password="x")))
        with pytest.raises(BlockedError, match="refuses the credentials"):
            list(wrong.write(documents(1)))

    def test_a_wrong_api_key_blocks(self, store, elasticsearch_url, elasticsearch_server):
        if elasticsearch_server[0] is opensearch.PRODUCT:
            pytest.skip("these versions of OpenSearch have no API keys")
        with pytest.raises(BlockedError, match="refuses the credentials"):
            ClusterStore(connect(Settings(es_url=elasticsearch_url, es_api_key="bm86bm8="))).indices()
