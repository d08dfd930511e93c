import contextlib
import datetime as dt
import json
import re
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import responses
import urllib3

from uaharvest.errors import BadInputError, BlockedError, SourceError
from uaharvest.opencast.actions import read_action
from uaharvest.opencast.client import ADMIN_HOST, ActionsPage, Opencast

BASE = "http://engage.example.edu"
ACTIONS = f"{BASE}/usertracking/actions.json"
EPISODE = f"{BASE}/search/episode.json"
DATE = {"Date": "Fri, 20 Nov 2026 16:00:05 GMT"}
EMPTY = {"actions": {"total": 0, "offset": 0, "limit": 10}}
FIRST, LAST = dt.datetime(2026, 11, 20, 11), dt.datetime(2026, 11, 20, 11, 1, 2)


def opencast(base_url=BASE, user="harvester", password="secret", attempts=1, pauses=None, **more):
    pause = pauses.append if pauses is not None else (lambda _: pytest.fail("nothing to wait for"))
    return Opencast(base_url, user, password, attempts=attempts, pause=pause, **more)


def anonymous(**kwargs):
    return opencast(user=None, password=None, **kwargs)


def row(number):
    return {"id": number, "created": "2026-11-20T11:00:00-05:00"}


def ask(client=None):
    return (client or opencast()).actions(FIRST, LAST, 1000)


@pytest.fixture
def new_york():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def mocked():
    with responses.RequestsMock() as mock:
        yield mock


