#!/usr/bin/env python
"""The command line of uaharvest: `python manage.py --help`."""

import importlib

from uaharvest.cli import main

if __name__ == "__main__":
    # The library never imports Celery: what the command line needs of it is handed in, when it is needed, so that
    # a setting that cannot be used is told as such.
    main(lambda: importlib.import_module("tasks.workers"))
