"""The document type that all stores accept."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document to store.

    Attributes:
        index: The index name. Daily indices go by the event's UTC day, never the day of writing.
        id: Deterministic, so that a repeat overwrites the document instead of duplicating it.
        body: The fields. For an update, those known this time.
        version: External version, 0 or more. The stored document is only replaced by one with the same or a higher
            version. Without a version it is always replaced, and its version number increases by one.
        update: Merge `body` into the stored document: fields absent from `body` are kept, including those in nested
            objects. Values in `body`, including lists and null, replace stored ones. Excludes `version`.
        origin: What the document was made from. Stores ignore it; the receipt returns it to the caller.
    """

    index: str
    id: str
    body: Mapping[str, Any] = dataclasses.field(repr=False)
    version: int | None = None
    update: bool = False
    origin: Any = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.update and self.version is not None:
            raise ValueError("Elasticsearch takes no external version with an update")


def merged(stored: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return `stored` updated with `known`: objects are merged, all else is replaced, as in Elasticsearch."""
    whole = dict(stored)
    for name, value in known.items():
        before = stored.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            whole[name] = merged(before, value)
        else:
            whole[name] = value
    return whole
