"""Lines of the old tool, of elasticdump and of `documents export`; all people and addresses are made up."""

import copy
import datetime as dt
import json
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uaharvest.documents import imported, indexed
from uaharvest.documents.imported import LineKind
from uaharvest.errors import PoisonError

ZONE = ZoneInfo("America/New_York")
BOSTON = {"country_code2": "US", "location": [-71.06, 42.36]}

MESSAGE = {
    "action_id": 12580,
    "timestamp": "2019-03-20T16:00:02+00:00",
    "mpid": "bd6a996d-4a32-440d-a5f4-649510a25b19",
    "session_id": "node0db9f419a03",
    "huid": "60002627",
    "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:65.0) Gecko/20100101 Firefox/65.0",
    "action": {"type": "SEEK", "inpoint": 394, "outpoint": 394, "length": 0, "is_playing": True},
    "ip": "200.70.169.1",
    "proxy1": "10.0.0.1",
    "is_live": 0,
    "episode": {
        "title": "Lecture 119",
        "duration": 7200000,
        "start": "2019-03-18T16:00:00Z",
        "course": "Course 38",
        "series": "20190210038",
        "year": "2019",
        "term": "02",
        "cdn": "10038",
        "type": "S02",
    },
}
# The same event as Logstash 2.4 stored it.
STORED = {
    **{name: value for name, value in MESSAGE.items() if name not in {"timestamp", "useragent"}},
    "@timestamp": "2019-03-20T16:00:02.000Z",
    "@version": "1",
    "hostname": "200.70.169.1",
    "ua": {"name": "Firefox", "os": "Linux", "device": "Other"},
    "geoip": BOSTON,
}


def nowhere(_):
    return None


def read(line):
    """Return the useractions of a line."""
    text = line if isinstance(line, str) else json.dumps(line)
    return [imported.useraction(content, ZONE) for content in indexed.records(text)]


def body(line):
    """Return the body of the document that one line becomes."""
    [found] = read(line)
    return imported.as_document(found, nowhere, None).body


def dumped(**changes):
    """Return a line of elasticdump; a change to None takes a field away."""
    source = {name: value for name, value in {**STORED, **changes}.items() if value is not None}
    index = "useractions-matterhorn-production-2019.03.20"
    return {"_index": index, "_type": "event", "_id": "12580", "_score": 1, "_source": source}


def without(name, values):
    return {key: value for key, value in values.items() if key != name}


def test_a_message_becomes_the_document_that_the_indexer_makes():
    [found] = read(MESSAGE)
    made = imported.as_document(found, lambda _: BOSTON, "stack")
    expected = indexed.document(copy.deepcopy(MESSAGE), lambda _: BOSTON, "stack")
    assert (found.kind, made) == (LineKind.MESSAGE, expected)
    assert made.index == "useractions-stack-2019.03.20"


def test_a_line_may_hold_several_messages():
    assert [found.record["action_id"] for found in read([MESSAGE, {**MESSAGE, "action_id": 2}])] == [12580, 2]


def test_a_document_of_elasticdump_keeps_the_place_and_the_browser_that_it_has():
    [found] = read(dumped(useragent="Mozilla/5.0 (another)"))
    made = imported.as_document(found, lambda _: {"country_code2": "CA"}, None)
    assert found.kind is LineKind.DOCUMENT
    assert made.body == STORED
    assert (made.index, made.id) == ("useractions-2019.03.20", "12580")


def test_an_unwrapped_document_is_the_same():
    assert body(STORED) == body({"_index": "x", "_id": "12580", **STORED}) == STORED


@pytest.mark.parametrize("index", ["episodes", "episodes-stack", "meetings-2017.11.01", "sessions-2017.11.01"])
def test_documents_of_other_families_are_left_out(index):
    assert read({"_index": index, "_id": "1", "_source": {}}) == [None]


def test_the_id_may_be_a_text_or_only_the_documents():
    assert body(dumped(action_id="12580"))["action_id"] == 12580
    assert body(dumped(action_id=None))["action_id"] == 12580
    with pytest.raises(PoisonError, match="no action_id"):
        read({**dumped(action_id=None), "_id": "%{action_id}"})


@pytest.mark.parametrize(
    ("created", "instant"),
    [
        ("2014-09-01T12:46:18-04:00", "2014-09-01T16:46:18.000Z"),
        ("2014-09-01T12:46:18-0400", "2014-09-01T16:46:18.000Z"),
        ("2014-09-01T12:46:18.250-04:00", "2014-09-01T16:46:18.250Z"),
        ("2014-09-01 12:46:18", "2014-09-01T16:46:18.000Z"),
        ("2014-11-02T01:30:00", "2014-11-02T06:30:00.000Z"),  # the second pass, as Opencast reports it
    ],
)
def test_older_dumps_have_created_in_place_of_a_utc_timestamp(created, instant):
    line = {**without("timestamp", MESSAGE), "created": created}
    assert read(line)[0].kind is LineKind.DUMP
    made = body(line)
    assert made["@timestamp"] == instant
    assert "created" not in made


