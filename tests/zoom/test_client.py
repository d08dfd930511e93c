import json
import threading
import time
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import responses
from redis import Redis

from simulators import stack
from uaharvest import assembly, settings
from uaharvest.errors import BadInputError, BlockedError, PoisonError, PutOffError, SourceError
from uaharvest.zoom.auth import Gateway, ServerToServer, Token
from uaharvest.zoom.client import KINDS, MeetingUnavailableError, Zoom
from uaharvest.zoom.endpoints import encoded
from uaharvest.zoom.quota import Label, Quota

BASE = "https://api.example.edu/v2/"
LIST = f"{BASE}metrics/meetings"
PEOPLE = f"{BASE}metrics/meetings/abc%3D%3D/participants"
USERS = f"{BASE}report/users"
TODAY = date(2026, 11, 24)
DAY = TODAY - timedelta(days=1)
ECHO = {"from": DAY.isoformat(), "to": DAY.isoformat()}
NO_DASHBOARD = {"code": 200, "message": "This API is only available for Business or higher accounts ..."}
SCOPES_WITH_QUOTES = '{"code":104, "message":"does not contain scopes:["dashboard:read:list_meetings:admin"]"}'


@pytest.fixture
def client(redis, valkey_url):
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def mocked():
    with responses.RequestsMock() as mock:
        yield mock


class Scoped(Gateway):
    """A login with a token that has these scopes."""

    def __init__(self, *scopes):
        self.scopes = frozenset(scopes)

    def token(self):
        return Token("eyJ-geheim", self.scopes)


def zoom(client, base=BASE, login=None, pauses=None, **more):
    pause = pauses.append if pauses is not None else (lambda _: pytest.fail("nothing to wait for"))
    return Zoom(
        client,
        base,
        login or Scoped(),
        Quota(client, "account", "business"),
        account="account",
        pause=pause,
        clock=lambda: datetime(2026, 11, 24, 5, tzinfo=UTC),
        **more,
    )


def listed(client, *, kind="past", token="", **more):
    return list(zoom(client, **more).meetings(DAY, DAY, kind, token=token))


def page(*rows, token="", **more):
    return {**ECHO, "next_page_token": token, "meetings": list(rows), **more}


def meeting(uuid, **more):
    return {"uuid": uuid, "topic": "x", **more}


