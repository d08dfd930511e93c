"""Statements about recordings: valid, in pairs, and the same each time."""

import collections
import json
from random import Random

import pytest
from ralph.models.selector import ModelSelector
from ralph.models.validator import Validator

from simulators.opencast import viewers as sim
from tests.exporting import site
from uaharvest.exporting.useractions import Facts, action_of, with_viewers
from uaharvest.exporting.xapi.video import Recording, Video
from uaharvest.exporting.xapi.vocabulary import Origin

VIDEO = Video(Origin(site.HOME))
LECTURE = Recording("lecture", 3000.0, Facts("Lecture 1", 3000.0, site.SERIES))
EXTENSIONS = "https://w3id.org/xapi/video/extensions/"
T0 = site.MONDAY.timestamp()


@pytest.fixture(scope="module")
def validate():
    """Raises unless a statement is valid by one of Ralph's models."""
    validator = Validator(ModelSelector("ralph.models.xapi"))

    def validate(statement):
        validator.get_first_valid_model(json.loads(json.dumps(statement)))

    return validate


def made(*documents, recording=LECTURE, video=VIDEO, before=None):
    bodies = with_viewers((dict(document.body) for document in documents), site.ANONYMOUS)
    actions = [action_of(body) for body in bodies]
    return [timed.statement for timed in video.statements(recording, actions, before)]


def verbs(statements):
    return [statement["verb"]["display"]["en-US"] for statement in statements]


def of_verb(statements, verb):
    return [one for one in statements if one["verb"]["display"]["en-US"] == verb]


def extension(statement, name, part="result"):
    return statement[part]["extensions"][EXTENSIONS + name]


def heartbeats(*positions, begin=T0, first=1, **changes):
    """A heartbeat every 30 s at these positions."""
    return [
        site.useraction(first + number, begin + 30 * (number + 1), "HEARTBEAT", position, **changes)
        for number, position in enumerate(positions)
    ]


def test_every_statement_about_simulated_viewers_is_valid_by_ralphs_models(validate):
    _, documents = site.watched(1, sim.PLAYERS)
    captions = [
        site.useraction(10**6 + number, T0, kind, 30, session_id=documents[0].body["session_id"])
        for number, kind in enumerate(["paella:caption:enabled;English", "paella:caption:enabled;pt-BR"])
    ]
    captions = [site.useraction_with_id(one, int(one.id)) for one in captions]
    for one in captions:
        one.body["huid"] = documents[0].body["huid"]
    statements = made(*documents, *captions)
    for statement in statements:
        validate(statement)
    assert collections.Counter(verbs(statements)).keys() == {
        *("initialized", "played", "paused", "seeked", "interacted", "completed", "terminated")
    }
    assert len({statement["id"] for statement in statements}) == len(statements) > 500


def test_the_validation_can_fail(validate):
    [statement, *_] = made(*heartbeats(30, 60))
    with pytest.raises(Exception, match="length"):
        validate(
            {**statement, "context": {**statement["context"], "extensions": {EXTENSIONS + "session-id": None}}}
        )


def test_a_run_of_heartbeats_is_one_pair_of_played_and_paused():
    statements = made(*heartbeats(*range(30, 930, 30)))
    assert verbs(statements) == ["initialized", "played", "paused", "terminated"]
    played, paused = statements[1:3]
    assert (extension(played, "time"), extension(paused, "time")) == (0, 915)
    assert (played["timestamp"], paused["timestamp"]) == ("2026-11-23T00:00:00.000Z", "2026-11-23T00:15:15.000Z")
    assert extension(paused, "played-segments") == "0.000[.]915.000"
    assert extension(paused, "progress") == 0.305


def test_play_pause_and_seek_become_what_they_are():
    statements = made(
        site.useraction(1, T0, "PLAY", 0),
        site.useraction(2, T0 + 10, "SEEK", 10, 500),
        site.useraction(3, T0 + 30, "PAUSE", 520),
    )
    assert verbs(statements) == ["initialized", "played", "paused", "seeked", "played", "paused", "terminated"]
    assert (extension(statements[3], "time-from"), extension(statements[3], "time-to")) == (10, 500)
    assert extension(statements[5], "played-segments") == "0.000[.]10.000[,]500.000[.]520.000"


