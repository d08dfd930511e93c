"""The templates on a real Elasticsearch: documents as they really are, and the queries that readers make."""

import datetime as dt
import json
import math
import shutil
import statistics

import pytest

from tests.viewing.test_documents import beats
from uaharvest import index_templates
from uaharvest.documents import indexed, meeting, session
from uaharvest.documents.attendance import attendance
from uaharvest.documents.document import Document
from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import BlockedError
from uaharvest.index_templates import FOLDER, Outcome, load, retain
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import products
from uaharvest.sinks.cluster.store import ClusterStore
from uaharvest.viewing.documents import documents
from uaharvest.viewing.recording import RecordingActions
from uaharvest.zoom.rows import read_meeting, read_participant

ONE_INDEX = dict.fromkeys(("episodes", "viewings", "recordings", "attendance"), False)
MESSAGE = json.loads(
    '{"action_id": 12580, "timestamp": "2026-11-20T16:00:02+00:00", "mpid": "bd6a996d-4a32-440d-a5f4-649510a25b19",'
    ' "session_id": "node0db9f419a03", "huid": "60002627",'
    ' "useragent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "action": {"type": "SEEK",'
    ' "inpoint": 394, "outpoint": 394, "length": 0, "is_playing": true}, "ip": "200.70.169.1", "proxy1": "10.0.0.1",'
    ' "is_live": 0, "episode": {"title": "Lecture 119", "duration": 7200000, "start": "2026-11-18T16:00:00Z",'
    ' "course": "Course 38", "series": "20260210038", "year": "2026", "term": "02", "cdn": "10038", "type": "S02",'
    ' "description": "About 118"}}'
)
WITHOUT_SERIES = json.loads(
    '{"action_id": 2554, "timestamp": "2026-11-20T16:00:09+00:00", "mpid": "113db17d-fc13-4357-a70c-1c24298cb3a5",'
    ' "session_id": "node0d21becac23", "huid": "03128165", "useragent": "Mozilla/5.0 (X11; Linux x86_64)'
    ' AppleWebKit/537.36", "action": {"type": "HEARTBEAT", "inpoint": 748, "outpoint": 748, "length": 0,'
    ' "is_playing": true}, "ip": "76.255.167.154", "is_live": 0, "episode": {"title": "Lecture 28",'
    ' "duration": 5400000, "start": "2026-11-01T16:00:00Z", "type": "L01", "description": "About 27"}}'
)
STILLS = "https://engage.example.edu/static"
LIVE = {
    "title": "Lecture 3",
    "mpid": "1600a35a-6f03-46b0-a11e-17383d9c1724",
    "duration": 5400000,
    "start": "2026-11-19T16:00:00+00:00",
    "course": "Course 2",
    "series": "20260310002",
    "year": "2026",
    "term": "03",
    "crn": "10002",
    "description": "About 2",
    "presenter_still": f"{STILLS}/1600a35a-6f03-46b0-a11e-17383d9c1724/p.jpg",
    "slides": [{"img": f"{STILLS}/s1.jpg", "time": "T00:01:02:0F1000"}],
    "live_stream": 1,
    "live_start": "2026-11-19T16:00:00+00:00",
    "live_end": "2026-11-19T17:00:00+00:00",
    "live_duration": 3600000,
    "available": "2026-11-19T18:01:40+00:00",
}
RECORDED = {
    "title": "Lecture 6",
    "mpid": "dbc496cb-2217-44a2-a6b4-8a6a24ede6a4",
    "duration": 7200000,
    "start": "2026-11-11T16:00:00+00:00",
    "course": "Course 5",
    "series": "20260110005",
    "year": "2026",
    "term": "01",
    "crn": "10005",
    "presentation_still": f"{STILLS}/dbc496cb-2217-44a2-a6b4-8a6a24ede6a4/p.jpg",
}
CAMBRIDGE = {"location": [-71.11, 42.37], "city_name": "Cambridge", "country_code2": "US"}
BOSTON = {"lat": 42.3582, "lon": -71.0507}
DAY = "useractions-2026.11.20"
SITE = Settings(index_infix="stack")
WATCHED = [
    {"term": {"action.type": "HEARTBEAT"}},
    {"term": {"action.is_playing": True}},
    {"term": {"is_live": 0}},
]


@pytest.fixture
def store(templates, cluster):
    return ClusterStore(cluster)


