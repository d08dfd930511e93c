"""Meetings: the old fields and units, quirks of foreign rows, and what their sessions tell of them."""

import datetime as dt
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.zoom.generator import Generator, make_people
from simulators.zoom.rows import dashboard_participant, participant_rows, report_participant
from uaharvest.documents.meeting import attendance, fields, uuid
from uaharvest.documents.session import sessions
from uaharvest.intervals import union
from uaharvest.zoom.rows import read_meeting, read_participant, read_reported_participant

# Zoom's own sample; with end before start, as it is there.
SAMPLE = json.loads(
    '{"host":"Jill Chill","audio_quality":"good","custom_keys":[{"key":"Host Nation","value":"US"}],'
    '"dept":"Developers","duration":"00:56","email":"jchill@example.com","end_time":"2022-01-04T07:50:47Z",'
    '"has_3rd_party_audio":true,"has_archiving":true,"has_pstn":true,"has_recording":true,"has_screen_share":true,'
    '"has_sip":true,"has_video":true,"has_voip":true,"has_manual_captions":true,"has_automated_captions":true,'
    '"id":93201235621,"participants":2,"screen_share_quality":"good","session_key":"ABC36jaBI145","start_time":'
    '"2022-01-04T08:04:27Z","topic":"Share Now","tracking_fields":[{"field":"Meeting purpose.","value":"Support"}],'
    '"user_type":"Licensed","uuid":"gm8s9L+PTEC+FG3sFbd1Cw==","video_quality":"good","has_poll":false,"has_qa":false,'
    '"has_survey":false,"avg_jointime_cost":4.55}'
)
EIGHT = dt.datetime(2026, 11, 20, 8, tzinfo=dt.UTC)


def document(row, host_id):
    return fields(read_meeting(row), host_id)


def test_zooms_own_sample_has_the_old_fields_in_the_old_units_and_what_v2_adds():
    assert document(SAMPLE, "2pyjK5VNQHadb2BY6Z4GbA") == {
        "uuid": "gm8s9L+PTEC+FG3sFbd1Cw==",
        "meeting_series_id": "93201235621",
        "topic": "Share Now",
        "host": {
            "host_id": "2pyjK5VNQHadb2BY6Z4GbA",
            "name": "Jill Chill",
            "email": "jchill@example.com",
            "user_type": "Licensed",
        },
        "start_time": "2022-01-04T08:04:27Z",
        "end_time": "2022-01-04T07:50:47Z",
        "duration": 56,
        "participant_sessions": 2,
        "has_pstn": True,
        "has_voip": True,
        "has_3rd_party_audio": True,
        "has_video": True,
        "has_screen_share": True,
        "has_sip": True,
        "has_archiving": True,
        "has_manual_captions": True,
        "has_automated_captions": True,
        "has_poll": False,
        "has_qa": False,
        "has_survey": False,
        "recording": True,
        "dept": "Developers",
        "audio_quality": "good",
        "video_quality": "good",
        "screen_share_quality": "good",
        "avg_jointime_cost": 4.55,
        "tracking_fields": [{"field": "Meeting purpose.", "value": "Support"}],
        "custom_keys": [{"key": "Host Nation", "value": "US"}],
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"duration": "", "start_time": "2026-11-20T08:00:00Z", "end_time": "2026-11-21T10:00:00Z"}, 93600),
        ({"duration": "00:10", "start_time": "2026-11-20T08:00:00Z", "end_time": "2026-11-21T10:00:00Z"}, 10),
        ({"duration": "", "start_time": "2026-11-20T08:00:00Z", "end_time": ""}, None),
    ],
)
def test_where_zoom_gives_no_duration_the_times_tell_it(row, expected):
    assert document(row, None).get("duration") == expected


def test_what_is_not_known_is_no_field_so_that_an_upsert_keeps_it():
    empty = {"uuid": "u==", "start_time": "", "end_time": "", "duration": "", "participants": 0, "email": ""}
    assert document(empty, None) == {"uuid": "u==", "participant_sessions": 0}


def test_recording_is_true_or_false_also_as_v1_had_it():
    assert [document({"has_recording": value}, None).get("recording") for value in (True, 1, "0", "", 2)] == [
        True,
        True,
        False,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "row", [{}, {"uuid": ""}, {"uuid": None}, {"uuid": []}, {"uuid": "x" * 513}, {"uuid": "\ud800"}, None, "u", 5]
)
def test_a_row_without_a_usable_uuid_is_no_meeting(row):
    assert uuid(read_meeting(row)) is None


# What sessions tell


def stay(person, join, leave, **changes):
    at = [
        None if minute is None else (EIGHT + dt.timedelta(minutes=minute)).isoformat() for minute in (join, leave)
    ]
    return {"user_id": f"{person}{join}", "id": person, "join_time": at[0], "leave_time": at[1], **changes}


def told(*rows):
    return attendance(read(map(read_participant, rows)))


def read(rows):
    return sessions("u", list(rows), lambda _: None)[0]


def test_a_person_who_comes_again_is_one_participant():
    found = told(stay("a", 0, 10), stay("a", 20, 30), stay("b", 0, 30))
    assert (found["unique_participants"], found["person_seconds"], found["peak_participants"]) == (2, 50 * 60, 2)


def test_overlapping_devices_and_breakout_rooms_count_once():
    room = stay("a", 5, 25, bo_mtg_id="room")
    found = told(stay("a", 0, 30), stay("a", 10, 40), room)
    assert (found["person_seconds"], found["peak_participants"], found["breakout_sessions"]) == (40 * 60, 1, 1)


