"""The documents of a recording: what they say, and that nothing but the useractions decides it."""

import datetime as dt
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viewing.cases import START
from uaharvest.viewing import recording as recording_
from uaharvest.viewing.actions import Action, Actions
from uaharvest.viewing.documents import BIN_S, CLOCK_S, LONGEST_S, digest, documents, recording_of
from uaharvest.viewing.engine import viewings
from uaharvest.viewing.measures import measures
from uaharvest.viewing.recording import RecordingActions

ANONYMOUS = ("anonymous", "public_user")
EPISODE = {"title": "Lecture", "series": "20260112345", "start": "2026-11-01T10:00:00Z", "duration": 600_000}
POSITIONS = st.none() | st.integers(-50, 900) | st.sampled_from([0, 30, 60, 90, 10**12, 10**30])


def instant(at):
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(id_, at, kind="HEARTBEAT", inpoint=0, outpoint=None, **fields):
    """Return the document of a useraction `at` seconds after START; `action` and `episode` are given as a whole."""
    usual = {"type": kind, "inpoint": inpoint, "outpoint": outpoint, "length": None, "is_playing": True}
    whole = {
        "action_id": id_,
        "@timestamp": instant(START + at),
        "huid": "v",
        "session_id": "s",
        "is_live": 0,
        "episode": EPISODE,
    }
    return whole | fields | {"action": usual | fields.get("action", {})}


def beats(*positions, start=0, first=1, **fields):
    """Return heartbeats, the first 30 s after `start`, with the ids from `first` on."""
    return [
        row(first + n, start + 30 * (n + 1), inpoint=position, **fields) for n, position in enumerate(positions)
    ]


def taken(rows):
    found = RecordingActions("m", ANONYMOUS)
    for one in rows:
        found.add(one)
    return found


def made(rows, episode=None):
    """Return the documents as texts."""
    return [json.dumps(body) for body in documents(taken(rows), episode)]


def of_viewers(rows, episode=None):
    return {
        body.fields["viewer"]: body.fields for body in documents(taken(rows), episode) if body.family == "viewings"
    }


def of_recording(rows, episode=None):
    *_, body = documents(taken(rows), episode)
    assert (body.family, body.id) == ("recordings", "m")
    return body.fields


# One example


def test_a_viewer_has_a_document_with_what_was_seen_and_when():
    [body, _] = documents(taken(beats(30, 60, 90, 300)), None)
    assert body.id == digest("m", "v")
    assert body.fields == {
        "@timestamp": "2023-11-14T22:15:35+00:00",
        "mpid": "m",
        "series": "20260112345",
        "title": "Lecture",
        "duration_s": 600.0,
        "viewer": "v",
        "huid": "v",
        "evidence": ["heartbeat"],
        "seen_s": 135.0,
        "coverage": 0.225,
        "watched_s": 135.0,
        "again_s": 0.0,
        "furthest_s": 315.0,
        "sittings": 1,
        "first": "2023-11-14T22:13:20+00:00",
        "last": "2023-11-14T22:15:35+00:00",
        "live_s": 0.0,
        "intervals": [[0.0, 105.0], [285.0, 315.0]],
        "played": [[0.0, 105.0, START + 0.0, START + 105.0], [285.0, 315.0, START + 105.0, START + 135.0]],
        "stays": [],
    }


def test_the_recording_has_a_document_with_its_curves():
    rows = [*beats(30, 60, 90), *beats(30, 60, first=11, start=3600, huid="anonymous", session_id="x")]
    assert of_recording(rows) == {
        "@timestamp": "2023-11-14T23:14:35+00:00",
        "mpid": "m",
        "series": "20260112345",
        "title": "Lecture",
        "duration_s": 600.0,
        "start": "2026-11-01T10:00:00+00:00",
        "viewers": 2,
        "anonymous": 1,
        "mean_coverage": 0.15,
        "median_coverage": 0.15,
        "bin_s": 30,
        "views": [2, 2, 1] + [0] * 17,
        "retention": [2, 2, 1] + [0] * 17,
        "concurrency": [
            {"at": "2023-11-14T22:10:00+00:00", "live": 0, "recorded": 1},
            {"at": "2023-11-14T22:15:00+00:00", "live": 0, "recorded": 1},
            {"at": "2023-11-14T23:10:00+00:00", "live": 0, "recorded": 1},
        ],
    }


