"""Answers that never end, or hold more than they seem to."""

import contextlib
import gzip
import socket
import threading
from datetime import UTC, datetime

import pytest
import requests

from uaharvest.answers import distrust, is_busy
from uaharvest.errors import BlockedError, SourceError
from uaharvest.transport import BoundedSession, TooLargeError, Upstream, is_timeout

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def answering(*pieces: bytes, drip: bytes = b""):
    """A server that answers each connection with `pieces`, then with `drip` again and again until it is stopped."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
            while drip and not ended.wait(0.02):
                connection.sendall(drip)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def upstream():
    return Upstream("Zoom", host="ZOOM_API_URL", login="ZOOM_KEY", timeout=(5, 60))


def fetch(url, **bounds):
    with BoundedSession() as session:
        return session.fetch(url, timeout=(5, 60), **bounds)


def whole(body: bytes, *headers: bytes) -> bytes:
    return (
        HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


def test_an_answer_within_its_limits_comes_whole():
    with answering(whole(b'{"a": 1}')) as url:
        assert fetch(url, largest=8).json() == {"a": 1}


def test_an_answer_over_its_size_is_refused():
    with answering(whole(b'{"a": 12}')) as url, pytest.raises(TooLargeError, match="more than 8 bytes"):
        fetch(url, largest=8)


def test_the_size_counts_unpacked():
    packed = gzip.compress(b" " * 50_000_000)
    with answering(whole(packed, b"Content-Encoding: gzip")) as url, pytest.raises(TooLargeError):
        fetch(url, largest=1_000_000)


def test_an_answer_without_a_length_is_bounded_too():
    with answering(HEAD + b"\r\n", drip=b"x" * 1000) as url, pytest.raises(TooLargeError):
        fetch(url, largest=20_000)


@pytest.mark.parametrize(
    ("pieces", "drip"),
    [
        ((HEAD + b"Content-Length: 100000\r\n\r\n",), b"x"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",), b"x"),
        ((HEAD + b"\r\n",), b"x"),
        ((b"HTTP/1.1 200 OK\r\n",), b"X-More: 1\r\n"[:1]),
        ((b"",), b"H"),
    ],
    ids=["body", "one long chunk", "until the connection closes", "headers", "status line"],
)
def test_an_answer_that_drips_is_given_up(pieces, drip):
    with answering(*pieces, drip=drip) as url, pytest.raises(SourceError) as caught:
        upstream().fetch(url, longest=0.3)
    assert is_timeout(caught.value.__cause__)
    assert "did not come to the end of its answer in time" in str(caught.value)


def test_what_is_too_large_is_a_failure_of_the_source():
    with answering(whole(b'{"a": 12}')) as url, pytest.raises(SourceError) as caught:
        upstream().fetch(url, largest=8)
    assert str(caught.value) == f"Zoom at {url} sent an answer of more than 8 bytes."
    assert isinstance(caught.value.__cause__, TooLargeError)


def test_an_error_shows_the_address_that_it_may():
    with answering() as url, pytest.raises(SourceError) as caught:
        upstream().fetch(f"{url}meetings/4444", shown=f"{url}meetings/{{id}}")
    assert f"No whole answer from Zoom at {url}meetings/{{id}}: " in str(caught.value)
    assert "is ZOOM_API_URL right?" in str(caught.value)
    assert "4444" not in str(caught.value)


def test_what_cannot_be_asked_is_blocked():
    with pytest.raises(BlockedError, match=r"InvalidURL.*Check ZOOM_API_URL and ZOOM_KEY"):
        upstream().fetch("http://.example.edu/")


def test_an_error_names_the_time_that_this_request_had():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(SourceError, match=r"did not answer within 0\.2 s"):
            upstream().fetch(url, timeout=0.2)


@pytest.mark.parametrize(
    "header", [b"Date: Fri, 20 Nov 2026 16:00:05 GMT", b"Date: Fri, 20 Nov 2026 16:00:05 -0000"]
)
def test_the_clock_of_an_upstream_is_that_of_its_answer(header):
    with answering(whole(b"{}", header)) as url:
        response = upstream().fetch(url)
    assert upstream().clock(url, response) == datetime(2026, 11, 20, 16, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("headers", [[], [b"Date: soon"], [b"Date: Fri, 31 Dec 9999 23:59:59 -2359"]])
def test_an_answer_without_a_clock_is_a_failure_of_the_source(headers):
    with answering(whole(b"{}", *headers)) as url:
        response = upstream().fetch(url)
    with pytest.raises(SourceError, match=r"Zoom at http://z/ answered without a usable Date header"):
        upstream().clock("http://z/", response)


@pytest.mark.parametrize(("status", "busy"), [(408, True), (429, True), (500, True), (599, True), (404, False)])
def test_some_answers_may_be_others_in_a_while(status, busy):
    assert is_busy(status) is busy


def test_a_connection_is_used_again_after_a_whole_answer():
    kept = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(2):
                connection.recv(65536)
                connection.sendall(whole(b"{}"))
            kept.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, BoundedSession() as session:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(2):
            assert session.fetch(url, timeout=(5, 60)).json() == {}
        thread.join(10)
    assert kept.is_set()


def test_no_redirect_is_followed():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with answering(moved) as url:
        assert fetch(url).status_code == requests.codes.found


def test_netrc_is_not_read(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with answering(whole(b"{}")) as url:
        assert "Authorization" not in fetch(url).request.headers


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
            "has a certificate that is not trusted (self-signed certificate)",
        ),
        (
            "CERTIFICATE_VERIFY_FAILED",
            "has a certificate that is not trusted",
        ),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", None),
    ],
)
def test_a_certificate_that_is_not_trusted_is_told_by_the_text_of_the_error(said, end):
    assert distrust(said) == end
