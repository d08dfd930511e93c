"""A simulator as a process: one thread per connection, until a signal ends it."""

import signal
import socketserver
import sys
from collections.abc import Callable
from threading import Thread
from typing import BinaryIO, Protocol, cast

from simulators.wire import BadRequestError, Request, Response, read_request, write_response

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class DroppedConnectionError(Exception):
    """The connection is to be closed without an answer."""


class Application(Protocol):
    """Answers one request after another."""

    def answer(self, request: Request) -> Response:
        """Answer a request; raises `DroppedConnectionError` where no answer is to be sent."""
        ...

    def now(self) -> float:
        """Give the server's clock, epoch seconds."""
        ...

    def open(self) -> None:
        """Begin: all is made, requests come from now on."""
        ...


class Server(socketserver.ThreadingTCPServer):
    """Binds 127.0.0.1 at once; requests that come before `application` is set wait for it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256
    application: Application

    def __init__(self, port: int) -> None:
        """Bind; raises `OSError` when the port is taken."""
        super().__init__(("127.0.0.1", port), _Connection)

    @property
    def url(self) -> str:
        """Give the address that clients use."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer the requests of one connection until either side closes it."""
        application = cast("Server", self.server).application
        try:
            while self._exchange(application):
                pass
        except (DroppedConnectionError, ConnectionError):
            return

    def _exchange(self, application: Application) -> bool:
        """Answer one request; tell whether another may follow."""
        try:
            request = read_request(cast("BinaryIO", self.rfile))
        except BadRequestError:
            write_response(cast("BinaryIO", self.wfile), Response(400), now=application.now(), keep_alive=False)
            return False
        if request is None:
            return False
        response = application.answer(request)
        keep_alive = request.keep_alive and not response.cut
        write_response(cast("BinaryIO", self.wfile), response, now=application.now(), keep_alive=keep_alive)
        return keep_alive


def serve(port: int, make_application: Callable[[], Application]) -> int:
    """Serve on a port of 127.0.0.1 (0: a free one), say where, until a signal comes.

    Returns the exit code: 0 ended by a signal, 1 port not to be had.
    """
    try:
        # The port first: making a million rows takes a while, a taken port is known at once.
        server = Server(port)
    except OSError as error:
        sys.stderr.write(f"--port {port}: cannot listen on 127.0.0.1: {error.strerror}\n")
        return 1
    with server:
        server.application = make_application()
        # Blocked before any thread starts, so that the signals wait for sigwait below.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        server.application.open()
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        signal.sigwait(_ENDINGS)
        server.shutdown()
    return 0
