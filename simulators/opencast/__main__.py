"""`python -m simulators.opencast`: start the simulator, print its URL, and serve until a signal arrives."""

import signal
import sys
from collections.abc import Sequence

from simulators.opencast.options import parse_options
from simulators.opencast.server import Application
from simulators.opencast.site import Site
from simulators.serving import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; return the exit code: 0 if ended by a signal, 1 if the port is unavailable."""
    # Until the server is up there is nothing to shut down cleanly, so Ctrl-C kills the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = parse_options(arguments)
    return serve(options.port, lambda: Application(Site(options)))


if __name__ == "__main__":
    sys.exit(main())
