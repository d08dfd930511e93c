"""Makes the saved objects for Kibana and OpenSearch Dashboards, one file for both.

Each chart is a Vega specification, which both products draw. It holds its query to Elasticsearch or OpenSearch word by
word, so the tests run the very queries that the charts make. Filters and the time range of the dashboard apply.

Numbers of people and of their sessions are rounded down to multiples of LEAST, and what fewer people did is not shown,
because dashboards are shown to others. Whoever may open one may read the documents anyway.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from uaharvest import settings

FILE = Path(__file__).parent / "dashboards.ndjson"
USERACTIONS, SESSIONS, MEETINGS = "useractions", "sessions", "meetings"
TIMES = {USERACTIONS: "@timestamp", SESSIONS: "join_time", MEETINGS: "start_time"}
JOINED = {"value_count": {"field": "meeting"}}
VIEWERS = {"cardinality": {"field": "session_id"}}
# Both products come with Vega-Lite 5 and Vega 5; an older $schema is accepted, a newer one warned about.
LITE = "https://vega.github.io/schema/vega-lite/v5.json"
FULL = "https://vega.github.io/schema/vega/v5.json"
# Whoever has not logged in.
ANONYMOUS = {"terms": {"huid": ["anonymous", "public_user"]}}
IDENTIFIED = {"bool": {"filter": [{"exists": {"field": "huid"}}], "must_not": [ANONYMOUS]}}
NOT_IDENTIFIED = {"bool": {"must_not": [IDENTIFIED]}}
LEAST = settings.load().report_min_group  # the file in the repository has the default
# The people behind a number, as aggregations beside it, and the expression of how many they are. Who has not logged in
# counts for each session.
VIEWING_PEOPLE = {
    "users": {"filter": IDENTIFIED, "aggs": {"number": {"cardinality": {"field": "huid"}}}},
    "visitors": {"filter": NOT_IDENTIFIED, "aggs": {"number": VIEWERS}},
}
VIEWING = "{0}.users.number.value + {0}.visitors.number.value"
JOINED_PEOPLE = {"people": {"cardinality": {"field": "user_name"}}}
MET_PEOPLE = {"people": {"sum": {"field": "unique_participants"}}}
MEETING = "{0}.people.value"


class Chart(NamedTuple):
    """A chart: its id, its title and its Vega specification."""

    id: str
    title: str
    spec: Mapping[str, Any]


def charts() -> Mapping[str, list[Chart]]:
    """Return the charts by dashboard."""
    return {
        "Viewing": [
            _over_time(
                "viewers-live",
                "Viewers at once: live and on demand",
                {"live": {"term": {"is_live": "1"}}, "on demand": {"term": {"is_live": "0"}}},
            ),
            _over_time(
                "viewers-identified",
                "Viewers at once: identified or not",
                {"identified": IDENTIFIED, "not identified": NOT_IDENTIFIED},
            ),
            _top("courses", "Top courses", of=(USERACTIONS, "episode.course")),
            _top("browsers", "Browsers", of=(USERACTIONS, "ua.name")),
            _top("systems", "Systems", of=(USERACTIONS, "ua.os")),
            _map("map", "Where viewers are"),
        ],
        "Zoom": [
            _per_day("zoom-meetings", "Meetings a day", {"value_count": {"field": "uuid"}}, "meetings"),
            _per_day(
                "zoom-participants",
                "Participants a day",
                {"sum": {"field": "unique_participants"}},
                "participants",
                shown=_rounded("datum.number.value", MEETING.format("datum")),
            ),
            _per_day(
                "zoom-peak",
                "Largest meeting of the day",
                {"max": {"field": "peak_participants"}},
                "at once",
                shown=_rounded("datum.number.value", MEETING.format("datum")),
            ),
            _per_day(
                "zoom-seconds",
                "Seconds in meetings a day",
                {"sum": {"field": "person_seconds"}},
                "seconds",
                shown=f"datum.number.value * ({MEETING.format('datum')} >= {LEAST})",
            ),
            _top("zoom-devices", "Devices", of=(SESSIONS, "device"), metric=JOINED),
            _top("zoom-countries", "Countries", of=(SESSIONS, "country"), metric=JOINED),
        ],
    }


def text() -> str:
    """Return the saved objects, one a line."""
    lines = [*_patterns()]
    for title, some in charts().items():
        lines += [_visualization(chart) for chart in some]
        lines.append(_dashboard(title, some))
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)


# The charts


def _data(family: str, body: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return where a chart has its data from: buckets at `path` in the answer to `body`."""
    url = {"%context%": True, "%timefield%": TIMES[family], "index": f"{family}-*", "body": {"size": 0, **body}}
    return {"url": url, "format": {"property": path}}


