"""Loads the templates of `index_templates/`, by which Elasticsearch makes the indices that uaharvest writes."""

import dataclasses
import enum
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch

from uaharvest.documents.indices import FAMILIES
from uaharvest.errors import BlockedError
from uaharvest.sinks.elasticsearch import ask, name_of

FOLDER = Path(__file__).resolve().parent.parent / "index_templates"
SHARED = "shared"  # the component template; the index templates are composed of it


class Outcome(enum.StrEnum):
    """What became of a template."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """One template, as it is in Elasticsearch now."""

    name: str
    version: int
    outcome: Outcome


def load(client: Elasticsearch, folder: Path = FOLDER) -> list[Loaded]:
    """Load all templates; indices that are there already keep their mappings.

    Args:
        client: From `uaharvest.sinks.elasticsearch.connect`.
        folder: Where the templates are.

    Raises:
        BlockedError: One is there in a newer version, and then none is written; or the cluster refuses us.
        RetryableError: The cluster cannot be reached.
    """
    what = name_of(client)
    templates = [_Template(client, what, name, folder) for name in (SHARED, *FAMILIES)]
    outcomes = [template.compare() for template in templates]
    for template, outcome in zip(templates, outcomes, strict=True):
        if outcome is not Outcome.UNCHANGED:
            template.write()
    return [
        Loaded(template.name, template.body["version"], outcome)
        for template, outcome in zip(templates, outcomes, strict=True)
    ]


class _Template:
    """One template: in its file and in the cluster."""

    def __init__(self, client: Elasticsearch, what: str, name: str, folder: Path) -> None:
        self.name = f"uaharvest-{name}"
        self.body: Mapping[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self._what = what
        self._get: Callable[..., Any]
        self._put: Callable[..., Any]
        reading = client.options(ignore_status=HTTPStatus.NOT_FOUND)
        if name == SHARED:
            self._kind = "component_template"
            self._get, self._put = reading.cluster.get_component_template, client.cluster.put_component_template
        else:
            self._kind = "index_template"
            self._get, self._put = reading.indices.get_index_template, client.indices.put_index_template

    def compare(self) -> Outcome:
        """Tell what `write` would do; raise BlockedError if it would overwrite a newer version."""
        answer = ask(self._get, self._what, time.sleep, name=self.name, flat_settings=True)
        if answer.meta.status == HTTPStatus.NOT_FOUND:
            return Outcome.CREATED
        stored = answer[f"{self._kind}s"][0][self._kind]
        version = stored.get("version", 0)
        if version > self.body["version"]:
            raise BlockedError(
                f"{self._what} has the template {self.name} in version {version}, this uaharvest version"
                f" {self.body['version']}: a newer uaharvest loaded it. Nothing was written; use the newer one."
            )
        # A server may add fields of its own (9.2: when it was made).
        mine = _with_flat_settings(self.body)
        return Outcome.UNCHANGED if mine == {name: stored.get(name) for name in mine} else Outcome.UPDATED

    def write(self) -> None:
        """Write it, new or in place of what is there."""
        fields = {"meta" if name == "_meta" else name: value for name, value in self.body.items()}
        ask(self._put, self._what, time.sleep, name=self.name, **fields)


def _with_flat_settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template as Elasticsearch gives it with `flat_settings`."""
    template = dict(body["template"])
    if "settings" in template:
        template["settings"] = dict(_flat(template["settings"]))
    return {**body, "template": template}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in settings.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
