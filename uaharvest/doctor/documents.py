"""Checks of the document store: Elasticsearch, OpenSearch, or an SQLite file."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uaharvest import assembly
from uaharvest.doctor.findings import Finding, fail, failed, ok, warn
from uaharvest.doctor.site import Site
from uaharvest.errors import BlockedError

if TYPE_CHECKING:
    from uaharvest.doctor.cluster import Node
    from uaharvest.sinks.cluster.connection import Cluster

LOAD = "manage.py setup index-templates"
# Share of a disk from which on somebody should look; at 0.95 a server makes its indices read-only.
_NEARLY_FULL, _FULL = 0.85, 0.95
_SHOWN = 3  # indices to name


def sqlite(site: Site) -> Iterator[Finding]:
    """Open the file, which is created if it does not exist, and look at the room on its disk."""
    path = Path((site.settings.documents_url or "").removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        yield fail(f"DOCUMENTS_URL: there is no folder '{path.parent}'", "Create it, or name another.")
        return
    count = sum(assembly.document_store(site.settings).indices().values())
    yield ok(f"SQLite at {path}, {count:,} documents")
    usage = shutil.disk_usage(path.parent)
    yield judge_disk("its disk", usage.total, usage.free)


def version(site: Site) -> Iterator[Finding]:
    """Connect, log in, and ask for the kind and the version."""
    from uaharvest.doctor import cluster  # noqa: PLC0415 - its client takes time to import

    client = _client(site)
    yield ok(f"{client.product().name} {cluster.version(client)} at {site.settings.es_url}")


def privileges(site: Site) -> Iterator[Finding]:
    """Ask which of the needed privileges the user or API key has."""
    from uaharvest.doctor import cluster  # noqa: PLC0415

    indices = cluster.patterns(site.settings)
    missing = cluster.missing_privileges(_client(site), indices)
    if missing is None:
        yield ok("privileges cannot be looked up: there is no security here, or it is OpenSearch's")
    elif missing:
        yield fail(
            f"the API key or user lacks {', '.join(missing)}",
            f"Grant it on {', '.join(indices)}; manage_index_templates is needed for `{LOAD}` only.",
        )
    else:
        yield ok("all privileges that are needed")


def templates(site: Site) -> Iterator[Finding]:
    """Compare the index templates with those of this version."""
    from uaharvest import index_templates  # noqa: PLC0415

    try:
        compared = index_templates.compare(_client(site))
    except BlockedError as error:  # the cluster has newer ones
        yield failed(error)
        return
    outcome = index_templates.Outcome
    missing = [one.name for one in compared if one.outcome is outcome.CREATED]
    other = [f"{one.name} (here: version {one.version})" for one in compared if one.outcome is outcome.UPDATED]
    if missing:
        yield fail(f"no template {', '.join(missing)}: missing indices cannot be created", LOAD)
    if other:
        yield warn(f"another version of {', '.join(other)}: new indices lack what this one needs", LOAD)
    if not missing + other:
        yield ok(f"all {len(compared)} templates are those of this version")


def indices(site: Site) -> Iterator[Finding]:
    """Look for indices that take no documents."""
    from uaharvest.doctor import cluster  # noqa: PLC0415

    client = _client(site)
    closed = cluster.closed(client)
    blocked = cluster.blocked(client)
    if "" in blocked:
        kinds = ", ".join(f"cluster.blocks.{name}" for name in blocked.pop(""))
        yield fail("the whole cluster is read-only", f"Remove the block: set {kinds} to null in its settings.")
    if closed:
        yield fail(f"closed: {_some(closed)}", f"Open it: POST /{closed[0]}/_open")
    for kind in sorted({name for names in blocked.values() for name in names}):
        names = sorted(index for index, kinds in blocked.items() if kind in kinds)
        why = " The server takes this block away once its disk has room." * (kind == "read_only_allow_delete")
        yield fail(
            f"read-only: {_some(names)} (index.blocks.{kind})",
            f'Remove the block: PUT /{names[0]}/_settings {{"index.blocks.{kind}": null}}.{why}',
        )
    if not closed and not blocked:
        yield ok("all indices take documents")


def disk(site: Site) -> Iterator[Finding]:
    """Look at the room on the disks; a disk that is too full makes indices read-only."""
    from uaharvest.doctor import cluster  # noqa: PLC0415

    client = _client(site)
    yield judge_fullest(cluster.disks(client), cluster.flood_stage(client))


def judge_fullest(nodes: "Sequence[Node]", flood_stage: str) -> Finding:
    """Return the finding for the fullest disk; indices on it become read-only at `flood_stage`."""
    if not nodes:
        return ok("the cluster does not show its disks")
    fullest = max(nodes, key=lambda node: 1 - node.available / max(node.total, 1))
    return judge_disk(
        f"disk of {fullest.name}", fullest.total, fullest.available, at=f", read-only at {flood_stage}"
    )


def judge_disk(what: str, total: int, available: int, *, at: str = "") -> Finding:
    """Return the finding for a disk, with its sizes in bytes."""
    used = 1 - available / max(total, 1)
    found = f"{what} {used:.0%} full ({available / 1e9:,.0f} GB free{at})"
    if used >= _FULL:
        return fail(found, "Make room: delete old indices, or add disk.")
    if used >= _NEARLY_FULL:
        return warn(found, "Make room: delete old indices, or add disk.")
    return ok(found)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _client(site: Site) -> "Cluster":
    from uaharvest.sinks.cluster import connection  # noqa: PLC0415

    return connection.connect(site.settings)
