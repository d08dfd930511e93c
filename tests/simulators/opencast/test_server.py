"""Other releases fit in: a profile is one line, and everything else follows from its number."""

import json
from dataclasses import replace

import pytest

from simulators.opencast.options import parse_options
from simulators.opencast.profiles import Profile
from simulators.opencast.server import Application
from simulators.opencast.site import Site
from simulators.wire import Request


def application(profile):
    options = parse_options(["--rows", "20", "--until", "2026-11-20T16:00:00Z", "--auth", "both"])
    return Application(Site(replace(options, profile=profile)))


def get(application, path, **parameters):
    query = {name: [value] for name, value in parameters.items()}
    basic = {"authorization": "Basic YWRtaW46b3BlbmNhc3Q="}
    return application.answer(Request("GET", path, path, query, basic, b"", keep_alive=True))


@pytest.fixture(scope="module")
def oc9():
    return application(Profile("oc9", release=9))


def test_opencast_9_writes_numbers_in_the_old_shape(oc9):
    answer = get(oc9, "/usertracking/actions.json", start="nonsense")
    assert b'{"actions":{"total":20,"offset":0,"limit":10,"action":[' in answer.body
    assert b"Mozilla/5.0" in answer.body
    found = json.loads(get(oc9, "/search/episode.json").body)["search-results"]
    assert found["total"] == len(found["result"])
    assert any(isinstance(result["mediapackage"].get("duration"), int) for result in found["result"])
    assert get(oc9, "/workflow/instances.json").status == 200


def test_include_deleted_is_unknown_outside_harvard(oc9):
    deleted = next(episode.id for episode in oc9.site.episodes if episode.state == "deleted")
    assert b'"result"' not in get(oc9, "/search/episode.json", id=deleted, includeDeleted="true").body


def test_opencast_15_has_the_old_search_and_the_new_workflows():
    oc15 = application(Profile("oc15", release=15))
    assert b'"search-results"' in get(oc15, "/search/episode.json").body
    assert get(oc15, "/workflow/instances.json").status == 404
    episode = oc15.site.episodes[0].id
    assert b'"workflow"' in get(oc15, f"/workflow/mediaPackage/{episode}/instances.json").body
