"""`python -m simulators.opencast`: start the simulator, say where it listens, serve until told to end."""

import signal
import sys
from collections.abc import Sequence
from threading import Thread

from simulators.opencast.options import parse_options
from simulators.opencast.server import Application, Server
from simulators.opencast.site import Site

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; return the exit code: 0 ended by a signal, 1 port not to be had."""
    # Before the server is up there is nothing to end cleanly: Ctrl-C just kills.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = parse_options(arguments)
    try:
        # The port first: making a million rows takes a while, a taken port is known at once.
        server = Server(options.port)
    except OSError as error:
        sys.stderr.write(f"--port {options.port}: cannot listen on 127.0.0.1: {error.strerror}\n")
        return 1
    with server:
        site = Site(options)
        server.application = Application(site)
        # Blocked before any thread starts, so that the signals wait for sigwait below.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        site.open()
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        signal.sigwait(_ENDINGS)
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
