"""/metrics: what each type shows, which window a list covers, which fields and units rows have."""

import re
from collections import defaultdict
from datetime import datetime

import pytest

DAY, NEXT = "2026-11-20", "2026-11-21"


def error(answer):
    return answer.status_code, answer.json()["code"]


def echo(page):
    return page["from"], page["to"]


def named(zoom, kind, number=0):
    """A meeting of a kind, as its list tells it, and its participants."""
    uuid, type_ = zoom.of_kind(kind)[number]["uuid"], zoom.of_kind(kind)[number]["type"]
    row = next(row for row in zoom.meetings(type_)["meetings"] if row["uuid"] == uuid)
    return row, zoom.rows(uuid, type_)


# What a type shows


def test_past_leaves_out_those_with_one_person_and_past_one_has_only_these(zoom):
    truth = zoom.truth()["meetings"]
    assert zoom.uuids("past") == {meeting["uuid"] for meeting in truth if meeting["people"] > 1}
    assert zoom.uuids("pastOne") == {meeting["uuid"] for meeting in truth if meeting["people"] == 1}


def test_who_alone_came_twice_has_two_rows_and_is_still_alone(zoom):
    row, rows = named(zoom, "alone-again")
    assert row["participants"] == len(rows) == 2
    assert len({row["user_id"] for row in rows}) == len({row["participant_uuid"] for row in rows}) == 2


def test_the_default_type_is_live(zoom):
    live = zoom.ok("/metrics/meetings")["meetings"]
    assert len(live) == 2
    assert not {"end_time", "duration"} & live[0].keys()
    assert error(zoom.get("/metrics/meetings", type="all")) == (400, 300)


def test_who_is_still_in_a_live_meeting_has_no_leave_time(start):
    zoom = start("--meetings", 0, "--live", 1)
    (meeting,) = zoom.ok("/metrics/meetings")["meetings"]
    zoom.control("PATCH", "meetings", {"uuid": meeting["uuid"], "sessions": [
        {"join_ms": 1, "leave_ms": 1000}, {"join_ms": 1, "leave_ms": 9_000_000_000_000},
        {"join_ms": 9_000_000_000_000, "leave_ms": 9_000_000_000_000},
    ]})  # fmt: skip
    gone, there = zoom.rows(meeting["uuid"], "live")
    assert gone["leave_time"] == "1970-01-01T00:00:01Z"
    assert "leave_time" not in there
    assert there["leave_reason"] == ""


@pytest.mark.parametrize("path", ["", "/participants"])
def test_asked_for_with_another_type_a_meeting_is_not_there(zoom, path):
    uuids = {"past": zoom.of_kind("plus")[0]["uuid"], "pastOne": zoom.of_kind("alone")[0]["uuid"]}
    uuids["live"] = zoom.ok("/metrics/meetings")["meetings"][0]["uuid"]
    for right, uuid in uuids.items():
        encoded = uuid.replace("/", "%252F").replace("+", "%252B")
        for type_ in ("live", "past", "pastOne", None):
            answer = zoom.get(f"/metrics/meetings/{encoded}{path}", **({"type": type_} if type_ else {}))
            if (type_ or "live") == right:
                assert answer.status_code == 200
            else:
                assert error(answer) == (404, 3001)
                assert answer.json()["message"] == "This meeting's details are not available."


# Windows


