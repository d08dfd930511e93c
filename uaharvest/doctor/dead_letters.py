"""The check of the dead letters."""

from collections.abc import Iterator

from uaharvest import assembly
from uaharvest.doctor.findings import Finding, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.importing import importer
from uaharvest.indexer import STREAM


def waiting(site: Site) -> Iterator[Finding]:
    """Count the dead letters of each stream."""
    dead_letters = assembly.dead_letters(site.settings)
    counts = {
        name: dead_letters.count(name) for name in (*assembly.streams(site.settings), STREAM, importer.STREAM)
    }
    if not any(counts.values()):
        yield ok("none")
        return
    found = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
    yield warn(found, "Look at them: manage.py dead-letters list. Then replay or drop them.")