class TestRequest:
    def test_actions_are_asked_for_by_local_wall_time_and_never_by_offset(self, mocked):
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        ask()
        (call,) = mocked.calls
        assert call.request.params == {"start": "20261120110000", "end": "20261120110102", "limit": "1000"}

    def test_a_user_forces_a_digest_challenge_on_every_version(self, mocked):
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        ask()
        headers = mocked.calls[0].request.headers
        assert headers["X-Requested-Auth"] == "Digest"
        assert headers["X-Opencast-Matterhorn-Authorization"] == "true"

    def test_without_a_user_nothing_is_forced_and_no_netrc_is_read(self, mocked, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine engage.example.edu login somebody password theirs\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        ask(anonymous())
        headers = mocked.calls[0].request.headers
        assert not {"x-requested-auth", "x-opencast-matterhorn-authorization", "authorization"} & {
            name.lower() for name in headers
        }

    @pytest.mark.parametrize("base_url", [f"{BASE}/opencast", f"{BASE}/opencast/"])
    def test_opencast_may_live_below_a_path(self, mocked, base_url):
        mocked.get(f"{BASE}/opencast/usertracking/actions.json", json=EMPTY, headers=DATE)
        mocked.get(f"{BASE}/opencast/search/episode.json", json={"result": []})
        client = opencast(base_url)
        assert ask(client).total == 0
        assert client.episode("abc") is None

    @pytest.mark.parametrize(("user", "password"), [("harvester", None), (None, "secret"), ("harvester", "")])
    def test_a_user_needs_a_password(self, user, password):
        with pytest.raises(BadInputError, match="MATTERHORN_REST_USER and MATTERHORN_REST_PASS only one is set"):
            opencast(user=user, password=password)

    def test_the_repr_shows_no_password(self):
        assert repr(opencast()) == "Opencast('http://engage.example.edu/', user='harvester')"


class TestActions:
    @pytest.mark.parametrize(
        ("actions", "total", "ids"),
        [
            ({"total": 0, "offset": 0, "limit": 10}, 0, []),
            ({"total": "0", "offset": "0", "limit": "10", "action": ""}, 0, []),
            ({"total": "1", "offset": "0", "limit": "10", "action": row(1)}, 1, [1]),
            ({"total": 7, "offset": 0, "limit": 2, "action": [row(1), row(2)]}, 7, [1, 2]),
        ],
        ids=["none", "an empty element", "an object, numbers as strings", "an array"],
    )
    def test_every_shape_of_a_page_is_read(self, mocked, actions, total, ids):
        mocked.get(ACTIONS, json={"actions": actions}, headers=DATE)
        page = ask()
        assert page == ActionsPage(
            total,
            [read_action(row(number)) for number in ids],
            [],
            dt.datetime(2026, 11, 20, 16, 0, 5, tzinfo=dt.UTC),
        )

    def test_escaped_slashes_of_opencast_7_are_slashes(self, mocked):
        body = r'{"actions":{"total":"1","action":{"id":1,"created":"2026-11-20T16:00:05Z","type":"a\/b"}}}'
        mocked.get(ACTIONS, body=body, headers=DATE)
        assert [action.type for action in ask().actions] == ["a/b"]

    @pytest.mark.parametrize("date", ["Fri, 20 Nov 2026 16:00:05 -0000", "Fri, 20 Nov 2026 11:00:05 -0500"])
    def test_the_servers_clock_is_utc_whatever_this_machines_zone(self, mocked, date, new_york):
        mocked.get(ACTIONS, json=EMPTY, headers={"Date": date})
        now = ask().now
        assert (now, now.tzinfo) == (dt.datetime(2026, 11, 20, 16, 0, 5, tzinfo=dt.UTC), dt.UTC)

    @pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": ""}])
    def test_an_answer_without_the_servers_time_cannot_be_used(self, mocked, headers):
        mocked.get(ACTIONS, json=EMPTY, headers=headers)
        with pytest.raises(SourceError, match="without a usable Date header"):
            ask()

    @pytest.mark.parametrize(
        "answer",
        [
            {"version": "v1.3.0", "url": "http://x/api"},
            {"actions": ""},
            {"actions": {"offset": 0}},
            {"actions": {"total": 1, "action": ["x"]}},
        ],
    )
    def test_an_answer_that_is_no_page_is_not_taken_for_an_empty_one(self, mocked, answer):
        mocked.get(ACTIONS, json=answer, headers=DATE)
        with pytest.raises(SourceError, match="without a page of useractions"):
            ask()


OLD = {"id": "abc", "mediapackage": {"id": "abc"}, "dcTitle": "Lecture 1"}
NEW = {"mediapackage": {"id": "abc"}, "dc": {"identifier": ["abc"]}}


class TestEpisode:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ({"search-results": {"total": "1", "result": OLD}}, OLD),
            ({"search-results": {"total": 2, "result": [{"id": "other"}, OLD]}}, OLD),
            ({"search-results": {"total": "0"}}, None),
            ({"search-results": {"total": "1", "result": {"id": "other"}}}, None),
            ({"total": 1, "result": [NEW]}, NEW),
            ({"total": 0, "result": []}, None),
            ({"total": 1, "result": [{"mediapackage": {"id": "other"}, "dc": {"identifier": ["other"]}}]}, None),
            ({"total": 1, "result": ["", None]}, None),
        ],
    )
    def test_both_shapes_give_the_result_that_was_asked_for(self, mocked, answer, expected):
        mocked.get(EPISODE, json=answer)
        assert opencast().episode("abc") == expected

    @pytest.mark.parametrize(
        "result",
        [
            {"id": 20150112345678901},
            {"mediapackage": {"id": 2.01501123456789e16}, "dc": {"identifier": ["20150112345678901"]}},
        ],
        ids=["a number up to 15", "destroyed by Gson from 16"],
    )
    def test_an_id_of_digits_is_found(self, mocked, result):
        mocked.get(EPISODE, json={"result": [result]})
        assert opencast().episode("20150112345678901") == result

    def test_a_user_asks_as_admin_and_for_what_was_retracted(self, mocked):
        mocked.get(EPISODE, json={"result": []})
        opencast().episode("a b&c")
        assert mocked.calls[0].request.params == {"id": "a b&c", "includeDeleted": "true", "admin": "true"}

    def test_nobody_does_not_ask_as_admin(self, mocked):
        mocked.get(EPISODE, json={"result": []})
        anonymous().episode("abc")
        assert mocked.calls[0].request.params == {"id": "abc", "includeDeleted": "true"}

    def test_a_user_who_is_no_admin_is_told_so(self, mocked):
        mocked.get(EPISODE, status=401, body="unauthorized", content_type="text/plain")
        with pytest.raises(BlockedError, match=r"refused user 'harvester' \(401\). It is not an admin there"):
            opencast().episode("abc")

    @pytest.mark.parametrize("mpid", ["\ud800", "a\x00b", "a\nb"])
    def test_an_id_that_cannot_be_one_is_not_asked_for(self, mocked, mpid):
        assert opencast().episode(mpid) is None


