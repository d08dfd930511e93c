"""What tests share: real servers, started by the first test that asks, and an environment of their own."""

import dataclasses
import itertools
import os

import boto3
import pytest
from elasticsearch import Elasticsearch
from hypothesis import settings as hypothesis_settings
from redis import Redis

from simulators import databases, stack
from simulators import elasticsearch as simulated_elasticsearch
from uaharvest import index_templates
from uaharvest.documents.indices import FAMILIES
from uaharvest.settings import Settings

TESTS_INDEX = "uaharvest-tests"  # says that a server's useractions are those of tests


def pytest_addoption(parser):
    parser.addoption(
        "--elasticsearch",
        metavar="VERSION",
        default=os.environ.get("ES_VERSION") or simulated_elasticsearch.VERSIONS[-1],
        help="the Elasticsearch to test with (default: ES_VERSION, else %(default)s)",
    )
    parser.addoption(
        "--renew-docs", action="store_true", help="write tables that tests make into docs/, in place of comparing"
    )


def pytest_collection_modifyitems(items):
    for item in items:
        if {"elasticsearch_url", "elasticsearch_version"} & set(item.fixturenames):
            item.add_marker("elasticsearch")


# A developer's run looks for what no run has found yet; CI says the same of the same code.
hypothesis_settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis_settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def no_developer_configuration(pytestconfig, tmp_path_factory):
    """Keep the developer's `.env`, settings and AWS configuration away: tests run in an empty folder."""
    settings = {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    hypothesis_examples = str(pytestconfig.rootpath / ".hypothesis")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in settings or name.startswith(("AWS_", "CELERY_", "FLOWER_")):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", hypothesis_examples)
        patch.chdir(tmp_path_factory.mktemp("working-folder"))
        yield


@pytest.fixture(scope="session")
def valkey_url():
    """The URL of a Valkey server that the whole session shares."""
    with stack.valkey() as server:
        yield server.url


@pytest.fixture
def redis(valkey_url):
    """A client of the shared Valkey server, which is empty."""
    with Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def client(redis, valkey_url):
    """A client of the same server that decodes, as uaharvest's own does."""
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="session")
def aws():
    """The URL of a server for SQS and S3 that the session shares; from here on boto3 talks to it."""
    with stack.ministack() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in stack.aws_variables(server).items():
            patch.setenv(name, value)
        yield server.url


@pytest.fixture(scope="session", params=sorted(databases.KINDS))
def database(request):
    """A MariaDB and a PostgreSQL, each in turn, whose hosts are in another zone than Opencast; as Opencast's."""
    package = databases.missing(request.param)
    if package:
        pytest.skip(f"no real {request.param} to test with: Debian's {package} is not installed")
    with databases.database(request.param, zone="Asia/Tokyo") as server:
        yield server


@pytest.fixture
def tables(database):
    """An engine that may write to the tables of useractions, which are there and empty."""
    engine = databases.engine(database)
    databases.create_tables(engine)
    yield engine
    engine.dispose()


_numbers = itertools.count(1)


@pytest.fixture
def bucket(aws):
    """The name of a new, empty S3 bucket."""
    name = f"bucket-{next(_numbers)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def queue_name(aws):
    """The name of a new, empty SQS queue."""
    name = f"queue-{next(_numbers)}"
    boto3.client("sqs").create_queue(QueueName=name)
    return name


@pytest.fixture(scope="session")
def elasticsearch_version(pytestconfig):
    """The version to test with, fetched: for a test that starts an Elasticsearch of its own."""
    version = pytestconfig.getoption("--elasticsearch")
    try:
        simulated_elasticsearch.fetch(version)
    except simulated_elasticsearch.CannotFetchError as error:
        if os.environ.get("ES_REQUIRED"):
            raise
        pytest.skip(f"no Elasticsearch: {error}")
    return version


@pytest.fixture(scope="session")
def elasticsearch_url(request):
    """The URL of a real Elasticsearch that the session shares: ES_TEST_URL, else one from Maven Central.

    That one has security: who gives no credentials may do everything, wrong ones are refused.
    """
    if given := os.environ.get("ES_TEST_URL"):
        _claim(given)
        yield given
        return
    version = request.getfixturevalue("elasticsearch_version")
    with simulated_elasticsearch.elasticsearch(version, security=True) as server:
        yield server.url


def _indices(client):
    return list(client.indices.get(index=[f"{family}*" for family in FAMILIES], features="aliases"))


def _claim(url):
    """Refuse a server that holds documents which no test has written: the tests delete all."""
    with Elasticsearch(url) as client:
        if not client.indices.exists(index=TESTS_INDEX):
            assert not _indices(client), (
                f"ES_TEST_URL={url} holds documents: tests would delete them. Name another."
            )
            client.indices.create(index=TESTS_INDEX)


@pytest.fixture
def es(elasticsearch_url):
    """A client of that Elasticsearch, which has no indices of ours and no templates."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        for index in _indices(client):
            client.indices.delete(index=index)
        client.options(ignore_status=404).indices.delete_index_template(name="uaharvest-*")
        client.options(ignore_status=404).cluster.delete_component_template(name="uaharvest-*")
        yield client


@pytest.fixture
def templates(es):
    """The templates of index_templates/, loaded."""
    index_templates.load(es)
