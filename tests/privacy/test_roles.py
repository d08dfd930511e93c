"""The roles in a real server with security: who holds one can do what it is for, and an analyst meets nobody."""

import base64
import contextlib
import hashlib
import json
import os
import re

import pytest
import requests

from devservers import cluster, elasticsearch
from tests.person.site import IDS, Site
from tests.person.test_erasure import CLEAR, CREATED, rows
from tests.privacy import planted, roles
from tests.privacy.planted import found
from uaharvest import index_templates, settings
from uaharvest.doctor import cluster as examined
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection
from uaharvest.sinks.cluster.connection import Cluster
from uaharvest.sinks.cluster.products import OPENSEARCH
from uaharvest.sinks.documents import Has

# What each request of uaharvest needs: a privilege of Elasticsearch, and the action that OpenSearch checks. On the
# cluster if the privilege is one of CLUSTER, otherwise on indices; None: nothing.
CLUSTER = {"monitor", "manage_index_templates", "manage_ilm"}
NEEDS = [
    ("GET", r"/", None, "cluster:monitor/main"),  # Elasticsearch is recognised although it refuses
    ("GET", r"/_nodes(/stats/fs)?", "monitor", "cluster:monitor/nodes/info"),
    ("GET", r"/_cluster/settings", "monitor", "cluster:monitor/state"),
    ("POST", r"/_security/user/_has_privileges", None, None),
    ("GET", r"/_(ilm/policy|plugins/_ism/policies)/\S+", "manage_ilm", "cluster:admin/opendistro/ism/policy/get"),
    (
        "PUT",
        r"/_(ilm/policy|plugins/_ism/policies)/\S+",
        "manage_ilm",
        "cluster:admin/opendistro/ism/policy/write",
    ),
    ("GET", r"/_index_template/[\w-]+", "manage_index_templates", "indices:admin/index_template/get"),
    ("PUT", r"/_index_template/[\w-]+", "manage_index_templates", "indices:admin/index_template/put"),
    ("GET", r"/_component_template/[\w-]+", "manage_index_templates", "cluster:admin/component_template/get"),
    ("PUT", r"/_component_template/[\w-]+", "manage_index_templates", "cluster:admin/component_template/put"),
    (
        *("POST", r"/_index_template/_simulate_index/\S+"),
        *("manage_index_templates", "indices:admin/index_template/simulate_index"),
    ),
    ("GET", r"/_resolve/index/\S+", "view_index_metadata", "indices:admin/resolve/index"),
    ("GET", r"/\S+/_alias", "view_index_metadata", "indices:admin/aliases/get"),
    ("GET", r"/\S+/_settings/\S+", "view_index_metadata", "indices:monitor/settings/get"),
    ("PUT", r"/[^/]+", "create_index", "indices:admin/create"),
    ("DELETE", r"/[^/_][^/]*", "delete_index", "indices:admin/delete"),
    ("POST", r"/\S+/_refresh", "maintenance", "indices:admin/refresh"),
    ("POST", r"/_bulk", "write", "indices:data/write/bulk"),
    ("POST", r"/_mget", "read", "indices:data/read/mget"),
    ("GET", r"/[^/]+/_doc/\S+", "read", "indices:data/read/get"),
    ("POST", r"(/[^/]+)?/_search", "read", "indices:data/read/search"),
    ("POST", r"/[^/]+/(_pit|_search/point_in_time)", "read", "indices:data/read/point_in_time/create"),
    ("DELETE", r"/(_pit|_search/point_in_time)", "read", "indices:data/read/point_in_time/delete"),
]
# What a privilege includes, and OpenSearch's action groups, as their documentation says.
INCLUDED = {"manage": {"create_index", "delete_index", "maintenance", "view_index_metadata", "monitor"}}
GROUPS = {
    "cluster_monitor": ["cluster:monitor/*"],
    "cluster_composite_ops": ["indices:data/write/bulk", "indices:data/read/mget", "indices:data/read/msearch"],
    "cluster_manage_index_templates": [
        "indices:admin/index_template/*",
        "cluster:admin/component_template/*",
    ],
    "manage": ["indices:monitor/*", "indices:admin/*"],
    "read": ["indices:data/read*"],
    "write": ["indices:data/write*"],
    "delete": ["indices:data/write/delete*"],
}


def needed(method, path):
    for wanted, pattern, *privileges in NEEDS:
        if method == wanted and re.fullmatch(pattern, path):
            return privileges
    pytest.fail(f"nobody has said what {method} {path} needs")


