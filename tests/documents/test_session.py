"""Sessions: the old fields and units, the quirks of foreign rows, and which row is which session."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents.session import place, reason, sessions
from uaharvest.zoom.rows import read_participant

# Zoom's own sample, as its documentation has it.
SAMPLE = json.loads(
    '{"audio_quality":"good","camera":"FaceTime HD Camera","connection_type":"UDP","video_connection_type":"UDP",'
    '"as_connection_type":"UDP","customer_key":"349589LkJyeW","data_center":"United States (SC Top)","device":"Phone",'
    '"domain":"example.com","email":"jchill@example.com","from_sip_uri":"example.com","full_data_center":'
    '"United States (SC Top);","harddisk_id":"Disk01","id":"zJKyaiAyTNC-MWjiWC18KQ","in_room_participants":2,'
    '"internal_ip_addresses":["192.0.2.1"],"ip_address":"192.0.2.1","join_time":"2022-03-01T10:15:14Z","leave_reason":'
    '"Host ended the meeting.","leave_time":"2022-03-01T10:17:35Z","location":"United States","mac_addr":'
    '"f85e-a012-92d8","microphone":"Microphone (2- High Definition Audio Device)","network_type":"Wired",'
    '"participant_user_id":"DYHrdpjrS3uaOf7dPkkg8w","pc_name":"HW0010449","recording":false,"registrant_id":'
    '"fdgsfh2ey82fuh","role":"host","screen_share_quality":"good","share_application":true,"share_desktop":true,'
    '"share_whiteboard":true,"sip_uri":"example.com","speaker":"speaker (2- High Definition Audio Device)","status":'
    '"in_meeting","user_id":"20162560","participant_uuid":"D444CD06-2ABB-2FCC-019B-39E41D8DADF7","user_name":"jchill",'
    '"version":"5.9.1.2581","video_quality":"good","bo_mtg_id":"Dkgwu8nm/ExG1vM+GhLRhA==","audio_call":[{"call_number":'
    '"4131","call_type":"call-in","zoom_number":"18773690926"}],"os":"iOS","os_version":"16.5","browser_name":'
    '"Firefox","browser_version":"133","device_name":"iPhone 7 Global","groupId":"TcjqVCTzRy6hLa0d8WpAIg",'
    '"has_archiving":false,"client":"Web Meeting SDK 2.18","total_jointime_cost":3.98}'
)
CAMBRIDGE = {"ip": "192.0.2.1", "city_name": "Cambridge"}
PERSONAL = [
    "camera",
    "microphone",
    "speaker",
    "pc_name",
    "device_name",
    "domain",
    "mac_addr",
    "harddisk_id",
    "internal_ip_addresses",
    "audio_call",
    "sip_uri",
    "from_sip_uri",
]


def row(**changes):
    usual = {
        "user_id": "16778240",
        "user_name": "Ann",
        "join_time": "2026-11-20T16:00:00Z",
        "leave_time": "2026-11-20T16:30:00Z",
        "status": "in_meeting",
    }
    return usual | changes


def parsed(rows):
    return [read_participant(row) for row in rows]


def read(*rows, meeting="u==", locate=lambda _: None):
    found, odd = sessions(meeting, parsed(rows), locate)
    assert odd == []
    return found


def document(**changes):
    (one,) = read(row(**changes))
    return one.fields


def ids(*rows, **changes):
    return [one.id for one in read(*rows, **changes)]


# Fields


def test_zooms_own_sample_has_the_old_fields_in_the_old_units_and_what_v2_adds():
    (one,) = read(SAMPLE, meeting="a==", locate=lambda address: CAMBRIDGE if address == "192.0.2.1" else None)
    assert one.fields == {
        "meeting": "a==",
        "id": "zJKyaiAyTNC-MWjiWC18KQ",
        "user_id": "20162560",
        "user_name": "jchill",
        "device": "Phone",
        "ip_address": "192.0.2.1",
        "country": "US",
        "city": None,
        "network_type": "Wired",
        "join_time": "2022-03-01T10:15:14Z",
        "leave_time": "2022-03-01T10:17:35Z",
        "duration": 141,
        "share_application": True,
        "share_desktop": True,
        "share_whiteboard": True,
        "recording": False,
        "geoip": CAMBRIDGE,
        "email": "jchill@example.com",
        "role": "host",
        "status": "in_meeting",
        "registrant_id": "fdgsfh2ey82fuh",
        "participant_uuid": "D444CD06-2ABB-2FCC-019B-39E41D8DADF7",
        "participant_user_id": "DYHrdpjrS3uaOf7dPkkg8w",
        "customer_key": "349589LkJyeW",
        "bo_mtg_id": "Dkgwu8nm/ExG1vM+GhLRhA==",
        "location": "United States",
        "client": "Web Meeting SDK 2.18",
        "version": "5.9.1.2581",
        "os": "iOS",
        "os_version": "16.5",
        "browser_name": "Firefox",
        "browser_version": "133",
        "data_center": "United States (SC Top)",
        "connection_type": "UDP",
        "audio_quality": "good",
        "video_quality": "good",
        "screen_share_quality": "good",
        "leave_reason": "Host ended the meeting.",
        "in_room_participants": 2,
        "total_jointime_cost": 3.98,
        "waiting_room": False,
        "breakout_room": True,
    }


def test_nothing_of_a_persons_devices_and_networks_is_kept():
    (one,) = read(SAMPLE)
    assert not set(PERSONAL) & set(one.fields)
    text = json.dumps(one.fields)
    assert not any(json.dumps(SAMPLE[name]).strip('"') in text for name in ("mac_addr", "pc_name", "harddisk_id"))


@pytest.mark.parametrize(
    ("join", "leave", "duration"),
    [
        ("2026-11-20T16:00:00Z", "2026-11-20T16:00:00Z", 0),
        ("2026-11-20T16:00:00Z", "2026-11-21T18:00:05Z", 26 * 3600 + 5),  # the old tool wrapped at 24 h
        ("2026-11-20T16:00:00.250Z", "2026-11-20T16:00:02.200Z", 1),
        ("2026-11-20T16:00:00Z", "2026-11-20T15:00:00Z", None),
        ("2026-11-20T16:00:00Z", "", None),
        ("2026-11-20T16:00:00Z", None, None),
        ("", "2026-11-20T16:00:00Z", None),
        ("2026-11-20T11:00:00-05:00", "2026-11-20T16:00:09Z", 9),
        ("0001-01-01T00:00:00Z", "2026-11-20T16:00:00Z", None),
        ("yesterday", 5, None),
    ],
)
def test_a_duration_is_the_seconds_from_join_to_leave_and_null_where_one_is_missing(join, leave, duration):
    assert document(join_time=join, leave_time=leave)["duration"] == duration


def test_a_time_is_written_in_utc_with_milliseconds_only_where_zoom_has_some():
    found = document(join_time="2026-11-20T11:00:00.250-05:00", leave_time="2026-11-20T16:30:00.000Z")
    assert (found["join_time"], found["leave_time"]) == ("2026-11-20T16:00:00.250Z", "2026-11-20T16:30:00Z")


def test_a_session_that_still_lasts_has_neither_end_nor_duration():
    still = row()
    del still["leave_time"]
    (one,) = read(still)
    assert (one.fields["leave_time"], one.fields["duration"], one.leave) == (None, None, None)


def test_what_is_empty_is_null():
    empty = dict.fromkeys(("id", "user_name", "device", "ip_address", "location", "network_type"), "")
    found = document(**empty)
    assert {name: found.get(name) for name in empty} == dict.fromkeys(empty)
    assert "location" not in found
    assert found["recording"] is None


@pytest.mark.parametrize(
    ("location", "city", "country"),
    [
        ("San Jose (US)", "San Jose", "US"),
        ("Washington, D.C. (US)", "Washington, D.C.", "US"),
        ("(DE)", None, "DE"),
        ("United States", None, "US"),
        ("United States of America", None, "US"),
        ("South Korea", None, "KR"),
        ("Germany", None, "DE"),
        ("US", None, "US"),
        ("New York", "New York", None),
        ("Cambridge, United Kingdom", "Cambridge", "GB"),
        ("Washington, D.C.", "Washington, D.C.", None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_city_and_country_come_from_the_location(location, city, country):
    assert place(location) == (city, country)


@pytest.mark.parametrize(
    ("said", "name", "expected"),
    [
        ("Ann B. left the meeting.", "Ann B.", "Left the meeting."),
        ("Ann B. left the meeting.", None, "Left the meeting."),
        ("Ann B. got disconnected from the meeting.", "", "Got disconnected from the meeting."),
        ("Ann left the meeting.<br>Reason: Host ended the meeting.", "Ann", "Host ended the meeting."),
        ("Ann left the meeting.&lt;br&gt;Reason: Host ended the meeting.", "Ann", "Host ended the meeting."),
        ("Ann left the meeting.<BR />Reason: Ann left the meeting.", "Ann", "Left the meeting."),
        ("<b>Ann</b> left the meeting.", "<b>Ann</b>", "Left the meeting."),
        ("Ann &amp; Bob left the meeting.", "Ann &amp; Bob", "Left the meeting."),
        ("Bob who left the meeting. left the meeting.", "Bob who left the meeting.", "Left the meeting."),
        ("Ann was moved to another room.", "Ann", "Was moved to another room."),
        ("Annabel's network failed.", "Ann", "Annabel's network failed."),
        ("Host ended the meeting.", "Host", "Host ended the meeting."),
        ("Network connection error.", "Network", "Network connection error."),
        ("Leave waiting room.", "Ann", "Leave waiting room."),
        ("  ", "Ann", None),
        ("Ann", "Ann", None),
        ("", "Ann", None),
        (7, "Ann", "7"),
        (None, "Ann", None),
    ],
)
def test_a_reason_is_plain_text_without_the_name_of_who_left(said, name, expected):
    assert reason(read_participant({"leave_reason": said}).leave_reason, name) == expected


LARGE = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "x reason:" * (LARGE // 9),
        "reason: " * (LARGE // 8),
        "<br" + " " * LARGE,
        "<" * LARGE,
        "<a" * LARGE,
        "left " * (LARGE // 5),
        "a" * LARGE,
        " " * LARGE,
        "a " * LARGE,
        "(" * LARGE,
        "," * LARGE,
        "&lt;br" * (LARGE // 6),
    ],
)
def test_no_text_takes_longer_than_its_length_allows(text):
    began = time.process_time()
    for name in ("Ann", text, "a " * 100 + "b"):
        reason(text, name)
    place(text)
    assert time.process_time() - began < 4  # over 8 s with patterns that took quadratic time


def test_a_reason_that_may_hold_a_name_too_long_to_look_for_is_left_out():
    assert reason("x" * 300 + " was moved.", "x" * 300) is None


def test_rows_of_the_waiting_room_and_of_breakout_rooms_are_marked():
    found = read(row(), row(status="in_waiting_room", user_id="2"), row(bo_mtg_id="room", user_id="3"))
    assert [(one.waiting, one.breakout) for one in found] == [(False, False), (True, False), (False, True)]
    assert [(one.fields["waiting_room"], one.fields["breakout_room"]) for one in found] == [
        (False, False),
        (True, False),
        (False, True),
    ]


# Ids


def test_the_same_row_has_the_same_id_whenever_it_is_read():
    assert ids(row()) == ["cf7114a722d26a320682fe404517321db5280f41"]  # also by a later version
    later = row(leave_time="2026-11-20T17:00:00Z", leave_reason="x", ip_address="192.0.2.1", user_name="Ann B.")
    assert ids(row(leave_time=None)) == ids(later)
    assert ids(row(join_time="2026-11-20T16:00:00.000Z")) == ids(row())


def test_a_session_has_the_same_id_from_the_dashboard_and_from_the_report():
    assert ids(row(participant_uuid="D444", device="Mac")) == ids(row(participant_uuid=None))


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "16779264"},  # a rejoin, or another guest
        {"join_time": "2026-11-20T16:31:00Z"},
        {"bo_mtg_id": "room"},
        {"status": "in_waiting_room"},
    ],
)
def test_rejoins_guests_rooms_and_waiting_are_sessions_of_their_own(other):
    assert len({*ids(row(), row(**other))}) == 2


def test_two_breakout_rooms_entered_at_once_are_two_sessions():
    assert len(ids(row(bo_mtg_id="a"), row(bo_mtg_id="b"))) == 2


def test_the_same_participant_of_another_meeting_is_another_session():
    assert ids(row(), meeting="a==") != ids(row(), meeting="b==")


def test_guests_without_any_id_are_told_apart_by_what_they_have():
    anonymous = {"user_id": "", "participant_uuid": ""}
    assert len(ids(row(**anonymous, user_name="Ann"), row(**anonymous, user_name="Bob"))) == 2


def test_a_repeated_row_is_one_session_and_its_later_state_counts():
    (one,) = read(row(leave_time=""), row(), row(leave_time=""))
    assert one.fields["leave_time"] == "2026-11-20T16:30:00Z"


# People


def people(*rows):
    return [one.person for one in read(*rows)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "z", "user_name": "Ann"}, {"id": "z", "user_name": "Ann (she)"}),
        ({"id": "", "user_name": "Guest"}, {"id": "", "user_name": " guest"}),
        ({"registrant_id": "r", "user_name": "A"}, {"registrant_id": "r", "user_name": "B"}),
        ({"email": "a@example.edu", "user_name": "A"}, {"email": "A@example.edu", "user_name": "B"}),
    ],
)
def test_who_comes_again_is_the_same_person(one, other):
    first, second = people(row(user_id="1", **one), row(user_id="2", **other))
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "y", "user_name": "Ann"}, {"id": "z", "user_name": "Ann"}),
        ({"user_name": "Ann"}, {"user_name": "Bob"}),
        ({"user_name": ""}, {"user_name": ""}),  # nothing is known of either
        ({"user_name": "Ann", "id": "z"}, {"user_name": "z"}),
    ],
)
def test_others_are_other_people(one, other):
    first, second = people(row(user_id="1", **one), row(user_id="2", **other))
    assert first != second


# Zoom numbers the participants of every room alike: a user_id is one join's only within (meeting, room).


def test_the_same_number_in_another_room_is_another_person():
    guest, signed_in = row(user_name="Guest"), row(id="z", user_name="Ann", bo_mtg_id="R1")
    assert len({*people(guest, signed_in)}) == len({*people(signed_in, guest)}) == 2


def test_four_students_who_are_numbered_alike_in_two_rooms_are_four():
    students = [
        row(user_id=f"{16_778_240 + 1024 * number}", user_name=f"Student {room}{number}", bo_mtg_id=room)
        for room in ("R1", "R2")
        for number in (0, 1)
    ]
    assert len({*people(*students)}) == 4


def test_rows_of_one_room_with_the_same_number_are_one_join():
    first, second = people(
        row(id="z", bo_mtg_id="R1"), row(user_name="", bo_mtg_id="R1", join_time="2026-11-20T16:10:00Z")
    )
    assert first == second


@pytest.mark.parametrize("name", ["id", "participant_user_id", "registrant_id", "email", "participant_uuid"])
def test_in_another_room_a_person_is_found_by_each_identity(name):
    same = {name: "same"}
    first, second = people(row(user_name="Ann", **same), row(user_id="9", user_name="", bo_mtg_id="R1", **same))
    assert first == second


def test_in_another_room_a_person_is_found_by_name_if_nobody_else_has_it():
    ann, room = row(id="z", user_name="Ann"), row(user_id="9", user_name="ann ", bo_mtg_id="R1")
    assert len({*people(ann, room)}) == 1
    another = row(id="y", user_name="Ann", user_id="7")
    assert len({*people(ann, another, room)}) == 3  # whose row of the room is it?


def test_a_guest_with_the_name_of_somebody_in_the_same_room_is_another_person():
    first, second = people(row(id="z", user_name="Ann"), row(user_id="9", user_name="Ann"))
    assert first != second


@pytest.mark.parametrize("weaker", ["registrant_id", "email", "participant_uuid", "user_name"])
def test_nobody_is_taken_for_another_whose_id_differs(weaker):
    same = {weaker: "same"}
    rows = (row(id="y", **same), row(id="z", user_id="9", bo_mtg_id="R1", **same))
    assert len({*people(*rows)}) == 2


def test_a_room_row_of_which_nothing_is_known_is_nobody_elses():
    first, second = people(row(id="z"), row(id="", user_name="", bo_mtg_id="room"))
    assert first != second


def test_what_only_one_row_of_a_join_tells_holds_for_all_rows_of_the_person():
    main, room = row(id="z", user_name="Ann"), row(id="", user_name="Ann", bo_mtg_id="room")
    again = row(id="z", user_name="Ann (phone)", user_id="2")
    assert len({*people(main, room, again)}) == len({*people(room, main, again)}) == 1


# Foreign rows

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ODD = st.one_of(
    JSON,
    st.sampled_from(
        ["", "2026-11-20T16:00:00Z", "9999-12-31T23:59:59-23:00", "2026-11-20T16:00:00+99:99", "in_waiting_room"]
    ),
)
NAMES = st.sampled_from([*sorted(SAMPLE), "groupId"])


@given(rows=st.lists(st.one_of(JSON, st.dictionaries(NAMES, ODD)), max_size=4))
def test_no_foreign_row_raises_and_each_is_a_session_or_refused(rows):
    found, odd = sessions("u", parsed(rows), lambda _: None)
    assert len({one.id for one in found}) == len(found) <= len(rows) - len(odd)
    for one in found:
        assert one.fields["duration"] is None or one.fields["duration"] >= 0
        json.dumps(one.fields, ensure_ascii=False, allow_nan=False).encode()


FEW = st.sampled_from(["", "a", "b"])
PEOPLE = st.lists(
    st.fixed_dictionaries(
        dict.fromkeys(("id", "registrant_id", "email", "participant_uuid", "user_name", "bo_mtg_id"), FEW)
        | {
            "user_id": st.sampled_from(["1", "2"]),
            "join_time": st.sampled_from([f"2026-11-20T16:00:0{n}Z" for n in range(9)]),
        }
    ),
    max_size=7,
)


@given(rows=PEOPLE, order=st.randoms())
def test_people_do_not_depend_on_the_order_of_rows(rows, order):
    def partition(listed):
        persons = {}
        for one in read(*listed):
            persons.setdefault(one.person, set()).add(one.id)
        return sorted(map(sorted, persons.values()))

    rows = list({one.id: row for row in rows for one in read(row)}.values())  # each session once
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert partition(rows) == partition(shuffled)


@given(rows=st.lists(st.dictionaries(NAMES, ODD), max_size=4))
def test_sessions_do_not_depend_on_the_order_or_repetition_of_rows(rows):
    first, _ = sessions("u", parsed(rows), lambda _: None)
    second, _ = sessions("u", parsed([*reversed(rows), *rows]), lambda _: None)
    assert {one.id for one in first} == {one.id for one in second}


def test_a_row_that_tells_nothing_is_refused():
    found, odd = sessions("u", parsed([{}, None, [], "x", {"user_name": "Ann", "join_time": ""}]), lambda _: None)
    assert (found, len(odd)) == ([], 5)
    assert "Ann" not in str([error for _, error in odd])


def test_no_name_or_address_is_in_a_repr():
    (one,) = read(row(user_name="Ann", ip_address="192.0.2.1", email="a@example.edu"))
    assert not any(secret in repr(one) for secret in ("Ann", "ann", "192.0.2.1", "a@example.edu"))
