"""What tests share: real servers, started by the first test that asks, and an environment of their own."""

import dataclasses
import itertools
import os

import boto3
import pytest
from hypothesis import settings as hypothesis_settings
from redis import Redis

from simulators import databases, stack
from uaharvest.settings import Settings

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
