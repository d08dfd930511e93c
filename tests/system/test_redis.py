"""Redis as sites have it: behind TLS, on a Unix socket, and with a replica and sentinels; all with real processes."""

import os
import subprocess
import sys
from urllib.parse import quote

import pytest

from devservers import stack
from tests import commands, redis_servers
from tests.redis_servers import Sentinels, TlsFront
from uaharvest import assembly, settings

PASSWORD = "se/cr#et?[1]@"


def manage(*arguments, **environment):
    """Run manage.py with these settings."""
    return commands.manage(*arguments, environment=environment)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """The site's own CA, and another that nobody knows; both have signed a certificate for this host."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: redis_servers.authority(folder, name) for name in ("site", "impostor")}


@pytest.fixture(scope="module")
def server():
    """A Valkey with a password full of what a URL gives a meaning to."""
    with redis_servers.valkey("--requirepass", PASSWORD) as server:
        yield server


def tls_url(front, *query):
    return f"rediss://:{quote(PASSWORD, safe='')}@127.0.0.1:{front.port}/0?{'&'.join(query)}"


@pytest.fixture
def impostor(authorities, server):
    """What listens where the site's Redis should, with a certificate that the site's CA did not sign."""
    with TlsFront(authorities["impostor"], server.port) as front:
        yield front


@pytest.fixture(params=["the system's CAs", "the site's CA"])
def url(impostor, authorities, request):
    """The impostor's URL: with no more than rediss://, which kombu 5.7 does not verify, and with a CA."""
    return tls_url(impostor, *([f"ssl_ca_certs={authorities['site']['ca']}"] if "site" in request.param else []))


