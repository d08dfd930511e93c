"""Pages: their size, the tokens that lead from one to the next, and what these are bound to."""

import pytest

ENDED = (400, {"code": 300, "message": "The next page token is invalid or expired."})
DAY = "2026-11-20"


def answer(zoom, **parameters):
    got = zoom.get("/metrics/meetings", **{"type": "past", "from_": DAY, "to": DAY, **parameters})
    return got.status_code, got.json()


def pages(zoom, **parameters):
    """All pages of the main list."""
    found, token = [], None
    while token != "":
        found.append(zoom.meetings(**parameters, **({"next_page_token": token} if token else {})))
        token = found[-1]["next_page_token"]
    return found


def test_pages_follow_each_other_to_an_empty_token_and_a_constant_total(zoom):
    everything = [row["uuid"] for row in zoom.meetings()["meetings"]]
    found = pages(zoom, page_size=10)
    assert [row["uuid"] for page in found for row in page["meetings"]] == everything
    count = len(everything)
    assert {(page["page_size"], page["page_count"], page["total_records"]) for page in found} == {(10, 3, count)}
    assert [bool(page["next_page_token"]) for page in found] == [True, True, False]


def test_the_default_size_is_30(zoom):
    uuid = zoom.of_kind("large")[0]["uuid"]
    page = zoom.ok(f"/metrics/meetings/{uuid.replace('/', '%252F')}/participants", type="past")
    assert (len(page["participants"]), page["page_size"], page["page_count"]) == (30, 30, 24)


def test_700_participants_are_three_pages(zoom):
    meeting = zoom.of_kind("large")[0]
    rows = zoom.rows(meeting["uuid"])
    assert len({row["participant_uuid"] for row in rows}) == meeting["rows"] == 700
    assert zoom.requests()["meetings"] == {meeting["uuid"]: 3}


@pytest.mark.parametrize("size", ["0", "301", "many", "-1"])
def test_a_page_size_is_from_1_to_300(zoom, size):
    status, body = answer(zoom, page_size=size)
    assert (status, body["code"], body["errors"][0]["field"]) == (400, 300, "page_size")
    assert answer(zoom, page_size="1")[0] == answer(zoom, page_size="300")[0] == 200


@pytest.mark.parametrize(
    "other",
    [{"type": "pastOne"}, {"to": "2026-11-21"}, {"page_size": 9}, {"include_fields": "tracking_fields"}],
)
def test_a_token_is_bound_to_its_parameters(zoom, other):
    token = zoom.meetings(page_size=10)["next_page_token"]
    good = {"page_size": 10, "next_page_token": token}
    assert answer(zoom, **{**good, **other}) == ENDED
    assert answer(zoom, **good)[0] == 200


def test_a_token_is_bound_to_its_meeting(zoom):
    large, other = zoom.of_kind("large")[0]["uuid"], zoom.of_kind("breakouts")[0]["uuid"]
    token = zoom.participants(large).json()["next_page_token"]
    got = zoom.participants(other, next_page_token=token)
    assert (got.status_code, got.json()) == ENDED


def test_a_page_can_be_asked_for_again(zoom):
    token = zoom.meetings(page_size=10)["next_page_token"]
    again = [zoom.meetings(page_size=10, next_page_token=token)["meetings"] for _ in range(2)]
    assert again[0] == again[1]


def test_a_token_ends_after_its_life(start):
    zoom = start("--page-token-seconds", 100)
    token = zoom.meetings(page_size=10)["next_page_token"]
    zoom.advance(50)
    following = zoom.meetings(page_size=10, next_page_token=token)["next_page_token"]
    zoom.advance(51)
    assert answer(zoom, page_size=10, next_page_token=token) == ENDED
    assert answer(zoom, page_size=10, next_page_token=following)[0] == 200


def test_made_up_tokens_are_refused(zoom):
    assert answer(zoom, next_page_token="Tva2CuIdTgsv8wAnhyAdU3m06Y2HuLQtlh3") == ENDED


def test_pages_may_repeat_rows(zoom):
    zoom.set(page_overlap=2)
    try:
        found = [row["uuid"] for page in pages(zoom, page_size=10) for row in page["meetings"]]
    finally:
        zoom.set(page_overlap=0)
    everything = [row["uuid"] for row in zoom.meetings()["meetings"]]
    assert len(found) > len(everything)
    assert list(dict.fromkeys(found)) == everything


def test_a_list_is_as_it_was_when_it_was_begun(start):
    zoom = start("--meetings", 12, *("--limit", "resource-intensive=1000/s"))
    first = zoom.meetings(page_size=5)
    zoom.control("POST", "meetings", {"start": f"{DAY}T23:59:00Z"})
    second = zoom.meetings(page_size=5, next_page_token=first["next_page_token"])
    assert second["total_records"] == first["total_records"]
    assert not {row["uuid"] for row in first["meetings"]} & {row["uuid"] for row in second["meetings"]}
    assert zoom.meetings()["total_records"] == first["total_records"] + 1


def test_page_numbers_are_still_taken_where_they_were(zoom):
    window = {"from_": DAY, "to": DAY, "page_size": 3}
    first = zoom.ok("/report/users", **window)
    by_token = zoom.ok("/report/users", **window, next_page_token=first["next_page_token"])
    by_number = zoom.ok("/report/users", **window, page_number=2)
    assert by_token["users"] == by_number["users"] != first["users"]
    assert first["page_number"] == 1
    assert by_token["page_number"] == by_number["page_number"] == 2
