"""The check of the learning record store that `export xapi --to lrs` sends statements to."""

from collections.abc import Iterator

from uaharvest.doctor.findings import Finding, ok
from uaharvest.doctor.site import Site
from uaharvest.exporting.xapi.lrs import Lrs


def statements(site: Site) -> Iterator[Finding]:
    """Send a batch without statements, which changes nothing: whatever the LRS answers, it has not denied us access."""
    yield ok(f"{Lrs(site.settings).probe()} does not deny access")
