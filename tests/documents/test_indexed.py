import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uaharvest.documents import indexed as module
from uaharvest.documents.indexed import document, records
from uaharvest.errors import PoisonError
from uaharvest.geolite import nowhere

# The literal message of contracts.md §2.0.
MESSAGE = {
    "action_id": 12580,
    "timestamp": "2026-11-20T16:00:02+00:00",
    "mpid": "bd6a996d-4a32-440d-a5f4-649510a25b19",
    "session_id": "node0db9f419a03",
    "huid": "60002627",
    "useragent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
    "action": {"type": "SEEK", "inpoint": 394, "outpoint": 394, "length": 0, "is_playing": True},
    "ip": "200.70.169.1",
    "proxy1": "10.0.0.1",
    "is_live": 0,
    "episode": {"title": "Lecture 119", "duration": 7200000, "series": "20260210038", "cdn": "10038"},
}


def indexed(changes=None, *, without=(), infix=None, locate=nowhere):
    record = {name: value for name, value in {**MESSAGE, **(changes or {})}.items() if name not in without}
    [read] = records(json.dumps(record))
    return document(read, locate, infix)


def footprint(**action):
    return indexed({"action": {"type": "FOOTPRINT", **action}}).version


def test_a_message_becomes_the_document_that_logstash_made():
    made = indexed()
    assert (made.index, made.id, made.version, made.update) == ("useractions-2026.11.20", "12580", None, False)
    kept = {name: MESSAGE[name] for name in MESSAGE if name not in {"timestamp", "useragent"}}
    assert made.body == {
        **kept,
        "@timestamp": "2026-11-20T16:00:02.000Z",
        "hostname": "200.70.169.1",
        "ua": {
            "name": "Mobile Safari UI/WKWebView",
            "os": "iOS 17.0",
            "os_name": "iOS",
            "os_major": "17",
            "os_minor": "0",
            "device": "iPhone",
        },
    }


def test_a_browser_has_its_version_in_parts():
    agent = (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/120.0.6099.71 Safari/537.36"
    )
    ua = indexed({"useragent": agent}).body["ua"]
    assert ua == {
        "name": "Chrome",
        "major": "120",
        "minor": "0",
        "patch": "6099",
        "build": "71",
        "os": "Windows 10",
        "os_name": "Windows",
        "os_major": "10",
        "device": "Other",
    }


def test_an_unknown_agent_is_other_as_in_logstash():
    assert indexed({"useragent": "x"}).body["ua"] == {
        "name": "Other",
        "os": "Other",
        "os_name": "Other",
        "device": "Other",
    }


@pytest.mark.parametrize("agent", [None, "", 7, ["x"]])
def test_without_an_agent_there_is_no_ua(agent):
    body = indexed({"useragent": agent}).body
    assert "ua" not in body
    assert "useragent" not in body


def test_the_index_is_that_of_the_events_utc_day():
    made = indexed({"timestamp": "2026-11-20T20:30:00.123-05:00"}, infix="prod")
    assert made.index == "useractions-prod-2026.11.21"
    assert made.body["@timestamp"] == "2026-11-21T01:30:00.123Z"


def test_without_an_address_there_is_neither_host_nor_place():
    body = indexed(without=["ip"], locate=lambda address: pytest.fail("asked")).body
    assert not {"hostname", "geoip", "ip"} & body.keys()


def test_a_place_that_is_known_is_told():
    assert indexed(locate={"200.70.169.1": {"city_name": "Rosario"}}.get).body["geoip"] == {"city_name": "Rosario"}


def test_a_place_that_is_not_known_is_not():
    assert "geoip" not in indexed().body


def test_a_footprint_has_its_reach_as_version_so_that_a_longer_one_wins():
    assert footprint(inpoint=10, outpoint=60, length=50) == 60
    assert footprint(length=50) == 50


@pytest.mark.parametrize("action", [{}, {"outpoint": -3}, {"outpoint": None, "length": "9"}, {"outpoint": True}])
def test_a_footprint_without_a_usable_reach_has_version_0(action):
    assert footprint(**action) == 0


