"""ES_AUTH=aws, against a small server that computes each signature itself, as AWS documents it."""

import datetime as dt
import gzip
import hashlib
import hmac
import http.server
import json
import re
import threading
from urllib.parse import parse_qsl, quote, urlsplit

import boto3.session
import botocore.auth
import pytest
from botocore.credentials import RefreshableCredentials

from uaharvest import settings
from uaharvest.documents.document import Document
from uaharvest.errors import BadInputError, BlockedError
from uaharvest.settings import Settings
from uaharvest.sinks import Receipt
from uaharvest.sinks.cluster import signing
from uaharvest.sinks.cluster.connection import connect
from uaharvest.sinks.cluster.store import ClusterStore

SECRETS = {"AKIDEXAMPLE": "wJalrXUtnFEMI", "ASIAROLE": "role-secret"}
TOKENS = {"ASIAROLE": "session-token"}
SKEW = dt.timedelta(minutes=5)
FIELDS = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)")
ABOUT = {"version": {"distribution": "opensearch", "number": "2.19.6"}}


def signed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def refused(method, target, headers, body):
    """Return AWS's words for a request whose signature is wrong, else None."""
    found = FIELDS.fullmatch(headers.get("Authorization", ""))
    if not found:
        return "Missing Authentication Token"
    key_id, scope, names, signature = found.groups()
    if key_id not in SECRETS or headers.get("X-Amz-Security-Token") != TOKENS.get(key_id):
        return "The security token included in the request is invalid."
    stamp = headers["X-Amz-Date"]
    at = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    if abs(dt.datetime.now(dt.UTC) - at) > SKEW:
        return f"Signature expired: {stamp} is now earlier than 20270101T000000Z"
    parts = urlsplit(target)
    query = sorted((quote(name, "-_.~"), quote(value, "-_.~")) for name, value in parse_qsl(parts.query, True))
    digest = hashlib.sha256(body).hexdigest()
    canonical = [
        *(method, quote(parts.path, "/-_.~"), "&".join(f"{name}={value}" for name, value in query)),
        *(f"{name}:{' '.join(headers[name].split())}" for name in names.split(";")),
        *("", names, digest),
    ]
    day, region, service, _ = scope.split("/")
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = f"AWS4{SECRETS[key_id]}".encode()
    for part in (day, region, service, "aws4_request"):
        key = signed(key, part)
    mine = signed(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}").hex()
    complete = {"host", "x-amz-content-sha256", "x-amz-date"} <= set(names.split(";"))
    if not complete or headers["X-Amz-Content-SHA256"] != digest or not hmac.compare_digest(mine, signature):
        return "The request signature we calculated does not match the signature you provided."
    return None


