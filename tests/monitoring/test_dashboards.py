"""The charts for Kibana and OpenSearch Dashboards: their queries on real servers, with documents as they really are.

Kibana itself is not run here.
"""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import dashboards
from uaharvest.documents import indexed, meeting, session
from uaharvest.documents.document import Document
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.zoom.rows import read_meeting, read_participant

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
LAPTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
# Address to place, as a MaxMind database would say.
PLACES = {"1.1.1.1": [-71.11, 42.37], "2.2.2.2": [8.54, 47.37]}
OBJECTS = [json.loads(line) for line in dashboards.FILE.read_text().splitlines()]
CHARTS = {
    chart["id"].removeprefix("uaharvest-"): json.loads(
        json.loads(chart["attributes"]["visState"])["params"]["spec"]
    )
    for chart in OBJECTS
    if chart["type"] == "visualization"
}


def test_the_file_is_what_the_descriptions_make(pytestconfig):
    if pytestconfig.getoption("--renew-docs"):
        dashboards.FILE.write_text(dashboards.text())
    assert dashboards.FILE.read_text() == dashboards.text(), "`python -m monitoring` writes it"


def test_each_reference_leads_to_an_object_of_the_file():
    ids = {(entry["type"], entry["id"]) for entry in OBJECTS}
    assert len(ids) == len(OBJECTS)
    for entry in OBJECTS:
        assert {(to["type"], to["id"]) for to in entry["references"]} <= ids
        if entry["type"] == "dashboard":
            panels = json.loads(entry["attributes"]["panelsJSON"])
            assert [panel["panelRefName"] for panel in panels] == [to["name"] for to in entry["references"]]


def test_each_chart_is_on_a_dashboard():
    shown = {to["id"] for entry in OBJECTS if entry["type"] == "dashboard" for to in entry["references"]}
    assert shown == {entry["id"] for entry in OBJECTS if entry["type"] == "visualization"}


def locate(address):
    return {"location": PLACES[address]} if address in PLACES else {}


def useraction(number, *, session_id, second=0, huid="1", live=0, ip="1.1.1.1", agent=PHONE, course="Course 1"):
    at = NOON + timedelta(seconds=second)
    record = {
        "action_id": number,
        "timestamp": at.isoformat(),
        "session_id": session_id,
        "huid": huid,
        "useragent": agent,
        "ip": ip,
        "is_live": live,
        "action": {"type": "HEARTBEAT", "is_playing": True},
        "episode": {"course": course},
    }
    return indexed.document(record, locate, None)


def meetings():
    """Return the documents of a meeting with three participants."""
    listed = {
        "uuid": "one==",
        "id": 5,
        "topic": "Seminar",
        "start_time": "2026-11-20T16:00:02Z",
        "end_time": "2026-11-20T17:00:04Z",
        "duration": "01:00:02",
    }
    rows = [
        read_participant(
            {
                "id": f"participant {number}",
                "user_id": f"1677{number}",
                "device": device,
                "location": "Cambridge (US)",
                "join_time": f"2026-11-20T16:00:{number:02}Z",
                "leave_time": "2026-11-20T16:30:00Z",
            }
        )
        for number, device in enumerate(["Mac", "Mac", "Windows"])
    ]
    found, _ = session.sessions(listed["uuid"], rows, lambda _: {})
    tells = meeting.fields(read_meeting(listed), "host") | meeting.attendance(found)
    yield Document("meetings-2026.11.20", listed["uuid"], tells, update=True)
    for one in found:
        yield Document("sessions-2026.11.20", one.id, one.fields)


@pytest.fixture
def ask(templates, es, cluster):
    """Index documents, and return what asks the query of a chart, as both products send it."""
    store = ClusterStore(cluster)
    viewing = [
        useraction(1, session_id="a", second=0, live=1),
        useraction(2, session_id="a", second=30, live=1),
        useraction(3, session_id="b", second=60, huid=None, agent=LAPTOP, ip="2.2.2.2", course="Course 2"),
        useraction(4, session_id="c", second=90, huid="anonymous", ip="10.0.0.1"),
        useraction(5, session_id="c", second=400, huid="anonymous", ip="10.0.0.1"),
    ]
    list(store.write([*viewing, *meetings()]))
    es.indices.refresh(index="useractions-*,meetings-*,sessions-*")

    def ask(name):
        spec = CHARTS[name]
        data = spec["data"] if isinstance(spec["data"], dict) else spec["data"][0]
        url = data["url"]
        family = url["index"].removesuffix("-*")
        assert url["%timefield%"] == dashboards.TIMES[family]
        window = {"range": {url["%timefield%"]: {"gte": "2026-11-20T00:00:00Z", "lt": "2026-11-22T00:00:00Z"}}}
        found = es.search(index=url["index"], body={"query": {"bool": {"filter": [window]}}, **url["body"]})
        for part in data["format"]["property"].split("."):
            found = found[part]
        return found

    return ask


