"""A server whose certificate is not trusted: what `status` says, and that it heals with one that is."""

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from devservers import stack
from devservers.proxy import Proxy
from tests.answers.indexed import IndexedSite, record
from tests.answers.policy import STANDS
from tests.answers.site import NEVER_LATE, Site, opencast_environment, verdict, zoom_environment
from tests.redis_servers import authority, openssl
from uaharvest import aws as aws_clients
from uaharvest.errors import Exit
from uaharvest.intervals import whole_second
from uaharvest.sinks import receiver
from uaharvest.sinks.sqlite import SqliteStore

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    """The files of an authority that clients trust, and of a certificate that it signed."""
    return authority(tmp_path_factory.mktemp("trusted"), "trusted")


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self-signed")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-x509", *new_key, *name, "-days", "30", "-out", certificate)
    return certificate, key


@pytest.fixture
def untrusted(self_signed, trusted, monkeypatch):
    """Return a function that puts a proxy with a self-signed certificate before a server."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted["ca"]))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted["ca"]))
    # Over TLS botocore sends an object in chunks, for a checksum behind them. The proxy reads no chunks.
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    with contextlib.ExitStack() as proxies:
        yield lambda url: proxies.enter_context(Proxy(url, self_signed))


@pytest.fixture
def environment(*, aws, client, valkey_url, bucket, queue_name, tmp_path):
    _forget_clients()
    yield {
        "OPENCAST_TIMEZONE": "UTC",
        "REDIS_URL": valkey_url,
        "S3_HARVEST_TS_BUCKET": bucket,
        "SQS_QUEUE_NAME": queue_name,
        "DOCUMENTS_URL": f"sqlite:///{tmp_path / 'documents.db'}",
        "HARVEST_LAG_SECONDS": "0",
        "HARVEST_MAX_LAG_SECONDS": NEVER_LATE,
        "DIRECT_AWS": aws,
    }
    _forget_clients()


def _forget_clients():
    aws_clients.s3_client.cache_clear()
    aws_clients.sqs_client.cache_clear()


def stands(site, proxy):
    """Tick, and check that the certificate is what is wrong, and where."""
    for _ in range(2):
        site.tick()
    report, code = site.report()
    lines = [trouble["line"] for trouble in report["troubles"]]
    assert code == Exit.BLOCKED
    host = urlsplit(proxy.url).netloc
    assert any("certificate" in line and "not trusted" in line and host in line for line in lines), lines
    return report


def check(site, proxy, trusted, until):
    assert verdict(stands(site, proxy), []) in STANDS
    proxy.present(trusted["certificate"], trusted["key"])
    assert site.heals(until), site.report()[0]["troubles"]
    assert site.dead_letters() == []
    assert site.report()[1] == 0


@pytest.fixture(scope="module")
def opencast():
    with stack.opencast_simulator("--rows", "20", "--span-seconds", "300", "--zone", "UTC") as simulator:
        yield simulator.url


@pytest.mark.parametrize("server", ["Opencast", "S3", "SQS"])
def test_useractions(*, server, environment, untrusted, trusted, opencast, aws, client, monkeypatch):
    proxy = untrusted(opencast if server == "Opencast" else aws)
    if server != "Opencast":
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{server}", proxy.url)
    environment |= opencast_environment(proxy.url if server == "Opencast" else opencast)
    site = Site("useractions", environment, client, monkeypatch)
    now = whole_second(datetime.now(UTC))
    site.begin(now - timedelta(hours=1))
    check(site, proxy, trusted, now - timedelta(seconds=1))
    assert len(site.received()) == 20


@pytest.fixture(scope="module")
def zoom(yesterday):
    limit = ("--limit", "heavy+resource-intensive=100000/s")
    with stack.zoom_simulator("--meetings", "2", "--date", f"{yesterday:%F}", *limit) as simulator:
        yield simulator.url


@pytest.mark.parametrize("server", ["api", "token"])
def test_zoom(*, server, environment, untrusted, trusted, zoom, yesterday, client, tmp_path, monkeypatch):
    proxy = untrusted(zoom)
    behind = {"api": ("ZOOM_API_URL", f"{proxy.url}/v2/"), "token": ("ZOOM_TOKEN_URL", f"{proxy.url}/oauth/token")}
    environment |= zoom_environment(zoom, tmp_path) | dict([behind[server]])
    site = Site("zoom", environment, client, monkeypatch)
    site.begin(yesterday)
    check(site, proxy, trusted, yesterday + DAY)
    assert len(list(SqliteStore(tmp_path / "documents.db").select("meetings*"))) == 2


def test_elasticsearch(*, environment, untrusted, trusted, es, templates, elasticsearch_url, client, monkeypatch):
    proxy = untrusted(elasticsearch_url)
    monkeypatch.setattr(receiver, "WAIT", 0)
    del environment["DOCUMENTS_URL"]
    environment |= {
        "INDEXER": "true",
        "HARVEST_LEASE_SECONDS": "2",
        "ES_HOST": proxy.url,
        "ES_CA_FILE": str(trusted["ca"]),
    }
    site = IndexedSite(environment, client, monkeypatch)
    site.begin(None)
    site.send(*(json.dumps(record(number)) for number in range(3)))
    assert stands(site, proxy)["index"]["blocked"]
    proxy.present(trusted["certificate"], trusted["key"])
    end = time.monotonic() + 60
    while not site.empty():
        assert time.monotonic() < end, "it does not heal"
        site.tick()
    es.indices.refresh(index="useractions*")
    assert es.count(index="useractions*")["count"] == 3
    assert site.report()[1] == 0
