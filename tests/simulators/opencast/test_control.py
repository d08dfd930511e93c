"""The control interface, and the connections that everything goes through."""

import socket
import time

import pytest
import requests

PATH = "/usertracking/actions.json"


@pytest.fixture
def simulator(shared):
    return shared("--rows", 0)


def post(simulator, path, **options):
    return requests.post(f"{simulator.url}/_sim/{path}", timeout=60, **options)


def test_requests_are_counted_by_kind_challenges_included(start):
    simulator = start("--rows", 10)
    before = time.time()
    simulator.get(PATH, limit=3)
    simulator.get("/search/episode.json")
    simulator.get("/workflow/instances.json")
    simulator.get("/nothing")
    counted = simulator.control("GET", "requests")
    assert [counted[kind] for kind in ("actions", "search", "workflow", "other")] == [2, 1, 1, 1]
    assert counted["statuses"] == {"401": 1, "200": 3, "404": 1}
    assert [asked["status"] for asked in counted["actions_log"]] == [401, 200]
    assert counted["actions_log"][1]["query"] == {"limit": "3"}
    assert before <= counted["actions_times"][0] <= counted["actions_times"][1] <= time.time()
    simulator.control("POST", "reset-requests")
    counted = simulator.control("GET", "requests")
    assert counted["actions"] == 0
    assert counted["actions_log"] == []


def test_inserted_rows_say_what_they_were_told(simulator):
    told = {
        "created": 1_795_190_400,
        "id": 4711,
        "mediapackage": "24",
        "user": "007",
        "ip": None,
        "agent": "A/1",
        "session": "s1",
        "type": "SEEK",
        "inpoint": 30,
        "outpoint": 10,
        "playing": 2,
    }
    assert simulator.add(told) == [4711]
    [action] = simulator.actions(start="20261120110000", end="20261120110000")
    assert action == {
        "id": 4711,
        "mediapackageId": 24,
        "sessionId": {"sessionId": "s1", "userId": "007", "userAgent": "A/1"},
        "inpoint": 30,
        "outpoint": 10,
        "length": -20,
        "type": "SEEK",
        "isPlaying": 2,
        "created": "2026-11-20T11:00:00-05:00",
    }


def test_inserted_rows_find_their_place_however_many_they_are(start):
    simulator = start("--rows", 50, "--until", "1970-01-02T00:00:00Z", "--order", "created")
    simulator.add(*({"created": created} for created in range(86_300, 83_300, -3)))
    simulator.add({"created": 83_000}, {"created": 90_000})
    created = [action["created"] for action in simulator.actions()]
    assert len(created) == 1052
    assert created == sorted(created)


def test_ids_that_a_test_chose_are_not_given_out_again(start):
    simulator = start("--rows", 0)
    simulator.add(*({"created": 1000, "id": number} for number in range(1, 200, 2)))
    simulator.add(*({"created": 1000} for _ in range(150)))
    ids = simulator.ids()
    assert len(ids) == len(set(ids)) == 250


def test_the_truth_is_half_open_and_knows_fractions(start):
    simulator = start("--rows", 0, "--millis", "on")
    ids = simulator.add(*({"created": created} for created in (99.999, 100, 100.5, 109.999, 110)))
    assert simulator.control("GET", "truth", start=100, end=110) == {"ids": ids[1:4], "count": 3}
    assert simulator.truth(100.5, 110.001) == sorted(ids[2:])
    assert simulator.truth(100, 100) == []


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("rows", {"rows": 5}, "rows: expected a list of objects"),
        ("rows", {"rows": [{}]}, "created: expected a number"),
        ("rows", {"rows": [{"created": 1, "color": 1}]}, "color: no such member of a row"),
        ("rows", {"rows": [{"created": 1, "id": "x"}]}, "id: expected a whole number"),
        ("rows", {"rows": [{"created": 1, "user": 7}]}, "user: expected a string or null"),
        ("rows", {"rows": [{"created": 1, "playing": 3}]}, "playing: expected 0, 1 or 2"),
        ("rows", {"rows": [{"created": 1, "inpoint": 1.5}]}, "inpoint: expected a whole number"),
        ("rows", {"rows": [{"created": 1, "id": 9}, {"created": 1, "id": 9}]}, "id: the same one twice"),
        ("rows", {"rows": [{"created": 1e30}]}, ""),
        ("grow", {"ids": "all"}, "ids: expected a list of whole numbers"),
        ("clock", {}, "offset_seconds: expected a number"),
        ("clock", {"seconds": 1}, "seconds: expected only offset_seconds"),
        ("insert-while-reading", {"rows_per_request": -1}, "expected at least 0"),
        ("faults", [], "body: expected a JSON object"),
    ],
)
def test_bad_control_requests_are_refused_with_what_was_expected(simulator, path, body, said):
    answer = post(simulator, path, json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_an_id_is_given_once(simulator):
    simulator.add({"created": 1, "id": 12})
    assert post(simulator, "rows", json={"rows": [{"created": 1, "id": 12}]}).status_code == 400


def test_what_is_no_json_and_what_is_no_control_is_said(simulator):
    assert post(simulator, "clock", data="{").status_code == 400
    unknown = post(simulator, "nonsense")
    assert unknown.status_code == 404
    assert "POST /_sim/rows" in unknown.json()["controls"]
    assert simulator.control("GET", "")["controls"] == unknown.json()["controls"]
    assert requests.get(f"{simulator.url}/_sim/truth?start=x&end=1", timeout=60).status_code == 400


def test_the_clock_can_be_shifted(start):
    simulator = start("--rows", 0)
    shifted = simulator.control("POST", "clock", {"offset_seconds": 86_400})
    assert shifted["offset_seconds"] == 86_400
    assert shifted["now"] == pytest.approx(time.time() + 86_400, abs=30)


def exchange(simulator, sent):
    """Everything that the server answers to these bytes until it closes."""
    with socket.create_connection(simulator.url.removeprefix("http://").split(":"), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65_536):
            received += part
    return received


def test_a_connection_is_kept_until_the_client_wants_it_closed(simulator):
    again = b"GET /login.html HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /login.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = exchange(simulator, again + last)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.count(b"Connection: close\r\n") == 1


def test_what_is_not_http_is_a_bad_request(simulator):
    assert exchange(simulator, b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    nonsense = b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n"
    assert exchange(simulator, nonsense).startswith(b"HTTP/1.1 400 ")
