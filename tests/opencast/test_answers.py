"""Answers of Opencast that contradict themselves, never end, or come from somebody else."""

import datetime as dt
import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import responses

from tests.opencast.test_client import ACTIONS, BASE, DATE, EPISODE, opencast
from uaharvest.errors import BlockedError, SourceError
from uaharvest.opencast import client

START, END = dt.datetime(2026, 11, 20, 11), dt.datetime(2026, 11, 20, 12)
ROW = {"id": 1, "created": "2026-11-20T11:00:00-05:00"}


def actions(asked):
    return asked.actions(START, END, 1000)


def day(asked):
    return asked.actions_of_day(dt.date(2026, 11, 20), 1000)


def anything(asked):
    return asked.any_actions()


def action(asked):
    return asked.action(1)


def episode(asked):
    return asked.episode("abc")


def workflows(asked):
    asked._lists_workflows = True
    return asked.workflows("abc", "publish")


def workflows_of_one(asked):
    asked._lists_workflows = False
    return asked.workflows("abc", "publish")


WHERE = {
    actions: ACTIONS,
    day: ACTIONS,
    anything: ACTIONS,
    action: f"{BASE}/usertracking/action/1.json",
    episode: EPISODE,
    workflows: f"{BASE}/workflow/instances.json",
    workflows_of_one: f"{BASE}/workflow/mediaPackage/abc/instances.json",
}
PAGES = (actions, day, anything)
NO_PAGES = [
    {"actions": {"total": 3}},
    {"actions": {"total": 3, "action": None}},
    {"actions": {"total": 3, "action": ""}},
    {"actions": {"total": 3, "action": []}},
    {"actions": {"total": -1}},
    {"actions": {"total": "many", "action": [ROW]}},
    {"actions": {"total": True, "action": [ROW]}},
    {"actions": {"total": None, "action": [ROW]}},
    {"actions": {"action": [ROW]}},
    {"actions": None},
    {"actions": []},
    {"actions": [ROW]},
    {"actions": {"total": 1, "action": [[ROW]]}},
    {},
]
NO_EPISODES = [
    {},
    {"search-results": None},
    {"search-results": []},
    {"search-results": {}},
    {"search-results": {"total": "1"}},
    {"search-results": {"total": 1, "result": None}},
    {"search-results": {"total": 0, "result": {"id": "other"}}},
    {"search-results": {"total": 2, "result": {"id": "other"}}},
    {"search-results": {"total": -1}},
    {"search-results": {"total": 1, "result": [[{"id": "abc"}]]}},
    {"total": 1, "result": []},
    {"total": 1, "result": None},
    {"total": "many", "result": None},
    {"result": "abc"},
]
NO_WORKFLOWS = [
    {},
    {"workflows": None},
    {"workflows": []},
    {"workflows": "none"},
    {"workflows": {"totalCount": "3"}},
    {"workflows": {"totalCount": 3, "workflow": [{"id": 1}]}},
    {"workflows": {"workflow": [[]]}},
    {"workflows": {"workflow": "x"}},
]
CASES = [
    *((ask, {"json": answer}) for ask in PAGES for answer in NO_PAGES),
    *((episode, {"json": answer}) for answer in NO_EPISODES),
    *((workflows, {"json": answer}) for answer in NO_WORKFLOWS),
    *((workflows_of_one, {"json": answer}) for answer in NO_WORKFLOWS if "totalCount" not in str(answer)),
    *((action, {"json": answer}) for answer in ({}, {"action": None}, {"action": []}, {"action": {"id": 2}})),
    *((ask, {"status": 204}) for ask in WHERE if ask is not action),
    *((ask, {"body": b""}) for ask in WHERE),
    *((ask, {"body": b'{"actions":{"total":"1","act'}) for ask in WHERE),
    *((ask, {"body": b"null"}) for ask in WHERE),
    *((ask, {"body": b"[]"}) for ask in WHERE),
    *((ask, {"body": b"<html>Welcome</html>", "content_type": "text/html"}) for ask in WHERE),
]


