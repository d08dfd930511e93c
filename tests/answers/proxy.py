"""A proxy that stands before a real server and, where a rule says so, gives an answer of its own."""

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
from collections.abc import Callable

DRIPS = 400  # of one byte each, for longer than the tests' clients wait
PASSED_ON = {"connection", "transfer-encoding", "content-length", "host", "accept-encoding"}


@dataclasses.dataclass(frozen=True)
class Call:
    """A request, as rules see it."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def target(self):
        """The operation of SQS's JSON protocol, without its name space."""
        return self.headers.get("x-amz-target", "").rpartition(".")[2]


@dataclasses.dataclass(frozen=True)
class Reply:
    """What comes back in place of the server's answer.

    Attributes:
        status: HTTP's.
        body: Bytes, or a function that makes them of the server's own body.
        headers: More of them.
        breaks: How the connection fails: `reset` before a byte, `half` of the answer only, or a `drip` of bytes.
    """

    status: int = 200
    body: bytes | Callable[[bytes], bytes] = b""
    headers: tuple[tuple[str, str], ...] = ()
    breaks: str = ""


class Proxy:
    """Passes everything on to `upstream` but the calls that the rule names.

    Args:
        upstream: The server's URL.
        certificate: Files with a certificate and its key; then clients speak TLS with it.
    """

    def __init__(self, upstream, certificate=None):
        self.upstream = urllib.parse.urlsplit(upstream)
        self.rule = lambda call: None
        self.calls = []
        self.answered = 0  # calls that the rule has answered
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_address[1]}"
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.present(*certificate)
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def present(self, certificate, key):
        """Present another certificate from the next connection on."""
        self._tls.load_cert_chain(certificate, key)

    @contextlib.contextmanager
    def answering(self, concerns, reply):
        """Answer the calls that `concerns` names with `reply`."""
        self.answered = 0
        self.rule = lambda call: reply if concerns(call) else None
        try:
            yield self
        finally:
            self.rule = lambda call: None

    @contextlib.contextmanager
    def watching(self, concerns, act):
        """Call `act` once, before the first call that `concerns` names is passed on."""
        self.answered = 0

        def rule(call):
            if concerns(call) and not self.answered:
                self.answered = 1
                act()

        self.rule = rule
        try:
            yield self
        finally:
            self.rule = lambda call: None

    def _handler(proxy):  # noqa: N805 - the handler below has a `self` of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an ACK

            def log_message(self, *_):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
                    super().handle()

            def _any(self):
                path, _, query = self.path.partition("?")
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                call = Call(self.command, path, dict(urllib.parse.parse_qsl(query)), headers, body)
                proxy.calls.append(call)
                reply = proxy.rule(call)
                if reply is None:
                    self._give(*self._ask(body))
                    return
                proxy.answered += 1
                self._reply(reply, body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - as http.server wants them

            def _ask(self, body):
                connection = http.client.HTTPConnection(proxy.upstream.hostname, proxy.upstream.port, timeout=30)
                try:
                    # The host stays as it was asked for: requests to AWS are signed with it.
                    sent = {name: value for name, value in self.headers.items() if name.lower() not in PASSED_ON}
                    sent["Host"] = self.headers["Host"]
                    connection.request(self.command, self.path, body, sent)
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                finally:
                    connection.close()

            def _reply(self, reply, body):
                if reply.breaks == "reset":
                    self._reset()
                    return
                typed = any(name == "Content-Type" for name, _ in reply.headers)
                headers = [] if typed else [("Content-Type", "application/json")]
                status, content = reply.status, reply.body
                if callable(content) or reply.breaks:
                    status, headers, original = self._ask(body)
                    content = content(original) if callable(content) else original
                if reply.breaks:
                    self._break(reply.breaks, status, headers, content)
                    return
                self._give(status, [*headers, *reply.headers], content)

            def _give(self, status, headers, content):
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

            def _break(self, how, status, headers, content):
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in PASSED_ON:
                        self.send_header(name, value)
                if self.command == "HEAD" or status == http.HTTPStatus.NO_CONTENT:  # the headers break off
                    self._headers_buffer.append(b"X-More: ")
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
                    if proxy.pause.wait(0.01):
                        return

            def _reset(self):
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        proxy.pause = threading.Event()
        return Handler


def edited(change):
    """Return a function that changes the JSON of the server's answer; what asks for a log-in is none, and stays."""

    def edit(body):
        try:
            content = json.loads(body)
        except ValueError:
            return body
        return json.dumps(change(content)).encode()

    return edit
