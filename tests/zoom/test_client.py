import contextlib
import itertools
import json
import threading
import time
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
import responses
from redis import Redis

from devservers import stack
from tests.zoom.servers import dripping
from uaharvest import settings
from uaharvest.errors import BadInputError, BlockedError, PoisonError, PutOffError, RetryableError, SourceError
from uaharvest.streams.engines.zoom import zoom_client, zoom_login
from uaharvest.zoom import api
from uaharvest.zoom.auth import Gateway, ServerToServer, Token
from uaharvest.zoom.client import Zoom
from uaharvest.zoom.endpoints import KINDS, encoded
from uaharvest.zoom.failures import MeetingUnavailableError, TooManyCallsError
from uaharvest.zoom.probe import MOST_THROTTLED
from uaharvest.zoom.quota import Label, Quota

BASE = "https://api.example.edu/v2/"
LIST = f"{BASE}metrics/meetings"
PEOPLE = f"{BASE}metrics/meetings/abc%3D%3D/participants"
NOBODY = f"{BASE}metrics/meetings/AAAAAAAAAAAAAAAAAAAAAA%3D%3D/participants"  # a meeting that there is not
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


def zoom(client, base=BASE, login=None, pauses=None, quota=None, **more):
    pause = pauses.append if pauses is not None else (lambda _: pytest.fail("nothing to wait for"))
    return Zoom(
        client,
        base,
        login or Scoped(),
        quota or Quota(client, "account", "business"),
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


def raw(rows):
    return [row.raw for row in rows]


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
        assert [[row.uuid for row in one.rows] for one in (first, second)] == [["a"], ["b"]]
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
        assert [[row.uuid for row in one.rows] for one in listed(client)] == [["a", "b"], ["c"]]

    def test_rows_without_a_uuid_are_kept(self, client, mocked):
        odd = [meeting(""), {"topic": "x"}, "row", None]
        mocked.get(LIST, json=page(meeting("a"), *odd))
        (only,) = listed(client)
        assert [row.uuid for row in only.rows] == ["a", None, None, None, None]
        assert raw(only.rows)[1:] == odd

    def test_a_list_whose_token_has_ended_begins_anew_and_repeats_no_meeting(self, client, mocked):
        ended = {"code": 300, "message": "The next page token is invalid or expired."}
        mocked.get(LIST, json=page(meeting("a"), token="T1"))
        mocked.get(LIST, json=ended, status=400)
        mocked.get(LIST, json=page(meeting("a"), token="T2"))
        mocked.get(LIST, json=page(meeting("b")))
        pages = listed(client)
        assert [[row.uuid for row in one.rows] for one in pages] == [["a"], [], ["b"]]
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
        with pytest.raises(BlockedError, match=r"answered for .*2026-11-22.*, not for 2026-11-23 to 2026-11-23"):
            listed(client)

    def test_an_answer_that_tells_no_days_is_taken(self, client, mocked):
        mocked.get(LIST, json={"meetings": [meeting("a")], "next_page_token": "", "from": "", "to": None})
        assert len(listed(client)) == 1

    @pytest.mark.parametrize(
        ("first", "last", "message"),
        [
            (TODAY, TODAY + timedelta(days=1), "up to today, 2026-11-24"),
            (DAY, DAY - timedelta(days=1), "up to today"),
            (date(2026, 5, 27), date(2026, 5, 27), "since 2026-05-28"),
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
        assert raw(zoom(client).participants("abc==", "pastOne")) == [{"user_id": "1"}]
        assert mocked.calls[0].request.params == {"type": "pastOne", "page_size": "300"}

    def test_all_pages_are_read_and_equal_rows_given_once(self, client, mocked):
        rows = [{"user_id": str(number), "join_time": "x"} for number in range(4)]
        mocked.get(PEOPLE, json={"participants": rows[:2], "next_page_token": "T1"})
        mocked.get(
            PEOPLE, json={"participants": [rows[1], rows[2], {**rows[2], "join_time": "y"}], "next_page_token": ""}
        )
        assert raw(zoom(client).participants("abc==", "past")) == [*rows[:3], {**rows[2], "join_time": "y"}]

    def test_a_list_that_begins_anew_forgets_what_came(self, client, mocked):
        mocked.get(PEOPLE, json={"participants": [{"user_id": "1", "leave_time": ""}], "next_page_token": "T1"})
        mocked.get(PEOPLE, json={"code": 300, "message": "The next page token is invalid or expired."}, status=400)
        mocked.get(PEOPLE, json={"participants": [{"user_id": "1", "leave_time": "z"}], "next_page_token": ""})
        assert raw(zoom(client).participants("abc==", "past")) == [{"user_id": "1", "leave_time": "z"}]

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
        mocked.get(NOBODY, json={"code": 3001, "message": "Meeting does not exist."}, status=404)
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
        mocked.get(NOBODY, json={"code": 3001, "message": "Meeting does not exist."}, status=404)
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
        with pytest.raises(PutOffError, match="calls for the day") as caught:
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
        assert [[(row.uuid, row.host_id) for row in page_.rows] for page_ in pages] == [
            [("a", "u1")],
            [("b", "u1")],
            [],
            [("c", "u3")],
        ]
        assert [page_.next_token for page_ in pages] == ["u1 T1", "u2", "u3", ""]
        for token, uuids in [("u3", ["c"]), ("u2", ["c"])]:
            again = list(one.meetings(DAY, DAY, "past", token=token))
            assert [row.uuid for page_ in again for row in page_.rows] == uuids

    def test_with_pseudonyms_nothing_that_is_stored_names_a_host(self, client, mocked):
        def pseudonym(name):
            return name if name.startswith("p-") else f"p-{'cab'['123'.index(name[1])]}"

        client.set("uaharvest:zoom:account:source", "report")
        users = [{"id": name, "email": name} for name in ("u3", "u1", "u2")]
        mocked.get(USERS, json={**ECHO, "users": users, "next_page_token": ""})
        mocked.get(f"{USERS}/u2/meetings", json=page(meeting("b"), token="T1"))
        mocked.get(f"{USERS}/u2/meetings", json=page(meeting("b2")))
        mocked.get(f"{USERS}/u3/meetings", json=page(meeting("c")))
        mocked.get(f"{USERS}/u1/meetings", json={"code": 200, "message": "x"}, status=400)
        one = zoom(client, pseudonym=pseudonym)
        pages = list(one.meetings(DAY, DAY, "past"))
        assert [[(row.uuid, row.host_id) for row in page_.rows] for page_ in pages] == [
            [("b", "u2")],
            [("b2", "u2")],
            [("c", "u3")],
            [],
        ]
        assert [page_.next_token for page_ in pages] == ["p-a T1", "p-b", "p-c", ""]
        assert pages[-1].refused.id == "p-c"
        (again,) = one.meetings_of("p-b", DAY, DAY, "past")
        assert (again.uuid, again.host_id) == ("c", "u3")
        assert one.meetings_of("p-z", DAY, DAY, "past") == []

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
        assert (got.host, got.email, got.participants, got.has_recording) == ("Jill", "j@x", 3, True)
        assert (got.duration, got.has_pstn, got.user_type) == (None, None, None)
        joined = {"name": "Jo", "user_email": "jo@x", "user_id": "1", "duration": 259, "bo_mtg_id": "b"}
        mocked.get(
            f"{BASE}report/meetings/abc%3D%3D/participants", json={"participants": [joined], "next_page_token": ""}
        )
        (got,) = zoom(client).participants("abc==", "past")
        assert got.raw == {"user_name": "Jo", "email": "jo@x", "user_id": "1", "duration": 259, "bo_mtg_id": "b"}

    @pytest.mark.parametrize("source", ["dashboard", "report"])
    def test_rows_that_are_no_objects_are_kept(self, client, mocked, source):
        if source == "report":
            client.set("uaharvest:zoom:account:source", "report")
            mocked.get(USERS, json={**ECHO, "users": [{"id": "u1"}], "next_page_token": ""})
        people = PEOPLE if source == "dashboard" else f"{BASE}report/meetings/abc%3D%3D/participants"
        mocked.get(LIST if source == "dashboard" else f"{USERS}/u1/meetings", json=page(meeting("a"), None, ["b"]))
        mocked.get(people, json={"participants": [{"user_id": "1"}, None, "x"], "next_page_token": ""})
        (only,) = listed(client)
        assert ([row.uuid for row in only.rows], raw(only.rows)[1:]) == (["a", None, None], [None, ["b"]])
        found = zoom(client).participants("abc==", "past")
        assert [(row.user_id, row.raw) for row in found][1:] == [(None, None), (None, "x")]

    def test_participants_too_learn_that_there_is_no_dashboard(self, client, mocked):
        """Not from one meeting: others and the list say so too."""
        for url in (PEOPLE, NOBODY, LIST):
            mocked.get(url, json=NO_DASHBOARD, status=400)
        mocked.get(
            f"{BASE}report/meetings/abc%3D%3D/participants", json={"participants": [], "next_page_token": ""}
        )
        assert raw(zoom(client).participants("abc==", "past")) == []
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


def test_an_id_that_utf8_cannot_hold_is_encoded_all_the_same():
    assert encoded("a\ud800") == "a%ED%A0%80"


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
        assert row.raw["path"] == f"/v2/metrics/meetings/{sent}/participants"


class TestAtSimulator:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls):
        with stack.zoom_simulator("--meetings", "650", "--page-overlap", "2") as server:
            yield server

    @pytest.fixture
    def fresh(self, server):
        requests.delete(f"{server.url}/_sim/faults", timeout=60).raise_for_status()
        self.change(server, plan="business", scope=[], **{"one-token": False, "page-token-seconds": 900})
        requests.post(f"{server.url}/_sim/reset-requests", timeout=60).raise_for_status()
        return server

    @pytest.fixture
    def at(self, client, fresh):
        return zoom_client(self.read(fresh), client)

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
        requests.post(f"{server.url}/_sim/options", json=options, timeout=60).raise_for_status()

    @staticmethod
    def asked(server):
        return requests.get(f"{server.url}/_sim/requests", timeout=60).json()

    @staticmethod
    def truth(server):
        return requests.get(f"{server.url}/_sim/truth", timeout=60).json()

    def past(self, server):
        """Those that have ended: shortly after midnight a long one of yesterday may be in progress."""
        return [one for one in self.truth(server)["meetings"] if one["state"] == "past"]

    def all_of(self, at):
        yesterday = at.now().date() - timedelta(days=1)
        return {kind: list(at.meetings(yesterday, yesterday, kind)) for kind in KINDS}

    def test_every_past_meeting_is_listed_once_with_the_least_calls(self, at, fresh):
        pages, truth = self.all_of(at), self.truth(fresh)
        for kind in KINDS:
            expected = sorted(
                one["uuid"] for one in truth["meetings"] if one["type"] == kind and one["state"] == "past"
            )
            assert sorted(row.uuid for page_ in pages[kind] for row in page_.rows) == expected
        asked = self.asked(fresh)
        assert asked["endpoints"].get("meetings") <= truth["least_calls"]["meetings"] + 1  # pages overlap
        assert asked["tokens"] == 1

    def test_participants_of_all_sorts_of_uuids_and_sizes_are_complete(self, at, fresh):
        truth = self.past(fresh)
        twice = [one for one in truth if one["uuid"].startswith("/") or "//" in one["uuid"]]
        odd = [*twice[:3], *(one for one in truth if "/" in one["uuid"] and one not in twice)][:6]
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
        one = self.past(fresh)[0]
        at.participants(one["uuid"], one["type"])
        at._api._pause = lambda _: pytest.fail("there is another token at once")
        requests.post(f"{fresh.url}/_sim/revoke", timeout=60).raise_for_status()
        at.participants(one["uuid"], one["type"])
        at.participants(one["uuid"], one["type"])
        assert self.asked(fresh)["tokens"] == 2

    def test_without_the_dashboard_reports_give_the_same_meetings(self, client):
        with stack.zoom_simulator(
            "--meetings", "60", "--people", "6", "--plan", "pro", "--limit", "heavy=40/s"
        ) as server:
            at, truth = zoom_client(self.read(server), client), self.truth(server)["meetings"]
            known = {one["uuid"]: one for one in truth if one["host_id"] and one["state"] == "past"}
            found = {
                row.uuid: (kind, row.host_id, row.email)
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
        one = self.past(fresh)[0]
        order = {"kind": kind, "endpoint": "participants", "times": 1}
        requests.post(f"{fresh.url}/_sim/faults", json=order, timeout=60).raise_for_status()
        at._api._pause = lambda _: None
        assert len(at.participants(one["uuid"], one["type"])) == one["distinct"]

    def test_a_scope_in_broken_json_is_named(self, at, fresh):
        order = {"kind": "bad-quotes", "endpoint": "meetings", "times": 1}
        requests.post(f"{fresh.url}/_sim/faults", json=order, timeout=60).raise_for_status()
        with pytest.raises(BlockedError, match="scope dashboard:read:list_meetings:admin"):
            self.all_of(at)

    def test_the_quota_is_not_exceeded_as_the_server_counts_it(self, client):
        arguments = ["--meetings", "20", "--plan", "business", "--limit", "heavy=10/s", "--latency-ms", "20"]
        with stack.zoom_simulator(*arguments) as server:
            uuid = next(one["uuid"] for one in self.past(server) if one["type"] == "past")
            quota = Quota(client, "account", "pro")
            login = zoom_login(self.read(server), client)
            tight = Zoom(client, f"{server.url}/v2", login, quota, account="account", pool_size=6)
            failures = []

            def work():
                for _ in range(6):
                    try:
                        tight.participants(uuid, "past")
                    except PutOffError as error:
                        failures.append(error)

            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            heavy = self.asked(server)["labels"]["Heavy"]
        assert failures == []  # six wait for ten a second: each gets its turn
        assert (heavy["refused"], heavy["calls"]) == (0, 36)
        assert heavy["peak"] <= 10
        assert quota.calls(datetime.now(UTC).date()) == {Label.HEAVY: 36}

    def test_a_day_that_is_used_up_costs_one_call_and_goes_on_when_zoom_says(self, client):
        with stack.zoom_simulator("--meetings", "20", "--limit", "heavy=5/day") as server:
            uuid = next(one["uuid"] for one in self.past(server) if one["type"] == "past")
            at = zoom_client(self.read(server), client)
            self.change(server, **{"day-ends-in": 6})
            for _ in range(5):
                at.participants(uuid, "past")
            for _ in range(3):
                with pytest.raises(PutOffError, match="calls for the day are used up") as caught:
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
        assert isinstance(zoom_client(read, client)._api._login, Gateway)

    def test_nothing_at_all_names_what_is_wanted(self, client):
        with pytest.raises(BadInputError, match="ZOOM_ACCOUNT_ID, ZOOM_KEY, ZOOM_SECRET"):
            zoom_client(settings.load({}), client)

    def test_two_kinds_of_authorization_are_refused(self, client):
        read = settings.load({"ZOOM_HEADER": "Authorization: x", "ZOOM_KEY": "k", "ZOOM_SECRET": "s"})
        with pytest.raises(BadInputError, match="ZOOM_HEADER is Authorization"):
            zoom_client(read, client)


def people_of(uuid):
    return f"{BASE}metrics/meetings/{uuid}/participants"


ROWS = {"participants": [{"user_id": "1"}], "next_page_token": "", "total_records": 1}
REFUSALS = [
    {"status": 403, "body": "<html>Forbidden</html>"},
    {"status": 404, "body": "<html>Not found</html>"},
    {"status": 400, "json": {"message": "Bad request"}},
    {"status": 400, "body": ""},
    {"status": 403, "json": []},
    {"status": 451, "json": {"error": "x"}},
    {"status": 400, "json": {"code": 200, "message": "No permission."}},
    {"status": 400, "json": {"code": 300, "message": "Validation Failed."}},
    {"status": 400, "json": {"code": 4711, "message": "scopes:[a:b]."}},
    {"status": 301, "headers": {"Location": "https://api-us.zoom.example/v2/x"}},
]


class TestScope:
    """A refusal is judged where it was given: others are asked first."""

    @pytest.fixture(params=REFUSALS, ids=str)
    def refusal(self, request):
        return request.param

    def test_a_meeting_that_is_refused_alone_is_poison(self, client, mocked, refusal):
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), **refusal)
        one = zoom(client)
        assert raw(one.participants("good", "past")) == [{"user_id": "1"}]
        with pytest.raises(PoisonError, match="answers for others"):
            one.participants("bad", "past")
        assert mocked.calls[-1].request.params == {"type": "past", "page_size": "1"}
        assert one.source() == "dashboard"

    def test_the_meetings_of_the_list_are_asked_where_none_was_answered_yet(self, client, mocked, refusal):
        mocked.get(LIST, json=page(meeting("bad"), meeting("b"), meeting("good")))
        for uuid in ("bad", "b"):
            mocked.get(people_of(uuid), **refusal)
        mocked.get(people_of("good"), json=ROWS)
        one = zoom(client)
        list(one.meetings(DAY, DAY, "past"))
        with pytest.raises(PoisonError, match="answers for others"):
            one.participants("bad", "past")

    def test_what_is_refused_of_all_meetings_blocks(self, client, mocked, refusal):
        mocked.get(
            LIST, json=page(meeting("bad"), meeting("b"), meeting("c"))
        )  # there is a Dashboard, the list says
        for uuid in ("bad", "b", "c"):
            mocked.get(people_of(uuid), **refusal)
        one = zoom(client)
        list(one.meetings(DAY, DAY, "past"))
        with pytest.raises(BlockedError):
            one.participants("bad", "past")
        assert one.source() == "dashboard"

    def test_one_meeting_in_all_is_judged_by_one_that_there_is_not(self, client, mocked, refusal):
        mocked.get(people_of("bad"), **refusal)
        mocked.get(NOBODY, status=404, json={"code": 3001, "message": "Meeting does not exist."})
        with pytest.raises(PoisonError, match="answers for others"):
            zoom(client).participants("bad", "past")

    def test_others_are_not_asked_again_for_every_meeting(self, client, mocked):
        mocked.get(people_of("good"), json=ROWS)
        for number in range(20):
            mocked.get(people_of(f"bad{number}"), status=403, body="<html>")
        one = zoom(client)
        one.participants("good", "past")
        for number in range(20):
            with pytest.raises(PoisonError):
                one.participants(f"bad{number}", "past")
        assert len(mocked.calls) == 1 + 20 + 1
        other = zoom(client)  # another worker knows it too
        with pytest.raises(PoisonError):
            other.participants("bad0", "past")
        assert len(mocked.calls) == 1 + 20 + 1 + 1

    def test_a_meeting_that_fails_alone_is_its_own_fault_and_one_that_fails_with_others_an_outage(
        self, client, mocked
    ):
        mocked.get(people_of("bad"), status=500, body="<html>")
        good = mocked.get(people_of("good"), json=ROWS)
        one = zoom(client, pauses=[])
        one.participants("good", "past")
        with pytest.raises(SourceError, match="500"):
            one.participants("bad", "past")
        mocked.replace("GET", people_of("good"), status=503)
        client.delete(*client.keys("*:neutral:*"))
        with pytest.raises(RetryableError, match="no other meeting") as caught:
            one.participants("bad", "past")
        assert not isinstance(caught.value, SourceError)
        assert good.call_count == 2

    def test_a_meeting_whose_token_is_refused_again_and_again_is_poison_while_others_are_answered(
        self, client, mocked
    ):
        mocked.post("https://zoom.example.edu/token", json={"access_token": "eyJ", "expires_in": 3599})
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), status=401, json={"code": 124, "message": "Invalid access token."})
        login = ServerToServer(
            client, "https://zoom.example.edu/token", account_id="a", key="k", secret="s", place="account"
        )
        one = zoom(client, login=login)
        one.participants("good", "past")
        with pytest.raises(PoisonError, match="answers for others"):
            one.participants("bad", "past")
        assert raw(one.participants("good", "past")) == [{"user_id": "1"}]

    def test_quota_that_is_used_up_judges_nobody(self, client, mocked):
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), status=403, body="<html>")
        one = zoom(client)
        one.participants("good", "past")
        daily = {"X-RateLimit-Type": "Daily-limit", "Retry-After": "7200"}
        mocked.replace("GET", people_of("good"), status=429, json={"code": 429}, headers=daily)
        with pytest.raises(PutOffError):
            one.participants("bad", "past")

    def test_a_429_of_one_meeting_again_and_again_is_that_meetings(self, client, mocked):
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), status=429, json={"code": 429}, headers={"Retry-After": "3600"})
        one = zoom(client, quota=Unlimited(), pauses=[])
        one.participants("good", "past")
        for _ in range(MOST_THROTTLED):
            with pytest.raises(TooManyCallsError):
                one.participants("bad", "past")
        with pytest.raises(PoisonError, match="429 for it 10 times in a row, each time right after it answered"):
            one.participants("bad", "past")
        mocked.replace("GET", people_of("bad"), json=ROWS)
        assert raw(one.participants("bad", "past")) == [{"user_id": "1"}]
        assert not client.keys("*throttled*")

    def test_a_429_of_all_meetings_is_no_meetings_however_often(self, client, mocked):
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), status=429, json={"code": 429})
        one = zoom(client, quota=Unlimited(), pauses=[])
        one.participants("good", "past")
        mocked.replace("GET", people_of("good"), status=429, json={"code": 429})
        for _ in range(3 * MOST_THROTTLED):
            with pytest.raises(TooManyCallsError):
                one.participants("bad", "past")

    def test_a_404_without_a_code_of_all_meetings_is_no_meeting_that_is_missing(self, client, mocked):
        for url in (PEOPLE, NOBODY):
            mocked.get(url, json={}, status=404)
        with pytest.raises(BlockedError, match="ZOOM_API_URL"):
            zoom(client).participants("abc==", "past")

    def test_a_meeting_that_moved_to_the_other_list_is_found_there(self, client, mocked):
        def answer(request):
            missing = request.params["type"] == "pastOne"
            return (404, {}, json.dumps({"code": 3001})) if missing else (200, {}, json.dumps(ROWS))

        mocked.add_callback(responses.GET, people_of("both"), answer)
        assert raw(zoom(client).participants("both", "pastOne")) == [{"user_id": "1"}]

    def test_a_meeting_without_participants_in_its_list_is_looked_for_in_the_other(self, client, mocked):
        def answer(request):
            nobody = request.params["type"] == "past"
            return (200, {}, json.dumps({"participants": [], "total_records": 0} if nobody else ROWS))

        mocked.add_callback(responses.GET, people_of("both"), answer)
        assert raw(zoom(client).participants("both", "past")) == [{"user_id": "1"}]

    def test_a_redirect_names_its_host_and_no_credentials(self, client, mocked):
        mocked.get(
            LIST, status=301, headers={"Location": "https://api-us.zoom.example/v2/metrics/meetings?x=jill"}
        )
        with pytest.raises(BlockedError, match=r"301.*ZOOM_API_URL.*https://api-us.zoom.example") as caught:
            listed(client)
        assert "ZOOM_KEY" not in str(caught.value)
        assert "jill" not in str(caught.value)

    @pytest.mark.parametrize("endpoint", [LIST, PEOPLE, BASE, USERS, f"{USERS}/u1/meetings"])
    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_no_redirect_is_followed_wherever_it_is_answered(self, client, endpoint, status):
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            mock.get(endpoint, status=status, headers={"Location": "https://elsewhere.example.edu/"})
            elsewhere = mock.get("https://elsewhere.example.edu/", json=ROWS)
            mock.get(USERS, json={**ECHO, "users": [{"id": "u1"}]})
            mock.get(NOBODY, status=301, headers={"Location": "https://elsewhere.example.edu/"})
            asking = {
                LIST: lambda one: list(one.meetings(DAY, DAY, "past")),
                PEOPLE: lambda one: one.participants("abc==", "past"),
                BASE: lambda one: one.now(),
                USERS: lambda one: one.host_ids(DAY, DAY),
                f"{USERS}/u1/meetings": lambda one: one.meetings_of("u1", DAY, DAY, "past"),
            }[endpoint]
            with pytest.raises((BlockedError, SourceError, PoisonError)):
                asking(zoom(client, pauses=[]))
            assert elsewhere.call_count == 0

    def test_zooms_own_words_are_shown_of_the_account_and_never_of_a_person(self, client, mocked):
        words = "Seu plano nao permite isto, jill@example.edu (abc123)."
        mocked.get(LIST, status=400, json={"code": 300, "message": words})
        with pytest.raises(BlockedError, match="Zoom: Seu plano nao permite isto, … …") as caught:
            listed(client)
        assert "jill" not in str(caught.value)
        mocked.get(f"{USERS}/u1/meetings", status=400, json={"code": 200, "message": "Only for Paid user: Jill"})
        mocked.get(USERS, json={**ECHO, "users": [{"id": "u1"}]})
        with pytest.raises(PoisonError) as refused:
            zoom(client).meetings_of("u1", DAY, DAY, "past")
        assert "Jill" not in str(refused.value)


