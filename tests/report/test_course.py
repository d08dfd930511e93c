from datetime import UTC, datetime, timedelta

import pytest

from simulators import course as simulated
from uaharvest.documents.attendance import attendance as attendance_of
from uaharvest.report import lectures as lectures_
from uaharvest.report.course import Attending, Question, State, course
from uaharvest.report.lectures import Link, lectures, meetings, propose
from uaharvest.report.matching import Why
from uaharvest.report.roster import Student
from uaharvest.report.source import CourseDocuments
from uaharvest.viewing.documents import documents as documents_of
from uaharvest.viewing.recording import RecordingActions

START = datetime(2026, 2, 2, 15, tzinfo=UTC)
HOUR = 3600.0
ROSTER = [Student("11", ("ann@x.edu",), "Ann", "Ash"), Student("22", ("ben@x.edu",), "Ben", "Birch")]


def at(minutes):
    return (START + timedelta(minutes=minutes)).isoformat()


def recording(**fields):
    return {"mpid": "a", "title": "A", "start": at(0), "duration_s": HOUR, **fields}


def viewing(viewer="11", **fields):
    return {
        "mpid": "a",
        "viewer": viewer,
        "huid": viewer,
        "seen_s": 0.0,
        "coverage": 0.0,
        "watched_s": 0.0,
        **fields,
    }


def live(since, until, **fields):
    return viewing(live_s=(until - since) * 60.0, stays=[[at(since), at(until)]], **fields)


def seen(share, **fields):
    return viewing(seen_s=share * HOUR, coverage=share, watched_s=share * HOUR, **fields)


def zoom(*stays, person="acc", email="ann@x.edu", **fields):
    times = {"start": at(-5), "end": at(65), "stays": [[at(since), at(until)] for since, until in stays]}
    return {"uuid": "m", "meeting_id": "912", "person": person, "user_email": email, **times, **fields}


def join(viewings=(), attendance=(), rule=Attending.EITHER, threshold=0.5, recordings=None):
    documents = CourseDocuments(
        list(viewings), [recording()] if recordings is None else recordings, list(attendance)
    )
    links = propose(documents.recordings, meetings(documents.attendance))
    return course(Question("s", "S", threshold, rule), ROSTER, lectures(documents, links, UTC), documents)


@pytest.mark.parametrize(
    ("documents", "state", "share", "coverage"),
    [
        ({}, State.NOTHING, 0.0, 0.0),
        ({"viewings": [live(0, 30)]}, State.LIVE, 0.5, 0.0),
        ({"viewings": [live(0, 29)]}, State.SOME, 0.4833, 0.0),
        ({"viewings": [seen(0.5)]}, State.RECORDING, 0.0, 0.5),
        ({"viewings": [seen(0.4999)]}, State.SOME, 0.0, 0.4999),
        ({"viewings": [{**live(0, 90), "seen_s": HOUR, "coverage": 1.0}]}, State.BOTH, 1.0, 1.0),
        ({"viewings": [viewing()]}, State.NOTHING, 0.0, 0.0),
        # A third live and a third of the recording are not two thirds.
        ({"viewings": [{**live(0, 20), "seen_s": 1200.0, "coverage": 0.3333}]}, State.SOME, 0.3333, 0.3333),
        ({"attendance": [zoom((0, 15), (30, 45))]}, State.LIVE, 0.5, 0.0),
        ({"attendance": [zoom((-5, 0), (60, 65))]}, State.NOTHING, 0.0, 0.0),  # before and after
        # In two at once, a minute counts once.
        ({"viewings": [live(0, 20)], "attendance": [zoom((10, 30))]}, State.LIVE, 0.5, 0.0),
        ({"viewings": [live(0, 20)], "attendance": [zoom((0, 20))]}, State.SOME, 0.3333, 0.0),
        ({"viewings": [viewing(live_s=1800.0)]}, State.LIVE, 0.5, 0.0),  # without its stays
        ({"recordings": [recording(duration_s=None)], "viewings": [live(0, 90)]}, State.SOME, None, 0.0),
    ],
)
def test_a_student_attended_by_the_share_of_the_lecture_or_of_the_recording(documents, state, share, coverage):
    found = join(**documents)
    [[cell], [nobody]] = found.cells
    assert (cell.state, cell.live, cell.coverage) == (state, share, coverage)
    assert nobody.state is State.NOTHING


@pytest.mark.parametrize(
    ("rule", "attended"),
    [
        (Attending.LIVE, [True, False]),
        (Attending.RECORDING, [False, True]),
        (Attending.EITHER, [True, True]),
    ],
)
def test_the_rule_says_what_counts(rule, attended):
    found = join([live(0, 60), seen(1.0, viewer="22")], rule=rule)
    assert [cell.attended for [cell] in found.cells] == attended


@pytest.mark.parametrize(("threshold", "attended"), [(0.01, True), (0.5, True), (0.51, False), (1.0, False)])
def test_there_is_one_threshold(threshold, attended):
    [[first], [second]] = join([live(0, 30), seen(0.5, viewer="22")], threshold=threshold).cells
    assert first.attended is second.attended is attended


def test_a_lecture_without_a_recording_has_no_coverage():
    found = join(attendance=[zoom((0, 60))], recordings=[])
    [[cell], [nobody]] = found.cells
    assert (cell.state, cell.live, cell.coverage) == (State.LIVE, 0.8571, None)
    assert (nobody.live, nobody.coverage) == (0.0, None)


