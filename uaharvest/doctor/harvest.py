"""The check of the harvest itself: what `status` reports."""

from collections.abc import Iterator

from uaharvest import status
from uaharvest.doctor.findings import Finding, ok, warned
from uaharvest.doctor.site import Site
from uaharvest.errors import Exit


def moves(site: Site) -> Iterator[Finding]:
    """Yield a warning for each trouble of `status`: a stream keeps its failure until the next tick succeeds."""
    troubles = status.status(site.settings, site.workers)["troubles"]
    lines = [
        trouble["line"] for trouble in troubles if trouble["exit_code"] != Exit.DEAD_LETTERS
    ]  # counted elsewhere
    yield from map(warned, lines)
    if not lines:
        yield ok("status reports no trouble")