class TestHosts:
    @pytest.fixture
    def report(self, client):
        client.set("uaharvest:zoom:account:source", "report")

    @staticmethod
    def users(mocked, *names):
        mocked.get(USERS, json={**ECHO, "users": [{"id": name} for name in names], "next_page_token": ""})

    @pytest.mark.parametrize(
        "refusal",
        [
            *(one for one in REFUSALS if one["status"] != 404),
            {"status": 404, "body": "<html>"},
            {"status": 404, "json": {}},
            {"status": 500, "body": "<html>"},
            {"status": 200, "body": "<html>"},
            {"json": {**ECHO, "meetings": None, "total_records": 3}},
            {"json": {**ECHO, "meetings": [], "total_records": 3}},
            {"json": {**ECHO, "meetings": {"uuid": "x"}}},
        ],
        ids=str,
    )
    def test_one_that_is_refused_alone_holds_back_no_other(self, client, mocked, report, refusal):
        self.users(mocked, "u1", "u2", "u3")
        mocked.get(f"{USERS}/u1/meetings", json=page(meeting("a")))
        mocked.get(f"{USERS}/u2/meetings", **refusal)
        mocked.get(f"{USERS}/u3/meetings", json=page(meeting("c")))
        pages = listed(client, pauses=[])
        assert [row.uuid for one in pages for row in one.rows] == ["a", "c"]
        (refused,) = [one.refused for one in pages if one.refused]
        assert refused.id == "u2"
        assert "answers for others" in refused.reason
        assert pages[-1].next_token == ""

    @pytest.mark.parametrize("refusal", REFUSALS[:4] + REFUSALS[5:], ids=str)
    def test_what_is_refused_of_all_hosts_blocks(self, client, mocked, report, refusal):
        self.users(mocked, "u1", "u2")
        for name in ("u1", "u2"):
            mocked.get(f"{USERS}/{name}/meetings", **refusal)
        with pytest.raises(BlockedError):
            listed(client)

    @pytest.mark.parametrize("others", [["u1", "u3"], []])
    def test_one_for_which_zoom_answers_429_again_and_again_holds_back_no_other(
        self, client, mocked, report, others
    ):
        self.users(mocked, *sorted(["u2", *others]))
        for name in others:
            mocked.get(f"{USERS}/{name}/meetings", json=page(meeting(name)))
        mocked.get(f"{USERS}/u2/meetings", status=429, json={"code": 429})
        one = zoom(client, quota=Unlimited(), pauses=[])
        for _ in range(MOST_THROTTLED):
            with pytest.raises(TooManyCallsError):
                list(one.meetings(DAY, DAY, "past"))
        pages = list(one.meetings(DAY, DAY, "past"))
        assert [row.uuid for page_ in pages for row in page_.rows] == others
        (refused,) = [page_.refused for page_ in pages if page_.refused]
        assert refused.id == "u2"
        assert refused.reason.count("another") == 1
        with pytest.raises(PoisonError, match="429") as failed:
            one.meetings_of("u2", DAY, DAY, "past")
        assert isinstance(failed.value.__cause__, TooManyCallsError)

    def test_one_without_an_id_is_told_once_and_holds_back_no_other(self, client, mocked, report):
        users = [{"id": "u1"}, {"user_name": "Ann", "email": "ann@x.edu", "dept": ""}, "odd"]
        mocked.get(USERS, json={**ECHO, "users": users, "next_page_token": ""})
        mocked.get(f"{USERS}/u1/meetings", json=page(meeting("a")))
        one = zoom(client)
        pages = [page_ for kind in ("past", "pastOne") for page_ in one.meetings(DAY, DAY, kind)]
        assert [row.uuid for page_ in pages for row in page_.rows] == ["a", "a"]
        assert [host for page_ in pages for host in page_.hosts_without_id] == [
            {"host": "Ann", "email": "ann@x.edu"},
            {"host": None, "email": None},
        ]

    def test_the_only_host_is_judged_by_the_list_of_hosts(self, client, mocked, report):
        self.users(mocked, "u1")
        mocked.get(
            f"{USERS}/u1/meetings", status=400, json={"code": 200, "message": "Only available for Paid user"}
        )
        (only,) = listed(client)
        assert only.refused.id == "u1"

    def test_a_scope_that_is_missing_blocks_also_where_there_is_one_host(self, client, mocked, report):
        self.users(mocked, "u1")
        mocked.get(
            f"{USERS}/u1/meetings", status=400, json={"code": 4711, "message": "scopes:[report:read:user:admin]"}
        )
        with pytest.raises(BlockedError, match="report:read:user:admin"):
            listed(client)

    def test_an_outage_of_all_hosts_puts_off(self, client, mocked, report):
        self.users(mocked, "u1", "u2")
        for name in ("u1", "u2"):
            mocked.get(f"{USERS}/{name}/meetings", status=503)
        with pytest.raises(SourceError):
            listed(client, pauses=[])