def _rounded(number: str, people: str) -> str:
    """Return the expression of a number without small groups: rounded down, and 0 if it is about fewer people."""
    return f"floor({number} / {LEAST}) * {LEAST} * ({people} >= {LEAST})"


def _over_time(name: str, title: str, kinds: Mapping[str, Any]) -> Chart:
    """Count the sessions with an event in each 5 minutes, by kind."""
    by_kind = {"filters": {"filters": kinds}, "aggs": {"viewers": VIEWERS, **VIEWING_PEOPLE}}
    time = {
        "date_histogram": {"field": "@timestamp", "fixed_interval": "5m", "min_doc_count": 1},
        "aggs": {"kind": by_kind},
    }
    buckets = {kind: f"datum.kind.buckets['{kind}']" for kind in kinds}
    flat: list[dict[str, Any]] = [
        {"calculate": _rounded(f"{bucket}.viewers.value", VIEWING.format(bucket)), "as": kind}
        for kind, bucket in buckets.items()
    ]
    spec = {
        "$schema": LITE,
        "data": _data(USERACTIONS, {"aggs": {"time": time}}, "aggregations.time.buckets"),
        "transform": [*flat, {"fold": [*kinds], "as": ["kind", "viewers"]}],
        "mark": {"type": "line", "tooltip": True},
        "encoding": {
            "x": {"field": "key", "type": "temporal", "title": None},
            "y": {
                "field": "viewers",
                "type": "quantitative",
                "title": f"sessions in 5 minutes, in steps of {LEAST}",
            },
            "color": {"field": "kind", "type": "nominal", "title": None},
        },
    }
    return Chart(name, title, spec)


def _top(name: str, title: str, *, of: tuple[str, str], metric: Mapping[str, Any] = VIEWERS) -> Chart:
    """Show the 20 values with the most sessions of a field, given with the family of its index."""
    family, field = of
    people, counted = (VIEWING_PEOPLE, VIEWING) if family == USERACTIONS else (JOINED_PEOPLE, MEETING)
    top = {
        "terms": {"field": field, "size": 20, "order": {"number": "desc"}},
        "aggs": {"number": metric, **people},
    }
    spec = {
        "$schema": LITE,
        "data": _data(family, {"aggs": {"top": top}}, "aggregations.top.buckets"),
        "transform": [
            {"calculate": _rounded("datum.number.value", counted.format("datum")), "as": "shown"},
            {"filter": "datum.shown > 0"},
        ],
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "key", "type": "nominal", "sort": "-x", "title": None},
            "x": {"field": "shown", "type": "quantitative", "title": f"sessions, in steps of {LEAST}"},
        },
    }
    return Chart(name, title, spec)


def _per_day(
    name: str, title: str, metric: Mapping[str, Any], unit: str, *, shown: str = "datum.number.value"
) -> Chart:
    """Show a number of each day; `shown` is the expression of what of it is shown."""
    days = {
        "date_histogram": {"field": "start_time", "calendar_interval": "day"},
        "aggs": {"number": metric, **MET_PEOPLE},
    }
    spec = {
        "$schema": LITE,
        "data": _data(MEETINGS, {"aggs": {"time": days}}, "aggregations.time.buckets"),
        "transform": [{"calculate": shown, "as": "shown"}],
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {"field": "key", "type": "temporal", "timeUnit": "utcyearmonthdate", "title": None},
            "y": {"field": "shown", "type": "quantitative", "title": unit},
        },
    }
    return Chart(name, title, spec)


