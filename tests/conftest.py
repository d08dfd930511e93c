"""What tests share: real servers, started by the first test that asks, and an environment of their own."""

import dataclasses
import itertools
import os

import boto3
import pytest
import structlog
from hypothesis import settings as hypothesis_settings
from opensearchpy import OpenSearch
from redis import Redis

from chaos.leaks import unlisted_keys
from devservers import cluster as cluster_server
from devservers import databases, stack
from tests import commands
from uaharvest import index_templates
from uaharvest.documents.indices import FAMILIES
from uaharvest.readers import cluster_url
from uaharvest.settings import Settings
from uaharvest.sinks.cluster import connection

TESTS_INDEX = "uaharvest-tests"  # says that a server's useractions are those of tests


def pytest_addoption(parser):
    parser.addoption(
        "--elasticsearch",
        metavar="SERVER",
        default=os.environ.get("ES_VERSION") or "elasticsearch-9.1.0",
        help="the server for documents to test with: elasticsearch-VERSION or opensearch-VERSION; a version alone is"
        " Elasticsearch's (default: ES_VERSION, else %(default)s)",
    )
    parser.addoption(
        "--renew-docs", action="store_true", help="write tables that tests make into docs/, in place of comparing"
    )


def pytest_collection_modifyitems(items):
    for item in items:
        if {"elasticsearch_url", "elasticsearch_server"} & set(item.fixturenames):
            item.add_marker("elasticsearch")


# An example may take its time, because the machine may be busy. A developer's run looks for what no run has found yet;
# CI says the same of the same code, and tries a third as many.
hypothesis_settings.register_profile("developer", deadline=None)
hypothesis_settings.register_profile("ci", deadline=None, derandomize=True, max_examples=30)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "developer")


# By default structlog draws a box around each traceback, with all local variables: a third of the time of some tests.
structlog.configure(
    [
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture
def check_generated(pytestconfig):
    """Compare the part of a page between two marks with what it is generated from; --renew-docs writes it."""

    def check(page, mark, generated):
        begin, end = f"<!-- made by {mark}: begin -->\n", f"<!-- made by {mark}: end -->\n"
        before, found, rest = page.read_text().partition(begin)
        kept, closed, after = rest.partition(end)
        assert found, f"{page.name} has no {begin}"
        assert closed, f"{page.name} has no {end}"
        if pytestconfig.getoption("--renew-docs"):
            page.write_text(f"{before}{begin}{generated}{end}{after}")
        else:
            assert kept == generated, "the same test with --renew-docs writes it"

    return check


@pytest.fixture(scope="session", autouse=True)
def no_developer_configuration(pytestconfig, tmp_path_factory):
    """Keep the developer's `.env`, settings and AWS configuration away: tests run in an empty folder."""
    settings = {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    hypothesis_examples = str(pytestconfig.rootpath / ".hypothesis")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in settings or name.startswith(("AWS_", "CELERY_", "FLOWER_", "UAHARVEST_")):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", hypothesis_examples)
        patch.chdir(tmp_path_factory.mktemp("working-folder"))
        yield


@pytest.fixture(scope="session", autouse=True)
def celery_starts_fast():
    """Let workers and beats fork from a process that has imported Celery."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.Child, "launch", staticmethod(commands.launch))
        yield


@pytest.fixture(scope="session")
def valkey_url():
    """The URL of a Valkey server that the whole session shares."""
    with stack.valkey() as server:
        yield server.url


@pytest.fixture
def redis(valkey_url):
    """A client of the shared Valkey server, which is empty; what a test leaves there must be in uaharvest.keys."""
    with Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        assert unlisted_keys(client) == []


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
def elasticsearch_server(pytestconfig):
    """The product and version to test with, fetched: for a test that starts such a server of its own."""
    product, version = cluster_server.parse(pytestconfig.getoption("--elasticsearch"))
    try:
        cluster_server.fetch(product, version)
    except cluster_server.CannotFetchError as error:
        if os.environ.get("ES_REQUIRED"):
            raise
        pytest.skip(f"no {product.title}: {error}")
    return product, version


@pytest.fixture(scope="session")
def elasticsearch_url(request):
    """The URL of a real Elasticsearch or OpenSearch that the session shares: ES_TEST_URL, else one from Maven Central.

    Elasticsearch's has security: who gives no credentials may do everything, wrong ones are refused.
    """
    if given := os.environ.get("ES_TEST_URL"):
        _claim(given)
        yield given
        return
    with cluster_server.serve(*request.getfixturevalue("elasticsearch_server"), security=True) as server:
        yield server.url


def _indices(client):
    return list(client.indices.get_alias(index=[f"{family}*" for family in FAMILIES]))


def _claim(url):
    """Refuse a server that holds documents which no test has written: the tests delete all."""
    with OpenSearch(url) as client:
        if not client.indices.exists(index=TESTS_INDEX):
            assert not _indices(client), (
                f"ES_TEST_URL={url} holds documents: tests would delete them. Name another."
            )
            client.indices.create(index=TESTS_INDEX)


@pytest.fixture
def es(elasticsearch_url):
    """A client of that server, which has no indices of ours and no templates.

    OpenSearch's client speaks to both products, and Elasticsearch's does not; uaharvest uses neither.
    """
    with OpenSearch(elasticsearch_url, timeout=60) as client:
        for index in _indices(client):
            client.indices.delete(index=index)
        client.indices.delete_index_template(name="uaharvest-*", ignore=404)
        client.cluster.delete_component_template(name="uaharvest-*", ignore=404)
        yield client


@pytest.fixture
def cluster(es, elasticsearch_url):
    """uaharvest's own connection to that server, which is as `es` has left it."""
    return connection.connect(Settings(es_url=cluster_url(elasticsearch_url)))


@pytest.fixture
def templates(cluster):
    """The templates of index_templates/, loaded."""
    index_templates.load(cluster)