class TestLists:
    def test_a_list_is_asked_for_by_padded_days_and_the_start_of_meetings(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a")))
        listed(client, kind="pastOne")
        assert mocked.calls[0].request.params == {
            "type": "pastOne",
            "query_date_type": "start_time",
            "from": "2026-11-23",
            "to": "2026-11-23",
            "page_size": "300",
        }

    def test_pages_follow_the_token_and_repeat_all_else(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), token="T1"))
        mocked.get(LIST, json=page(meeting("b")))
        first, second = listed(client)
        assert [[row["uuid"] for row in one.rows] for one in (first, second)] == [["a"], ["b"]]
        assert (first.next_token, second.next_token) == ("T1", "")
        one, two = (call.request.params for call in mocked.calls)
        assert two == {**one, "next_page_token": "T1"}

    def test_a_list_goes_on_from_a_token(self, client, mocked):
        mocked.get(LIST, json=page(meeting("b")))
        (only,) = listed(client, token="T1")
        assert mocked.calls[0].request.params["next_page_token"] == "T1"
        assert only.next_token == ""

    def test_a_meeting_on_two_pages_is_given_once(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), meeting("b"), meeting("b"), token="T1"))
        mocked.get(LIST, json=page(meeting("b"), meeting("c")))
        assert [[row["uuid"] for row in one.rows] for one in listed(client)] == [["a", "b"], ["c"]]

    def test_rows_without_a_uuid_are_counted(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), meeting(""), {"topic": "x"}, "row", None))
        (only,) = listed(client)
        assert (len(only.rows), only.unreadable) == (1, 4)

    def test_a_list_whose_token_has_ended_begins_anew_and_repeats_no_meeting(self, client, mocked):
        ended = {"code": 300, "message": "The next page token is invalid or expired."}
        mocked.get(LIST, json=page(meeting("a"), token="T1"))
        mocked.get(LIST, json=ended, status=400)
        mocked.get(LIST, json=page(meeting("a"), token="T2"))
        mocked.get(LIST, json=page(meeting("b")))
        pages = listed(client)
        assert [[row["uuid"] for row in one.rows] for one in pages] == [["a"], [], ["b"]]
        assert [call.request.params.get("next_page_token") for call in mocked.calls] == [None, "T1", None, "T2"]

    def test_a_list_whose_tokens_always_end_is_given_up(self, client, mocked):
        ended = {"code": 300, "message": "The next page token is invalid or expired."}

        def answer(request):
            refused = "next_page_token" in request.params
            return (400, {}, json.dumps(ended)) if refused else (200, {}, json.dumps(page(token="T")))

        mocked.add_callback(responses.GET, LIST, answer)
        with pytest.raises(SourceError, match="page token"):
            listed(client)
        assert len(mocked.calls) == 6

    def test_a_token_that_repeats_itself_ends_in_an_error_not_in_a_loop(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), token="T1"))
        with pytest.raises(SourceError, match="same page token"):
            listed(client)

    @pytest.mark.parametrize("echo", [{"from": "2026-11-22"}, {"to": "2026-11-22"}])
    def test_an_answer_for_other_days_names_both(self, client, mocked, echo):
        mocked.get(LIST, json=page(meeting("a"), **echo))
        with pytest.raises(BlockedError, match=r"answered for .*2026-11-22.* asked for 2026-11-23 to 2026-11-23"):
            listed(client)

    def test_an_answer_that_tells_no_days_is_taken(self, client, mocked):
        mocked.get(LIST, json={"meetings": [meeting("a")], "next_page_token": "", "from": "", "to": None})
        assert len(listed(client)) == 1

    @pytest.mark.parametrize(
        ("first", "last", "message"),
        [
            (TODAY, TODAY + timedelta(days=1), "up to today, 2026-11-24"),
            (DAY, DAY - timedelta(days=1), "up to today"),
            (date(2026, 5, 27), date(2026, 5, 27), "from 2026-05-28 on"),
            (date(2026, 10, 1), date(2026, 10, 30), "29 days"),
        ],
    )
    def test_days_that_zoom_would_move_are_not_asked_for(self, client, first, last, message):
        with pytest.raises(BadInputError, match=message):
            next(zoom(client).meetings(first, last, "past"))
        with pytest.raises(BadInputError, match=message):
            zoom(client).host_ids(first, last)

    def test_host_ids_are_found_by_address_in_lower_case_and_asked_for_once(self, client, mocked):
        users = [{"id": "u1", "email": "Jill@Example.edu"}, {"id": "u2", "email": ""}, {"id": ""}, "row"]
        mocked.get(USERS, json={**ECHO, "users": users, "next_page_token": "T1"})
        mocked.get(USERS, json={**ECHO, "users": [{"id": "u3", "email": "x@y"}], "next_page_token": ""})
        one = zoom(client)
        assert one.host_ids(DAY, DAY) == {"jill@example.edu": "u1", "x@y": "u3"}
        one.host_ids(DAY, DAY)
        assert len(mocked.calls) == 2
        assert mocked.calls[0].request.params["type"] == "active"


