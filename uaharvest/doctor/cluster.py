"""What the checks ask of Elasticsearch or OpenSearch; the only requests to it that the doctor makes by itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from uaharvest.documents.indices import FAMILIES, Family
from uaharvest.errors import BlockedError, HarvestError
from uaharvest.settings import Settings
from uaharvest.sinks.cluster.connection import Cluster, quoted
from uaharvest.sinks.cluster.products import OPENSEARCH

_NAMES = quoted(",".join(f"{family}*" for family in FAMILIES))
CLUSTER_PRIVILEGES = ("manage_index_templates",)
INDEX_PRIVILEGES = ("read", "create_index", "write", "view_index_metadata")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node's disk, in bytes."""

    name: str
    total: int
    available: int


def version(cluster: Cluster) -> str:
    """Return the version of the nodes; several if they differ, as during an upgrade."""
    nodes = _ask(cluster, "/_nodes", filter_path="nodes.*.version")["nodes"]
    return ", ".join(sorted({str(node["version"]) for node in nodes.values()}))


def patterns(settings: Settings) -> list[str]:
    """Return patterns of the indices that a site writes."""
    unused: set[Family] = set()
    if not settings.viewings:
        unused |= {"viewings", "recordings"}
    if not settings.attendance:
        unused.add("attendance")
    return [f"{family}*" for family in FAMILIES if family not in unused]


def missing_privileges(cluster: Cluster, indices: Sequence[str]) -> list[str] | None:
    """Return the privileges on `indices` (patterns) and the cluster that our user lacks.

    None if that cannot be queried: security is off, or it is OpenSearch.
    """
    if cluster.product() is OPENSEARCH:
        return None
    index = {"names": list(indices), "privileges": list(INDEX_PRIVILEGES)}
    wanted = {"cluster": list(CLUSTER_PRIVILEGES), "index": [index]}
    try:
        answer = cluster.ask("POST", "/_security/user/_has_privileges", wanted).body
    except BlockedError as error:
        if _is_refused_login(error):
            raise
        return None
    of_cluster = [name for name, granted in answer["cluster"].items() if not granted]
    of_indices = {name for index in answer["index"].values() for name, granted in index.items() if not granted}
    return [*of_cluster, *sorted(of_indices)]


def closed(cluster: Cluster) -> list[str]:
    """Return the closed indices that uaharvest writes."""
    found = _ask(cluster, f"/_resolve/index/{_NAMES}", expand_wildcards="all")["indices"]
    return sorted(index["name"] for index in found if "closed" in index.get("attributes", ()))


def blocked(cluster: Cluster) -> dict[str, list[str]]:
    """Return the write blocks of each index that uaharvest writes, and of the cluster ("")."""
    blocks: dict[str, list[str]] = {}
    answer = _ask(
        cluster,
        f"/{_NAMES}/_settings/index.blocks.*",
        flat_settings=True,
        expand_wildcards="open",
        ignore_unavailable=True,
    )
    for index, body in answer.items():
        if on := _switched_on(body.get("settings", {}), "index.blocks."):
            blocks[index] = on
    whole = _ask(cluster, "/_cluster/settings", flat_settings=True)
    for kind in ("persistent", "transient"):
        if on := _switched_on(whole.get(kind, {}), "cluster.blocks."):
            blocks[""] = on
    return blocks


def disks(cluster: Cluster) -> Sequence[Node]:
    """Return the disks of the nodes that hold data."""
    nodes = _ask(cluster, "/_nodes/stats/fs", filter_path="nodes.*.name,nodes.*.fs.total")["nodes"]
    return [
        Node(str(node["name"]), int(total["total_in_bytes"]), int(total["available_in_bytes"]))
        for node in nodes.values()
        if (total := node.get("fs", {}).get("total"))
    ]


def flood_stage(cluster: Cluster) -> str:
    """Return the disk usage from which indices become read-only, as the cluster writes it: 95%, or 100gb left."""
    name = "cluster.routing.allocation.disk.watermark.flood_stage"
    answer = _ask(cluster, "/_cluster/settings", flat_settings=True, include_defaults=True)
    for kind in ("transient", "persistent", "defaults"):
        if value := answer.get(kind, {}).get(name):
            return str(value)
    return "95%"


def _switched_on(settings: Mapping[str, Any], prefix: str) -> list[str]:
    writes = ("read_only", "read_only_allow_delete", "write")
    return [name for name in writes if str(settings.get(f"{prefix}{name}")) == "true"]


def _is_refused_login(error: HarvestError) -> bool:
    return f"({HTTPStatus.UNAUTHORIZED.value})" in str(error)


def _ask(cluster: Cluster, path: str, **parameters: Any) -> Any:
    return cluster.ask("GET", path, **parameters).body