@pytest.fixture
def put(store, es):
    """Writes documents that must all be taken, and lets them be found."""

    def put(*documents):
        for written in store.write(documents):
            assert written.refused == ()
        es.indices.refresh(index="_all")

    return put


def useraction(number, message=MESSAGE, **changes):
    """A document as the indexer makes it, each with an id of its own; `action` is added to the action's fields."""
    record = json.loads(json.dumps(message))
    action = {**record["action"], **changes.pop("action", {})}
    record |= {"action_id": number, "action": action, **changes}
    return indexed.document(record, lambda _: CAMBRIDGE, SITE.index_infix)


def heartbeat(number, huid, second, inpoint, **changes):
    at = dt.datetime(2026, 11, 20, 16, tzinfo=dt.UTC) + dt.timedelta(seconds=second)
    action = {"type": "HEARTBEAT", "inpoint": inpoint}
    return useraction(number, huid=huid, timestamp=at.isoformat(), action=action, **changes)


def found(es, query, index="useractions-*"):
    return sorted(
        hit["_id"] for hit in es.search(index=index, body={"query": query, "size": 1000})["hits"]["hits"]
    )


def aggregated(es, index="useractions-*", query=None, **aggregations):
    answer = es.search(index=index, body={"size": 0, "query": query or {"match_all": {}}, "aggs": aggregations})
    return {name: answer["aggregations"][name] for name in aggregations}


# Loading


def test_the_first_load_creates_all_and_the_second_changes_nothing(cluster):
    names = [f"uaharvest-{name}" for name in ("shared", "retention", *FAMILIES)]
    assert [(loaded.name, loaded.outcome) for loaded in load(cluster)] == [
        (name, Outcome.CREATED) for name in names
    ]
    assert [loaded.outcome for loaded in load(cluster)] == [Outcome.UNCHANGED] * (2 + len(FAMILIES))


@pytest.fixture
def newer(tmp_path):
    """The templates with a higher version of the one for episodes."""
    shutil.copytree(FOLDER, tmp_path / "newer")
    path = tmp_path / "newer" / "episodes.json"
    template = json.loads(path.read_text())
    path.write_text(json.dumps({**template, "version": template["version"] + 1}))
    return tmp_path / "newer"


def test_only_a_template_that_differs_is_updated(templates, cluster, newer):
    outcomes = {loaded.name: loaded.outcome for loaded in load(cluster, newer)}
    assert outcomes.pop("uaharvest-episodes") is Outcome.UPDATED
    assert set(outcomes.values()) == {Outcome.UNCHANGED}


def test_what_someone_has_changed_by_hand_is_put_right(templates, es, cluster):
    es.indices.put_index_template(
        name="uaharvest-sessions", body={"index_patterns": ["sessions-*"], "version": 1, "priority": 200}
    )
    assert {loaded.name: loaded.outcome for loaded in load(cluster)}["uaharvest-sessions"] is Outcome.UPDATED


def test_a_newer_version_is_not_overwritten_and_then_nothing_is(es, cluster, newer):
    load(cluster, newer)
    es.indices.delete_index_template(name="uaharvest-meetings")
    with pytest.raises(BlockedError, match="uaharvest-episodes in version 2, this uaharvest version 1"):
        load(cluster)
    assert not es.indices.exists_index_template(name="uaharvest-meetings")


# Retention. The servers of the tests have neither ILM nor ISM, so a stub keeps their policies.


class Policies:
    """A connection whose policies are kept here, as ILM and ISM keep them; all else goes to the real server.

    A server without ILM does not know the setting that names a policy, so the stub keeps that too.
    """

    def __init__(self, cluster):
        self._cluster = cluster
        self.stored = {}
        self.named = None
        self.product = cluster.product
        self.server = cluster.server

    def ask(self, method, path, body=None, **options):
        if method == "PUT" and path == "/_component_template/uaharvest-retention":
            index = body["template"]["settings"]["index"]
            self.named = index["lifecycle"]
            rest = {name: value for name, value in index.items() if name != "lifecycle"}
            body = {**body, "template": {"settings": {"index": rest}}}
        if "policies" not in path and "policy" not in path:
            return self._cluster.ask(method, path, body, **options)
        if method == "GET":
            absent = {"error": {"type": "resource_not_found_exception", "reason": "not found"}}
            return (200, self.stored[path]) if path in self.stored else (404, absent)
        ism = "_ism" in path
        before = self.stored.get(path, {})
        named = {name.removeprefix("if"): value for name, value in options.items()}
        seen = {name: before[name] for name in ("_seq_no", "_primary_term") if name in before}
        assert named == (seen if ism else {}), "ISM answers 409"
        self.stored[path] = {**body, "_seq_no": before.get("_seq_no", 6) + 1, "_primary_term": 1}
        return 200, {}