def test_who_was_there_live_has_stays_and_does_not_lower_the_coverage():
    rows = [*beats(30, 60, 90, huid="present", is_live=1), *beats(*range(30, 601, 30), first=11, session_id="t")]
    present = of_viewers(rows)["present"]
    assert (present["evidence"], present["played"], present["coverage"]) == ([], [], 0.0)
    assert present["stays"] == [["2023-11-14T22:13:20+00:00", "2023-11-14T22:15:05+00:00"]]
    assert present["live_s"] == 105.0
    whole = of_recording(rows)
    assert (whole["viewers"], whole["mean_coverage"]) == (2, 1.0)
    assert whole["concurrency"][0] == {"at": "2023-11-14T22:10:00+00:00", "live": 1, "recorded": 1}


def test_a_second_device_at_the_live_stream_counts_once():
    rows = [*beats(30, 60, is_live=True), *beats(30, 60, first=11, start=10, is_live="1", session_id="t")]
    assert of_viewers(rows)["v"]["stays"] == [["2023-11-14T22:13:20+00:00", "2023-11-14T22:14:45+00:00"]]


@pytest.mark.parametrize("user", [None, "anonymous", "public_user"])
def test_each_session_of_nobody_is_a_viewer_of_its_own(user):
    rows = [*beats(30, 60, huid=user, session_id="a"), *beats(30, first=11, huid=user, session_id="b")]
    found = of_viewers(rows)
    assert list(found) == ["session:a", "session:b"]
    assert not any("huid" in fields for fields in found.values())
    assert of_recording(rows)["anonymous"] == 2


def test_rows_of_nobody_in_no_session_are_counted_and_left_out():
    found = taken([*beats(30, 60, huid=None, session_id=None), *beats(30, first=11)])
    assert found.unidentified == 2
    assert [body.fields.get("viewer") for body in documents(found, None)] == ["v", None]


def test_a_user_without_sessions_is_one_viewer():
    assert of_viewers(beats(30, 60, session_id=None))["v"]["seen_s"] == 75.0


def test_a_recording_that_nobody_played_has_no_document():
    assert made([row(1, 0, "paella:button:action"), row(2, 30, inpoint=None)]) == []
    assert made([]) == []


# What is known of the recording


def test_of_what_the_rows_say_the_newest_known_counts():
    first = beats(30, episode={**EPISODE, "title": "Draft", "duration": 300_000})
    later = beats(30, first=11, start=3600, session_id="t", episode={"title": "Final", "series": None})
    for rows in ([*first, *later], [*later, *first]):
        whole = of_recording(rows)
        assert (whole["title"], whole["duration_s"], whole["series"]) == ("Final", 300.0, "20260112345")


def test_the_episodes_document_says_what_no_row_says():
    episode = {"mpid": "m", "duration": 60_000, "title": "Other", "start": "2026-11-01T10:00:00+00:00"}
    whole = of_recording(beats(30, 60, episode={"title": "Lecture"}), episode)
    assert (whole["title"], whole["duration_s"], whole["mean_coverage"]) == ("Lecture", 60.0, 1.0)
    assert whole["start"] == "2026-11-01T10:00:00+00:00"


@pytest.mark.parametrize("duration", [None, 0, -1, "600000", 10**30, True])
def test_without_a_usable_duration_there_is_no_coverage_and_all_else_is_measured(duration):
    rows = beats(30, 60, 90, episode={"duration": duration})
    assert not {"duration_s", "coverage"} & of_viewers(rows)["v"].keys()
    whole = of_recording(rows)
    assert not {"duration_s", "mean_coverage", "median_coverage", "title", "series", "start"} & whole.keys()
    assert whole["views"] == [1, 1, 1, 0]  # as far as anybody came