class Domain(http.server.BaseHTTPRequestHandler):
    """Plays a domain of Amazon OpenSearch Service with one index."""

    protocol_version = "HTTP/1.1"
    scopes = ()

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        words = refused(self.command, self.path, self.headers, body)
        if words:
            return 403, {"message": words}
        self.scopes.add(self.headers["Authorization"].split("/", 1)[1].split(",")[0].split("/", 1)[1])
        if self.path == "/":
            return 200, ABOUT
        if "_alias" in self.path:
            return 200, {"useractions-ü": {}}
        if "_bulk" in self.path:
            assert self.headers["Content-Encoding"] == "gzip"
            return 200, {"items": [{"index": {"status": 201}}] * (len(gzip.decompress(body).splitlines()) // 2)}
        return 200, {"_source": {"found": self.path}}

    def do_GET(self):
        status, content = self.answer()
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815 - http.server's

    def log_message(self, *_):
        pass


@pytest.fixture
def domain(monkeypatch):
    """A domain that answers; its `scopes` are those that requests were signed for."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AKIDEXAMPLE"])
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    handler = type("Handler", (Domain,), {"scopes": set()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}/"
        yield handler
        server.shutdown()


def store_of(domain):
    return ClusterStore(connect(Settings(es_url=domain.url, es_auth="aws"), pause=lambda _: None))


def test_requests_with_wild_cards_queries_bodies_and_odd_ids_are_signed(domain):
    store = store_of(domain)
    assert store.matching("useractions*,episodes*") == ["useractions-ü"]
    found = store.get("useractions-2026.11.20", "/9s8s9L+PTEC//FbdD1Cw==")["found"]
    assert found == "/useractions-2026.11.20/_doc/%2F9s8s9L%2BPTEC%2F%2FFbdD1Cw%3D%3D"
    assert domain.scopes == {"eu-west-1/es/aws4_request"}


def test_a_compressed_bulk_is_signed_as_it_is_sent(domain, monkeypatch):
    monkeypatch.setattr("uaharvest.sinks.cluster.connection.urlsplit", lambda url: urlsplit("http://far.example/"))
    document = Document("useractions-ü", "1", {"n": 1})
    assert list(store_of(domain).write([document])) == [Receipt(confirmed=[document])]


def test_credentials_of_a_role_are_renewed(domain, monkeypatch):
    renewed = []

    def renew():
        renewed.append(1)
        expiry = dt.datetime.now(dt.UTC) + (
            dt.timedelta(seconds=1) if len(renewed) == 1 else dt.timedelta(hours=6)
        )
        return {"access_key": "ASIAROLE", "secret_key": SECRETS["ASIAROLE"], "token": TOKENS["ASIAROLE"]} | {
            "expiry_time": expiry.isoformat()
        }

    credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")
    monkeypatch.setattr(boto3.session.Session, "get_credentials", lambda _: credentials)
    store_of(domain).matching("useractions*")
    assert len(renewed) == 2


def blocked(domain):
    with pytest.raises(BlockedError) as raised:
        store_of(domain).indices()
    assert "AKID" not in str(raised.value)
    assert "Signature=" not in str(raised.value)
    return str(raised.value)


def test_wrong_credentials_block_and_name_the_setting(domain, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    said = blocked(domain)
    assert "signature we calculated does not match" in said
    assert "ES_AUTH=aws signs with the credentials of AWS_ACCESS_KEY_ID" in said


def test_a_wrong_clock_blocks_and_is_named(domain, monkeypatch):
    wrong = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: wrong)
    assert "ES_AUTH=aws signs with the time: the clock of this machine is wrong" in blocked(domain)


def test_no_credentials_block_and_name_the_setting(domain, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BlockedError, match="ES_AUTH=aws: no AWS credentials are found"):
        store_of(domain).indices()


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("search-x-abc.us-east-2.es.amazonaws.com", ("es", "us-east-2")),
        ("vpc-x-abc.cn-north-1.es.amazonaws.com.cn", ("es", "cn-north-1")),
        ("search-x-abc.aos.eu-central-1.on.aws", ("es", "eu-central-1")),
        ("abc.us-west-2.aoss.amazonaws.com", ("aoss", "us-west-2")),
        ("search.example.edu", ("es", "")),
        ("es.amazonaws.com.example.edu", ("es", "")),
    ],
)
def test_service_and_region_are_read_from_the_host(host, scope):
    assert signing._scope(host) == scope


def test_a_custom_domain_needs_a_region(monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadInputError, match=r"names no AWS region\. Set AWS_DEFAULT_REGION"):
        connect(Settings(es_url="https://search.example.edu/", es_auth="aws"))


def test_other_words_are_refused_at_loading_and_two_logins_when_it_connects():
    with pytest.raises(BadInputError, match=r"ES_AUTH: 'kerberos' cannot be used\. Expected aws, or nothing"):
        settings.load({"ES_AUTH": "kerberos"})
    with pytest.raises(BadInputError, match="ES_AUTH=aws and ES_USER are set"):
        connect(Settings(es_url="https://es.example.edu/", es_auth="aws", es_user="u", es_password="p"))