def days_of(policy):
    """Check the shape of a policy, as ILM's and ISM's documentation describe it; return its days."""
    if "phases" in policy:
        assert policy["phases"].keys() == {"delete"}
        assert policy["phases"]["delete"]["actions"] == {"delete": {}}
        return policy["phases"]["delete"]["min_age"]
    states = {state["name"]: state for state in policy["states"]}
    assert all(state.keys() == {"name", "actions", "transitions"} for state in policy["states"])
    (transition,) = states[policy["default_state"]]["transitions"]
    assert states[transition["state_name"]] == {
        "name": transition["state_name"],
        "actions": [{"delete": {}}],
        "transitions": [],
    }
    (template,) = policy["ism_template"]
    assert template["index_patterns"] == ["useractions-*", "meetings-*", "sessions-*"]  # episodes are kept
    return transition["conditions"]["min_index_age"]


def test_a_policy_of_retention_is_installed_on_demand_and_stays(templates, cluster, es):
    policies = Policies(cluster)
    assert retain(policies, 400) is Outcome.CREATED
    assert retain(policies, 500) is Outcome.UPDATED
    ((path, stored),) = policies.stored.items()
    named = {"name": "uaharvest-retention", "parse_origination_date": "true"}
    if cluster.product().name == "Elasticsearch":
        assert path == "/_ilm/policy/uaharvest-retention"
    else:
        assert path == "/_plugins/_ism/policies/uaharvest-retention"
        named = None
    assert days_of(stored["policy"]) == "500d"
    assert policies.named == named
    assert [loaded.outcome for loaded in load(cluster)] == [Outcome.UNCHANGED] * (2 + len(FAMILIES))
    for family, expected in {"useractions": True, "meetings": True, "sessions": True, **ONE_INDEX}.items():
        (found,) = es.indices.get_index_template(name=f"uaharvest-{family}")["index_templates"]
        assert ("uaharvest-retention" in found["index_template"]["composed_of"]) is expected


def test_a_server_without_policies_says_so(templates, cluster):
    with pytest.raises(
        BlockedError, match=r"keeps no policies at \S+uaharvest-retention: no retention is installed"
    ):
        retain(cluster, 400)


@pytest.mark.parametrize("product", [products.ELASTICSEARCH, products.OPENSEARCH], ids=lambda one: one.name)
def test_policies_have_the_shape_that_each_product_wants(product):
    text = (FOLDER / "retention" / f"{product.name.lower()}.json").read_text().replace("DAYS", "30")
    assert days_of(json.loads(text)["policy"]) == "30d"


@pytest.mark.parametrize(
    "index",
    [
        "useractions-2026.11.20",
        "useractions-stack-2026.11.20",
        "episodes",
        "episodes-stack",
        "meetings-stack-2026.11.20",
    ],
)
def test_every_index_with_and_without_a_site_part_is_made_from_a_template(templates, es, index):
    mappings = es.indices.simulate_index_template(name=index)["template"]["mappings"]
    assert mappings["_meta"] == {"managed_by": "uaharvest"}


# Documents and their types


def test_the_documents_of_the_old_tool_are_taken_as_they_are(put, store):
    first, second = useraction(12580), useraction(2554, WITHOUT_SERIES)
    assert first.index == "useractions-stack-2026.11.20"
    put(first, second, Document("episodes", LIVE["mpid"], LIVE), Document("episodes", RECORDED["mpid"], RECORDED))
    assert store.get(first.index, "12580") == dict(first.body)
    assert store.get("episodes", LIVE["mpid"]) == LIVE


def test_the_events_that_the_old_tool_lost_are_taken(put, es):
    put(
        useraction(1, episode={}),
        useraction(2, huid=None),
        useraction(3, ip="-omitted-"),
        useraction(4, ip="unknown, 10.0.0.1", proxy1="x", proxy2="y"),
        useraction(5, episode={"start": "last Tuesday", "duration": "long"}),
        useraction(6, action={"inpoint": -5, "length": -1}),
        useraction(7, episode={"description": "é" * 40_000}),
    )
    assert found(es, {"match_all": {}}) == ["1", "2", "3", "4", "5", "6", "7"]
    assert found(es, {"term": {"ip": "200.0.0.0/8"}}) == ["1", "2", "5", "6", "7"]
    assert found(es, {"bool": {"must_not": {"exists": {"field": "huid"}}}}) == ["2"]


