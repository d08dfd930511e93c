import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents.episode_part import episode_part
from uaharvest.documents.useraction import record
from uaharvest.opencast.actions import read_action


def message(raw, result=None):
    episode = {} if result is None else episode_part(result)
    return json.loads(record(read_action(raw), json.dumps(episode)))


# The two messages are those that the old tool printed (contracts.md §2.0).


def test_the_old_tools_message_of_an_action_behind_a_proxy():
    raw = {
        "id": 12580,
        "mediapackageId": "bd6a996d-4a32-440d-a5f4-649510a25b19",
        "sessionId": {
            "sessionId": "node0db9f419a03",
            "userId": 60002627,
            "userIp": "200.70.169.1, 10.0.0.1",
            "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
        },
        "inpoint": 394,
        "outpoint": 394,
        "length": 0,
        "type": "SEEK",
        "isPlaying": 1,
        "created": "2026-11-20T11:00:02.750-05:00",
    }
    result = {
        "mediapackage": {
            "title": "Lecture 119",
            "duration": 7200000,
            "start": "2026-11-18T16:00:00Z",
            "series": 20260210038,
            "seriestitle": "Course 38",
        },
        "dcType": "S02",
        "dcDescription": "About 118",
    }
    assert message(raw, result) == json.loads(
        '{"action_id": 12580, "timestamp": "2026-11-20T16:00:02+00:00", "mpid":'
        ' "bd6a996d-4a32-440d-a5f4-649510a25b19", "session_id": "node0db9f419a03", "huid": "60002627",'
        ' "useragent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "action": {"type": "SEEK",'
        ' "inpoint": 394, "outpoint": 394, "length": 0, "is_playing": true}, "ip": "200.70.169.1", "proxy1":'
        ' "10.0.0.1", "is_live": 0, "episode": {"title": "Lecture 119", "duration": 7200000, "start":'
        ' "2026-11-18T16:00:00Z", "course": "Course 38", "series": "20260210038", "year": "2026", "term": "02",'
        ' "cdn": "10038", "type": "S02", "description": "About 118"}}'
    )


def test_the_old_tools_message_of_an_episode_without_series():
    raw = {
        "id": 2554,
        "mediapackageId": "113db17d-fc13-4357-a70c-1c24298cb3a5",
        "sessionId": {
            "sessionId": "node0d21becac23",
            "userId": "03128165",
            "userIp": "76.255.167.154",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        },
        "inpoint": 748,
        "outpoint": 748,
        "length": 0,
        "type": "HEARTBEAT",
        "isPlaying": 1,
        "created": "2026-11-20T16:00:09Z",
    }
    result = {
        "mediapackage": {"title": "Lecture 28", "duration": "5400000"},
        "dcCreated": "2026-11-01T11:00:00-05:00",
        "dcType": "L01",
        "dcDescription": "About 27",
    }
    assert message(raw, result) == json.loads(
        '{"action_id": 2554, "timestamp": "2026-11-20T16:00:09+00:00", "mpid":'
        ' "113db17d-fc13-4357-a70c-1c24298cb3a5", "session_id": "node0d21becac23", "huid": "03128165",'
        ' "useragent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "action": {"type": "HEARTBEAT",'
        ' "inpoint": 748, "outpoint": 748, "length": 0, "is_playing": true}, "ip": "76.255.167.154", "is_live":'
        ' 0, "episode": {"title": "Lecture 28", "duration": 5400000, "start": "2026-11-01T16:00:00Z", "type":'
        ' "L01", "description": "About 27"}}'
    )


def test_where_the_old_tool_lost_an_event_what_is_known_is_sent():
    assert message({"id": 5, "created": "2026-11-20T16:00:09Z"}) == {
        "action_id": 5,
        "timestamp": "2026-11-20T16:00:09+00:00",
        "mpid": None,
        "session_id": None,
        "huid": None,
        "action": {"type": None, "inpoint": None, "outpoint": None, "length": None, "is_playing": False},
        "is_live": 0,
        "is_live_inferred": True,
        "episode": {},
    }


def test_every_proxy_is_numbered():
    sent = message({"id": 5, "created": "2026-11-20T16:00:09Z", "sessionId": {"userIp": "a, b, c"}})
    assert (sent["ip"], sent["proxy1"], sent["proxy2"]) == ("a", "b", "c")


def test_live_is_the_number_1():
    sent = message({"id": 5, "created": "2026-11-20T16:00:09Z", "isPlaying": 2})
    assert sent["is_live"] is not True
    assert (sent["is_live"], sent["action"]["is_playing"]) == (1, True)


LECTURE = {"start": "2026-11-20T16:00:00Z", "duration": 3_600_000}


@pytest.mark.parametrize(
    ("created", "is_live"),
    [
        ("2026-11-20T15:59:59.999Z", 0),
        ("2026-11-20T16:00:00Z", 1),
        ("2026-11-20T11:59:59.999-05:00", 1),
        ("2026-11-20T17:00:00Z", 0),
    ],
)
@pytest.mark.parametrize("playing", [True, False])
def test_where_the_player_does_not_say_live_is_who_watches_while_the_episode_is_on_the_air(
    created, is_live, playing
):
    raw = {"id": 5, "created": created, "isPlaying": playing}
    sent = json.loads(record(read_action(raw), json.dumps(LECTURE)))
    assert (sent["is_live"], sent["is_live_inferred"]) == (is_live, True)


@pytest.mark.parametrize("playing", [0, 1, 2])
def test_what_the_player_says_is_not_inferred(playing):
    raw = {"id": 5, "created": "2026-11-20T16:30:00Z", "isPlaying": playing}
    sent = json.loads(record(read_action(raw), json.dumps(LECTURE)))
    assert sent["is_live"] == (playing == 2)
    assert "is_live_inferred" not in sent


@pytest.mark.parametrize(
    "episode",
    [{}, {"start": LECTURE["start"]}, {"duration": 5}, LECTURE | {"start": "Friday"}, LECTURE | {"duration": 0}],
)
def test_an_episode_that_does_not_say_when_it_was_on_the_air_was_not(episode):
    sent = json.loads(record(read_action({"id": 5, "created": LECTURE["start"]}), json.dumps(episode)))
    assert (sent["is_live"], sent["is_live_inferred"]) == (0, True)


@pytest.mark.parametrize("text", ["Müller", "\x00\x0b", "\ud800 alone", "\uffff", "👩‍🎓", '"}'])
def test_no_character_is_lost_nor_one_that_sqs_refuses(text):
    body = record(read_action({"id": 5, "created": "2026-11-20T16:00:09Z", "type": text}), "{}")
    assert body.isascii()
    assert body.isprintable()
    assert json.loads(body)["action"]["type"] == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
session = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("sessionId", "userId", "userIp", "userAgent"), json_values)
)
others = ("mediapackageId", "inpoint", "outpoint", "length", "type", "isPlaying", "userId", "userIp")
zones = st.integers(-18 * 60, 18 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


def not_json(word):
    raise ValueError(word)


@given(
    number=st.integers(-(2**63), 2**63 - 1),
    created=st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31), timezones=zones),
    raw=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(others, json_values) | {"sessionId": session | json_values}
    ),
)
def test_a_row_with_id_and_created_becomes_a_record_whatever_else_stands_in_it(number, created, raw):
    action = read_action(raw | {"id": number, "created": created.isoformat()})
    body = record(action, "{}")
    assert body.isascii()
    sent = json.loads(body, parse_constant=not_json)
    assert sent["action_id"] == number
    assert dt.datetime.fromisoformat(sent["timestamp"]) == created.astimezone(dt.UTC).replace(microsecond=0)