@pytest.mark.parametrize("start", ["yesterday", "2026-11-01T10:00:00", "0001-01-01T00:00:00+10:00", ""])
def test_a_start_that_is_no_instant_is_left_out(start):
    assert "start" not in of_recording(beats(30, episode={"start": start}))


# Wrong rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"action_id": "1"},
        {"action_id": 2**63},
        {"action_id": None},
        {"@timestamp": None},
        {"@timestamp": "2026-11-01T10:00:00"},
        {"@timestamp": "9999-12-31T23:59:59Z"},
        {"@timestamp": "0001-01-01T00:00:00Z"},
        {"@timestamp": 17},
    ],
)
def test_a_row_without_an_id_or_a_time_is_skipped_and_counted(wrong):
    found = taken([*beats(30, 60), row(9, 90, inpoint=90) | wrong])
    assert found.skipped == 1
    assert len(found) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": None},
        {"action": []},
        {"action": {"type": {}}},
        {"action": {"type": "HEARTBEAT", "inpoint": "a", "outpoint": []}},
        {"action": {"type": "HEARTBEAT", "inpoint": 10**400}},
        {"action": {"type": "HEARTBEAT", "inpoint": float("nan")}},
        {"episode": "none"},
        {"episode": {"title": [], "duration": {}}},
        {"is_live": []},
        {"is_live": None},
        {"session_id": []},
        {"huid": {}, "session_id": "t"},
    ],
)
def test_fields_of_a_wrong_type_are_unknown(wrong):
    assert of_viewers([*beats(30, 60), row(9, 90, inpoint=None) | wrong])["v"]["seen_s"] == 75.0


def test_a_footprint_that_claims_years_ends_with_the_recording_on_the_clock_too():
    found = of_viewers([row(1, 0, "FOOTPRINT", 0, 10**9)])["v"]
    assert found["played"] == [[0.0, 600.0, START + 0.0, START + 1200.0]]
    unknown = of_recording([row(1, 0, "FOOTPRINT", 0, 10**9, episode={})])
    assert len(unknown["views"]) == LONGEST_S // BIN_S
    assert len(unknown["concurrency"]) == LONGEST_S // CLOCK_S


def test_a_footprint_may_say_its_length_only():
    assert of_viewers([row(1, 0, "FOOTPRINT", 5, action={"length": 20})])["v"]["intervals"] == [[5.0, 25.0]]


# What holds for any useractions


@st.composite
def useractions(draw):
    rows = draw(
        st.lists(
            st.builds(
                row,
                st.integers(1, 40),
                st.integers(0, 4000),
                st.sampled_from(["HEARTBEAT", "HEARTBEAT", "PLAY", "PAUSE", "SEEK", "FOOTPRINT", "X"]),
                POSITIONS,
                POSITIONS,
                huid=st.sampled_from(["v", "w", "anonymous", None]),
                session_id=st.sampled_from([None, "a", "b"]),
                is_live=st.sampled_from([0, 0, 0, 1]),
                episode=st.sampled_from([EPISODE, EPISODE, {}, {"duration": 700_000, "title": "New"}]),
            ),
            max_size=25,
        )
    )
    # The store has one document per id.
    return list({one["action_id"]: one for one in rows}.values())


@given(useractions(), st.randoms())
def test_the_same_rows_give_the_same_bytes_in_any_order_and_however_often(rows, random):
    shuffled = rows * 2
    random.shuffle(shuffled)
    assert made(rows) == made(shuffled)


@given(useractions())
def test_the_same_rows_give_the_same_bytes_however_few_are_judged_at_once(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording_, "_AT_ONCE", 1)
        few = made(rows)
    assert few == made(rows)


