import json
import threading
import time
import types

import jwt
import pytest
import requests
import responses
from redis import Redis

from devservers import stack
from tests.zoom.servers import dripping
from uaharvest.errors import BlockedError, PutOffError, SourceError
from uaharvest.zoom import auth
from uaharvest.zoom.auth import Gateway, ServerToServer, SignedJwt

URL = "https://zoom.example.edu/oauth/token"
ANSWER = {
    "access_token": "eyJ-one",
    "token_type": "bearer",
    "expires_in": 3599,
    "scope": "report:read:admin dashboard:read:list_meetings:admin",
    "api_url": "https://api.zoom.us",
}
KEY, SECRET, ACCOUNT = "client-id-geheim", "client-secret-geheim", "account-geheim"


@pytest.fixture
def client(redis, valkey_url):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def mocked():
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture(scope="module")
def zoom():
    with stack.zoom_simulator("--meetings", "1", "--one-token", "on", "--latency-ms", "50") as server:
        yield server


def login(client, url=URL, key=KEY, secret=SECRET, account_id=ACCOUNT, **more):
    return ServerToServer(client, url, account_id=account_id, key=key, secret=secret, place="account", **more)


def at_simulator(client, zoom):
    return login(client, f"{zoom.url}/oauth/token", "key", "secret", "account")


def minted(zoom):
    return requests.get(f"{zoom.url}/_sim/requests", timeout=60).json()["tokens"]


def token_key(client):
    (key,) = client.keys("*:token")
    return key