class TestParticipants:
    def test_they_are_asked_for_by_the_type_of_their_list(self, client, mocked):
        mocked.get(PEOPLE, json={"participants": [{"user_id": "1"}], "next_page_token": ""})
        assert zoom(client).participants("abc==", "pastOne") == [{"user_id": "1"}]
        assert mocked.calls[0].request.params == {"type": "pastOne", "page_size": "300"}

    def test_all_pages_are_read_and_equal_rows_given_once(self, client, mocked):
        rows = [{"user_id": str(number), "join_time": "x"} for number in range(4)]
        mocked.get(PEOPLE, json={"participants": rows[:2], "next_page_token": "T1"})
        mocked.get(
            PEOPLE, json={"participants": [rows[1], rows[2], {**rows[2], "join_time": "y"}], "next_page_token": ""}
        )
        assert zoom(client).participants("abc==", "past") == [*rows[:3], {**rows[2], "join_time": "y"}]

    def test_a_list_that_begins_anew_forgets_what_came(self, client, mocked):
        mocked.get(PEOPLE, json={"participants": [{"user_id": "1", "leave_time": ""}], "next_page_token": "T1"})
        mocked.get(PEOPLE, json={"code": 300, "message": "The next page token is invalid or expired."}, status=400)
        mocked.get(PEOPLE, json={"participants": [{"user_id": "1", "leave_time": "z"}], "next_page_token": ""})
        assert zoom(client).participants("abc==", "past") == [{"user_id": "1", "leave_time": "z"}]

    @pytest.mark.parametrize(
        ("status", "code", "message"),
        [
            (404, 3001, "Meeting does not exist: abc==."),
            (404, 3001, "This meeting's details are not available."),
            (400, 3161, "Your user account is not allowed meeting hosting and scheduling capabilities."),
            (400, 12702, "Can not access a meeting a year ago."),
            (400, 300, "Can not access webinar info, 123."),
            (200, 3001, "Meeting does not exist: abc==."),
        ],
    )
    def test_a_meeting_that_is_not_to_be_had_says_so(self, client, mocked, status, code, message):
        mocked.get(PEOPLE, json={"code": code, "message": message}, status=status)
        with pytest.raises(MeetingUnavailableError) as caught:
            zoom(client).participants("abc==", "past")
        assert caught.value.code == code

    def test_a_404_without_a_code_is_one_too(self, client, mocked):
        mocked.get(PEOPLE, json={}, status=404)
        with pytest.raises(MeetingUnavailableError) as caught:
            zoom(client).participants("abc==", "past")
        assert caught.value.code == 404

    @pytest.mark.parametrize("answer", [{"body": "<html>"}, {"json": {"code": 2300, "message": "..."}}])
    def test_a_404_of_the_whole_endpoint_is_no_meeting_that_is_missing(self, client, mocked, answer):
        mocked.get(PEOPLE, status=404, **answer)
        with pytest.raises(BlockedError, match="ZOOM_API_URL"):
            zoom(client).participants("abc==", "past")

    def test_another_refusal_of_one_meeting_is_poison(self, client, mocked):
        mocked.get(PEOPLE, status=400, json={"code": 300, "message": "Validation Failed."})
        with pytest.raises(PoisonError, match="refused this meeting"):
            zoom(client).participants("abc==", "past")


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (
                400,
                '{"code":4711,"message":"Invalid access token, does not contain scopes:[dashboard:read:x:admin]."}',
                "Give the app the scope dashboard:read:x:admin",
            ),
            (400, SCOPES_WITH_QUOTES, "Give the app the scope dashboard:read:list_meetings:admin"),
            (
                400,
                '{"code":4700,"message":"Invalid access token."}',
                "scope dashboard:read:list_meetings:admin or dash",
            ),
            (400, '{"code":300,"message":"Validation Failed."}', "refused the days"),
            (403, "", "403. Check ZOOM_API_URL"),
            (404, "<html>", "404. Check ZOOM_API_URL"),
            (302, "", "302. Check ZOOM_API_URL"),
        ],
    )
    def test_what_a_person_must_change_blocks(self, client, mocked, status, body, message):
        mocked.get(LIST, status=status, body=body, headers={"Location": "https://elsewhere.example.edu/"})
        with pytest.raises(BlockedError, match=message):
            listed(client)
        assert len(mocked.calls) == 1

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            ({"status": 500, "body": "<html>"}, "500 with a web page"),
            ({"status": 503, "json": {"code": 5000}}, "503, code 5000"),
            ({"status": 200, "body": "<html>"}, "200 with a web page"),
            ({"status": 200, "body": '{"meetings": ['}, "not JSON"),
            ({"status": 200, "body": "[]"}, "not JSON"),
            ({"status": 200, "json": {"code": 5000, "message": "x"}}, "an error"),
            ({"status": 200, "json": {"page_size": 300}}, "without meetings"),
            ({"body": requests.ConnectionError("refused")}, "ZOOM_API_URL"),
        ],
    )
    def test_what_passes_by_itself_is_tried_again_and_then_put_off(self, client, mocked, answer, message):
        mocked.get(LIST, **answer)
        pauses = []
        with pytest.raises(SourceError, match=message):
            listed(client, pauses=pauses)
        if "without" not in message:
            assert len(mocked.calls) == 4
            assert len(pauses) == 3
            assert all(0.25 * 2**n <= pause <= 0.75 * 2**n for n, pause in enumerate(pauses))

    def test_a_time_out_has_waited_long_enough(self, client, mocked):
        mocked.get(LIST, body=requests.ReadTimeout())
        with pytest.raises(SourceError, match="did not answer within 60 s"):
            listed(client)

    def test_code_0_is_no_error(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), code=0, message=""))
        assert len(listed(client)) == 1

    def test_nothing_of_zooms_words_or_of_the_token_is_in_an_error(self, client, mocked):
        mocked.get(LIST, status=400, json={"code": 1010, "message": "jill@example.edu eyJ-geheim"})
        with pytest.raises(BlockedError) as caught:
            listed(client, header=("X-Api-Key", "geheim"))
        assert "jill" not in str(caught.value)
        assert "geheim" not in str(caught.value)
        assert "geheim" not in repr(zoom(client, header=("X-Api-Key", "geheim")))

    def test_429_for_a_second_waits_and_asks_again(self, client, mocked):
        mocked.get(LIST, status=429, json={"code": 429}, headers={"X-RateLimit-Type": "QPS", "Retry-After": "1"})
        mocked.get(LIST, json=page(meeting("a")))
        assert len(listed(client)) == 1

    def test_429_for_a_day_is_put_off_until_then_at_once(self, client, mocked):
        headers = {"X-RateLimit-Type": "Daily-limit", "Retry-After": "7200"}
        mocked.get(LIST, status=429, json={"code": 429}, headers=headers)
        with pytest.raises(PutOffError, match="calls of the day") as caught:
            listed(client)
        assert 7199 < (caught.value.due - datetime.now(UTC)).total_seconds() < 7206
        assert len(mocked.calls) == 1