class TestWorkflows:
    LIST = f"{BASE}/workflow/instances.json"
    OF_ONE = f"{BASE}/workflow/mediaPackage/abc/instances.json"
    OF_NOTHING = f"{BASE}/workflow/mediaPackage/no-such-mediapackage/instances.json"

    @pytest.mark.parametrize(
        ("workflows", "numbers"),
        [
            ({"totalCount": "0"}, []),
            ({"totalCount": "1", "workflow": {"id": "7"}}, ["7"]),
            ({"totalCount": "2", "workflow": [{"id": "8"}, {"id": "7"}]}, ["8", "7"]),
        ],
    )
    def test_up_to_opencast_11_one_list_is_asked_for_what_counts(self, mocked, workflows, numbers):
        mocked.get(self.LIST, json={"workflows": {"totalCount": "0"}})
        mocked.get(self.LIST, json={"workflows": workflows})
        assert [found["id"] for found in opencast().workflows("abc", "publish")] == numbers
        query = mocked.calls[-1].request.params
        assert query == {"mp": "abc", "workflowdefinition": "publish", "state": "SUCCEEDED", "count": "100"}

    @pytest.mark.parametrize(
        ("workflows", "numbers"),
        [("", []), ({"workflow": {"id": 7}}, [7]), ({"workflow": [{"id": 8}, {"id": 7}]}, [8, 7])],
    )
    def test_from_opencast_12_on_each_mediapackage_has_a_list(self, mocked, workflows, numbers):
        mocked.get(self.LIST, status=404)
        mocked.get(self.OF_NOTHING, json={"workflows": ""})
        mocked.get(self.OF_ONE, json={"workflows": workflows})
        assert [found["id"] for found in opencast().workflows("abc", "publish")] == numbers

    def test_which_of_the_two_there_is_is_asked_once(self, mocked):
        mocked.get(self.LIST, status=404)
        mocked.get(self.OF_NOTHING, json={"workflows": ""})
        mocked.get(self.OF_ONE, json={"workflows": ""})
        client = opencast()
        for _ in range(3):
            client.workflows("abc", "publish")
        assert [call.request.url for call in mocked.calls[2:]] == [self.OF_ONE] * 3

    def test_a_host_with_neither_is_not_the_admin_node(self, mocked):
        mocked.get(self.LIST, status=404)
        mocked.get(self.OF_NOTHING, status=404)
        with pytest.raises(BlockedError, match=r"no list of workflows .*MATTERHORN_ADMIN_HOST is the admin node"):
            opencast(host=ADMIN_HOST).workflows("abc", "publish")

    def test_a_refusal_is_not_taken_for_the_other_version(self, mocked):
        mocked.get(self.LIST, status=403)
        with pytest.raises(BlockedError, match="403"):
            opencast().workflows("abc", "publish")

    def test_an_id_that_would_change_the_path_is_not_asked_for(self, mocked):
        mocked.get(self.LIST, status=404)
        mocked.get(self.OF_NOTHING, json={"workflows": ""})
        assert opencast().workflows("10.1000/182", "publish") == []


class TestNow:
    def test_the_clock_is_that_of_a_search_for_nothing(self, mocked):
        mocked.get(EPISODE, json={"search-results": {"total": "0"}}, headers=DATE)
        assert opencast().now() == dt.datetime(2026, 11, 20, 16, 0, 5, tzinfo=dt.UTC)

    def test_an_answer_that_is_no_result_of_a_search_does_not_pass_for_a_search_that_works(self, mocked):
        mocked.get(EPISODE, json={}, headers=DATE)
        with pytest.raises(SourceError, match="without a list of results"):
            opencast().now()

    def test_the_admin_hosts_errors_name_its_setting(self, mocked):
        mocked.get(EPISODE, body=requests.ConnectionError(ConnectionRefusedError(111, "Connection refused")))
        with pytest.raises(SourceError, match="MATTERHORN_ADMIN_HOST"):
            opencast(host=ADMIN_HOST).now()


