import datetime as dt

import pytest

from uaharvest.errors import PoisonError
from uaharvest.opencast.actions import read_action, report_omitted
from uaharvest.rows.useractions import UserAction

CREATED = "2014-09-01T12:46:18.181-04:00"
SESSION = {
    "sessionId": "node01abc",
    "userId": 12345678,
    "userIp": "10.0.0.1, 192.168.1.1,10.9.9.9",
    "userAgent": "Mozilla/5.0 (X11)",
}
RAW = {
    "id": 1,
    "mediapackageId": "0c1d",
    "sessionId": SESSION,
    "inpoint": 10,
    "outpoint": 30,
    "length": 20,
    "type": "FOOTPRINT",
    "isPlaying": True,
    "created": CREATED,
}


def read(**changed):
    return read_action({"id": 1, "created": CREATED} | changed)


def test_a_row_of_opencast_8_is_read_whole():
    assert read_action(RAW) == UserAction(
        id=1,
        created=dt.datetime.fromisoformat(CREATED),
        mpid="0c1d",
        session="node01abc",
        user="12345678",
        ip="10.0.0.1",
        proxies=("192.168.1.1", "10.9.9.9"),
        agent="Mozilla/5.0 (X11)",
        type="FOOTPRINT",
        inpoint=10,
        outpoint=30,
        length=20,
        is_playing=True,
        is_live=None,
    )


def test_a_flat_row_of_matterhorn_1_6_is_read_as_well():
    action = read(sessionId="node01abc", userId="anonymous", userIp="10.0.0.1")
    assert (action.session, action.user, action.ip, action.agent) == (
        "node01abc",
        "anonymous",
        "10.0.0.1",
        None,
    )


def test_all_but_id_and_created_may_be_missing():
    action = read()
    assert (action.mpid, action.session, action.user, action.ip, action.proxies) == (None,) * 4 + ((),)
    assert (action.agent, action.type, action.inpoint, action.outpoint, action.length) == (None,) * 5
    assert (action.is_playing, action.is_live, action.omitted) == (False, None, ())


def test_texts_that_look_like_numbers_are_texts_again():
    action = read(mediapackageId=24, type=7, sessionId={"sessionId": 99, "userId": True, "userAgent": 5.0})
    assert (action.mpid, action.type, action.session, action.user, action.agent) == (
        "24",
        "7",
        "99",
        "true",
        "5",
    )


def test_what_opencast_was_told_to_omit_is_unknown():
    action = read(sessionId={"sessionId": "-omitted-", "userId": "-omitted-", "userIp": "-omitted-"})
    assert (action.session, action.user, action.ip) == (None, None, None)
    assert action.omitted == ("without_session", "without_user", "without_address")


@pytest.mark.parametrize(
    ("member", "lack", "lost"),
    [("userId", "without_user", {"user"}), ("userIp", "without_address", {"ip", "proxies"})],
)
def test_each_switch_leaves_out_its_own(member, lack, lost):
    action = read(sessionId=SESSION | {member: "-omitted-"})
    assert action.omitted == (lack,)
    whole = read(sessionId=SESSION)
    assert {name for name in ("session", "user", "ip", "proxies", "agent") if not getattr(action, name)} == lost
    assert all(getattr(action, name) == getattr(whole, name) for name in {"session", "user", "agent"} - lost)


def test_a_session_that_all_share_says_nothing_of_anybody():
    action = read(sessionId=SESSION | {"sessionId": "-omitted-"})
    assert (action.session, action.user, action.ip, action.proxies, action.agent) == (None, None, None, (), None)
    assert action.omitted == ("without_session",)


def test_what_was_left_out_is_told_with_the_switches_to_set():
    line = report_omitted({"without_user": 1200, "without_address": 1200, "without_session": 0, "gone": 3})
    assert "the address of 1,200, user of 1,200 useractions" in line
    assert (
        "if org.opencastproject.usertracking.log.ip, org.opencastproject.usertracking.log.user are true in"
        " etc/org.opencastproject.usertracking.impl.UserTrackingServiceImpl.cfg"
    ) in line
    assert "browser" not in line
    assert "browser" in report_omitted({"without_session": 1})
    assert report_omitted({}) == ""


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [("10.0.0.1", ("10.0.0.1", ())), ("a, ,b", ("a", ("b",))), (" , ", (None, ())), ("", (None, ()))],
)
def test_the_address_is_the_first_that_is_given(forwarded, expected):
    action = read(sessionId={"userIp": forwarded})
    assert (action.ip, action.proxies) == expected


@pytest.mark.parametrize("value", [1, 1.0, "1"])
def test_playing_and_not_live(value):
    action = read(isPlaying=value)
    assert (action.is_playing, action.is_live) == (True, False)


@pytest.mark.parametrize("value", [True, "true", "True", False, "false"])
def test_a_boolean_does_not_say_whether_it_was_live(value):
    action = read(isPlaying=value)
    assert (action.is_playing, action.is_live) == (str(value).lower() == "true", None)


@pytest.mark.parametrize("value", [2, 2.0, "2", "live"])
def test_playing_live(value):
    action = read(isPlaying=value)
    assert (action.is_playing, action.is_live) == (True, True)


@pytest.mark.parametrize("value", [0, 0.0, "0"])
def test_not_playing(value):
    action = read(isPlaying=value)
    assert (action.is_playing, action.is_live) == (False, False)


@pytest.mark.parametrize("value", ["", None, 3, [], {}])
def test_what_says_nothing_is_not_playing(value):
    action = read(isPlaying=value)
    assert (action.is_playing, action.is_live) == (False, None)


@pytest.mark.parametrize(
    ("created", "offset"),
    [
        ("2014-09-01T12:46:18-04:00", -4),
        ("2014-09-01T12:46:18.5+05:00", 5),
        ("2014-09-01T12:46:18Z", 0),
        ("2014-09-01T12:46:18.181Z", 0),
    ],
)
def test_created_keeps_its_offset(created, offset):
    assert read(created=created).created.utcoffset() == dt.timedelta(hours=offset)


@pytest.mark.parametrize("number", ["12580", 12580.0])
def test_an_id_is_an_integer_however_it_is_written(number):
    assert read(id=number).id == 12580


@pytest.mark.parametrize("number", [None, "", "abc", True, [], {}])
def test_a_row_without_id_is_poison(number):
    with pytest.raises(PoisonError, match="no usable 'id'; expected a whole number"):
        read(id=number)


@pytest.mark.parametrize(
    "created",
    [None, "", "yesterday", 1409589978, "2014-09-01T12:46:18", "0001-01-01T00:00:00+10:00", [], {}],
)
def test_a_row_without_a_time_is_poison_and_only_its_id_is_told(created):
    with pytest.raises(PoisonError, match="Useraction 1 has no usable 'created'") as caught:
        read(created=created, sessionId=SESSION)
    assert "12345678" not in str(caught.value)
    assert "10.0.0.1" not in str(caught.value)