class TestLogin:
    def test_the_token_and_the_header_of_a_gateway_go_along(self, client, mocked):
        mocked.get(LIST, json=page())
        listed(client, header=("X-Api-Key", "1234"))
        headers = mocked.calls[0].request.headers
        assert headers["Authorization"] == "Bearer eyJ-geheim"
        assert headers["X-Api-Key"] == "1234"

    def test_without_a_token_none_is_sent_whatever_netrc_says(self, client, mocked, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine api.example.edu login u password p\n")
        monkeypatch.setenv("NETRC", str(netrc))
        mocked.get(LIST, json=page())
        listed(client, login=Gateway())
        assert "Authorization" not in mocked.calls[0].request.headers

    def test_a_token_that_is_refused_at_once_again_blocks(self, client, mocked):
        mocked.post("https://zoom.example.edu/token", json={"access_token": "eyJ", "expires_in": 3599})
        mocked.get(LIST, status=401, json={"code": 124, "message": "Invalid access token."})
        login = ServerToServer(
            client, "https://zoom.example.edu/token", account_id="a", key="k", secret="s", place="account"
        )
        with pytest.raises(BlockedError, match="only just issued"):
            listed(client, login=login)
        assert len(mocked.calls) == 4  # a token, refused; another, refused

    def test_a_code_124_with_200_is_the_tokens_refusal_too(self, client, mocked):
        mocked.get(LIST, json={"code": 124, "message": "Access token is expired."})
        with pytest.raises(BlockedError, match="ZOOM_HEADER"):
            listed(client, login=Gateway())


class TestReports:
    def test_without_the_dashboards_scope_reports_are_read(self, client, mocked):
        mocked.get(USERS, json={**ECHO, "users": [], "next_page_token": ""})
        (only,) = listed(client, login=Scoped("report:read:admin"))
        assert (only.rows, only.source) == ([], "report")

    def test_without_any_scope_that_helps_it_blocks(self, client):
        with pytest.raises(BlockedError, match=r"dashboard:read:list_meetings:admin.*report:read"):
            zoom(client, login=Scoped("user:read:admin")).source()

    def test_that_there_is_no_dashboard_is_learnt_once(self, client, mocked):
        mocked.get(LIST, json=NO_DASHBOARD, status=400)
        mocked.get(USERS, json={**ECHO, "users": [], "next_page_token": ""})
        assert listed(client)[0].source == "report"
        assert listed(client, kind="pastOne")[0].source == "report"
        assert sum(call.request.url.startswith(LIST) for call in mocked.calls) == 1
        assert 86_000 < client.ttl("uaharvest:zoom:account:source") <= 86_400

    def test_where_reports_are_refused_too_it_says_why_they_were_asked(self, client, mocked):
        mocked.get(LIST, json=NO_DASHBOARD, status=400)
        mocked.get(USERS, json={"code": 4711, "message": "scopes:[report:read:list_users:admin]"}, status=400)
        with pytest.raises(BlockedError, match=r"report:read:list_users:admin .*no Dashboard"):
            listed(client)

    def test_without_the_plan_for_reports_it_blocks(self, client, mocked):
        mocked.get(LIST, json=NO_DASHBOARD, status=400)
        mocked.get(USERS, json=NO_DASHBOARD, status=400)
        with pytest.raises(BlockedError, match="needs a Pro plan"):
            listed(client)

    def test_hosts_are_read_one_after_another_and_a_token_says_where_to_go_on(self, client, mocked):
        client.set("uaharvest:zoom:account:source", "report")
        users = [{"id": name, "email": name} for name in ("u3", "u1", "u2")]
        mocked.get(USERS, json={**ECHO, "users": users, "next_page_token": ""})
        mocked.get(f"{USERS}/u1/meetings", json=page(meeting("a"), token="T1"))
        mocked.get(f"{USERS}/u1/meetings", json=page(meeting("b"), meeting("w", type=9)))
        mocked.get(f"{USERS}/u2/meetings", json={"code": 1001, "message": "x"}, status=404)
        mocked.get(f"{USERS}/u3/meetings", json=page(meeting("c")))
        one = zoom(client)
        pages = list(one.meetings(DAY, DAY, "past"))
        assert [[(row["uuid"], row["host_id"]) for row in page_.rows] for page_ in pages] == [
            [("a", "u1")],
            [("b", "u1")],
            [],
            [("c", "u3")],
        ]
        assert [page_.next_token for page_ in pages] == ["u1 T1", "u2", "u3", ""]
        for token, uuids in [("u3", ["c"]), ("u2", ["c"])]:
            again = list(one.meetings(DAY, DAY, "past", token=token))
            assert [row["uuid"] for page_ in again for row in page_.rows] == uuids

    def test_rows_have_the_dashboards_names(self, client, mocked):
        client.set("uaharvest:zoom:account:source", "report")
        row = {
            "user_name": "Jill",
            "user_email": "j@x",
            "participants_count": 3,
            "duration": 6,
            "has_recording": True,
        }
        mocked.get(USERS, json={**ECHO, "users": [{"id": "u1"}], "next_page_token": ""})
        mocked.get(f"{USERS}/u1/meetings", json=page(meeting("a", **row)))
        (only,) = listed(client)
        (got,) = only.rows
        assert (got["host"], got["email"], got["participants"], got["has_recording"]) == ("Jill", "j@x", 3, True)
        assert (got.get("duration"), got.get("has_pstn"), got.get("user_type")) == (None, None, None)
        joined = {"name": "Jo", "user_email": "jo@x", "user_id": "1", "duration": 259, "bo_mtg_id": "b"}
        mocked.get(
            f"{BASE}report/meetings/abc%3D%3D/participants", json={"participants": [joined], "next_page_token": ""}
        )
        (got,) = zoom(client).participants("abc==", "past")
        assert got == {"user_name": "Jo", "email": "jo@x", "user_id": "1", "duration": 259, "bo_mtg_id": "b"}

    def test_participants_too_learn_that_there_is_no_dashboard(self, client, mocked):
        mocked.get(PEOPLE, json=NO_DASHBOARD, status=400)
        mocked.get(
            f"{BASE}report/meetings/abc%3D%3D/participants", json={"participants": [], "next_page_token": ""}
        )
        assert zoom(client).participants("abc==", "past") == []
        assert client.get("uaharvest:zoom:account:source") == "report"


class TestClock:
    def test_it_is_the_servers_and_costs_no_quota_and_no_token(self, client, mocked):
        mocked.get(BASE, status=404, json={"code": 2300}, headers={"Date": "Mon, 23 Nov 2026 05:00:00 GMT"})
        assert zoom(client).now() == datetime(2026, 11, 23, 5, tzinfo=UTC)
        assert "Authorization" not in mocked.calls[0].request.headers
        assert client.keys("*calls*") == []

    @pytest.mark.parametrize("answer", [{"status": 500}, {"status": 200}, {"body": requests.ConnectionError("x")}])
    def test_an_answer_without_it_is_a_failure_of_zoom(self, client, mocked, answer):
        mocked.get(BASE, **answer)
        with pytest.raises(SourceError):
            zoom(client, pauses=[]).now()


@pytest.fixture(scope="module")
def echo():
    """A server that answers with the target of the request, as it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(
                {"participants": [{"path": self.path.partition("?")[0]}], "next_page_token": ""}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v2"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("uuid", "sent"),
    [
        ("4444AAAiAAAAAiAiAiiAii==", "4444AAAiAAAAAiAiAiiAii%3D%3D"),
        ("a+b/c==", "a%2Bb%2Fc%3D%3D"),
        ("/ajXp112QmuoKj4854875==", "%252FajXp112QmuoKj4854875%253D%253D"),
        ("ab//c+==", "ab%252F%252Fc%252B%253D%253D"),
        ("a/../b", "a%2F..%2Fb"),
        ("..", ".."),
    ],
)
def test_a_uuid_is_sent_as_zoom_wants_it_encoded(client, echo, uuid, sent):
    assert encoded(uuid) == sent
    if uuid != "..":  # no uuid; urllib3 would resolve it
        (row,) = zoom(client, echo).participants(uuid, "past")
        assert row["path"] == f"/v2/metrics/meetings/{sent}/participants"


class TestAtSimulator:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls):
        with stack.zoom_simulator("--meetings", "650", "--page-overlap", "2") as server:
            yield server

    @pytest.fixture
    def fresh(self, server):
        requests.delete(f"{server.url}/_sim/faults", timeout=5).raise_for_status()
        self.change(server, plan="business", scope=[], **{"one-token": False, "page-token-seconds": 900})
        requests.post(f"{server.url}/_sim/reset-requests", timeout=5).raise_for_status()
        return server

    @pytest.fixture
    def at(self, client, fresh):
        return assembly.zoom_client(self.read(fresh), client)

    @staticmethod
    def read(server):
        return settings.load(
            {
                "ZOOM_API_URL": f"{server.url}/v2",
                "ZOOM_TOKEN_URL": f"{server.url}/oauth/token",
                "ZOOM_ACCOUNT_ID": "account",
                "ZOOM_KEY": "key",
                "ZOOM_SECRET": "secret",
                "ZOOM_PLAN": "business",
            }
        )

    @staticmethod
    def change(server, **options):
        options = {name: value for name, value in options.items() if value != []}
        requests.post(f"{server.url}/_sim/options", json=options, timeout=5).raise_for_status()

    @staticmethod
    def asked(server):
        return requests.get(f"{server.url}/_sim/requests", timeout=5).json()

    @staticmethod
    def truth(server):
        return requests.get(f"{server.url}/_sim/truth", timeout=5).json()

    def all_of(self, at):
        yesterday = at.now().date() - timedelta(days=1)
        return {kind: list(at.meetings(yesterday, yesterday, kind)) for kind in KINDS}

    def test_every_past_meeting_is_listed_once_with_the_least_calls(self, at, fresh):
        pages, truth = self.all_of(at), self.truth(fresh)
        for kind in KINDS:
            expected = sorted(
                one["uuid"] for one in truth["meetings"] if one["type"] == kind and one["state"] == "past"
            )
            assert sorted(row["uuid"] for page_ in pages[kind] for row in page_.rows) == expected
        asked = self.asked(fresh)
        assert asked["endpoints"].get("meetings") <= truth["least_calls"]["meetings"] + 1  # pages overlap
        assert asked["tokens"] == 1

    def test_participants_of_all_sorts_of_uuids_and_sizes_are_complete(self, at, fresh):
        truth = self.truth(fresh)["meetings"]
        odd = [one for one in truth if one["uuid"].startswith("/") or "//" in one["uuid"] or "/" in one["uuid"]][
            :6
        ]
        big = max(truth, key=lambda one: one["rows"])
        alone = next(one for one in truth if one["type"] == "pastOne")
        assert any(one["uuid"].startswith("/") or "//" in one["uuid"] for one in odd)
        for one in (*odd, big, alone):
            assert len(at.participants(one["uuid"], one["type"])) == one["distinct"]
        assert big["rows"] > 300

    def test_hosts_are_found(self, at, fresh):
        yesterday = at.now().date() - timedelta(days=1)
        ids = at.host_ids(yesterday, yesterday)
        for one in self.truth(fresh)["meetings"]:
            assert ids.get(one["email"].lower()) == one["host_id"]

    def test_tokens_that_are_revoked_are_replaced_once(self, at, fresh):
        one = self.truth(fresh)["meetings"][0]
        at.participants(one["uuid"], one["type"])
        at._pause = lambda _: pytest.fail("there is another token at once")
        requests.post(f"{fresh.url}/_sim/revoke", timeout=5).raise_for_status()
        at.participants(one["uuid"], one["type"])
        at.participants(one["uuid"], one["type"])
        assert self.asked(fresh)["tokens"] == 2

    def test_without_the_dashboard_reports_give_the_same_meetings(self, client):
        with stack.zoom_simulator(
            "--meetings", "60", "--people", "6", "--plan", "pro", "--limit", "heavy=40/s"
        ) as server:
            at, truth = assembly.zoom_client(self.read(server), client), self.truth(server)["meetings"]
            known = {one["uuid"]: one for one in truth if one["host_id"] and one["state"] == "past"}
            found = {
                row["uuid"]: (kind, row["host_id"], row["email"])
                for kind, pages in self.all_of(at).items()
                for page_ in pages
                for row in page_.rows
            }
            assert found == {uuid: (one["type"], one["host_id"], one["email"]) for uuid, one in known.items()}
            biggest = max(known.values(), key=lambda one: one["rows"])
            assert len(at.participants(biggest["uuid"], biggest["type"])) == biggest["distinct"]
            asked = self.asked(server)["endpoints"]
        hosts = {one["host_id"] for one in known.values()}
        assert (asked["meetings"], asked["report-users"]) == (1, 1)  # refused once, users asked for once
        assert asked["report-user-meetings"] == len(hosts) * len(KINDS)

    @pytest.mark.parametrize("kind", ["status", "drop", "truncate", "invalid-json"])
    def test_a_call_that_fails_once_is_made_again(self, at, fresh, kind):
        one = self.truth(fresh)["meetings"][0]
        order = {"kind": kind, "endpoint": "participants", "times": 1}
        requests.post(f"{fresh.url}/_sim/faults", json=order, timeout=5).raise_for_status()
        at._pause = lambda _: None
        assert len(at.participants(one["uuid"], one["type"])) == one["distinct"]

    def test_a_scope_in_broken_json_is_named(self, at, fresh):
        order = {"kind": "bad-quotes", "endpoint": "meetings", "times": 1}
        requests.post(f"{fresh.url}/_sim/faults", json=order, timeout=5).raise_for_status()
        with pytest.raises(BlockedError, match="scope dashboard:read:list_meetings:admin"):
            self.all_of(at)

    def test_the_quota_is_not_exceeded_as_the_server_counts_it(self, client):
        arguments = ["--meetings", "20", "--plan", "business", "--limit", "heavy=10/s", "--latency-ms", "20"]
        with stack.zoom_simulator(*arguments) as server:
            uuid = next(one["uuid"] for one in self.truth(server)["meetings"] if one["type"] == "past")
            quota = Quota(client, "account", "pro")
            login = assembly._zoom_login(self.read(server), client)
            tight = Zoom(client, f"{server.url}/v2", login, quota, account="account", pool_size=6)
            failures = []

            def work():
                for _ in range(6):
                    try:
                        tight.participants(uuid, "past")
                    except PutOffError as error:
                        failures.append(error)

            began = time.monotonic()
            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - began
            heavy = self.asked(server)["labels"]["Heavy"]
        assert failures == []  # six wait for ten a second: each gets its turn
        assert (heavy["refused"], heavy["calls"]) == (0, 36)
        assert heavy["peak"] <= 10
        assert quota.calls(datetime.now(UTC).date()) == {Label.HEAVY: 36}
        assert took < 3 * 1.0 * 1.7  # ten at once, and then in three windows

    def test_a_day_that_is_used_up_costs_one_call_and_goes_on_when_zoom_says(self, client):
        with stack.zoom_simulator("--meetings", "20", "--limit", "heavy=5/day") as server:
            uuid = next(one["uuid"] for one in self.truth(server)["meetings"] if one["type"] == "past")
            at = assembly.zoom_client(self.read(server), client)
            self.change(server, **{"day-ends-in": 6})
            for _ in range(5):
                at.participants(uuid, "past")
            for _ in range(3):
                with pytest.raises(PutOffError, match="calls of the day are used up") as caught:
                    at.participants(uuid, "past")
            assert self.asked(server)["labels"]["Heavy"]["refused"] == 1
            due = (caught.value.due - datetime.now(UTC)).total_seconds()
            assert 0 < due < 10
            _until(lambda: client.keys("*:spent:*") == [])
            for _ in range(3):
                at.participants(uuid, "past")
            assert self.asked(server)["labels"]["Heavy"]["refused"] == 1


def _until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestSettings:
    def test_a_gateway_needs_its_header_only(self, client):
        read = settings.load({"ZOOM_HEADER": "X-Api-Key: 1234"})
        assert isinstance(assembly.zoom_client(read, client)._login, Gateway)

    def test_nothing_at_all_names_what_is_wanted(self, client):
        with pytest.raises(BadInputError, match="ZOOM_ACCOUNT_ID, ZOOM_KEY, ZOOM_SECRET"):
            assembly.zoom_client(settings.load({}), client)

    def test_two_kinds_of_authorization_are_refused(self, client):
        read = settings.load({"ZOOM_HEADER": "Authorization: x", "ZOOM_KEY": "k", "ZOOM_SECRET": "s"})
        with pytest.raises(BadInputError, match="ZOOM_HEADER is Authorization"):
            assembly.zoom_client(read, client)
