import csv
import io
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from uaharvest.errors import BadInputError
from uaharvest.report import lectures as lectures_
from uaharvest.report.lectures import (
    NO_LECTURE,
    Link,
    MeetingInstance,
    lectures,
    meetings,
    propose,
    read,
    written,
)
from uaharvest.report.source import CourseDocuments
from uaharvest.report.tables import written as as_csv

ZONE = ZoneInfo("America/New_York")
START = datetime(2026, 2, 2, 15, tzinfo=UTC)


def recording(mpid, start=START, duration=4500.0, **fields):
    return {"mpid": mpid, "title": f"About {mpid}", "start": start.isoformat(), "duration_s": duration, **fields}


def meeting(uuid, start=START, minutes=80, number="912"):
    return MeetingInstance(uuid, number, "The course", start, start + timedelta(minutes=minutes))


def test_meetings_are_named_by_their_attendance_each_once():
    stays = {"meeting_id": 912, "topic": None, "start": "2026-02-02T15:00:00+00:00", "end": "2026-02-02T16:20:00Z"}
    later = {**stays, "uuid": "b", "start": "2026-02-03T15:00:00+00:00", "end": "2026-02-03T16:00:00+00:00"}
    found = meetings([later, {**stays, "uuid": "a"}, {**stays, "uuid": "a"}, {"uuid": "no times"}])
    assert [(one.uuid, one.meeting_id, one.topic) for one in found] == [("a", "912", ""), ("b", "912", "")]
    assert found[0].end == START + timedelta(minutes=80)


@pytest.mark.parametrize(
    ("recordings", "mpid", "why"),
    [
        ([recording("a")], "a", "at the same time"),
        ([recording("a", START + timedelta(minutes=10))], "a", "at the same time"),
        ([recording("a", START, None)], "a", "at the same time"),  # its duration is unknown
        ([recording("a"), recording("b", START + timedelta(days=1))], "a", "at the same time"),
        ([recording("a"), recording("b", START + timedelta(minutes=65))], "a", "at the same time"),  # the next one
        ([recording("a"), recording("b")], None, "several recordings at this time"),
        ([recording("a", START + timedelta(days=1))], None, "no recording at this time"),
        ([{"mpid": "a"}], None, "no recording at this time"),
        ([], None, "no recording at this time"),
    ],
)
def test_a_recording_is_proposed_if_it_alone_was_made_at_that_time(recordings, mpid, why):
    [link] = propose(recordings, [meeting("m")])
    assert (link.mpid, link.why) == (mpid, why)


def test_a_proposal_can_be_changed_and_read_again(tmp_path):
    recordings = [recording("a"), recording("b", START + timedelta(days=2))]
    held = [meeting("+m1=="), meeting("m2", START + timedelta(days=1)), meeting("m3", START + timedelta(days=3))]
    path = tmp_path / "meetings.csv"
    rows = written(propose(recordings, held), recordings)
    path.write_text("\ufeff" + as_csv(rows))
    again = read(path, recordings, held)
    assert [(link.meeting.uuid, link.mpid, link.why) for link in again] == [
        ("+m1==", "a", "by the file"),
        ("m2", None, "by the file"),
        ("m3", None, "by the file"),
    ]
    rows[2][1], rows[3][1] = NO_LECTURE, "b"
    path.write_text(as_csv(rows).replace(",", ";"))
    changed = [*held, meeting("new", START + timedelta(days=2))]
    assert [link.mpid for link in read(path, recordings, changed)] == ["a", NO_LECTURE, "b", "b"]
    [header, first, *_] = csv.reader(io.StringIO(as_csv(rows)))
    assert dict(zip(header, first, strict=True)) == {
        "uuid": "'+m1==",
        "mpid": "a",
        "meeting_id": "912",
        "start": "2026-02-02T15:00:00+00:00",
        "end": "2026-02-02T16:20:00+00:00",
        "topic": "The course",
        "recording": "About a",
        "why": "at the same time",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uuid\nm\n", ", line 1: no column mpid"),
        ("", ", line 1: no column mpid, uuid"),
        ("uuid,mpid\nm,a\nm2,x\n", ", line 3: the series has no recording 'x'. Expected an mpid, nothing for a"),
        ("uuid,mpid\nm,a\nm,\n", ", line 3: the same uuid as in a line before"),
        ('uuid,mpid\nm,"a\n', ", line 2: unexpected end of data"),
    ],
)
def test_a_bad_file_of_meetings_is_refused_with_the_line(tmp_path, text, said):
    path = tmp_path / "meetings.csv"
    path.write_text(text)
    with pytest.raises(BadInputError) as error:
        read(path, [recording("a")], [meeting("m")])
    assert str(error.value).startswith(f"--meetings: {path}{said}")


