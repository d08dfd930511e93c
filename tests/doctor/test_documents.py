"""A real Elasticsearch or OpenSearch, of which one thing is wrong; and the SQLite file of a small site."""

import os

import pytest

from uaharvest.doctor import documents as checks
from uaharvest.doctor.cluster import Node

GB = 10**9


@pytest.fixture
def settings(es, elasticsearch_url, settings_of):
    return settings_of(ES_HOST=elasticsearch_url, DOCUMENTS_URL=None)


@pytest.fixture
def index(es, templates):
    """An index of ours, which is writable and open again at the end."""
    name = "useractions-2026.11.24"
    es.indices.create(index=name)
    return name


def test_a_healthy_store_needs_no_change(look, settings, index, pytestconfig):
    names = [f"documents.{name}" for name in ("version", "privileges", "templates", "indices", "disk")]
    findings = look(settings, *names)
    assert {str(one.status) for name in names[:4] for one in findings[name]} == {"ok"}
    assert pytestconfig.getoption("--elasticsearch").rpartition("-")[2] in findings["documents.version"][0].found


def test_missing_templates_are_named_with_the_command(told, settings):
    [(status, found, remedy)] = told(settings, "documents.templates")
    assert (status, "uaharvest-useractions" in found) == ("fail", True)
    assert remedy == "manage.py setup index-templates"


def test_an_old_version_of_a_template_is_named(told, settings, es, templates):
    old = {"index_patterns": ["episodes*"], "version": 0, "composed_of": ["uaharvest-shared"]}
    es.indices.put_index_template(name="uaharvest-episodes", body=old)
    [(status, found, remedy)] = told(settings, "documents.templates")
    assert (status, "uaharvest-episodes (here: version" in found) == ("warn", True)
    assert remedy == "manage.py setup index-templates"


def test_a_newer_version_of_a_template_is_told(told, settings, es, templates):
    es.indices.put_index_template(
        name="uaharvest-episodes", body={"index_patterns": ["episodes*"], "version": 999}
    )
    [(status, found, _)] = told(settings, "documents.templates")
    assert (status, "version 999" in found) == ("fail", True)


@pytest.mark.parametrize("block", ["read_only_allow_delete", "write", "read_only"])
def test_a_read_only_index_is_named_with_the_request_that_opens_it(told, settings, es, index, block):
    es.indices.put_settings(index=index, body={f"index.blocks.{block}": True})
    [(status, found, remedy)] = told(settings, "documents.indices")
    es.indices.put_settings(index=index, body={f"index.blocks.{block}": None})
    assert (status, found) == ("fail", f"read-only: {index} (index.blocks.{block})")
    assert f"PUT /{index}/_settings" in remedy


def test_a_closed_index_is_named_with_the_request_that_opens_it(told, settings, es, index):
    es.indices.close(index=index)
    lines = told(settings, "documents.indices")
    es.indices.open(index=index)
    assert lines == [("fail", f"closed: {index}", f"Open it: POST /{index}/_open")]


def test_a_read_only_cluster_is_told(told, settings, es, index):
    es.cluster.put_settings(body={"persistent": {"cluster.blocks.read_only_allow_delete": True}})
    try:
        lines = told(settings, "documents.indices")
    finally:
        es.cluster.put_settings(body={"persistent": {"cluster.blocks.read_only_allow_delete": None}})
    assert ("fail", "the whole cluster is read-only") in [(status, found) for status, found, _ in lines]


@pytest.mark.skipif("ES_TEST_URL" in os.environ, reason="the server of ES_TEST_URL may have no security")
def test_wrong_credentials_are_told_with_their_settings(
    look, told, settings_of, elasticsearch_server, elasticsearch_url
):
    product, version = elasticsearch_server
    if product.security(version) is None:
        pytest.skip(f"{product.title} {version} has no security here")
    wrong = settings_of(ES_HOST=elasticsearch_url, DOCUMENTS_URL=None, ES_USER="a", ES_PASSWORD="top-secret")
    [(status, found, remedy)] = told(wrong, "documents.version")
    assert (status, "refuses the credentials (401)" in found) == ("fail", True)
    assert "ES_PASSWORD" in remedy
    assert "top-secret" not in found + remedy
    assert look(wrong, "documents.templates")["documents.templates"][0].status == "skipped"


def test_a_disk_that_is_too_full_fails():
    nodes = [Node("a", 100 * GB, 50 * GB), Node("b", 100 * GB, 12 * GB)]
    finding = checks.judge_fullest(nodes, "95%")
    assert (finding.status, finding.found) == ("warn", "disk of b 88% full (12 GB free, read-only at 95%)")
    assert checks.judge_fullest([Node("a", 100 * GB, GB)], "95%").status == "fail"
    assert checks.judge_fullest([], "95%").status == "ok"


def test_an_sqlite_file_without_a_folder_fails(told, settings_of):
    lines = told(settings_of(DOCUMENTS_URL="sqlite:////nowhere/documents.db"), "documents.sqlite")
    assert lines == [("fail", "DOCUMENTS_URL: there is no folder '/nowhere'", "Create it, or name another.")]