def test_a_window_is_of_whole_utc_days_or_of_seconds(zoom):
    starts = {row["start_time"] for row in zoom.meetings()["meetings"]} - {""}
    assert {start[:10] for start in starts} == {DAY}
    middle = sorted(starts)[len(starts) // 2]
    text = middle.replace("T", " ").rstrip("Z")
    first = zoom.meetings(to=text)
    rest = zoom.meetings(from_=text)
    both = [row["start_time"] for row in (first["meetings"] + rest["meetings"])]
    assert both.count(middle) == 2  # both ends are inclusive
    assert set(both) - {""} == starts
    assert echo(first) == (DAY, text)


def test_a_meeting_over_midnight_is_of_its_start_or_of_its_end_day(zoom):
    uuid = zoom.of_kind("midnight")[0]["uuid"]
    assert uuid in zoom.uuids()
    assert uuid not in zoom.uuids(from_=NEXT, to=NEXT)
    assert uuid not in zoom.uuids(query_date_type="end_time")
    assert uuid in zoom.uuids(from_=NEXT, to=NEXT, query_date_type="end_time")


@pytest.mark.parametrize("day", ["2026-11-2", "2026-1-02", "2026-11-20 9:00:00"])
def test_a_date_without_its_zeros_finds_nothing(zoom, day):
    page = zoom.meetings(from_=day)
    assert page["meetings"] == []
    assert page["total_records"] == 0


def test_a_window_of_more_than_a_month_loses_its_beginning(zoom):
    assert echo(zoom.meetings(from_="2026-09-05", to="2026-11-10")) == ("2026-10-10", "2026-11-10")
    assert echo(zoom.meetings(from_="2026-10-10", to="2026-11-10")) == ("2026-10-10", "2026-11-10")
    assert echo(zoom.meetings(from_="2026-09-01", to="2026-10-31")) == ("2026-09-30", "2026-10-31")


def test_an_end_in_the_future_is_pulled_back(zoom):
    page = zoom.meetings(to="2026-11-30")
    assert echo(page) == (DAY, "2026-11-22")
    assert zoom.meetings(to="2026-11-30 00:00:00")["to"].startswith("2026-11-22 12:")


def test_six_months_back_is_refused_or_empty(start):
    zoom = start("--meetings", 1)
    assert zoom.meetings(from_="2026-05-22", to="2026-06-01")["from"] == "2026-05-22"
    window = {"type": "past", "from_": "2026-05-21", "to": "2026-06-01"}
    assert error(zoom.get("/metrics/meetings", **window)) == (400, 300)
    zoom.set(old_windows="empty")
    assert zoom.ok("/metrics/meetings", **window)["meetings"] == []


@pytest.mark.parametrize(
    ("window", "field"),
    [
        ({"from_": DAY}, "to"),
        ({"to": DAY}, "from"),
        ({"from_": "yesterday", "to": DAY}, "from"),
        ({"from_": DAY, "to": "2026-11-31"}, "to"),
        ({"from_": NEXT, "to": DAY}, "from"),
    ],
)
def test_a_window_that_is_none_is_refused_with_the_field(zoom, window, field):
    answer = zoom.get("/metrics/meetings", type="past", **window)
    assert error(answer) == (400, 300)
    assert answer.json()["message"] == "Validation Failed."
    assert answer.json()["errors"][0]["field"] == field


def test_what_has_ended_is_visible_only_after_a_delay(start):
    zoom = start("--meetings", 0, "--delay-seconds", 600)
    uuid = zoom.control("POST", "meetings", {"start": "2026-11-22T11:00:00Z", "seconds": 3590})["uuid"]
    window = {"from_": "2026-11-22", "to": "2026-11-22"}
    assert zoom.uuids(**window) == zoom.uuids("live", **window) == set()
    assert error(zoom.participants(uuid)) == (404, 3001)
    assert zoom.truth(**{"from": "2026-11-22"})["meetings"][0]["state"] == "ended"
    zoom.advance(600)
    assert zoom.uuids(**window) == {uuid}
    assert len(zoom.rows(uuid)) == 2


def test_a_meeting_of_more_than_a_year_ago_is_refused(start):
    zoom = start("--meetings", 0)
    uuid = zoom.control("POST", "meetings", {"start": "2025-11-01T11:00:00Z"})["uuid"]
    answer = zoom.participants(uuid)
    assert error(answer) == (400, 12702)
    assert answer.json()["message"] == "Can not access a meeting a year ago."


# Rows


def test_durations_are_text_also_beyond_a_day(zoom):
    rows = {row["uuid"]: row for row in zoom.meetings()["meetings"]}
    durations = {kind: rows[zoom.of_kind(kind)[0]["uuid"]]["duration"] for kind in ("brief", "plus", "long")}
    assert durations == {"brief": "00:42", "plus": "45:00", "long": "26:00:05"}


def test_a_row_counts_rows_not_people_and_knows_no_host_id(zoom):
    truth = zoom.of_kind("waiting-room")[0]
    row, rows = named(zoom, "waiting-room")
    assert row["participants"] == len(rows) == truth["rows"] > truth["people"]
    assert "host_id" not in row
    assert row["email"] == truth["email"]
    assert row["user_type"] in ("Licensed", "Basic")


def test_the_detail_is_the_row_and_has_no_participants(zoom):
    row, _ = named(zoom, "breakouts")
    detail = zoom.ok(f"/metrics/meetings/{row['uuid'].replace('/', '%252F')}", type="past")
    assert detail == {**row, "has_meeting_summary": False}


def test_fields_that_are_given_on_request_only(zoom):
    uuid = zoom.of_kind("regular")[0]["uuid"]
    assert "tracking_fields" not in zoom.meetings()["meetings"][0]
    assert "tracking_fields" in zoom.meetings(include_fields="tracking_fields")["meetings"][0]
    assert "registrant_id" not in zoom.rows(uuid)[0]
    assert "registrant_id" in zoom.rows(uuid, include_fields="registrant_id")[0]


def test_a_defective_row_has_empty_times(zoom):
    row, rows = named(zoom, "defective")
    assert (row["start_time"], row["end_time"], row["duration"], row["participants"]) == ("", "", "", 0)
    assert [row["leave_time"] for row in rows].count("") == 1


def test_participants_have_no_duration_and_old_country_and_city_are_a_location(zoom):
    _, rows = named(zoom, "regular")
    assert not {"duration", "cn", "city", "country"} & rows[0].keys()
    assert {row["location"] for row in rows} <= {"United States", "San Jose (US)", "New York", "Cambridge (US)"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["join_time"]) for row in rows)


