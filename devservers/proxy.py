"""A proxy in front of a real HTTP server. Where a rule says so, the client gets another answer."""

import contextlib
import dataclasses
import http.client
import http.server
import json
import socket
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from devservers.stack import HOST

DRIPS = 400  # of one byte each, for longer than the tests' clients wait
UPSTREAM_SECONDS = 30
PASSED_ON = {"connection", "transfer-encoding", "content-length", "host", "accept-encoding"}


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request, as rules see it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = dataclasses.field(repr=False)

    @property
    def target(self) -> str:
        """The operation of SQS's JSON protocol, without its name space."""
        return self.headers.get("x-amz-target", "").rpartition(".")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What the client gets in place of the server's answer.

    Attributes:
        status: HTTP's.
        body: Bytes, or a function that makes them from the server's own body.
        headers: More of them.
        breaks: How the connection fails: `reset` before a byte, `half` of the answer only, or a `drip` of bytes.
    """

    status: int = 200
    body: bytes | Callable[[bytes], bytes] = b""
    headers: tuple[tuple[str, str], ...] = ()
    breaks: Literal["", "reset", "half", "drip"] = ""


Rule = Callable[[Call], Reply | None]
Headers = Sequence[tuple[str, str]]


def _nothing(_: Call) -> None:
    return None


class Proxy:
    """Passes everything on to `upstream` but the calls that the rule names.

    Args:
        upstream: The server's URL.
        certificate: Files with a certificate and its key; then clients speak TLS with it.
        passed: Called with each call that the server has answered, its status and body, and the reply that replaces
            its answer (None: the client gets it as it is); before the client gets anything.
        drops: Called with each call before the server gets it. If it returns True, the connection is reset instead.

    Attributes:
        rule: Returns the reply to a call, or None to pass it on. It may block, which delays the call.
        calls: All calls so far; empty with `passed`.
        answered: How many calls the rule has answered.
        drops: As given.
    """

    def __init__(
        self,
        upstream: str,
        certificate: tuple[str, str] | None = None,
        *,
        passed: Callable[[Call, int, bytes, Reply | None], None] | None = None,
        drops: Callable[[Call], bool] = lambda _: False,
    ) -> None:
        self.upstream = urllib.parse.urlsplit(upstream)
        self.rule: Rule = _nothing
        self.calls: list[Call] = []
        self.answered = 0
        self.pause = threading.Event()
        self._passed = passed
        self.drops = drops
        self._server = http.server.ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http{'s' if certificate else ''}://{HOST}:{self._server.server_address[1]}"
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.present(*certificate)
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def present(self, certificate: str, key: str) -> None:
        """Present another certificate from the next connection on."""
        self._tls.load_cert_chain(certificate, key)

    def pass_all(self) -> None:
        """Pass all calls on from now on."""
        self.rule = _nothing

    @contextlib.contextmanager
    def answering(self, concerns: Callable[[Call], bool], reply: Reply) -> Iterator[Self]:
        """Answer the calls that `concerns` names with `reply`."""
        self.answered = 0
        self.rule = lambda call: reply if concerns(call) else None
        try:
            yield self
        finally:
            self.pass_all()

    @contextlib.contextmanager
    def watching(self, concerns: Callable[[Call], bool], act: Callable[[], object]) -> Iterator[Self]:
        """Call `act` once, before the first call that `concerns` names is passed on."""
        self.answered = 0

        def rule(call: Call) -> None:
            if concerns(call) and not self.answered:
                self.answered = 1
                act()

        self.rule = rule
        try:
            yield self
        finally:
            self.pass_all()

    def note(self, call: Call) -> None:
        """Keep a call that has arrived."""
        if self._passed is None:
            self.calls.append(call)

    def tell(self, call: Call, status: int, body: bytes, reply: Reply | None) -> None:
        """Pass on what the server has answered to whoever listens."""
        if self._passed is not None:
            self._passed(call, status, body, reply)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers the calls of a proxy; each has a subclass of its own."""

    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an ACK

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            super().handle()

    def _any(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        call = Call(self.command, path, dict(urllib.parse.parse_qsl(query)), headers, body)
        self.proxy.note(call)
        if self.proxy.drops(call):
            self._reset()
            return
        reply = self.proxy.rule(call)
        if reply is None:
            self._give(*self._ask(call, None))
            return
        self.proxy.answered += 1
        self._reply(reply, call)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - as http.server wants them

    def _ask(self, call: Call, reply: Reply | None) -> tuple[int, Headers, bytes]:
        upstream = self.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname or HOST, upstream.port, timeout=UPSTREAM_SECONDS)
        try:
            # The host stays as it was asked for: requests to AWS are signed with it.
            sent = {name: value for name, value in self.headers.items() if name.lower() not in PASSED_ON}
            sent["Host"] = self.headers["Host"]
            connection.request(self.command, self.path, call.body, sent)
            answer = connection.getresponse()
            content = answer.read()
            self.proxy.tell(call, answer.status, content, reply)
            return answer.status, answer.getheaders(), content
        finally:
            connection.close()

    def _reply(self, reply: Reply, call: Call) -> None:
        if reply.breaks == "reset":
            self._reset()
            return
        typed = any(name == "Content-Type" for name, _ in reply.headers)
        headers: Headers = [] if typed else [("Content-Type", "application/json")]
        status, content = reply.status, reply.body
        if callable(content) or reply.breaks:
            status, headers, original = self._ask(call, reply)
            content = content(original) if callable(content) else original
        if reply.breaks:
            self._break(reply.breaks, status, headers, content)
            return
        self._give(status, [*headers, *reply.headers], content)

    def _give(self, status: int, headers: Headers, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in PASSED_ON:
                self.send_header(name, value)
        if "Date" not in dict(headers):
            self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _break(self, how: str, status: int, headers: Headers, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in PASSED_ON:
                self.send_header(name, value)
        if self.command == "HEAD" or status == http.HTTPStatus.NO_CONTENT:  # the headers break off
            self._headers_buffer.append(b"X-More: ")  # type: ignore[attr-defined] # not in typeshed
            self.flush_headers()
        else:
            self.send_header("Content-Length", str(len(content) + DRIPS + 1))
            self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.close_connection = True
        if how == "half":
            self._reset()
            return
        for _ in range(DRIPS):
            self.wfile.write(b" ")
            self.wfile.flush()
            if self.proxy.pause.wait(0.01):
                return

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def edited(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """Return a function that changes the JSON of a server's answer; a request to log in is no JSON and stays."""

    def edit(body: bytes) -> bytes:
        try:
            content = json.loads(body)
        except ValueError:
            return body
        return json.dumps(change(content)).encode()

    return edit
