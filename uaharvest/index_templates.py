"""Loads the templates in `index_templates/`, from which uaharvest's indices are created, and a policy of retention."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import BlockedError, RetryableError
from uaharvest.sinks.cluster.connection import Cluster
from uaharvest.sinks.cluster.products import ELASTICSEARCH
from uaharvest.sinks.cluster.refusals import require_absence

# In a wheel the templates are inside the package (pyproject.toml maps them); in a checkout they are at the top
# level.
_PACKAGED = Path(__file__).resolve().parent / "templates"
FOLDER = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parent.parent / "index_templates"
SHARED = "shared"  # the component template that all index templates use
RETENTION = "retention"  # the one that those of daily indices use: empty until a policy is wanted
POLICY = "uaharvest-retention"


class Outcome(enum.StrEnum):
    """What happened to a template or policy."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A template as the server now has it."""

    name: str
    version: int
    outcome: Outcome


def load(cluster: Cluster, folder: Path = FOLDER) -> list[Loaded]:
    """Load all templates; existing indices keep their mappings.

    Args:
        cluster: From `uaharvest.sinks.cluster.connection.connect`.
        folder: Where the templates are.

    Raises:
        BlockedError: The server has a newer version of one, so none is written; or it refuses us.
        RetryableError: The server cannot be reached.
    """
    templates = _templates(cluster, folder)
    loaded = [template.compared() for template in templates]
    for template, one in zip(templates, loaded, strict=True):
        if one.outcome is not Outcome.UNCHANGED:
            template.write()
    return loaded


def compare(cluster: Cluster, folder: Path = FOLDER) -> list[Loaded]:
    """Return what `load` would do, without doing it; arguments and errors are the same."""
    return [template.compared() for template in _templates(cluster, folder)]


def _templates(cluster: Cluster, folder: Path) -> list["_Template"]:
    return [_Template(cluster, name, folder) for name in (SHARED, RETENTION, *FAMILIES)]


def retain(cluster: Cluster, days: int, folder: Path = FOLDER) -> Outcome:
    """Install the policy that deletes daily indices after `days`, for indices created from now on.

    Call `load` before. The policy is one of Elasticsearch's ILM or of OpenSearch's ISM. An index of Elasticsearch names
    its policy, so the component template `uaharvest-retention` does; a policy of OpenSearch names its indices.

    Raises:
        BlockedError: The server refuses us, or has no policies: OpenSearch without its plugin, for example.
        RetryableError: The server cannot be reached.
    """
    product = cluster.product()
    text = (folder / RETENTION / f"{product.name.lower()}.json").read_text()
    policy = json.loads(text.replace("DAYS", str(days)))
    path = product.policy_path.format(name=POLICY)
    status, stored = cluster.ask("GET", path, accept={HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
    if status == HTTPStatus.BAD_REQUEST:  # it does not know the path
        raise BlockedError(
            f"{cluster.server} keeps no policies at {path}: no retention is installed. Elasticsearch needs ILM,"
            " OpenSearch its plugin index-management. The index templates are loaded."
        )
    require_absence(status, stored, cluster.server)
    found = status != HTTPStatus.NOT_FOUND
    if product is ELASTICSEARCH:
        cluster.ask("PUT", path, policy)
        named = {"lifecycle": {"name": POLICY, "parse_origination_date": "true"}}
        template = _Template(cluster, RETENTION, folder)
        template.body = {**template.body, "template": {"settings": {"index": named}}}
        template.write()
    else:
        # ISM replaces a policy only if told which version is meant.
        seen = {f"if_{name}": stored.get(f"_{name}") for name in ("seq_no", "primary_term")} if found else {}
        if None in seen.values():
            raise RetryableError(f"{cluster.server} gave no whole answer: the policy {POLICY}")
        cluster.ask("PUT", path, policy, **seen)
    return Outcome.UPDATED if found else Outcome.CREATED


class _Template:
    """A template, in its file and in the cluster."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self.name = f"uaharvest-{name}"
        self.body: Mapping[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self._cluster = cluster
        self._kind = "index_template" if name in FAMILIES else "component_template"
        self._path = f"/_{self._kind}/{self.name}"

    def compared(self) -> Loaded:
        """Return the template with what `write` would do; raises as `_compare` does."""
        return Loaded(self.name, self.body["version"], self._compare())

    def _compare(self) -> Outcome:
        """Return what `write` would do; raise BlockedError if it would overwrite a newer version."""
        status, body = self._cluster.ask("GET", self._path, accept={HTTPStatus.NOT_FOUND})
        server = self._cluster.server
        require_absence(status, body, server)
        if status == HTTPStatus.NOT_FOUND:
            return Outcome.CREATED
        try:
            [found] = body[f"{self._kind}s"]
            stored = _with_flat_settings(found[self._kind])
            version = int(stored.get("version", 0))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RetryableError(f"{server} gave no whole answer: the template {self.name}") from None
        if version > self.body["version"]:
            raise BlockedError(
                f"{server} has the template {self.name} in version {version}, this uaharvest version"
                f" {self.body['version']}: a newer uaharvest loaded it. Nothing was written; use the newer one."
            )
        if self.name == POLICY and version == self.body["version"]:
            return Outcome.UNCHANGED  # `retain` may have filled it
        # A server may add its own fields (9.2 adds the time of creation).
        mine = _with_flat_settings(self.body)
        return Outcome.UNCHANGED if mine == {name: stored.get(name) for name in mine} else Outcome.UPDATED

    def write(self) -> None:
        """Create or replace the template in the cluster."""
        self._cluster.ask("PUT", self._path, self.body)


def _with_flat_settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template with its settings as flat names: servers nest them differently."""
    template = dict(body.get("template") or {})
    if "settings" in template:
        template["settings"] = dict(_flat(template["settings"]))
    return {**body, "template": template}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in settings.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
