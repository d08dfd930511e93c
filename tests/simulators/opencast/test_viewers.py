"""Viewers whose truth is known."""

from random import Random

import pytest
import requests

from simulators.opencast.rows import Session
from simulators.opencast.viewers import (
    PLAYERS,
    Habits,
    Piece,
    Viewer,
    Visit,
    events,
    events_with_end,
    footprints,
    heartbeats,
    make_viewer,
    report,
)

SESSION = Session("s", "u", None, None)
# Played 0 to 70, rested, jumped from 70 to 100, played 100 to 120 (the end), slept before.
PIECES = (
    Piece(0, 5, 0, 0),
    Piece(5, 75, 0, 1),
    Piece(75, 80, 70, 0),
    Piece(80, 90, 100, 2, ended=True),
    Piece(90, 100, 120, 0),
)
VISIT = Visit(SESSION, 1000, PIECES, sleeps=((78, 600),))
VIEWER = Viewer("u", "r", 120, (VISIT,))


def told(player, visit=VISIT):
    return [
        (row.created_ms / 1000 - 1000, row.type, row.inpoint, row.outpoint, row.playing) for row in player(visit)
    ]


def test_the_truth_is_what_played():
    assert VIEWER.seen() == [(0, 70), (100, 120)]
    assert (VIEWER.seen_s, VIEWER.watched_s, VIEWER.live_s) == (90, 90, 0)


def test_heartbeats_come_every_thirty_seconds_awake_also_from_a_paused_player():
    assert told(heartbeats) == [
        (30, "HEARTBEAT", 25, 25, 1),
        (60, "HEARTBEAT", 55, 55, 1),
        (690, "HEARTBEAT", 120, 120, 0),
    ]


def test_heartbeats_of_a_live_stream_say_so():
    live = Visit(SESSION, 1000, (Piece(0, 40, 0, 1),), live=True)
    assert told(heartbeats, live) == [(30, "HEARTBEAT", 30, 30, 2)]
    assert Viewer("u", "r", 120, (live,)).live_s == 40


def test_paella_7_reports_neither_the_end_nor_the_closing():
    assert told(events) == [
        (5, "PLAY", 0, 0, 1),
        (75, "PAUSE", 70, 70, 0),
        (680, "SEEK", 70, 100, 0),
        (680, "PLAY", 100, 100, 1),
    ]
    assert told(events_with_end)[-1] == (690, "paella:ended", 120, 120, 0)


def test_footprints_grow_until_the_playhead_jumps():
    rows = report([VIEWER], footprints, Random(1))
    assert [(row.inpoint, row.outpoint, row.length) for row in rows] == [(0, 70, 70), (100, 120, 20)]
    assert [row.created_ms for row in rows] == [1_010_000, 1_685_000]


def test_rows_get_lost():
    whole = report([VIEWER] * 300, heartbeats, Random(1))
    assert len(whole) == 900
    assert 60 < 900 - len(report([VIEWER] * 300, heartbeats, Random(1), lost=0.1)) < 120


@pytest.mark.parametrize("player", PLAYERS.values(), ids=PLAYERS)
def test_the_same_seed_yields_the_same_rows(player):
    def rows():
        rng = Random(5)
        return report([make_viewer(rng, "r", 900, 1.7e9, Habits()) for _ in range(5)], player, rng)

    assert rows() == rows()
    assert len({row.id for row in rows()}) == len(rows())


def test_people_stay_inside_the_recording():
    rng = Random(7)
    for _ in range(200):
        for start, end in make_viewer(rng, "r", 900, 1.7e9, Habits()).seen():
            assert 0 <= start < end <= 900 + 1e-6


def test_a_running_simulator_lets_viewers_watch_and_says_what_is_true(start):
    simulator = start("--rows", 0)
    asked = {"viewers": 3, "mediapackage": "r", "duration": 600, "start": 1_795_190_400, "player": "events"}
    found = simulator.control("POST", "viewers", asked)
    assert len(found["viewers"]) == 3
    assert sorted(action["id"] for action in simulator.actions()) == sorted(found["ids"])
    again = simulator.control("POST", "viewers", asked)
    assert again["viewers"] == found["viewers"]
    assert not set(again["ids"]) & set(found["ids"])


def test_a_running_simulator_lets_known_users_watch(start):
    simulator = start("--rows", 0)
    asked = {"users": ["60002627", "60002628"], "mediapackage": "r", "start": 1_795_190_400}
    found = simulator.control("POST", "viewers", asked)
    assert [viewer["user"] for viewer in found["viewers"]] == asked["users"]
    assert found["viewers"][0]["seen"] != found["viewers"][1]["seen"]
    assert {action["sessionId"]["userId"] for action in simulator.actions()} == {60002627, 60002628}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"player": "vcr"}, "player"),
        ({"mediapackage": ""}, "mediapackage"),
        ({"duration": 5}, "duration"),
        ({"lost": 2}, "lost"),
        ({"viewer": 2}, "viewer"),
        ({"users": "60002627"}, "users"),
        ({"users": [60002627]}, "users"),
        ({"users": ["60002627"], "viewers": 1}, "users"),
    ],
)
def test_a_running_simulator_refuses_viewers_that_cannot_be(shared, asked, named):
    body = {"mediapackage": "r", "start": 1_795_190_400} | asked
    response = requests.post(f"{shared('--rows', 0).url}/_sim/viewers", json=body, timeout=60)
    assert response.status_code == 400
    assert named in response.text
