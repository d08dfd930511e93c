"""What accounts without the Dashboard have, and the units that differ from it."""

from urllib.parse import quote

import pytest

DAY = "2026-11-20"
WINDOW = {"from_": DAY, "to": DAY, "page_size": 300}


def error(answer):
    return answer.status_code, answer.json()["code"]


def name(uuid):
    return quote(quote(uuid, safe=""), safe="")


def test_report_users_are_those_who_hosted_and_join_hosts_to_ids(zoom):
    report = zoom.ok("/report/users", **WINDOW)
    truth = zoom.truth()["meetings"]
    ids = {user["email"]: user["id"] for user in report["users"]}
    assert ids == {meeting["email"]: meeting["host_id"] for meeting in truth if meeting["host_id"]}
    listed = [meeting for meeting in truth if meeting["host_id"]]
    assert report["total_meetings"] == sum(user["meetings"] for user in report["users"]) == len(listed)
    assert report["total_participants"] == sum(meeting["rows"] for meeting in listed)
    assert (report["from"], report["to"]) == (DAY, DAY)


def test_who_has_left_the_account_hosts_no_more(zoom):
    meeting = zoom.of_kind("former-host")[0]
    assert meeting["host_id"] is None
    row = next(row for row in zoom.meetings()["meetings"] if row["uuid"] == meeting["uuid"])
    assert row["email"] == meeting["email"]
    everybody = [user["email"] for user in zoom.ok("/users", page_size=300)["users"]]
    assert meeting["email"] not in everybody
    assert error(zoom.get(f"/report/users/{meeting['email']}/meetings", **WINDOW)) == (404, 1001)
    # The one place that still knows.
    assert zoom.ok(f"/past_meetings/{name(meeting['uuid'])}")["host_id"]


def test_inactive_users_are_the_others(zoom):
    active = {user["id"] for user in zoom.ok("/report/users", **WINDOW)["users"]}
    inactive = {user["id"] for user in zoom.ok("/report/users", type="inactive", **WINDOW)["users"]}
    everybody = {user["id"] for user in zoom.ok("/users", page_size=300)["users"]}
    assert not active & inactive
    assert active | inactive == everybody


def test_reports_take_days_only(zoom):
    answer = zoom.get("/report/users", from_=f"{DAY} 10:00:00", to=DAY)
    assert (error(answer), answer.json()["errors"][0]["field"]) == ((400, 300), "from")


def test_the_meetings_of_a_user_are_those_with_two_people_or_with_one(zoom):
    for type_ in ("past", "pastOne"):
        for host in {meeting["host_id"] for meeting in zoom.truth()["meetings"]} - {None}:
            rows = zoom.ok(f"/report/users/{host}/meetings", type=type_, **WINDOW)["meetings"]
            expected = [meeting for meeting in zoom.truth()["meetings"] if meeting["host_id"] == host]
            assert {row["uuid"] for row in rows} == {
                meeting["uuid"] for meeting in expected if meeting["type"] == type_
            }
    assert error(zoom.get("/report/users/nobody/meetings", **WINDOW)) == (404, 1001)


def test_reports_count_in_minutes_and_seconds_and_name_people_otherwise(zoom):
    meeting = zoom.of_kind("long")[0]
    report = zoom.ok(f"/report/meetings/{name(meeting['uuid'])}")
    assert report["duration"] == 26 * 60 + 1
    assert (report["participants_count"], report["user_email"]) == (meeting["rows"], meeting["email"])
    assert not {"host_id", "participants"} & report.keys()
    rows = zoom.ok(f"/report/meetings/{name(meeting['uuid'])}/participants", page_size=300)["participants"]
    assert max(row["duration"] for row in rows) == 26 * 3600 + 5
    dashboard = {row["participant_uuid"]: row for row in zoom.rows(meeting["uuid"])}
    assert [row["name"] for row in rows] == [row["user_name"] for row in dashboard.values()]
    assert not {"ip_address", "device", "location", "network_type", "user_name", "email"} & rows[0].keys()
    by_host = zoom.ok(f"/report/users/{meeting['host_id']}/meetings", **WINDOW)["meetings"]
    row = next(row for row in by_host if row["uuid"] == meeting["uuid"])
    assert row["duration"] == 26 * 60 + 1
    assert row["join_time"] == "11/20/2026 00:10"