@pytest.mark.parametrize(("ask", "answer"), CASES, ids=[f"{ask.__name__} {answer}"[:90] for ask, answer in CASES])
def test_an_answer_that_contradicts_itself_is_not_whole(ask, answer):
    with responses.RequestsMock() as mocked:
        mocked.get(WHERE[ask], headers=DATE, **answer)
        with pytest.raises(SourceError):
            ask(opencast(attempts=1))


def test_what_is_not_there_is_still_told_apart():
    with responses.RequestsMock() as mocked:
        mocked.get(WHERE[action], status=204)
        mocked.get(EPISODE, json={"search-results": {"total": "0"}})
        mocked.get(ACTIONS, json={"actions": {"total": "0"}}, headers=DATE)
        mocked.get(WHERE[workflows], json={"workflows": {"totalCount": "0"}})
        mocked.get(WHERE[workflows_of_one], json={"workflows": ""})
        asked = opencast()
        assert (action(asked), episode(asked), workflows(asked), workflows_of_one(asked)) == (None, None, [], [])
        assert actions(asked).total == 0


# What the server says


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b"<html><head><title>403 Blocked by WAF-7</title></head><body>x</body></html>",
            "(403): 403 Blocked by WAF-7.",
        ),
        (b"Access denied by policy.", "(403): Access denied by policy."),
        (b'{"message": "quota"}', "(403): quota."),
        (b"a\x1b[31m\r\nb\x00c", "(403): a [31m b c."),
        (b"", "(403). Check"),
        (b"<html><title>403 Forbidden</title></html>", "(403). Check"),
        (b"<h1>HTTP ERROR 403</h1>", "(403). Check"),
        (b"x" * 1000, "x" * 160 + "…."),
    ],
)
def test_a_refusal_says_what_the_server_says_in_one_line(body, said):
    with responses.RequestsMock() as mocked:
        mocked.get(ACTIONS, status=403, body=body)
        with pytest.raises(BlockedError) as refused:
            actions(opencast())
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_page_full_of_brackets_is_read_in_no_time():
    with responses.RequestsMock() as mocked:
        mocked.get(ACTIONS, status=403, body=b"<" * 1_000_000)
        begin = time.process_time()
        with pytest.raises(BlockedError):
            actions(opencast())
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://elsewhere.example.org/x", "That is another host, http://elsewhere.example.org."),
        ("https://elsewhere.example.org/x", "That is another host, https://elsewhere.example.org."),
        ("https://me:secret@sso.example.org/login", "That is another host, https://sso.example.org."),
    ],
)
def test_a_redirect_to_another_host_is_named_as_such(location, says):
    with responses.RequestsMock() as mocked:
        mocked.get(ACTIONS, status=302, headers={"Location": location})
        with pytest.raises(BlockedError) as refused:
            actions(opencast())
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


# Answers without end


@pytest.fixture
def serve():
    """Start a server that answers by a function, which writes to the connection."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                answer(self)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_small_answer_that_unpacks_to_a_huge_one_is_given_up(serve):
    body = gzip.compress(b" " * 50_000_000)
    asked = []

    def answer(handler):
        asked.append(handler.path)
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with pytest.raises(SourceError, match="more than"):
        actions(client.Opencast(serve(answer)))
    assert len(asked) == 1  # it would be as large again


def test_the_bound_grows_with_the_limit(serve):
    body = b'{"actions":{"total":0,"x":"' + b" " * 30_000_000 + b'"}}'

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    asked = client.Opencast(serve(answer))
    assert asked.actions(START, END, 10_000).total == 0
    with pytest.raises(SourceError, match="more than"):
        asked.actions(START, END, 100)


def test_an_answer_that_drips_for_ever_ends(serve, monkeypatch):
    monkeypatch.setattr(client, "LONGEST_ANSWER", 1 - client.TIMEOUT[1])
    stopped = threading.Event()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not stopped.wait(0.05):
            handler.wfile.write(b" ")

    with pytest.raises(SourceError, match="in time"):
        actions(client.Opencast(serve(answer)))
    stopped.set()