def tops(buckets):
    return {bucket["key"]: bucket["number"]["value"] for bucket in buckets}


def test_every_chart_has_data(ask):
    assert {name: bool(ask(name)) for name in CHARTS} == dict.fromkeys(CHARTS, True)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("viewers-live", {"live": 1, "on demand": 2}, {"live": 0, "on demand": 1}),
        ("viewers-identified", {"identified": 1, "not identified": 2}, {"identified": 0, "not identified": 1}),
    ],
)
def test_viewers_at_once_are_distinct_sessions_in_five_minutes_by_kind(ask, name, first, second):
    found = [
        {kind: bucket["viewers"]["value"] for kind, bucket in time["kind"]["buckets"].items()}
        for time in ask(name)
    ]
    assert found == [first, second]
    calculated = {step["as"] for step in CHARTS[name]["transform"] if "calculate" in step}
    assert calculated == set(first)


def test_courses_browsers_and_systems_are_counted_by_sessions(ask):
    assert tops(ask("courses")) == {"Course 1": 2, "Course 2": 1}
    assert tops(ask("browsers")) == {"Mobile Safari UI/WKWebView": 2, "Firefox": 1}
    assert tops(ask("systems")) == {"iOS 17.0": 2, "Windows 10": 1}


def test_the_map_has_a_place_for_each_square_with_viewers(ask):
    found = {round(square["centre"]["location"]["lon"]): square["viewers"]["value"] for square in ask("map")}
    assert found == {-71: 1, 9: 1}


def test_zoom_is_counted_by_day(ask):
    for name, number in (
        ("zoom-meetings", 1),
        ("zoom-participants", 3),
        ("zoom-peak", 3),
        ("zoom-seconds", 3 * 1800 - 3),
    ):
        assert [day["number"]["value"] for day in ask(name)] == [number]
    assert tops(ask("zoom-devices")) == {"Mac": 2, "Windows": 1}
    assert tops(ask("zoom-countries")) == {"US": 3}


# Small groups


class Datum(dict):
    """A bucket as Vega's expressions see it."""

    def __getattr__(self, name):
        return Datum(self[name]) if isinstance(self[name], dict) else self[name]

    def __getitem__(self, name):
        found = super().__getitem__(name)
        return Datum(found) if isinstance(found, dict) else found


def shown(name, bucket):
    """What a chart shows of a bucket, by column. Its expressions mean the same in Python."""
    spec = CHARTS[name]
    steps = spec["transform"] if "transform" in spec else spec["data"][0]["transform"]
    made = [
        (step["as"], step.get("calculate", step.get("expr"))) for step in steps if isinstance(step.get("as"), str)
    ]
    return {column: eval(text, {"floor": math.floor, "datum": Datum(bucket)}) for column, text in made}


def bucket_of(number, users, visitors):
    one = {
        "number": {"value": number},
        "viewers": {"value": number},
        "people": {"value": users + visitors},
        "users": {"number": {"value": users}},
        "visitors": {"number": {"value": visitors}},
    }
    kinds = ("live", "on demand", "identified", "not identified")
    return {**one, "kind": {"buckets": dict.fromkeys(kinds, one)}}


@pytest.mark.parametrize("name", sorted(CHARTS.keys() - {"zoom-meetings"}))  # which are no people
@given(number=st.integers(0, 1000), users=st.integers(0, 12), visitors=st.integers(0, 12))
def test_no_chart_shows_what_fewer_than_five_people_did_or_lets_it_be_subtracted(name, number, users, visitors):
    made = shown(name, bucket_of(number, users, visitors))
    assert made
    for value in made.values():
        assert value == 0 if users + visitors < 5 else 0 <= value <= number
        assert name == "zoom-seconds" or value % 5 == 0  # all differences of multiples are multiples


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_charts_draw_what_may_be_shown_and_nothing_else(name):
    spec = CHARTS[name]
    drawn = json.dumps([spec.get("encoding"), spec.get("marks"), spec.get("scales")])
    assert 'value"' not in drawn.replace('{"value"', "")  # such as "number.value"
    assert "shown" in drawn or {"viewers", "kind"} <= set(json.dumps(spec["encoding"]).split('"'))


def test_the_three_people_of_these_documents_are_on_no_chart(ask):
    for name in CHARTS.keys() - {"zoom-meetings"}:
        buckets = ask(name)
        assert buckets
        assert {value for bucket in buckets for value in shown(name, bucket).values()} == {0}