class TestToken:
    def test_it_is_asked_for_with_the_parameters_in_the_body(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        token = login(client).token()
        assert token.value == "eyJ-one"
        assert token.scopes == {"report:read:admin", "dashboard:read:list_meetings:admin"}
        (asked,) = mocked.calls
        assert asked.request.url == URL
        assert asked.request.body == "grant_type=account_credentials&account_id=account-geheim"
        assert asked.request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        expected = requests.auth._basic_auth_str(KEY, SECRET)
        assert asked.request.headers["Authorization"] == expected

    def test_threads_of_several_workers_that_need_one_at_once_ask_once(self, client, zoom, valkey_url):
        before, got = minted(zoom), []

        def work():
            with Redis.from_url(valkey_url, decode_responses=True) as own:
                got.append(at_simulator(own, zoom).token().value)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert minted(zoom) == before + 1
        assert len(got) == 12
        assert len(set(got)) == 1

    def test_threads_whose_token_is_refused_at_once_replace_it_once(self, client, zoom, valkey_url):
        old = at_simulator(client, zoom).token()
        before, got = minted(zoom), []

        def work():
            with Redis.from_url(valkey_url, decode_responses=True) as own:
                mine = at_simulator(own, zoom)
                mine.refused(old)
                got.append(mine.token().value)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert minted(zoom) == before + 1
        assert len(set(got)) == 1
        assert got[0] != old.value

    @pytest.mark.parametrize(("life", "kept"), [(3599, 3299), (3600, 3300), (400, 200), (60, 30)])
    def test_it_leaves_redis_some_minutes_before_it_ends(self, client, mocked, life, kept):
        mocked.post(URL, json={**ANSWER, "expires_in": life})
        login(client).token()
        assert kept - 5 < client.ttl(token_key(client)) <= kept

    def test_it_is_renewed_when_it_has_left(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        mocked.post(URL, json={**ANSWER, "access_token": "eyJ-two"})
        one = login(client)
        one.token()
        client.delete(token_key(client))
        assert one.token().value == "eyJ-two"

    def test_one_that_another_worker_has_replaced_is_left_alone(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        mocked.post(URL, json={**ANSWER, "access_token": "eyJ-two"})
        one = login(client)
        old = one.token()
        one.refused(old)
        new = one.token()
        one.refused(old)  # a late answer to the old one
        assert one.token() == new
        assert len(mocked.calls) == 2

    def test_the_refusal_of_a_token_just_issued_blocks(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        one = login(client)
        one.refused(one.token())
        with pytest.raises(BlockedError, match=r"only just issued .*no other program uses the same app"):
            one.refused(one.token())

    def test_refusals_with_a_call_between_that_went_well_do_not_block(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        one = login(client)
        for _ in range(3):
            token = one.token()
            one.accepted(token)
            one.refused(token)

    def test_while_another_asks_for_it_it_is_waited_for_shortly(self, client, monkeypatch):
        client.set("uaharvest:zoom:account:token lock", "another", px=30_000)
        pauses = []
        monkeypatch.setattr(auth, "time", types.SimpleNamespace(monotonic=lambda: sum(pauses)))
        with pytest.raises(PutOffError, match="Another worker is asking"):
            login(client, pause=pauses.append).token()
        assert 0 < sum(pauses) < 5

    def test_the_lock_of_a_worker_that_died_ends_by_itself(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        client.set("uaharvest:zoom:account:token lock", "dead", px=300)
        assert login(client).token().value == "eyJ-one"

    def test_one_that_came_after_the_lock_had_ended_is_not_shared(self, client, mocked):
        def slowly(request):
            if client.get("uaharvest:zoom:account:token lock") != "another":
                client.set("uaharvest:zoom:account:token", json.dumps({"token": "eyJ-newer", "scope": ""}))
                client.set("uaharvest:zoom:account:token lock", "another", px=30_000)
            return 200, {}, json.dumps(ANSWER)

        mocked.add_callback(responses.POST, URL, slowly)
        assert login(client).token().value == "eyJ-newer"
        assert client.get("uaharvest:zoom:account:token lock") == "another"

    @pytest.mark.parametrize(
        ("status", "answer", "message"),
        [
            (
                400,
                {"reason": f"Invalid {KEY}", "error": "invalid_client"},
                r"\(invalid_client\). Check ZOOM_KEY and ZOOM_SEC",
            ),
            (400, {"reason": "x", "error": "unsupported_grant_type"}, "Server-to-Server OAuth app"),
            (400, {"reason": ACCOUNT, "error": "invalid_request"}, "Check ZOOM_ACCOUNT_ID"),
            (401, {"reason": "Invalid Token!", "error": "invalid_grant"}, "Check ZOOM_ACCOUNT_ID"),
            (
                400,
                {"status": False, "errorCode": 4702, "errorMessage": KEY, "result": None},
                r"\(4702\). Check ZOOM_KEY",
            ),
            (
                400,
                {"status": False, "errorCode": 4704, "errorMessage": KEY, "result": None},
                r"\(4704\). Check ZOOM_KEY",
            ),
            (
                400,
                {"status": False, "errorCode": 4705, "errorMessage": KEY, "result": None},
                "Server-to-Server OAuth",
            ),
            (
                200,
                {"status": False, "errorCode": 4741, "errorMessage": KEY, "result": None},
                "4741.*app is active",
            ),
            (400, {"reason": SECRET, "error": SECRET}, "ZOOM_ACCOUNT_ID, ZOOM_KEY and ZOOM_SECRET"),
            (404, "<html>", "Check ZOOM_TOKEN_URL"),
            (302, "", "Check ZOOM_TOKEN_URL"),
        ],
    )
    def test_a_refusal_names_the_setting_and_shows_nothing_of_it(self, client, mocked, status, answer, message):
        body = answer if isinstance(answer, str) else json.dumps(answer)
        mocked.post(URL, status=status, body=body)
        with pytest.raises(BlockedError, match=message) as caught:
            login(client).token()
        assert "geheim" not in str(caught.value)

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": 503, "body": "<html>"},
            {"status": 429, "json": {"error": "x"}},
            {"status": 200, "body": "<html>"},
            {"status": 200, "json": {"expires_in": 3599}},
            {"status": 200, "json": {"access_token": "eyJ"}},
            {"body": requests.ConnectTimeout()},
            {"body": requests.ConnectionError("refused")},
        ],
    )
    def test_what_passes_by_itself_is_tried_again_later(self, client, mocked, answer):
        mocked.post(URL, **answer)
        with pytest.raises(SourceError):
            login(client).token()
        assert client.keys("*lock*") == []  # the next may try at once

    @pytest.mark.parametrize("errors", ["new", "old"])
    def test_a_wrong_secret_is_told_of_in_either_shape(self, client, zoom, errors):
        requests.post(f"{zoom.url}/_sim/options", json={"token-errors": errors}, timeout=60).raise_for_status()
        with pytest.raises(BlockedError, match="Check ZOOM_KEY and ZOOM_SECRET"):
            login(client, f"{zoom.url}/oauth/token", "key", "wrong", "account").token()

    def test_no_secret_is_in_a_repr(self, client, mocked):
        mocked.post(URL, json=ANSWER)
        one = login(client)
        assert "geheim" not in repr(one)
        assert "eyJ" not in repr(one.token())


class TestJwt:
    def test_it_names_the_key_and_ends_soon(self):
        secret = "0123456789abcdef0123456789abcdef"
        token = SignedJwt("api-key", secret).token()
        assert jwt.get_unverified_header(token.value) == {"alg": "HS256", "typ": "JWT"}
        claims = jwt.decode(token.value, secret, algorithms=["HS256"])
        assert claims["iss"] == "api-key"
        assert 60 < claims["exp"] - time.time() <= 120

    def test_its_refusal_blocks(self):
        with pytest.raises(BlockedError, match="ZOOM_ACCOUNT_ID"):
            SignedJwt("api-key", "x").refused(None)

    def test_no_secret_is_in_its_repr(self):
        assert repr(SignedJwt("geheim", "geheim")) == "SignedJwt()"


def test_a_gateway_wants_no_token_and_blocks_where_it_refuses():
    assert Gateway().token() is None
    with pytest.raises(BlockedError, match="ZOOM_HEADER"):
        Gateway().refused(None)


# A server that answers otherwise than it should


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_blames_its_address_not_the_credentials(client, status):
    """Whoever answers there would get the credentials, or the form."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(
            URL, status=status, headers={"Location": "https://us02web.zoom.example.edu/oauth/token?a=geheim"}
        )
        there = [
            mock.add(method, "https://us02web.zoom.example.edu/oauth/token", json=ANSWER)
            for method in ("GET", "POST")
        ]
        with pytest.raises(
            BlockedError, match=rf"{status}.*ZOOM_TOKEN_URL.*https://us02web.zoom.example.edu"
        ) as caught:
            login(client).token()
        assert [one.call_count for one in there] == [0, 0]
    assert not any(word in str(caught.value) for word in ("ZOOM_KEY", "ZOOM_SECRET", "geheim"))


@pytest.mark.parametrize("location", ["https://geheim@elsewhere.edu/", "javascript:1", "", "//x y/"])
def test_a_redirect_to_what_is_no_host_is_not_shown(client, mocked, location):
    mocked.post(URL, status=301, headers={"Location": location})
    with pytest.raises(BlockedError, match=r"Check ZOOM_TOKEN_URL\.$"):
        login(client).token()


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("body", ["<html>", "", '{"message": "Forbidden"}', "[]", '{"reason": ["x"]}'])
def test_what_is_no_answer_of_zooms_blames_no_credentials(client, mocked, status, body):
    mocked.post(URL, status=status, body=body)
    with pytest.raises(BlockedError, match=r"Check ZOOM_TOKEN_URL") as caught:
        login(client).token()
    assert "ZOOM_KEY" not in str(caught.value)


@pytest.mark.parametrize("error", [["invalid_grant"], {"a": 1}, 5, None, True])
def test_an_error_of_any_shape_is_a_refusal(client, mocked, error):
    mocked.post(URL, status=400, json={"error": error, "reason": {"x": 1}})
    with pytest.raises(BlockedError, match="ZOOM_ACCOUNT_ID, ZOOM_KEY and ZOOM_SECRET"):
        login(client).token()


def test_an_error_that_is_null_beside_a_token_is_none(client, mocked):
    mocked.post(URL, json={**ANSWER, "error": None})
    assert login(client).token().value == "eyJ-one"


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": True},
        {"access_token": 5},
        {"access_token": ["eyJ"]},
        {"access_token": ""},
        {"access_token": "eyJ\r\nX-Evil: 1"},
        {"access_token": "eyJé"},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": None},
        {"expires_in": {}},
    ],
)
def test_a_token_that_cannot_be_used_is_none(client, mocked, changes):
    mocked.post(URL, json={**ANSWER, **changes})
    with pytest.raises(SourceError):
        login(client).token()
    assert client.keys("*token*") == []


@pytest.mark.parametrize("life", [10**30, 1e300, "86400000000"])
def test_a_token_is_kept_for_a_day_at_most(client, mocked, life):
    mocked.post(URL, json={**ANSWER, "expires_in": life})
    login(client).token()
    assert client.ttl(token_key(client)) <= 86_400


def test_tokens_that_are_gone_at_once_are_not_asked_for_for_ever(client, mocked):
    mocked.post(URL, json=ANSWER)
    one = login(client)
    one._store = lambda **_: 0  # a Redis that loses them
    with pytest.raises(SourceError, match="end at once"):
        one.token()
    assert len(mocked.calls) <= 4


def test_zooms_own_words_are_shown_without_what_was_sent(client, mocked):
    reason = f"Invalid client_id or client_secret: {KEY} {SECRET} jill@example.edu geheim"
    mocked.post(URL, status=400, json={"reason": reason, "error": "invalid_client"})
    with pytest.raises(BlockedError, match=r"says .Invalid . or ") as caught:
        login(client).token()
    assert not any(word in str(caught.value) for word in ("geheim", "jill"))


def test_an_answer_is_limited_in_size(client, mocked):
    mocked.post(URL, body=b" " * 2_000_000)
    with pytest.raises(SourceError, match="more than 1,000,000 bytes"):
        login(client).token()


def test_an_answer_is_limited_in_time(client, monkeypatch):
    monkeypatch.setattr(auth, "LONGEST_ANSWER", 0.3)
    with dripping() as url, pytest.raises(SourceError, match="end of its answer in time"):
        login(client, url).token()