def test_a_file_of_meetings_must_exist_in_utf_8(tmp_path):
    path = tmp_path / "meetings.csv"
    with pytest.raises(BadInputError, match="No such file"):
        read(path, [], [])
    path.write_bytes(b"uuid,mpid,topic\nm,a,caf\xe9\n")
    with pytest.raises(BadInputError, match="not UTF-8"):
        read(path, [], [])


def links(*pairs):
    return [Link(one, mpid, "") for one, mpid in pairs]


def test_lectures_are_recordings_and_meetings_in_the_order_of_time():
    documents = CourseDocuments([], [recording("b", START + timedelta(days=2)), recording("a"), {"mpid": "c"}])
    held = links(
        (meeting("m1"), "a"),
        (meeting("m2", START + timedelta(days=1)), None),
        (meeting("m3", START + timedelta(days=1, hours=5)), NO_LECTURE),
    )
    found = lectures(documents, held, ZONE)
    assert [(one.number, one.key, one.title) for one in found] == [
        (1, "a", "About a"),
        (2, "m2", "The course"),
        (3, "b", "About b"),
        (4, "c", "Untitled"),
    ]
    assert [one.length_s for one in found] == [4500.0, 4800.0, 4500.0, None]


def test_a_meeting_that_goes_on_after_a_break_is_one_lecture():
    parts = [meeting("m1", START, 30), meeting("m2", START + timedelta(minutes=40), 40)]
    evening = meeting("m3", START + timedelta(hours=5), 40)
    other = meeting("m4", START + timedelta(minutes=80), 10, number="913")
    found = lectures(CourseDocuments([], []), links(*((one, None) for one in [*parts, evening, other])), ZONE)
    assert [[one.uuid for one in lecture.meetings] for lecture in found] == [["m1", "m2"], ["m4"], ["m3"]]
    assert found[0].length_s == 80 * 60


@pytest.mark.parametrize(
    ("fields", "start", "length"),
    [
        ({}, START, 4500.0),
        ({"start": (START + timedelta(days=9)).isoformat()}, START - timedelta(minutes=5), 4800.0),  # the upload's
        ({"duration_s": None}, START - timedelta(minutes=5), 4800.0),
    ],
)
def test_the_time_of_a_lecture_is_its_recordings_or_else_its_meetings(fields, start, length):
    documents = CourseDocuments([], [{**recording("a"), **fields}])
    [one] = lectures(documents, links((meeting("m", START - timedelta(minutes=5)), "a")), ZONE)
    assert (one.start, one.length_s) == (start, length)


def test_days_are_those_of_the_course_and_need_a_time():
    late = datetime(2026, 2, 3, 3, tzinfo=UTC)  # in the evening of the day before
    documents = CourseDocuments([], [recording("a"), recording("b", late), {"mpid": "c"}])
    day = date(2026, 2, 2)
    assert [one.key for one in lectures(documents, [], ZONE, (day, day))] == ["a", "b"]
    assert [one.key for one in lectures(documents, [], ZONE, (None, date(2026, 2, 1)))] == []
    assert [one.key for one in lectures(documents, [], ZoneInfo("UTC"), (date(2026, 2, 3), None))] == ["b"]
    assert len(lectures_.lectures(documents, [], ZONE)) == 3
