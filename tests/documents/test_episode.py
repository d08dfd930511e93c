"""Documents of episodes, from the shapes of every version; the samples are those of contracts.md §2.0."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.opencast.episodes import make_episodes, new_result, old_result
from simulators.opencast.profiles import PROFILES
from simulators.opencast.workflows import make_workflows, new_workflow, old_workflow
from simulators.opencast.zones import Zone
from uaharvest.documents.episode import Names, fields

NAMES = Names("DCE-archive-publish-external", "capture", "retract-element")
UNTIL = 1_795_190_400_000  # 2026-11-20T16:00:00Z
HOUR = 3_600_000
MPID = "1600a35a-6f03-46b0-a11e-17383d9c1724"
START = 1_795_104_000_000  # 2026-11-19T16:00:00Z


def attachment(kind, name, ref=None):
    url = f"https://engage.example.edu/static/{MPID}/{name}"
    return {"id": name, "type": kind, "mimetype": "image/jpeg", "tags": "", "url": url} | (
        {"ref": ref} if ref else {}
    )


STILL = attachment("presenter/player+preview", "p.jpg")
SLIDES = [
    attachment("presentation/segment+preview", "s1.jpg", "track:t1;time=T00:01:02:0F1000"),
    attachment("presentation/segment+preview", "s2.jpg", "track:t1;time=T00:05:00:0F1000"),
]


def result(**mediapackage):
    """A search result of Opencast <= 15; what is None is left out."""
    whole = {
        "id": MPID,
        "duration": "5400000",
        "start": "2026-11-19T16:00:00Z",
        "title": "Lecture 3",
        "series": 20260310002,
        "seriestitle": "Course 2",
        "attachments": {"attachment": [STILL, *SLIDES]},
        **mediapackage,
    }
    known = {name: value for name, value in whole.items() if value is not None}
    return {"id": MPID, "mediapackage": known, "dcDescription": "About 2"}


def operation(name, started=None, completed=None, **more):
    times = {"started": started, "completed": completed}
    return {"id": name, "state": "SUCCEEDED"} | {key: at for key, at in times.items() if at is not None} | more


CAPTURE = operation("capture", START, START + HOUR)
RETRACT = operation("retract-element", START + 2 * HOUR, START + 2 * HOUR + 100_000)


def workflow(*operations, number=1, definition=NAMES.definition, state="SUCCEEDED"):
    listed = {"operation": operations[0] if len(operations) == 1 else list(operations)} if operations else ""
    return {"id": str(number), "template": definition, "state": state, "operations": listed}


def document(*workflows, names=NAMES, **mediapackage):
    return fields(MPID, result(**mediapackage), workflows, names)


def live(*workflows, names=NAMES):
    found = document(*workflows, names=names)
    return {name: value for name, value in found.items() if name.startswith("live") or name == "available"}


# The old tool's documents, field for field


def test_the_old_tools_document_of_a_lecture_that_was_live():
    assert document(workflow(CAPTURE, RETRACT)) == json.loads(
        '{"title": "Lecture 3", "mpid": "1600a35a-6f03-46b0-a11e-17383d9c1724", "duration": 5400000, "start":'
        ' "2026-11-19T16:00:00+00:00", "course": "Course 2", "series": "20260310002", "year": "2026", "term": "03",'
        ' "crn": "10002", "description": "About 2", "presenter_still":'
        ' "https://engage.example.edu/static/1600a35a-6f03-46b0-a11e-17383d9c1724/p.jpg", "slides": [{"img":'
        ' "https://engage.example.edu/static/1600a35a-6f03-46b0-a11e-17383d9c1724/s1.jpg", "time":'
        ' "T00:01:02:0F1000"}, {"img": "https://engage.example.edu/static/1600a35a-6f03-46b0-a11e-17383d9c1724/s2.jpg",'
        ' "time": "T00:05:00:0F1000"}], "live_stream": 1, "live_start": "2026-11-19T16:00:00+00:00", "live_end":'
        ' "2026-11-19T17:00:00+00:00", "live_duration": 3600000, "available": "2026-11-19T18:01:40+00:00"}'
    )


def test_without_a_workflow_nothing_is_said_of_the_live_stream():
    mpid = "dbc496cb-2217-44a2-a6b4-8a6a24ede6a4"
    moved = json.loads(
        json.dumps(result(duration=7200000, start="2026-11-11T16:00:00Z", title="Lecture 6", series=20260110005))
        .replace(MPID, mpid)
        .replace("Course 2", "Course 5")
        .replace("About 2", "About 5")
    )
    assert fields(mpid, moved, [], NAMES) == json.loads(
        '{"title": "Lecture 6", "mpid": "dbc496cb-2217-44a2-a6b4-8a6a24ede6a4", "duration": 7200000, "start":'
        ' "2026-11-11T16:00:00+00:00", "course": "Course 5", "series": "20260110005", "year": "2026", "term": "01",'
        ' "crn": "10005", "description": "About 5", "presenter_still":'
        ' "https://engage.example.edu/static/dbc496cb-2217-44a2-a6b4-8a6a24ede6a4/p.jpg", "slides": [{"img":'
        ' "https://engage.example.edu/static/dbc496cb-2217-44a2-a6b4-8a6a24ede6a4/s1.jpg", "time":'
        ' "T00:01:02:0F1000"}, {"img": "https://engage.example.edu/static/dbc496cb-2217-44a2-a6b4-8a6a24ede6a4/s2.jpg",'
        ' "time": "T00:05:00:0F1000"}]}'
    )


# What may be missing


def test_without_attachments_there_are_no_pictures_and_all_else_is_there():
    for nothing in ("", None, {}):
        found = document(attachments=nothing)
        assert not {"slides", "presenter_still", "presentation_still"} & set(found)
        assert found["title"] == "Lecture 3"


def test_a_single_attachment_is_no_list():
    found = document(attachments={"attachment": STILL})
    assert found["presenter_still"].endswith("/p.jpg")
    assert found["slides"] == []


def test_there_may_be_a_still_of_the_slides_too():
    still = attachment("presentation/player+preview", "slides.jpg")
    assert document(attachments={"attachment": [STILL, still]})["presentation_still"].endswith("/slides.jpg")


def test_a_slide_without_time_or_picture_is_left_out_and_the_others_stay():
    timeless = attachment("presentation/segment+preview", "x.jpg", "track:t1")
    without_url = {"type": "presentation/segment+preview", "ref": "track:t1;time=T1"}
    found = document(attachments={"attachment": [timeless, without_url, *SLIDES, "junk"]})
    assert [slide["time"] for slide in found["slides"]] == ["T00:01:02:0F1000", "T00:05:00:0F1000"]


def test_what_is_not_known_is_absent_so_that_an_update_leaves_it():
    found = fields(MPID, {"mediapackage": ""}, [], NAMES)
    assert found == {"mpid": MPID}


def test_a_missing_start_is_made_up_for_by_the_creation():
    whole = result(start=None) | {"dcCreated": "2026-11-19T11:00:00-05:00"}
    assert fields(MPID, whole, [], NAMES)["start"] == "2026-11-19T16:00:00+00:00"


def test_a_series_of_another_form_has_no_year_term_and_course_number():
    found = document(series="c5ef05b8-4b1c-4f0e-9c5e-0d5b9a2f3c11")
    assert (found["series"], found["year"], found["term"], found["crn"]) == (
        "c5ef05b8-4b1c-4f0e-9c5e-0d5b9a2f3c11",
        None,
        None,
        None,
    )


# The workflow


def test_a_lecture_that_was_not_live_says_so():
    assert live(workflow(operation("publish-engage"))) == {"live_stream": 0}
    assert live(workflow()) == {"live_stream": 0}


def test_operations_are_named_by_template_from_opencast_12_on():
    new = {"id": 7, "template": "capture", "started": START, "completed": START + HOUR}
    assert live(workflow(new))["live_duration"] == HOUR


def test_a_skipped_capture_was_none_though_it_may_have_started():
    assert live(workflow(operation("capture", START, state="SKIPPED"))) == {"live_stream": 0}


def test_a_capture_without_an_end_tells_its_start_only():
    assert live(workflow(operation("capture", START))) == {
        "live_stream": 1,
        "live_start": "2026-11-19T16:00:00+00:00",
    }


@pytest.mark.parametrize("other", [{"state": "RUNNING"}, {"state": "FAILED"}, {"definition": "republish"}])
def test_only_a_finished_workflow_of_the_definition_counts(other):
    assert live(workflow(CAPTURE, **other)) == {}


def test_of_several_workflows_the_one_with_the_highest_number_counts():
    later = workflow(operation("capture", START + HOUR, START + 3 * HOUR), number=100)
    for order in ((later, workflow(CAPTURE, number=99)), (workflow(CAPTURE, number=99), later)):
        assert live(*order)["live_duration"] == 2 * HOUR


def test_a_site_has_its_own_names():
    names = Names("publish", "live", "withdraw")
    own = workflow(
        operation("live", START, START + HOUR), operation("withdraw", START, START), definition="publish"
    )
    assert set(live(own, names=names)) == {"live_stream", "live_start", "live_end", "live_duration", "available"}
    assert live(own) == {}


def test_milliseconds_are_kept_and_what_no_calendar_has_is_not_known():
    assert live(workflow(operation("capture", START + 123)))["live_start"] == "2026-11-19T16:00:00.123000+00:00"
    assert "available" not in live(workflow(operation("retract-element", 0, 10**18)))


def test_half_of_a_surrogate_pair_becomes_a_replacement_for_no_store_takes_it():
    assert document(title="\ud83d")["title"] == "\ufffd"


# Every episode of a campus, in the shape of each profile


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_both_ages_of_opencast_tell_the_same_of_every_episode(profile):
    zone = Zone("America/New_York", wall_time=False)
    episodes = make_episodes(1, 120, UNTIL)
    by_episode = {}
    for one in make_workflows(episodes):
        raw = old_workflow(one, profile) if profile.lists_workflows else new_workflow(one, profile, zone)
        by_episode.setdefault(one.episode.number, []).append(json.loads(profile.encode(raw)))
    for episode in episodes:
        raw = new_result(episode, profile) if profile.new_search else old_result(episode, profile, zone)
        found = fields(episode.id, json.loads(profile.encode(raw)), by_episode[episode.number], NAMES)
        number = episode.number
        assert found.get("title") == episode.title
        assert found.get("duration") == episode.duration_ms
        assert found.get("series") == episode.series
        assert found["start"].endswith("+00:00")
        assert found.get("type") == episode.type
        assert len(found.get("slides", ())) == max(episode.stills - 1, 0)
        assert ("slides" in found) == bool(episode.stills)
        assert found.get("live_stream") == (None if episode.live else int(number % 3 == 0))
        assert ("available" in found) == (number % 3 == 0 and not episode.live)


def test_the_two_ages_tell_word_for_word_the_same():
    zone = Zone("America/New_York", wall_time=False)
    dce, stock = PROFILES["dce"], PROFILES["stock"]
    for episode in make_episodes(1, 120, UNTIL):
        old = json.loads(dce.encode(old_result(episode, dce, zone)))
        new = json.loads(stock.encode(new_result(episode, stock)))
        assert fields(episode.id, old, [], NAMES) == fields(episode.id, new, [], NAMES)


foreign = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["capture", "SUCCEEDED"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "mediapackage",
                    "attachments",
                    "attachment",
                    "type",
                    "url",
                    "ref",
                    "start",
                    "series",
                    "dc",
                    "title",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
times = st.none() | st.integers() | st.text(max_size=3) | st.floats()


@given(foreign, st.dictionaries(st.sampled_from(["started", "completed", "state", "id", "template"]), times))
def test_whatever_opencast_answers_a_document_comes_of_it(answer, capture):
    whole = answer if isinstance(answer, dict) else {"mediapackage": answer}
    found = fields(MPID, whole, [workflow({"id": "capture", **capture}, number=answer)], NAMES)
    json.dumps(found).encode()
    assert found["mpid"] == MPID
