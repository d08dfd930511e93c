"""The control interface: what is true, what was asked, and how the world is changed."""

import pytest
import requests

import simulators.zoom

DAY = "2026-11-20"


def refused(zoom, method, path, body):
    answer = requests.request(method, f"{zoom.url}/_sim/{path}", json=body, timeout=60)
    assert answer.status_code == 400
    return answer.json()["error"]


def test_the_docstring_lists_every_control(zoom):
    for control in zoom.control("GET", "")["controls"]:
        method, path = control.split()
        assert any(line.split()[:2] == [method, path] for line in simulators.zoom.__doc__.splitlines()), control


def test_the_truth_is_what_can_be_read(zoom):
    truth = zoom.truth(sessions=1)
    assert truth["count"] == 30
    for meeting in truth["meetings"]:
        rows = zoom.rows(meeting["uuid"], meeting["type"])
        assert len(rows) == meeting["rows"]
        assert {(row["participant_uuid"], row["user_id"]) for row in rows} == {
            (participant, user) for participant, user, _ in meeting["sessions"]
        }
        assert len(meeting["sessions"]) == meeting["distinct"]
    assert truth["rows"] == sum(meeting["rows"] for meeting in truth["meetings"])


def test_the_least_calls_are_those_that_read_all_with_full_pages(zoom):
    zoom.control("POST", "reset-requests")
    for type_ in ("past", "pastOne"):
        zoom.meetings(type_)
    zoom.ok("/report/users", from_=DAY, to=DAY, page_size=300)
    for meeting in zoom.truth()["meetings"]:
        zoom.rows(meeting["uuid"], meeting["type"])
    assert zoom.requests()["endpoints"] == zoom.truth()["least_calls"]
    assert zoom.truth()["least_calls"]["participants"] == 30 + 2


def test_the_truth_is_of_days(start):
    zoom = start("--days", 3, "--meetings", 4)
    assert [zoom.truth(**{"from": day})["count"] for day in ("2026-11-17", "2026-11-18", DAY)] == [0, 4, 4]
    assert zoom.truth(**{"from": "2026-11-18", "to": DAY})["count"] == 12


def test_a_meeting_is_made_with_what_it_is_given(start):
    zoom = start("--meetings", 0)
    made = zoom.control(
        "POST",
        "meetings",
        {
            "start": f"{DAY}T10:00:00Z", "seconds": 90, "uuid": "/abcdefghijklmnopqrstA==", "id": 123456789,
            "topic": "Topic", "host": "host3@example.com", "sessions": [
                {"user_name": "Ada", "join_ms": 1_795_168_800_000, "leave_ms": 1_795_168_860_000},
                {"user_name": "", "ip_address": "", "location": ""},
            ],
        },
    )  # fmt: skip
    assert made == {"uuid": "/abcdefghijklmnopqrstA==", "id": 123456789, "rows": 2}
    (row,) = zoom.meetings()["meetings"]
    assert (row["topic"], row["email"], row["duration"], row["id"]) == (
        "Topic", "host3@example.com", "01:30", 123456789,
    )  # fmt: skip
    ada, nobody = zoom.rows(row["uuid"])
    assert (ada["user_name"], ada["join_time"], ada["leave_time"]) == (
        "Ada", "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z",
    )  # fmt: skip
    assert (nobody["user_name"], nobody["ip_address"], nobody["location"]) == ("", "", "")


def test_a_meeting_changes_and_goes(start):
    zoom = start("--meetings", 0)
    uuid = zoom.control("POST", "meetings", {"start": f"{DAY}T10:00:00Z", "defective": True})["uuid"]
    assert zoom.meetings()["meetings"][0]["duration"] == ""
    zoom.control("PATCH", "meetings", {"uuid": uuid, "defective": False, "more_people": 3, "seconds": 60})
    (row,) = zoom.meetings()["meetings"]
    assert (row["participants"], row["duration"]) == (5, "01:00")
    assert len({row["participant_uuid"] for row in zoom.rows(uuid)}) == 5
    zoom.control("DELETE", "meetings", {"uuid": uuid})
    assert zoom.meetings()["meetings"] == []


def test_a_meeting_may_come_late_on_its_own(start):
    zoom = start("--meetings", 0)
    made = {"start": "2026-11-22T10:00:00Z", "seconds": 60, "delay_seconds": 10_000}
    uuid = zoom.control("POST", "meetings", made)["uuid"]
    assert zoom.participants(uuid).status_code == 404
    zoom.control("PATCH", "meetings", {"uuid": uuid, "delay_seconds": 0})
    assert zoom.participants(uuid).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "meetings", {}, "start: expected an ISO time"),
        ("POST", "meetings", {"start": f"{DAY}T10:00:00Z", "nonsense": 1}, "nonsense: expected only"),
        ("POST", "meetings", {"start": f"{DAY}T10:00:00Z", "host": "nobody"}, "host: no user nobody"),
        (
            "POST",
            "meetings",
            {"start": f"{DAY}T10:00:00Z", "sessions": [{"x": 1}]},
            "x: no such member of a session",
        ),
        ("POST", "meetings", {"start": f"{DAY}T10:00:00Z", "sessions": 3}, "sessions: expected a list"),
        ("PATCH", "meetings", {"uuid": "none"}, "uuid: no meeting none"),
        ("DELETE", "meetings", {"uuid": "none"}, "uuid: no meeting none"),
        ("POST", "faults", {"kind": "nonsense"}, "kind: expected one of"),
        ("POST", "faults", {"kind": "error", "code": 999}, "code: expected one of"),
        ("POST", "faults", {"kind": "status", "endpoint": "x"}, "endpoint: expected one of"),
        ("POST", "faults", {"kind": "status", "uuid": 3}, "uuid: expected a string"),
        ("POST", "faults", {"kind": "status", "x": 3}, "x: no such member of a fault"),
        ("POST", "options", {"seed": 3}, "seed: no option that can be changed"),
        ("POST", "options", {"fault": []}, "fault: no option that can be changed"),
        ("POST", "options", {"plan": "gold"}, "--plan: invalid choice"),
        ("POST", "options", {"limit": ["heavy"]}, "--limit: expected LABEL=CALLS/PERIOD"),
        ("POST", "consume", {"label": "heavy"}, "label: expected one of Light, Medium"),
        ("POST", "clock", {}, "offset_seconds: expected a number"),
    ],
)
def test_bad_requests_are_refused_with_what_was_expected(zoom, method, path, body, expected):
    assert refused(zoom, method, path, body).startswith(expected)


def test_a_uuid_is_given_once(zoom):
    uuid = zoom.of_kind("plus")[0]["uuid"]
    assert (
        refused(zoom, "POST", "meetings", {"start": f"{DAY}T10:00:00Z", "uuid": uuid}) == f"uuid: {uuid} is taken"
    )


def test_a_bad_change_changes_nothing(zoom):
    uuid = zoom.of_kind("plus")[0]["uuid"]
    before = zoom.meetings()
    refused(zoom, "PATCH", "meetings", {"uuid": uuid, "topic": "New", "seconds": "many"})
    after = zoom.meetings()
    assert after["meetings"] == before["meetings"]


def test_an_unknown_control_lists_the_known_ones(zoom):
    answer = requests.get(f"{zoom.url}/_sim/nothing", timeout=60)
    assert answer.status_code == 404
    assert "GET /_sim/truth" in answer.json()["controls"]