def _map(name: str, title: str) -> Chart:
    """Draw a circle for each square of about 150 km; its area is the number of sessions."""
    squares = {
        "geohash_grid": {"field": "geoip.location", "precision": 3, "size": 2000},
        "aggs": {"viewers": VIEWERS, "centre": {"geo_centroid": {"field": "geoip.location"}}, **VIEWING_PEOPLE},
    }
    places = {
        "name": "places",
        **_data(USERACTIONS, {"aggs": {"squares": squares}}, "aggregations.squares.buckets"),
        "transform": [
            {
                "type": "formula",
                "expr": _rounded("datum.viewers.value", VIEWING.format("datum")),
                "as": "shown",
            },
            {"type": "filter", "expr": "datum.shown > 0"},
            {
                "type": "geopoint",
                "projection": "projection",
                "fields": ["centre.location.lon", "centre.location.lat"],
            },
        ],
    }
    spec = {
        "$schema": FULL,
        "config": {"kibana": {"type": "map", "latitude": 30, "longitude": -30, "zoom": 2}},
        "data": [places],
        "scales": [
            {
                "name": "size",
                "type": "sqrt",
                "domain": {"data": "places", "field": "shown"},
                "range": [20, 1500],
            }
        ],
        "marks": [
            {
                "type": "symbol",
                "from": {"data": "places"},
                "encode": {
                    "update": {
                        "x": {"field": "x"},
                        "y": {"field": "y"},
                        "size": {"scale": "size", "field": "shown"},
                        "fill": {"value": "#c0392b"},
                        "fillOpacity": {"value": 0.6},
                        "tooltip": {"signal": "datum.shown + ' sessions or more'"},
                    }
                },
            }
        ],
    }
    return Chart(name, title, spec)


# The objects around them


def _patterns() -> Iterable[dict[str, Any]]:
    for family, time in TIMES.items():
        attributes = {"title": f"{family}-*", "timeFieldName": time}
        yield {"type": "index-pattern", "id": f"uaharvest-{family}", "attributes": attributes, "references": []}


def _visualization(chart: Chart) -> dict[str, Any]:
    state = {
        "title": chart.title,
        "type": "vega",
        "aggs": [],
        "params": {"spec": json.dumps(chart.spec, indent=2)},
    }
    attributes = {
        "title": chart.title,
        "description": "",
        "version": 1,
        "visState": json.dumps(state),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": _no_search(),
    }
    return {"type": "visualization", "id": _id(chart), "attributes": attributes, "references": []}


def _dashboard(title: str, some: list[Chart]) -> dict[str, Any]:
    panels = [
        {
            "version": "7.10.0",  # the last version that both products share
            "panelIndex": str(number),
            "gridData": {"i": str(number), "x": 24 * (number % 2), "y": 15 * (number // 2), "w": 24, "h": 15},
            "embeddableConfig": {},
            "panelRefName": f"panel_{number}",
        }
        for number in range(len(some))
    ]
    attributes = {
        "title": f"uaharvest: {title}",
        "description": "",
        "hits": 0,
        "version": 1,
        "panelsJSON": json.dumps(panels),
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": "now-7d",
        "timeTo": "now",
        "kibanaSavedObjectMeta": _no_search(),
    }
    references = [
        {"name": f"panel_{number}", "type": "visualization", "id": _id(chart)} for number, chart in enumerate(some)
    ]
    return {
        "type": "dashboard",
        "id": f"uaharvest-{title.lower()}",
        "attributes": attributes,
        "references": references,
    }


def _no_search() -> dict[str, str]:
    return {"searchSourceJSON": json.dumps({"query": {"query": "", "language": "lucene"}, "filter": []})}


def _id(chart: Chart) -> str:
    return f"uaharvest-{chart.id}"
