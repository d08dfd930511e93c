"""Faults on order, and the troubles of the command line."""

import time
from datetime import UTC, datetime

import pytest
import requests

UNTIL = datetime(2026, 11, 20, 16, tzinfo=UTC)
PATH = "/usertracking/actions.json"


@pytest.fixture
def simulator(shared):
    found = shared("--rows", 50, "--until", UNTIL.isoformat(), "--zone", "UTC")
    found.get(PATH)  # logged in: from here on one request is one request
    yield found
    found.control("DELETE", "faults")


def order(simulator, **fault):
    return simulator.control("POST", "faults", fault)


def statuses(simulator, number, path=PATH):
    return [simulator.get(path).status_code for _ in range(number)]


def test_a_status_fails_so_many_times(simulator):
    order(simulator, path="actions", kind="status", status=502, times=2)
    assert statuses(simulator, 3) == [502, 502, 200]


def test_a_fault_hits_only_its_kind_of_path(simulator):
    order(simulator, path="search", kind="status")
    assert statuses(simulator, 1) == [200]
    assert statuses(simulator, 1, "/search/episode.json") == [503]
    assert statuses(simulator, 1, "/workflow/instances.json") == [200]
    order(simulator, path="any", kind="status", status=500)
    assert statuses(simulator, 1, "/workflow/instances.json") == [500]


def test_a_share_hits_some(simulator):
    order(simulator, path="actions", kind="status", share=0.5)
    assert 20 < statuses(simulator, 100).count(503) < 80
    simulator.control("DELETE", "faults")
    assert set(statuses(simulator, 20)) == {200}


def test_a_login_page_comes_with_200(simulator):
    order(simulator, path="actions", kind="html", times=1)
    answer = simulator.get(PATH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html;charset=utf-8")


def test_a_connection_is_dropped_without_an_answer(simulator):
    order(simulator, path="actions", kind="drop", times=1)
    with pytest.raises(requests.ConnectionError):
        simulator.get(PATH)
    assert statuses(simulator, 1) == [200]


def test_a_body_is_cut_short_of_its_length(simulator):
    order(simulator, path="actions", kind="truncate", times=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        simulator.get(PATH)
    assert statuses(simulator, 1) == [200]


def test_invalid_json_comes_as_a_whole_answer(simulator):
    order(simulator, path="actions", kind="invalid-json", times=1)
    answer = simulator.get(PATH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()


def test_slow_delays_a_right_answer_and_stands_beside_other_faults(simulator):
    order(simulator, path="actions", kind="slow", seconds=0.2, times=2)
    order(simulator, path="actions", kind="status", times=1)
    begin = time.monotonic()
    assert statuses(simulator, 2) == [503, 200]
    assert time.monotonic() - begin >= 0.4


def test_one_poisonous_second_spoils_every_range_that_touches_it(simulator):
    poison = UNTIL.timestamp() - 1800
    order(simulator, path="actions", kind="status", between=[poison, poison + 0.999])

    def status(start, end):
        return simulator.get(PATH, start=f"20261120{start}", end=f"20261120{end}").status_code

    assert status("150000", "152959") == 200
    assert status("152959", "153000") == 503
    assert status("153000", "153000") == 503
    assert status("150000", "160000") == 503
    assert status("153001", "160000") == 200
    assert statuses(simulator, 1) == [503]
    assert statuses(simulator, 1, "/search/episode.json") == [200]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "explode"}, "kind: expected one of status, html, drop, slow, truncate, invalid-json"),
        ({"kind": "drop", "path": "zoom"}, "path: expected one of actions, search, workflow, any"),
        ({"kind": "drop", "share": "all"}, "share: expected a number of at least 0, got 'all'"),
        ({"kind": "drop", "between": 5}, "between: expected two epoch seconds, got 5"),
        ({"kind": "drop", "time": 5}, "time: no such member of a fault"),
    ],
)
def test_a_bad_order_is_refused_with_what_was_expected(simulator, fault, said):
    answer = requests.post(f"{simulator.url}/_sim/faults", json=fault, timeout=60)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_the_service_answers_503_while_it_starts_but_can_be_controlled(start):
    simulator = start("--rows", 10, "--start-503-seconds", 1000)
    assert simulator.get(PATH).status_code == 503
    assert simulator.control("GET", "requests")["actions"] == 1
    simulator.control("POST", "clock", {"offset_seconds": 999 - 60})
    assert simulator.get(PATH).status_code == 503
    simulator.control("POST", "clock", {"offset_seconds": 1000})
    assert simulator.get(PATH).status_code == 200


def test_latency_grows_with_the_offset(start):
    simulator = start("--rows", 10, "--latency-ms", 50, "--latency-per-10k-offset-ms", 100)
    simulator.get(PATH)

    def seconds(**parameters):
        begin = time.monotonic()
        simulator.get(PATH, **parameters)
        return time.monotonic() - begin

    assert seconds() >= 0.05
    assert seconds(offset=20_000) >= 0.25