def test_everyone_who_was_not_matched_is_listed_with_why_and_the_sums_add_up():
    guest = zoom((0, 60), person="name:Ben Birch", email=None, user_name="Ben Birch", minutes=60.0, sessions=2)
    found = join(
        [
            seen(1.0),
            seen(0.5, viewer="99"),
            {**seen(0.5, viewer="session:1"), "huid": None},
            {**seen(0.5, viewer="session:2"), "huid": None},
        ],
        [
            zoom((0, 60), minutes=60.0, user_name="Ann"),
            guest,
            {**guest, "person": "x", "user_email": "b@y.org", "user_name": "Ben Birch"},
            {**guest, "person": "name:iPad", "user_name": "iPad", "minutes": 5.0},
            {**guest, "uuid": "another meeting", "start": None},
        ],
    )
    assert [
        (one.source, one.who, one.why, one.could_be, one.sessions, one.minutes) for one in found.unmatched
    ] == [
        ("Opencast", "visitors", Why.ANONYMOUS, (), 2, 60.0),
        ("Opencast", "99", Why.NOT_ON_ROSTER, (), 1, 30.0),
        ("Zoom", "iPad", Why.UNKNOWN_NAME, (), 2, 5.0),
        ("Zoom", "Ben Birch · b@y.org", Why.OTHER_EMAIL, (1,), 2, 60.0),
        ("Zoom", "Ben Birch", Why.NAMESAKE, (1,), 2, 60.0),
    ]
    for tally in found.tallies:
        assert tally.sessions == tally.matched + tally.unmatched == sum(tally.by.values())
    assert [(tally.sessions, tally.matched) for tally in found.tallies] == [(4, 1), (7, 1)]
    assert found.others == [(1, 2)]
    assert [len(one) for one in found.zoom] == [4]


def test_documents_of_other_lectures_are_left_out_but_their_names_are_seen():
    documents = CourseDocuments(
        [viewing(mpid="b")],
        [recording(), recording(mpid="b", start=at(60 * 24))],
        [
            zoom((0, 60), person="name:Ben Birch", email=None, user_name="Ben Birch"),
            {**zoom((0, 60), person="x", email="b@y.org", user_name="Ben Birch"), "uuid": "m2"},
        ],
    )
    links = [Link(meetings(documents.attendance)[0], "a", "")]
    day = START.date()
    found = course(
        Question("s", "S", 0.5, Attending.EITHER),
        ROSTER,
        lectures(documents, links, UTC, (day, day)),
        documents,
    )
    assert [one.why for one in found.unmatched] == [Why.NAMESAKE]
    assert [tally.sessions for tally in found.tallies] == [0, 1]


def test_of_a_simulated_course_every_student_is_present_or_absent_and_every_session_is_accounted_for():
    truth = simulated.course(lectures=6, students=60)
    documents = CourseDocuments(truth.viewings, truth.recordings, truth.attendance)
    roster = [
        Student(huid, (email.lower(),), first, last, reg or None) for huid, email, first, last, reg in truth.roster
    ]
    links = propose(documents.recordings, lectures_.meetings(documents.attendance))
    assert {link.why for link in links} == {"at the same time"}
    found = course(Question("s", "S", 0.5, Attending.EITHER), roster, lectures(documents, links, UTC), documents)
    assert len(found.lectures) == 6
    for place in range(6):
        assert len(found.column(place)) == 60
    sessions = [len(truth.viewings), sum(one["sessions"] for one in truth.attendance)]
    assert [tally.sessions for tally in found.tallies] == sessions
    assert [tally.unmatched for tally in found.tallies] == [
        sum(one.sessions for one in found.unmatched if one.source == source) for source in ("Opencast", "Zoom")
    ]
    viewings = {(one["viewer"], one["mpid"]): one for one in truth.viewings}
    for student, cells in zip(roster, found.cells, strict=True):
        for one, cell in zip(found.lectures, cells, strict=True):
            own = viewings.get((student.huid, one.key), {})
            assert cell.coverage == own.get("coverage", 0.0)
            assert cell.watched_s == own.get("watched_s", 0.0)
            assert cell.live_s == own.get("live_s", 0.0)


def test_the_documents_that_the_streams_write_are_those_that_a_report_reads():
    played = {"mpid": "a", "session_id": "node1", "is_live": 0}
    rows = RecordingActions("a", anonymous=())
    for number in range(61):
        action = {"type": "HEARTBEAT", "inpoint": 30 * number, "is_playing": True}
        when = {"action_id": number, "@timestamp": at(600 + number / 2)}
        rows.add({**played, **when, "huid": "11", "action": action})
    episode = {"title": "A", "series": "s", "start": at(0), "duration": int(HOUR * 1000)}
    written = list(documents_of(rows, episode))
    stay = {
        "join_time": at(5),
        "leave_time": at(60),
        "email": "Ben@X.edu",
        "user_name": "B",
        "user_id": "16778240",
    }
    meeting = {"meeting_series_id": "912", "topic": "T", "start_time": at(0), "end_time": at(60)}
    found = join(
        [one.fields for one in written if one.family == "viewings"],
        attendance_of("m", meeting, [stay]).values(),
        recordings=[one.fields for one in written if one.family == "recordings"],
    )
    [[first], [second]] = found.cells
    assert (first.state, first.coverage) == (State.RECORDING, 0.5042)  # and 15 s after the last heartbeat
    assert (second.state, second.zoom_s, second.live) == (State.LIVE, 3300.0, 0.9167)
    assert [meeting.topic for meeting in found.lectures[0].meetings] == ["T"]
    assert (found.tallies[0].matched, found.tallies[1].by) == (1, {"e-mail": 1})