def numbered(number, name, join, leave, room="", **more):
    row = stay("", join, leave, user_name=name, bo_mtg_id=room, **more)
    return row | {"user_id": str(16_778_240 + 1024 * number)}


def test_a_guest_and_a_signed_in_participant_of_the_same_number_in_two_rooms_are_two():
    found = told(numbered(0, "Guest", 0, 60), numbered(0, "Ann", 0, 55, "R1", email="ann@example.edu"))
    assert (found["unique_participants"], found["person_seconds"]) == (2, 6_900)


def test_four_students_of_two_rooms_that_number_alike_are_four():
    rooms = {"R1": 0, "R2": 10}
    rows = [
        numbered(number, f"Student {room}{number}", start, start + 60, room)
        for room, start in rooms.items()
        for number in (0, 1)
    ]
    found = told(*rows)
    assert (found["unique_participants"], found["person_seconds"]) == (4, 14_400)


def test_who_only_waited_did_not_take_part():
    waited = stay("a", 0, 30, status="in_waiting_room")
    found = told(waited, stay("b", 0, 5, status="in_waiting_room"), stay("b", 5, 30))
    assert found == {
        "unique_participants": 1,
        "person_seconds": 25 * 60,
        "peak_participants": 1,
        "waiting_room_sessions": 2,
        "breakout_sessions": 0,
    }


def test_who_leaves_as_another_comes_was_not_there_together_with_them():
    assert told(stay("a", 0, 10), stay("b", 10, 20))["peak_participants"] == 1


def test_a_stay_without_an_end_is_a_participant_without_time():
    found = told(stay("a", 0, None))
    assert (found["unique_participants"], found["person_seconds"], found["peak_participants"]) == (1, 0, 0)


def test_more_than_a_day_is_more_than_a_day():
    assert told(stay("a", 0, 26 * 60))["person_seconds"] == 26 * 3600


MINUTES = st.integers(0, 40)
STAYS = st.lists(
    st.builds(
        stay, st.sampled_from("abc"), MINUTES, st.none() | MINUTES, status=st.sampled_from(["", "in_waiting_room"])
    ),
    max_size=12,
)


@given(rows=STAYS)
def test_seconds_and_peak_are_those_that_counting_every_minute_gives(rows):
    there = [
        {
            one.person
            for one in read(map(read_participant, rows))
            if not one.waiting and one.join and one.leave and one.join <= at < one.leave
        }
        for at in (EIGHT + dt.timedelta(minutes=minute) for minute in range(41))
    ]
    found = told(*rows)
    assert found["person_seconds"] == 60 * sum(map(len, there))
    assert found["peak_participants"] == max(map(len, there))


@given(st.lists(st.tuples(MINUTES, MINUTES)))
def test_a_union_covers_the_same_minutes_in_order_and_without_touching(pairs):
    pairs = [(start, end) for start, end in pairs if start < end]
    merged = union(pairs)
    covered = {minute for start, end in merged for minute in range(start, end)}
    assert covered == {minute for start, end in pairs for minute in range(start, end)}
    assert all(before[1] < after[0] for before, after in itertools.pairwise(merged))


# Foreign rows

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ODD = JSON | st.sampled_from(["2026-11-20T16:00:00Z", "26:00:00", [{"field": 5}], "9" * 40, 1e400, 2**70])


@given(row=st.dictionaries(st.sampled_from(sorted(SAMPLE)), ODD), host=st.none() | st.text())
def test_no_foreign_row_raises(row, host):
    uuid(read_meeting(row))
    json.dumps(document(row, host), ensure_ascii=False, allow_nan=False).encode()


# Simulated accounts: any day, any seed

DAYS = [
    *(dt.date(2026, 11, 1) + dt.timedelta(days=number) for number in range(60)),  # 25 November failed once
    *map(
        dt.date.fromisoformat, ("2024-02-29", "2026-03-08", "2026-03-29", "2026-10-25", "2026-12-31", "2027-01-01")
    ),
]
WORLDS = [(1, day) for day in DAYS] + [(seed, dt.date(2026, 11, 24)) for seed in range(40)]


@pytest.mark.parametrize("source", ["dashboard", "report"])
def test_people_are_as_many_as_the_simulated_account_can_show_whatever_the_day_and_the_seed(source):
    shown = {"dashboard": _dashboard_rows, "report": _report_rows}[source]
    wrong = [
        (seed, day, meeting.kind, found, meeting.distinguishable)
        for seed, day in WORLDS
        for meeting in Generator(seed, make_people(seed, 20), day).make(24)  # all kinds but the large one
        for found in [attendance(read(shown(meeting)))["unique_participants"]]
        if not meeting.distinguishable[0] <= found <= meeting.distinguishable[1]
    ]
    assert wrong == []


def test_each_join_is_a_session_of_its_own_whatever_the_day_and_the_seed():
    wrong = [
        (seed, day, meeting.kind)
        for seed, day in WORLDS
        for meeting in Generator(seed, make_people(seed, 20), day).make(24)
        for found in [read(_dashboard_rows(meeting))]
        if len(found) != len({session.key for session in meeting.sessions})
    ]
    assert wrong == []


LATER = 2**52  # ms; all is over


def _dashboard_rows(meeting):
    return [
        read_participant(dashboard_participant(one, LATER, live=False, registered=False))
        for one in participant_rows(meeting, LATER)
    ]


def _report_rows(meeting):
    return [
        read_reported_participant(report_participant(one, meeting, LATER))
        for one in participant_rows(meeting, LATER)
    ]
