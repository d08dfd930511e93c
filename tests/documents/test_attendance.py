"""Who was in a meeting: people, times and shares from the documents of a meeting and its sessions."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents import meeting
from uaharvest.documents.attendance import attendance
from uaharvest.documents.session import stored

MEETING = {
    "uuid": "u==",
    "meeting_series_id": "123",
    "topic": "Lecture",
    "host": {"host_id": "h", "name": "Host"},
    "start_time": "2026-11-20T10:00:00Z",
    "end_time": "2026-11-20T11:00:00Z",
    "duration": 3600,
}


def session(joined, left, **fields):
    """Return a session between two times of 2026-11-20, as HH:MM."""
    at = {"join_time": f"2026-11-20T{joined}:00Z", "leave_time": f"2026-11-20T{left}:00Z"}
    return {"meeting": "u==", "user_id": None, "waiting_room": False} | at | fields


def people(*sessions, about=MEETING):
    """Return the documents by person."""
    found = attendance("u==", about, sessions)
    for id_, fields in found.items():
        assert id_ == hashlib.sha256(f"u==\0{fields['person']}".encode()).hexdigest()
    return {fields["person"]: fields for fields in found.values()}


def test_a_person_has_a_document_with_the_time_in_the_meeting():
    first = session("10:05", "10:20", participant_user_id="p", email="Kim@example.edu", user_name="Kim")
    again = session("10:30", "10:54", participant_user_id="p", user_name="Kim")
    assert people(first, again) == {
        "p": {
            "@timestamp": "2026-11-20T10:05:00+00:00",
            "uuid": "u==",
            "meeting_id": "123",
            "topic": "Lecture",
            "host_id": "h",
            "person": "p",
            "user_id": "p",
            "user_email": "Kim@example.edu",
            "user_name": "Kim",
            "start": "2026-11-20T10:00:00+00:00",
            "end": "2026-11-20T11:00:00+00:00",
            "joined": "2026-11-20T10:05:00+00:00",
            "left": "2026-11-20T10:54:00+00:00",
            "minutes": 39.0,
            "share": 0.65,
            "late_minutes": 5.0,
            "early_minutes": 6.0,
            "sessions": 2,
            "stays": [
                ["2026-11-20T10:05:00+00:00", "2026-11-20T10:20:00+00:00"],
                ["2026-11-20T10:30:00+00:00", "2026-11-20T10:54:00+00:00"],
            ],
        }
    }


@pytest.mark.parametrize(
    ("fields", "person"),
    [
        ({"registrant_id": "r", "participant_user_id": "p", "id": "i", "email": "K@x", "user_name": "Kim"}, "r"),
        ({"participant_user_id": "p", "id": "i", "email": "K@x", "user_name": "Kim"}, "p"),
        ({"id": "i", "email": "K@x", "user_name": "Kim"}, "i"),
        ({"email": "K@x.Edu", "user_name": "Kim", "user_id": "16778240"}, "k@x.edu"),
        ({"user_name": "Kim", "user_id": "16778240"}, "name:Kim"),
        ({"user_id": "16778240"}, "participant:16778240"),
        ({"user_id": "16778240", "bo_mtg_id": "R1"}, "participant:R1 16778240"),
        ({"participant_uuid": "q"}, "participant:q"),
    ],
)
def test_the_strongest_identity_names_the_person(fields, person):
    assert list(people(session("10:00", "11:00", **fields))) == [person]


def test_sessions_that_share_an_identity_are_one_person():
    sessions = [
        session("10:00", "10:10", registrant_id="r", email="k@x"),
        session("10:10", "10:20", email="K@X"),
        session("10:20", "10:30", registrant_id="r", participant_user_id="p"),
    ]
    assert {person: fields["minutes"] for person, fields in people(*sessions).items()} == {"r": 30.0}


def test_one_name_at_two_addresses_is_two_people():
    sessions = [
        session("10:00", "10:10", email="a@x", user_name="Kim"),
        session("10:00", "10:20", email="b@x", user_name="Kim"),
    ]
    assert sorted(people(*sessions)) == ["a@x", "b@x"]


def test_overlapping_rooms_and_devices_count_once():
    sessions = [
        session("10:00", "10:40", email="k@x"),
        session("10:10", "10:30", email="k@x", bo_mtg_id="room", breakout_room=True),
        session("10:35", "10:45", email="k@x"),
    ]
    found = people(*sessions)["k@x"]
    assert (found["minutes"], found["sessions"], len(found["stays"])) == (45.0, 3, 1)


def test_time_around_the_meeting_counts_in_minutes_and_not_in_the_share():
    found = people(session("09:30", "11:30", email="k@x"))["k@x"]
    assert (found["minutes"], found["share"], found["late_minutes"], found["early_minutes"]) == (
        120.0,
        1.0,
        0.0,
        0.0,
    )


def test_the_waiting_room_and_sessions_without_times_do_not_count():
    sessions = [
        session("10:00", "10:10", email="k@x", waiting_room=True),
        session("10:10", "10:20", email="k@x", leave_time=None),
        session("10:20", "10:10", email="k@x"),
    ]
    assert people(*sessions) == {}
    assert people() == {}


def test_people_of_whom_nothing_is_known_are_told_apart_by_room_and_number():
    sessions = [
        session("10:00", "10:20", user_id="16778240"),
        session("10:20", "10:30", user_id="16778240", bo_mtg_id="R1"),
        session("10:20", "10:30", user_id="16778240", bo_mtg_id="R2"),
        session("10:40", "10:50", user_id="16778240", bo_mtg_id="R2"),
    ]
    assert [fields["minutes"] for fields in people(*sessions).values()] == [20.0, 10.0, 20.0]


def test_the_waiting_room_says_who_is_who():
    waited = session("10:00", "10:05", email="k@x", registrant_id="r", waiting_room=True)
    sessions = [
        waited,
        session("10:05", "10:20", registrant_id="r"),
        session("10:30", "10:50", email="k@x"),
    ]
    found = people(*sessions)
    assert {person: (fields["minutes"], fields["sessions"]) for person, fields in found.items()} == {
        "r": (35.0, 2)
    }


def test_a_guest_is_not_somebody_of_the_same_name_who_waited_in_the_main_room():
    sessions = [
        session("10:00", "10:05", email="kim@x", user_name="Kim", user_id="1", waiting_room=True),
        session("10:10", "10:30", email="kim@x", user_name="Kim", user_id="1", bo_mtg_id="R1"),
        session("10:00", "10:50", user_name="Kim", user_id="2"),
    ]
    assert {person: fields["minutes"] for person, fields in people(*sessions).items()} == {
        "kim@x": 20.0,
        "name:Kim": 50.0,
    }


@pytest.mark.parametrize(
    ("about", "end"),
    [
        ({**MEETING, "end_time": None}, "11:00"),
        ({**MEETING, "end_time": None, "duration": 1800}, "10:30"),
        ({**MEETING, "end_time": None, "duration": None}, "10:40"),
        ({**MEETING, "end_time": "2026-11-20T09:00:00Z"}, "10:40"),
        ({**MEETING, "end_time": "soon", "duration": "x"}, "10:40"),
    ],
)
def test_without_its_end_a_meeting_lasts_as_long_as_it_says_or_as_anybody_was_there(about, end):
    found = people(session("10:10", "10:40", email="k@x"), about=about)["k@x"]
    assert found["end"] == f"2026-11-20T{end}:00+00:00"


@pytest.mark.parametrize("about", [None, {}, {"host": "h", "topic": [], "start_time": 5}])
def test_without_the_meetings_document_it_lasts_as_long_as_anybody_was_there(about):
    found = people(session("10:10", "10:40", email="k@x"), about=about)["k@x"]
    assert (found["start"][11:16], found["end"][11:16], found["share"]) == ("10:10", "10:40", 1.0)
    assert not {"topic", "meeting_id", "host_id"} & found.keys()


times = st.integers(0, 59).map(lambda minute: f"10:{minute:02}")
sessions_ = st.lists(
    st.builds(
        session,
        times,
        times,
        registrant_id=st.sampled_from([None, "r", "s"]),
        participant_user_id=st.sampled_from([None, "p"]),
        email=st.sampled_from([None, "k@x", "L@x"]),
        user_name=st.sampled_from([None, "Kim", "kim"]),
        user_id=st.sampled_from([None, "1", "2"]),
        waiting_room=st.booleans(),
    ),
    max_size=8,
)


@given(sessions_)
def test_figures_stay_within_the_meeting_and_nobody_is_lost(sessions):
    found = people(*sessions)
    counted = [one for one in sessions if not one["waiting_room"] and one["join_time"] <= one["leave_time"]]
    assert sum(fields["sessions"] for fields in found.values()) == len(counted)
    for fields in found.values():
        assert 0 <= fields["share"] <= 1
        assert 0 <= fields["minutes"] <= 59
        assert fields["joined"] <= fields["left"]


numbered = st.lists(
    st.builds(
        session,
        times,
        times,
        email=st.sampled_from([None, "k@x", "L@x"]),
        user_name=st.sampled_from([None, "Kim", "kim"]),
        user_id=st.sampled_from(["1", "2"]),
        bo_mtg_id=st.sampled_from([None, "R1", "R2"]),
        waiting_room=st.booleans(),
    ),
    max_size=8,
)


@given(numbered)
def test_people_are_as_many_as_the_meetings_document_says(sessions):
    sessions = [one for one in sessions if one["join_time"] <= one["leave_time"]]
    assert len(people(*sessions)) == meeting.attendance(stored(sessions))["unique_participants"]


@given(sessions_, st.randoms())
def test_one_order_of_the_sessions_says_the_same_as_another(sessions, random):
    shuffled = list(sessions)
    random.shuffle(shuffled)
    assert json.dumps(attendance("u==", MEETING, sessions)) == json.dumps(attendance("u==", MEETING, shuffled))
