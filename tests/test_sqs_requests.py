"""The frequent requests to SQS: the first attempt does not go botocore's whole way, and nobody can tell."""

import http.server
import json
import threading
import time

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.endpoint import Endpoint

from uaharvest import aws, counters, sqs_requests

PLAIN = {"Successful": [{"Id": "0"}], "Failed": []}
ENTRIES = [{"Id": "0", "MessageBody": "ü"}]
REFUSED = b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "none"}'


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers with the first of the server's answers that is left; the last one stays."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        answers = self.server.answers
        self.server.asked.append((self.path, self.headers))
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if status is None:  # no answer
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    """A server in place of SQS, and the environment that leads there."""
    with (
        pytest.MonkeyPatch.context() as environment,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server,
    ):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment.setenv("AWS_ACCESS_KEY_ID", "a")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "s")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def make_client():
    return aws.sqs_client.__wrapped__(4)


@pytest.fixture(scope="module")
def hastened(running):
    client = make_client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def botocores(running):
    """The same client, which goes botocore's way."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqs_requests, "hasten", lambda *_: None)
        client = make_client()
    yield client
    client.close()


@pytest.fixture
def server(running, monkeypatch):
    """The server; it gives `answers` and notes what it was `asked`, and the `bodies`. Nobody waits between attempts."""
    running.asked, running.bodies = [], []
    running.answers = [(200, json.dumps(PLAIN).encode())]
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return running


def send(client):
    answer = client.send_message_batch(QueueUrl="http://queue", Entries=ENTRIES)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def outcome_of(client):
    """Return what a caller sees: the answer, or the error with its text."""
    try:
        return send(client)
    except Exception as error:  # noqa: BLE001 - botocore's parser lets any pass
        return type(error).__name__, str(error)


def test_a_plain_success_does_not_go_botocores_way(server, hastened, monkeypatch):
    monkeypatch.setattr(Endpoint, "make_request", lambda *_: pytest.fail("botocore's way"))
    assert send(hastened) == PLAIN
    [(path, headers)] = server.asked
    assert (path, headers["X-Amz-Target"]) == ("/", "AmazonSQS.SendMessageBatch")
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=a/")


@pytest.mark.parametrize("last", [(200, json.dumps(PLAIN).encode()), None], ids=["once", "always"])
@pytest.mark.parametrize(
    "odd",
    [
        (None, b""),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b'{"Successful": null}'),
        (200, b'{"Successful": [null]}'),
        (200, b'{"Successful": [{"Id": "\\ud800"}]}'),
        (200, b"[" * 100_000),
        (301, b""),
        (400, REFUSED),
        (400, b'{"__type": "ThrottlingException"}'),
        (403, b'{"__type": "InvalidClientTokenId", "message": "no"}'),
        (500, b"<html>"),
        (503, b"{}"),
    ],
    ids=lambda odd: str(odd)[:40],
)
def test_any_other_answer_has_the_same_outcome_after_as_many_requests(server, hastened, botocores, odd, last):
    outcomes = []
    for client in (botocores, hastened):
        server.asked.clear()
        server.answers = [odd, last] if last else [odd]
        outcomes.append((outcome_of(client), len(server.asked)))
    assert outcomes[0] == outcomes[1]


def test_the_outcome_of_one_request_is_never_that_of_the_next(server, hastened):
    server.answers = [(400, REFUSED), (200, json.dumps(PLAIN).encode())]
    assert isinstance(outcome_of(hastened), tuple)
    assert send(hastened) == PLAIN
    assert len(server.asked) == 2


def test_each_request_is_signed_with_the_credentials_of_that_moment(server, hastened, monkeypatch):
    class Renewed:
        times = 0

        def get_frozen_credentials(self):
            self.times += 1
            return ReadOnlyCredentials(f"key{self.times}", "secret", f"token{self.times}")

    monkeypatch.setattr(hastened._request_signer, "_credentials", Renewed())
    for _ in range(2):
        send(hastened)
    used = [
        (asked["Authorization"].split("/")[0][-4:], asked["X-Amz-Security-Token"]) for _, asked in server.asked
    ]
    assert used == [("key1", "token1"), ("key2", "token2")]


def test_the_second_request_is_encoded_here_and_says_the_same(server, hastened, botocores):
    for client in (botocores, hastened, hastened):
        send(client)
    theirs, *ours = [json.loads(body) for body in server.bodies]
    assert ours == [theirs, theirs]
    assert server.bodies[2] != server.bodies[0]  # no white space


def test_text_that_is_no_utf_8_is_sent_as_botocore_sends_it(server, hastened):
    send(hastened)
    hastened.send_message_batch(QueueUrl="http://queue", Entries=[{"Id": "0", "MessageBody": "\ud800"}])
    assert json.loads(server.bodies[-1])["Entries"][0]["MessageBody"] == "\ud800"


def test_requests_that_are_signed_otherwise_go_botocores_way(server, monkeypatch):
    monkeypatch.setattr(sqs_requests._Way, "request", lambda *_: pytest.fail("signed here"))
    client = make_client()
    client._request_signer._signature_version = "v4a-like"
    monkeypatch.setattr(type(client._request_signer), "sign", lambda *_, **__: None)
    for _ in range(2):
        assert send(client) == PLAIN
    client.close()


def test_it_goes_through_a_proxy(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://sqs.example.edu:9999")
    client = make_client()
    assert send(client) == PLAIN
    client.close()
    assert [path for path, _ in server.asked] == ["http://sqs.example.edu:9999/"]


def test_its_duration_is_counted_like_that_of_any_request(server, hastened):
    with counters.taken():
        pass
    began = time.monotonic()
    send(hastened)
    with counters.taken() as counts:
        assert sum(amount for name, amount in counts.items() if name.startswith("requests:sqs:")) == 1
        assert counts["microseconds:sqs"] <= (time.monotonic() - began) * 1e6
