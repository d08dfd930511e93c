"""What answers in the place of S3, or is an S3 that lacks what the watermark needs."""

import hashlib
import http.server
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from botocore.config import Config

from tests.fakes import NOON, World, at
from uaharvest import aws
from uaharvest.dead_letters import DeadLetters
from uaharvest.errors import BadInputError, BlockedError, HarvestError, RetryableError
from uaharvest.runs.watermark import Deployment, WatermarkStore, advanced, first
from uaharvest.s3_object import ChangedError

HTML = b"<html><head><title>nginx</title></head><body><p>Welcome<br></body></html>"
XHTML = b"<html><body>Not Found</body></html>"


def error(code, message="said so"):
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests[self.command] += 1
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.rule(self, body)

    do_PUT = do_DELETE = do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start a server that answers as a rule says; return an S3 client of it."""
    servers, clients = [], []

    def start(rule):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.rule, server.requests = rule, Counter()
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        client = aws.s3_client.__wrapped__()
        client.server = server
        clients.append(client)
        return client

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(aws, "_config", lambda _: Config(retries={"total_max_attempts": 1}, read_timeout=5))
    yield start
    for client in clients:
        client.close()
    for server in servers:
        server.shutdown()
        server.server_close()


def store_of(client, **options):
    return WatermarkStore(client, "bucket", "mark", ZoneInfo("UTC"), pause=lambda _: None, **options)


def always(status, body=b"", **headers):
    return lambda handler, _: handler.answer(status, body, **headers)


class Objects:
    """A small S3 that heeds the conditions that it is said to heed."""

    def __init__(self, *heeded):
        self.heeded = heeded
        self.objects = {}

    def __call__(self, handler, body):
        key = handler.path.partition("?")[0]
        held = self.objects.get(key)
        tag = held and f'"{hashlib.md5(held).hexdigest()}"'
        if handler.command == "PUT":
            for name, refused in (
                ("If-None-Match", held is not None),
                ("If-Match", tag != handler.headers.get("If-Match")),
            ):
                if name in self.heeded and handler.headers.get(name) and refused:
                    return handler.answer(412, error("PreconditionFailed"))
            # botocore sends its own checksum in trailing chunks.
            self.objects[key] = held = _unchunked(handler, body)
            return handler.answer(200, ETag=f'"{hashlib.md5(held).hexdigest()}"')
        if held is None:
            return handler.answer(404, error("NoSuchKey"))
        return handler.answer(200, held, ETag=tag, Last_Modified="Tue, 03 Mar 2026 12:00:00 GMT")


def _unchunked(handler, body):
    if "aws-chunked" not in handler.headers.get("Content-Encoding", ""):
        return body
    size, _, rest = body.partition(b"\r\n")
    return rest[: int(size.split(b";")[0], 16)]


NOT_S3 = pytest.mark.parametrize(
    "rule",
    [
        always(404, HTML, Content_Type="text/html"),
        always(404),
        always(404, XHTML),
        always(404, b'{"message": "no Route matched"}'),
        always(404, error("NoSuchUpload")),
        always(200, HTML, Content_Type="text/html"),
        always(200),
        always(301, HTML, Location="https://elsewhere.example.edu/"),
        always(403, HTML),
        always(405, HTML),
    ],
    ids=["404 html", "404", "404 xhtml", "404 json", "404 other", "200 html", "200", "301", "403", "405"],
)


@NOT_S3
def test_what_is_no_s3_is_never_an_absent_watermark_and_blocks_at_once(serve, client, rule):
    s3 = serve(rule)
    world = World(client)
    world.use(watermarks=store_of(s3))
    with pytest.raises(BlockedError, match="s3://bucket/mark"):
        world.engine.advance()
    assert sum(s3.server.requests.values()) <= 2
    assert world.engine.state.blocked("opening")


@NOT_S3
@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.create(first(NOON)),
        lambda store: store.replace(first(NOON), '"etag"'),
        lambda store: store.move(NOON),
        lambda store: store.delete(),
    ],
    ids=["create", "replace", "set", "delete"],
)
def test_a_write_to_what_is_no_s3_blocks_and_is_never_a_watermark_that_moved(serve, rule, write):
    s3 = serve(rule)
    # botocore makes a 500, and with it an outage, of a 200 whose XML it cannot read.
    with pytest.raises((BlockedError, RetryableError), match="s3://bucket/mark") as caught:
        write(store_of(s3))
    assert "\n" not in str(caught.value)
    assert sum(s3.server.requests.values()) <= 20


@NOT_S3
def test_a_dead_letter_is_not_absent_because_a_web_server_says_404(serve, rule):
    dead_letters = DeadLetters(serve(rule), "bucket", "dead/")
    with pytest.raises(HarvestError) as caught:
        dead_letters.drop("useractions/record-1")
    assert not isinstance(caught.value, BadInputError)


def test_a_404_page_names_the_endpoint(serve):
    with pytest.raises(BlockedError, match="AWS_ENDPOINT_URL"):
        store_of(serve(always(404, HTML))).read()


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket"])
def test_only_s3s_own_codes_are_absent(serve, code):
    assert store_of(serve(always(404, error(code)))).read() is None


@pytest.mark.parametrize(
    ("heeded", "named"),
    [((), "If-None-Match"), (("If-None-Match",), "If-Match"), (("If-Match",), "If-None-Match")],
    ids=["none", "only If-None-Match", "only If-Match"],
)
def test_a_store_that_ignores_a_condition_is_refused_by_its_name(serve, heeded, named):
    rule = Objects(*heeded)
    s3 = serve(rule)
    store_of(s3).create(first(NOON))
    held = dict(rule.objects)
    store = store_of(s3, prove=True)
    with pytest.raises(BlockedError, match=f"ignores {named}"):
        store.prove()
    with pytest.raises(BlockedError, match=f"ignores {named}"):
        store.replace(first(NOON), "whatever")
    assert rule.objects == held


def test_a_run_is_not_opened_on_a_store_that_ignores_conditions(serve, client):
    s3 = serve(Objects())
    store_of(s3).create(first(NOON))
    world = World(client)
    world.clock.now = at(180)
    world.opencast.add(at(5))
    world.use(watermarks=store_of(s3, prove=True))
    with pytest.raises(BlockedError, match="ignores"):
        world.engine.advance()
    assert (world.live, world.sink.arrived) == (None, [])


def test_a_store_that_heeds_conditions_is_asked_once(serve):
    s3 = serve(Objects("If-Match", "If-None-Match"))
    store_of(s3).create(first(NOON))
    store = store_of(s3, prove=True)
    store.prove()
    asked = s3.server.requests["PUT"]
    store.prove()
    stored = store.read()
    store.replace(advanced(stored.mark, at(60), "run"), stored.etag)
    assert (asked, s3.server.requests["PUT"]) == (3, 4)


@pytest.mark.parametrize("status", [400, 501])
def test_a_store_that_refuses_conditional_writes_blocks(serve, status):
    objects = Objects()

    def rule(handler, body):
        if handler.command == "PUT" and (handler.headers.get("If-Match") or handler.headers.get("If-None-Match")):
            handler.answer(status, error("NotImplemented", "A header you provided is not implemented"))
        else:
            objects(handler, body)

    s3 = serve(rule)
    with pytest.raises(BlockedError, match=r"NotImplemented: A header .* not implemented"):
        store_of(s3).create(first(NOON))


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_s3_that_is_down_is_an_outage_even_with_a_web_page(serve, status):
    with pytest.raises(RetryableError):
        store_of(serve(always(status, HTML))).read()


def test_a_store_that_refuses_each_etag_that_it_gives_does_not_let_advance_spin(serve, client):
    """As behind a proxy that compresses, and makes ETags weak."""
    objects = Objects("If-Match", "If-None-Match")

    def rule(handler, body):
        if handler.command == "PUT" and handler.headers.get("If-Match"):
            handler.answer(412, error("PreconditionFailed"))
        else:
            objects(handler, body)

    s3 = serve(rule)
    world = World(client)
    world.use(watermarks=store_of(s3))
    world.engine.watermarks.create(first(NOON))
    world.clock.now = at(180)
    with pytest.raises(BlockedError, match="contradicts itself"):
        world.engine.advance()
    assert sum(s3.server.requests.values()) < 20


def test_a_store_that_says_there_is_a_watermark_and_gives_none_does_not_let_advance_spin(serve, client):
    def rule(handler, _):
        if handler.command == "PUT":
            handler.answer(412, error("PreconditionFailed"))
        else:
            handler.answer(404, error("NoSuchKey"))

    s3 = serve(rule)
    world = World(client)
    world.use(watermarks=store_of(s3))
    with pytest.raises(BlockedError, match="contradicts itself"):
        world.engine.advance()
    assert sum(s3.server.requests.values()) < 10


def test_an_object_that_is_too_big_is_no_watermark(serve):
    with pytest.raises(BlockedError, match="is not a watermark"):
        store_of(serve(always(200, b"x" * 1_000_000, ETag='"e"'))).read()


def test_the_watermark_of_another_deployment_blocks_until_a_person_adopts_it(serve):
    s3 = serve(Objects("If-Match", "If-None-Match"))
    old, new = (Deployment(name, f"useractions of {name} to queue") for name in ("old", "new"))
    created = store_of(s3, deployment=old).create(first(NOON))
    store = store_of(s3, deployment=new)
    with pytest.raises(BlockedError, match=r"another harvest: useractions of old.*of new.*watermark confirm"):
        store.read()
    adopted = store.adopt()
    assert store.read() == adopted
    assert (adopted.mark.at, adopted.mark.epoch) == (created.mark.at, created.mark.epoch)
    assert store.adopt() is None
    with pytest.raises(BlockedError, match="another harvest"):
        store_of(s3, deployment=old).read()


def test_a_watermark_that_says_not_whose_it_is_belongs_to_who_writes_it_next(serve):
    s3 = serve(Objects("If-Match", "If-None-Match"))
    created = store_of(s3).create(first(NOON))
    store = store_of(s3, deployment=Deployment("mine", "mine"))
    stored = store.read()
    assert stored == created
    store.replace(advanced(stored.mark, at(60), "run"), stored.etag)
    assert store.read().mark.deployment == Deployment("mine", "mine")


def test_a_body_that_drips_ends(serve, monkeypatch):
    monkeypatch.setattr("uaharvest.s3_object._BODY_TIMEOUT", 0.2)
    over = threading.Event()

    def rule(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", "60000")
        handler.send_header("ETag", '"e"')
        handler.end_headers()
        while not over.wait(0.001):
            try:
                handler.wfile.write(b"x" * 100)
            except OSError:
                return

    began = time.monotonic()
    with pytest.raises(RetryableError, match="did not arrive"):
        store_of(serve(rule)).read()
    over.set()
    assert time.monotonic() - began < 10


def test_a_watermark_has_a_time_even_where_the_store_says_none(serve):
    mark = first(datetime(2026, 3, 3, tzinfo=UTC))
    assert store_of(serve(always(200, mark.to_json().encode(), ETag='"e"'))).read().mark == mark


def test_somebody_elses_write_is_still_a_change(serve):
    s3 = serve(Objects("If-Match", "If-None-Match"))
    store = store_of(s3)
    store.create(first(NOON))
    with pytest.raises(ChangedError):
        store.replace(first(NOON), '"other"')