MEETING_ROW = {
    "uuid": "/9s8s9L+PTEC//FbdD1Cw==",
    "id": 93201235621,
    "topic": "Statistics",
    "host": "Jill Chill",
    "email": "jchill@example.edu",
    "user_type": "Licensed",
    "start_time": "2026-11-20T16:00:00Z",
    "end_time": "2026-11-21T18:00:05Z",
    "duration": "26:00:05",
    "participants": 3,
    "has_pstn": False,
    "has_video": True,
    "has_recording": False,
    "avg_jointime_cost": 4,
    "tracking_fields": [{"field": "Purpose", "value": "Lecture"}],
}
SESSION_ROW = {
    "id": "",
    "user_id": "16778240",
    "user_name": "Ann",
    "device": "Windows + Phone",
    "ip_address": "200.70.169.1",
    "location": "San Jose (US)",
    "network_type": "Wifi",
    "join_time": "2026-11-20T16:00:00Z",
    "leave_time": "2026-11-20T16:30:00.500Z",
    "leave_reason": "Ann left the meeting.<br>Reason: Host ended the meeting.",
    "status": "in_meeting",
    "version": "5.9.1.2581",
    "total_jointime_cost": 3.98,
}


def zoom_documents(*rows):
    """The documents of that meeting and of such sessions of it."""
    found, odd = session.sessions(
        MEETING_ROW["uuid"], [read_participant(row) for row in rows], lambda _: CAMBRIDGE
    )
    assert not odd
    tells = meeting.fields(read_meeting(MEETING_ROW), "2pyjK5VNQHadb2BY6Z4GbA") | meeting.attendance(found)
    return [
        Document("meetings-2026.11.20", MEETING_ROW["uuid"], tells, update=True),
        *(Document("sessions-stack-2026.11.20", one.id, one.fields) for one in found),
    ]


def test_zoom_documents_are_found_by_what_readers_ask_for(put, es):
    waited = {"status": "in_waiting_room", "user_id": "5", "ip_address": "", "leave_time": ""}
    room = {"bo_mtg_id": "Dkgwu8nm/ExG1vM+GhLRhA==", "ip_address": "2001:db8::1", "location": "United States"}
    documents = zoom_documents(SESSION_ROW, SESSION_ROW | waited, SESSION_ROW | room)
    put(*documents)
    put(*documents)  # a repeat adds nothing
    meeting_id, first, second, third = (document.id for document in documents)
    for term in (
        {"uuid": meeting_id},
        {"meeting_series_id": "93201235621"},
        {"host.host_id": "2pyjK5VNQHadb2BY6Z4GbA"},
        {"duration": 93_605},
        {"participant_sessions": 3},
        {"has_video": True},
        {"recording": False},
        {"tracking_fields.value": "Lecture"},
        {"unique_participants": 1},
        {"person_seconds": 1800},
        {"waiting_room_sessions": 1},
    ):
        assert found(es, {"term": term}, "meetings-*") == [meeting_id], term
    assert found(es, {"range": {"start_time": {"gte": "2026-11-20"}}}, "meetings-*") == [meeting_id]
    assert found(es, {"term": {"meeting": meeting_id}}, "sessions-*") == sorted([first, second, third])
    for query, expected in (
        ({"term": {"user_id": "5"}}, [second]),
        ({"term": {"city": "San Jose"}}, [first, second]),
        ({"term": {"country": "US"}}, [first, second, third]),
        ({"term": {"ip_address": "200.70.0.0/16"}}, [first]),
        ({"term": {"ip_address": "2001:db8::/32"}}, [third]),
        ({"term": {"waiting_room": True}}, [second]),
        ({"term": {"breakout_room": True}}, [third]),
        ({"term": {"leave_reason": "Host ended the meeting."}}, [first, second, third]),
        ({"exists": {"field": "leave_time"}}, [first, third]),
        ({"range": {"duration": {"gte": 1800}}}, [first, third]),
        ({"geo_distance": {"distance": "5km", "geoip.location": [-71.1, 42.37]}}, [first, third]),
    ):
        assert found(es, query, "sessions-*") == sorted(expected), query


