"""What is special about Elasticsearch: classification, back-off, templates, credentials."""

import json
import os

import elastic_transport
import pytest
from elastic_transport import ApiResponseMeta, BaseNode, HttpHeaders, TransportApiResponse
from elasticsearch import Elasticsearch

from simulators import stack
from uaharvest.errors import BadInputError, BlockedError, RetryableError
from uaharvest.settings import Settings
from uaharvest.sinks import elasticsearch
from uaharvest.sinks.documents import Document
from uaharvest.sinks.elasticsearch import ElasticsearchStore, connect

DAY = "useractions-2026.11.20"


def documents(count, **fields):
    return [Document(DAY, str(number), {"action_id": number, **fields}) for number in range(count)]


def ids(written):
    return [document.id for entry in written for document in entry.confirmed]


# An Elasticsearch that answers what the test says


class Scripted:
    """Plays a server; `bulk` is asked for the answer to each bulk, with the number of its documents."""

    def __init__(self, *bulks):
        self.bulks = list(bulks)
        self.asked = []  # the ids in each bulk
        self.pauses = []
        self.product = "Elasticsearch"
        script = self

        class Node(BaseNode):
            def perform_request(self, method, target, body=None, headers=None, request_timeout=None):
                status, answer = script.answer(method, target, body)
                if isinstance(answer, Exception):
                    raise answer
                header = {"x-elastic-product": script.product, "content-type": "application/json"}
                text = (
                    b""
                    if method == "HEAD"
                    else answer
                    if isinstance(answer, bytes)
                    else json.dumps(answer).encode()
                )
                if isinstance(answer, bytes):
                    header["content-type"] = "text/html"
                meta = ApiResponseMeta(status, "1.1", HttpHeaders(header), 0.0, self.config)
                return TransportApiResponse(meta, text)

            def close(self):
                pass

        client = Elasticsearch("http://es.example.edu:9200", node_class=Node, max_retries=0)
        self.store = ElasticsearchStore(client, pause=self.pauses.append)

    def answer(self, method, target, body):
        if "_bulk" not in target:
            return 200, {}
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
            "does not let us write to useractions-.*read-only",
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


def test_something_else_that_answers_on_the_port_blocks():
    server = Scripted(created)
    server.product = "Nginx"
    with pytest.raises(BlockedError, match="what answers there is no Elasticsearch"):
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
    client = connect(Settings(es_url="https://es.example.edu/", es_user="u", es_password="geheim"))
    store = ElasticsearchStore(client)
    assert "geheim" not in f"{client!r} {store!r} {elasticsearch.name_of(client)}"


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
        with connect(Settings(es_url=url)) as client:
            return next(iter(client.transport.node_pool.all())).config.http_compress

    assert compresses("http://es.example.edu:9200/")
    assert not compresses("http://127.0.0.1:9200/")


def test_where_nothing_listens_is_retryable():
    url = f"http://127.0.0.1:{stack.free_port()}/"
    store = ElasticsearchStore(connect(Settings(es_url=url)), pause=lambda _: None)
    with pytest.raises(RetryableError, match=f"Elasticsearch at {url[:-1]} cannot be reached"):
        store.indices()


# A real one


@pytest.fixture
def store(templates, es):
    return ElasticsearchStore(es)


def test_a_mapping_conflict_refuses_that_document_alone(store):
    bad = Document(DAY, "bad", {"action": "Jane Doe"})
    *confirmed, last = store.write([*documents(5), bad])
    assert ids(confirmed) == ["0", "1", "2", "3", "4"]
    ((document, reason),) = last.refused
    assert document is bad
    assert "400" in reason
    assert "Jane" not in reason


def test_without_templates_nothing_is_written_and_the_command_is_named(es):
    store = ElasticsearchStore(es)
    with pytest.raises(BlockedError, match=f"no template for the index {DAY}: manage.py setup index-templates"):
        list(store.write(documents(1)))
    assert not es.indices.exists(index=DAY)


def test_an_index_that_is_there_needs_no_templates(es):
    es.indices.create(index=DAY)
    assert ids(ElasticsearchStore(es).write(documents(2))) == ["0", "1"]


def test_once_the_templates_are_loaded_the_same_store_goes_on(es, request):
    store = ElasticsearchStore(es)
    with pytest.raises(BlockedError):
        list(store.write(documents(1)))
    request.getfixturevalue("templates")
    assert ids(store.write(documents(1))) == ["0"]


def test_a_read_only_index_blocks(store, es):
    list(store.write(documents(1)))
    es.indices.put_settings(index=DAY, settings={"index.blocks.write": True})
    with pytest.raises(BlockedError, match=f"does not let us write to {DAY}: cluster_block_exception"):
        list(store.write(documents(1)))


@pytest.mark.skipif("ES_TEST_URL" in os.environ, reason="the server of ES_TEST_URL may have no security")
class TestSecurity:
    def test_a_wrong_password_blocks(self, store, elasticsearch_url):
        wrong = ElasticsearchStore(connect(Settings(es_url=elasticsearch_url, es_user="elastic", es_password="x")))
        with pytest.raises(BlockedError, match="refuses the credentials"):
            list(wrong.write(documents(1)))

    def test_a_wrong_api_key_blocks(self, store, elasticsearch_url):
        with pytest.raises(BlockedError, match="refuses the credentials"):
            ElasticsearchStore(connect(Settings(es_url=elasticsearch_url, es_api_key="bm86bm8="))).indices()
