"""Derive a recording from the Parquet files of a folder; print by how many bytes the process grew, and documents."""

import resource
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from uaharvest.privacy.people import NO_ONE
from uaharvest.settings import Settings
from uaharvest.streams.parquet import ParquetUseractions
from uaharvest.streams.viewings import Recordings


class NoEpisodes:
    def get(self, index, id_):
        return None


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


before = peak()
reader = ParquetUseractions(Path(sys.argv[1]), NO_ONE)  # imports DuckDB
made = sum(1 for _ in Recordings([reader], NoEpisodes(), Settings()).documents("lecture", [], Counter()))
print(peak() - before, made)  # noqa: T201 - the test reads it