def test_a_time_that_logstash_could_not_parse_replaces_the_time_of_indexing():
    line = dumped(
        **{"@timestamp": "2019-03-22T04:00:00.000Z"},
        timestamp="2019-03-20T16:00:02.123000+00:00",
        tags=["_dateparsefailure", "replayed"],
    )
    made = body(line)
    assert made["@timestamp"] == "2019-03-20T16:00:02.123Z"
    assert made["tags"] == ["replayed"]
    assert "timestamp" not in made


def test_a_start_beside_the_episode_is_put_back_into_it():
    line = copy.deepcopy({**MESSAGE, "start": "2019-02-11T16:00:00Z"})
    del line["episode"]["start"]
    made = body(line)
    assert made["episode"]["start"] == "2019-02-11T16:00:00Z"
    assert "start" not in made
    assert body({**MESSAGE, "start": "2019-02-11T16:00:00Z"})["episode"]["start"] == "2019-03-18T16:00:00Z"
    assert body({**without("episode", MESSAGE), "start": "s"})["episode"] == {"start": "s"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), (0, 0), (True, 1), (False, 0), ("true", 1), ("F", 0), ("0", 0), ("off", 0), ("live", 1)],
)
def test_is_live_is_a_zero_or_a_one(value, expected):
    made = body(dumped(is_live=value))
    assert (made["is_live"], type(made["is_live"])) == (expected, int)


@pytest.mark.parametrize(
    ("at", "inferred"), [("2017-02-06T23:59:59.000Z", True), ("2017-02-07T00:00:00.000Z", None)]
)
def test_is_live_was_inferred_until_the_players_said_it(at, inferred):
    assert body(dumped(**{"@timestamp": at})).get("is_live_inferred") is inferred
    assert body({**MESSAGE, "timestamp": at}).get("is_live_inferred") is inferred
    assert "is_live_inferred" not in body(dumped(**{"@timestamp": at}, is_live=None))


def test_a_document_of_uaharvest_keeps_its_is_live():
    ours = {**without("@version", STORED), "@timestamp": "2016-03-20T16:00:02.000Z", "huid": "None"}
    assert body({"_index": "useractions-2016.03.20", "_id": "12580", **ours}) == ours


def test_nobody_is_called_none():
    assert body({**MESSAGE, "huid": "None"})["huid"] is None
    assert body(dumped(huid="None"))["huid"] is None


def test_what_opencast_omitted_is_null():
    made = body(dumped(huid="-omitted-", ip="-omitted-", hostname="-omitted-"))
    assert (made["huid"], made["session_id"]) == (None, "node0db9f419a03")
    assert not {"ip", "hostname", "geoip"} & made.keys()
    assert "ua" in made


def test_an_omitted_session_belongs_to_all_so_its_person_and_browser_to_nobody():
    for made in (body(dumped(session_id="-omitted-")), body({**MESSAGE, "session_id": "-omitted-"})):
        assert (made["huid"], made["session_id"]) == (None, None)
        assert not {"ip", "hostname", "geoip", "ua", "useragent"} & made.keys()


def test_values_have_their_types_back():
    episode = {"title": 24, "duration": "7200000", "series": 20190210038}
    action = {"type": "PLAY", "inpoint": "394", "outpoint": 394.0, "length": "-3", "is_playing": "live"}
    made = body(dumped(huid=60002627, action=action, episode=episode))
    assert made["huid"] == "60002627"
    assert made["action"] == {"type": "PLAY", "inpoint": 394, "outpoint": 394, "length": -3, "is_playing": True}
    assert made["episode"] == {
        "title": "24",
        "duration": 7200000,
        "series": "20190210038",
        "year": "2019",
        "term": "02",
        "cdn": "10038",
    }


def test_a_year_that_the_old_tool_cut_out_of_any_series_is_null():
    series = "c5ef05b8-4b8c-4c0e-9d0a-0a1b2c3d4e5f"
    episode = {"series": series, "year": "c5ef", "term": "05", "cdn": "b8-4b"}
    assert body(dumped(episode=episode))["episode"] == {"series": series, "year": None, "term": None, "cdn": None}


def test_a_hostname_that_logstash_did_not_fill_in_is_none():
    made = body(dumped(ip=None, geoip=None, hostname="%{ip}"))
    assert "hostname" not in made


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        {"index": {"_index": "useractions-2019.03.20", "_id": "1"}},
        {**MESSAGE, "timestamp": "2019-03-20T16:00:02"},
        {**MESSAGE, "timestamp": 1553097602},
        {**MESSAGE, "action_id": 10**30},
        {**MESSAGE, "timestamp": "0001-01-01T00:00:00+14:00"},
        without("timestamp", MESSAGE),
    ],
)
def test_what_cannot_be_read_is_refused(line):
    with pytest.raises(PoisonError):
        read(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [*MESSAGE, *STORED, "_source", "_index", "_id", "created", "start", "tags", "ua", "type", "inpoint", "series"]
)
OBJECTS = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=4), max_size=6)