def lacking(calls, name):
    """Return the calls that the role lacks a privilege for, in either product."""
    of_cluster = set(roles.elasticsearch()[name]["cluster"])
    [of_indices] = roles.elasticsearch()[name]["indices"]
    granted = set(of_indices["privileges"])
    granted |= set().union(*(INCLUDED.get(one, set()) for one in granted))
    other = roles.opensearch()[name]
    given = [*other["cluster_permissions"], *other["index_permissions"][0]["allowed_actions"]]
    patterns = [re.escape(one).replace(r"\*", ".*") for group in given for one in GROUPS.get(group, [group])]
    for method, path in sorted(calls):
        privilege, action = needed(method, path)
        if privilege and privilege not in (of_cluster if privilege in CLUSTER else granted):
            yield method, path, privilege
        if action and not any(re.fullmatch(pattern, action) for pattern in patterns):
            yield method, path, action


USERS = {"operator": "uaharvest_operator", "analyst": "uaharvest_analyst", "officer": "uaharvest_officer"}


def word(user):
    return hashlib.sha256(user.encode()).hexdigest()  # OpenSearch takes no word that contains the name


def hashed(text):
    salt = os.urandom(32)
    digest = hashlib.pbkdf2_hmac("sha512", text.encode(), salt, 10_000, 32)
    return "{PBKDF2}10000$" + "$".join(base64.b64encode(part).decode() for part in (salt, digest))


@pytest.fixture(scope="module")
def secured(elasticsearch_server):
    """The URL of a server with security, our roles, and a user of each."""
    product, version = elasticsearch_server
    if product.security(version) is None:
        pytest.skip(f"{product.title} {version} has no security here")
    with (in_elasticsearch if product is elasticsearch.PRODUCT else in_opensearch)(product, version) as server:
        yield server.url


def in_elasticsearch(product, version):
    files = {
        # A line each: the server reads the file line by line.
        "roles.yml": "".join(f"{name}: {json.dumps(role)}\n" for name, role in roles.elasticsearch().items()),
        "users": "".join(f"{user}:{hashed(word(user))}\n" for user in (*USERS, "root")),
        "users_roles": "".join(f"{role}:{user}\n" for user, role in [*USERS.items(), ("root", "superuser")]),
    }
    options = {
        "xpack.security.enabled": "true",
        "xpack.license.self_generated.type": "trial",  # the analyst needs field-level security
    }
    return cluster.serve(product, version, settings=options, files=files)


@contextlib.contextmanager
def in_opensearch(product, version):
    with cluster.serve(product, version, security=True) as server:

        def put(path, body):
            answer = requests.put(f"{server.url}/_plugins/_security/api/{path}", json=body, timeout=30)
            assert answer.ok, answer.text

        for name, role in roles.opensearch().items():
            put(f"roles/{name}", role)
        for user in (*USERS, "root"):
            put(f"internalusers/{user}", {"password": word(user), "backend_roles": ["admin"] * (user == "root")})
        for user, role in USERS.items():
            put(f"rolesmapping/{role}", {"users": [user]})
        yield server


def connect(secured, user):
    return connection.connect(Settings(es_url=f"{secured}/", es_user=user, es_password=word(user)))


@pytest.fixture
def site_of(secured, queue_name, bucket, valkey_url, monkeypatch, client):  # noqa: PLR0917 - fixtures
    """Give a site whose user has a role."""

    def site_of(user):
        environment = {
            "SQS_QUEUE_NAME": queue_name,
            "S3_HARVEST_TS_BUCKET": bucket,
            "ES_HOST": secured,
            "ES_USER": user,
            "ES_PASSWORD": word(user),
            "REDIS_URL": valkey_url,
            "OPENCAST_TIMEZONE": "UTC",
            "INDEXER": "true",
            **CLEAR,
        }
        return Site(environment, monkeypatch, client)

    yield site_of
    settings.current.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """All requests to the server, without queries."""
    made = set()
    send = Cluster._send

    def noted(self, method, target, *arguments):
        made.add((method, target.partition("?")[0]))
        return send(self, method, target, *arguments)

    monkeypatch.setattr(Cluster, "_send", noted)
    return made


def fill(site):
    """Harvest, index and derive; then read, as all commands do."""
    site.harvest_to_documents(*rows())
    site.harvest_to_queue(*rows())
    site.index()
    site.zoom()
    site.derive()


def of_roles(product):
    """The path of a role that somebody could give themselves."""
    return "_plugins/_security/api/roles/mine" if product is OPENSEARCH else "_security/role/mine"


def assert_denied(secured, user, *requested):
    for method, path in requested:
        body = None if method in {"GET", "DELETE"} else {"index_patterns": ["new*"]} if "template" in path else {}
        answer = requests.request(method, f"{secured}/{path}", json=body, timeout=30, auth=(user, word(user)))
        assert answer.status_code == 403, (user, path, answer.text)


