"""Runs a simulator as a process, with one thread per connection, until a signal ends it."""

import signal
import socketserver
import sys
from collections.abc import Callable
from threading import Thread
from typing import BinaryIO, Protocol, cast

from simulators.wire import BadRequestError, Request, Response, read_request, write_response

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class DroppedConnectionError(Exception):
    """The connection must be closed without a response."""


class Application(Protocol):
    """Answers one request after another."""

    def answer(self, request: Request) -> Response:
        """Answer a request; raise `DroppedConnectionError` to send no response."""
        ...

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        ...

    def open(self) -> None:
        """Begin: everything is set up, and requests arrive from now on."""
        ...


class Server(socketserver.ThreadingTCPServer):
    """Binds 127.0.0.1 at once; requests that arrive before `application` is set wait for it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256
    application: Application

    def __init__(self, port: int) -> None:
        """Bind the port; raise `OSError` if it is taken."""
        super().__init__(("127.0.0.1", port), _Connection)

    @property
    def url(self) -> str:
        """Return the URL for clients."""
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
    """Serve on a port of 127.0.0.1 (0: a free one), print its URL, and stop on a signal.

    Returns the exit code: 0 if ended by a signal, 1 if the port is unavailable.
    """
    try:
        # Bind first: creating a million rows takes a while, but a taken port can be reported at once.
        server = Server(port)
    except OSError as error:
        sys.stderr.write(f"--port {port}: cannot listen on 127.0.0.1: {error.strerror}\n")
        return 1
    with server:
        server.application = make_application()
        # Block the signals before any thread starts, so that sigwait below receives them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        server.application.open()
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        signal.sigwait(_ENDINGS)
        server.shutdown()
    return 0