@given(JSON | OBJECTS | OBJECTS.map(lambda changes: {**MESSAGE, **changes}) | OBJECTS.map(lambda c: dumped(**c)))
def test_any_json_is_read_left_out_or_refused(content):
    try:
        for found in read(content):
            if found is not None:
                message = imported.as_message(found)
                made = imported.as_document(found, nowhere, None)
                assert made.id == str(made.body["action_id"])
                again = imported.as_document(read(message)[0], nowhere, None)
                assert (again.index, again.id) == (made.index, made.id)
    except PoisonError:
        pass


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
RECORDS = st.fixed_dictionaries(
    {
        "action_id": st.integers(-(2**63) + 1, 2**63 - 1),
        "timestamp": st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1)).map(
            lambda at: at.replace(microsecond=0, tzinfo=dt.UTC).isoformat()
        ),
        "mpid": st.none() | TEXT,
        "huid": st.none() | TEXT,
        "session_id": st.none() | TEXT,
        "is_live": st.sampled_from([0, 1]),
        "action": st.fixed_dictionaries(
            {
                "type": st.none() | TEXT | st.just("FOOTPRINT"),
                "inpoint": st.none() | st.integers(),
                "outpoint": st.none() | st.integers(),
                "length": st.none() | st.integers(),
                "is_playing": st.booleans(),
            }
        ),
        "episode": st.just({}) | st.just(MESSAGE["episode"]) | st.fixed_dictionaries({"title": TEXT}),
    },
    optional={"useragent": TEXT, "ip": TEXT, "proxy1": TEXT, "is_live_inferred": st.just(True)},
)


@given(RECORDS)
def test_an_exported_document_is_imported_as_it_was(record):
    stored = indexed.document(record, lambda _: BOSTON, None)
    before = copy.deepcopy(stored)
    line = json.dumps({"_index": stored.index, "_id": stored.id, **stored.body})
    [found] = read(line)
    assert imported.as_document(found, nowhere, None) == before


def document(at="2019-03-20T16:00:02+00:00", **changes):
    return indexed.document({**copy.deepcopy(MESSAGE), "timestamp": at, **changes}, nowhere, None)


def apply(changes, stored):
    """Return the body that a store has after one change."""
    [change] = changes
    if change.document.update:
        return imported.merged(stored, change.document.body)
    return change.document.body


def test_a_new_document_yields_to_one_that_somebody_else_has_just_written():
    [change], present = imported.changes([document()], {})
    assert (change.document.version, change.is_new, change.repeats, present) == (0, True, 0, 0)


def test_of_a_document_that_is_there_only_what_it_lacks_is_written():
    one = document()
    stored = {**one.body, "mpid": "another", "episode": {"title": "t"}, "huid": None}
    changes, present = imported.changes([one], {(one.index, one.id): stored})
    assert present == 0
    assert changes[0].document.body == {
        "huid": "60002627",
        "episode": without("title", MESSAGE["episode"]),
    }
    assert apply(changes, stored) == {
        **one.body,
        "mpid": "another",
        "episode": {**MESSAGE["episode"], "title": "t"},
    }


def test_a_richer_document_stays_as_it_is():
    one = document()
    stored = {**one.body, "geoip": BOSTON, "is_live": 1}
    poorer = document(episode={}, is_live_inferred=True, ip=None, **{"@version": "1"}, tags=["t"])
    for found in (one, poorer):
        assert imported.changes([found], {(one.index, one.id): stored}) == ([], 1)


def test_places_and_browsers_of_two_documents_are_not_mixed():
    one = document(geoip={"city_name": "Boston"})
    assert imported.changes([one], {(one.index, one.id): {**one.body, "geoip": BOSTON}}) == ([], 1)


def test_the_same_useraction_twice_is_written_once_with_all_that_both_know():
    first, second = document(episode={}), document(huid="another")
    changes, present = imported.changes([first, second], {})
    assert (len(changes), changes[0].repeats, present) == (1, 1, 0)
    assert apply(changes, {}) == {**second.body, "huid": "60002627"}


def footprint(end, **changes):
    action = {"type": "FOOTPRINT", "inpoint": 0, "outpoint": end, "length": end, "is_playing": True}
    return document(action=action, **changes)


def test_a_footprint_that_reaches_further_replaces_the_shorter_one_but_keeps_what_only_that_has():
    long, short = footprint(60, episode={}), footprint(30)
    key = (long.index, long.id)
    changes, _ = imported.changes([long], {key: short.body})
    assert changes[0].document.version == 60
    assert apply(changes, short.body) == footprint(60).body
    assert imported.changes([footprint(30)], {key: footprint(60).body}) == ([], 1)
    changes, _ = imported.changes([footprint(30)], {key: long.body})
    assert changes[0].document.version == 60
    assert apply(changes, long.body) == footprint(60).body
