"""`python -m simulators.opencast`: start the simulator, say where it listens, serve until told to end."""

import signal
import sys
from collections.abc import Sequence

from simulators.opencast.options import parse_options
from simulators.opencast.server import Application
from simulators.opencast.site import Site
from simulators.serving import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; return the exit code: 0 ended by a signal, 1 port not to be had."""
    # Before the server is up there is nothing to end cleanly: Ctrl-C just kills.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    options = parse_options(arguments)
    return serve(options.port, lambda: Application(Site(options)))


if __name__ == "__main__":
    sys.exit(main())
