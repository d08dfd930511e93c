"""What a stock Opencast has beside pages: single rows, MariaDB's plans, and a log of how much was given."""

import pytest

ARGUMENTS = ("--profile", "stock", "--rows", 3000, "--span-seconds", 7200, "--until", "2026-11-20T20:00:00Z")
DAY = "20261120"


@pytest.fixture
def mariadb(start):
    return start(*ARGUMENTS, "--order", "mariadb")


def in_order(actions, member):
    values = [action[member] for action in actions]
    return values == sorted(values)


def test_one_action_is_found_by_its_id(shared):
    stock = shared(*ARGUMENTS)
    action = stock.actions(day=DAY)[0]
    assert stock.get(f"/usertracking/action/{action['id']}.json").json() == {"action": action}


@pytest.mark.parametrize(("row_id", "status"), [(10**9, 204), ("abc", 500)])
def test_an_action_that_is_not_there_is_no_content(shared, row_id, status):
    answer = shared(*ARGUMENTS).get(f"/usertracking/action/{row_id}.json")
    assert (answer.status_code, answer.content if status == 204 else b"") == (status, b"")


def test_the_whole_table_comes_by_id_and_a_day_mostly_by_time(mariadb):
    assert in_order(mariadb.actions(), "id")
    orders = [in_order(mariadb.actions(day=DAY), "created") for _ in range(14)]
    assert orders.count(False) == 2


def test_pages_of_a_day_miss_rows_though_nobody_writes_and_one_request_misses_none(mariadb):
    paged = set()
    total = mariadb.page(day=DAY, limit=1)["total"]
    for offset in range(0, total, 100):
        paged |= {action["id"] for action in mariadb.page(day=DAY, limit=100, offset=offset)["action"]}
    assert len(paged) < total
    assert len(mariadb.actions(day=DAY)) == total


def test_the_log_tells_how_much_was_given(mariadb):
    mariadb.page(limit=7)
    asked = mariadb.control("GET", "requests")["actions_log"][-1]
    assert asked["rows"] == 7
    assert asked["bytes"] > 7 * 200
