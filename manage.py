#!/usr/bin/env python
"""The command line of uaharvest: `python manage.py --help`, or `uaharvest --help` once it is installed."""

import atexit
import gc
import importlib
import sys

# Objects that may be allocated between two searches for garbage.
GARBAGE = 50_000


def main() -> None:
    """Run the command line."""
    # Imported modules are no garbage, but a short command spent half of its time on searching them: while they were
    # imported, and above all at exit.
    gc.set_threshold(GARBAGE)
    atexit.register(gc.freeze)
    # structlog 26.1 imports rich if it is there, to draw tracebacks. Ours are plain (uaharvest/logs.py), and without
    # rich a short command takes a tenth less time. `import rich` fails where sys.modules has None.
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
        importlib.import_module("structlog")
        del sys.modules["rich"]
    from uaharvest import cli  # noqa: PLC0415 - see above

    # The library never imports Celery, so it gets what it needs from Celery here. That is loaded on demand: otherwise
    # an invalid setting would not be reported as such.
    cli.main(lambda: importlib.import_module("tasks.workers"))


if __name__ == "__main__":
    main()