def test_kibana_charts_of_zoom_have_numbers_and_times(put, es):
    put(*zoom_documents(SESSION_ROW, SESSION_ROW | {"user_id": "5", "device": "iOS"}))
    days = {"date_histogram": {"field": "join_time", "calendar_interval": "day"}}
    sums = {
        "days": days,
        "devices": {"terms": {"field": "device"}},
        "seconds": {"sum": {"field": "duration"}},
        "cost": {"avg": {"field": "total_jointime_cost"}},
    }
    answer = aggregated(es, "sessions-*", **sums)
    assert [bucket["doc_count"] for bucket in answer["days"]["buckets"]] == [2]
    assert {bucket["key"] for bucket in answer["devices"]["buckets"]} == {"Windows + Phone", "iOS"}
    assert (answer["seconds"]["value"], round(answer["cost"]["value"], 2)) == (3600, 3.98)
    cost = aggregated(es, "meetings-*", cost={"avg": {"field": "avg_jointime_cost"}})["cost"]["value"]
    assert cost == 4


def test_a_first_whole_number_does_not_make_a_field_of_whole_numbers(put, es):
    put(*zoom_documents(SESSION_ROW))  # avg_jointime_cost is 4 there
    put(Document("meetings-2026.11.20", "other", {"avg_jointime_cost": 4.75}, update=True))
    assert found(es, {"range": {"avg_jointime_cost": {"gt": 4.5}}}, "meetings-*") == ["other"]


def test_is_live_is_written_and_queried_as_0_and_1_or_as_false_and_true(put, es):
    written = {"0": 0, "1": 1, "2": False, "3": True, "4": "0", "5": "true"}
    put(*(useraction(int(number), is_live=value) for number, value in written.items()))
    not_live, live = ["0", "2", "4"], ["1", "3", "5"]
    for value in (0, False, "0", "false"):
        assert found(es, {"term": {"is_live": value}}) == not_live
        assert found(es, {"match": {"is_live": value}}) == not_live
        assert found(es, {"terms": {"is_live": [value]}}) == not_live
    for value in (1, True, "1", "true"):
        assert found(es, {"term": {"is_live": value}}) == live
        assert found(es, {"match": {"is_live": value}}) == live
    assert found(es, {"query_string": {"query": "is_live:true"}}) == live
    assert found(es, {"range": {"is_live": {"gte": 1}}}) == live
    buckets = aggregated(es, live={"terms": {"field": "is_live"}})["live"]["buckets"]
    assert [(bucket["key"], bucket["doc_count"]) for bucket in buckets] == [("0", 3), ("1", 3)]


# The queries of readers (contracts.md, section 3)


def test_metric_1_rewatching_per_300_seconds(put, es):
    put(
        heartbeat(1, "a", 0, 10),
        heartbeat(2, "a", 30, 40),
        heartbeat(3, "a", 900, 20),  # again, a quarter of an hour later
        heartbeat(4, "b", 0, 310),
        heartbeat(5, "b", 30, 20, is_live=1),
        heartbeat(6, "b", 60, -5),
    )
    times = {"date_histogram": {"field": "@timestamp", "fixed_interval": "5m", "min_doc_count": 1}}
    buckets = aggregated(
        es,
        query={"bool": {"filter": [{"term": {"mpid": MESSAGE["mpid"]}}, *WATCHED]}},
        segments={
            "histogram": {"field": "action.inpoint", "interval": 300},
            "aggs": {"users": {"terms": {"field": "huid", "size": 10_000}, "aggs": {"times": times}}},
        },
    )["segments"]["buckets"]
    watched = {
        bucket["key"]: sum(len(user["times"]["buckets"]) for user in bucket["users"]["buckets"])
        for bucket in buckets
    }
    assert watched == {-300: 1, 0: 2, 300: 1}


