"""Roles for Elasticsearch and OpenSearch, made from the rules: who may read which fields."""

from typing import Any

from uaharvest.documents.indices import FAMILIES
from uaharvest.privacy.rules import TABLES, Treatment

INDICES = [f"{family}*" for family in FAMILIES]
# What an analyst without identities does not see. Texts may name the host, and an address is a household.
_HIDDEN = frozenset({Treatment.PERSON, Treatment.ADDRESS, Treatment.TEXT, Treatment.REASON})


def hidden() -> list[str]:
    """Return the fields of documents that an analyst does not see."""
    names = {
        name.replace("proxy<n>", "proxy*")
        for family in FAMILIES
        for rule in TABLES[family]
        if rule.kind in _HIDDEN
        for name in rule.names
    }
    return sorted(names | {"geoip.ip"})


def elasticsearch() -> dict[str, Any]:
    """Return the roles by name, as `PUT /_security/role/NAME` takes them."""

    def role(cluster: list[str], privileges: list[str], **fields: Any) -> dict[str, Any]:
        return {"cluster": cluster, "indices": [{"names": INDICES, "privileges": privileges, **fields}]}

    work = ["read", "write", "maintenance", "view_index_metadata"]
    seen = {"field_security": {"grant": ["*"], "except": hidden()}}
    return {
        "uaharvest_operator": role(["monitor", "manage_index_templates", "manage_ilm"], ["manage", *work]),
        "uaharvest_analyst": role([], ["read", "view_index_metadata"], **seen),
        "uaharvest_officer": role([], work),
    }


def opensearch() -> dict[str, Any]:
    """Return the roles by name, as `PUT /_plugins/_security/api/roles/NAME` takes them."""

    def role(cluster: list[str], actions: list[str], **fields: Any) -> dict[str, Any]:
        permission = {"index_patterns": INDICES, "allowed_actions": actions, **fields}
        return {"cluster_permissions": cluster, "index_permissions": [permission]}

    work = ["read", "write", "delete", "indices:admin/refresh*", "indices:admin/aliases/get"]
    return {
        "uaharvest_operator": role(
            [
                *("cluster_monitor", "cluster_composite_ops", "cluster_manage_index_templates"),
                "cluster:admin/opendistro/ism/policy/*",
            ],
            ["manage", *work],
        ),
        "uaharvest_analyst": role(
            ["cluster_composite_ops_ro"], ["read"], fls=[f"~{name}" for name in hidden()], dls="", masked_fields=[]
        ),
        "uaharvest_officer": role(["cluster:monitor/main", "cluster_composite_ops"], work),
    }
