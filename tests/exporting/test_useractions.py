"""Useractions as exports read them."""

import datetime as dt
import json

import pytest

from tests.exporting import site
from uaharvest.documents import indexed
from uaharvest.documents.useraction import record
from uaharvest.exporting.source import ChosenSeries
from uaharvest.exporting.useractions import Facts, Grouped, action_of, facts, with_viewers
from uaharvest.geolite import nowhere
from uaharvest.rows.useractions import UserAction
from uaharvest.viewing.actions import Action

AT = dt.datetime(2026, 11, 23, 16, 0, 2, tzinfo=dt.UTC)


def with_viewer(body, anonymous=site.ANONYMOUS):
    [found] = with_viewers([dict(body)], anonymous)
    return found


def stored(**changes):
    """A useraction's document, as it comes from a row through the queue into the index."""
    row = {
        "id": 12,
        "created": AT,
        "mpid": "lecture",
        "session": "node01",
        "user": "12345678",
        "agent": None,
        "type": "SEEK",
        "inpoint": 10,
        "outpoint": 500,
        "length": 0,
        "is_playing": True,
        "is_live": False,
        "ip": None,
        "proxies": (),
    }
    episode = json.dumps({"title": "Lecture 1", "duration": 3_000_000, "series": site.SERIES})
    [read] = indexed.records(record(UserAction(**{**row, **changes}), episode))
    return with_viewer(indexed.document(read, nowhere, None).body)


def test_a_document_of_the_indexer_is_read_as_the_row_that_it_was():
    expected = (12, AT.timestamp(), "lecture", "12345678", "node01", "SEEK", 10, 500, True, False)
    assert action_of(stored()) == Action(*expected)
    assert action_of(stored(is_live=True)).live
    assert facts(stored()["episode"]) == Facts("Lecture 1", 3000.0, site.SERIES)


@pytest.mark.parametrize(
    ("changes", "viewer"),
    [
        ({}, "12345678"),
        ({"user": "anonymous"}, "session:node01"),
        ({"user": "public_user"}, "session:node01"),
        ({"user": None}, "session:node01"),
    ],
)
def test_who_did_not_log_in_is_known_by_the_session(changes, viewer):
    assert action_of(stored(**changes)).viewer == viewer


def test_the_setting_says_who_did_not_log_in():
    assert with_viewer(stored(user="guest"), ["guest"])["viewer"] == "session:node01"
    assert with_viewer(stored(user="anonymous"), ["guest"])["viewer"] == "anonymous"


@pytest.mark.parametrize(
    "changes",
    [
        *({"@timestamp": "yesterday"}, {"@timestamp": None}, {"action_id": None}, {"mpid": ""}),
        {"huid": None, "session_id": None},
    ],
)
def test_a_document_that_lacks_something_is_no_useraction(changes):
    assert action_of(with_viewer({**stored(), **changes})) is None


def test_useractions_are_grouped_by_recording_and_sorted_by_time():
    rows = [
        with_viewer(site.useraction(number, 1000 - number, "PLAY", mpid=mpid).body)
        for number, mpid in enumerate(["b", "a", "c", "b", "a"])
    ]
    with Grouped() as grouped:
        grouped.add(rows[:2])
        grouped.add([*rows[2:], {"mpid": "d"}])
        found = [(mpid, [action.id for action in actions]) for mpid, actions in grouped.recordings()]
    assert found == [("a", [4, 1]), ("b", [3, 0]), ("c", [2])]
    assert grouped.unusable == 1


def test_what_is_known_of_a_recording_is_the_latest_and_never_becomes_less():
    with Grouped() as grouped:
        for episode in ({"title": "old", "duration": 1000}, {}, {"title": "new"}):
            grouped.add([with_viewer(site.useraction(1, 0, "PLAY", episode=episode).body)])
    assert grouped.facts == {"lecture": Facts("new", 1.0, None)}


def test_recordings_are_chosen_by_series_or_term():
    term = ChosenSeries(year="2026", term="03")
    assert site.SERIES in term
    for other in ("20260110002", "20250310002", "2026031", "c5ef-03", None, 20260310002):
        assert other not in term
    assert "another" in ChosenSeries(frozenset({"another"}), "2026", "03")
    assert site.SERIES not in ChosenSeries(frozenset({"another"}))


def test_episodes_are_completed_by_recordings_that_viewers_watched(tmp_path):
    documents = [
        *(site.episode("a"), site.episode("of-another", series="another")),
        *(site.recording("a", title="of recordings"), site.recording("gone")),
    ]
    source = site.source(tmp_path, documents)
    for chosen in (ChosenSeries(year="2026", term="03"), ChosenSeries(frozenset({site.SERIES}))):
        found = source.episodes(chosen)
        assert {mpid: episode["title"] for mpid, episode in found.items()} == {
            "a": "Lecture 1",
            "gone": "Lecture 1",
        }
        assert found["gone"]["duration"] == 3_000_000
    both = source.episodes(ChosenSeries(frozenset({"another"}), "2026", "03"))
    assert list(both) == ["a", "gone", "of-another"]


def test_days_are_those_of_this_site(tmp_path):
    source = site.source(tmp_path, [site.useraction(1, site.MONDAY.timestamp(), "PLAY")])
    other = [site.Document(name, "1", {}) for name in ("useractions-x-2026.11.24", "useractions-2026.11.2")]
    list(source.store.write([*other, site.useraction(2, site.MONDAY.timestamp() + 86_400, "PLAY")]))
    monday = site.MONDAY.date()
    assert source.days("useractions") == [monday, monday + dt.timedelta(days=1)]
    assert source.days("useractions", end=monday) == [monday]