@given(useractions())
def test_the_documents_are_the_measures_of_the_engine(rows):
    duration = taken(rows).info.duration
    durations = {"m": duration / 1000} if duration else {}
    actions = [
        Action(
            one["action_id"],
            dt.datetime.fromisoformat(one["@timestamp"]).timestamp(),
            "m",
            user,
            one["session_id"],
            one["action"]["type"],
            *(None if (at or 0) > 10**9 else at for at in (one["action"]["inpoint"], one["action"]["outpoint"])),
            playing=True,
            live=one["is_live"] == 1,
        )
        for one in rows
        if (user := one["huid"] if one["huid"] in {"v", "w"} else f"session:{one['session_id']}") != "session:None"
    ]
    expected = {one.viewer: one for one in measures(viewings(Actions.of(actions), durations), durations)}
    found = of_viewers(rows)
    assert found.keys() == expected.keys()
    for viewer, fields in found.items():
        one = expected[viewer]
        for name in ("seen_s", "watched_s", "again_s", "furthest_s", "live_s"):
            assert fields[name] == pytest.approx(getattr(one, name), abs=0.051)
        assert fields["sittings"] == one.sittings
        assert fields.get("coverage") == pytest.approx(one.coverage, abs=0.0001)


@given(useractions())
def test_the_curves_agree_with_the_viewers_documents(rows):
    viewers = list(of_viewers(rows).values())
    if not viewers:
        return
    whole = of_recording(rows)
    assert whole["viewers"] == len(viewers)
    length = whole.get("duration_s") or max(fields["furthest_s"] for fields in viewers)
    assert len(whole["views"]) == len(whole["retention"]) == math.ceil(length / BIN_S)
    for number, (views, retention) in enumerate(zip(whole["views"], whole["retention"], strict=True)):
        start, end = BIN_S * number, BIN_S * (number + 1)
        middle = (start + (min(end, length) if "duration_s" in whole else end)) / 2
        played = [sum(a <= middle < b for a, b, *_ in fields["played"]) for fields in viewers]
        near = any(abs(edge - middle) < 0.1 for fields in viewers for one in fields["played"] for edge in one[:2])
        assert near or (views, retention) == (sum(played), sum(map(bool, played)))
    for entry in whole["concurrency"]:
        assert 0 < entry["live"] + entry["recorded"] <= 2 * len(viewers)


@given(useractions())
def test_the_recordings_document_follows_from_those_of_its_viewers(rows):
    *viewers, whole = [*documents(taken(rows), None)] or [None]
    if whole:
        fields = json.loads(json.dumps([one.fields for one in viewers]))
        assert recording_of(whole.fields, fields) == whole
        assert recording_of(whole.fields, []) is None


@given(useractions(), useractions())
def test_more_rows_of_other_viewers_change_no_viewer(rows, others):
    apart = [one | {"huid": "other", "action_id": one["action_id"] + 100, "episode": {}} for one in others]
    duration = {"duration": 600_000}  # in the document of the episode, so that it is the same for both
    alone = of_viewers([one | {"episode": {}} for one in rows], duration)
    together = of_viewers([one | {"episode": {}} for one in rows] + apart, duration)
    together.pop("other", None)
    assert together == alone


# Memory


@pytest.mark.fault
@pytest.mark.long
def test_a_recording_with_two_thousand_viewers_of_three_hours_needs_less_than_300_mb():
    program = Path(__file__).with_name("large_recording.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=600)
    grown, viewers, rows = map(int, done.stdout.split())
    assert (viewers, rows) == (2000, 720_000)
    assert grown < 300_000_000


@pytest.mark.parametrize("step", [1, -1])
def test_values_that_are_equal_but_of_another_type_are_not_the_same(step):
    rows = [
        {"action_id": number, "@timestamp": f"2026-11-20T10:00:0{number}Z", "episode": {"title": title}}
        for number, title in enumerate([1, True])
    ]
    useractions = RecordingActions("mpid", ())
    for row in rows[::step]:
        useractions.add(row)
    assert useractions.info.title == "true"
