"""Every call to Elasticsearch, of the indexer and of the commands, with every answer."""

import dataclasses
import itertools
import json
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
import requests
from opensearchpy import OpenSearch

from devservers.answers import ANSWERS
from devservers.proxy import Proxy
from tests.answers.indexed import (
    DAY,
    IndexedSite,
    answering,
    attacked,
    commanded,
    direct,
    lines_of,
    manage,
    record,
)
from tests.answers.policy import ELASTICSEARCH, EVERYTHING, STANDS, Attack, cases
from tests.answers.site import Site, opencast_environment, verdict
from uaharvest import index_templates
from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second
from uaharvest.readers import cluster_url
from uaharvest.runs.watermark import first
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection

RECORDS = 3
INDEX = "useractions-2026.12.24"  # of what the commands show
INFIX = "lectures"  # of the indices of the episodes' tests
# The snapshot ends by itself.
CLOSE = {kind: {"fine"} for kind in EVERYTHING}


def row(name, concerns, policy=ELASTICSEARCH):
    return Attack(f"Elasticsearch: {name}", concerns, policy, "at http://", "es")


def ends(method, text):
    return lambda call: call.method == method and call.path.endswith(text)


def opens(call):
    return call.method == "POST" and call.path.endswith(("/_pit", "/_search/point_in_time"))


def closes(call):
    return call.method == "DELETE" and call.path.endswith(("/_pit", "/_search/point_in_time"))


def has(method, text):
    return lambda call: call.method == method and text in call.path


SIMULATE = row("template of a new index", has("POST", "/_index_template/_simulate_index/"))
CREATE = row(
    "create an index",
    has("PUT", "/useractions-"),
    ELASTICSEARCH | {kind: {*STANDS, "fine"} for kind in ("garbled", "broken")},  # it may have been created
)
INDEXER = (
    row("which product it is", lambda call: call.method == "GET" and call.path == "/"),
    row("bulk", ends("POST", "/_bulk")),
    # OpenSearch 2 names itself in no header, so another's object may say that there is no index: creating it says more.
    row(
        "does the index exist",
        ends("GET", "/_alias"),
        ELASTICSEARCH | {"garbled": {*STANDS, "fine"}},
    ),
    SIMULATE,
    CREATE,
)
EXPORT = ("documents", "export", "useractions-2026.12.2*")
LOAD = ("setup", "index-templates")
COMMANDS = {
    row("search, `documents list`", ends("POST", "/_search")): ("documents", "list"),
    row("get, `documents get`", has("GET", "/_doc/")): ("documents", "get", INDEX, "0"),
    row("indices, `documents export`", ends("GET", "/_alias")): EXPORT,
    row("open a snapshot, `documents export`", opens): EXPORT,
    row("search, `documents export`", ends("POST", "/_search")): EXPORT,
    row("close the snapshot, `documents export`", closes, CLOSE): EXPORT,
    row("read a component template, `setup index-templates`", has("GET", "/_component_template/")): LOAD,
    row("read an index template, `setup index-templates`", has("GET", "/_index_template/")): LOAD,
    row("write a component template, `setup index-templates`", has("PUT", "/_component_template/")): LOAD,
    row("write an index template, `setup index-templates`", has("PUT", "/_index_template/")): LOAD,
}
EPISODES = (
    row("indices, for the episodes", ends("GET", "/_alias")),
    row("search, for the episodes", ends("POST", "/_search")),
    row("bulk, for the episodes", ends("POST", "/_bulk")),
)
INDEXER_CASES = cases(*((attack, ANSWERS) for attack in INDEXER))
COMMAND_CASES = cases(*((attack, ANSWERS) for attack in COMMANDS))
EPISODES_CASES = cases(*((attack, ANSWERS) for attack in EPISODES))
CASES = INDEXER_CASES + COMMAND_CASES + EPISODES_CASES

ids = itertools.count(100)  # of useractions: none is in two tests
days = (date(2027, 1, 1) + timedelta(days=number) for number in itertools.count())  # so are those of new indices


def empty(client):
    for index in client.indices.get_alias(index=[f"{family}*" for family in FAMILIES]):
        client.indices.delete(index=index)


def index_of(day):
    return f"useractions-{day.replace('-', '.')}"