class TestWhole:
    """A list is compared with its total, and ends."""

    @pytest.mark.parametrize(
        "body",
        [
            {"meetings": None, "total_records": 6},
            {"meetings": None},
            {"meetings": [], "total_records": 6},
            {"meetings": [{"uuid": "a"}], "total_records": 6},
            {"meetings": {"uuid": "a"}, "total_records": 1},
            {"meetings": "a"},
            {"meetings": 5},
            {"total_records": 0},
        ],
        ids=str,
    )
    def test_a_list_that_contradicts_itself_is_not_whole(self, client, mocked, body):
        mocked.get(LIST, json={**ECHO, "next_page_token": "", **body})
        with pytest.raises(SourceError):
            listed(client, pauses=[])

    def test_no_rows_and_a_total_of_0_is_an_empty_list(self, client, mocked):
        mocked.get(LIST, json={**ECHO, "meetings": None, "total_records": 0})
        assert listed(client)[0].rows == []

    def test_a_list_that_goes_on_from_a_token_knows_what_came_before(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), token="T1", total_records=3))
        mocked.get(LIST, json=page(meeting("b"), total_records=3))
        one = zoom(client)
        next(one.meetings(DAY, DAY, "past"))
        with pytest.raises(SourceError, match="gave 2 rows of a list that has 3"):
            list(zoom(client).meetings(DAY, DAY, "past", token="T1"))

    def test_rows_that_are_equal_or_on_two_pages_are_counted_as_zoom_counts(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), meeting("a"), meeting("b"), token="T1", total_records=4))
        mocked.get(LIST, json=page(meeting("b"), meeting("c"), total_records=4))
        assert len(listed(client)) == 2

    def test_hosts_without_a_token_are_read_by_the_number_of_their_page(self, client, mocked):
        """parsons #522: 70 users, 30 to a page, and no token."""
        users = [{"id": f"u{number}", "email": f"u{number}@x"} for number in range(70)]

        def answer(request):
            number = int(request.params.get("page_number", 1))
            rows = users[30 * (number - 1) : 30 * number]
            return (200, {}, json.dumps({**ECHO, "users": rows, "next_page_token": "", "total_records": 70}))

        mocked.add_callback(responses.GET, USERS, answer)
        assert len(zoom(client).host_ids(DAY, DAY)) == 70
        assert len(mocked.calls) == 3

    def test_hosts_that_stay_missing_are_no_whole_list(self, client, mocked):
        users = [{"id": f"u{number}", "email": f"u{number}@x"} for number in range(30)]
        mocked.get(USERS, json={**ECHO, "users": users, "next_page_token": "", "total_records": 70})
        with pytest.raises(SourceError, match="30 rows of a list that has 70"):
            zoom(client).host_ids(DAY, DAY)

    @pytest.mark.parametrize("total", [3, 0, None])
    @pytest.mark.parametrize("rows", ["same", "new", "none"])
    def test_a_list_that_does_not_end_is_given_up(self, client, mocked, total, rows):
        number = itertools.count()

        def answer(request):
            several = {"same": [meeting("a")], "new": [meeting(f"m{next(number)}")], "none": []}[rows]
            more = {} if total is None else {"total_records": total}
            return (200, {}, json.dumps(page(*several, token=f"T{next(number)}", **more)))

        mocked.add_callback(responses.GET, LIST, answer)
        one = zoom(client, quota=Unlimited())
        with pytest.raises(SourceError, match="does not end"):
            list(one.meetings(DAY, DAY, "past"))
        assert len(mocked.calls) <= {"same": 5, "none": 4, "new": 501 if total is None else 14}[rows]

    def test_a_list_that_does_not_end_is_given_up_also_where_it_goes_on_again_and_again(self, client, mocked):
        """As workers do where each minute has calls for some pages only."""
        number = itertools.count()

        def answer(request):
            return (200, {}, json.dumps(page(meeting("a"), token=f"T{next(number)}", total_records=3)))

        mocked.add_callback(responses.GET, LIST, answer)

        def read_on(token, pages=100):
            for _ in range(pages):
                one = zoom(client, quota=Unlimited())
                token = next(one.meetings(DAY, DAY, "past", token=token)).next_token

        with pytest.raises(SourceError, match="does not end"):
            read_on("")
        assert len(mocked.calls) <= 14

    def test_endless_participants_are_given_up(self, client, mocked):
        number = itertools.count()

        def answer(request):
            rows = {"participants": [{"user_id": "1"}], "next_page_token": f"T{next(number)}", "total_records": 1}
            return (200, {}, json.dumps(rows))

        mocked.add_callback(responses.GET, PEOPLE, answer)
        mocked.get(NOBODY, status=404, json={"code": 3001})
        with pytest.raises(SourceError, match="does not end"):
            zoom(client, pauses=[]).participants("abc==", "past")
        assert len(mocked.calls) <= 12

    def test_participants_say_how_many_came_and_how_many_there_are(self, client, mocked):
        row = {"user_id": "1"}
        mocked.get(PEOPLE, json={"participants": [row, row, {"user_id": "2"}], "total_records": 5})
        found = zoom(client).participants("abc==", "past")
        assert (len(found), found.came, found.total, found.source) == (2, 3, 5, "dashboard")

    def test_a_page_token_has_ended_in_any_language(self, client, mocked):
        mocked.get(LIST, json=page(meeting("a"), token="T1"))
        mocked.get(LIST, json={"code": 300, "message": "O token da próxima página expirou."}, status=400)
        mocked.get(LIST, json=page(meeting("b")))
        assert [[row.uuid for row in one.rows] for one in listed(client)] == [["a"], ["b"]]

    def test_an_answer_is_limited_in_size_and_time(self, client, mocked, monkeypatch):
        mocked.get(LIST, body=b" " * 33_000_000)
        with pytest.raises(SourceError, match="more than 32,000,000 bytes"):
            listed(client, pauses=[])
        mocked.stop()
        monkeypatch.setattr(api, "LONGEST_ANSWER", 0.3)
        with dripping() as url, pytest.raises(SourceError, match="end of its answer in time"):
            listed(client, base=f"{url}/")
        mocked.start()


