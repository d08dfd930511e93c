"""An erasure in Elasticsearch or OpenSearch."""

import json

import pytest

from tests.person.site import IDS, Site, action
from tests.person.test_erasure import CLEAR, CREATED, rows
from tests.privacy import planted
from tests.privacy.planted import found
from uaharvest import settings


@pytest.fixture
def environment(queue_name, bucket, valkey_url, elasticsearch_url):
    return {
        "SQS_QUEUE_NAME": queue_name,
        "S3_HARVEST_TS_BUCKET": bucket,
        "ES_HOST": elasticsearch_url,
        "REDIS_URL": valkey_url,
        "OPENCAST_TIMEZONE": "UTC",
        "INDEXER": "true",
        **CLEAR,
    }


@pytest.fixture
def site(environment, templates, monkeypatch, client):
    yield Site(environment, monkeypatch, client)
    settings.current.cache_clear()


def test_a_person_is_erased_and_does_not_come_back(site, es):
    site.harvest_to_documents(*rows(), *(action(number, created=CREATED) for number in range(11, 14)))
    site.zoom()
    receipt = json.loads(site.manage("person", "erase", "--yes", *IDS)[0])
    assert receipt["left"] == []
    assert receipt["stores"] == {
        "host of meetings": {"before": 1, "removed": 1, "after": 0},
        "sessions": {"before": 2, "removed": 2, "after": 0},
        "useractions": {"before": 5, "removed": 5, "after": 0},
    }
    site.harvest_to_documents(*rows())
    site.zoom()
    es.indices.refresh(index="_all")
    documents = list(site.store.select("useractions*,sessions*,meetings*"))
    assert len(documents) == 8 + 2 + 2
    assert found(json.dumps(documents), planted.IDENTITIES) == []
    assert {one["erased_sessions"] for one in documents if "host" in one or "participant_sessions" in one} == {1}