def test_an_impostor_is_told_no_password_by_the_ledgers_client(impostor, url):
    client = assembly.redis_client(settings.load({"REDIS_URL": url}))
    with pytest.raises(assembly.redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        client.ping()
    assert impostor.connections
    assert not impostor.heard


@pytest.mark.parametrize("process", ["worker", "beat"])
def test_an_impostor_is_told_no_password_by_workers_and_beat(impostor, url, process):
    arguments = [process, "-l", "info", *(["--concurrency=1"] if process == "worker" else [])]
    environment = {"REDIS_URL": url, "HARVEST_EVERY_SECONDS": "1"}
    with stack.celery(*arguments, environment=environment, ready="CERTIFICATE_VERIFY_FAILED") as child:
        assert impostor.connections
        assert not impostor.heard
        assert PASSWORD not in child.output
        assert quote(PASSWORD, safe="") not in child.output
        child.kill()


def test_an_impostor_is_told_no_password_by_manage_py(impostor, url):
    done = manage("status", REDIS_URL=url, S3_HARVEST_TS_BUCKET="b", SQS_QUEUE_NAME="q")
    assert done.returncode
    assert "CERTIFICATE_VERIFY_FAILED" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert quote(PASSWORD, safe="") not in done.stdout + done.stderr
    assert impostor.connections
    assert not impostor.heard


def test_a_broker_of_its_own_is_verified_too(impostor, url, server):
    """The ledger is reached; the broker's URL leads to the impostor."""
    ledger = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/0"
    environment = {"REDIS_URL": ledger, "CELERY_BROKER_URL": url}
    with stack.celery("worker", environment=environment, ready="CERTIFICATE_VERIFY_FAILED") as child:
        assert not impostor.heard
        child.kill()


@pytest.mark.parametrize("level", ["", "ssl_cert_reqs=required", "ssl_cert_reqs=CERT_REQUIRED"])
def test_a_server_that_the_sites_ca_signed_is_used(authorities, server, level):
    with TlsFront(authorities["site"], server.port) as front:
        url = tls_url(front, f"ssl_ca_certs={authorities['site']['ca']}", *([level] if level else []))
        environment = {"REDIS_URL": url}
        name = f"w{front.port}@test"
        with stack.celery("worker", "-c", "1", "-l", "info", "-n", name, environment=environment) as worker:
            done = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "tasks", "inspect", "ping", "-d", name],
                env={**os.environ, **environment, "PYTHONPATH": str(stack.ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert "pong" in done.stdout, done.stderr
            assert "insecure" not in worker.output + done.stderr
            worker.kill()
        assert assembly.redis_client(settings.load(environment)).ping()
        assert front.heard  # through TLS, not around it


def test_a_certificate_of_another_host_is_refused(authorities, server):
    with TlsFront(authorities["site"], server.port) as front:
        url = tls_url(front, f"ssl_ca_certs={authorities['site']['ca']}").replace("127.0.0.1", "localhost")
        client = assembly.redis_client(settings.load({"REDIS_URL": url}))
        with pytest.raises(assembly.redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            client.ping()
        assert not front.heard


# Celery reads the second by itself, unless it is kept from that.
@pytest.mark.parametrize("variables", [("REDIS_URL",), ("REDIS_URL", "CELERY_BROKER_URL")])
@pytest.mark.parametrize("spelling", ["unix://{login}{path}?db=2", "redis+socket://{login}{path}?virtual_host=2"])
def test_a_unix_socket_serves_both(tmp_path, spelling, variables):
    path = tmp_path / "redis.sock"
    with redis_servers.valkey("--unixsocket", path, "--requirepass", PASSWORD) as server:
        url = spelling.format(login=f":{quote(PASSWORD, safe='')}@", path=path)
        environment = dict.fromkeys(variables, url)
        with stack.celery("worker", "-c", "1", "-l", "info", environment=environment) as worker:
            worker.kill()
        assembly.redis_client(settings.load(environment)).set("ours", "1")
        with assembly.redis.Redis(port=server.port, password=PASSWORD, db=2) as client:
            assert client.get("ours") == b"1"
            assert client.keys("uaharvest:celery:*")


def test_the_broker_of_celerys_own_option_is_read_in_the_same_way(tmp_path):
    path = tmp_path / "redis.sock"
    with redis_servers.valkey("--unixsocket", path) as server:
        arguments = ("-b", f"unix://{path}?db=3", "worker", "-c", "1", "-l", "info")
        with stack.celery(*arguments, environment={"REDIS_URL": "redis://127.0.0.1:1/0"}) as worker:
            worker.kill()
        with assembly.redis.Redis(port=server.port, db=3) as client:
            assert client.keys("uaharvest:celery:*")


@pytest.fixture
def sentinels():
    """A primary, a replica and three sentinels."""
    with Sentinels() as found:
        yield found


@pytest.mark.parametrize("spelling", [",", ";"])
def test_a_worker_finds_redis_by_its_sentinels_in_both_spellings(sentinels, spelling):
    environment = dict.fromkeys(["REDIS_URL", "CELERY_BROKER_URL"], sentinels.spelt(spelling))
    with stack.celery("worker", "-c", "1", "-l", "info", environment=environment) as worker:
        for secret in (sentinels.password, sentinels.sentinel_password):
            assert secret not in worker.output
            assert quote(secret, safe="") not in worker.output
        worker.kill()
    assert assembly.redis_client(settings.load(environment)).set("found", spelling)


def test_a_wrong_name_of_the_master_is_named_in_a_line(sentinels):
    url = sentinels.url.replace("master_name=ledger", "master_name=other")
    done = manage("status", REDIS_URL=url, S3_HARVEST_TS_BUCKET="b", SQS_QUEUE_NAME="q")
    assert done.returncode
    assert "No master found for 'other'" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "old_primary", ["is killed", pytest.param("becomes a replica", marks=(pytest.mark.fault, pytest.mark.long))]
)
def test_a_failover_in_mid_run_loses_no_row(sentinels, start_site, old_primary):
    site = start_site(valkey=sentinels, workers=2)
    with stack.supervised(*site.workers):
        with site.caught(site.in_mid_run):
            if old_primary == "is killed":
                sentinels.primary.kill()
            else:
                sentinels.hand_over()
        site.until(sentinels.failed_over, ticking=False)
        mark = site.harvest(site.end)
        assert set(site.delivered()) == site.truth(mark.floor, mark.at)
        # And it goes on as before: a row that is added now comes too.
        site.simulate("rows", {"rows": [{"created": mark.at.timestamp() - 60}]})
        mark = site.settle()
    assert set(site.delivered()) == site.truth(mark.floor, mark.at)
