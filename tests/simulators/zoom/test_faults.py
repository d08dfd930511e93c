"""Faults on order."""

import time

import pytest
import requests

DAY = "2026-11-20"
MAIN = {"type": "past", "from_": DAY, "to": DAY}


def main(zoom, **parameters):
    return zoom.get("/metrics/meetings", **{**MAIN, **parameters})


def test_a_share_of_calls_answers_with_a_page_of_html(zoom):
    zoom.order(kind="status", status=502, share=0.5)
    answers = [main(zoom, page_size=1) for _ in range(40)]
    failed = [answer for answer in answers if answer.status_code == 502]
    assert 5 < len(failed) < 35
    assert {answer.headers["Content-Type"] for answer in failed} == {"text/html;charset=utf-8"}
    assert all(answer.json()["meetings"] for answer in answers if answer.status_code == 200)
    assert zoom.requests()["statuses"]["502"] == len(failed)
    assert failed[0].headers["X-RateLimit-Category"] == "Resource-intensive"
    assert "x-zm-trackingid" in failed[0].headers


def test_a_fault_strikes_so_many_times_and_only_its_endpoint(zoom):
    zoom.order(kind="status", endpoint="meetings", times=2)
    assert zoom.get("/users").status_code == 200
    assert [main(zoom).status_code for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "error", "code": 3001}, 404, 3001),
        ({"kind": "error", "code": 3161}, 400, 3161),
        ({"kind": "error", "code": 1010}, 400, 1010),
        ({"kind": "error", "code": 300, "status": 200}, 200, 300),
    ],
)
def test_one_meeting_answers_with_an_error_for_ever(zoom, fault, status, code):
    bad, good = (zoom.of_kind(kind)[0]["uuid"] for kind in ("slash", "plus"))
    zoom.order(uuid=bad, **fault)
    for _ in range(2):
        answer = zoom.participants(bad)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json().keys() == {"code", "message"}
    assert zoom.participants(good).status_code == 200


def test_one_meeting_answers_500_for_ever(zoom):
    uuid = zoom.of_kind("slash-alone")[0]["uuid"]
    zoom.order(uuid=uuid, kind="status")
    assert [zoom.participants(uuid, "pastOne").status_code for _ in range(3)] == [500] * 3


def test_a_list_that_is_read_on_loses_its_token(zoom):
    token = main(zoom, page_size=5).json()["next_page_token"]
    zoom.order(kind="page-token", endpoint="meetings", times=1)
    assert main(zoom, page_size=5).status_code == 200
    answer = main(zoom, page_size=5, next_page_token=token)
    assert answer.json() == {"code": 300, "message": "The next page token is invalid or expired."}
    assert main(zoom, page_size=5, next_page_token=token).status_code == 200


def test_a_refused_scope_may_be_json_that_is_none(zoom):
    zoom.order(kind="bad-quotes", endpoint="meetings", times=1)
    answer = main(zoom)
    assert answer.status_code == 400
    assert answer.text == (
        '{"code":104,"message":"Invalid access token, does not contain scopes:'
        '["dashboard:read:list_meetings:admin"]"}'
    )
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_json_that_breaks_off(zoom):
    zoom.order(kind="invalid-json", times=1)
    answer = main(zoom)
    assert answer.status_code == 200
    assert answer.text.startswith('{"from":')
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_a_body_that_is_cut_and_a_connection_that_is_dropped(zoom):
    zoom.order(kind="truncate", times=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        main(zoom)
    zoom.order(kind="drop", times=1)
    with pytest.raises(requests.ConnectionError):
        main(zoom)
    assert zoom.requests()["statuses"] == {"200": 1, "0": 1}


def test_slow_answers(zoom):
    zoom.order(kind="slow", seconds=0.2, times=1)
    begun = time.monotonic()
    assert main(zoom).status_code == 200
    assert time.monotonic() - begun >= 0.2


def test_the_token_endpoint_fails_too(zoom):
    zoom.order(kind="status", status=503, endpoint="token", times=1)
    assert [zoom.token().status_code for _ in range(2)] == [503, 200]


def test_faults_use_up_quota(start):
    zoom = start("--limit", "resource-intensive=2/1000s", "--fault", '{"kind": "status", "endpoint": "meetings"}')
    assert [main(zoom).status_code for _ in range(3)] == [500, 500, 429]


def test_a_fault_at_the_start_strikes_and_can_be_dropped(start):
    zoom = start("--fault", '{"kind": "status", "endpoint": "users", "status": 502}')
    assert zoom.get("/users").status_code == 502
    zoom.control("DELETE", "faults")
    assert zoom.get("/users").status_code == 200
