"""GET /search/episode.json in the shape of each release."""

from itertools import chain

import pytest
import requests

UNTIL = ("--until", "2026-11-20T16:00:00Z")
PATH = "/search/episode.json"


@pytest.fixture
def dce(shared):
    return shared(*UNTIL, "--rows", 10, "--auth", "open", "--profile", "dce")


@pytest.fixture
def stock(shared):
    return shared(*UNTIL, "--rows", 10, "--auth", "open", "--profile", "stock")


def search(simulator, **parameters):
    answer = simulator.get(PATH, **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def anonymous(simulator, **parameters):
    return requests.get(simulator.url + PATH, params=parameters, timeout=60)


def one(simulator, **wanted):
    """Some published episode with these properties."""
    return simulator.episodes(state="published", **wanted)[0]


# -- Opencast 15 and older


def test_an_old_answer_types_attributes_as_strings_and_elements_by_guess(dce):
    episode = next(e for e in dce.episodes(state="published") if (e["series"] or "").isdigit() and e["title"])
    found = search(dce, id=episode["id"])["search-results"]
    assert (found["offset"], found["limit"], found["total"]) == ("0", "1", "1")
    result = found["result"]
    assert result["id"] == result["mediapackage"]["id"] == episode["id"]
    assert result["mediapackage"]["series"] == int(episode["series"])
    assert result["mediapackage"]["duration"] == str(episode["duration_ms"])
    assert result["mediapackage"]["start"].endswith(":00:00Z")
    assert result["dcTitle"] == result["mediapackage"]["title"] == episode["title"]
    assert result["dcCreated"][-6:] in ("-05:00", "-04:00")
    assert "\\/" in dce.get(PATH, id=episode["id"]).text


def test_an_unknown_episode_is_an_answer_without_result(dce):
    found = search(dce, id="nothing")["search-results"]
    assert found["total"] == "0"
    assert "result" not in found
    assert "result" not in search(dce, id=dce.episodes(state="gone")[0]["id"])["search-results"]


def test_all_published_episodes_come_newest_first_by_pages_of_any_size(dce):
    found = search(dce)["search-results"]
    published = dce.episodes(state="published")
    assert int(found["total"]) == int(found["limit"]) == len(published) == len(found["result"])
    created = {episode["id"]: episode["created_ms"] for episode in published}
    order = [created[result["id"]] for result in found["result"]]
    assert order == sorted(order, reverse=True)
    page = search(dce, limit=3, offset=2)["search-results"]
    assert [result["id"] for result in page["result"]] == [result["id"] for result in found["result"]][2:5]
    assert (page["offset"], page["limit"]) == ("2", "3")
    assert dce.get(PATH, limit="abc").status_code == 404


def test_deleted_episodes_show_only_with_include_deleted(dce):
    deleted = dce.episodes(state="deleted")[0]["id"]
    assert "result" not in search(dce, id=deleted)["search-results"]
    assert search(dce, id=deleted, includeDeleted="true")["search-results"]["result"]["id"] == deleted


def test_the_gaps_of_real_episodes_occur(dce):
    every = search(dce)["search-results"]["result"]
    packages = [result["mediapackage"] for result in every]
    for member in ("duration", "title", "series", "start", "seriestitle"):
        assert any(member not in package for package in packages)
        assert any(member in package for package in packages)
    assert any("dcType" not in result and "dcDescription" not in result for result in every)
    assert any(package.get("title") == 2014 for package in packages)
    series = [package["series"] for package in packages if "series" in package]
    assert any(isinstance(number, int) and len(str(number)) == 11 for number in series)
    assert any(isinstance(number, str) and len(number) == 36 for number in series)
    attachments = [package["attachments"] for package in packages]
    assert "" in attachments
    shapes = {type(found["attachment"]) for found in attachments if found}
    assert shapes == {dict, list}
    many = next(found["attachment"] for found in attachments if found and isinstance(found["attachment"], list))
    assert many[1]["ref"] == "track:t1;time=T00:01:02:0F1000"


def test_anybody_sees_public_episodes_but_may_not_be_admin(dce):
    public, other = one(dce, public=True)["id"], one(dce, public=False)["id"]
    assert anonymous(dce, id=public).json()["search-results"]["total"] == "1"
    assert anonymous(dce, id=other).json()["search-results"]["total"] == "0"
    assert search(dce, id=other, admin="true")["search-results"]["total"] == "1"
    refused = anonymous(dce, id=public, admin="true")
    assert (refused.status_code, refused.text) == (401, "unauthorized")
    assert refused.headers["Content-Type"] == "text/plain"
    assert "WWW-Authenticate" not in refused.headers


# -- Opencast 16 and newer


def test_a_new_answer_has_no_wrapper_floats_and_lists_of_strings(stock):
    episode = next(e for e in stock.episodes(state="published") if (e["series"] or "").isdigit() and e["title"])
    text = stock.get(PATH, id=episode["id"]).text
    found = search(stock, id=episode["id"])
    assert list(found) == ["offset", "total", "limit", "result"]
    assert (found["total"], found["limit"]) == (1, 20)
    [result] = found["result"]
    assert "id" not in result
    assert result["dc"]["identifier"] == [episode["id"]]
    assert result["dc"]["isPartOf"] == [episode["series"]]
    assert result["dc"]["title"] == [episode["title"]]
    digits = episode["series"].rstrip("0")
    assert f'"series":{digits[0]}.{digits[1:]}E10' in text
    assert isinstance(result["mediapackage"]["duration"], float)
    assert result["mediapackage"]["start"].endswith("Z")


def test_a_new_answer_without_hits_has_an_empty_list(stock):
    assert search(stock, id="nothing") == {"offset": 0, "total": 0, "limit": 20, "result": []}


def test_new_pages_default_to_twenty_and_fit_together(stock):
    assert len(search(stock)["result"]) == len(search(stock, limit="junk")["result"]) == 20
    total = search(stock)["total"]
    pages = (search(stock, offset=offset)["result"] for offset in range(0, total, 20))
    ids = [result["dc"]["identifier"][0] for result in chain.from_iterable(pages)]
    assert sorted(ids) == sorted(episode["id"] for episode in stock.episodes(state="published"))


def test_deleted_is_hidden_always_in_new_answers(stock):
    deleted = stock.episodes(state="deleted")[0]["id"]
    assert search(stock, id=deleted, includeDeleted="true")["total"] == 0


def test_new_limits_are_checked(stock):
    assert stock.get(PATH, limit=-1).status_code == stock.get(PATH, offset=-1).status_code == 400
    assert stock.get(PATH, limit=251).status_code == 200
    assert anonymous(stock, limit=251).status_code == 400
    assert anonymous(stock, limit=250, admin="true").status_code == 200


def test_opencast_11_to_15_give_a_hundred_unless_asked_for_more(shared):
    simulator = shared(*UNTIL, "--rows", 10, "--auth", "open", "--profile", "oc15", "--episodes", 160)
    found = search(simulator)["search-results"]
    assert (found["limit"], len(found["result"])) == (100, 100)
    all_of_them = search(simulator, limit=-1)["search-results"]
    assert len(all_of_them["result"]) == all_of_them["total"] > 100
    assert search(simulator, limit=7)["search-results"]["limit"] == 7