def test_an_operator_can_do_all_that_uaharvest_does_and_others_what_they_are_for(secured, site_of, calls):
    operator = connect(secured, "operator")
    index_templates.load(operator)
    site = site_of("operator")
    fill(site)
    site.store.indices()
    list(site.store.select("useractions*"))
    day = "useractions-" + CREATED[:10].replace("-", ".")
    assert site.store.get(day, "1")
    assert {group.values for group in site.store.groups(day, ["mpid"])} == {("lecture",)}
    assert list(site.store.groups(day, ["huid"], Has("mpid", ["lecture"])))
    assert list(site.store.select(day, fields=()))
    is_opensearch = operator.product() is OPENSEARCH
    assert examined.missing_privileges(operator, ["useractions*"]) == (None if is_opensearch else [])
    examined.version(operator), examined.closed(operator), examined.blocked(operator)
    examined.disks(operator), examined.flood_stage(operator)

    # Nobody reaches what is not ours.
    root = ("root", word("root"))
    assert requests.put(f"{secured}/payroll/_doc/1", json={}, auth=root, timeout=30).ok
    elsewhere = [("GET", "payroll/_search"), ("DELETE", "payroll"), ("PUT", of_roles(operator.product()))]
    assert_denied(secured, "operator", *elsewhere)

    # An analyst
    requests.post(f"{secured}/_refresh", auth=root, timeout=30).raise_for_status()
    everything = f"{secured}/useractions*,sessions*,meetings*,viewings*,attendance*,recordings*"

    def search(user, body):
        answer = requests.post(f"{everything}/_search", json=body, auth=(user, word(user)), timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    page = {"size": 1000, "query": {"match_all": {}}}
    whole, seen = search("root", page), search("analyst", page)
    assert found(json.dumps(whole), [planted.NAME, planted.LOGIN, planted.ADDRESS])
    assert seen["hits"]["total"] == whole["hits"]["total"]
    assert found(json.dumps(seen), [*planted.IDENTITIES[:-1], planted.ADDRESS, planted.PROXY]) == []
    assert "lecture" in json.dumps(seen)
    for field in ("huid", "viewer", "email", "host.email", "ip"):
        assert search("analyst", {"query": {"exists": {"field": field}}})["hits"]["total"]["value"] == 0
        assert search("root", {"query": {"exists": {"field": field}}})["hits"]["total"]["value"] > 0
        sums = {"size": 0, "aggs": {"who": {"terms": {"field": field}}}}
        assert search("analyst", sums)["aggregations"]["who"]["buckets"] == []
    whole, seen = (
        requests.get(f"{secured}/{day}/_doc/1", auth=(user, word(user)), timeout=30).json()["_source"]
        for user in ("root", "analyst")
    )
    assert {"huid", "session_id", "ip"} <= set(whole) - set(seen)
    assert seen["mpid"] == whole["mpid"] == "lecture"
    assert_denied(secured, "analyst", ("DELETE", day), ("PUT", "useractions-new"), ("POST", f"{day}/_doc"))
    assert_denied(secured, "analyst", ("DELETE", f"{day}/_doc/1"), ("GET", "_nodes"), *elsewhere)

    # An officer
    operators = set(calls)
    calls.clear()
    officers = site_of("officer")
    receipt = json.loads(officers.manage("person", "erase", "--yes", *IDS)[0])
    assert receipt["left"] == []
    assert receipt["stores"]["sessions"]["removed"] == 2
    assert_denied(secured, "officer", ("DELETE", day), ("PUT", "useractions-new"), ("GET", "_nodes"))
    assert_denied(secured, "officer", ("PUT", "_index_template/uaharvest-new"), *elsewhere)
    by_officer = set(calls)

    # An operator erases too, and deletes what is old.
    calls.clear()
    assert json.loads(site_of("operator").manage("person", "erase", "--yes", *IDS)[0])["left"] == []
    site.store.drop(day)
    assert day not in site.store.matching("useractions*")
    operators |= calls
    assert list(lacking(operators, "uaharvest_operator")) == []
    assert list(lacking(by_officer, "uaharvest_officer")) == []
    made = operators | by_officer
    unused = [entry[:2] for entry in NEEDS if not any(re.fullmatch(entry[1], path) for _, path in made)]
    # The test servers have no policies, and OpenSearch cannot say who may do what.
    assert unused == [entry[:2] for entry in NEEDS[3 if is_opensearch else 4 : 6]]


@pytest.mark.parametrize("product", ["elasticsearch", "opensearch"])
def test_a_role_that_lacks_a_privilege_is_found(product, monkeypatch):
    made = getattr(roles, product)()
    if product == "elasticsearch":
        made["uaharvest_officer"]["indices"][0]["privileges"].remove("maintenance")
    else:
        made["uaharvest_officer"]["index_permissions"][0]["allowed_actions"].remove("indices:admin/refresh*")
    monkeypatch.setattr(roles, product, lambda: made)
    assert len(list(lacking({("POST", "/sessions/_refresh")}, "uaharvest_officer"))) == 1
