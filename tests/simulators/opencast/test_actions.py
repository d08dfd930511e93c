"""GET /usertracking/actions.json: parameters, bounds, typing, order, and a table that moves."""

from datetime import UTC, datetime, timedelta

import pytest

UNTIL = datetime(2026, 11, 20, 16, tzinfo=UTC)
ARGUMENTS = ("--until", UNTIL.isoformat(), "--rows", 2000)
PATH = "/usertracking/actions.json"


@pytest.fixture
def dce(shared):
    return shared(*ARGUMENTS)


@pytest.fixture
def stock(shared):
    return shared(*ARGUMENTS, "--profile", "stock")


def local(seconds_before_until):
    return (UNTIL - timedelta(hours=5, seconds=seconds_before_until)).strftime("%Y%m%d%H%M%S")


# -- limit and offset


@pytest.mark.parametrize("given", [{}, {"limit": 0}, {"limit": ""}])
def test_no_limit_is_ten(dce, given):
    page = dce.page(**given)
    assert (page["limit"], len(page["action"])) == ("10", 10)


def test_total_offset_and_limit_are_echoed(dce):
    page = dce.page(limit=5, offset=1990)
    assert (page["total"], page["offset"], page["limit"]) == ("2000", "1990", "5")


def test_there_is_no_maximum_limit(dce):
    assert len(dce.page(limit=1_000_000_000)["action"]) == 2000


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"limit": -1}, 400),
        ({"offset": -1}, 400),
        ({"limit": "abc"}, 404),
        ({"limit": "1_0"}, 404),
        ({"offset": "1.5"}, 404),
        ({"offset": 2**31}, 404),
        ({"day": "2014"}, 500),
        ({"day": "2014-01-01"}, 500),
        ({"day": "20149999"}, 200),
        ({"day": ""}, 200),
        ({"nonsense": "1"}, 200),
        ({"start": "20261120"}, 500),
        ({"end": "20261399000000"}, 500),
        ({"end": "2026112016000x"}, 500),
    ],
)
def test_bad_parameters_get_the_status_of_the_real_server(dce, given, status):
    assert dce.get(PATH, **given).status_code == status


def test_html_is_not_acceptable(dce):
    assert dce.session.get(dce.url + PATH, headers={"Accept": "text/html"}, timeout=60).status_code == 406


def test_only_get_is_allowed(dce):
    assert dce.session.post(dce.url + PATH, timeout=60).status_code == 405


# -- shape


def test_action_is_absent_an_object_or_an_array(dce):
    assert "action" not in dce.page(offset=5000)
    assert dce.page(offset=5000)["total"] == "2000"
    assert isinstance(dce.page(limit=1)["action"], dict)
    assert isinstance(dce.page(limit=2)["action"], list)


def test_dce_writes_attributes_as_strings_and_escapes_slashes(dce):
    answer = dce.get(PATH, limit=50)
    assert '"total":"2000"' in answer.text
    assert "Mozilla\\/5.0" in answer.text
    assert dce.page(limit=1)["action"]["isPlaying"] in (0, 1, 2)


def test_stock_writes_numbers_plain_slashes_and_booleans(stock):
    answer = stock.get(PATH, limit=50)
    assert '"total":2000,"offset":0,"limit":50' in answer.text
    assert "Mozilla/5.0" in answer.text
    assert all(isinstance(action["isPlaying"], bool) for action in answer.json()["actions"]["action"])


# -- start, end, day, type, id


def test_start_and_end_are_local_and_inclusive(start):
    simulator = start("--rows", 0)
    epoch = int(UNTIL.timestamp())
    simulator.add(*({"created": epoch + second, "id": 100 + second} for second in range(-2, 5)))
    assert simulator.ids(start=local(0), end=local(-2)) == [100, 101, 102]
    assert simulator.ids(start=local(-3)) == [103, 104]
    assert simulator.ids(end=local(1)) == [98, 99]
    assert simulator.ids(start=local(-2), end=local(0)) == []


def test_a_window_agrees_with_the_truth(dce):
    epoch = int(UNTIL.timestamp())
    assert dce.ids(start=local(600), end=local(301)) == dce.truth(epoch - 600, epoch - 300)


