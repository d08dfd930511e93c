"""Which indices there are, and their creation from the templates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from uaharvest.coerce import members
from uaharvest.errors import BlockedError, RetryableError
from uaharvest.sinks.cluster.connection import Cluster, quoted
from uaharvest.sinks.cluster.refusals import refusal, require_absence

LOAD_TEMPLATES = "manage.py setup index-templates"
_NAMES_LENGTH = 2_000  # characters of names in one path: both products limit the request line to 4,096 bytes


class Indices:
    """The indices of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def matching(self, names: str) -> dict[str, set[str]]:
        """Return the indices that match, open and closed, each with its aliases.

        Args:
            names: Names, which may contain `*`, separated by commas.
        """
        answer = self._cluster.ask(
            "GET",
            f"/{quoted(names)}/_alias",
            accept={HTTPStatus.NOT_FOUND},
            expand_wildcards="open,closed",
            ignore_unavailable=True,
        )
        require_absence(*answer, self._cluster.server)
        if answer.status == HTTPStatus.NOT_FOUND:
            return {}
        try:
            return {index: set((found or {}).get("aliases", ())) for index, found in answer.body.items()}
        except (AttributeError, TypeError):
            raise RetryableError(f"{self._cluster.server} gave no whole answer: names of indices") from None

    def blocked_by_templates(self, names: Iterable[str]) -> dict[str, str]:
        """Create those indices that do not exist; return those for which that fails, with the reasons."""
        found: set[str] = set()
        wanted = sorted(names)
        for path in paths(wanted):
            for index, aliases in self.matching(path).items():
                found |= {index, *aliases}
        blocked = {}
        for index in wanted:
            if index in found:
                continue
            answer = self._cluster.ask("POST", f"/_index_template/_simulate_index/{quoted(index)}")
            template = members(answer.body.get("template"))
            if not template.get("mappings"):
                blocked[index] = f"{self._cluster.server} has no template for the index {index}: {LOAD_TEMPLATES}"
                continue
            try:
                self.create(index, template)
            except BlockedError as error:
                blocked[index] = f"the index {index} cannot be created: {error}"
        return blocked

    def create(self, index: str, template: Mapping[str, Any]) -> None:
        """Create an index from its template as just read, even if the template has changed since."""
        fields = {name: template[name] for name in ("settings", "mappings", "aliases") if template.get(name)}
        status, body = self._cluster.ask("PUT", f"/{quoted(index)}", fields, accept={HTTPStatus.BAD_REQUEST})
        if status == HTTPStatus.BAD_REQUEST:
            match body:
                case {"error": {"type": "resource_already_exists_exception"}}:
                    return  # another process was faster
            raise refusal(status, body, self._cluster.server)


def paths(names: Sequence[str]) -> Iterator[str]:
    """Yield comma-separated names, as many at a time as fit into a path."""
    path = ""
    for name in names:
        if path and len(path) + len(name) > _NAMES_LENGTH:
            yield path
            path = ""
        path = f"{path},{name}" if path else name
    if path:
        yield path