@pytest.mark.parametrize(("metric", "interval"), [(2, 180), (7, 300)])
def test_metrics_2_and_7_percent_viewed_per_student(put, es, metric, interval):
    put(
        *(heartbeat(number, "a", 30 * number, 30 * number) for number in range(60)),
        heartbeat(100, "anonymous", 0, 0),
    )
    buckets = aggregated(
        es,
        query={"bool": {"filter": WATCHED, "must_not": {"term": {"huid": "anonymous"}}}},
        users={
            "terms": {"field": "huid", "size": 10_000},
            "aggs": {"bins": {"histogram": {"field": "action.inpoint", "interval": interval, "min_doc_count": 1}}},
        },
    )["users"]["buckets"]
    hit = es.search(index="useractions-*", size=1, _source_includes=["episode.duration"])["hits"]["hits"][0]
    bins = math.ceil(hit["_source"]["episode"]["duration"] / 1000 / interval)
    assert {bucket["key"]: int(100 * len(bucket["bins"]["buckets"]) / bins) for bucket in buckets} == {"a": 25}


def test_metrics_3_and_6_lectures_and_viewers_of_a_series_by_match_and_by_term(put, es):
    put(
        heartbeat(1, "a", 0, 0),
        heartbeat(2, "b", 0, 0),
        heartbeat(3, "a", 0, 0, mpid="other"),
        useraction(4, WITHOUT_SERIES),
    )
    for kind in ("match", "term"):
        buckets = aggregated(
            es,
            query={"bool": {"filter": [{kind: {"episode.series": "20260210038"}}, *WATCHED]}},
            lectures={
                "terms": {"field": "mpid", "size": 10_000},
                "aggs": {"viewers": {"cardinality": {"field": "huid"}}},
            },
        )["lectures"]["buckets"]
        assert {bucket["key"]: bucket["viewers"]["value"] for bucket in buckets} == {
            MESSAGE["mpid"]: 2,
            "other": 1,
        }
    term = [{"term": {"episode.year": "2026"}}, {"term": {"episode.term": "02"}}]
    assert found(es, {"bool": {"filter": term}}) == ["1", "2", "3"]


def test_metrics_4_and_5_distinct_inpoints_of_each_student(put, es):
    inpoints = [30, 60, 60, 500]
    put(*(heartbeat(number, "a", number, inpoint) for number, inpoint in enumerate(inpoints)))
    terms = {"field": "action.inpoint", "size": 10_000, "order": {"_key": "asc"}}
    buckets = aggregated(
        es,
        query={"bool": {"filter": WATCHED}},
        users={"terms": {"field": "huid"}, "aggs": {"inpoints": {"terms": terms}}},
    )["users"]["buckets"]
    distinct = [bucket["key"] for bucket in buckets[0]["inpoints"]["buckets"]]
    gaps = [min(after - before, 60) for before, after in zip([0, *distinct], distinct, strict=False)]
    assert (sum(gaps), statistics.mean(gaps)) == (120, 40)


def test_metric_8_use_of_captions_speed_and_layout(put, es):
    button = "paella:button:action;"
    types = [
        "paella:caption:enabled;en",
        "paella:caption:enabled",
        f"{button}es.upv.paella.playbackRatePlugin",
        f"{button}edu.harvard.dce.paella.viewModeTogglePlugin",
        "paella:caption:search;word",
    ]
    put(*(useraction(number, action={"type": type_}) for number, type_ in enumerate(types)))
    assert found(es, {"wildcard": {"action.type": "paella:caption:enabled*"}}) == ["0", "1"]
    assert found(es, {"wildcard": {"action.type": {"value": "paella:caption:enabled*"}}}) == ["0", "1"]
    assert found(es, {"term": {"action.type": types[2]}}) == ["2"]
    assert found(es, {"match": {"action.type": types[3]}}) == ["3"]


def test_viewers_per_day_and_where_they_are(put, es):
    put(heartbeat(1, "a", 0, 0), heartbeat(2, "b", 40_000, 0), heartbeat(3, "a", 41_000, 0))
    days = aggregated(
        es,
        days={
            "date_histogram": {"field": "@timestamp", "calendar_interval": "day"},
            "aggs": {"viewers": {"cardinality": {"field": "huid"}}},
        },
        rings={
            "geo_distance": {
                "field": "geoip.location",
                "origin": BOSTON,
                "unit": "km",
                "ranges": [{"to": 1}, {"from": 1, "to": 10}, {"from": 10}],
            },
            "aggs": {"people": {"terms": {"field": "huid"}}},
        },
    )
    viewers = [(bucket["key_as_string"][:10], bucket["viewers"]["value"]) for bucket in days["days"]["buckets"]]
    assert viewers == [("2026-11-20", 1), ("2026-11-21", 2)]
    assert [bucket["doc_count"] for bucket in days["rings"]["buckets"]] == [0, 3, 0]