class TestRefusals:
    """What a person must mend."""

    @pytest.mark.parametrize(
        ("status", "client", "message"),
        [
            (
                401,
                opencast,
                "refused user 'harvester' (401). Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS.",
            ),
            (
                403,
                opencast,
                "refused user 'harvester' (403). Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS.",
            ),
            (
                419,
                opencast,
                "refused user 'harvester' (419). Check MATTERHORN_REST_USER and MATTERHORN_REST_PASS.",
            ),
            (401, anonymous, "refused an anonymous request (401). Set MATTERHORN_REST_USER and"),
            (404, opencast, "MATTERHORN_ENGAGE_HOST is the engage (presentation) node"),
            (404, opencast, "opencast-plugin-usertracking is on"),
            (400, opencast, "answered 400. Check MATTERHORN_ENGAGE_HOST."),
            (406, opencast, "answered 406."),
        ],
    )
    def test_a_refusal_names_the_address_and_the_setting(self, mocked, status, client, message):
        mocked.get(ACTIONS, status=status, headers=DATE)
        with pytest.raises(BlockedError, match=re.escape(message)) as caught:
            ask(client(attempts=4))
        assert f"Opencast at {ACTIONS} " in str(caught.value) or f"nothing at {ACTIONS} " in str(caught.value)
        assert len(mocked.calls) == 1

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            (
                "/login.html;jsessionid=1a2b",
                "requires a log-in (redirect to /login.html). Check MATTERHORN_REST_USER",
            ),
            (f"{BASE}/admin-ng/login.html", "requires a log-in (redirect to /admin-ng/login.html). Check MATT"),
            (
                "https://engage.example.edu/opencast/usertracking/actions.json?start=1",
                "redirects to https. Set MATTERHORN_ENGAGE_HOST to https://engage.example.edu/opencast.",
            ),
            ("https://sso.example.edu/login?to=engage", "requires a log-in (redirect to /login). Check MATT"),
            (
                "http://other.example.edu/x?y",
                "redirects to http://other.example.edu/x. Check MATTERHORN_ENGAGE_HOST.",
            ),
            ("", "Check MATTERHORN_ENGAGE_HOST."),
        ],
    )
    def test_a_redirect_is_never_followed(self, mocked, location, message):
        mocked.get(f"{BASE}/opencast/usertracking/actions.json", status=302, headers={"Location": location})
        with pytest.raises(BlockedError, match=re.escape(message)):
            ask(opencast(f"{BASE}/opencast"))

    def test_a_certificate_that_is_not_trusted_is_not_waited_for(self, mocked):
        untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
        untrusted.verify_message = "self-signed certificate"
        given_up = urllib3.exceptions.MaxRetryError(None, "/")
        given_up.__cause__ = urllib3.exceptions.SSLError(untrusted)
        mocked.get(ACTIONS, body=requests.exceptions.SSLError(given_up))
        with pytest.raises(BlockedError, match=r"not trusted \(self-signed certificate\).* REQUESTS_CA_BUNDLE"):
            ask(opencast(attempts=4))

    @pytest.mark.parametrize("host", ["a" * 64, "[1"])
    def test_an_address_that_is_none_is_not_waited_for(self, host):
        with pytest.raises(BlockedError, match=r"cannot be queried .*Check MATTERHORN_ENGAGE_HOST"):
            ask(opencast(f"http://{host}.example.edu", attempts=4))

    def test_a_redirect_to_nowhere_is_not_waited_for(self, mocked):
        mocked.get(ACTIONS, status=302, headers={"Location": "http://[1"})
        with pytest.raises(BlockedError, match="MATTERHORN_ENGAGE_HOST"):
            ask(opencast(attempts=4))


