"""`python -m simulators.zoom`: start the simulator, print its URL, and serve until a signal arrives."""

import sys

from simulators.serving import serve
from simulators.zoom.options import parse_options
from simulators.zoom.server import Application
from simulators.zoom.site import Site

if __name__ == "__main__":
    options = parse_options(None)
    sys.exit(serve(options.port, lambda: Application(Site(options))))