def test_kibana_counts_by_course_address_browser_and_system(put, es):
    put(useraction(1), useraction(2, WITHOUT_SERIES))
    fields = ["episode.course", "ip", "hostname", "ua.name", "ua.os", "ua.device", "session_id", "geoip.city_name"]
    for field in fields:
        (aggregation,) = aggregated(es, top={"terms": {"field": field}}).values()
        assert aggregation["buckets"], field


def test_episodes_by_term_by_availability_and_by_month(put, es):
    put(*(Document("episodes-stack", episode["mpid"], episode, update=True) for episode in (LIVE, RECORDED)))
    index = "episodes*"
    terms = [{"term": {"year": "2026"}}, {"term": {"term": "03"}}]
    assert found(es, {"bool": {"filter": terms}}, index) == [LIVE["mpid"]]
    assert found(es, {"exists": {"field": "available"}}, index) == [LIVE["mpid"]]
    for value in (1, True):
        assert found(es, {"term": {"live_stream": value}}, index) == [LIVE["mpid"]]
    months = aggregated(
        es,
        index,
        months={
            "date_histogram": {"field": "available", "calendar_interval": "month"},
            "aggs": {"duration": {"sum": {"field": "duration"}}},
        },
        courses={"terms": {"field": "course.keyword", "order": {"_key": "asc"}}},
    )
    durations = {month["key_as_string"][:7]: month["duration"]["value"] for month in months["months"]["buckets"]}
    assert durations == {"2026-11": 5_400_000}
    assert [bucket["key"] for bucket in months["courses"]["buckets"]] == ["Course 2", "Course 5"]
    assert len(found(es, {"match": {"course": "course"}}, index)) == 2  # analysed: words, in any case


def test_viewings_recordings_and_attendance_are_indexed_without_their_lists(es, templates, cluster):
    rows = RecordingActions("m", {"anonymous"})
    for row in [*beats(30, 60, 300), *beats(30, 60, first=11, huid="w", is_live=1)]:
        rows.add(row)
    made = [Document(body.family, body.id, body.fields) for body in documents(rows, None)]
    stay = {"join_time": "2026-11-16T10:00:00Z", "leave_time": "2026-11-16T10:30:00Z", "email": "kim@example.edu"}
    people = attendance("u==", {"topic": "Lecture", "meeting_series_id": 1}, [stay])
    made += [Document("attendance", id_, fields) for id_, fields in people.items()]
    assert not [entry for written in ClusterStore(cluster).write(made) for entry in written.refused]
    es.indices.refresh(index="_all")
    [id_] = found(es, {"term": {"viewer": "v"}}, "viewings")
    assert [es.get(index="viewings", id=id_)["_source"]] == [one.body for one in made if one.id == id_]
    assert len(found(es, {"range": {"coverage": {"gt": 0.1}}}, "viewings")) == 1
    assert len(found(es, {"range": {"first": {"gte": "2023-11-14", "lt": "2023-11-15"}}}, "viewings")) == 2
    assert len(found(es, {"term": {"evidence": "heartbeat"}}, "viewings")) == 1
    assert len(found(es, {"range": {"viewers": {"gte": 2}}}, "recordings")) == 1
    assert len(found(es, {"term": {"person": "kim@example.edu"}}, "attendance")) == 1
    assert len(found(es, {"range": {"share": {"gte": 1}}}, "attendance")) == 1
    for index in ("viewings", "recordings", "attendance"):
        [mapping] = es.indices.get_mapping(index=index).values()
        fields = mapping["mappings"]["properties"]
        bodies = [document.body for document in made if document.index == index]
        assert {name for body in bodies for name in body} <= fields.keys()  # nothing is stored without being named
        assert "fields" not in json.dumps(fields)
        unindexed = {name for name, field in fields.items() if field.get("enabled") is False}
        lists = {name for body in bodies for name, value in body.items() if isinstance(value, list)}
        assert unindexed >= lists - {"evidence"}
        for name in lists - {"evidence"}:
            assert not found(es, {"exists": {"field": name}}, index)


def test_the_templates_in_the_folder_are_those_that_are_loaded():
    assert {path.stem for path in FOLDER.glob("*.json")} == {
        index_templates.SHARED,
        index_templates.RETENTION,
        *index_templates.FAMILIES,
    }