def test_stock_ignores_start_and_end_and_answers_with_the_whole_table(stock):
    assert stock.page(start=local(10), end=local(5))["total"] == 2000
    assert stock.get(PATH, start="nonsense").status_code == 200


def test_type_matches_without_case_and_id_counts_only_with_it(dce):
    plays = dce.actions(type="play")
    assert plays
    assert {action["type"] for action in plays} == {"PLAY"}
    mediapackage = plays[0]["mediapackageId"]
    both = dce.actions(type="PLAY", id=mediapackage)
    assert {action["mediapackageId"] for action in both} == {mediapackage}
    assert dce.page(id=mediapackage)["total"] == "2000"
    assert dce.actions(type="PLAY", id=mediapackage, day="20250101") == both
    assert dce.actions(type="PLAY", day="20250101") == []
    assert len(dce.actions(type="PLAY", start=local(600), end=local(300))) < len(plays)


def test_a_day_begins_and_ends_at_the_second_of_the_clock(start):
    simulator = start("--rows", 0, "--zone", "UTC", "--millis", "on")
    midnight = int(UNTIL.timestamp()) // 86400 * 86400
    seconds = {0: "first", 10: "ten", 59.9: "sixty", 86340: "last minute", 86350: "its ten", 86399: "last"}
    ids = dict(zip(seconds.values(), simulator.add(*({"created": midnight + s} for s in seconds)), strict=True))

    def day_read_at(second):
        real = simulator.control("POST", "clock", {"offset_seconds": 0})["now"]
        # The request may take seconds before it matters.
        simulator.control("POST", "clock", {"offset_seconds": 60 * 10**6 + second - real % 60})
        found = simulator.ids(day="20261120")
        return {name for name, row in ids.items() if row in found}

    assert day_read_at(5) == {"ten", "sixty", "last minute"}
    assert day_read_at(55) == {"sixty", "last minute", "its ten"}


def test_a_lenient_day_is_another_day(start):
    simulator = start("--rows", 0, "--zone", "UTC")
    simulator.add({"created": UNTIL.timestamp(), "id": 7})
    assert simulator.ids(day="20261020 and 31 days") == []
    assert simulator.ids(day="20261051") == [7]
    assert simulator.ids(day="20251120") == []
    assert simulator.ids(day="20252320") == [7]


@pytest.mark.parametrize("wall_time", ["on", "off"])
def test_both_passes_of_a_repeated_hour(start, wall_time):
    simulator = start("--rows", 0, "--zone", "America/New_York", "--wall-time", wall_time)
    first = datetime(2026, 11, 1, 5, 30, tzinfo=UTC).timestamp()
    simulator.add({"created": first, "id": 1}, {"created": first + 3600, "id": 2})
    bounds = {"start": "20261101013000", "end": "20261101013000"}
    created = {action["id"]: action["created"] for action in simulator.actions()}
    assert created[2] == "2026-11-01T01:30:00-05:00"
    if wall_time == "on":
        assert created[1] == created[2]
        assert simulator.ids(**bounds) == [1, 2]
        assert simulator.truth(first, first + 1) == []
        assert simulator.truth(first + 3600, first + 3601) == [1, 2]
    else:
        assert created[1] == "2026-11-01T01:30:00-04:00"
        assert simulator.ids(**bounds) == [2]
        assert simulator.ids(start="20261101005959", end="20261101013000") == [1, 2]
        assert simulator.truth(first, first + 1) == [1]


# -- order


def test_rows_come_shuffled_unless_an_order_is_asked_for(shared):
    def by(order):
        actions = shared(*ARGUMENTS, "--order", order).actions()
        return [action["created"] for action in actions], [action["id"] for action in actions]

    created, ids = by("shuffled")
    assert created != sorted(created)
    assert ids != sorted(ids)
    created, ids = by("created")
    assert created == sorted(created)
    assert ids != sorted(ids)
    created, ids = by("id")
    assert ids == sorted(ids)
    assert created != sorted(created)


@pytest.mark.parametrize("total", [0, 1, 2, 3, 10, 97, 1000])
def test_shuffled_pages_of_an_unmoved_table_fit_together(total):
    from simulators.opencast.table import shuffled  # noqa: PLC0415

    dealt = [row for offset in range(0, total + 7, 7) for row in shuffled(range(total), offset, 7, "salt")]
    assert sorted(dealt) == list(range(total))