def test_a_rejoin_is_a_further_row_with_new_ids(zoom):
    rejoined = 0
    for uuid in zoom.uuids():
        joins = defaultdict(set)
        for row in zoom.rows(uuid):
            if row["id"] and not row["bo_mtg_id"]:  # some rows are repeated as they are
                joins[row["id"]].add((row["join_time"], row["user_id"], row["participant_uuid"]))
        for times, users, uuids in (zip(*rows, strict=True) for rows in joins.values() if len(rows) > 1):
            rejoined += 1
            assert len(set(times)) == len(set(users)) == len(set(uuids)) == len(times)
    assert rejoined, "nobody rejoined"


def test_the_waiting_room_and_breakout_rooms_are_rows_of_their_own(zoom):
    _, rows = named(zoom, "waiting-room")
    waiting = [row for row in rows if row["status"] == "in_waiting_room"]
    assert {row["leave_reason"] for row in waiting} == {
        "Leave waiting room.",
        "Removed by host from waiting room.",
    }
    _, rows = named(zoom, "breakouts")
    rooms = [row for row in rows if row["bo_mtg_id"]]
    assert len({row["bo_mtg_id"] for row in rooms}) == 2
    # Every room numbers its participants from the same number on.
    numbers = {
        room: {row["user_id"] for row in rows if row["bo_mtg_id"] == room}
        for room in {"", *(row["bo_mtg_id"] for row in rooms)}
    }
    assert all("16778240" in inside and len(inside) >= 4 for inside in numbers.values())
    main = {row["user_id"]: row for row in rows if not row["bo_mtg_id"]}
    assert any(row["user_name"] != main[row["user_id"]]["user_name"] for row in rooms)


def test_guests_have_neither_id_nor_address_nor_hardware(zoom):
    _, rows = named(zoom, "guests")
    guests = [row for row in rows if row["role"] != "host"]
    hidden = ("id", "participant_user_id", "email", "camera", "microphone", "speaker", "mac_addr", "domain")
    assert {row[name] for row in guests for name in hidden} == {""}
    assert [row["user_name"] for row in guests].count("iPhone") >= 2


def test_an_account_without_an_agreement_sees_no_names_or_addresses(zoom):
    _, rows = named(zoom, "masked")
    assert {row[name] for row in rows for name in ("user_name", "email", "ip_address", "location")} == {""}


def test_devices_addresses_and_dial_in(zoom):
    _, rows = named(zoom, "devices")
    devices = {row["device"] for row in rows}
    assert {"Phone", "Windows + Phone"} <= devices
    phone = next(row for row in rows if row["device"] == "Phone")
    assert phone["audio_call"][0]["call_number"].startswith("1202555")
    assert (phone["ip_address"], phone["network_type"]) == ("", "")
    assert any(row["ip_address"].startswith("2001:db8:") for row in rows)
    assert any(row["join_time"].endswith(".123Z") for row in rows)


def test_reasons_may_hold_html(zoom):
    reasons = {row["leave_reason"] for uuid in zoom.uuids() for row in zoom.rows(uuid)}
    assert any("<br>Reason: " in reason for reason in reasons)
    assert any("&lt;br&gt;Reason: " in reason for reason in reasons)


def test_rows_may_be_there_twice_to_the_letter(zoom):
    truth = zoom.of_kind("duplicates")[0]
    _, rows = named(zoom, "duplicates")
    assert len(rows) == truth["rows"] == truth["distinct"] + 2
    assert len({str(row) for row in rows}) == truth["distinct"]


def test_a_host_who_dropped_has_a_new_uuid_and_the_same_number(zoom):
    (first, _), (second, _) = named(zoom, "dropped", 0), named(zoom, "dropped", 1)
    assert first["id"] == second["id"]
    assert first["uuid"] != second["uuid"]
    gap = datetime.fromisoformat(second["start_time"]) - datetime.fromisoformat(first["end_time"])
    assert 0 < gap.total_seconds() <= 15 * 60


def test_recurring_meetings_and_personal_rooms_use_a_number_again(zoom):
    for kind in ("recurring", "personal-room"):
        assert len({meeting["id"] for meeting in zoom.of_kind(kind)}) == 1 < len(zoom.of_kind(kind))