class TestChoice:
    """Whether there is a Dashboard is for the list to say, and heals."""

    def test_a_200_of_one_meeting_is_that_meetings(self, client, mocked):
        mocked.get(people_of("good"), json=ROWS)
        mocked.get(people_of("bad"), json=NO_DASHBOARD, status=400)
        one = zoom(client)
        one.participants("good", "past")
        with pytest.raises(PoisonError):
            one.participants("bad", "past")
        assert client.get("uaharvest:zoom:account:source") is None

    def test_after_an_hour_the_next_list_asks_the_dashboard_again(self, client, mocked):
        client.set("uaharvest:zoom:account:source", "report", ex=86_400 - 3_601)
        mocked.get(LIST, json=page(meeting("a")))
        assert listed(client)[0].source == "dashboard"
        assert zoom(client).source() == "dashboard"

    def test_where_there_is_still_none_it_is_asked_once_an_hour(self, client, mocked):
        client.set("uaharvest:zoom:account:source", "report", ex=86_400 - 3_601)
        mocked.get(LIST, json=NO_DASHBOARD, status=400)
        mocked.get(USERS, json={**ECHO, "users": [], "next_page_token": ""})
        assert [listed(client)[0].source for _ in range(3)] == ["report"] * 3
        assert sum(call.request.url.startswith(LIST) for call in mocked.calls) == 1

    def test_a_person_can_have_it_asked_at_once(self, client, mocked):
        client.set("uaharvest:zoom:account:source", "report", ex=86_400)
        mocked.get(LIST, json=page(meeting("a")))
        one = zoom(client)
        assert one.forget_source()
        assert next(one.meetings(DAY, DAY, "past")).source == "dashboard"


class Unlimited:
    """Quotas that are never used up."""

    @contextlib.contextmanager
    def permit(self, label, *, patience):
        yield

    def answered(self, label, headers):
        pass

    def refused(self, label, headers, message):
        return datetime.now(UTC)