@pytest.fixture(scope="module")
def es_proxy(elasticsearch_url):
    with Proxy(elasticsearch_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own(elasticsearch_url):
    """uaharvest's own connection to the real server."""
    return connection.connect(Settings(es_url=cluster_url(elasticsearch_url)))


@pytest.fixture(scope="module")
def server(elasticsearch_url, own):
    """A client of the real server, with the templates and one index, of a few documents."""
    with OpenSearch(elasticsearch_url, timeout=60) as client:
        empty(client)
        index_templates.load(own)
        client.indices.create(index=index_of(DAY))
        for number in range(RECORDS):
            client.index(index=INDEX, id=str(number), body={"action_id": number})
        client.indices.refresh(index=INDEX)
        yield client
        empty(client)


@pytest.fixture
def environment(index_environment, es_proxy, monkeypatch):
    monkeypatch.setattr(connection, "RETRIES", dataclasses.replace(connection.RETRIES, attempts=2))
    monkeypatch.setattr(connection, "LARGEST_ANSWER", 2_000_000)
    return index_environment | {"ES_HOST": es_proxy.url}


@pytest.mark.parametrize(("attack", "answer"), INDEXER_CASES)
def test_a_store_that_answers_badly_loses_nothing(
    *, environment, client, server, es_proxy, monkeypatch, attack, answer
):
    site = IndexedSite(environment, client, monkeypatch)
    site.begin(None)
    day = f"{next(days)}" if attack in {SIMULATE, CREATE} else DAY
    numbers = list(itertools.islice(ids, RECORDS))
    attacked(site, es_proxy, attack, answer, [json.dumps(record(number, day)) for number in numbers])
    answers = server.mget(index=index_of(day), body={"ids": [str(number) for number in numbers]})
    assert [one["_source"]["action_id"] for one in answers["docs"]] == numbers
    assert site.kept() == []


@pytest.mark.parametrize(("attack", "answer"), COMMAND_CASES)
def test_a_command_says_what_is_wrong_with_elasticsearch_and_can_be_given_again(
    *, environment, server, own, es_proxy, monkeypatch, attack, answer
):
    run = partial(manage, environment, monkeypatch, *COMMANDS[attack])
    if "write" in attack.name:
        server.indices.delete_index_template(name="uaharvest-*", ignore=404)
        server.cluster.delete_component_template(name="uaharvest-*", ignore=404)
    found, said = commanded(run, es_proxy, attack, answer)
    assert said == "" or found == "fine" or COMMANDS[attack] == EXPORT, "half done"
    if COMMANDS[attack] == EXPORT:
        lines_of(said)
    code, said, error = run()
    assert code == Exit.DONE, error
    if COMMANDS[attack] == LOAD:
        assert all(template.outcome == "unchanged" for template in index_templates.load(own))
    elif COMMANDS[attack] == EXPORT:
        assert [one["action_id"] for one in lines_of(said)] == list(range(RECORDS))
    else:
        assert {"index": INDEX, "documents": RECORDS} in lines_of(said) or lines_of(said) == [{"action_id": 0}]


@pytest.fixture(scope="module")
def yesterday():
    return whole_second(datetime.now(UTC)).replace(hour=0, minute=0, second=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def mpids(server, opencast_proxy, yesterday):
    """The episodes of yesterday's useractions, which are indexed."""
    answer = requests.get(f"http://{opencast_proxy.upstream.netloc}/_sim/episodes", timeout=10)
    found = [episode["id"] for episode in answer.json()["episodes"] if episode["state"] == "published"]
    assert found
    for mpid in found:
        server.index(index=f"useractions-{INFIX}-{yesterday:%Y.%m.%d}", body={"mpid": mpid})
    server.indices.refresh(index=f"useractions-{INFIX}-*")
    return found


@pytest.mark.parametrize(("attack", "answer"), EPISODES_CASES)
def test_the_episodes_of_a_day_are_those_of_its_useractions_sooner_or_later(
    *, environment, client, server, es_proxy, opencast_proxy, mpids, yesterday, monkeypatch, attack, answer
):
    today = yesterday + timedelta(days=1)
    environment |= opencast_environment(opencast_proxy.url)
    environment |= {"MATTERHORN_ADMIN_HOST": opencast_proxy.url, "EPISODES_AT": "00:00", "INDEX_INFIX": INFIX}
    site = Site("episodes", environment, client, monkeypatch)
    site.begin(yesterday)
    s3 = direct("s3", endpoint_url=environment["DIRECT_AWS"])
    s3.put_object(
        Bucket=site.settings.bucket, Key=site.settings.watermark_key, Body=first(today).to_json().encode()
    )
    server.indices.delete(index=f"episodes-{INFIX}", ignore=404)
    with answering(es_proxy, attack, answer):
        for _ in range(2):
            site.tick()
    report, code = site.report()
    found = verdict(report, site.dead_letters())
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert found in attack.policy[answer.kind], (found, lines)
    assert code == Exit.BLOCKED
    assert any(attack.culprit in line for line in lines), lines
    assert site.heals(today)
    assert all(one["found"] for one in server.mget(index=f"episodes-{INFIX}", body={"ids": mpids})["docs"])
    assert site.dead_letters() == []
    assert site.report()[1] == Exit.DONE
