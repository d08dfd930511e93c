"""Which statements an export of a span, or of a series, has; Zoom's meetings too."""

import datetime as dt
import json
from random import Random

import pytest
from ralph.models.xapi.virtual_classroom.statements import VirtualClassroomJoined, VirtualClassroomLeft

from simulators.opencast import viewers as sim
from tests.exporting import site
from uaharvest.errors import BadInputError
from uaharvest.exporting.source import ChosenSeries
from uaharvest.exporting.xapi import classroom
from uaharvest.exporting.xapi.export import Export
from uaharvest.exporting.xapi.video import Video
from uaharvest.exporting.xapi.vocabulary import Origin

DAY = dt.timedelta(days=1)
END = site.MONDAY + 10 * DAY
PROGRESS = "https://w3id.org/xapi/video/extensions/progress"


def export(source, start=None, end=END, chosen=None):
    return Export(source, Video(Origin(site.HOME)), start=start, end=end, chosen=chosen)


def statements(made, after=None):
    return [statement for unit in made.units(after) for statement in unit.statements]


@pytest.fixture
def busy_site(tmp_path):
    """Viewers of two recordings, around several midnights."""
    _, documents = site.watched(2, ["heartbeats", "events+heartbeats"], recordings=("lecture", "other"))
    return site.source(tmp_path, [*documents, site.episode(), site.episode("other", series="other")])


def test_exports_of_one_day_after_the_other_have_the_statements_of_all_days_once(busy_site):
    def without_progress(statement):
        # What was played on former days is not read here; without `viewings` nothing says it.
        texts = {**statement, "result": None, "context": None}
        return json.dumps(texts, sort_keys=True)

    whole = statements(export(busy_site))
    days = [site.MONDAY + number * DAY for number in range(-1, 10)]
    by_day = [one for day in days for one in statements(export(busy_site, day, day + DAY))]
    by_day = [one for one in by_day if one["verb"]["display"]["en-US"] != "completed"]
    whole = [one for one in whole if one["verb"]["display"]["en-US"] != "completed"]
    assert len(whole) > 100
    assert sorted(map(without_progress, by_day)) == sorted(map(without_progress, whole))


def test_the_same_export_gives_the_same_bytes(busy_site):
    assert json.dumps(statements(export(busy_site))) == json.dumps(statements(export(busy_site)))


def test_units_ascend_and_an_export_can_go_on_after_one(busy_site):
    names = [unit.name for unit in export(busy_site).units()]
    assert names == ["recording lecture", "recording other"] == sorted(names)
    assert [unit.name for unit in export(busy_site).units(names[0])] == names[1:]


def test_a_series_has_its_recordings_only(busy_site):
    found = export(busy_site, chosen=ChosenSeries(frozenset({"other"})))
    assert [unit.name for unit in found.units()] == ["recording other"]
    with pytest.raises(BadInputError, match="--series: no recording of these series"):
        list(export(busy_site, chosen=ChosenSeries(frozenset({"none"}))).units())


def test_what_viewings_know_of_former_days_counts_for_progress(tmp_path):
    beats = [site.useraction(n, site.MONDAY.timestamp() + 30 * n, "HEARTBEAT", 30 * n) for n in range(1, 21)]
    long_ago = site.MONDAY.timestamp() - 30 * 86_400
    before = site.viewing(
        played=[[1500.0, 3000.0, long_ago, long_ago + 1500], [None, None, long_ago, long_ago + 9]]
    )
    made = export(site.source(tmp_path, [*beats, before]), site.MONDAY, site.MONDAY + DAY)
    last = [one for one in statements(made) if one["verb"]["display"]["en-US"] == "paused"][-1]
    assert last["result"]["extensions"][PROGRESS] == round((1500 + 615) / 3000, 3)


def test_a_duration_that_useractions_do_not_have_is_that_of_the_episode(tmp_path):
    beat = site.useraction(1, site.MONDAY.timestamp(), "HEARTBEAT", 30, episode={})
    assert statements(export(site.source(tmp_path, [beat, site.episode()])))


