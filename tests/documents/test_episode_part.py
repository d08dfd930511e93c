import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents.episode_part import episode_part

OLD = {
    "id": "abc",
    "org": "mh_default_org",
    "mediapackage": {
        "id": "abc",
        "duration": "7000",
        "start": "2014-09-01T12:00:00Z",
        "title": "Lecture 1",
        "series": 20150112345,
        "seriestitle": "Algebra",
        "attachments": "",
    },
    "dcExtent": 6900,
    "dcTitle": "Lecture 1",
    "dcCreated": "2014-09-01T08:00:00-04:00",
    "dcType": "L01",
    "dcDescription": "About 1",
}
NEW = {
    "mediapackage": {
        "id": "abc",
        "duration": 7000.0,
        "start": "2014-09-01T12:00:00Z",
        "title": "Lecture 1",
        "series": 2.0150112345e10,
        "seriestitle": "Algebra",
    },
    "org": "mh_default_org",
    "dc": {
        "identifier": ["abc"],
        "title": ["Lecture 1"],
        "created": ["2014-09-01T12:00:00Z"],
        "isPartOf": ["20150112345"],
        "type": ["L01"],
        "description": ["About 1"],
        "extent": ["PT7S"],
    },
}
EXPECTED = {
    "title": "Lecture 1",
    "duration": 7000,
    "start": "2014-09-01T12:00:00Z",
    "course": "Algebra",
    "series": "20150112345",
    "year": "2015",
    "term": "01",
    "cdn": "12345",
    "type": "L01",
    "description": "About 1",
}


def old(*without, **changed):
    mediapackage = {name: value for name, value in OLD["mediapackage"].items() if name not in without}
    return OLD | {"mediapackage": mediapackage | changed}


def new(*without, **changed):
    return NEW | {"dc": {name: value for name, value in NEW["dc"].items() if name not in without} | changed}


@pytest.mark.parametrize("result", [OLD, NEW], ids=["up to 15", "from 16"])
def test_both_shapes_give_the_same_part_in_the_same_order(result):
    assert list(episode_part(result).items()) == list(EXPECTED.items())


def test_digits_come_back_as_they_were_even_where_gson_made_floats_of_them():
    result = new(title=["2014"]) | {"mediapackage": NEW["mediapackage"] | {"title": 2014.0, "seriestitle": 101.0}}
    part = episode_part(result)
    assert (part["title"], part["course"], part["series"]) == ("2014", "101", "20150112345")


def test_a_title_of_digits_is_a_text():
    assert episode_part(old(title=2014))["title"] == "2014"


def test_without_a_series_there_is_no_course_either():
    part = episode_part(old("series"))
    assert list(part) == ["title", "duration", "start", "type", "description"]


@pytest.mark.parametrize("series", ["c5ef05b8-4b2c-4f6a-9a52-000000000000", 2015011234, "2015011234५"])
def test_a_series_of_another_form_has_no_year_term_and_number(series):
    part = episode_part(old(series=series))
    assert (part["series"], part["course"]) == (str(series), "Algebra")
    assert (part["year"], part["term"], part["cdn"]) == (None, None, None)


@pytest.mark.parametrize("result", [{}, {"mediapackage": ""}, {"dc": "", "mediapackage": None}])
def test_what_is_unknown_is_absent(result):
    assert episode_part(result) == {}


def test_the_extent_stands_in_for_a_duration():
    assert episode_part(old("duration"))["duration"] == 6900


@pytest.mark.parametrize("result", [old("start"), NEW | {"mediapackage": {}}], ids=["up to 15", "from 16"])
def test_the_time_of_creation_stands_in_for_the_start_and_is_utc(result):
    assert episode_part(result)["start"] == "2014-09-01T12:00:00Z"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2014-09-01T08:00:00.123-04:00", "2014-09-01T12:00:00Z"),
        ("2022-06-30T16:39Z", "2022-06-30T16:39:00Z"),
        ("2014-09-01T08:00:00", "2014-09-01T08:00:00"),
        ("start=2014-09-01;", "start=2014-09-01;"),
        ("0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00+10:00"),
    ],
)
def test_a_start_is_utc_where_it_names_an_instant_and_else_as_received(start, expected):
    assert episode_part(old(start=start))["start"] == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
members = st.fixed_dictionaries(
    {}, optional={name: json_values for name in (*OLD["mediapackage"], *NEW["dc"], *OLD, *NEW) if name != "dc"}
)


@given(result=members, mediapackage=members | json_values, dc=members | json_values)
def test_no_result_is_so_strange_that_it_stops_a_harvest(result, mediapackage, dc):
    part = episode_part(result | {"mediapackage": mediapackage, "dc": dc})
    assert json.loads(json.dumps(part, allow_nan=False)) == part