def test_paging_by_offset_loses_rows_when_rows_come_in_between(start):
    simulator = start(*ARGUMENTS)
    before = set(simulator.ids())
    seen = []
    for offset in range(0, 2000, 500):
        seen += [action["id"] for action in simulator.page(limit=500, offset=offset)["action"]]
        simulator.add({"created": UNTIL.timestamp() - 1800})
    assert len(seen) == 2000
    assert len(before - set(seen)) > 0
    assert len(set(seen)) < 2000


# -- a table that is written to


def test_rows_are_inserted_between_the_count_and_the_page(start):
    simulator = start("--rows", 100, "--until", UNTIL.isoformat())
    simulator.control("POST", "insert-while-reading", {"rows_per_request": 5, "back_seconds": 10})
    page = simulator.page(limit=1000, start=local(3600), end=local(0))
    assert page["total"] == "100"
    assert len(page["action"]) == 105
    epoch = int(UNTIL.timestamp())
    assert len(simulator.truth(epoch - 10, epoch)) >= 5
    assert simulator.page(start=local(3600), end=local(0))["total"] == "105"
    simulator.control("POST", "insert-while-reading", {"rows_per_request": 0})
    assert simulator.page()["total"] == simulator.page()["total"] == "110"


def test_rows_can_be_deleted(start):
    simulator = start("--rows", 0)
    one, two, three = simulator.add(*({"type": kind, "created": 1000} for kind in ("PLAY", "FOOTPRINT", "PAUSE")))
    simulator.control("POST", "delete", {"ids": [one, two, 999]})
    assert [action["id"] for action in simulator.actions()] == [three]
    assert simulator.control("GET", "footprints") == {"seconds": {}}
    [four] = simulator.add({"created": 999})
    assert {action["id"] for action in simulator.actions()} == {three, four}


def test_footprints_grow_in_place(start):
    simulator = start("--rows", 0)
    footprint = {"type": "FOOTPRINT", "created": 1000, "inpoint": 10, "outpoint": 15}
    one, other, heartbeat = simulator.add(
        footprint, footprint, {"type": "HEARTBEAT", "created": 1000, "inpoint": 10, "outpoint": 10}
    )
    assert simulator.control("POST", "grow", {"seconds": 7, "ids": [one]}) == {"ids": [one], "count": 1}
    assert simulator.control("POST", "grow")["ids"] == [one, other]
    actions = {action["id"]: action for action in simulator.actions()}
    assert (actions[one]["outpoint"], actions[one]["length"]) == (27, 17)
    assert (actions[other]["outpoint"], actions[other]["length"]) == (20, 10)
    assert actions[heartbeat]["outpoint"] == 10
    assert actions[one]["created"] == "1969-12-31T19:16:40-05:00"


def test_live_rows_are_written_as_the_clock_goes(start):
    simulator = start("--rows", 0, "--live-rate", 1000, "--millis", "on")
    first = int(simulator.page(limit=1)["total"])
    now = simulator.control("POST", "clock", {"offset_seconds": 0})["now"]
    ids = simulator.truth(now - 60, now + 60)
    assert len(ids) >= first > 0
    later = simulator.control("POST", "clock", {"offset_seconds": 5000})["now"]
    simulator.page(limit=1)
    assert simulator.truth(now + 60, later - 1) == []
    assert len(simulator.truth(later - 1, later + 60)) > 0


def test_late_rows_become_visible_only_after_their_time(start):
    simulator = start("--rows", 0, "--live-rate", 500, "--late-share", 0.5, "--late-seconds", 1000)
    now = simulator.control("POST", "clock", {"offset_seconds": 0})["now"]
    while len(simulator.truth(now - 60, now + 500, all=1)) < 20:
        pass
    end = simulator.control("POST", "clock", {"offset_seconds": 500})["now"] - 400
    everything = simulator.truth(now - 60, end, all=1)
    visible = simulator.truth(now - 60, end)
    assert len(visible) == pytest.approx(len(everything) / 2, abs=1)
    simulator.control("POST", "clock", {"offset_seconds": 2000})
    assert simulator.truth(now - 60, end) == everything
    assert set(everything) <= set(simulator.ids())