def test_participants_of_a_meeting_of_one_are_in_no_report(zoom):
    uuid = name(zoom.of_kind("alone")[0]["uuid"])
    assert error(zoom.get(f"/report/meetings/{uuid}/participants")) == (404, 3001)
    assert zoom.get(f"/report/meetings/{uuid}").status_code == 200


def test_durations_of_a_big_meeting_are_zero_at_first(start):
    zoom = start("--meetings", 0)
    posted = zoom.control("POST", "meetings", {"start": "2026-11-22T11:00:00Z", "seconds": 3590, "people": 301})
    path = f"/report/meetings/{name(posted['uuid'])}/participants"
    assert {row["duration"] for row in zoom.ok(path)["participants"]} == {0}
    zoom.advance(600)
    assert 0 not in {row["duration"] for row in zoom.ok(path)["participants"]}


def test_history_is_of_the_whole_account(zoom):
    rows = zoom.ok("/report/history_meetings", **WINDOW)["history_meetings"]
    truth = zoom.truth()["meetings"]
    assert {row["meeting_uuid"]: row["participants"] for row in rows} == {
        meeting["uuid"]: meeting["rows"] for meeting in truth
    }
    later = zoom.ok("/report/history_meetings", from_="2026-11-21", to="2026-11-21", date_type="end_time")
    midnight = {meeting["uuid"] for meeting in truth if meeting["kind"] in ("midnight", "long")}
    assert {row["meeting_uuid"] for row in later["history_meetings"]} == midnight


def test_past_meetings_are_light_and_know_the_host_id(zoom):
    meeting = zoom.of_kind("breakouts")[0]
    answer = zoom.get(f"/past_meetings/{name(meeting['uuid'])}")
    assert answer.headers["X-RateLimit-Category"] == "Light"
    assert answer.json()["host_id"] == meeting["host_id"]
    assert answer.json()["duration"] == 60
    live = zoom.ok("/metrics/meetings")["meetings"][0]["uuid"]
    assert error(zoom.get(f"/past_meetings/{name(live)}")) == (404, 3001)


def test_scheduled_meetings_are_those_that_are_not_over(zoom):
    live = zoom.ok("/metrics/meetings")["meetings"][0]
    users = {user["email"]: user for user in zoom.ok("/users", page_size=300)["users"]}
    path = f"/users/{users[live['email']]['id']}/meetings"
    (row,) = [row for row in zoom.ok(path)["meetings"] if row["uuid"] == live["uuid"]]
    assert (row["host_id"], row["duration"]) == (users[live["email"]]["id"], 60)
    past = {row["uuid"] for row in zoom.ok(path, type="previous_meetings", page_size=300)["meetings"]}
    assert past == {meeting["uuid"] for meeting in zoom.truth()["meetings"] if meeting["email"] == live["email"]}
    assert zoom.ok(path, type="upcoming")["meetings"] == []
    assert error(zoom.get(path, type="nonsense")) == (400, 300)


def test_who_may_not_host_is_3161_and_there_is_no_me(zoom):
    users = zoom.ok("/users", page_size=300)["users"]
    answers = [zoom.get(f"/users/{user['id']}/meetings") for user in users]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert [error(answer) for answer in refused] == [(400, 3161)]
    assert error(zoom.get("/users/me/meetings")) == (404, 1001)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/metrics/meetings", "Resource-intensive"),
        ("/metrics/meetings/x", "Heavy"),
        ("/metrics/meetings/x/participants", "Heavy"),
        ("/report/users", "Heavy"),
        ("/report/users/x/meetings", "Heavy"),
        ("/report/meetings/x", "Heavy"),
        ("/report/meetings/x/participants", "Heavy"),
        ("/report/history_meetings", "Heavy"),
        ("/past_meetings/x", "Light"),
        ("/users", "Medium"),
        ("/users/x/meetings", "Medium"),
    ],
)
def test_each_endpoint_has_its_label_and_its_scope(zoom, shared, path, label):
    assert zoom.get(path).headers["X-RateLimit-Category"] == label
    without = shared("--scope", "nothing:read", "--meetings", 1, "--limit", "heavy=1000/s")
    answer = without.get(path)
    assert error(answer) == (400, 4711)
    assert answer.headers["X-RateLimit-Category"] == label