def test_captions_are_an_interaction_with_their_language_if_it_is_a_code():
    rows = heartbeats(30, 60)
    said = [
        site.useraction(9, T0 + 40, "paella:caption:enabled;pt-BR", 40),
        site.useraction(10, T0 + 41, "paella:caption:enabled;English", 41),
    ]
    first, second = of_verb(made(*rows, *said), "interacted")
    assert extension(first, "cc-enabled") is True
    assert [extension(one, "cc-subtitle-lang", "context") for one in (first, second)] == ["pt-BR", "und"]


def test_the_actor_has_an_account_and_nothing_else():
    [statement, *_] = made(*heartbeats(30))
    assert statement["actor"] == {
        "objectType": "Agent",
        "account": {"homePage": site.HOME, "name": "12345678"},
    }


@pytest.mark.parametrize("user", ["anonymous", "public_user", None])
def test_visitors_without_a_name_are_actors_of_their_own_whose_sessions_are_not_told(user):
    rows = heartbeats(30, huid=user) + heartbeats(30, huid=user, session_id="node02", first=7)
    statements = made(*rows)
    assert len({statement["actor"]["account"]["name"] for statement in statements}) == 2
    assert "node0" not in json.dumps(statements)


def test_a_recording_is_completed_once_when_the_threshold_is_reached_over_several_sessions():
    first = heartbeats(*range(30, 1530, 30))
    second = heartbeats(*range(1530, 3000, 30), begin=T0 + 86_400, first=1000, session_id="node02")
    statements = made(*first, *second)
    [completed] = of_verb(statements, "completed")
    assert completed["timestamp"] > "2026-11-24"
    assert completed["result"]["completion"] is True
    assert extension(completed, "progress") >= 0.9
    again = made(*first, *second, *heartbeats(30, 60, begin=T0 + 172_800, first=5000, session_id="node03"))
    assert [one["id"] for one in of_verb(again, "completed")] == [completed["id"]]


def test_what_was_played_before_counts_for_progress():
    before = {"12345678": [(1500.0, 3000.0, T0 - 90_000, T0 - 88_500)]}
    [paused] = of_verb(made(*heartbeats(*range(30, 630, 30)), before=before), "paused")
    assert extension(paused, "progress") == round((1500 + 615) / 3000, 3)
    assert extension(paused, "played-segments").startswith("1500.000[.]3000.000[,]0.000[.]")


def test_the_threshold_can_be_chosen():
    statements = made(*heartbeats(*range(30, 330, 30)), video=Video(Origin(site.HOME), 0.1))
    assert len(of_verb(statements, "completed")) == 1
    assert extension(statements[0], "completion-threshold", "context") == 0.1


def test_the_ids_stay_when_a_run_has_grown():
    short, long = made(*heartbeats(30, 60)), made(*heartbeats(30, 60, 90))
    assert [one["id"] for one in short] == [one["id"] for one in long]


def test_the_ids_depend_on_the_home_page():
    here, there = made(*heartbeats(30)), made(*heartbeats(30), video=Video(Origin("http://other.example.edu/")))
    assert not {one["id"] for one in here} & {one["id"] for one in there}


def test_live_viewing_makes_no_statements():
    assert made(*heartbeats(30, 60, is_live=1)) == []


def test_a_session_in_which_nothing_played_makes_no_statements():
    assert made(site.useraction(1, T0, "paella:caption:enabled;de", 5)) == []


def test_the_segments_are_what_simulated_viewers_really_played():
    rng = Random(3)
    viewers = [sim.make_viewer(rng, "lecture", 3000, T0, sim.Habits(pauses_first=True)) for _ in range(20)]
    statements = made(*site.of_rows(sim.report(viewers, sim.events_with_end, rng)))
    for viewer in viewers:
        own = [one for one in statements if one["actor"]["account"]["name"] == viewer.user]
        last = of_verb(own, "paused")[-1]
        assert extension(last, "progress") == pytest.approx(viewer.seen_s / 3000, abs=0.01)