def test_recordings_without_a_duration_and_unusable_useractions_are_counted(tmp_path):
    beat = site.useraction(1, site.MONDAY.timestamp(), "HEARTBEAT", 30, episode={})
    nobody = site.useraction(2, site.MONDAY.timestamp(), "HEARTBEAT", 30, huid=None, session_id=None)
    made = export(site.source(tmp_path, [beat, nobody]))
    assert statements(made) == []
    assert (made.left_out.unknown_duration, made.left_out.unusable) == (1, 1)


def test_a_site_without_documents_has_no_statements(tmp_path):
    assert statements(export(site.source(tmp_path, []))) == []


# Meetings


def joined_and_left(*documents, **arguments):
    topic = arguments.get("topic")
    return [
        timed.statement
        for document in documents
        for timed in classroom.statements({"_id": document.id, **document.body}, topic)
    ]


def test_sessions_of_meetings_are_joined_and_left_and_valid_by_ralphs_models():
    found = joined_and_left(
        site.session("s1", "2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z"), topic="Office hours"
    )
    first, second = found
    VirtualClassroomJoined(**json.loads(json.dumps(first)))
    VirtualClassroomLeft(**json.loads(json.dumps(second)))
    assert [one["timestamp"] for one in found] == ["2026-11-23T15:00:00.000Z", "2026-11-23T16:00:00.000Z"]
    assert first["object"]["id"] == "https://zoom.us/meeting/abc%2Fd%3D%3D"
    assert first["object"]["definition"]["name"] == {"und": "Office hours"}
    assert first["context"]["registration"] == second["context"]["registration"]


def test_waiting_and_breakout_rooms_and_sessions_without_a_beginning_have_no_statements():
    start, end = "2026-11-23T15:00:00Z", "2026-11-23T16:00:00Z"
    assert joined_and_left(site.session("1", start, end, waiting_room=True)) == []
    assert joined_and_left(site.session("1", start, end, breakout_room=True)) == []
    assert joined_and_left(site.session("1", None, end)) == []
    assert len(joined_and_left(site.session("1", start, None))) == 1


def test_participants_are_known_by_an_id_and_never_by_name_or_address():
    start = "2026-11-23T15:00:00Z"

    def name(**changes):
        [statement] = joined_and_left(site.session("s1", start, None, **changes))
        assert "zoe" not in json.dumps(statement).lower()
        return statement["actor"]["account"]["name"]

    assert name() == "u1"
    assert name(registrant_id="r1") == "r1"
    assert name(id=None) == name(id=None, email=" ZOE@example.edu", meeting="another")
    by_name = name(id=None, email=None)
    assert by_name != name(id=None, email=None, meeting="another")
    assert by_name == name(id=None, email=None)


def test_an_export_has_the_meetings_of_its_span_with_their_topics(tmp_path):
    meeting = site.Document("meetings-2026.11.23", "abc/d==", {"uuid": "abc/d==", "topic": "Office hours"})
    inside = site.session("s1", "2026-11-23T15:00:00Z", "2026-11-24T00:30:00Z")
    source = site.source(tmp_path, [meeting, inside])
    monday = statements(export(source, site.MONDAY, site.MONDAY + DAY))
    assert [one["verb"]["display"]["en-US"] for one in monday] == ["joined"]
    assert monday[0]["object"]["definition"]["name"] == {"und": "Office hours"}
    tuesday = statements(export(source, site.MONDAY + DAY, site.MONDAY + 2 * DAY))
    assert [one["verb"]["display"]["en-US"] for one in tuesday] == ["left"]


def test_simulated_live_viewers_are_at_no_position(tmp_path):
    rng = Random(4)
    viewer = sim.make_live_viewer(rng, "lecture", 3000, site.MONDAY.timestamp())
    documents = site.of_rows(sim.report([viewer], sim.heartbeats, rng))
    assert documents
    assert statements(export(site.source(tmp_path, documents))) == []