class TestFailures:
    """What passes by itself."""

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            ({"status": 500}, "answered 500"),
            ({"status": 503}, "answered 503"),
            ({"status": 429}, "answered 429"),
            ({"status": 408}, "answered 408"),
            ({"body": requests.ReadTimeout()}, "did not answer within 60 s"),
            ({"body": requests.ConnectTimeout()}, "took no connection within 5 s"),
            ({"body": requests.ConnectionError(ConnectionRefusedError(111, "Connection refused"))}, "refused"),
            ({"body": requests.exceptions.ContentDecodingError()}, "No whole answer"),
            ({"body": "<html>maintenance</html>"}, "a web page instead of JSON."),
            (
                {"body": "<!DOCTYPE html><HTML><form action='/login'>"},
                "It looks like a log-in page: check MATTERHORN_",
            ),
            ({"body": '{"actions":{"total":1,"acti'}, "not a JSON object"),
            ({"body": ""}, "not a JSON object"),
            ({"body": b"\xff\xfe\xfd"}, "not a JSON object"),
            ({"body": "[" * 100_000}, "not a JSON object"),
            ({"body": "[1]"}, "not a JSON object"),
        ],
    )
    def test_a_failure_names_the_address_but_nothing_of_the_query(self, mocked, answer, message):
        mocked.get(ACTIONS, headers=DATE, **answer)
        with pytest.raises(SourceError, match=re.escape(message)) as caught:
            ask()
        assert ACTIONS in str(caught.value)
        assert "20261120110000" not in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_a_failure_is_tried_again_after_growing_pauses_that_differ(self, mocked):
        for _ in range(3):
            mocked.get(ACTIONS, status=503)
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        pauses = []
        assert ask(opencast(attempts=4, pauses=pauses)).total == 0
        for pause, middle in zip(pauses, (0.5, 1, 2), strict=True):
            assert middle / 2 <= pause <= middle * 1.5

    def test_an_answer_that_cannot_be_used_is_tried_again_too(self, mocked):
        mocked.get(ACTIONS, body="<html>", headers=DATE)
        mocked.get(ACTIONS, json={}, headers=DATE)
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        assert ask(opencast(attempts=4, pauses=[])).total == 0

    def test_the_last_failure_is_raised(self, mocked):
        mocked.get(EPISODE, status=500)
        mocked.get(EPISODE, status=503)
        pauses = []
        with pytest.raises(SourceError, match="answered 503"):
            opencast(attempts=2, pauses=pauses).episode("abc")
        assert len(pauses) == 1

    @pytest.mark.parametrize(
        ("retry_after", "low", "high"),
        [("7", 7, 7), ("3600", 10, 10), ("-5", 0.25, 0.75), ("Fri, 20 Nov 2026 16:00:05 GMT", 0.25, 0.75)],
    )
    def test_retry_after_is_kept_to_for_up_to_ten_seconds(self, mocked, retry_after, low, high):
        mocked.get(ACTIONS, status=503, headers={"Retry-After": retry_after})
        mocked.get(ACTIONS, json=EMPTY, headers=DATE)
        pauses = []
        ask(opencast(attempts=2, pauses=pauses))
        assert low <= pauses[0] <= high

    @pytest.mark.parametrize(
        "time_out",
        [
            requests.ReadTimeout(),
            requests.ConnectTimeout(),
            requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out.")),
        ],
        ids=["before the answer", "before the connection", "in the midst of the answer"],
    )
    def test_a_time_out_has_waited_long_enough(self, mocked, time_out):
        mocked.get(ACTIONS, body=time_out)
        with pytest.raises(SourceError, match="within"):
            ask(opencast(attempts=4))
        assert len(mocked.calls) == 1


class Handler(BaseHTTPRequestHandler):
    """Answers with the next of the server's `plan`, or an empty page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.connections.add(self.client_address)
        plan = self.server.plan.pop(0) if self.server.plan else None
        if plan == "drop":
            self.close_connection = True
            return
        authorization = self.headers.get("Authorization", "")
        if self.server.nonce and f'nonce="{self.server.nonce}"' not in authorization:
            self.server.challenges += 1
            stale = ', stale="true"' if authorization else ""
            challenge = f'Digest realm="Opencast", qop="auth", nonce="{self.server.nonce}"{stale}'
            self.answer(401, b"", {"WWW-Authenticate": challenge})
            return
        self.server.answered += 1
        body = json.dumps(EMPTY).encode()
        self.answer(200, body, {"Content-Type": "application/json"}, cut=plan == "cut")

    def answer(self, status, body, headers, *, cut=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:10] if cut else body)
        self.close_connection = cut

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.plan, server.nonce, server.challenges, server.answered, server.connections = [], None, 0, 0, set()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def connected(server, **kwargs):
    client = opencast(server.url, **kwargs)
    try:
        yield client
    finally:
        client._upstream.session.close()


def test_one_challenge_serves_many_requests_on_one_connection(server):
    server.nonce = "first"
    with connected(server) as client:
        for _ in range(5):
            ask(client)
    assert (server.challenges, server.answered, len(server.connections)) == (1, 5, 1)


def test_a_stale_nonce_costs_one_more_challenge(server):
    server.nonce = "first"
    with connected(server) as client:
        ask(client)
        server.nonce = "second"
        ask(client)
        ask(client)
    assert (server.challenges, server.answered) == (2, 3)


@pytest.mark.parametrize("failure", ["drop", "cut"])
def test_an_answer_that_breaks_off_is_tried_again(server, failure):
    server.plan = [failure, None]
    pauses = []
    with connected(server, attempts=2, pauses=pauses) as client:
        assert ask(client).total == 0
    assert len(pauses) == 1


@pytest.mark.parametrize(("failure", "message"), [("drop", "without response"), ("cut", "10 bytes read")])
def test_an_answer_that_breaks_off_says_how(server, failure, message):
    server.plan = [failure]
    with connected(server) as client, pytest.raises(SourceError, match=f"No whole answer .*{message}"):
        ask(client)


def test_a_server_that_is_not_there_is_a_failure_that_passes():
    with socket.socket() as bound:  # and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        client = opencast(f"http://127.0.0.1:{bound.getsockname()[1]}")
        with pytest.raises(SourceError, match="Connection refused"):
            ask(client)