def test_a_reach_beyond_a_long_is_the_highest_version():
    assert footprint(outpoint=2**70) == 2**63 - 1


def test_an_array_has_as_many_records_and_each_is_looked_at_alone():
    assert len(records(json.dumps([MESSAGE, 7, MESSAGE]))) == 3
    assert records("[]") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('"text"', "neither an object nor an array"),
        ("null", "neither an object nor an array"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": -Infinity}', "not JSON"),
        ('{"a": 1e999}', "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON|nested too deep"),
        ("[" * 22 + "]" * 22, "nested deeper"),
        ('{"a":' * 30 + "1" + "}" * 30, "nested deeper"),
    ],
)
def test_what_is_no_record_and_no_array_is_poison(body, reason):
    with pytest.raises(PoisonError, match=reason):
        records(body)


def test_a_reason_holds_nothing_of_the_message():
    with pytest.raises(PoisonError) as caught:
        records('{"huid": "60002627", "x": ' + "9" * 5000)
    assert "60002627" not in str(caught.value)
    assert "999" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"action_id": None},
        {"action_id": "12580"},
        {"action_id": True},
        {"action_id": 1.0},
        {"action_id": 2**63},
        {"timestamp": None},
        {"timestamp": 1_700_000_000},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-11-20T16:00:02"},
        {"timestamp": "0001-01-01T00:00:00+05:00"},
    ],
)
def test_a_record_without_a_usable_id_or_time_is_poison_and_stays_as_it_was(change):
    record = {**MESSAGE, **change}
    with pytest.raises(PoisonError, match=r"action_id|timestamp"):
        document(record, nowhere, None)
    assert record == {**MESSAGE, **change}


def test_a_lone_surrogate_which_no_store_takes_is_replaced_and_an_emoji_stays():
    body = indexed({"huid": "a\ud800b", "mpid": "\N{GRINNING FACE}"}).body
    assert body["huid"] == "a\N{REPLACEMENT CHARACTER}b"
    assert body["mpid"] == "\N{GRINNING FACE}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
record_like = st.fixed_dictionaries(
    {
        "action_id": st.integers() | json_values,
        "timestamp": st.datetimes().map(lambda t: f"{t}+00:00") | json_values,
    },
    optional={"useragent": json_values, "ip": json_values, "action": json_values, "episode": json_values},
)


@given(st.one_of(json_values, record_like, st.lists(record_like, max_size=3)).map(json.dumps) | st.text())
@example('{"action_id": 1, "timestamp": "2026-11-20T16:00:02+00:00", "ip": "\\ud800", "useragent": "\\udfff"}')
def test_no_body_gives_anything_but_documents_that_can_be_written_or_poison(body):
    try:
        for record in records(body):
            try:
                made = document(record, nowhere, None)
            except PoisonError:
                continue
            json.dumps(made.body, allow_nan=False, ensure_ascii=False).encode()
            assert made.index.startswith("useractions-")
            assert made.version is None or 0 <= made.version < 2**63
    except PoisonError:
        pass


def outcome_of(body):
    try:
        return repr(records(body))  # tells 1 from 1.0 and from True
    except PoisonError as error:
        return str(error)


json_content = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(
    body=st.builds(json.dumps, json_content | st.lists(json_content), ensure_ascii=st.booleans()).filter(
        lambda text: text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
    )
)
@example(body='{"action_id": 1, "action_id": 2}')
@example(body='{"a": 1e400}')
@example(body='{"a": 0.1e-400, "b": 1E5, "c": -0.0, "d": 18446744073709551616}')
@example(body=f'{{"a": {"9" * 5000}}}')
@example(body='{"a": "\x01"}')
@example(body='{"a": "\\ud83d\\ude00"}')
@example(body="[" * 100_000)
@example(body='\ufeff{"a": 1}')
@example(body="")
def test_a_message_is_read_as_the_json_module_reads_it(body):
    fast = outcome_of(body)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_decode", lambda _: (_ for _ in ()).throw(ValueError))
        assert fast == outcome_of(body)
